//! Whether a reader would find anything to do, without doing it.

use super::groups;
use super::row::Fate;
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::time::Micros;
use std::collections::HashSet;

/// What a look at a span came to where a reader would find nothing to do.
pub struct Idle {
    /// Whether there was any row of the rank.
    pub any: bool,
    /// Rows that wait, and until when.
    pub waiting: Vec<(i64, Micros)>,
    /// Others wait for messages of their groups.
    pub is_blocked: bool,
}

/// What there is in a span, unless a reader would find something to do now: to hand out, or to
/// bury. A snapshot must be active.
pub fn in_span(q: &Queue, rank: i16, from: i64, to: i64, now: Micros) -> Option<Idle> {
    let mut idle = Idle {
        any: false,
        waiting: Vec::new(),
        is_blocked: false,
    };
    let mut blocked = HashSet::new();
    let mut space = Space::to_read(q);
    space.seek(rank, from, to);
    while let Some(facts) = space.next() {
        if facts.place.rank == rank {
            idle.any = true;
            match (facts.fate(q, now), facts.group(q)) {
                (Fate::Waits(until), _) => idle.waiting.push((facts.id(), until)),
                (Fate::Ready, Some(group)) => {
                    let is_known = !blocked.insert(group);
                    if !is_known && groups::is_ready(q, group, now) {
                        return None;
                    }
                    idle.is_blocked = true;
                }
                _ => return None,
            }
        }
    }
    Some(idle)
}
