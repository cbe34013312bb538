//! pgmq.read_grouped, pgmq.read_grouped_rr, pgmq.read_grouped_head, and each with a poll.

use super::read::deadline;
use super::{READ, given, open_named, qty, record, seconds_from_now};
use crate::api::receive::closed;
use crate::catalog::{Ordering, Queue};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::rel;
use crate::pg::time;
use crate::pg::value::Value;
use crate::pg::wait;
use crate::queue::grouped::{self, Order};
use crate::sql_function;

sql_function!(
    pgmq_read_grouped,
    pg_finfo_pgmq_read_grouped,
    group_by_group
);
sql_function!(pgmq_read_grouped_rr, pg_finfo_pgmq_read_grouped_rr, in_turn);
sql_function!(
    pgmq_read_grouped_head,
    pg_finfo_pgmq_read_grouped_head,
    heads
);
sql_function!(
    pgmq_read_grouped_with_poll,
    pg_finfo_pgmq_read_grouped_with_poll,
    group_by_group_polling
);
sql_function!(
    pgmq_read_grouped_rr_with_poll,
    pg_finfo_pgmq_read_grouped_rr_with_poll,
    in_turn_polling
);
sql_function!(
    pgmq_read_grouped_head_with_poll,
    pg_finfo_pgmq_read_grouped_head_with_poll,
    heads_polling
);

/// The header that names a message's group, and the group of those without.
const HEADER: &str = "x-pgmq-group";
const WITHOUT: &str = "_default_fifo_group";

fn key(headers: Value) -> String {
    headers
        .member_text(HEADER)
        .unwrap_or_else(|| WITHOUT.into())
}

/// With a poll, argument 3 is for how many seconds and 4 how many milliseconds lie between looks:
/// nobody tells when a group can be read again.
fn read(call: &Call, order: Order, is_polling: bool) -> Result<Value> {
    rel::require_writable("pgmq.read_grouped()")?;
    let name = given(call, 0)?;
    let qty = usize::try_from(qty(call, 2)?).unwrap_or(usize::MAX);
    let deadline = is_polling.then(|| deadline(call, 3));
    let pause = i64::from(call.arg(4).as_int4().unwrap_or(100)).max(1);
    let sink = call.rows();
    let take = |q: &Queue| {
        let now = time::now();
        let until = seconds_from_now(call, 1, q, now)?;
        if q.options.ordering != Ordering::None {
            return Err(Error::ordered_already(&q.name));
        }
        if closed(q, now).is_some() {
            return Ok(0);
        }
        let hand = |row: &[Value]| sink.values(&record(row));
        grouped::hand_out(q, qty, order, key, (now, until), hand)
    };
    loop {
        let q = open_named(&name, &READ)?;
        let left = deadline.map_or(0, |at| at.saturating_sub(time::now()));
        if take(&q)? > 0 || left <= 0 {
            return Ok(Value::NULL);
        }
        wait::sleep(Some(pause.min((left + 999) / 1000)));
    }
}

fn group_by_group(call: &Call) -> Result<Value> {
    read(call, Order::GroupByGroup, false)
}

fn in_turn(call: &Call) -> Result<Value> {
    read(call, Order::InTurn, false)
}

fn heads(call: &Call) -> Result<Value> {
    read(call, Order::Heads, false)
}

fn group_by_group_polling(call: &Call) -> Result<Value> {
    read(call, Order::GroupByGroup, true)
}

fn in_turn_polling(call: &Call) -> Result<Value> {
    read(call, Order::InTurn, true)
}

fn heads_polling(call: &Call) -> Result<Value> {
    read(call, Order::Heads, true)
}
