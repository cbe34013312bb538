//! Looking at a queue as a whole.

use crate::catalog::{self, Outline, Queue};
use crate::error::Result;
use crate::pg::time::{self, Micros};
use crate::storage::count::{self, Counts, EXACT};
use crate::storage::tally;
use crate::wake::counts;
use crate::wake::fair;
use crate::wake::frontier::{self, Looks};

/// How many messages there are in which state.
pub fn count(q: &Queue, now: Micros) -> Counts {
    // Before what is known is asked for: prepared transactions that have ended are noticed here.
    let mut looks = Looks::begin(q, now);
    let mut spans: Vec<(i16, i64, i64)> = std::iter::from_fn(|| looks.next()).collect();
    if looks.any_tenant == Some(true) {
        spans = with_places(q, spans);
    }
    let looks = spans.into_iter();
    if let Some(reading) = counts::read(q, now) {
        return tally::settle(q, now, reading, looks);
    }
    let counts = count::count(q, now, looks);
    if !counts.estimated {
        recount(q, |n| n <= EXACT);
    }
    counts
}

/// Where readers would look, of each rank in one: some of it is what was passed to tenants.
fn with_places(q: &Queue, mut spans: Vec<(i16, i64, i64)>) -> Vec<(i16, i64, i64)> {
    let places = fair::places(q);
    spans.extend(places.iter().map(|p| (p.rank as i16, p.ids.lo, p.ids.hi)));
    spans.sort_unstable();
    spans.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            kept.2 = kept.2.max(next.2);
        }
        is_same
    });
    spans
}

/// The same, as far as shared memory knows it.
pub fn estimate(q: &Outline, now: Micros) -> Option<Counts> {
    counts::read_outline(q, now).map(|reading| tally::estimate(now, reading))
}

/// How many queues of this database have no place in shared memory, because it is full.
pub fn without_place() -> Result<usize> {
    Ok(frontier::without_place(&catalog::outlines(None)?))
}

/// How many sessions wait for a message, where anybody could tell.
pub fn waiters(q: &Outline) -> Option<i64> {
    counts::waiters(q)
}

/// Counts anew, as long as `go_on` says of how many there were; false when that led to nothing.
pub fn recount(q: &Queue, go_on: impl Fn(i64) -> bool) -> bool {
    // Gives the queue its place, and learns which prepared transactions have ended.
    drop(Looks::begin(q, time::now()));
    let Some((count, pinned)) = counts::begin(q) else {
        return false;
    };
    let counted = tally::all(q, go_on);
    drop(pinned);
    count.finish(counted.as_ref())
}
