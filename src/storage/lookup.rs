//! Looking at a message, and mending one in place.

use super::find::Finder;
use super::row::{self, Change, Facts, rank_of};
use super::{LEASE_ENDED, Shown, message, state_of};
use crate::catalog::Queue;
use crate::pg::table::{Pinned, Table};
use crate::pg::time::Micros;
use crate::pg::value::Value;

/// Whether a message is there.
pub fn exists(q: &Queue, id: i64) -> bool {
    let _pinned = Pinned::now();
    let table = Table::open_to_read(q.storage);
    Finder::new(q, &table).find(id).is_some()
}

/// The message of that id, as its queue's view shows it.
pub fn get(q: &Queue, id: i64, now: Micros) -> Option<[Value; 17]> {
    let _pinned = Pinned::now();
    let table = Table::open_to_read(q.storage);
    let mut finder = Finder::new(q, &table);
    let facts = finder.find(id)?;
    let row = finder.keep();
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
    let locked = {
        let _pinned = Pinned::now();
        let table = row::table(q);
        let found = Finder::new(q, &table).find(id);
        found.and_then(|f| table.lock_waiting(f.place.tid))
    };
    if locked.is_none() {
        return Repaired::Gone;
    }
    let _pinned = Pinned::now();
    let mut table = row::table(q);
    let mut finder = Finder::new(q, &table);
    let Some(facts) = finder.find(id) else {
        return Repaired::Gone;
    };
    if facts.is_leased(now) {
        return Repaired::Leased(facts);
    }
    let rank = rank_of(r.priority);
    let new = finder.edited(|new| {
        new[row::HEADERS] = r.headers;
        new[row::BODY] = r.body;
        new[row::DATA] = r.data;
        new[row::RANK] = Value::int2(rank);
        new[row::EXPIRES_AT] = r.expires_at;
    });
    if !table.update(facts.place.tid, &new) {
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
