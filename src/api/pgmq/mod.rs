//! The functions of the extension pgmq that are native: its interface on this engine.
//!
//! A queue is named as pgmq names it, and its messages are known by their ids alone. Whoever has a
//! privilege on pgmq.q_<queue> needs none on the queue itself.

mod create;
mod grouped;
mod import;
mod read;
mod send;
mod settle;
mod view;

use crate::catalog::{self, Queue, Right};
use crate::error::{Error, Result, State};
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::role;
use crate::pg::time::{self, Micros};
use crate::pg::value::{Ty, Value};
use crate::storage::row;
use pg_broker_core::names::pgmq;
use std::rc::Rc;

/// As far ahead as a message may wait: pgmq has no such limit, and takes infinity.
const FAR: Micros = 9_000 * 365 * 86_400_000_000;

fn raised(message: impl Into<String>) -> Error {
    Error::AsPgmq(State::Raised, message.into())
}

/// The queue's name as the caller gives it, argument `n`.
fn given(call: &Call, n: usize) -> Result<String> {
    let name = call.arg(n).as_text().ok_or_else(|| {
        let why = "null values cannot be formatted as an SQL identifier";
        Error::AsPgmq(State::NullNotAllowed, why.into())
    })?;
    match pgmq::is_allowed(&name) {
        true => Ok(name),
        false => Err(raised(
            "queue name contains invalid characters: $, ;, --, or \\'",
        )),
    }
}

/// The relation that a queue of that name has in schema pgmq.
fn relation(name: &str) -> String {
    format!("q_{}", pgmq::folded(name))
}

fn missing(name: &str) -> Error {
    let text = format!("relation \"pgmq.{}\" does not exist", relation(name));
    Error::AsPgmq(State::UndefinedTable, text)
}

/// What a caller must be allowed: any of these on the queue, or the one on its relation in pgmq.
struct Needs {
    any: &'static [Privilege],
    of_pgmq: Privilege,
}

const SEND: Needs = Needs {
    any: &[Privilege::Insert],
    of_pgmq: Privilege::Insert,
};
const READ: Needs = Needs {
    any: &[Privilege::Update],
    of_pgmq: Privilege::Update,
};
const SETTLE: Needs = Needs {
    any: &[Privilege::Update, Privilege::Delete],
    of_pgmq: Privilege::Delete,
};

impl Needs {
    fn check(&self, q: &Queue, name: &str) -> Result<()> {
        let caller = role::caller();
        let has = |view, privilege| rel::allows(view, caller, privilege);
        if self.any.iter().any(|p| has(q.view, *p)) {
            return Ok(());
        }
        // Somebody else's relation of that name says nothing.
        let own = |view: &_| rel::facts(*view).is_some_and(|f| f.owner == q.owner);
        let names = [relation(name), format!("q_{}", q.name)];
        let mut theirs = names.iter().filter_map(|n| rel::of_pgmq(n)).filter(own);
        if theirs.any(|view| has(view, self.of_pgmq)) {
            return Ok(());
        }
        Err(Error::Denied {
            name: q.name.clone(),
            privilege: self.of_pgmq.as_str(),
        })
    }
}

/// The queue that pgmq's callers mean, locked; none when there is none.
fn find(name: &str, lock: Lock) -> Result<Option<Rc<Queue>>> {
    let any = Right::Has(Privilege::Select);
    for candidate in pgmq::candidates(name) {
        match catalog::open_as(&candidate, lock, any, role::machinery()) {
            Err(Error::NoSuchQueue(_)) => {}
            other => return other.map(Some),
        }
    }
    Ok(None)
}

fn open_named(name: &str, needs: &Needs) -> Result<Rc<Queue>> {
    let q = find(name, Lock::Write)?.ok_or_else(|| missing(name))?;
    needs.check(&q, name)?;
    Ok(q)
}

/// The queue that argument 0 names, for a call that writes.
fn open(call: &Call, what: &'static str, needs: &Needs) -> Result<Rc<Queue>> {
    rel::require_writable(what)?;
    open_named(&given(call, 0)?, needs)
}

/// The moment so many seconds from now, argument `n`: where a null would go into the column vt.
fn seconds_from_now(call: &Call, n: usize, q: &Queue, now: Micros) -> Result<Micros> {
    let seconds = call.arg(n).as_int4().ok_or_else(|| no_vt(q))?;
    Ok(now.saturating_add(i64::from(seconds) * 1_000_000))
}

/// The moment that argument `n` gives.
fn moment(call: &Call, n: usize, q: &Queue, now: Micros) -> Result<Micros> {
    let at = call.arg(n).as_timestamptz().ok_or_else(|| no_vt(q))?;
    Ok(finite(at, now))
}

fn finite(at: Micros, now: Micros) -> Micros {
    match at {
        time::INFINITY => now.saturating_add(FAR),
        at if time::is_finite(at) => at,
        _ => now,
    }
}

fn no_vt(q: &Queue) -> Error {
    let text = format!(
        "null value in column \"vt\" of relation \"q_{}\" violates not-null constraint",
        q.name
    );
    Error::AsPgmq(State::NotNull, text)
}

/// How many messages argument `n` asks for: a null for all there are.
fn qty(call: &Call, n: usize) -> Result<i64> {
    match call.arg(n).as_int4() {
        None => Ok(i64::MAX),
        Some(qty) if qty >= 0 => Ok(qty.into()),
        Some(_) => Err(Error::AsPgmq(
            State::NegativeLimit,
            "LIMIT must not be negative".into(),
        )),
    }
}

/// The ids of argument 1: one, or an array of them, of which nulls are none.
fn ids(call: &Call, is_many: bool) -> Result<Vec<i64>> {
    if !is_many {
        return Ok(call.arg(1).as_int8().into_iter().collect());
    }
    let list = super::args::list("", "msg_ids", call.arg(1), Ty::Int8)?.unwrap_or_default();
    Ok(list.into_iter().filter_map(Value::as_int8).collect())
}

/// A `pgmq.message_record`, from a message as it is handed out.
fn record(message: &[Value]) -> [Value; 7] {
    // In the order of mq.message.
    let at = |n: usize| message.get(n).copied().unwrap_or(Value::NULL);
    [at(0), at(6), at(12), at(14), at(13), at(3), at(5)]
}

/// The same, from a row of storage.
fn record_of(row: &[Value], vt: Micros) -> [Value; 7] {
    let at = |n: usize| row.get(n).copied().unwrap_or(Value::NULL);
    [
        at(row::ID),
        at(row::ATTEMPTS),
        at(row::ENQUEUED_AT),
        at(row::READ_AT),
        Value::timestamptz(vt),
        at(row::BODY),
        at(row::HEADERS),
    ]
}
