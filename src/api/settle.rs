//! mq.ack, mq.archive, mq.nack, mq.release, mq.reject, mq.extend, mq.delete, mq.purge_queue, and
//! the batch forms.

use super::args;
use crate::catalog::{self, Queue, Right};
use crate::error::Result;
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::time::{self, Interval, Micros};
use crate::pg::value::Value;
use crate::queue::send::positive;
use crate::queue::settle;
use crate::sql_function;
use crate::storage::settle::HandOut;
use std::rc::Rc;

sql_function!(mq_ack, pg_finfo_mq_ack, ack);
sql_function!(mq_archive, pg_finfo_mq_archive, archive);
sql_function!(mq_nack, pg_finfo_mq_nack, nack);
sql_function!(mq_release, pg_finfo_mq_release, release);
sql_function!(mq_reject, pg_finfo_mq_reject, reject);
sql_function!(mq_extend, pg_finfo_mq_extend, extend);
sql_function!(mq_ack_batch, pg_finfo_mq_ack_batch, ack_batch);
sql_function!(mq_archive_batch, pg_finfo_mq_archive_batch, archive_batch);
sql_function!(mq_nack_batch, pg_finfo_mq_nack_batch, nack_batch);
sql_function!(mq_release_batch, pg_finfo_mq_release_batch, release_batch);
sql_function!(mq_reject_batch, pg_finfo_mq_reject_batch, reject_batch);
sql_function!(mq_extend_batch, pg_finfo_mq_extend_batch, extend_batch);
sql_function!(mq_delete, pg_finfo_mq_delete, delete);
sql_function!(mq_delete_batch, pg_finfo_mq_delete_batch, delete_batch);
sql_function!(mq_purge_queue, pg_finfo_mq_purge_queue, purge_queue);

fn open(call: &Call, what: &'static str, privilege: Privilege) -> Result<Rc<Queue>> {
    rel::require_writable(what)?;
    catalog::open(&args::queue_name(call)?, Lock::Write, Right::Has(privilege))
}

type Settle<'a> = &'a dyn Fn(&Queue, &[HandOut], Micros) -> Result<Vec<i64>>;

/// One hand-out: arguments 1 and 2 are its id and receipt.
fn one(call: &Call, q: &Queue, settle: Settle) -> Result<bool> {
    let id = args::id(call, 1, &q.name)?;
    let list = [(id, call.arg(2).as_int8())];
    let done = settle(q, &list, time::now())?;
    Ok(!done.is_empty())
}

/// Many: arguments 1 and 2 are their ids and receipts.
fn batch(call: &Call, q: &Queue, settle: Settle) -> Result<Value> {
    let list = args::hand_outs(call, &q.name)?;
    let sink = call.column();
    if !list.is_empty() {
        let done = settle(q, &list, time::now())?;
        let asked: Vec<i64> = list.iter().map(|h| h.0).collect();
        for id in args::in_order(&asked, done) {
            sink.values(&[Value::int8(id)]);
        }
    }
    Ok(Value::NULL)
}

fn ack(call: &Call) -> Result<Value> {
    let q = open(call, "mq.ack()", Privilege::Update)?;
    one(call, &q, &|q, list, _| settle::ack(q, list)).map(Value::bool)
}

fn ack_batch(call: &Call) -> Result<Value> {
    let q = open(call, "mq.ack_batch()", Privilege::Update)?;
    batch(call, &q, &|q, list, _| settle::ack(q, list))
}

fn archive(call: &Call) -> Result<Value> {
    let q = open(call, "mq.archive()", Privilege::Update)?;
    one(call, &q, &settle::archive).map(Value::bool)
}

fn archive_batch(call: &Call) -> Result<Value> {
    let q = open(call, "mq.archive_batch()", Privilege::Update)?;
    batch(call, &q, &settle::archive)
}

fn nack(call: &Call) -> Result<Value> {
    let q = open(call, "mq.nack()", Privilege::Update)?;
    let (delay, reason) = (args::delay(call, 3, &q.name)?, call.arg(4).as_text());
    one(call, &q, &|q, list, now| {
        settle::nack(q, list, delay, reason.as_deref(), now)
    })
    .map(Value::bool)
}

fn nack_batch(call: &Call) -> Result<Value> {
    let q = open(call, "mq.nack_batch()", Privilege::Update)?;
    let (delay, reason) = (args::delay(call, 3, &q.name)?, call.arg(4).as_text());
    batch(call, &q, &|q, list, now| {
        settle::nack(q, list, delay, reason.as_deref(), now)
    })
}

fn release(call: &Call) -> Result<Value> {
    let q = open(call, "mq.release()", Privilege::Update)?;
    let delay = args::delay(call, 3, &q.name)?;
    one(call, &q, &|q, list, now| {
        Ok(settle::release(q, list, delay, now))
    })
    .map(Value::bool)
}

fn release_batch(call: &Call) -> Result<Value> {
    let q = open(call, "mq.release_batch()", Privilege::Update)?;
    let delay = args::delay(call, 3, &q.name)?;
    batch(call, &q, &|q, list, now| {
        Ok(settle::release(q, list, delay, now))
    })
}

fn reject(call: &Call) -> Result<Value> {
    let q = open(call, "mq.reject()", Privilege::Update)?;
    let reason = call.arg(3).as_text();
    one(call, &q, &|q, list, now| {
        settle::reject(q, list, reason.as_deref(), now)
    })
    .map(Value::bool)
}

fn reject_batch(call: &Call) -> Result<Value> {
    let q = open(call, "mq.reject_batch()", Privilege::Update)?;
    let reason = call.arg(3).as_text();
    batch(call, &q, &|q, list, now| {
        settle::reject(q, list, reason.as_deref(), now)
    })
}

fn visibility(call: &Call, q: &Queue) -> Result<Interval> {
    match call.arg(3).as_interval() {
        Some(i) => positive(&q.name, "visibility", i),
        None => Ok(q.options.visibility),
    }
}

fn extend(call: &Call) -> Result<Value> {
    let q = open(call, "mq.extend()", Privilege::Update)?;
    let visibility = visibility(call, &q)?;
    let end = std::cell::Cell::new(0);
    let ours = one(call, &q, &|q, list, now| {
        end.set(time::add(now, &visibility));
        Ok(settle::extend(q, list, end.get(), now))
    })?;
    Ok(if ours {
        Value::timestamptz(end.get())
    } else {
        Value::NULL
    })
}

fn extend_batch(call: &Call) -> Result<Value> {
    let q = open(call, "mq.extend_batch()", Privilege::Update)?;
    let visibility = visibility(call, &q)?;
    batch(call, &q, &|q, list, now| {
        Ok(settle::extend(q, list, time::add(now, &visibility), now))
    })
}

fn delete(call: &Call) -> Result<Value> {
    let q = open(call, "mq.delete()", Privilege::Delete)?;
    let id = args::id(call, 1, &q.name)?;
    let gone = settle::delete(&q, &[id])?;
    Ok(Value::bool(!gone.is_empty()))
}

fn delete_batch(call: &Call) -> Result<Value> {
    let q = open(call, "mq.delete_batch()", Privilege::Delete)?;
    let mut ids = args::ids(call, 1, &q.name)?;
    let asked = ids.clone();
    // In one order for everybody, so that two deletions cannot wait for each other.
    ids.sort_unstable();
    ids.dedup();
    let sink = call.column();
    let gone = settle::delete(&q, &ids)?;
    for id in args::in_order(&asked, gone) {
        sink.values(&[Value::int8(id)]);
    }
    Ok(Value::NULL)
}

fn purge_queue(call: &Call) -> Result<Value> {
    let q = open(call, "mq.purge_queue()", Privilege::Delete)?;
    settle::purge(&q).map(Value::int8)
}
