//! Where rows are, as two spans of ids: those that wait are often old ones, that failed or are
//! leased, and the newest, that were sent to wait; everything between is of no interest.

use crate::frontier::Span;

const NONE: Span = Span::new(0, 0);

/// At most two spans, in order, the widest gap between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    first: Span,
    second: Span,
}

impl Ids {
    pub const NONE: Ids = Ids {
        first: NONE,
        second: NONE,
    };

    pub const fn one(id: i64) -> Self {
        Ids {
            first: Span::one(id),
            second: NONE,
        }
    }

    pub fn spans(&self) -> impl Iterator<Item = Span> + use<> {
        [self.first, self.second]
            .into_iter()
            .filter(|s| !s.is_empty())
    }

    #[inline]
    pub fn take_in(&mut self, other: &Ids) {
        other.spans().for_each(|span| self.add(span));
    }

    #[inline]
    fn add(&mut self, new: Span) {
        // Ids most often come one after the other.
        let last = match self.second.is_empty() {
            true => &mut self.first,
            false => &mut self.second,
        };
        if !last.goes_on(new) {
            self.add_anywhere(new);
        }
    }

    fn add_anywhere(&mut self, new: Span) {
        if self.first.is_empty() {
            self.first = new;
            return;
        }
        if self.second.is_empty() {
            self.second = new;
            self.put_in_order();
            return;
        }
        // Of three, the two that are nearest to each other become one.
        let [a, b, c] = sorted([self.first, self.second, new]);
        let (left, right) = (
            b.lo.saturating_sub(a.hi),
            c.lo.saturating_sub(a.hi.max(b.hi)),
        );
        (self.first, self.second) = match left <= right {
            true => (a.hull(b), c),
            false => (a, b.hull(c)),
        };
        self.put_in_order();
    }

    fn put_in_order(&mut self) {
        if self.second.lo < self.first.lo {
            std::mem::swap(&mut self.first, &mut self.second);
        }
        if self.second.lo <= self.first.hi {
            self.first = self.first.hull(self.second);
            self.second = NONE;
        }
    }
}

fn sorted(mut spans: [Span; 3]) -> [Span; 3] {
    spans.sort_unstable_by_key(|s| s.lo);
    spans
}

/// The same, small: from `lo` on so many, and from `second` to `end` after it. Spans that lie too
/// far apart are one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed {
    lo: i64,
    many: u32,
    second: u32,
    end: u32,
}

/// Means: everything from there on.
const ALL: u32 = u32::MAX;

impl Packed {
    pub fn of(ids: &Ids) -> Self {
        let lo = ids.first.lo;
        let after = |id: i64| id.checked_sub(lo).and_then(|n| u32::try_from(n).ok());
        let far = Packed {
            lo,
            many: ALL,
            second: ALL,
            end: ALL,
        };
        let end = ids.first.hi.max(ids.second.hi);
        let second = match ids.second.is_empty() {
            true => end,
            false => ids.second.lo,
        };
        let (Some(many), Some(second), Some(end)) =
            (after(ids.first.hi), after(second), after(end))
        else {
            return far;
        };
        Packed {
            lo,
            many,
            second,
            end,
        }
    }

    pub fn ids(self) -> Ids {
        let after = |n: u32| match n {
            ALL => i64::MAX,
            n => self.lo.saturating_add(i64::from(n)),
        };
        let second = Span::new(after(self.second), after(self.end));
        Ids {
            first: Span::new(self.lo, after(self.many)),
            second: if second.is_empty() { NONE } else { second },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(spans: &[(i64, i64)]) -> Ids {
        let mut ids = Ids::NONE;
        spans
            .iter()
            .for_each(|&(lo, hi)| ids.add(Span::new(lo, hi)));
        ids
    }

    fn shown(ids: Ids) -> Vec<(i64, i64)> {
        ids.spans().map(|s| (s.lo, s.hi)).collect()
    }

    #[test]
    fn the_widest_gap_stays() {
        assert_eq!(shown(ids(&[(5, 6), (100, 101)])), [(5, 6), (100, 101)]);
        assert_eq!(
            shown(ids(&[(100, 101), (5, 6), (90, 91)])),
            [(5, 6), (90, 101)]
        );
        assert_eq!(
            shown(ids(&[(100, 101), (5, 6), (20, 21)])),
            [(5, 21), (100, 101)]
        );
        assert_eq!(shown(ids(&[(1, 9), (20, 30), (4, 25)])), [(1, 30)]);
        assert_eq!(
            shown(ids(&[(1, 30), (50, 60), (4, 5)])),
            [(1, 30), (50, 60)]
        );
        assert_eq!(shown(ids(&[(1, 2), (2, 3)])), [(1, 3)]);
        assert_eq!(shown(Ids::NONE), []);
    }

    #[test]
    fn packed_is_the_same_or_more() {
        for spans in [
            &[(7, 8)][..],
            &[(7, 8), (9, 12)],
            &[(7, 800), (4_000_000_000, 4_000_000_001)],
        ] {
            assert_eq!(Packed::of(&ids(spans)).ids(), ids(spans));
        }
        let far = ids(&[(7, 8), (1 << 40, (1 << 40) + 1)]);
        assert_eq!(shown(Packed::of(&far).ids()), [(7, i64::MAX)]);
    }
}
