//! Rows by the ids of their messages.

use super::row::{self, Facts, Place};
use crate::catalog::Queue;
use crate::error::{Error, Result};
use crate::pg::table::{Pinned, Table};
use crate::pg::value::Value;
use crate::pg::walk::Walk;

/// Looks rows up by id.
pub struct Finder {
    walk: Walk,
    /// The row that the walk has come to.
    at: Option<Facts>,
    /// Whether the walk has come to its end.
    ended: bool,
}

/// Ids that lie no further apart than this are looked up in one walk: to pass a row costs a
/// fraction of what it costs to look one up.
const NEAR: i64 = 4;

impl Finder {
    /// A snapshot must be active as long as the finder lives.
    pub fn new(q: &Queue, table: &Table) -> Self {
        Finder {
            walk: Walk::by_id(table, q.index),
            at: None,
            ended: true,
        }
    }

    /// The row of that id, if the snapshot has it.
    pub fn find(&mut self, id: i64) -> Option<Facts> {
        self.begin(id, id);
        self.next(id)
    }

    /// Ids from one to another will be asked for.
    pub fn begin(&mut self, first: i64, last: i64) {
        self.walk.seek_ids(first, last);
        self.at = None;
        self.ended = false;
    }

    /// The row of the next id of those, in rising order.
    pub fn next(&mut self, id: i64) -> Option<Facts> {
        while !self.ended && self.at.is_none_or(|f| f.place.id < id) {
            self.ended = !self.walk.next();
            self.at = (!self.ended).then(|| Facts::of(&self.walk));
        }
        self.at.filter(|f| f.place.id == id)
    }

    /// The row found last, changed.
    pub fn edited(&self, edit: impl FnOnce(&mut [Value; row::WIDTH])) -> [Value; row::WIDTH] {
        let mut new = std::array::from_fn(|column| self.walk.get(column));
        edit(&mut new);
        new
    }

    /// A copy of the row found last.
    pub fn keep(&self) -> Vec<Value> {
        self.walk.keep()
    }
}

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
    let table = row::table(q);
    let mut finder = Finder::new(q, &table);
    let mut places = places.to_vec();
    places.sort_unstable_by_key(|p| p.id);
    places
        .iter()
        .filter_map(|p| {
            finder.find(p.id).map(|facts| Kept {
                facts,
                row: finder.keep(),
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
    let mut table = row::table(q);
    match places.iter().find(|p| !table.delete(p.tid)) {
        None => Ok(()),
        Some(lost) => Err(Error::Internal(format!(
            "message {} of queue \"{}\" changed while it was locked",
            lost.id, q.name
        ))),
    }
}
