//! Looking at a message, and mending one in place.

use super::place;
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
        &[Ty::Int8, Ty::Timestamptz, Ty::Text],
        &[
            Value::int8(id),
            Value::timestamptz(now),
            Value::text(&q.name),
        ],
        || {
            format!(
                "SELECT {} FROM {} m WHERE m.id = $1",
                message_columns("NULL::pg_catalog.int8", "m.attempts", &state("$2")),
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

/// Replaces what an owner may mend, unless the message is leased. Waits for whoever has the row
/// locked.
pub fn repair(spi: &Spi, q: &Queue, id: i64, r: &Repair, now: Micros) -> Result<Repaired> {
    let rows = run(
        spi,
        q,
        Kind::FindToRepair,
        &[Ty::Int8, Ty::Timestamptz],
        &[Value::int8(id), Value::timestamptz(now)],
        || {
            format!(
                "SELECT m.ctid, m.id, m.receipt IS NOT NULL AND m.due > $2 FROM {} m \
                 WHERE m.id = $1 FOR UPDATE",
                table(q)
            )
        },
    )?;
    match rows.get(0, 2).as_bool() {
        None => return Ok(Repaired::Gone),
        Some(true) => return Ok(Repaired::Leased),
        Some(false) => {}
    }
    let args = [
        (Ty::Jsonb, r.headers),
        (Ty::Jsonb, r.body),
        (Ty::Bytea, r.data),
        (Ty::Int2, r.priority),
        (Ty::Timestamptz, r.expires_at),
    ];
    place::act(spi, q, Kind::Repair, &place::read(&rows), &args, || {
        format!(
            "UPDATE {} m SET headers=$2, body=$3, data=$4, priority=$5, expires_at=$6 \
             WHERE m.ctid = ANY ($1) RETURNING m.id",
            table(q)
        )
    })?;
    Ok(Repaired::Done)
}
