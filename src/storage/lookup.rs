//! Looking at a message, and mending one in place.

use super::plans::{Kind, run};
use super::{message_columns, state, table};
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi::{Rows, Spi};
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};

/// The message of that id, as its queue's view shows it.
pub fn get(spi: &Spi, q: &Queue, id: i64, now: Micros) -> Result<Rows> {
    run(
        spi,
        q,
        Kind::Get,
        &[Ty::Timestamptz, Ty::Text, Ty::Int8],
        &[
            Value::timestamptz(now),
            Value::text(&q.name),
            Value::int8(id),
        ],
        || {
            format!(
                "SELECT {} FROM {} m WHERE m.id = $3",
                message_columns("NULL::pg_catalog.int8", "m.attempts", &state("$1")),
                table(q)
            )
        },
    )
}

pub struct Repair {
    pub headers: Value,
    pub body: Value,
    pub data: Value,
    pub priority: Value,
    pub expires_at: Value,
}

#[derive(PartialEq, Eq)]
pub enum Repaired {
    Done,
    Leased,
    Gone,
}

/// Replaces what an owner may mend, unless the message is leased; a row that somebody has locked
/// counts as gone.
pub fn repair(spi: &Spi, q: &Queue, id: i64, r: &Repair, now: Micros) -> Result<Repaired> {
    let rows = run(
        spi,
        q,
        Kind::Repair,
        &[
            Ty::Int8,
            Ty::Timestamptz,
            Ty::Jsonb,
            Ty::Jsonb,
            Ty::Bytea,
            Ty::Int2,
            Ty::Timestamptz,
        ],
        &[
            Value::int8(id),
            Value::timestamptz(now),
            r.headers,
            r.body,
            r.data,
            r.priority,
            r.expires_at,
        ],
        || {
            let t = table(q);
            format!(
                "WITH c AS MATERIALIZED (SELECT m.id, (m.receipt IS NOT NULL AND m.due > $2) AS \
                 leased FROM {t} m WHERE m.id = $1 FOR UPDATE SKIP LOCKED), \
                 done AS (UPDATE {t} m SET headers=$3, body=$4, data=$5, priority=$6, \
                 expires_at=$7 FROM c WHERE m.id = c.id AND NOT c.leased RETURNING m.id) \
                 SELECT c.leased FROM c"
            )
        },
    )?;
    Ok(match rows.get(0, 0).as_bool() {
        None => Repaired::Gone,
        Some(true) => Repaired::Leased,
        Some(false) => Repaired::Done,
    })
}
