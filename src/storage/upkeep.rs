//! Statements behind dead-lettering, dropping the oldest, and retention.

use super::plans::{Kind, run};
use super::settle::first_column;
use super::table;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::array;
use crate::pg::spi::Spi;
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};

/// Which rows a burial may touch.
#[derive(Clone, Copy)]
pub enum Grave {
    /// Those that this transaction has locked already, and has decided on.
    Decided,
    /// Those that are still past their failures or expired, and not leased.
    IfOver,
    /// Those that are not leased.
    IfIdle,
}

/// A message about to be buried; payload as it lies in storage.
pub struct Corpse {
    pub id: i64,
    pub body: Value,
    pub data: Value,
    pub headers: Value,
    pub priority: i16,
    pub group_key: Option<String>,
    pub failures: i32,
    pub last_error: Option<String>,
    pub expired: bool,
}

const IDLE: &str = "(m.receipt IS NULL OR m.due <= $2)";

/// Locks rows for burial and brings them; those that somebody else has locked are left out.
pub fn exhume(spi: &Spi, q: &Queue, ids: &[i64], grave: Grave, now: Micros) -> Result<Vec<Corpse>> {
    let rows = run(
        spi,
        q,
        Kind::LockForBurial,
        &[Ty::Int8Array, Ty::Timestamptz, Ty::Int4, Ty::Int4],
        &[
            array::int8s(ids),
            Value::timestamptz(now),
            Value::opt(q.options.max_failures, Value::int4),
            Value::int4(match grave {
                Grave::Decided => 0,
                Grave::IfOver => 1,
                Grave::IfIdle => 2,
            }),
        ],
        || {
            let ended = super::ended_lease("m", "$2");
            format!(
                "SELECT m.id, m.body, m.data, m.headers, m.priority, m.group_key, \
                 m.failures + {ended}, CASE WHEN {ended} = 1 THEN '{}' ELSE m.last_error END, \
                 COALESCE(m.expires_at <= $2, false) FROM pg_catalog.unnest($1) AS l(id) JOIN {} m \
                 ON m.id = l.id WHERE $4 = 0 OR ($4 = 2 AND {IDLE}) OR ({IDLE} AND \
                 (m.expires_at <= $2 OR (m.failures + {ended} >= $3 AND (m.due IS NULL OR \
                 m.due <= $2)))) FOR UPDATE OF m SKIP LOCKED",
                super::LEASE_ENDED,
                table(q)
            )
        },
    )?;
    Ok((0..rows.len())
        .filter_map(|i| {
            let at = |col| rows.get(i, col);
            Some(Corpse {
                id: at(0).as_int8()?,
                body: at(1),
                data: at(2),
                headers: at(3),
                priority: at(4).as_int2()?,
                group_key: at(5).as_text(),
                failures: at(6).as_int4()?,
                last_error: at(7).as_text(),
                expired: at(8).as_bool()?,
            })
        })
        .collect())
}

/// Removes rows that this transaction has locked.
pub fn remove(spi: &Spi, q: &Queue, ids: &[i64]) -> Result<()> {
    run(
        spi,
        q,
        Kind::RemoveIds,
        &[Ty::Int8Array],
        &[array::int8s(ids)],
        || {
            format!(
                "DELETE FROM {} m USING pg_catalog.unnest($1) AS l(id) WHERE m.id = l.id",
                table(q)
            )
        },
    )
    .map(|_| ())
}

/// Keeps a row that cannot be buried now out of everybody's way until then.
pub fn postpone(
    spi: &Spi,
    q: &Queue,
    id: i64,
    failures: i32,
    error: &str,
    until: Micros,
) -> Result<()> {
    run(
        spi,
        q,
        Kind::Postpone,
        &[Ty::Int8, Ty::Int4, Ty::Text, Ty::Timestamptz],
        &[
            Value::int8(id),
            Value::int4(failures),
            Value::text(error),
            Value::timestamptz(until),
        ],
        || {
            format!(
                "UPDATE {} m SET due=$4, receipt=NULL, failures=$2, last_error=$3 WHERE m.id = $1",
                table(q)
            )
        },
    )
    .map(|_| ())
}

/// Rows that must be buried, at most so many: expired, or due and past their failures.
pub fn overdue(spi: &Spi, q: &Queue, limit: i64, now: Micros) -> Result<Vec<i64>> {
    let rows = run(
        spi,
        q,
        Kind::Overdue,
        &[Ty::Timestamptz, Ty::Int4, Ty::Int8],
        &[
            Value::timestamptz(now),
            Value::opt(q.options.max_failures, Value::int4),
            Value::int8(limit),
        ],
        || {
            let t = table(q);
            let ended = super::ended_lease("m", "$1");
            format!(
                "(SELECT m.id FROM {t} m WHERE m.due <= $1 AND m.failures + {ended} >= $2 \
                 ORDER BY m.due LIMIT $3) UNION ALL (SELECT m.id FROM {t} m WHERE m.expires_at \
                 <= $1 AND (m.receipt IS NULL OR m.due <= $1) ORDER BY m.expires_at LIMIT $3)"
            )
        },
    )?;
    let mut ids = first_column(&rows);
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The oldest messages that nobody holds, locked.
pub fn oldest(spi: &Spi, q: &Queue, limit: i64, now: Micros) -> Result<Vec<i64>> {
    let rows = run(
        spi,
        q,
        Kind::Oldest,
        &[Ty::Int8, Ty::Timestamptz],
        &[Value::int8(limit), Value::timestamptz(now)],
        || {
            format!(
                "SELECT m.id FROM {} m WHERE {IDLE} ORDER BY m.id LIMIT $1 FOR UPDATE SKIP LOCKED",
                table(q)
            )
        },
    )?;
    Ok(first_column(&rows))
}

/// Makes ready rows that a lowered limit of failures has caught due, so that they are found.
pub fn mark_failed_out(spi: &Spi, q: &Queue, now: Micros) -> Result<()> {
    run(
        spi,
        q,
        Kind::FailedOut,
        &[Ty::Int4, Ty::Timestamptz],
        &[
            Value::opt(q.options.max_failures, Value::int4),
            Value::timestamptz(now),
        ],
        || {
            format!(
                "UPDATE {} m SET due=$2 WHERE m.due IS NULL AND m.failures >= $1",
                table(q)
            )
        },
    )
    .map(|_| ())
}

/// Dead letters to send back: ids of messages that nobody holds, with the headers that tell where
/// they came from; locked.
pub fn letters(
    spi: &Spi,
    q: &Queue,
    ids: Option<&[i64]>,
    max: i64,
    now: Micros,
) -> Result<Vec<Corpse>> {
    let wanted: Vec<i64> = match ids {
        Some(ids) => ids.to_vec(),
        None => {
            let rows = run(
                spi,
                q,
                Kind::LockLetters,
                &[Ty::Int8, Ty::Timestamptz],
                &[Value::int8(max), Value::timestamptz(now)],
                || {
                    format!(
                        "SELECT m.id FROM {} m WHERE {IDLE} ORDER BY m.id LIMIT $1 \
                         FOR UPDATE SKIP LOCKED",
                        table(q)
                    )
                },
            )?;
            first_column(&rows)
        }
    };
    let mut found = exhume(spi, q, &wanted, Grave::IfIdle, now)?;
    found.sort_by_key(|c| c.id);
    found.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    Ok(found)
}

/// Removes archived messages that are older than the queue keeps them, at most so many.
pub fn retain(spi: &Spi, q: &Queue, before: Micros, limit: i64) -> Result<u64> {
    let rows = run(
        spi,
        q,
        Kind::Retention,
        &[Ty::Timestamptz, Ty::Int8],
        &[Value::timestamptz(before), Value::int8(limit)],
        || {
            let t = table(q);
            format!(
                "WITH c AS MATERIALIZED (SELECT a.id FROM {t}_archive a WHERE a.archived_at < $1 \
                 ORDER BY a.archived_at LIMIT $2 FOR UPDATE SKIP LOCKED) DELETE FROM {t}_archive a \
                 USING c WHERE a.id = c.id"
            )
        },
    )?;
    Ok(rows.processed)
}
