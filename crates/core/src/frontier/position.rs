//! What a reader who wants only some of the messages has still to look at. What he has passed
//! because he does not want it stays where other readers look, in the lane; he keeps a lane of his
//! own beside it, in which it is seen, and into which goes what is reported in the other.
//!
//! The invariant: every row that is in the spans of the lane is
//! - in the spans of the own lane, or
//! - in a bucket of the own lane, no later than it is due, or
//! - not wanted as it is, and reported in the lane when it becomes another, or
//! - reported in the lane after `seq`.
//!
//! All-zero bytes are the fresh position, of a reader who has seen nothing.

use super::{Batch, Lane, LaneOf, Span, SpanSet, Ticket, TicketOf};

/// Nobody else uses it: what is reported while its reader is under way is little.
type Own = LaneOf<16, 64, 4, 1, 4, 16, 250_000>;
pub type OwnTicket = TicketOf<16, 64>;

#[derive(Clone, Debug, Default)]
pub struct Position {
    /// Which lane it is about.
    lane: u32,
    /// So many of that lane's reports are in the own one.
    seq: u64,
    own: Own,
}

impl Position {
    /// The reader begins with a ticket of the lane of this number, which may be another than the
    /// last time. Only after this may it take its snapshot.
    pub fn begin(&mut self, number: u32, lane: &Lane, ticket: &Ticket, now: i64) -> OwnTicket {
        let mut reported = SpanSet::new();
        if self.lane == number && lane.reported_since(self.seq, &mut reported) {
            for span in reported.spans() {
                self.own.report(span.lo, span.hi);
            }
        } else {
            self.own.reset();
        }
        (self.lane, self.seq) = (number, ticket.seq);
        // Where nobody has to look there is nothing for this reader.
        let own = self.own.begin(now);
        let mut at = 0;
        for span in ticket.spans() {
            self.own.publish(&own, at, span.lo);
            at = span.hi;
        }
        self.own.begin(now)
    }

    /// The reader has looked at all in `[from, to)`, and what it left there it does not want.
    pub fn publish(&mut self, ticket: &OwnTicket, from: i64, to: i64) {
        self.own.publish(ticket, from, to);
    }

    /// Rows that it has passed because they are due later, and that were not entered in the lane.
    pub fn enter(&mut self, now: i64, batch: &Batch) {
        self.own.enter(now, batch);
    }
}

impl OwnTicket {
    /// Both what this and what another ticket say is to be looked at, ascending.
    pub fn both<'a>(&'a self, other: &'a Ticket) -> impl Iterator<Item = Span> + 'a {
        let clipped = |one: Span| self.spans().map(move |own| own.clip(one));
        let spans = other.spans().flat_map(clipped);
        spans.filter(|span| !span.is_empty())
    }
}
