//! Rows by their place: found, locked, and acted on. Finding goes through an index, acting through
//! the places alone, so that no plan depends on what the planner believes of the table.

use super::plans::{Kind, run, run_by_place};
use super::table;
use crate::catalog::Queue;
use crate::error::{Error, Result};
use crate::pg::array;
use crate::pg::spi::{Rows, Spi};
use crate::pg::tuple::{Pinned, RowLocks, Tid};
use crate::pg::value::{Ty, Value};

/// A row version and the id in it.
pub type Place = (Tid, i64);

pub fn read(rows: &Rows) -> Vec<Place> {
    (0..rows.len())
        .filter_map(|i| Some((rows.get(i, 0).as_tid()?, rows.get(i, 1).as_int8()?)))
        .collect()
}

pub fn ids(places: &[Place]) -> Vec<i64> {
    places.iter().map(|p| p.1).collect()
}

/// Locks up to `limit` of the rows that `find` names under a snapshot that is held meanwhile.
pub fn lock(
    q: &Queue,
    limit: usize,
    find: impl FnOnce() -> Result<Vec<Place>>,
) -> Result<Vec<Place>> {
    let _pinned = Pinned::now();
    let found = find()?;
    Ok(lock_found(q, found.into_iter()).take(limit).collect())
}

/// Locks rows as they are asked for. A snapshot that keeps them in place must be held.
pub fn lock_found(q: &Queue, found: impl Iterator<Item = Place>) -> impl Iterator<Item = Place> {
    let locks = RowLocks::of(q.storage);
    found.filter(move |p| locks.try_lock(p.0))
}

fn array_of(places: &[Place]) -> Value {
    array::build(
        &places.iter().map(|p| Value::tid(p.0)).collect::<Vec<_>>(),
        Ty::Tid,
    )
}

/// Runs a statement on rows that this transaction has locked: `$1` are their places, `more` the
/// arguments from `$2` on.
pub fn rows(
    spi: &Spi,
    q: &Queue,
    kind: Kind,
    places: &[Place],
    more: &[(Ty, Value)],
    sql: impl FnOnce() -> String,
) -> Result<Rows> {
    let types: Vec<Ty> = std::iter::once(Ty::TidArray)
        .chain(more.iter().map(|m| m.0))
        .collect();
    let args: Vec<Value> = std::iter::once(array_of(places))
        .chain(more.iter().map(|m| m.1))
        .collect();
    run_by_place(spi, q, kind, &types, &args, sql)
}

/// The same for a statement that returns ids.
pub fn act(
    spi: &Spi,
    q: &Queue,
    kind: Kind,
    places: &[Place],
    more: &[(Ty, Value)],
    sql: impl FnOnce() -> String,
) -> Result<Vec<i64>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let rows = rows(spi, q, kind, places, more, sql)?;
    Ok((0..rows.len())
        .filter_map(|i| rows.get(i, 0).as_int8())
        .collect())
}

/// Removes rows that this transaction has locked; gives their ids.
pub fn remove(q: &Queue, places: &[Place]) -> Result<Vec<i64>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let _pinned = Pinned::now();
    let rows = RowLocks::of(q.storage);
    match places.iter().find(|p| !rows.try_delete(p.0)) {
        None => Ok(ids(places)),
        Some(lost) => Err(Error::Internal(format!(
            "message {} of queue \"{}\" changed while it was locked",
            lost.1, q.name
        ))),
    }
}

/// Removes rows of a companion table, found and locked by `find` (which returns ctid alone).
pub fn remove_found(
    spi: &Spi,
    q: &Queue,
    kinds: (Kind, Kind),
    suffix: &str,
    types: &[Ty],
    args: &[Value],
    find: impl FnOnce() -> String,
) -> Result<u64> {
    let rows = run(spi, q, kinds.0, types, args, find)?;
    let tids: Vec<Value> = (0..rows.len()).map(|i| rows.get(i, 0)).collect();
    if tids.is_empty() {
        return Ok(0);
    }
    let tids = array::build(&tids, Ty::Tid);
    let done = run_by_place(spi, q, kinds.1, &[Ty::TidArray], &[tids], || {
        format!(
            "DELETE FROM {}_{suffix} m WHERE m.ctid = ANY ($1)",
            table(q)
        )
    })?;
    Ok(done.processed)
}
