//! Kept plans: one a statement and queue, made when first needed, given back with the queue.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi::{Path, Rows, Spi};
use crate::pg::value::{Ty, Value};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    Insert,
    InsertMany,
    InsertPlain,
    Ready,
    ReadyQuick,
    ReadyFrom,
    ReadyOnly,
    Due,
    DueOrReady,
    Lease,
    TakeAway,
    AnyReady,
    AckOne,
    FindHandOuts,
    Archive,
    Retry,
    Release,
    Extend,
    Seize,
    Purge,
    Get,
    FindToRepair,
    Repair,
    Exhume,
    Idle,
    Postpone,
    Blame,
    Overdue,
    Oldest,
    FailedOut,
    KeyTake,
    KeyHolder,
    KeySteal,
    KeysExpired,
    KeysRemove,
    LengthAdd,
    LengthNew,
    LengthSum,
    Retention,
    RetentionRemove,
    Count,
    OldestReady,
}

fn run_with(
    spi: &Spi,
    q: &Queue,
    (kind, path): (Kind, Path),
    types: &[Ty],
    args: &[Value],
    sql: impl FnOnce() -> String,
) -> Result<Rows> {
    let plan = q.plans.get_or_prepare(spi, kind as u8, types, sql)?;
    spi.execute(q.owner, plan, path, args)
}

/// Runs a statement of a queue with its owner's rights, reading through indexes.
pub fn run(
    spi: &Spi,
    q: &Queue,
    kind: Kind,
    types: &[Ty],
    args: &[Value],
    sql: impl FnOnce() -> String,
) -> Result<Rows> {
    run_with(spi, q, (kind, Path::Index), types, args, sql)
}

/// The same, reaching rows by their place.
pub fn run_by_place(
    spi: &Spi,
    q: &Queue,
    kind: Kind,
    types: &[Ty],
    args: &[Value],
    sql: impl FnOnce() -> String,
) -> Result<Rows> {
    run_with(spi, q, (kind, Path::Place), types, args, sql)
}
