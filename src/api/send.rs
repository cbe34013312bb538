//! mq.send, mq.send_text, mq.send_bytes, mq.send_batch.

use super::args;
use crate::catalog::{self, Queue, Right};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::time;
use crate::pg::value::{Ty, Value};
use crate::queue::send::{self, Wish};
use crate::sql_function;
use crate::storage::insert::Message;
use std::rc::Rc;

sql_function!(mq_send, pg_finfo_mq_send, send_json);
sql_function!(mq_send_text, pg_finfo_mq_send_text, send_text);
sql_function!(mq_send_bytes, pg_finfo_mq_send_bytes, send_bytes);
sql_function!(mq_send_batch, pg_finfo_mq_send_batch, send_batch);

fn open(call: &Call, what: &'static str) -> Result<Rc<Queue>> {
    rel::require_writable(what)?;
    let name = args::queue_name(call)?;
    catalog::open(&name, Lock::Write, Right::Has(Privilege::Insert))
}

/// Arguments 2 to 8 are the same in every form of sending one message.
fn send_one(
    call: &Call,
    q: &Queue,
    argument: &'static str,
    body: Value,
    data: Value,
) -> Result<Value> {
    let now = time::now();
    let headers = call.arg(2);
    let payload = if body.is_null() { data } else { body };
    send::check_payload(q, argument, payload, headers)?;
    let wish = Wish {
        delay: call.arg(3).as_interval(),
        deliver_at: call.arg(4).as_timestamptz(),
        priority: call.arg(5).as_int4(),
        ttl: call.arg(8).as_interval(),
        expires_at: None,
    };
    let how = send::how(q, &wish, now)?;
    let group_key = call.arg(6).as_text();
    send::check_group(q, group_key.as_deref())?;
    let message = Message {
        id: 0,
        due: how.due,
        expires_at: how.expires_at,
        priority: how.priority,
        group_key,
        dedup_key: call.arg(7).as_text(),
        headers,
        body,
        data,
    };
    send::one(q, message, now).map(Value::int8)
}

fn send_json(call: &Call) -> Result<Value> {
    let q = open(call, "mq.send()")?;
    send_one(call, &q, "body", call.arg(1), Value::NULL)
}

fn send_text(call: &Call) -> Result<Value> {
    let q = open(call, "mq.send_text()")?;
    let body = match call.arg(1).as_text() {
        Some(text) => Value::jsonb_string(&text),
        None => Value::NULL,
    };
    send_one(call, &q, "body", body, Value::NULL)
}

fn send_bytes(call: &Call) -> Result<Value> {
    let q = open(call, "mq.send_bytes()")?;
    send_one(call, &q, "data", Value::NULL, call.arg(1))
}

/// An optional array beside `bodies`, one element a message.
fn beside(
    call: &Call,
    q: &Queue,
    n: usize,
    name: &'static str,
    ty: Ty,
    len: usize,
) -> Result<Vec<Value>> {
    match args::list(&q.name, name, call.arg(n), ty)? {
        None => Ok(vec![Value::NULL; len]),
        Some(list) => {
            args::same_length(&q.name, name, list.len(), "bodies", len)?;
            Ok(list)
        }
    }
}

fn send_batch(call: &Call) -> Result<Value> {
    let q = open(call, "mq.send_batch()")?;
    let now = time::now();
    let bodies = args::list(&q.name, "bodies", call.arg(1), Ty::Jsonb)?
        .ok_or_else(|| Error::null(&q.name, "bodies"))?;
    let len = bodies.len();
    let headers = beside(call, &q, 2, "headers", Ty::Jsonb, len)?;
    let groups = beside(call, &q, 3, "group_keys", Ty::Text, len)?;
    let keys = beside(call, &q, 4, "dedup_keys", Ty::Text, len)?;
    let wish = Wish {
        delay: call.arg(5).as_interval(),
        deliver_at: call.arg(6).as_timestamptz(),
        priority: call.arg(7).as_int4(),
        ttl: call.arg(8).as_interval(),
        expires_at: None,
    };
    let how = send::how(&q, &wish, now)?;
    let mut messages = Vec::with_capacity(len);
    for i in 0..len {
        if bodies[i].is_null() {
            return Err(Error::argument_hint(
                &q.name,
                "bodies",
                "must not hold a null",
                "A JSON null is written 'null'::jsonb.",
            ));
        }
        send::check_payload(&q, "bodies", bodies[i], headers[i])?;
        let group_key = groups[i].as_text();
        send::check_group(&q, group_key.as_deref())?;
        messages.push(Message {
            id: 0,
            due: how.due,
            expires_at: how.expires_at,
            priority: how.priority,
            group_key,
            dedup_key: keys[i].as_text(),
            headers: headers[i],
            body: bodies[i],
            data: Value::NULL,
        });
    }
    let sink = call.column();
    for id in send::many(&q, messages, now)? {
        sink.values(&[Value::int8(id)]);
    }
    Ok(Value::NULL)
}
