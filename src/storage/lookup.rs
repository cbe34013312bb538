//! Looking at a message, and mending one in place.

use super::insert::follow_headers;
use super::row::{self, Change, Facts, rank_of};
use super::space::Space;
use super::{LEASE_ENDED, Shown, message, state_of};
use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::pg::wait;

/// Whether a message is there.
pub fn exists(q: &Queue, id: i64) -> bool {
    seen(q, id, |_, _| ()).is_some()
}

/// Looks at the row of that id, in a snapshot that shows it wherever it was moved.
fn seen<R>(q: &Queue, id: i64, look: impl FnOnce(&Space, &Facts) -> R) -> Option<R> {
    loop {
        let _pinned = Pinned::now();
        let mut space = Space::to_read(q);
        match space.find(id) {
            Some(facts) => return Some(look(&space, &facts)),
            None if space.has_changed() => wait::interruptible(),
            None => return None,
        }
    }
}

/// The message of that id, as its queue's view shows it.
pub fn get(q: &Queue, id: i64, now: Micros) -> Option<[Value; 17]> {
    let (facts, row) = seen(q, id, |space, facts| (*facts, space.keep()))?;
    let last_error = if facts.lease_ended(now) {
        Value::text(LEASE_ENDED)
    } else {
        row[row::LAST_ERROR]
    };
    let shown = Shown {
        receipt: Value::NULL,
        queue: Value::text(&q.name),
        state: Value::text(state_of(&facts, now)),
    };
    let failures = Value::int4(facts.failures(now));
    Some(message(&row, failures, last_error, &shown))
}

pub struct Repair {
    pub headers: Value,
    pub body: Value,
    pub data: Value,
    pub priority: i16,
    pub expires_at: Value,
}

pub enum Repaired {
    /// What left its place, and where the message is now.
    Done([Change; 2]),
    Leased(Facts),
    Gone,
}

/// Replaces what an owner may mend, unless the message is leased. Waits for whoever has the row
/// locked.
pub fn repair(q: &Queue, id: i64, r: &Repair, now: Micros) -> Repaired {
    let (_pinned, mut space, facts) = loop {
        let pinned = Pinned::now();
        let mut space = Space::to_write(q);
        let Some(facts) = space.find(id) else {
            if space.has_changed() {
                continue;
            }
            return Repaired::Gone;
        };
        if space.lock_waiting(&facts.place) {
            break (pinned, space, facts);
        }
        wait::interruptible();
    };
    if facts.is_leased(now) {
        return Repaired::Leased(facts);
    }
    let rank = rank_of(r.priority);
    let new = space.edited(|new| {
        new[row::HEADERS] = r.headers;
        new[row::BODY] = r.body;
        new[row::DATA] = r.data;
        new[row::RANK] = Value::int2(rank);
        new[row::EXPIRES_AT] = r.expires_at;
        follow_headers(q, new);
    });
    if !space.update(&facts.place, &new) {
        return Repaired::Gone;
    }
    let there = Change {
        rank,
        is_new: rank != facts.place.rank,
        was: None,
        ..Change::same(q, &facts)
    };
    Repaired::Done([Change::gone(q, &facts), there])
}
