//! Rows that are over, looked for in bounded pieces: expired, or past their last allowed failure.

use super::claim::{seek, walk_of};
use super::row::{self, Facts, Fate, Place};
use crate::catalog::Queue;
use crate::pg::table::Pinned;
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
