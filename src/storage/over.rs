//! Rows looked for in bounded pieces: those that are over, expired or past their last allowed
//! failure, and those that have just come due.

use super::row::{self, Facts, Fate, Place};
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use std::collections::HashSet;

/// How far a walk has come.
pub struct Walked {
    /// `to` when it was through.
    pub upto: i64,
    /// How many rows it has passed.
    pub rows: i64,
}

/// Walks at most `rows` rows from id `from` on to before `to`, of one rank or of all, and locks
/// those that are over into `found`; those that may be handed out go into `ready`, of each group the
/// first at most.
pub fn in_span(
    q: &Queue,
    rank: Option<i16>,
    (from, to): (i64, i64),
    rows: usize,
    now: Micros,
    found: &mut Vec<Place>,
    ready: &mut Vec<Facts>,
) -> Walked {
    let _pinned = Pinned::now();
    let mut space = Space::to_write(q);
    // The index of the default rank is that of all ids.
    space.seek(rank.unwrap_or(row::DEFAULT_RANK), from, to);
    let mut groups = HashSet::new();
    let mut walked = Walked {
        upto: from,
        rows: 0,
    };
    for _ in 0..rows {
        let Some(facts) = space.next() else {
            walked.upto = to;
            break;
        };
        crate::pg::wait::interruptible();
        walked.rows += 1;
        let is_asked = rank.is_none_or(|r| r == facts.place.rank);
        let is_behind = facts.group(q).is_some_and(|g| !groups.insert(g));
        match facts.fate(q, now) {
            _ if !is_asked => {}
            Fate::Ready if is_behind => {}
            Fate::Ready => ready.push(facts),
            Fate::FailedOut | Fate::Expired if space.lock(&facts.place) => {
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
    let mut space = Space::to_read(q);
    space.seek_all();
    for _ in 0..rows {
        let Some(facts) = space.next() else {
            return false;
        };
        crate::pg::wait::interruptible();
        let is_new = facts.due.is_some_and(|due| due > since);
        if is_new && facts.fate(q, now) == Fate::Ready {
            return true;
        }
    }
    true
}
