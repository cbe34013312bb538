//! Sets of ids as a few half-open spans. A set may always hold more ids than were put in, never
//! fewer: a span too many costs a look, a span too few would lose a message. So when there is
//! no room, neighbours are joined, and what does not fit is not taken out.
//!
//! Spans are ascending and do not touch. All-zero bytes are the empty `SpanSet`, and the
//! `OpenSpans` that holds every id. Nothing here allocates or panics.

/// The ids from `lo` up to but not with `hi`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub lo: i64,
    pub hi: i64,
}

impl Span {
    pub const fn new(lo: i64, hi: i64) -> Self {
        Self { lo, hi }
    }

    pub const fn one(id: i64) -> Self {
        Self::new(id, id.saturating_add(1))
    }

    pub const fn is_empty(self) -> bool {
        self.lo >= self.hi
    }

    pub const fn holds(self, id: i64) -> bool {
        self.lo <= id && id < self.hi
    }

    #[must_use]
    pub fn clip(self, to: Span) -> Span {
        Span::new(self.lo.max(to.lo), self.hi.min(to.hi))
    }

    /// Takes in what begins within this one or right behind it; false where it does not.
    #[inline]
    pub fn goes_on(&mut self, next: Span) -> bool {
        let goes_on = !self.is_empty() && self.lo <= next.lo && next.lo <= self.hi;
        if goes_on {
            self.hi = self.hi.max(next.hi);
        }
        goes_on
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn hull(self, other: Span) -> Span {
        if self.is_empty() {
            other
        } else if other.is_empty() {
            self
        } else {
            Span::new(self.lo.min(other.lo), self.hi.max(other.hi))
        }
    }
}

/// What to join when there is no room: two neighbours, or the new span into one that is there.
#[derive(Clone, Copy)]
enum Join {
    Pair(usize),
    Into(usize),
}

/// At most `K` spans. Two that lie no more than `NEAR` ids apart are joined when one is added:
/// looking at a few ids for nothing is cheaper than keeping count of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanSet<const K: usize, const NEAR: i64> {
    len: usize,
    spans: [Span; K],
}

impl<const K: usize, const NEAR: i64> Default for SpanSet<K, NEAR> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const K: usize, const NEAR: i64> SpanSet<K, NEAR> {
    pub const fn new() -> Self {
        const { assert!(K > 1 && NEAR >= 0) };
        Self {
            len: 0,
            spans: [Span::new(0, 0); K],
        }
    }

    pub fn spans(&self) -> &[Span] {
        self.spans.get(..self.len).unwrap_or(&self.spans)
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn holds(&self, id: i64) -> bool {
        self.spans().iter().any(|s| s.holds(id))
    }

    fn is_full(&self) -> bool {
        self.len >= K
    }

    fn last(&self) -> Option<Span> {
        self.spans().last().copied()
    }

    #[inline]
    pub fn add(&mut self, span: Span) {
        // Ids most often come one after the other.
        let last = self.spans.get_mut(self.len.wrapping_sub(1));
        if !last.is_some_and(|last| last.goes_on(span)) {
            self.add_anywhere(span);
        }
    }

    fn add_anywhere(&mut self, span: Span) {
        if !self.absorb(span)
            && let Some((_, join)) = self.cheapest_join(span)
        {
            self.join(join, span);
        }
    }

    /// Adds the span if that takes no more room than there is.
    fn absorb(&mut self, mut span: Span) -> bool {
        if span.is_empty() {
            return true;
        }
        let from = self.position(span.lo);
        let mut to = from;
        while let Some(next) = self.spans().get(to) {
            if next.lo > span.hi.saturating_add(NEAR) {
                break;
            }
            span = span.hull(*next);
            to = to.saturating_add(1);
        }
        if to == from {
            return self.insert(from, span);
        }
        if let Some(first) = self.spans.get_mut(from) {
            *first = span;
        }
        self.remove(from.saturating_add(1), to);
        true
    }

    /// Where a span that begins at `lo` belongs: behind all that end well before it.
    fn position(&self, lo: i64) -> usize {
        self.spans()
            .iter()
            .position(|s| s.hi.saturating_add(NEAR) >= lo)
            .unwrap_or(self.len)
    }

    fn insert(&mut self, at: usize, span: Span) -> bool {
        if self.is_full() {
            return false;
        }
        self.len = self.len.saturating_add(1);
        let mut carried = span;
        for place in self.spans.iter_mut().take(self.len).skip(at) {
            std::mem::swap(place, &mut carried);
        }
        true
    }

    /// Closes up over the places from `from` up to but not with `to`.
    fn remove(&mut self, from: usize, to: usize) {
        let gone = to.saturating_sub(from);
        if gone == 0 {
            return;
        }
        for at in from..self.len {
            let moved = self.spans().get(at.saturating_add(gone)).copied();
            if let Some(place) = self.spans.get_mut(at) {
                *place = moved.unwrap_or_default();
            }
        }
        self.len = self.len.saturating_sub(gone);
    }

    /// For a span that finds no room: which two to join so that the fewest ids are looked at
    /// for nothing, and how many those are.
    fn cheapest_join(&self, span: Span) -> Option<(i64, Join)> {
        let spans = self.spans();
        let at = self.position(span.lo);
        let before = at.checked_sub(1);
        let with_before = before.and_then(|b| {
            let gap = span.lo.saturating_sub(spans.get(b)?.hi);
            Some((gap, Join::Into(b)))
        });
        let with_next = spans
            .get(at)
            .map(|next| (next.lo.saturating_sub(span.hi), Join::Into(at)));
        let others = spans.iter().zip(spans.iter().skip(1)).enumerate();
        let others = others.map(|(i, (one, next))| (next.lo.saturating_sub(one.hi), Join::Pair(i)));
        with_before
            .into_iter()
            .chain(with_next)
            .chain(others)
            .min_by_key(|(gap, _)| *gap)
    }

    fn join(&mut self, join: Join, span: Span) {
        match join {
            Join::Into(at) => {
                if let Some(place) = self.spans.get_mut(at) {
                    *place = place.hull(span);
                }
            }
            Join::Pair(at) => {
                let next = at.saturating_add(1);
                let other = self.spans().get(next).copied().unwrap_or_default();
                if let Some(place) = self.spans.get_mut(at) {
                    *place = place.hull(other);
                }
                self.remove(next, next.saturating_add(1));
                self.absorb(span);
            }
        }
    }

    /// Takes the span out, except where that would need one place more than there is.
    pub fn subtract(&mut self, gone: Span) {
        if gone.is_empty() {
            return;
        }
        let split = self
            .spans()
            .iter()
            .position(|s| s.lo < gone.lo && gone.hi < s.hi);
        if let Some(at) = split {
            let behind = self.spans().get(at).map(|s| Span::new(gone.hi, s.hi));
            if let Some(behind) = behind
                && self.insert(at.saturating_add(1), behind)
                && let Some(before) = self.spans.get_mut(at)
            {
                before.hi = gone.lo;
            }
            return;
        }
        let mut kept = 0;
        for at in 0..self.len {
            let Some(mut span) = self.spans.get(at).copied() else {
                break;
            };
            if span.lo < gone.hi && gone.lo < span.hi {
                if span.lo < gone.lo {
                    span.hi = gone.lo;
                } else {
                    span.lo = gone.hi;
                }
            }
            if !span.is_empty()
                && let Some(place) = self.spans.get_mut(kept)
            {
                *place = span;
                kept = kept.saturating_add(1);
            }
        }
        for place in self.spans.iter_mut().take(self.len).skip(kept) {
            *place = Span::default();
        }
        self.len = kept;
    }
}

/// At most `K` spans and everything from the frontier on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpenSpans<const K: usize, const NEAR: i64> {
    frontier: i64,
    below: SpanSet<K, NEAR>,
}

impl<const K: usize, const NEAR: i64> OpenSpans<K, NEAR> {
    pub const fn new() -> Self {
        Self {
            frontier: 0,
            below: SpanSet::new(),
        }
    }

    pub fn frontier(&self) -> i64 {
        self.frontier
    }

    pub fn below(&self) -> &[Span] {
        self.below.spans()
    }

    pub fn holds(&self, id: i64) -> bool {
        id >= self.frontier || self.below.holds(id)
    }

    pub fn add(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        if span.hi.saturating_add(NEAR) >= self.frontier {
            self.lower(span.lo);
        } else if !self.below.absorb(span) {
            let last = self.below.last().unwrap_or(span);
            let to_frontier = self.frontier.saturating_sub(last.hi.max(span.hi));
            match self.below.cheapest_join(span) {
                Some((gap, join)) if gap <= to_frontier => self.below.join(join, span),
                _ => {
                    self.lower(last.lo.max(span.lo));
                    // There is room now; or the span lies above the frontier.
                    self.add(span);
                }
            }
        }
    }

    fn lower(&mut self, to: i64) {
        self.frontier = self.frontier.min(to);
        while let Some(last) = self.below.last() {
            if last.hi.saturating_add(NEAR) < self.frontier {
                break;
            }
            self.frontier = self.frontier.min(last.lo);
            let at = self.below.len.saturating_sub(1);
            self.below.remove(at, at.saturating_add(1));
        }
    }

    pub fn subtract(&mut self, gone: Span) {
        if gone.is_empty() {
            return;
        }
        self.below.subtract(gone);
        if gone.hi <= self.frontier {
            return;
        }
        if gone.lo <= self.frontier {
            self.frontier = gone.hi;
        } else {
            let before = Span::new(self.frontier, gone.lo);
            if self.below.insert(self.below.len, before) {
                self.frontier = gone.hi;
            }
        }
    }
}
