//! Segments that are not needed any more, because a backlog is gone: they are dropped.
//!
//! A dump reads which tables there are, and locks them afterwards: one that is dropped in between
//! ends it. So this is done when nobody seems to be at that. Whoever has read the list of tables
//! holds a lock on it to the end of his transaction; whoever is about to has a snapshot, and a
//! transaction that did not begin just now. What is left to chance is a dump that begins while these
//! tables are dropped.

use crate::catalog::Queue;
use crate::catalog::map::{Map, Part, State};
use crate::error::Result;
use crate::pg::time::Micros;
use crate::queue::pace::Step;
use crate::queue::rotate::grace;
use crate::settings;
use crate::storage::rotate;
use std::cell::Cell;

/// So many segments without a range are kept for whatever comes.
const SPARE: usize = 4;
/// So many are dropped at once.
const AT_ONCE: usize = 16;
/// What cannot be done now is tried again so much later.
const AGAIN: Micros = 5_000_000;

/// Segments without a range as far as there are too many, those that would be used last first, and
/// when each may go.
fn too_many(map: &Map) -> Vec<(&Part, Micros)> {
    // Asked at every read where no worker runs.
    if map.idle.len() <= SPARE {
        return Vec::new();
    }
    let mut free: Vec<&Part> = map.idle.iter().filter(|p| p.state == State::Free).collect();
    free.sort_by_key(|p| std::cmp::Reverse(p.k));
    free.truncate(free.len().saturating_sub(SPARE + map.segments / 2));
    // Not as long as they may be wanted for the next one.
    let interval = Micros::from(settings::ROTATION_INTERVAL.get()) * 1000;
    let goes_at = |p: &Part| p.since + interval;
    free.into_iter().map(|p| (p, goes_at(p))).collect()
}

thread_local! {
    /// When this session last found that it could not be done.
    static IN_VAIN: Cell<Micros> = const { Cell::new(0) };
}

/// Whether there is something to drop by now, and it was not tried in vain just before.
pub fn has_work(map: &Map, now: Micros) -> bool {
    now - IN_VAIN.get() > AGAIN && too_many(map).iter().any(|(_, at)| *at <= now)
}

/// Drops what is not needed, if that can be done now.
pub fn step(q: &Queue, map: &Map, now: Micros) -> Result<Step> {
    let (due, coming): (Vec<_>, Vec<_>) = too_many(map).into_iter().partition(|(_, at)| *at <= now);
    let next = coming.iter().map(|(_, at)| *at).min();
    if due.is_empty() {
        return Ok(next.map_or(Step::Idle, Step::Later));
    }
    let due: Vec<&Part> = due.into_iter().take(AT_ONCE).map(|(p, _)| p).collect();
    match rotate::drop(q, &due, grace())? {
        true => Ok(Step::Done),
        false => {
            IN_VAIN.set(now);
            Ok(Step::Later(now + AGAIN))
        }
    }
}
