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
}

impl Finder {
    /// A snapshot must be active as long as the finder lives.
    pub fn new(q: &Queue, table: &Table) -> Self {
        Finder {
            walk: Walk::by_id(table, q.index),
        }
    }

    /// The row of that id, if the snapshot has it.
    pub fn find(&mut self, id: i64) -> Option<Facts> {
        self.walk.seek_one(id);
        self.walk.next().then(|| Facts::of(&self.walk))
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

/// A row that is locked by this transaction, or was just seen.
pub struct Kept {
    pub facts: Facts,
    pub row: Vec<Value>,
}

/// The rows at these places as they are now, in the order of their ids.
pub fn rows(q: &Queue, places: &[Place]) -> Vec<Kept> {
    let _pinned = Pinned::now();
    let table = Table::open(q.storage);
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
    let mut table = Table::open(q.storage);
    match places.iter().find(|p| !table.delete(p.tid)) {
        None => Ok(()),
        Some(lost) => Err(Error::Internal(format!(
            "message {} of queue \"{}\" changed while it was locked",
            lost.id, q.name
        ))),
    }
}
