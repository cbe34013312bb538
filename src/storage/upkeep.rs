//! Statements behind dead-lettering, dropping the oldest, and retention. Rows are found without
//! locking anything and then locked by their place, as in `claim`.

use super::plans::{Kind, run};
use super::table;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::array;
use crate::pg::spi::{Rows, Spi};
use crate::pg::time::Micros;
use crate::pg::tuple::{Pinned, RowLocks, Tid};
use crate::pg::value::{Ty, Value};

/// A message about to leave for another queue; payload as it lies in storage.
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
    /// A lease of it ended unsettled: a failure that is not yet counted.
    pub lease_ended: bool,
}

/// A row version and the id in it.
pub type Place = (Tid, i64);

/// Nobody holds it. `$1` is the time.
const IDLE: &str = "(m.receipt IS NULL OR m.due <= $1)";

fn places(rows: &Rows) -> Vec<Place> {
    (0..rows.len())
        .filter_map(|i| Some((rows.get(i, 0).as_tid()?, rows.get(i, 1).as_int8()?)))
        .collect()
}

/// Locks, of the rows that `find` names under a snapshot that is held meanwhile, up to `limit`.
/// Gives their ids.
fn lock(q: &Queue, limit: usize, find: impl FnOnce() -> Result<Vec<Place>>) -> Result<Vec<i64>> {
    let _pinned = Pinned::now();
    let found = find()?;
    Ok(lock_places(q, found.into_iter()).take(limit).collect())
}

/// Locks rows as they are asked for. A snapshot that keeps them in place must be held.
pub fn lock_places(q: &Queue, places: impl Iterator<Item = Place>) -> impl Iterator<Item = i64> {
    let locks = RowLocks::of(q.storage);
    places.filter(move |p| locks.try_lock(p.0)).map(|p| p.1)
}

/// Brings rows that this transaction has locked, in the order of their ids.
pub fn exhume(spi: &Spi, q: &Queue, ids: &[i64], now: Micros) -> Result<Vec<Corpse>> {
    let rows = run(
        spi,
        q,
        Kind::Exhume,
        &[Ty::Timestamptz, Ty::Int8Array],
        &[Value::timestamptz(now), array::int8s(ids)],
        || {
            let ended = super::ended_lease("m", "$1");
            format!(
                "SELECT m.id, m.body, m.data, m.headers, m.priority, m.group_key, \
                 m.failures + {ended}, CASE WHEN {ended} = 1 THEN '{}' ELSE m.last_error END, \
                 COALESCE(m.expires_at <= $1, false), {ended} = 1 FROM \
                 pg_catalog.unnest($2) AS l(id) JOIN {} m ON m.id = l.id",
                super::LEASE_ENDED,
                table(q)
            )
        },
    )?;
    let mut found: Vec<Corpse> = (0..rows.len())
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
                lease_ended: at(9).as_bool()?,
            })
        })
        .collect();
    found.sort_by_key(|c| c.id);
    Ok(found)
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

/// Locks rows that must be buried, at most so many of each kind: expired, or due and past their
/// failures.
pub fn overdue(spi: &Spi, q: &Queue, limit: i64, now: Micros) -> Result<Vec<i64>> {
    let mut ids = lock(q, usize::MAX, || {
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
                    "(SELECT m.ctid, m.id FROM {t} m WHERE m.due <= $1 AND m.failures + {ended} \
                     >= $2 ORDER BY m.due LIMIT $3) UNION ALL (SELECT m.ctid, m.id FROM {t} m \
                     WHERE m.expires_at <= $1 AND {IDLE} ORDER BY m.expires_at LIMIT $3)"
                )
            },
        )?;
        Ok(places(&rows))
    })?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Locks the oldest messages that nobody holds, at most so many.
pub fn oldest(spi: &Spi, q: &Queue, limit: i64, now: Micros) -> Result<Vec<i64>> {
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut window = limit.saturating_add(8);
    loop {
        let mut found = 0;
        let ids = lock(q, wanted, || {
            let rows = run(
                spi,
                q,
                Kind::Oldest,
                &[Ty::Timestamptz, Ty::Int8],
                &[Value::timestamptz(now), Value::int8(window)],
                || {
                    format!(
                        "SELECT m.ctid, m.id FROM {} m WHERE {IDLE} ORDER BY m.id LIMIT $2",
                        table(q)
                    )
                },
            )?;
            found = rows.len() as i64;
            Ok(places(&rows))
        })?;
        if ids.len() == wanted || found < window {
            return Ok(ids);
        }
        window = window.saturating_mul(8);
    }
}

/// Locks those of `ids` that nobody holds.
pub fn idle(spi: &Spi, q: &Queue, ids: &[i64], now: Micros) -> Result<Vec<i64>> {
    lock(q, usize::MAX, || {
        let rows = run(
            spi,
            q,
            Kind::Idle,
            &[Ty::Timestamptz, Ty::Int8Array],
            &[Value::timestamptz(now), array::int8s(ids)],
            || {
                format!(
                    "SELECT m.ctid, m.id FROM pg_catalog.unnest($2) AS l(id) JOIN {} m ON \
                     m.id = l.id WHERE {IDLE}",
                    table(q)
                )
            },
        )?;
        Ok(places(&rows))
    })
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
