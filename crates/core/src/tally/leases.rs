//! How many messages are leased, for who must not let them be more than so many: at least as many as
//! are, and where that may be too many, where to look.

use super::{Kind, LEVELS, Open, Tally};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// That have not ended.
    pub sure: i64,
    /// Of which some may have ended, one a level.
    pub open: [Option<Open>; LEVELS],
    /// None of those that are sure ends before that, if there are any.
    pub next: Option<i64>,
}

impl Leases {
    /// Those of which some may have ended.
    pub fn doubtful(&self) -> i64 {
        let open = self.open.iter().flatten();
        open.fold(0, |n: i64, o| n.saturating_add(o.n))
    }

    fn ends(&mut self, at: i64) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

impl Tally {
    /// None when that cannot be told any more.
    pub fn leases(&self, now: i64) -> Option<Leases> {
        let mut leases = Leases::default();
        let [waits, _] = &self.waits;
        if waits.far.earliest != 0 && waits.far.earliest <= now {
            return None;
        }
        let own = self.parts().filter_map(|part| Some((part.cell?, part)));
        for (cell, part) in own.filter(|(cell, part)| cell.kind == Kind::Leased && part.n != 0) {
            if cell.is_over(now) {
                continue;
            }
            if cell.is_open(now) {
                let place = leases.open.get_mut(usize::from(cell.level));
                if let Some(place) = place {
                    *place = Some(Open {
                        cell,
                        n: part.n,
                        last: part.last,
                        ids: part.ids,
                    });
                }
            } else {
                leases.sure = leases.sure.saturating_add(part.n);
                leases.ends(cell.begins().unwrap_or(waits.far.earliest));
            }
        }
        Some(leases)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Cell, Ids, Part, Wait};
    use super::*;

    const SECOND: i64 = 1 << 20;

    fn leased(tally: &mut Tally, id: i64, since: i64, due: i64) {
        let wait = Wait {
            kind: Kind::Leased,
            due,
            since,
        };
        let part = Part {
            cell: Cell::of(&wait),
            n: 1,
            last: 0,
            ids: Ids::one(id),
            earliest: due,
        };
        tally.add(&part, since).unwrap();
    }

    #[test]
    fn what_may_have_ended_is_told_apart() {
        let start = 1_000 * SECOND;
        let mut tally = Tally::default();
        leased(&mut tally, 7, start, start + 3 * SECOND / 2);
        leased(&mut tally, 8, start, start + 5 * SECOND);
        leased(&mut tally, 9, start, start + 500 * SECOND);
        let leases = tally.leases(start).unwrap();
        assert_eq!((leases.sure, leases.doubtful()), (3, 0));
        assert_eq!(leases.next, Some(start + SECOND));
        let leases = tally.leases(start + SECOND).unwrap();
        assert_eq!((leases.sure, leases.doubtful()), (2, 1));
        assert!(leases.open[0].unwrap().ids.spans().any(|s| s.holds(7)));
        let leases = tally.leases(start + 10 * SECOND).unwrap();
        assert_eq!((leases.sure, leases.doubtful()), (1, 0));
        assert_eq!(tally.leases(start + 10_000 * SECOND).unwrap().sure, 0);
    }

    #[test]
    fn far_away_is_sure() {
        let start = 1_000 * SECOND;
        let mut tally = Tally::default();
        let due = start + (SECOND << 30);
        leased(&mut tally, 7, start, due);
        assert_eq!(tally.leases(start).unwrap().sure, 1);
        assert_eq!(tally.leases(start).unwrap().next, Some(due));
        assert_eq!(tally.leases(due), None);
    }
}
