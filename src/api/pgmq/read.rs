//! pgmq.read, pgmq.read_with_poll, pgmq.pop.

use super::{READ, given, open_named, qty, record, seconds_from_now};
use crate::api::receive::{Taken, closed, until_taken};
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::entry::Call;
use crate::pg::rel;
use crate::pg::time::{self, Micros};
use crate::pg::value::Value;
use crate::queue::read;
use crate::sql_function;
use crate::storage::claim::Take;

sql_function!(pgmq_read, pg_finfo_pgmq_read, read_now);
sql_function!(
    pgmq_read_with_poll,
    pg_finfo_pgmq_read_with_poll,
    read_with_poll
);
sql_function!(pgmq_pop, pg_finfo_pgmq_pop, pop);

/// When a poll of so many seconds, argument `n`, is over: never, if that is null.
pub(super) fn deadline(call: &Call, n: usize) -> Micros {
    call.arg(n).as_int4().map_or(i64::MAX, |seconds| {
        time::now().saturating_add(i64::from(seconds) * 1_000_000)
    })
}

/// Reads until something came, or that time is over; `conditional` is what bodies must contain.
fn read(
    call: &Call,
    what: &'static str,
    conditional: usize,
    deadline: Option<Micros>,
) -> Result<Value> {
    rel::require_writable(what)?;
    let name = given(call, 0)?;
    let q = open_named(&name, &READ)?;
    let qty = qty(call, 2)?;
    let wanted = call.arg(conditional);
    let is_wanted = |_, body: Value| body.contains(wanted);
    let is_any = wanted.is_null() || wanted.jsonb_text().as_deref() == Some("{}");
    // Also where there is nothing to read.
    seconds_from_now(call, 1, &q, 0)?;
    let sink = call.rows();
    let take = |q: &Queue| {
        let now = time::now();
        if qty == 0 {
            return Ok(Taken::Nothing);
        }
        if let Some(nothing) = closed(q, now) {
            return Ok(nothing);
        }
        let take = Take::Until(seconds_from_now(call, 1, q, now)?);
        let hand = |row: &[Value]| sink.values(&record(row));
        let n = match is_any {
            true => read::hand_out(q, qty, take, now, hand),
            false => read::hand_out_only(q, qty, Some(&is_wanted), take, now, hand),
        }?;
        Ok(Taken::of(n))
    };
    until_taken(q, |_| open_named(&name, &READ), deadline, take)?;
    Ok(Value::NULL)
}

fn read_now(call: &Call) -> Result<Value> {
    read(call, "pgmq.read()", 3, None)
}

fn read_with_poll(call: &Call) -> Result<Value> {
    read(call, "pgmq.read_with_poll()", 5, Some(deadline(call, 3)))
}

fn pop(call: &Call) -> Result<Value> {
    rel::require_writable("pgmq.pop()")?;
    let q = open_named(&given(call, 0)?, &READ)?;
    let qty = qty(call, 1)?;
    let now = time::now();
    let sink = call.rows();
    if qty > 0 && closed(&q, now).is_none() {
        read::hand_out(&q, qty, Take::Away, now, |row| {
            let mut record = record(row);
            // It counts reads, and this is none.
            record[1] = Value::int4(record[1].as_int4().unwrap_or(1).saturating_sub(1));
            sink.values(&record);
        })?;
    }
    Ok(Value::NULL)
}
