//! How many messages there are in which state, at a bounded cost: each state is counted up to a
//! limit, and beyond it taken from the statistics that PostgreSQL keeps anyway.

use super::plans::{Kind, run};
use super::table;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::rel;
use crate::pg::spi::Spi;
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};

/// States are counted exactly up to this many messages each.
pub const EXACT: i64 = 10_000;

pub struct Counts {
    pub ready: i64,
    pub delayed: i64,
    pub leased: i64,
    pub estimated: bool,
    /// When the oldest message that may be handed out now was sent.
    pub oldest_ready: Option<Micros>,
}

pub fn count(spi: &Spi, q: &Queue, now: Micros) -> Result<Counts> {
    let rows = run(
        spi,
        q,
        Kind::Count,
        &[Ty::Timestamptz, Ty::Int4],
        &[
            Value::timestamptz(now),
            Value::opt(q.options.max_failures, Value::int4),
        ],
        || {
            let t = table(q);
            let limited = |what: &str, order: &str| {
                format!(
                    "(SELECT pg_catalog.count(*) FROM (SELECT m.id FROM {t} m WHERE {what} \
                 ORDER BY {order} LIMIT {}) x)",
                    EXACT + 1
                )
            };
            let may = "($2 IS NULL OR m.failures + (CASE WHEN m.receipt IS NOT NULL THEN 1 ELSE \
                       0 END) < $2)";
            let alive = "(m.expires_at IS NULL OR m.expires_at > $1)";
            format!(
                "SELECT {}, {}, w.delayed, w.leased FROM (SELECT pg_catalog.count(*) FILTER (WHERE \
             x.receipt IS NULL) AS delayed, pg_catalog.count(*) FILTER (WHERE x.receipt IS NOT \
             NULL) AS leased FROM (SELECT m.receipt FROM {t} m WHERE m.due > $1 AND ({alive} OR \
             m.receipt IS NOT NULL) ORDER BY m.due LIMIT {}) x) w",
                limited(
                    &format!("m.due IS NULL AND {alive}"),
                    "m.priority DESC, m.id"
                ),
                limited(&format!("m.due <= $1 AND {alive} AND {may}"), "m.due"),
                2 * EXACT + 1,
            )
        },
    )?;
    let at = |col| rows.get(0, col).as_int8().unwrap_or(0);
    let (fresh, due, delayed, leased) = (at(0), at(1), at(2), at(3));
    let mut counts = Counts {
        ready: fresh + due,
        delayed,
        leased,
        estimated: false,
        oldest_ready: oldest_ready(spi, q, now)?,
    };
    let many_ready = fresh > EXACT || due > EXACT;
    let many_waiting = delayed + leased > 2 * EXACT;
    if many_ready || many_waiting {
        counts.estimated = true;
        let live = rel::live_rows(q.storage);
        if many_waiting {
            // The sample is the soonest due; leases are seldom many, so the rest is delayed.
            counts.delayed = counts.delayed.max(live - counts.leased - counts.ready);
        }
        if many_ready {
            counts.ready = counts.ready.max(live - counts.delayed - counts.leased);
        }
    }
    Ok(counts)
}

fn oldest_ready(spi: &Spi, q: &Queue, now: Micros) -> Result<Option<Micros>> {
    let rows = run(
        spi,
        q,
        Kind::OldestReady,
        &[Ty::Timestamptz],
        &[Value::timestamptz(now)],
        || {
            let t = table(q);
            let alive = "(m.expires_at IS NULL OR m.expires_at > $1)";
            format!(
                "SELECT pg_catalog.min(x.enqueued_at) FROM (SELECT f.enqueued_at FROM \
                 pg_catalog.generate_series(0, 9) AS p(priority), LATERAL (SELECT m.enqueued_at \
                 FROM {t} m WHERE m.due IS NULL AND {alive} AND m.priority = \
                 p.priority::pg_catalog.int2 ORDER BY m.priority DESC, m.id LIMIT 1) f UNION ALL \
                 (SELECT m.enqueued_at FROM {t} m WHERE m.due <= $1 AND {alive} ORDER BY m.due \
                 LIMIT 1)) x"
            )
        },
    )?;
    Ok(rows.get(0, 0).as_timestamptz())
}
