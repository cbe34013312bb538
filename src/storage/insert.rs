//! New rows: one, or many at once.

use super::plans::{Kind, run};
use super::table;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::array;
use crate::pg::rel;
use crate::pg::spi::Spi;
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};

/// A message on its way into a queue; payload and headers are carried as they came.
#[derive(Clone)]
pub struct Message {
    pub id: i64,
    pub due: Option<Micros>,
    pub expires_at: Option<Micros>,
    pub priority: i16,
    pub group_key: Option<String>,
    pub dedup_key: Option<String>,
    pub headers: Value,
    pub body: Value,
    pub data: Value,
}

/// An id for a new message. Never given twice, also when the sender rolls back.
pub fn new_id(q: &Queue) -> i64 {
    rel::nextval(q.sequence)
}

/// Ids for so many new messages.
pub fn new_ids(q: &Queue, n: usize) -> Vec<i64> {
    rel::nextvals(q.sequence, n)
}

pub fn one(spi: &Spi, q: &Queue, m: &Message, now: Micros) -> Result<()> {
    run(
        spi,
        q,
        Kind::Insert,
        &[
            Ty::Int8,
            Ty::Timestamptz,
            Ty::Timestamptz,
            Ty::Timestamptz,
            Ty::Int2,
            Ty::Text,
            Ty::Text,
            Ty::Jsonb,
            Ty::Jsonb,
            Ty::Bytea,
        ],
        &[
            Value::int8(m.id),
            Value::timestamptz(now),
            Value::opt(m.due, Value::timestamptz),
            Value::opt(m.expires_at, Value::timestamptz),
            Value::int2(m.priority),
            Value::opt(m.group_key.as_deref(), Value::text),
            Value::opt(m.dedup_key.as_deref(), Value::text),
            m.headers,
            m.body,
            m.data,
        ],
        || {
            format!(
                "INSERT INTO {} (id, enqueued_at, due, expires_at, priority, group_key, \
                 dedup_key, headers, body, data) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                table(q)
            )
        },
    )
    .map(|_| ())
}

/// Many messages with nothing but a body, that share their times and priority.
fn many_plain(spi: &Spi, q: &Queue, list: &[Message], now: Micros) -> Result<()> {
    let Some(first) = list.first() else {
        return Ok(());
    };
    run(
        spi,
        q,
        Kind::InsertPlain,
        &[
            Ty::Timestamptz,
            Ty::Timestamptz,
            Ty::Timestamptz,
            Ty::Int2,
            Ty::Int8Array,
            Ty::JsonbArray,
        ],
        &[
            Value::timestamptz(now),
            Value::opt(first.due, Value::timestamptz),
            Value::opt(first.expires_at, Value::timestamptz),
            Value::int2(first.priority),
            array::int8s(&list.iter().map(|m| m.id).collect::<Vec<_>>()),
            array::build(&list.iter().map(|m| m.body).collect::<Vec<_>>(), Ty::Jsonb),
        ],
        || {
            format!(
                "INSERT INTO {} (enqueued_at, due, expires_at, priority, id, body) SELECT $1, $2, \
                 $3, $4, pg_catalog.unnest($5), pg_catalog.unnest($6)",
                table(q)
            )
        },
    )
    .map(|_| ())
}

/// Many messages that share their times and priority and have JSON bodies.
pub fn many(spi: &Spi, q: &Queue, list: &[Message], now: Micros) -> Result<()> {
    let Some(first) = list.first() else {
        return Ok(());
    };
    if list
        .iter()
        .all(|m| m.headers.is_null() && m.group_key.is_none() && m.dedup_key.is_none())
    {
        return many_plain(spi, q, list, now);
    }
    let column = |f: &dyn Fn(&Message) -> Value, ty| {
        array::build(&list.iter().map(f).collect::<Vec<_>>(), ty)
    };
    let text = |v: &Option<String>| Value::opt(v.as_deref(), Value::text);
    run(
        spi,
        q,
        Kind::InsertMany,
        &[
            Ty::Timestamptz,
            Ty::Timestamptz,
            Ty::Timestamptz,
            Ty::Int2,
            Ty::Int8Array,
            Ty::JsonbArray,
            Ty::JsonbArray,
            Ty::TextArray,
            Ty::TextArray,
        ],
        &[
            Value::timestamptz(now),
            Value::opt(first.due, Value::timestamptz),
            Value::opt(first.expires_at, Value::timestamptz),
            Value::int2(first.priority),
            column(&|m| Value::int8(m.id), Ty::Int8),
            column(&|m| m.body, Ty::Jsonb),
            column(&|m| m.headers, Ty::Jsonb),
            column(&|m| text(&m.group_key), Ty::Text),
            column(&|m| text(&m.dedup_key), Ty::Text),
        ],
        || {
            format!(
                "INSERT INTO {} (enqueued_at, due, expires_at, priority, id, body, headers, \
                 group_key, dedup_key) SELECT $1, $2, $3, $4, l.* FROM ROWS FROM \
                 (pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), \
                 pg_catalog.unnest($8), pg_catalog.unnest($9)) AS l(id, body, headers, \
                 group_key, dedup_key)",
                table(q)
            )
        },
    )
    .map(|_| ())
}
