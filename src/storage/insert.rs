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

/// Many messages that share their times and priority and have JSON bodies. Most have nothing else:
/// then nothing else is passed.
pub fn many(spi: &Spi, q: &Queue, list: &[Message], now: Micros) -> Result<()> {
    let Some(first) = list.first() else {
        return Ok(());
    };
    let column = |f: &dyn Fn(&Message) -> Value, ty| {
        array::build(&list.iter().map(f).collect::<Vec<_>>(), ty)
    };
    let text = |v: &Option<String>| Value::opt(v.as_deref(), Value::text);
    let mut types = vec![
        Ty::Timestamptz,
        Ty::Timestamptz,
        Ty::Timestamptz,
        Ty::Int2,
        Ty::Int8Array,
        Ty::JsonbArray,
    ];
    let mut args = vec![
        Value::timestamptz(now),
        Value::opt(first.due, Value::timestamptz),
        Value::opt(first.expires_at, Value::timestamptz),
        Value::int2(first.priority),
        column(&|m| Value::int8(m.id), Ty::Int8),
        column(&|m| m.body, Ty::Jsonb),
    ];
    let is_plain =
        |m: &Message| m.headers.is_null() && m.group_key.is_none() && m.dedup_key.is_none();
    let (kind, columns, rows) = if list.iter().all(is_plain) {
        (
            Kind::InsertPlain,
            "id, body",
            "pg_catalog.unnest($5), pg_catalog.unnest($6)",
        )
    } else {
        types.extend([Ty::JsonbArray, Ty::TextArray, Ty::TextArray]);
        args.extend([
            column(&|m| m.headers, Ty::Jsonb),
            column(&|m| text(&m.group_key), Ty::Text),
            column(&|m| text(&m.dedup_key), Ty::Text),
        ]);
        (
            Kind::InsertMany,
            "id, body, headers, group_key, dedup_key",
            "l.* FROM ROWS FROM (pg_catalog.unnest($5), pg_catalog.unnest($6), \
             pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9)) AS l",
        )
    };
    run(spi, q, kind, &types, &args, || {
        format!(
            "INSERT INTO {} (enqueued_at, due, expires_at, priority, {columns}) \
             SELECT $1, $2, $3, $4, {rows}",
            table(q)
        )
    })
    .map(|_| ())
}
