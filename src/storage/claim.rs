//! Handing messages out: find ready rows, take them with skip-locked semantics.
//!
//! The common case is one statement over the hand-out index. Only when something is due (a lease
//! or a delay ended, a message expired), or when nothing is ready, is there more to do.

use super::plans::{Kind, run};
use super::{LEASE_ENDED, message_columns, table};
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::array;
use crate::pg::spi::{Rows, Spi};
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};

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
pub enum Among<'a> {
    /// Ready ones, unless anything is due: then none.
    Ready,
    /// Ready ones.
    ReadyOnly,
    /// Those whose time has come, longest due first.
    Due,
    /// These, in this order.
    Listed(&'a [i64]),
}

/// Not past its last allowed failure, counting a lease that ended. `$3` is the allowance.
const MAY_RETRY: &str = "($3 IS NULL OR m.failures + (CASE WHEN m.receipt IS NOT NULL THEN 1 \
     ELSE 0 END) < $3)";
const NOT_EXPIRED: &str = "(m.expires_at IS NULL OR m.expires_at > $1)";

fn source(q: &Queue, among: Among) -> String {
    let t = table(q);
    match among {
        Among::Ready => format!(
            "FROM {t} m WHERE m.due IS NULL AND {NOT_EXPIRED} AND (SELECT d.id FROM {t} d WHERE d.due <= $1 ORDER BY d.due LIMIT 1) IS NULL AND \
             (SELECT e.id FROM {t} e WHERE e.expires_at <= $1 AND e.due IS NULL \
             ORDER BY e.expires_at LIMIT 1) IS NULL ORDER BY m.priority DESC, m.id"
        ),
        Among::ReadyOnly => format!(
            "FROM {t} m WHERE m.due IS NULL AND {NOT_EXPIRED} ORDER BY m.priority DESC, m.id"
        ),
        Among::Due => {
            format!("FROM {t} m WHERE m.due <= $1 AND {NOT_EXPIRED} AND {MAY_RETRY} ORDER BY m.due")
        }
        Among::Listed(_) => format!(
            "FROM pg_catalog.unnest($6) WITH ORDINALITY AS l(id, n) JOIN {t} m ON m.id = l.id \
             WHERE (m.due IS NULL OR m.due <= $1) AND {NOT_EXPIRED} AND {MAY_RETRY} ORDER BY l.n"
        ),
    }
}

fn text(q: &Queue, among: Among, take: Take) -> String {
    let t = table(q);
    let picked = format!(
        "WITH c AS MATERIALIZED (SELECT m.id {} LIMIT $4 FOR UPDATE OF m SKIP LOCKED) ",
        source(q, among)
    );
    match take {
        Take::Until(_) => format!(
            "{picked} UPDATE {t} m SET due=$5, receipt=mq_internal.new_receipt(), \
             attempts=m.attempts + 1, read_at=$1, failures=m.failures + (CASE WHEN m.receipt IS \
             NOT NULL THEN 1 ELSE 0 END), last_error=(CASE WHEN m.receipt IS NOT NULL THEN \
             '{LEASE_ENDED}' ELSE m.last_error END) FROM c WHERE m.id = c.id \
             RETURNING {}",
            message_columns("m.receipt", "m.attempts", "'leased'::pg_catalog.text")
        ),
        Take::Away => format!(
            "{picked} DELETE FROM {t} m USING c WHERE m.id = c.id RETURNING {}",
            message_columns(
                "NULL::pg_catalog.int8",
                "m.attempts + 1",
                "'leased'::pg_catalog.text"
            )
        ),
    }
}

fn kind(among: Among, take: Take) -> Kind {
    match (among, take) {
        (Among::Ready, Take::Until(_)) => Kind::ReadReady,
        (Among::ReadyOnly, Take::Until(_)) => Kind::ReadReadyOnly,
        (Among::Due, Take::Until(_)) => Kind::ReadDue,
        (Among::Listed(_), Take::Until(_)) => Kind::ReadListed,
        (Among::Ready, Take::Away) => Kind::PopReady,
        (Among::ReadyOnly, Take::Away) => Kind::PopReadyOnly,
        (Among::Due, Take::Away) => Kind::PopDue,
        (Among::Listed(_), Take::Away) => Kind::PopListed,
    }
}

/// Claims up to `qty` rows. The rows returned have the columns of `mq.message`, in any order.
pub fn claim(
    spi: &Spi,
    q: &Queue,
    among: Among,
    take: Take,
    qty: i64,
    now: Micros,
) -> Result<Rows> {
    const TYPES: [Ty; 6] = [
        Ty::Timestamptz,
        Ty::Text,
        Ty::Int4,
        Ty::Int8,
        Ty::Timestamptz,
        Ty::Int8Array,
    ];
    let args = [
        Value::timestamptz(now),
        Value::text(&q.name),
        Value::opt(q.options.max_failures, Value::int4),
        Value::int8(qty),
        match take {
            Take::Until(due) => Value::timestamptz(due),
            Take::Away => Value::NULL,
        },
        match among {
            Among::Listed(ids) => array::int8s(ids),
            _ => Value::NULL,
        },
    ];
    let used = if matches!(among, Among::Listed(_)) {
        6
    } else {
        5
    };
    run(
        spi,
        q,
        kind(among, take),
        &TYPES[..used],
        &args[..used],
        || text(q, among, take),
    )
}

/// A row that a reader may be after, or that must be buried.
#[derive(Clone, Copy)]
pub struct Candidate {
    pub id: i64,
    pub priority: i16,
    pub fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Claimable,
    FailedOut,
    Expired,
}

/// How many due rows are looked at in one go.
const DUE_WINDOW: usize = 256;
const EXPIRED_WINDOW: usize = 64;

/// What is due or expired, and the first `ready` ready rows; nothing is locked.
pub fn candidates(spi: &Spi, q: &Queue, ready: i64, now: Micros) -> Result<Vec<Candidate>> {
    let rows = run(
        spi,
        q,
        Kind::Candidates,
        &[Ty::Timestamptz, Ty::Int4, Ty::Int8],
        &[
            Value::timestamptz(now),
            Value::opt(q.options.max_failures, Value::int4),
            Value::int8(ready),
        ],
        || {
            let t = table(q);
            format!(
                "(SELECT d.id, d.priority, CASE WHEN d.expires_at <= $1 THEN 2 WHEN d.failures + \
                 (CASE WHEN d.receipt IS NOT NULL THEN 1 ELSE 0 END) >= $2 THEN 1 ELSE 0 END \
                 FROM {t} d WHERE d.due <= $1 ORDER BY d.due LIMIT {DUE_WINDOW}) UNION ALL \
                 (SELECT e.id, e.priority, 2 FROM {t} e WHERE e.expires_at <= $1 AND e.due IS \
                 NULL ORDER BY e.expires_at LIMIT {EXPIRED_WINDOW}) UNION ALL \
                 (SELECT r.id, r.priority, 0 FROM {t} r WHERE r.due IS NULL AND (r.expires_at IS \
                 NULL OR r.expires_at > $1) ORDER BY r.priority DESC, r.id LIMIT $3)"
            )
        },
    )?;
    Ok((0..rows.len())
        .filter_map(|i| {
            Some(Candidate {
                id: rows.get(i, 0).as_int8()?,
                priority: rows.get(i, 1).as_int2()?,
                fate: match rows.get(i, 2).as_int4()? {
                    1 => Fate::FailedOut,
                    2 => Fate::Expired,
                    _ => Fate::Claimable,
                },
            })
        })
        .collect())
}

/// Whether anything may be handed out now.
pub fn any_ready(spi: &Spi, q: &Queue, now: Micros) -> Result<bool> {
    let rows = run(
        spi,
        q,
        Kind::AnyReady,
        &[Ty::Timestamptz, Ty::Int4],
        &[
            Value::timestamptz(now),
            Value::opt(q.options.max_failures, Value::int4),
        ],
        || {
            let t = table(q);
            let may = MAY_RETRY.replace("$3", "$2");
            format!(
                "SELECT (SELECT m.id FROM {t} m WHERE m.due IS NULL AND {NOT_EXPIRED} \
                 ORDER BY m.priority DESC, m.id LIMIT 1) IS NOT NULL OR (SELECT m.id FROM {t} m \
                 WHERE m.due <= $1 AND {NOT_EXPIRED} AND {may} ORDER BY m.due LIMIT 1) \
                 IS NOT NULL"
            )
        },
    )?;
    Ok(rows.get(0, 0).as_bool().unwrap_or(false))
}
