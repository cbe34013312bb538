//! mq.read, mq.pop, mq.step_down, mq.get.

use super::args;
use crate::catalog::{self, Queue, Right};
use crate::error::{Error, Result};
use crate::pg::entry::{Call, Sink};
use crate::pg::filter::Filter;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::rival;
use crate::pg::time::{self, Interval, Micros};
use crate::pg::value::Value;
use crate::queue::read::{self, Waiting};
use crate::queue::send::{not_negative, positive};
use crate::queue::{active, filter};
use crate::sql_function;
use crate::storage::claim::Take;
use crate::storage::lookup;
use std::rc::Rc;

sql_function!(mq_read, pg_finfo_mq_read, read_messages);
sql_function!(mq_pop, pg_finfo_mq_pop, pop);
sql_function!(mq_step_down, pg_finfo_mq_step_down, step_down);
sql_function!(mq_get, pg_finfo_mq_get, get);

/// `read(… wait)` is for short waits.
const LONGEST_WAIT: i128 = 20_000_000;

/// What a look at a queue came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Some,
    /// There is nothing for anybody.
    Nothing,
    /// There may be something for others.
    NotOurs,
}

impl Taken {
    pub(super) fn of(n: usize) -> Self {
        match n {
            0 => Taken::Nothing,
            _ => Taken::Some,
        }
    }
}

/// What a look comes to at a queue that gives this session nothing now.
pub(super) fn closed(q: &Queue, now: Micros) -> Option<Taken> {
    if q.options.is_paused(now) {
        return Some(Taken::Nothing);
    }
    (!active::admits(q)).then_some(Taken::NotOurs)
}

/// Hands out into `sink`.
fn hand_out(
    q: &Queue,
    qty: i64,
    visibility: Option<&Interval>,
    filter: Option<&Filter>,
    sink: &Sink,
) -> Result<Taken> {
    let now = time::now();
    if let Some(nothing) = closed(q, now) {
        return Ok(nothing);
    }
    let take = match visibility {
        Some(visibility) => Take::Until(time::add(now, visibility)),
        None => Take::Away,
    };
    let hand = |row: &[Value]| sink.values(row);
    let Some(filter) = filter else {
        return read::hand_out(q, qty, take, now, hand).map(Taken::of);
    };
    Ok(
        match read::hand_out_filtered(q, qty, filter, take, now, hand)? {
            0 => Taken::NotOurs,
            _ => Taken::Some,
        },
    )
}

/// When a short wait is over, if one is asked for.
pub(super) fn longest_wait(q: &Queue, wait: Option<Interval>) -> Result<Option<Micros>> {
    let Some(wait) = wait else { return Ok(None) };
    let wait = not_negative(&q.name, "wait", wait)?.span();
    if wait > LONGEST_WAIT {
        return Err(Error::argument_hint(
            &q.name,
            "wait",
            "must be at most 20 seconds",
            "Use CALL mq.wait(queue, timeout) for long waits: it holds no snapshot.",
        ));
    }
    Ok(Some(time::now().saturating_add(wait as i64)))
}

/// Whether somebody waits to drop, rename or lock the queue, and could if this statement ended.
fn is_in_the_way(q: &Queue) -> bool {
    let map = q.map();
    let tables = map.all().map(|p| p.table);
    let relations: Vec<_> = std::iter::once(q.view).chain(tables).collect();
    !rival::is_in_block() && rival::is_waited_for(&relations, Lock::Write)
}

/// Has `take` take from a queue until it took something, or the time is over. `again` opens it anew, by
/// its name.
pub(super) fn until_taken(
    mut q: Rc<Queue>,
    again: impl Fn(&str) -> Result<Rc<Queue>>,
    deadline: Option<Micros>,
    take: impl Fn(&Queue) -> Result<Taken>,
) -> Result<()> {
    let name = q.name.clone();
    let mut waiting: Option<Waiting> = None;
    loop {
        let taken = take(&q)?;
        if taken == Taken::Some || deadline.is_none() {
            break;
        }
        if let Some(waiting) = &mut waiting
            && taken == Taken::NotOurs
        {
            waiting.hand_on();
        }
        if let Some(waiting) = &mut waiting
            && !waiting.sleep_holding(|| is_in_the_way(&q))
        {
            break;
        }
        // In the list from the first time on, and looking once more: a commit may have come
        // between the look and that.
        let waiting = waiting.get_or_insert_with(|| Waiting::until(deadline));
        waiting.join(&q);
        waiting.looking();
        q = again(&name)?;
    }
    if let Some(waiting) = waiting {
        waiting.leave();
    }
    Ok(())
}

fn read_messages(call: &Call) -> Result<Value> {
    rel::require_writable("mq.read()")?;
    let name = args::queue_name(call)?;
    let right = Right::Has(Privilege::Update);
    let q = catalog::open(&name, Lock::Write, right)?;
    let qty = args::qty(call, 1, &name)?;
    let asked = call
        .arg(2)
        .as_interval()
        .map(|v| positive(&name, "visibility", v))
        .transpose()?;
    let deadline = longest_wait(&q, call.arg(3).as_interval())?;
    let filter = filter::of(&name, call.arg(4))?;
    let sink = call.rows();
    let again = |name: &str| catalog::open(name, Lock::Write, right);
    until_taken(q, again, deadline, |q| {
        let visibility = asked.unwrap_or(q.options.visibility);
        hand_out(q, qty, Some(&visibility), filter.as_ref(), &sink)
    })?;
    Ok(Value::NULL)
}

fn pop(call: &Call) -> Result<Value> {
    rel::require_writable("mq.pop()")?;
    let name = args::queue_name(call)?;
    let q = catalog::open(&name, Lock::Write, Right::Has(Privilege::Update))?;
    let qty = args::qty(call, 1, &name)?;
    let filter = filter::of(&name, call.arg(2))?;
    let sink = call.rows();
    hand_out(&q, qty, None, filter.as_ref(), &sink)?;
    Ok(Value::NULL)
}

/// Gives up being the one session that a queue's messages are handed to. Not part of the transaction.
fn step_down(call: &Call) -> Result<Value> {
    rel::require_writable("mq.step_down()")?;
    let name = args::queue_name(call)?;
    let q = catalog::open(&name, Lock::Write, Right::Has(Privilege::Update))?;
    Ok(Value::bool(active::step_down(&q)))
}

fn get(call: &Call) -> Result<Value> {
    let name = args::queue_name(call)?;
    let q = catalog::open(&name, Lock::Read, Right::Has(Privilege::Select))?;
    let id = args::id(call, 1, &name)?;
    Ok(match lookup::get(&q, id, time::now()) {
        Some(row) => call.row(&row),
        None => Value::NULL,
    })
}
