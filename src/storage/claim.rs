//! Handing messages out: look for candidates without locking anything, lock those wanted by their
//! place (`pg::tuple`), and write or remove the rows that are locked then.
//!
//! The common case is one look at the hand-out index. Only when something is due (a lease or a
//! delay ended, a message expired), or when nothing is ready, is there more to do.

use super::place::{self, Place};
use super::plans::{Kind, run};
use super::{LEASE_ENDED, message_columns, table};
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi::{Rows, Spi};
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};
use pg_broker_core::names::DEFAULT_PRIORITY;

/// What becomes of a claimed row.
#[derive(Clone, Copy)]
pub enum Take {
    /// Leased until then.
    Until(Micros),
    /// Removed.
    Away,
}

/// Which rows to look at.
#[derive(Clone, Copy)]
pub enum Among {
    /// Ready ones, unless anything is due or has expired: then none.
    Ready,
    /// The same without a look at what has expired.
    ReadyQuick,
    /// The same, from a bound on: what lies before it was seen to be finished.
    ReadyFrom(Bound),
    /// Ready ones.
    ReadyOnly,
    /// Those whose time has come and that may be handed out, longest due first.
    Due,
    /// What is due or expired, whatever its fate, up to a window, and ready ones.
    DueOrReady,
}

/// Where a look may start. Only ordinary messages have one: those of the default priority.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// No message with a smaller id was ready.
    pub from_id: i64,
    /// Nothing that was due until then was left.
    pub due_after: Micros,
}

/// A row that a reader may be after, or that must be buried.
#[derive(Clone, Copy)]
pub struct Candidate {
    pub place: Place,
    pub priority: i16,
    pub fate: Fate,
    /// A lease of it ended unsettled: a failure that is not yet counted.
    pub lease_ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Claimable,
    FailedOut,
    Expired,
}

/// How many due, and how many expired rows are looked at in one go.
const DUE_WINDOW: usize = 256;
const EXPIRED_WINDOW: usize = 64;

/// Not past its last allowed failure, counting a lease that ended. `$2` is the allowance.
const MAY_RETRY: &str = "($2 IS NULL OR m.failures + (CASE WHEN m.receipt IS NOT NULL THEN 1 \
     ELSE 0 END) < $2)";
const NOT_EXPIRED: &str = "(m.expires_at IS NULL OR m.expires_at > $1)";

fn text(q: &Queue, among: Among) -> String {
    let t = table(q);
    let ready = format!(
        "SELECT m.ctid, m.id, m.priority, 0, false FROM {t} m WHERE m.due IS NULL AND {NOT_EXPIRED}"
    );
    let in_order = "ORDER BY m.priority DESC, m.id LIMIT $3";
    let nothing_due =
        format!("(SELECT d.id FROM {t} d WHERE d.due <= $1 ORDER BY d.due LIMIT 1) IS NULL");
    match among {
        Among::ReadyOnly => format!("{ready} {in_order}"),
        Among::ReadyQuick => format!("{ready} AND {nothing_due} {in_order}"),
        Among::ReadyFrom(_) => {
            let nothing_due = nothing_due.replace("d.due <= $1", "d.due > $5 AND d.due <= $1");
            let part = |which: &str| format!("({ready} AND {which} AND {nothing_due} {in_order})");
            format!(
                "SELECT * FROM ({} UNION ALL {} UNION ALL {}) x LIMIT $3",
                part(&format!("m.priority > {DEFAULT_PRIORITY}")),
                part(&format!("m.priority = {DEFAULT_PRIORITY} AND m.id >= $4")),
                part(&format!("m.priority < {DEFAULT_PRIORITY}")),
            )
        }
        Among::Ready => format!(
            "{ready} AND {nothing_due} \
             AND (SELECT e.id FROM {t} e WHERE e.expires_at <= $1 AND e.due IS NULL \
             ORDER BY e.expires_at LIMIT 1) IS NULL {in_order}"
        ),
        Among::Due => format!(
            "SELECT m.ctid, m.id, m.priority, 0, m.receipt IS NOT NULL FROM {t} m \
             WHERE m.due <= $1 AND {NOT_EXPIRED} AND {MAY_RETRY} ORDER BY m.due LIMIT $3"
        ),
        Among::DueOrReady => format!(
            "(SELECT m.ctid, m.id, m.priority, CASE WHEN m.expires_at <= $1 THEN 2 WHEN {MAY_RETRY} \
             THEN 0 ELSE 1 END, m.receipt IS NOT NULL FROM {t} m WHERE m.due <= $1 ORDER BY m.due \
             LIMIT {DUE_WINDOW}) UNION ALL (SELECT m.ctid, m.id, m.priority, 2, false FROM {t} m \
             WHERE m.expires_at <= $1 AND m.due IS NULL ORDER BY m.expires_at \
             LIMIT {EXPIRED_WINDOW}) UNION ALL ({ready} {in_order})"
        ),
    }
}

/// Candidates, at most `limit` (of ready ones, with `DueOrReady`); nothing is locked.
pub fn candidates(
    spi: &Spi,
    q: &Queue,
    among: Among,
    limit: i64,
    now: Micros,
) -> Result<Vec<Candidate>> {
    let kind = match among {
        Among::Ready => Kind::Ready,
        Among::ReadyQuick => Kind::ReadyQuick,
        Among::ReadyFrom(_) => Kind::ReadyFrom,
        Among::ReadyOnly => Kind::ReadyOnly,
        Among::Due => Kind::Due,
        Among::DueOrReady => Kind::DueOrReady,
    };
    let mut types = vec![Ty::Timestamptz, Ty::Int4, Ty::Int8];
    let mut args = vec![
        Value::timestamptz(now),
        Value::opt(q.options.max_failures, Value::int4),
        Value::int8(limit),
    ];
    if let Among::ReadyFrom(bound) = among {
        types.extend([Ty::Int8, Ty::Timestamptz]);
        args.extend([
            Value::int8(bound.from_id),
            Value::timestamptz(bound.due_after),
        ]);
    }
    let rows = run(spi, q, kind, &types, &args, || text(q, among))?;
    Ok((0..rows.len())
        .filter_map(|i| {
            Some(Candidate {
                place: (rows.get(i, 0).as_tid()?, rows.get(i, 1).as_int8()?),
                priority: rows.get(i, 2).as_int2()?,
                fate: match rows.get(i, 3).as_int4()? {
                    1 => Fate::FailedOut,
                    2 => Fate::Expired,
                    _ => Fate::Claimable,
                },
                lease_ended: rows.get(i, 4).as_bool()?,
            })
        })
        .collect())
}

/// Hands out rows that this transaction has locked. They come with the columns of `mq.message`,
/// in any order.
pub fn take(spi: &Spi, q: &Queue, places: &[Place], take: Take, now: Micros) -> Result<Rows> {
    let leased = "'leased'::pg_catalog.text";
    let mut args = vec![
        (Ty::Timestamptz, Value::timestamptz(now)),
        (Ty::Text, Value::text(&q.name)),
    ];
    match take {
        Take::Until(due) => {
            args.push((Ty::Timestamptz, Value::timestamptz(due)));
            place::rows(spi, q, Kind::Lease, places, &args, || {
                format!(
                    "UPDATE {} m SET due=$4, receipt=mq_internal.new_receipt(), \
                     attempts=m.attempts + 1, read_at=$2, failures=m.failures + (CASE WHEN \
                     m.receipt IS NOT NULL THEN 1 ELSE 0 END), last_error=(CASE WHEN m.receipt IS \
                     NOT NULL THEN '{LEASE_ENDED}' ELSE m.last_error END) \
                     WHERE m.ctid = ANY ($1) RETURNING {}",
                    table(q),
                    message_columns("m.receipt", "m.attempts", leased)
                )
            })
        }
        Take::Away => {
            let rows = place::rows(spi, q, Kind::TakeAway, places, &args, || {
                format!(
                    "SELECT {} FROM {} m WHERE m.ctid = ANY ($1)",
                    message_columns("NULL::pg_catalog.int8", "m.attempts + 1", leased),
                    table(q),
                )
            })?;
            place::remove(q, places)?;
            Ok(rows)
        }
    }
}

/// Whether a reader would find anything to do now: to hand out, or to bury.
pub fn any_ready(spi: &Spi, q: &Queue, now: Micros) -> Result<bool> {
    let rows = run(
        spi,
        q,
        Kind::AnyReady,
        &[Ty::Timestamptz],
        &[Value::timestamptz(now)],
        || {
            let t = table(q);
            format!(
                "SELECT (SELECT m.id FROM {t} m WHERE m.due IS NULL ORDER BY m.priority DESC, m.id \
             LIMIT 1) IS NOT NULL OR (SELECT m.id FROM {t} m WHERE m.due <= $1 ORDER BY m.due \
             LIMIT 1) IS NOT NULL"
            )
        },
    )?;
    Ok(rows.get(0, 0).as_bool().unwrap_or(false))
}
