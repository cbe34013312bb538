//! The archive of a queue: its rows are those of the queue, with the time that they were archived.

use super::plans::{Kind, run};
use super::row::{After, Change, Facts};
use super::space::Space;
use super::table;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::array;
use crate::pg::rel;
use crate::pg::spi;
use crate::pg::table::Table;
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};

/// Adds rows of the queue's table.
pub fn add(q: &Queue, mut rows: Vec<Vec<Value>>, now: Micros) {
    if rows.is_empty() {
        return;
    }
    let Some(archive) = rel::internal(&format!("q_{}_archive", q.n)) else {
        return;
    };
    for row in &mut rows {
        row.push(Value::timestamptz(now));
    }
    Table::open(archive).insert_many(&rows);
}

/// Moves what `each` goes through: it does something to one row after the other, and gives what became
/// of them.
pub fn all(
    q: &Queue,
    now: Micros,
    each: impl FnOnce(&mut dyn FnMut(&mut Space, &Facts) -> Option<After>) -> Vec<Change>,
) -> Vec<Change> {
    let mut kept = Vec::new();
    let changes = each(&mut |space, facts| {
        let row = space.keep();
        space.delete(&facts.place).then(|| {
            kept.push(row);
            After::Gone
        })
    });
    add(q, kept, now);
    changes
}

/// Removes archived messages that are older than the queue keeps them, at most so many.
pub fn retain(q: &Queue, before: Micros, limit: i64) -> Result<u64> {
    spi::connect(|spi| {
        remove_found(
            spi,
            q,
            (Kind::Retention, Kind::RetentionRemove),
            "archive",
            &[Ty::Timestamptz, Ty::Int8],
            &[Value::timestamptz(before), Value::int8(limit)],
            || {
                format!(
                    "SELECT a.ctid FROM {}_archive a WHERE a.archived_at < $1 \
                     ORDER BY a.archived_at LIMIT $2 FOR UPDATE SKIP LOCKED",
                    table(q)
                )
            },
        )
    })
}

/// Removes rows of a companion table, found and locked by `find` (which returns ctid alone).
pub(super) fn remove_found(
    spi: &spi::Spi,
    q: &Queue,
    kinds: (Kind, Kind),
    suffix: &str,
    types: &[Ty],
    args: &[Value],
    find: impl FnOnce() -> String,
) -> Result<u64> {
    let rows = run(spi, q, kinds.0, spi::Path::Index, types, args, find)?;
    let tids: Vec<Value> = (0..rows.len()).map(|i| rows.get(i, 0)).collect();
    if tids.is_empty() {
        return Ok(0);
    }
    let tids = array::build(&tids, Ty::Tid);
    let done = run(
        spi,
        q,
        kinds.1,
        spi::Path::Place,
        &[Ty::TidArray],
        &[tids],
        || {
            format!(
                "DELETE FROM {}_{suffix} m WHERE m.ctid = ANY ($1)",
                table(q)
            )
        },
    )?;
    Ok(done.processed)
}
