//! Statements behind dead-lettering, dropping the oldest, and retention. Rows are found without
//! locking anything and then locked by their place, as in `claim`.

use super::place::{self, Place};
use super::plans::{Kind, run};
use super::table;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::array;
use crate::pg::spi::Spi;
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};

/// A message about to leave for another queue; payload as it lies in storage.
pub struct Corpse {
    pub place: Place,
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

impl Corpse {
    pub fn id(&self) -> i64 {
        self.place.1
    }
}

/// Nobody holds it. `$1` is the time.
const IDLE: &str = "(m.receipt IS NULL OR m.due <= $1)";

/// Brings rows that this transaction has locked, in the order of their ids.
pub fn exhume(spi: &Spi, q: &Queue, places: &[Place], now: Micros) -> Result<Vec<Corpse>> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let now = [(Ty::Timestamptz, Value::timestamptz(now))];
    let rows = place::rows(spi, q, Kind::Exhume, places, &now, || {
        let ended = super::ended_lease("m", "$2");
        format!(
            "SELECT m.ctid, m.id, m.body, m.data, m.headers, m.priority, m.group_key, \
             m.failures + {ended}, CASE WHEN {ended} = 1 THEN '{}' ELSE m.last_error END, \
             COALESCE(m.expires_at <= $2, false), {ended} = 1 FROM {} m WHERE m.ctid = ANY ($1)",
            super::LEASE_ENDED,
            table(q)
        )
    })?;
    let mut found: Vec<Corpse> = (0..rows.len())
        .filter_map(|i| {
            let at = |col| rows.get(i, col);
            Some(Corpse {
                place: (at(0).as_tid()?, at(1).as_int8()?),
                body: at(2),
                data: at(3),
                headers: at(4),
                priority: at(5).as_int2()?,
                group_key: at(6).as_text(),
                failures: at(7).as_int4()?,
                last_error: at(8).as_text(),
                expired: at(9).as_bool()?,
                lease_ended: at(10).as_bool()?,
            })
        })
        .collect();
    found.sort_by_key(Corpse::id);
    Ok(found)
}

/// Keeps a row that cannot be buried now out of everybody's way until then.
pub fn postpone(spi: &Spi, q: &Queue, corpse: &Corpse, error: &str, until: Micros) -> Result<()> {
    let args = [
        (Ty::Int4, Value::int4(corpse.failures)),
        (Ty::Text, Value::text(error)),
        (Ty::Timestamptz, Value::timestamptz(until)),
    ];
    place::act(spi, q, Kind::Postpone, &[corpse.place], &args, || {
        format!(
            "UPDATE {} m SET due=$4, receipt=NULL, failures=$2, last_error=$3 \
             WHERE m.ctid = ANY ($1) RETURNING m.id",
            table(q)
        )
    })
    .map(|_| ())
}

/// A message whose dead-letter queue cannot take it is tried again after this long, or by the
/// next upkeep.
pub const POSTPONED: Micros = 60_000_000;

/// Locks rows that must be buried, at most so many of each kind: expired, or past their failures
/// and due, or postponed.
pub fn overdue(spi: &Spi, q: &Queue, limit: i64, now: Micros) -> Result<Vec<Place>> {
    let mut found = place::lock(q, usize::MAX, || {
        let rows = run(
            spi,
            q,
            Kind::Overdue,
            &[Ty::Timestamptz, Ty::Int4, Ty::Int8, Ty::Timestamptz],
            &[
                Value::timestamptz(now),
                Value::opt(q.options.max_failures, Value::int4),
                Value::int8(limit),
                Value::timestamptz(now.saturating_add(POSTPONED)),
            ],
            || {
                let t = table(q);
                let ended = super::ended_lease("m", "$1");
                format!(
                    "(SELECT m.ctid, m.id FROM {t} m WHERE m.due <= $4 AND {IDLE} AND \
                     m.failures + {ended} >= $2 ORDER BY m.due LIMIT $3) UNION ALL \
                     (SELECT m.ctid, m.id FROM {t} m WHERE m.expires_at <= $1 AND {IDLE} \
                     ORDER BY m.expires_at LIMIT $3)"
                )
            },
        )?;
        Ok(place::read(&rows))
    })?;
    found.sort_unstable_by_key(|p| p.1);
    found.dedup_by_key(|p| p.1);
    Ok(found)
}

/// Locks the oldest messages that nobody holds, at most so many.
pub fn oldest(spi: &Spi, q: &Queue, limit: i64, now: Micros) -> Result<Vec<Place>> {
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut window = limit.saturating_add(8);
    loop {
        let mut found = 0;
        let locked = place::lock(q, wanted, || {
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
            Ok(place::read(&rows))
        })?;
        if locked.len() == wanted || found < window {
            return Ok(locked);
        }
        window = window.saturating_mul(8);
    }
}

/// Locks those of `ids` that nobody holds.
pub fn idle(spi: &Spi, q: &Queue, ids: &[i64], now: Micros) -> Result<Vec<Place>> {
    place::lock(q, usize::MAX, || {
        let rows = run(
            spi,
            q,
            Kind::Idle,
            &[Ty::Timestamptz, Ty::Int8Array],
            &[Value::timestamptz(now), array::int8s(ids)],
            || {
                format!(
                    "SELECT f.ctid, f.id FROM pg_catalog.unnest($2) AS l(id) CROSS JOIN LATERAL \
                     (SELECT m.ctid, m.id FROM {} m WHERE m.id = l.id AND {IDLE} OFFSET 0) f",
                    table(q)
                )
            },
        )?;
        Ok(place::read(&rows))
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
    place::remove_found(
        spi,
        q,
        (Kind::Retention, Kind::RetentionRemove),
        "archive",
        &[Ty::Timestamptz, Ty::Int8],
        &[Value::timestamptz(before), Value::int8(limit)],
        || {
            format!(
                "SELECT a.ctid FROM {}_archive a WHERE a.archived_at < $1 ORDER BY a.archived_at \
                 LIMIT $2 FOR UPDATE SKIP LOCKED",
                table(q)
            )
        },
    )
}
