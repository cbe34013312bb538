//! Rows by the ids of their messages.

use super::row::{Facts, Place};
use super::space::Space;
use crate::catalog::Queue;
use crate::error::{Error, Result};
use crate::pg::table::Pinned;
use crate::pg::value::Value;

/// Ids that lie no further apart than this are looked up in one walk: to pass a row costs a
/// fraction of what it costs to look one up.
const NEAR: i64 = 4;

/// Sorted ids (of whatever), taken apart into those that are looked up in one walk.
pub fn runs<T>(sorted: &[T], id: impl Fn(&T) -> i64) -> impl Iterator<Item = &[T]> {
    sorted.chunk_by(move |a, b| id(b).saturating_sub(id(a)) <= NEAR)
}

/// A row that is locked by this transaction, or was just seen.
pub struct Kept {
    pub facts: Facts,
    pub row: Vec<Value>,
}

/// The rows at these places as they are now, in the order of their ids.
pub fn rows(q: &Queue, places: &[Place]) -> Vec<Kept> {
    let _pinned = Pinned::now();
    let mut space = Space::to_write(q);
    let mut places = places.to_vec();
    places.sort_unstable_by_key(|p| p.id);
    places
        .iter()
        .filter_map(|p| {
            space.find(p.id).map(|facts| Kept {
                facts,
                row: space.keep(),
            })
        })
        .collect()
}

/// Removes rows that this transaction has locked.
pub fn remove(q: &Queue, places: &[Place]) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let _pinned = Pinned::now();
    let mut space = Space::to_write(q);
    match places.iter().find(|p| !space.delete(p)) {
        None => Ok(()),
        Some(lost) => Err(Error::Internal(format!(
            "message {} of queue \"{}\" changed while it was locked",
            lost.id, q.name
        ))),
    }
}
