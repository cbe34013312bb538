//! Kept plans: one a statement and queue, made when first needed, given back with the queue. The
//! tables beside the messages are reached by SQL; the messages themselves never are.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi::{self, Path, Rows, Spi};
use crate::pg::value::{Ty, Value};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
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
}

/// Runs a statement of a queue with its owner's rights.
pub fn run(
    spi: &Spi,
    q: &Queue,
    kind: Kind,
    path: Path,
    types: &[Ty],
    args: &[Value],
    sql: impl FnOnce() -> String,
) -> Result<Rows> {
    let plan = q.plans.get_or_prepare(spi, kind as u8, types, sql)?;
    spi.execute(q.owner, plan, path, args)
}

/// Runs one, reading through indexes, and reads its result.
pub fn ask<R>(
    q: &Queue,
    kind: Kind,
    types: &[Ty],
    args: &[Value],
    sql: impl FnOnce() -> String,
    read: impl FnOnce(&Rows) -> R,
) -> Result<R> {
    spi::connect(|spi| {
        let rows = run(spi, q, kind, Path::Index, types, args, sql)?;
        Ok(read(&rows))
    })
}
