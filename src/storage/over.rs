//! Rows looked for in bounded pieces: those that are over, expired or past their last allowed
//! failure, and those that have just come due.

use super::claim::{seek, walk_of};
use super::row::{self, Facts, Fate, Place};
use crate::catalog::Queue;
use crate::pg::table::{Pinned, Table};
use crate::pg::time::Micros;

/// How far a walk has come.
pub struct Walked {
    /// `to` when it was through.
    pub upto: i64,
    /// How many rows it has passed.
    pub rows: i64,
}

/// Walks at most `rows` rows from id `from` on to before `to`, of one rank or of all, and locks
/// those that are over into `found`; those that may be handed out go into `ready`.
pub fn in_span(
    q: &Queue,
    rank: Option<i16>,
    (from, to): (i64, i64),
    rows: usize,
    now: Micros,
    found: &mut Vec<Place>,
    ready: &mut Vec<(i16, i64)>,
) -> Walked {
    let _pinned = Pinned::now();
    let table = row::table(q);
    // The index of the default rank is that of all ids.
    let along = rank.unwrap_or(row::DEFAULT_RANK);
    let mut walk = walk_of(q, &table, along);
    seek(&mut walk, along, from, to);
    let mut walked = Walked {
        upto: from,
        rows: 0,
    };
    for _ in 0..rows {
        if !walk.next() {
            walked.upto = to;
            break;
        }
        crate::pg::wait::interruptible();
        let facts = Facts::of(&walk);
        walked.rows += 1;
        let is_asked = rank.is_none_or(|r| r == facts.place.rank);
        match facts.fate(q, now) {
            _ if !is_asked => {}
            Fate::Ready => ready.push((facts.place.rank, facts.id())),
            Fate::FailedOut | Fate::Expired if table.lock(facts.place.tid) => {
                found.push(facts.place);
            }
            _ => {}
        }
        walked.upto = facts.id().saturating_add(1);
    }
    walked
}

/// Whether a row came due after `since` and may be handed out now, or there may be one: at most so
/// many rows are looked at.
pub fn came_due(q: &Queue, since: Micros, now: Micros, rows: usize) -> bool {
    let _pinned = Pinned::now();
    let table = Table::open_to_read(q.storage);
    let mut walk = walk_of(q, &table, row::DEFAULT_RANK);
    seek(&mut walk, row::DEFAULT_RANK, 0, i64::MAX);
    for _ in 0..rows {
        if !walk.next() {
            return false;
        }
        crate::pg::wait::interruptible();
        let facts = Facts::of(&walk);
        let is_new = facts.due.is_some_and(|due| due > since);
        if is_new && facts.fate(q, now) == Fate::Ready {
            return true;
        }
    }
    true
}
