//! Where a reader has to look: the state of one lane, that is one priority of one queue, as it
//! lies in shared memory. The truth is the rows; this is a hint about where ready ones may be.
//!
//! The invariant: every committed row that is not being changed is
//! - in the spans to look at, or
//! - in a bucket of due times, no later than it is due, or
//! - in the hands of somebody who is bound to report or enter it: a transaction between its
//!   commit or abort and its callback.
//!
//! What keeps it:
//! - A transaction that inserted, changed or only locked rows says so after its end, when
//!   others can see the rows: `report` for rows that may be ready and, after an abort, for all
//!   that it touched (a reader may have passed them as locked); `enter` for rows that are to be
//!   ready later. Never before its end: an entry used up before the commit would be lost.
//! - A reader takes its ticket, *then* its snapshot, walks, and at last publishes how far it
//!   got, and enters the rows that it passed because they are not due, under one lock. What was
//!   reported since the ticket is not taken out: the snapshot may be older than the report.
//! - A bucket that falls due is reported like anything else, because a reader that is under
//!   way may have passed its rows before they were due.
//!
//! - A due time is set for a row once only (they are moments in microseconds): settling a lease
//!   takes out what was entered for this row and moment, and no later wait may look the same.
//!
//! `tests/frontier` checks this over every interleaving of small casts.
//!
//! Ids are at least 1, times are microseconds. All-zero bytes are the fresh lane, which has to
//! be looked at from the beginning. Nothing here allocates or panics; the caller holds the
//! lane's lock for each call (or, for publishing, around the calls that belong together).

mod dues;
mod position;
mod reports;
mod spans;
mod touched;

pub use dues::{Batch, Dues};
pub use position::{OwnTicket, Position};
pub use reports::Reports;
pub use spans::{OpenSpans, Span, SpanSet};
pub use touched::{Dated, Effect, Touched};

/// The lane as the extension uses it: 16 spans, three rings of reports (which reach back 64,
/// 4,000 and 250,000 of them), four levels of 16 buckets, the finest 250 ms wide. About 7 KB.
pub type Lane = LaneOf<16, 64, 64, 3, 4, 16, 250_000>;
pub type Ticket = TicketOf<16, 64>;

/// `K` spans, joined when no more than `NEAR` ids apart; `D` rings of `R` reports; `L` levels of
/// `S` buckets, the finest of width `W`.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LaneOf<
    const K: usize,
    const NEAR: i64,
    const R: usize,
    const D: usize,
    const L: usize,
    const S: usize,
    const W: i64,
> {
    spans: OpenSpans<K, NEAR>,
    reports: Reports<R, D>,
    dues: Dues<L, S, W>,
}

/// What a reader was told to look at, and when in the order of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TicketOf<const K: usize, const NEAR: i64> {
    pub seq: u64,
    spans: OpenSpans<K, NEAR>,
}

impl<const K: usize, const NEAR: i64> TicketOf<K, NEAR> {
    /// The spans to look at, ascending; the last one has no end (`hi` is the largest id).
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        let rest = Span::new(self.spans.frontier(), i64::MAX);
        self.spans.below().iter().copied().chain([rest])
    }

    /// The first place at or after `id` to look at.
    pub fn seek(&self, id: i64) -> i64 {
        let next = self.spans().find(|s| id < s.hi);
        next.map_or(id, |s| s.lo.max(id))
    }
}

impl<
    const K: usize,
    const NEAR: i64,
    const R: usize,
    const D: usize,
    const L: usize,
    const S: usize,
    const W: i64,
> LaneOf<K, NEAR, R, D, L, S, W>
{
    pub const fn fresh() -> Self {
        Self {
            spans: OpenSpans::new(),
            reports: Reports::new(),
            dues: Dues::new(),
        }
    }

    /// Forgets everything, also for readers under way: what an unknown change, or another
    /// queue in this place, needs. (All-zero bytes would do for nobody's lane only, because
    /// a ticket of the old one would fit the new.)
    pub fn reset(&mut self) {
        self.dues = Dues::new();
        self.report(0, i64::MAX);
    }

    /// A reader begins. Only after this may it take its snapshot.
    pub fn begin(&mut self, now: i64) -> TicketOf<K, NEAR> {
        while let Some(due) = self.dues.take_due(now) {
            self.report(due.lo, due.hi);
        }
        TicketOf {
            seq: self.reports.made(),
            spans: self.spans,
        }
    }

    /// The reader has looked at all that its ticket names in `[from, to)`, and no row there is
    /// ready without somebody bound to report it (itself counts: it holds its own claims). Rows
    /// that it passed because they are due later, it enters before it lets the lock go.
    pub fn publish(&mut self, ticket: &TicketOf<K, NEAR>, from: i64, to: i64) {
        let seen = Span::new(from, to);
        let mut reported = SpanSet::<K, NEAR>::new();
        if !self.reports.since(ticket.seq, seen, &mut reported) {
            return;
        }
        let mut at = from;
        for kept in reported.spans() {
            self.spans.subtract(Span::new(at, kept.lo));
            at = kept.hi;
        }
        self.spans.subtract(Span::new(at, to));
    }

    /// Rows in `[lo, hi)` may be ready now.
    pub fn report(&mut self, lo: i64, hi: i64) {
        let span = Span::new(lo, hi);
        if !span.is_empty() {
            self.spans.add(span);
            self.reports.record(span);
        }
    }

    pub fn enter_due(&mut self, now: i64, id: i64, due: i64) {
        self.enter(now, &Batch::one(id, due));
    }

    /// Rows among `[lo, hi)` are not ready, the earliest until `earliest`.
    pub fn enter_due_range(&mut self, now: i64, lo: i64, hi: i64, earliest: i64) {
        self.enter(now, &Batch::vague(Span::new(lo, hi), earliest));
    }

    pub fn enter(&mut self, now: i64, batch: &Batch) {
        if batch.ids.is_empty() {
            return;
        }
        let look = if batch.due <= now {
            Some(batch.ids)
        } else {
            self.dues.enter(now, batch)
        };
        if let Some(ids) = look {
            self.report(ids.lo, ids.hi);
        }
    }

    /// A row that was entered with this due time is settled, or has another one now.
    pub fn leave_due(&mut self, id: i64, due: i64) {
        self.leave(&Batch::one(id, due));
    }

    pub fn leave(&mut self, batch: &Batch) {
        self.dues.leave(batch);
    }

    /// What a transaction that has ended asks for.
    pub fn apply(&mut self, now: i64, effect: Effect) {
        match effect {
            Effect::Report(span) => self.report(span.lo, span.hi),
            Effect::Enter(batch) => self.enter(now, &batch),
            Effect::Leave(batch) => self.leave(&batch),
        }
    }

    /// When the next reader has something to look at for the clock's sake.
    pub fn next_due(&self) -> Option<i64> {
        self.dues.next()
    }

    /// Nothing at or above this has been looked at since it was last reported.
    pub fn frontier(&self) -> i64 {
        self.spans.frontier()
    }

    /// What lies below the frontier and has to be looked at all the same.
    pub fn below(&self) -> &[Span] {
        self.spans.below()
    }

    /// Collects what was reported after the first `before` reports; false if that is no longer
    /// known.
    pub fn reported_since(&self, before: u64, found: &mut SpanSet<K, NEAR>) -> bool {
        self.reports.since(before, Span::new(0, i64::MAX), found)
    }

    /// How many reports there have been; a waiter that saw the same number missed nothing.
    pub fn seq(&self) -> u64 {
        self.reports.made()
    }

    /// Whether the row will be looked at by the time that it is due.
    pub fn covers(&self, id: i64, due: i64) -> bool {
        self.spans.holds(id) || self.dues.hold(id, due)
    }
}
