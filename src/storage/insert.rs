//! New rows: one, or many at once.

use super::row::{self, rank_of};
use crate::catalog::Queue;
use crate::pg::rel;
use crate::pg::table::Table;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use pg_broker_core::tally::{Kind, Standing, Wait};

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
    rel::nextval(q.sequence)
}

/// Ids for so many new messages.
pub fn new_ids(q: &Queue, n: usize) -> Vec<i64> {
    rel::nextvals(q.sequence, n)
}

fn row_of(m: &Message, now: Micros) -> [Value; row::WIDTH] {
    let mut new = [Value::NULL; row::WIDTH];
    let text = |v: &Option<String>| Value::opt(v.as_deref(), Value::text);
    new[row::ID] = Value::int8(m.id);
    new[row::ENQUEUED_AT] = Value::timestamptz(now);
    new[row::DUE] = Value::opt(m.due, Value::timestamptz);
    new[row::EXPIRES_AT] = Value::opt(m.expires_at, Value::timestamptz);
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

pub fn one(q: &Queue, m: &Message, now: Micros) {
    Table::open(q.storage).insert(&row_of(m, now));
}

pub fn many(q: &Queue, list: &[Message], now: Micros) {
    if list.is_empty() {
        return;
    }
    let rows: Vec<_> = list.iter().map(|m| row_of(m, now)).collect();
    Table::open(q.storage).insert_many(&rows);
}
