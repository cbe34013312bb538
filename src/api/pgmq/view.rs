//! The triggers that make pgmq.q_<queue> writable. PostgreSQL has checked the caller's privilege on it
//! before they run.

use super::{find, finite, missing, no_vt};
use crate::api::pgmq::send::message;
use crate::catalog::Queue;
use crate::error::{Error, Result, State};
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock};
use crate::pg::time;
use crate::pg::trigger::{Row, Trigger};
use crate::pg::value::Value;
use crate::queue::{seize, send};
use crate::sql_function;
use crate::storage::row;
use std::rc::Rc;

sql_function!(pgmq_view_insert, pg_finfo_pgmq_view_insert, insert);
sql_function!(pgmq_view_update, pg_finfo_pgmq_view_update, update);
sql_function!(pgmq_view_delete, pg_finfo_pgmq_view_delete, delete);

// The view's columns.
const MSG_ID: usize = 0;
const READ_CT: usize = 1;
const ENQUEUED_AT: usize = 2;
const LAST_READ_AT: usize = 3;
const VT: usize = 4;
const MESSAGE: usize = 5;
const HEADERS: usize = 6;

fn queue(trigger: &Trigger) -> Result<Rc<Queue>> {
    let relation = rel::name(trigger.relation()).unwrap_or_default();
    let name = relation.strip_prefix("q_").unwrap_or(&relation);
    find(name, Lock::Write)?.ok_or_else(|| missing(name))
}

fn id(trigger: &Trigger) -> Result<i64> {
    trigger
        .column(Row::Old, MSG_ID)
        .as_int8()
        .ok_or_else(|| Error::Internal("a message has no id".into()))
}

fn not_by_hand(what: &str) -> Error {
    Error::AsPgmq(State::GeneratedAlways, what.into())
}

/// What a writer may set of a row beside vt: a column of the view, one of storage.
const PLAIN: [(usize, usize); 4] = [
    (READ_CT, row::ATTEMPTS),
    (ENQUEUED_AT, row::ENQUEUED_AT),
    (LAST_READ_AT, row::READ_AT),
    (HEADERS, row::HEADERS),
];

fn insert(call: &Call) -> Result<Value> {
    let trigger = Trigger::of(call)?;
    let q = queue(&trigger)?;
    let new = |n| trigger.column(Row::New, n);
    if !new(MSG_ID).is_null() {
        return Err(not_by_hand(
            "cannot insert a non-DEFAULT value into column \"msg_id\"",
        ));
    }
    let now = time::now();
    let vt = new(VT).as_timestamptz().map_or(now, |at| finite(at, now));
    let due = Some(vt).filter(|&at| at > now);
    let message = message(&q, new(MESSAGE), new(HEADERS), due, now)?;
    let id = send::one(&q, message, now)?;
    let given: Vec<_> = PLAIN
        .into_iter()
        .filter(|(n, _)| *n != HEADERS && !new(*n).is_null())
        .collect();
    if !given.is_empty() {
        let edit = |row: &mut [Value; row::WIDTH]| {
            for &(n, column) in &given {
                row[column] = new(n);
            }
        };
        seize::change(&q, &[id], edit, |_| ());
    }
    let or = |n, other: Value| if new(n).is_null() { other } else { new(n) };
    Ok(trigger.returning(
        Row::New,
        &[
            (MSG_ID, Value::int8(id)),
            (READ_CT, or(READ_CT, Value::int4(0))),
            (ENQUEUED_AT, or(ENQUEUED_AT, Value::timestamptz(now))),
            (VT, Value::timestamptz(vt)),
        ],
    ))
}

fn update(call: &Call) -> Result<Value> {
    let trigger = Trigger::of(call)?;
    let q = queue(&trigger)?;
    let new = |n| trigger.column(Row::New, n);
    if trigger.changed(MSG_ID) {
        return Err(not_by_hand(
            "column \"msg_id\" can only be updated to DEFAULT",
        ));
    }
    let now = time::now();
    let vt = match new(VT).as_timestamptz() {
        Some(at) => finite(at, now),
        None => return Err(no_vt(&q)),
    };
    let moves = trigger.changed(VT);
    let says = trigger.changed(MESSAGE);
    if says || trigger.changed(HEADERS) {
        send::check_size(&q, "message", new(MESSAGE), new(HEADERS))?;
    }
    for n in [READ_CT, ENQUEUED_AT] {
        if new(n).is_null() {
            let column = if n == READ_CT {
                "read_ct"
            } else {
                "enqueued_at"
            };
            let text = format!("null value in column \"{column}\" violates not-null constraint");
            return Err(Error::AsPgmq(State::NotNull, text));
        }
    }
    let set: Vec<_> = PLAIN
        .into_iter()
        .filter(|(n, _)| trigger.changed(*n))
        .collect();
    let edit = |row: &mut [Value; row::WIDTH]| {
        for &(n, column) in &set {
            row[column] = new(n);
        }
        if says {
            (row[row::BODY], row[row::DATA]) = (new(MESSAGE), Value::NULL);
        }
        if moves {
            seize::wait_until(row, vt, now);
        }
    };
    match seize::change(&q, &[id(&trigger)?], edit, |_| ()) {
        0 => Ok(Trigger::skip()),
        _ => Ok(trigger.returning(Row::New, &[(VT, Value::timestamptz(vt))])),
    }
}

fn delete(call: &Call) -> Result<Value> {
    let trigger = Trigger::of(call)?;
    let q = queue(&trigger)?;
    let id = id(&trigger)?;
    Ok(match seize::delete(&q, &[id])?.is_empty() {
        true => Trigger::skip(),
        false => trigger.returning(Row::Old, &[(MSG_ID, Value::int8(id))]),
    })
}
