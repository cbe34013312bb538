//! New rows: one, or many at once.

use super::row::{self, rank_of};
use crate::catalog::map::{Part, State};
use crate::catalog::{Ordering, Queue};
use crate::error::{Error, Result};
use crate::pg::board;
use crate::pg::rel;
use crate::pg::report;
use crate::pg::spi;
use crate::pg::time::{self, Micros};
use crate::pg::value::Value;
use pg_broker_core::board::Key;
use pg_broker_core::hash;
use pg_broker_core::ids::BLOCK;
use pg_broker_core::tally::{Kind, Standing, Wait};
use std::cell::Cell;
use std::rc::Rc;

/// A message on its way into a queue; payload and headers are carried as they came.
#[derive(Clone)]
pub struct Message {
    pub id: i64,
    pub due: Option<Micros>,
    pub expires_at: Option<Micros>,
    pub priority: i16,
    pub group_key: Option<String>,
    pub dedup_key: Option<String>,
    pub headers: Value,
    pub body: Value,
    pub data: Value,
}

impl Message {
    /// What it counts as once it is there.
    pub fn standing(&self, q: &Queue, now: Micros) -> Standing {
        Standing {
            wait: self.due.map(|due| Wait {
                kind: Kind::Delayed,
                due,
                since: now,
            }),
            is_last: !q.options.allows(0),
        }
    }
}

/// An id for a new message. Never given twice, also when the sender rolls back.
pub fn new_id(q: &Queue) -> i64 {
    loop {
        let (first, n) = some_ids(q, 1);
        if n > 0 {
            return first;
        }
    }
}

/// Ids for so many new messages, rising.
pub fn new_ids(q: &Queue, n: usize) -> Vec<i64> {
    let mut ids = Vec::with_capacity(n);
    while ids.len() < n {
        let (first, got) = some_ids(q, (n - ids.len()) as i64);
        ids.extend(first..first + got);
    }
    ids
}

/// The last id that was given to a message, if the board knows; otherwise the last of which the sequence
/// says so.
pub fn last_id(q: &Queue) -> Result<i64> {
    let key = board::key(q.storage, q.created_at);
    if let Some(last) = board::with(key, false, |h| h.state.ids.last()).flatten() {
        return Ok(last);
    }
    spi::connect(|spi| {
        let sql = format!(
            "SELECT CASE WHEN s.is_called THEN s.last_value ELSE 1 END - 1 FROM mq_internal.q_{}_id s",
            q.n
        );
        let rows = spi.query(&sql, &[], &[])?;
        Ok(rows.get(0, 0).as_int8().unwrap_or_default())
    })
}

thread_local! {
    /// A queue for which there was no room on the board, and until when that is taken for granted.
    static WITHOUT: Cell<(Key, Micros)> = const { Cell::new((Key::FREE, 0)) };
}

/// So long nobody looks for room again, which costs more than the ids do.
const PATIENCE: Micros = 1_000_000;

/// Up to so many ids, the first and how many, maybe none for once. Sessions share a block of them
/// on the board; where there is none, each takes a block for itself, and gives the rest up: ids
/// would not rise if it kept that.
fn some_ids(q: &Queue, n: i64) -> (i64, i64) {
    let key = board::key(q.storage, q.created_at);
    let (last, until) = WITHOUT.get();
    let is_without = last == key && time::now() < until;
    let taken = match is_without {
        true => None,
        false => board::with(key, true, |h| h.state.ids.take(n)),
    };
    if let Some(taken @ (_, 1..)) = taken {
        return taken;
    }
    let block = rel::nextval(q.sequence);
    match taken.and_then(|_| board::with(key, true, |h| h.state.ids.put(block))) {
        Some(()) => (block, 0),
        None => {
            if !is_without {
                WITHOUT.set((key, time::now().saturating_add(PATIENCE)));
            }
            (block, n.min(BLOCK))
        }
    }
}

/// The group of all messages of a queue that hands out one after the other.
const ONE_GROUP: i64 = 0;

/// The group that a message belongs to; in a queue whose tenants take turns, the tenant. Those that
/// name none are one tenant, too.
pub fn group_of(q: &Queue, m: &Message) -> Option<i64> {
    if let Some(header) = &q.options.fair_by {
        return Some(tenant_of(m.headers, header));
    }
    match q.options.ordering {
        Ordering::None => None,
        Ordering::Group => m.group_key.as_deref().map(hash::group),
        Ordering::Strict => Some(ONE_GROUP),
    }
}

fn tenant_of(headers: Value, header: &str) -> i64 {
    hash::group(&headers.member_text(header).unwrap_or_default())
}

/// The headers of a row are others now, and may name another tenant.
pub fn follow_headers(q: &Queue, row: &mut [Value; row::WIDTH]) {
    if let Some(header) = &q.options.fair_by {
        row[row::GROUP] = Value::int8(tenant_of(row[row::HEADERS], header));
    }
}

fn row_of(q: &Queue, m: &Message, now: Micros) -> [Value; row::WIDTH] {
    let mut new = [Value::NULL; row::WIDTH];
    let text = |v: &Option<String>| Value::opt(v.as_deref(), Value::text);
    new[row::ID] = Value::int8(m.id);
    new[row::ENQUEUED_AT] = Value::timestamptz(now);
    new[row::DUE] = Value::opt(m.due, Value::timestamptz);
    new[row::EXPIRES_AT] = Value::opt(m.expires_at, Value::timestamptz);
    new[row::GROUP] = Value::opt(group_of(q, m), Value::int8);
    new[row::ATTEMPTS] = Value::int4(0);
    new[row::FAILURES] = Value::int4(0);
    new[row::RANK] = Value::int2(rank_of(m.priority));
    new[row::GROUP_KEY] = text(&m.group_key);
    new[row::DEDUP_KEY] = text(&m.dedup_key);
    new[row::HEADERS] = m.headers;
    new[row::BODY] = m.body;
    new[row::DATA] = m.data;
    new
}

/// So often a place is looked for anew, when the tables change their use meanwhile.
const AGAIN: usize = 100;

/// Enters rows whose ids rise, each into the table that its id belongs to.
fn enter(q: &Queue, rows: &[[Value; row::WIDTH]]) {
    let mut rest = rows;
    let mut tries = 0;
    while let Some(first) = rest.first().map(id_of) {
        let map = q.map();
        let part = map.entry(first);
        let Some(part) = part.filter(|_| tries < AGAIN) else {
            report::raise(Error::Internal(format!(
                "no table for message {first} of queue \"{}\"",
                q.name
            )));
        };
        let n = match part.state {
            State::Open => rest.partition_point(|r| id_of(r) < part.past),
            _ => {
                let is_same =
                    |r: &&[Value; row::WIDTH]| map.entry(id_of(r)).is_some_and(|p| p.k == part.k);
                rest.iter().take_while(is_same).count()
            }
        };
        let mut table = row::table(part);
        // What was right before the table was locked is right now only if the map says it again.
        let now = q.map();
        let is_right = Rc::ptr_eq(&now, &map) || now.again(part).is_some_and(Part::takes);
        if !is_right {
            tries += 1;
            table.let_go();
            continue;
        }
        let (some, others) = rest.split_at(n.max(1));
        match some {
            [one] => table.insert(one),
            _ => table.insert_many(some),
        }
        rest = others;
    }
}

/// Enters rows as they are, whose ids rise.
pub fn given(q: &Queue, rows: &[[Value; row::WIDTH]]) {
    enter(q, rows);
}

fn id_of(row: &[Value; row::WIDTH]) -> i64 {
    row[row::ID].as_int8().unwrap_or_default()
}

pub fn one(q: &Queue, m: &Message, now: Micros) {
    enter(q, &[row_of(q, m, now)]);
}

pub fn many(q: &Queue, list: &[Message], now: Micros) {
    let mut rows: Vec<_> = list.iter().map(|m| row_of(q, m, now)).collect();
    // They rise as they are given, but for messages that were given back to an earlier holder.
    rows.sort_by_key(id_of);
    enter(q, &rows);
}
