//! mq.publish, mq.publish_text, mq.publish_bytes, mq.publish_batch, and inserting into an exchange.

use super::args;
use crate::catalog::Right;
use crate::catalog::exchange::{self, Exchange};
use crate::error::{Error, Result};
use crate::pg::array;
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::time;
use crate::pg::trigger::{Row, Trigger};
use crate::pg::value::{Ty, Value};
use crate::queue::publish::{self, Letter, Terms};
use crate::queue::send::Wish;
use crate::sql_function;
use crate::storage::exchanges::column;
use std::rc::Rc;

sql_function!(mq_publish, pg_finfo_mq_publish, publish_json);
sql_function!(mq_publish_text, pg_finfo_mq_publish_text, publish_text);
sql_function!(mq_publish_bytes, pg_finfo_mq_publish_bytes, publish_bytes);
sql_function!(mq_publish_batch, pg_finfo_mq_publish_batch, publish_batch);
sql_function!(mq_exchange_insert, pg_finfo_mq_exchange_insert, insert);

fn open(call: &Call, what: &'static str) -> Result<Rc<Exchange>> {
    rel::require_writable(what)?;
    let name = args::exchange_name(call)?;
    exchange::open(&name, Lock::Write, Right::Has(Privilege::Insert))
}

fn null(e: &Exchange, argument: &'static str) -> Error {
    Error::ExchangeArgument {
        exchange: e.name.clone(),
        argument,
        why: "must not be null".into(),
    }
}

/// The other arguments are the same in every form of publishing one message.
fn publish_one(
    call: &Call,
    e: &Rc<Exchange>,
    argument: &'static str,
    body: Value,
    data: Value,
) -> Result<Value> {
    if body.is_null() && data.is_null() {
        return Err(null(e, argument));
    }
    let letter = Letter {
        key: call.arg(1).as_text(),
        headers: call.arg(3),
        body,
        data,
        group_key: call.arg(7).as_text(),
        dedup_key: call.arg(8).as_text(),
    };
    let terms = Terms {
        argument,
        wish: Wish {
            delay: call.arg(4).as_interval(),
            deliver_at: call.arg(5).as_timestamptz(),
            priority: call.arg(6).as_int4(),
            ttl: call.arg(9).as_interval(),
            expires_at: None,
        },
        mandatory: call.arg(10).as_bool() == Some(true),
        now: time::now(),
    };
    publish::one(e, letter, &terms).map(Value::int4)
}

fn publish_json(call: &Call) -> Result<Value> {
    let e = open(call, "mq.publish()")?;
    publish_one(call, &e, "body", call.arg(2), Value::NULL)
}

fn publish_text(call: &Call) -> Result<Value> {
    let e = open(call, "mq.publish_text()")?;
    let body = Value::opt(call.arg(2).as_text(), |text| Value::jsonb_string(&text));
    publish_one(call, &e, "body", body, Value::NULL)
}

fn publish_bytes(call: &Call) -> Result<Value> {
    let e = open(call, "mq.publish_bytes()")?;
    publish_one(call, &e, "data", Value::NULL, call.arg(2))
}

fn publish_batch(call: &Call) -> Result<Value> {
    let e = open(call, "mq.publish_batch()")?;
    let refused = |argument: &'static str, why: String| Error::ExchangeArgument {
        exchange: e.name.clone(),
        argument,
        why,
    };
    let list = |n: usize, name: &'static str, ty: Ty| {
        array::elements(call.arg(n), ty)
            .map_err(|_| refused(name, "must have one dimension".into()))
    };
    let bodies = list(2, "bodies", Ty::Jsonb)?.ok_or_else(|| null(&e, "bodies"))?;
    let len = bodies.len();
    let beside = |n: usize, name: &'static str, ty: Ty| match list(n, name, ty)? {
        None => Ok(vec![Value::NULL; len]),
        Some(list) if list.len() == len => Ok(list),
        Some(list) => Err(refused(
            name,
            format!("has {} elements where bodies has {len}", list.len()),
        )),
    };
    let keys = beside(1, "keys", Ty::Text)?;
    let headers = beside(3, "headers", Ty::Jsonb)?;
    let groups = beside(4, "group_keys", Ty::Text)?;
    let dedup = beside(5, "dedup_keys", Ty::Text)?;
    let mut letters = Vec::with_capacity(len);
    for i in 0..len {
        if bodies[i].is_null() {
            return Err(refused("bodies", "must not hold a null".into()));
        }
        letters.push(Letter {
            key: keys[i].as_text(),
            headers: headers[i],
            body: bodies[i],
            data: Value::NULL,
            group_key: groups[i].as_text(),
            dedup_key: dedup[i].as_text(),
        });
    }
    let terms = Terms {
        argument: "bodies",
        wish: Wish {
            delay: call.arg(6).as_interval(),
            deliver_at: call.arg(7).as_timestamptz(),
            priority: call.arg(8).as_int4(),
            ttl: call.arg(9).as_interval(),
            expires_at: None,
        },
        mandatory: call.arg(10).as_bool() == Some(true),
        now: time::now(),
    };
    let sink = call.column();
    for n in publish::many(&e, letters, &terms)? {
        sink.values(&[Value::int4(n)]);
    }
    Ok(Value::NULL)
}

/// A row inserted into an exchange. PostgreSQL has checked the caller's right to.
fn insert(call: &Call) -> Result<Value> {
    let trigger = Trigger::of(call)?;
    let e = exchange::open_oid(trigger.relation(), Lock::Write)?
        .ok_or_else(|| Error::BrokenExchange(rel::name(trigger.relation()).unwrap_or_default()))?;
    let new = |name| trigger.column(Row::New, column(name));
    if !new("queues").is_null() {
        return Err(Error::ExchangeColumn(e.name.clone()));
    }
    let (body, data) = (new("body"), new("data"));
    let argument = match (body.is_null(), data.is_null()) {
        (false, true) => "body",
        (true, false) => "data",
        (true, true) => return Err(null(&e, "body")),
        (false, false) => {
            return Err(Error::ExchangeArgument {
                exchange: e.name.clone(),
                argument: "data",
                why: "cannot be combined with body".into(),
            });
        }
    };
    let letter = Letter {
        key: new("key").as_text(),
        headers: new("headers"),
        body,
        data,
        group_key: new("group_key").as_text(),
        dedup_key: new("dedup_key").as_text(),
    };
    let terms = Terms {
        argument,
        wish: Wish {
            deliver_at: new("visible_at").as_timestamptz(),
            priority: new("priority").as_int2().map(i32::from),
            expires_at: new("expires_at").as_timestamptz(),
            ..Wish::default()
        },
        mandatory: false,
        now: time::now(),
    };
    let n = publish::one(&e, letter, &terms)?;
    Ok(trigger.returning(Row::New, &[(column("queues"), Value::int4(n))]))
}
