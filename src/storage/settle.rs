//! What can happen to a message that was handed out. A hand-out is named by the message's id and
//! its receipt; without a receipt the current hand-out is meant. Rows are looked up without
//! locking anything, locked by their place, and then written: a row that anybody else has locked,
//! or has changed meanwhile, is not touched and not waited for.

use super::place::{Place, act, lock};
use super::plans::{Kind, run};
use super::table;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::array;
use crate::pg::spi::Spi;
use crate::pg::time::Micros;
use crate::pg::tuple::{Pinned, RowLocks};
use crate::pg::value::{Ty, Value};

/// An id with its receipt, or with none.
pub type HandOut = (i64, Option<i64>);

/// A row that this transaction has locked.
#[derive(Clone, Copy)]
pub struct Held {
    pub place: Place,
    /// Failures counted so far.
    pub failures: i32,
}

/// Removes one message.
pub fn ack_one(spi: &Spi, q: &Queue, id: i64, receipt: Option<i64>) -> Result<bool> {
    let _pinned = Pinned::now();
    let rows = run(
        spi,
        q,
        Kind::AckOne,
        &[Ty::Int8, Ty::Int8],
        &[Value::int8(id), Value::opt(receipt, Value::int8)],
        || {
            format!(
                "SELECT m.ctid FROM {} m WHERE m.id = $1 AND m.receipt = COALESCE($2, m.receipt)",
                table(q)
            )
        },
    )?;
    Ok(rows
        .get(0, 0)
        .as_tid()
        .is_some_and(|tid| RowLocks::of(q.storage).try_delete(tid)))
}

/// Removes messages; gives the ids of those removed.
pub fn ack(spi: &Spi, q: &Queue, list: &[HandOut]) -> Result<Vec<i64>> {
    let _pinned = Pinned::now();
    let found = find(spi, q, list)?;
    let rows = RowLocks::of(q.storage);
    Ok(found
        .iter()
        .filter(|h| rows.try_delete(h.place.0))
        .map(|h| h.place.1)
        .collect())
}

/// Finds the current hand-outs among these.
fn find(spi: &Spi, q: &Queue, list: &[HandOut]) -> Result<Vec<Held>> {
    let receipts: Vec<Value> = list.iter().map(|h| Value::opt(h.1, Value::int8)).collect();
    let rows = run(
        spi,
        q,
        Kind::FindHandOuts,
        &[Ty::Int8Array, Ty::Int8Array],
        &[
            array::int8s(&list.iter().map(|h| h.0).collect::<Vec<_>>()),
            array::build(&receipts, Ty::Int8),
        ],
        || {
            format!(
                "SELECT f.ctid, f.id, f.failures FROM ROWS FROM (pg_catalog.unnest($1), \
                 pg_catalog.unnest($2)) AS l(id, receipt) CROSS JOIN LATERAL (SELECT m.ctid, m.id, \
                 m.failures FROM {} m WHERE m.id = l.id AND m.receipt = \
                 COALESCE(l.receipt, m.receipt) OFFSET 0) f",
                table(q)
            )
        },
    )?;
    let mut found: Vec<Held> = (0..rows.len())
        .filter_map(|i| {
            Some(Held {
                place: (rows.get(i, 0).as_tid()?, rows.get(i, 1).as_int8()?),
                failures: rows.get(i, 2).as_int4()?,
            })
        })
        .collect();
    found.sort_by_key(|h| h.place.1);
    found.dedup_by_key(|h| h.place.1);
    Ok(found)
}

/// Locks the current hand-outs among these.
pub fn hold(spi: &Spi, q: &Queue, list: &[HandOut]) -> Result<Vec<Held>> {
    let _pinned = Pinned::now();
    let mut held = find(spi, q, list)?;
    let locks = RowLocks::of(q.storage);
    held.retain(|h| locks.try_lock(h.place.0));
    Ok(held)
}

/// Moves messages to the archive.
pub fn archive(spi: &Spi, q: &Queue, places: &[Place], now: Micros) -> Result<Vec<i64>> {
    act(
        spi,
        q,
        Kind::Archive,
        places,
        &[(Ty::Timestamptz, Value::timestamptz(now))],
        || {
            let t = table(q);
            format!(
                "WITH gone AS (DELETE FROM {t} m WHERE m.ctid = ANY ($1) RETURNING m.*) \
             INSERT INTO {t}_archive SELECT g.*, $2 FROM gone g RETURNING id"
            )
        },
    )
}

/// Counts a failure, and makes the message available again at its time (at once, if null).
pub fn retry(
    spi: &Spi,
    q: &Queue,
    place: Place,
    due: Option<Micros>,
    reason: Option<&str>,
) -> Result<()> {
    let args = [
        (Ty::Timestamptz, Value::opt(due, Value::timestamptz)),
        (Ty::Text, Value::opt(reason, Value::text)),
    ];
    act(spi, q, Kind::Retry, &[place], &args, || {
        format!(
            "UPDATE {} m SET due=$2, receipt=NULL, failures=m.failures + 1, last_error=$3 \
             WHERE m.ctid = ANY ($1) RETURNING m.id",
            table(q)
        )
    })
    .map(|_| ())
}

/// Gives messages back without blame.
pub fn release(spi: &Spi, q: &Queue, places: &[Place], due: Option<Micros>) -> Result<Vec<i64>> {
    let due = [(Ty::Timestamptz, Value::opt(due, Value::timestamptz))];
    act(spi, q, Kind::Release, places, &due, || {
        format!(
            "UPDATE {} m SET due=$2, receipt=NULL WHERE m.ctid = ANY ($1) RETURNING m.id",
            table(q)
        )
    })
}

/// Moves the end of leases.
pub fn extend(spi: &Spi, q: &Queue, places: &[Place], due: Micros) -> Result<Vec<i64>> {
    let due = [(Ty::Timestamptz, Value::timestamptz(due))];
    act(spi, q, Kind::Extend, places, &due, || {
        format!(
            "UPDATE {} m SET due=$2 WHERE m.ctid = ANY ($1) RETURNING m.id",
            table(q)
        )
    })
}

/// Locks messages whoever holds them, waiting for whoever has them locked, in the order given.
pub fn seize(spi: &Spi, q: &Queue, ids: &[i64]) -> Result<Vec<Place>> {
    let rows = run(
        spi,
        q,
        Kind::Seize,
        &[Ty::Int8Array],
        &[array::int8s(ids)],
        || {
            format!(
                "SELECT f.ctid, f.id FROM pg_catalog.unnest($1) AS l(id) CROSS JOIN LATERAL \
             (SELECT m.ctid, m.id FROM {} m WHERE m.id = l.id FOR UPDATE) f",
                table(q)
            )
        },
    )?;
    Ok(super::place::read(&rows))
}

/// How many rows a purge takes at a time.
const PURGED: i64 = 10_000;

/// Removes everything that no open transaction is working on.
pub fn purge(spi: &Spi, q: &Queue) -> Result<i64> {
    let (mut after, mut gone) = (0, 0);
    loop {
        let mut found = Vec::new();
        let places = lock(q, usize::MAX, || {
            let rows = run(
                spi,
                q,
                Kind::Purge,
                &[Ty::Int8, Ty::Int8],
                &[Value::int8(after), Value::int8(PURGED)],
                || {
                    format!(
                        "SELECT m.ctid, m.id FROM {} m WHERE m.id > $1 ORDER BY m.id LIMIT $2",
                        table(q)
                    )
                },
            )?;
            found = super::place::read(&rows);
            Ok(found.clone())
        })?;
        let Some(&(_, last)) = found.last() else {
            return Ok(gone);
        };
        super::place::remove(q, &places)?;
        gone += places.len() as i64;
        after = last;
    }
}

/// Adds failures to a message whose transaction rolled back, unless somebody has it locked.
pub fn blame(spi: &Spi, q: &Queue, id: i64, failures: i64, now: Micros) -> Result<()> {
    run(
        spi,
        q,
        Kind::Blame,
        &[Ty::Int8, Ty::Int8, Ty::Timestamptz],
        &[
            Value::int8(id),
            Value::int8(failures),
            Value::timestamptz(now),
        ],
        || {
            let t = table(q);
            format!(
                "UPDATE {t} m SET failures=m.failures + $2::pg_catalog.int4, \
                 last_error='transaction rolled back', due=COALESCE(m.due, $3) WHERE m.id = \
                 (SELECT b.id FROM {t} b WHERE b.id = $1 FOR UPDATE SKIP LOCKED)"
            )
        },
    )
    .map(|_| ())
}
