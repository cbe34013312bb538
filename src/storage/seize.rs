//! Doing something to messages whoever holds them, waiting for whoever has them locked: what callers do
//! who know a message by its id alone.
//!
//! Ids are gone through in rising order, so that two callers cannot wait for each other.

use super::archive;
use super::insert::follow_headers;
use super::row::{self, After, Change, Facts};
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::pg::wait;

/// A row as it is to be.
pub type Row = [Value; row::WIDTH];

/// Does something to the messages among these: `act` gives what became of one, or none when it was not
/// to be had.
fn each(
    q: &Queue,
    ids: &[i64],
    mut act: impl FnMut(&mut Space, &Facts) -> Option<After>,
) -> Vec<Change> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut changes = Vec::with_capacity(ids.len());
    let mut at = 0;
    while at < ids.len() {
        at += free_ones(q, &ids[at..], &mut act, &mut changes);
        // The one that somebody is at, if it was not the end.
        if let Some(&id) = ids.get(at) {
            changes.extend(wait_for(q, id, &mut act));
            at += 1;
        }
    }
    changes
}

/// The same up to the first that somebody else is at; gives how many that were.
fn free_ones(
    q: &Queue,
    ids: &[i64],
    act: &mut impl FnMut(&mut Space, &Facts) -> Option<After>,
    changes: &mut Vec<Change>,
) -> usize {
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
        return 0;
    };
    let _pinned = Pinned::now();
    let mut space = Space::to_write(q);
    // Where they lie close together they are found in one walk.
    let is_dense = last.saturating_sub(*first) < 4 * ids.len() as i64;
    if is_dense {
        space.begin(*first, *last);
    }
    for (n, &id) in ids.iter().enumerate() {
        let found = match is_dense {
            true => space.find_next(id),
            false => space.find(id),
        };
        match found {
            Some(facts) => match act(&mut space, &facts) {
                Some(after) => changes.push(Change::of(q, &facts, &after)),
                None => return n,
            },
            None if space.has_changed() => return n,
            None => {}
        }
    }
    ids.len()
}

/// The same for one that somebody is or was at.
fn wait_for(
    q: &Queue,
    id: i64,
    act: &mut impl FnMut(&mut Space, &Facts) -> Option<After>,
) -> Option<Change> {
    loop {
        let is_locked = {
            let _pinned = Pinned::now();
            let mut space = Space::to_write(q);
            match space.find(id) {
                Some(facts) => space.lock_waiting(&facts.place),
                None if space.has_changed() => false,
                None => return None,
            }
        };
        if is_locked {
            let _pinned = Pinned::now();
            let mut space = Space::to_write(q);
            if let Some(facts) = space.find(id)
                && let Some(after) = act(&mut space, &facts)
            {
                return Some(Change::of(q, &facts, &after));
            }
        }
        wait::interruptible();
    }
}

/// Removes messages.
pub fn delete(q: &Queue, ids: &[i64]) -> Vec<Change> {
    each(q, ids, |space, facts| {
        space.delete(&facts.place).then_some(After::Gone)
    })
}

/// Moves messages to the archive.
pub fn archive(q: &Queue, ids: &[i64], now: Micros) -> Vec<Change> {
    archive::all(q, now, |act| each(q, ids, act))
}

/// Changes messages as `edit` says; tells `told` of each as it is then.
pub fn change(
    q: &Queue,
    ids: &[i64],
    edit: impl Fn(&mut Row),
    mut told: impl FnMut(&Row),
) -> Vec<Change> {
    each(q, ids, |space, facts| {
        let new = space.edited(|new| {
            edit(new);
            follow_headers(q, new);
        });
        let changed = Facts {
            due: new[row::DUE].as_timestamptz(),
            receipt: new[row::RECEIPT].as_int8(),
            read_at: new[row::READ_AT].as_timestamptz(),
            enqueued_at: new[row::ENQUEUED_AT].as_timestamptz().unwrap_or_default(),
            ..*facts
        };
        space.update(&facts.place, &new).then(|| {
            told(&new);
            After::Is(changed)
        })
    })
}
