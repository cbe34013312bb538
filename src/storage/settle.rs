//! What can happen to a message that was handed out. A hand-out is named by the message's id and
//! its receipt; without a receipt the current hand-out is meant. Rows that anybody else has locked
//! are not touched and not waited for.

use super::plans::{Kind, run};
use super::table;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::array;
use crate::pg::spi::{Rows, Spi};
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};

/// Hand-outs to settle: ids, each with its receipt or none.
pub struct HandOuts {
    ids: Value,
    receipts: Value,
}

impl HandOuts {
    pub fn new(list: &[(i64, Option<i64>)]) -> Self {
        let receipts: Vec<Value> = list.iter().map(|h| Value::opt(h.1, Value::int8)).collect();
        HandOuts {
            ids: array::int8s(&list.iter().map(|h| h.0).collect::<Vec<_>>()),
            receipts: array::build(&receipts, Ty::Int8),
        }
    }
}

/// Locks the current hand-outs among `$1`, `$2`.
fn locked(q: &Queue, columns: &str) -> String {
    format!(
        "SELECT {columns} FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) \
         AS l(id, receipt) JOIN {} m ON m.id = l.id AND m.receipt = COALESCE(l.receipt, m.receipt) \
         FOR UPDATE OF m SKIP LOCKED",
        table(q)
    )
}

pub fn first_column(rows: &Rows) -> Vec<i64> {
    (0..rows.len())
        .filter_map(|i| rows.get(i, 0).as_int8())
        .collect()
}

/// Removes one message.
pub fn ack_one(spi: &Spi, q: &Queue, id: i64, receipt: Option<i64>) -> Result<bool> {
    let rows = run(
        spi,
        q,
        Kind::AckOne,
        &[Ty::Int8, Ty::Int8],
        &[Value::int8(id), Value::opt(receipt, Value::int8)],
        || {
            let t = table(q);
            format!(
                "DELETE FROM {t} d WHERE d.id = (SELECT m.id FROM {t} m WHERE m.id = $1 AND \
                 m.receipt = COALESCE($2, m.receipt) FOR UPDATE SKIP LOCKED)"
            )
        },
    )?;
    Ok(rows.processed > 0)
}

/// Removes messages; gives the ids of those removed.
pub fn ack(spi: &Spi, q: &Queue, h: &HandOuts) -> Result<Vec<i64>> {
    let rows = run(
        spi,
        q,
        Kind::Ack,
        &[Ty::Int8Array, Ty::Int8Array],
        &[h.ids, h.receipts],
        || {
            format!(
                "WITH c AS MATERIALIZED ({}) DELETE FROM {} m USING c WHERE m.id = c.id \
                 RETURNING m.id",
                locked(q, "m.id"),
                table(q)
            )
        },
    )?;
    Ok(first_column(&rows))
}

/// Moves messages to the archive.
pub fn archive(spi: &Spi, q: &Queue, h: &HandOuts, now: Micros) -> Result<Vec<i64>> {
    let rows = run(
        spi,
        q,
        Kind::Archive,
        &[Ty::Int8Array, Ty::Int8Array, Ty::Timestamptz],
        &[h.ids, h.receipts, Value::timestamptz(now)],
        || {
            let t = table(q);
            format!(
                "WITH c AS MATERIALIZED ({}), gone AS (DELETE FROM {t} m USING c \
                 WHERE m.id = c.id RETURNING m.*) INSERT INTO {t}_archive \
                 SELECT g.*, $3 FROM gone g RETURNING id",
                locked(q, "m.id")
            )
        },
    )?;
    Ok(first_column(&rows))
}

/// Locks messages that were handed out, for the rest of the transaction: ids, and the failures
/// counted so far.
pub fn lock(spi: &Spi, q: &Queue, h: &HandOuts) -> Result<Vec<(i64, i32)>> {
    let rows = run(
        spi,
        q,
        Kind::LockHandedOut,
        &[Ty::Int8Array, Ty::Int8Array],
        &[h.ids, h.receipts],
        || locked(q, "m.id, m.failures"),
    )?;
    Ok((0..rows.len())
        .filter_map(|i| Some((rows.get(i, 0).as_int8()?, rows.get(i, 1).as_int4()?)))
        .collect())
}

/// Counts a failure of messages that this transaction has locked, and makes each available again
/// at its time (at once, if null).
pub fn retry(
    spi: &Spi,
    q: &Queue,
    at: &[(i64, Option<Micros>)],
    reason: Option<&str>,
) -> Result<()> {
    let times: Vec<Value> = at
        .iter()
        .map(|a| Value::opt(a.1, Value::timestamptz))
        .collect();
    run(
        spi,
        q,
        Kind::Retry,
        &[Ty::Int8Array, Ty::TimestamptzArray, Ty::Text],
        &[
            array::int8s(&at.iter().map(|a| a.0).collect::<Vec<_>>()),
            array::build(&times, Ty::Timestamptz),
            Value::opt(reason, Value::text),
        ],
        || {
            format!(
                "UPDATE {} m SET due=l.due, receipt=NULL, failures=m.failures + 1, last_error=$3 \
                 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS l(id, due) \
                 WHERE m.id = l.id",
                table(q)
            )
        },
    )
    .map(|_| ())
}

/// Of hand-outs that could not be settled, those whose lease is running: somebody has the row
/// locked, and it can only be a peer of the same hand-out, or an operator. Waits for them, in the
/// order of ids, and gives those that are current after that, locked.
pub fn await_peers(
    spi: &Spi,
    q: &Queue,
    h: &HandOuts,
    now: Micros,
) -> Result<Vec<(i64, Option<i64>)>> {
    let rows = run(
        spi,
        q,
        Kind::StillHeld,
        &[Ty::Int8Array, Ty::Int8Array, Ty::Timestamptz],
        &[h.ids, h.receipts, Value::timestamptz(now)],
        || {
            format!(
                "SELECT m.id, m.receipt FROM ROWS FROM (pg_catalog.unnest($1), \
                 pg_catalog.unnest($2)) AS l(id, receipt) JOIN {} m ON m.id = l.id AND \
                 m.receipt = COALESCE(l.receipt, m.receipt) WHERE m.due > $3 ORDER BY m.id \
                 FOR UPDATE OF m",
                table(q)
            )
        },
    )?;
    Ok((0..rows.len())
        .filter_map(|i| Some((rows.get(i, 0).as_int8()?, rows.get(i, 1).as_int8())))
        .collect())
}

/// Gives messages back without blame.
pub fn release(spi: &Spi, q: &Queue, h: &HandOuts, due: Option<Micros>) -> Result<Vec<i64>> {
    let rows = run(
        spi,
        q,
        Kind::Release,
        &[Ty::Int8Array, Ty::Int8Array, Ty::Timestamptz],
        &[h.ids, h.receipts, Value::opt(due, Value::timestamptz)],
        || {
            format!(
                "WITH c AS MATERIALIZED ({}) UPDATE {} m SET due=$3, receipt=NULL FROM c \
                 WHERE m.id = c.id RETURNING m.id",
                locked(q, "m.id"),
                table(q)
            )
        },
    )?;
    Ok(first_column(&rows))
}

/// Moves the end of leases.
pub fn extend(spi: &Spi, q: &Queue, h: &HandOuts, due: Micros) -> Result<Vec<i64>> {
    let rows = run(
        spi,
        q,
        Kind::Extend,
        &[Ty::Int8Array, Ty::Int8Array, Ty::Timestamptz],
        &[h.ids, h.receipts, Value::timestamptz(due)],
        || {
            format!(
                "WITH c AS MATERIALIZED ({}) UPDATE {} m SET due=$3 FROM c WHERE m.id = c.id \
                 RETURNING m.id",
                locked(q, "m.id"),
                table(q)
            )
        },
    )?;
    Ok(first_column(&rows))
}

/// Removes messages whoever holds them, waiting for whoever has them locked.
pub fn delete(spi: &Spi, q: &Queue, ids: &[i64]) -> Result<Vec<i64>> {
    let rows = run(
        spi,
        q,
        Kind::Delete,
        &[Ty::Int8Array],
        &[array::int8s(ids)],
        || {
            format!(
                "DELETE FROM {} m USING pg_catalog.unnest($1) AS l(id) WHERE m.id = l.id \
             RETURNING m.id",
                table(q)
            )
        },
    )?;
    Ok(first_column(&rows))
}

/// Removes everything that no open transaction is working on.
pub fn purge(spi: &Spi, q: &Queue) -> Result<u64> {
    let rows = run(spi, q, Kind::Purge, &[], &[], || {
        let t = table(q);
        format!(
            "WITH c AS MATERIALIZED (SELECT m.id FROM {t} m ORDER BY m.id FOR UPDATE SKIP LOCKED) \
             DELETE FROM {t} m USING c WHERE m.id = c.id"
        )
    })?;
    Ok(rows.processed)
}

/// Adds a failure to messages whose transaction rolled back.
pub fn blame(spi: &Spi, q: &Queue, counts: &[(i64, i64)], now: Micros) -> Result<()> {
    run(
        spi,
        q,
        Kind::Blame,
        &[Ty::Int8Array, Ty::Int8Array, Ty::Timestamptz],
        &[
            array::int8s(&counts.iter().map(|c| c.0).collect::<Vec<_>>()),
            array::int8s(&counts.iter().map(|c| c.1).collect::<Vec<_>>()),
            Value::timestamptz(now),
        ],
        || {
            let t = table(q);
            format!(
                "WITH c AS MATERIALIZED (SELECT m.id, l.n FROM ROWS FROM (pg_catalog.unnest($1), \
                 pg_catalog.unnest($2)) AS l(id, n) JOIN {t} m ON m.id = l.id \
                 FOR UPDATE OF m SKIP LOCKED) UPDATE {t} m SET \
                 failures=m.failures + c.n::pg_catalog.int4, last_error='transaction rolled back', \
                 due=COALESCE(m.due, $3) FROM c WHERE m.id = c.id"
            )
        },
    )
    .map(|_| ())
}
