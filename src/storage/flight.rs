//! Which of the leases that may have ended have: for who has to know how many messages are leased.

use super::count::EXACT;
use super::row::DEFAULT_RANK;
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use pg_broker_core::tally::{Cell, Kind, Open};

/// So long it is left at that when there are too many to look at all of them.
const LATER: Micros = 1_000_000;

/// How many leases of each of these buckets have ended, at least; and when the next of them will. In a
/// snapshot of its own.
pub fn ended(q: &Queue, open: &[Open], now: Micros) -> (Vec<(Cell, i64)>, Option<Micros>) {
    let mut left: Vec<(Open, i64)> = open.iter().map(|o| (*o, 0)).collect();
    let mut next: Option<Micros> = None;
    let mut looks = EXACT;
    let _pinned = Pinned::now();
    let mut space = Space::to_read(q);
    for ids in super::tally::spans(open) {
        space.seek(DEFAULT_RANK, ids.lo, ids.hi);
        while left.iter().any(|(o, _)| o.n > 0)
            && let Some(facts) = space.next()
        {
            looks -= 1;
            if looks < 0 {
                next = Some(next.map_or(now + LATER, |n| n.min(now + LATER)));
                break;
            }
            let wait = facts.standing(q).wait;
            let cell = wait.as_ref().and_then(Cell::of);
            let Some((found, ended)) = left.iter_mut().find(|(o, _)| Some(o.cell) == cell) else {
                continue;
            };
            if let Some(wait) = wait.filter(|w| w.kind == Kind::Leased) {
                found.n -= 1;
                match wait.due <= now {
                    true => *ended += 1,
                    false => next = Some(next.map_or(wait.due, |n| n.min(wait.due))),
                }
            }
        }
    }
    (left.into_iter().map(|(o, n)| (o.cell, n)).collect(), next)
}
