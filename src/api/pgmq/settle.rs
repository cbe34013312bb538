//! pgmq.delete, pgmq.archive, pgmq.set_vt, pgmq.purge_queue.

use super::{READ, SETTLE, ids, moment, open, record_of, seconds_from_now};
use crate::api::args;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::entry::Call;
use crate::pg::time::{self, Micros};
use crate::pg::value::Value;
use crate::queue::{seize, settle};
use crate::sql_function;

sql_function!(pgmq_delete, pg_finfo_pgmq_delete, delete);
sql_function!(pgmq_delete_batch, pg_finfo_pgmq_delete_batch, delete_many);
sql_function!(pgmq_archive, pg_finfo_pgmq_archive, archive);
sql_function!(
    pgmq_archive_batch,
    pg_finfo_pgmq_archive_batch,
    archive_many
);
sql_function!(pgmq_set_vt, pg_finfo_pgmq_set_vt, set_vt);
sql_function!(pgmq_set_vt_at, pg_finfo_pgmq_set_vt_at, set_vt_at);
sql_function!(pgmq_set_vt_batch, pg_finfo_pgmq_set_vt_batch, set_vt_many);
sql_function!(
    pgmq_set_vt_batch_at,
    pg_finfo_pgmq_set_vt_batch_at,
    set_vt_many_at
);
sql_function!(pgmq_purge_queue, pg_finfo_pgmq_purge_queue, purge);

type End = fn(&Queue, &[i64]) -> Result<Vec<i64>>;

fn archived(q: &Queue, ids: &[i64]) -> Result<Vec<i64>> {
    seize::archive(q, ids, time::now())
}

fn end_one(call: &Call, what: &'static str, end: End) -> Result<Value> {
    let q = open(call, what, &SETTLE)?;
    let done = end(&q, &ids(call, false)?)?;
    Ok(Value::bool(!done.is_empty()))
}

fn end_many(call: &Call, what: &'static str, end: End) -> Result<Value> {
    let q = open(call, what, &SETTLE)?;
    let ids = ids(call, true)?;
    let done = end(&q, &ids)?;
    let sink = call.column();
    for id in args::in_order(&ids, done) {
        sink.values(&[Value::int8(id)]);
    }
    Ok(Value::NULL)
}

fn delete(call: &Call) -> Result<Value> {
    end_one(call, "pgmq.delete()", seize::delete)
}

fn delete_many(call: &Call) -> Result<Value> {
    end_many(call, "pgmq.delete()", seize::delete)
}

fn archive(call: &Call) -> Result<Value> {
    end_one(call, "pgmq.archive()", archived)
}

fn archive_many(call: &Call) -> Result<Value> {
    end_many(call, "pgmq.archive()", archived)
}

type Vt = fn(&Call, usize, &Queue, Micros) -> Result<Micros>;

/// Argument 2 says until when.
fn wait_until(call: &Call, is_many: bool, vt: Vt) -> Result<Value> {
    let q = open(call, "pgmq.set_vt()", &READ)?;
    let ids = ids(call, is_many)?;
    let now = time::now();
    let at = vt(call, 2, &q, now)?;
    let sink = call.rows();
    seize::change(
        &q,
        &ids,
        |row| seize::wait_until(row, at, now),
        |row| sink.values(&record_of(row, at)),
    );
    Ok(Value::NULL)
}

fn set_vt(call: &Call) -> Result<Value> {
    wait_until(call, false, seconds_from_now)
}

fn set_vt_at(call: &Call) -> Result<Value> {
    wait_until(call, false, moment)
}

fn set_vt_many(call: &Call) -> Result<Value> {
    wait_until(call, true, seconds_from_now)
}

fn set_vt_many_at(call: &Call) -> Result<Value> {
    wait_until(call, true, moment)
}

fn purge(call: &Call) -> Result<Value> {
    let q = open(call, "pgmq.purge_queue()", &SETTLE)?;
    settle::purge(&q).map(Value::int8)
}
