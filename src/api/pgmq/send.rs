//! pgmq.send and pgmq.send_batch: the overloads differ in where headers and delay are, and whether that
//! is in seconds or a time.

use super::{SEND, moment, open, raised, seconds_from_now};
use crate::api::args;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::entry::Call;
use crate::pg::time::{self, Micros};
use crate::pg::value::{Ty, Value};
use crate::queue::send::{self, Wish};
use crate::sql_function;
use crate::storage::insert::Message;

sql_function!(pgmq_send, pg_finfo_pgmq_send, now);
sql_function!(pgmq_send_headers, pg_finfo_pgmq_send_headers, headers);
sql_function!(pgmq_send_delay, pg_finfo_pgmq_send_delay, delay);
sql_function!(pgmq_send_at, pg_finfo_pgmq_send_at, at);
sql_function!(
    pgmq_send_headers_delay,
    pg_finfo_pgmq_send_headers_delay,
    headers_delay
);
sql_function!(
    pgmq_send_headers_at,
    pg_finfo_pgmq_send_headers_at,
    headers_at
);
sql_function!(pgmq_send_batch, pg_finfo_pgmq_send_batch, many_now);
sql_function!(
    pgmq_send_batch_headers,
    pg_finfo_pgmq_send_batch_headers,
    many_headers
);
sql_function!(
    pgmq_send_batch_delay,
    pg_finfo_pgmq_send_batch_delay,
    many_delay
);
sql_function!(pgmq_send_batch_at, pg_finfo_pgmq_send_batch_at, many_at);
sql_function!(
    pgmq_send_batch_headers_delay,
    pg_finfo_pgmq_send_batch_headers_delay,
    many_headers_delay
);
sql_function!(
    pgmq_send_batch_headers_at,
    pg_finfo_pgmq_send_batch_headers_at,
    many_headers_at
);

/// When a message is to be handed out.
#[derive(Clone, Copy)]
enum When {
    Now,
    /// In so many seconds: the argument.
    Delay(usize),
    /// At a time: the argument.
    At(usize),
}

impl When {
    fn due(self, call: &Call, q: &Queue, now: Micros) -> Result<Option<Micros>> {
        let due = match self {
            When::Now => return Ok(None),
            When::Delay(n) => seconds_from_now(call, n, q, now)?,
            When::At(n) => moment(call, n, q, now)?,
        };
        Ok(Some(due).filter(|&due| due > now))
    }
}

/// A message, as large as the queue allows. It may have no body, and headers that are no object.
pub(super) fn message(
    q: &Queue,
    body: Value,
    headers: Value,
    due: Option<Micros>,
    now: Micros,
) -> Result<Message> {
    send::check_size(q, "msg", body, headers)?;
    let how = send::how(q, &Wish::default(), now)?;
    Ok(Message {
        id: 0,
        due,
        expires_at: how.expires_at,
        priority: how.priority,
        group_key: None,
        dedup_key: None,
        headers,
        body,
        data: Value::NULL,
    })
}

fn one(call: &Call, headers: Value, when: When) -> Result<Value> {
    let q = open(call, "pgmq.send()", &SEND)?;
    let now = time::now();
    let due = when.due(call, &q, now)?;
    let message = message(&q, call.arg(1), headers, due, now)?;
    send::one(&q, message, now).map(Value::int8)
}

fn now(call: &Call) -> Result<Value> {
    one(call, Value::NULL, When::Now)
}

fn headers(call: &Call) -> Result<Value> {
    one(call, call.arg(2), When::Now)
}

fn delay(call: &Call) -> Result<Value> {
    one(call, Value::NULL, When::Delay(2))
}

fn at(call: &Call) -> Result<Value> {
    one(call, Value::NULL, When::At(2))
}

fn headers_delay(call: &Call) -> Result<Value> {
    one(call, call.arg(2), When::Delay(3))
}

fn headers_at(call: &Call) -> Result<Value> {
    one(call, call.arg(2), When::At(3))
}

fn many(call: &Call, headers: Value, when: When) -> Result<Value> {
    let list = |value, name| args::list("", name, value, Ty::Jsonb);
    let bodies = list(call.arg(1), "msgs")?.unwrap_or_default();
    if bodies.is_empty() {
        return Err(raised("msgs cannot be NULL or empty"));
    }
    let headers = list(headers, "headers")?;
    if let Some(headers) = &headers
        && headers.len() != bodies.len()
    {
        return Err(raised(format!(
            "headers array length ({}) must match msgs array length ({})",
            headers.len(),
            bodies.len()
        )));
    }
    let q = open(call, "pgmq.send_batch()", &SEND)?;
    let now = time::now();
    let due = when.due(call, &q, now)?;
    let header = |i: usize| headers.as_ref().and_then(|h| h.get(i).copied());
    let messages = bodies
        .iter()
        .enumerate()
        .map(|(i, body)| message(&q, *body, header(i).unwrap_or(Value::NULL), due, now))
        .collect::<Result<Vec<_>>>()?;
    let sink = call.column();
    for id in send::many(&q, messages, now)? {
        sink.values(&[Value::int8(id)]);
    }
    Ok(Value::NULL)
}

fn many_now(call: &Call) -> Result<Value> {
    many(call, Value::NULL, When::Now)
}

fn many_headers(call: &Call) -> Result<Value> {
    many(call, call.arg(2), When::Now)
}

fn many_delay(call: &Call) -> Result<Value> {
    many(call, Value::NULL, When::Delay(2))
}

fn many_at(call: &Call) -> Result<Value> {
    many(call, Value::NULL, When::At(2))
}

fn many_headers_delay(call: &Call) -> Result<Value> {
    many(call, call.arg(2), When::Delay(3))
}

fn many_headers_at(call: &Call) -> Result<Value> {
    many(call, call.arg(2), When::At(3))
}
