//! Messages that come with their ids, from another queueing system that is being left: into a queue that
//! the transaction in progress has made.

use crate::catalog::Queue;
use crate::error::{Error, Result};
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::queue::note::note;
use crate::storage::insert;
use crate::storage::row::{self, Change};
use crate::storage::seize::Row;
use pg_broker_core::tally::{Kind, Standing, Wait};

/// A message as it was there.
pub struct Imported {
    pub id: i64,
    pub attempts: i32,
    pub enqueued_at: Micros,
    pub read_at: Option<Micros>,
    /// Until when it waits.
    pub due: Option<Micros>,
    pub body: Value,
    pub headers: Value,
}

impl Imported {
    fn row(&self) -> Row {
        let mut new = [Value::NULL; row::WIDTH];
        new[row::ID] = Value::int8(self.id);
        new[row::ENQUEUED_AT] = Value::timestamptz(self.enqueued_at);
        new[row::DUE] = Value::opt(self.due, Value::timestamptz);
        new[row::READ_AT] = Value::opt(self.read_at, Value::timestamptz);
        new[row::ATTEMPTS] = Value::int4(self.attempts);
        new[row::FAILURES] = Value::int4(0);
        new[row::RANK] = Value::int2(row::DEFAULT_RANK);
        new[row::HEADERS] = self.headers;
        new[row::BODY] = self.body;
        new
    }

    fn change(&self, q: &Queue) -> Change {
        Change {
            rank: row::DEFAULT_RANK,
            id: self.id,
            group: None,
            is_new: true,
            was: None,
            now: Some(Standing {
                wait: self.due.map(|due| Wait {
                    kind: Kind::Delayed,
                    due,
                    since: self.enqueued_at.max(self.read_at.unwrap_or_default()),
                }),
                is_last: !q.options.allows(0),
            }),
        }
    }
}

/// Enters messages whose ids rise and are higher than any in the queue.
pub fn enter(q: &Queue, list: &[Imported]) -> Result<usize> {
    if !list.is_sorted_by(|a, b| a.id < b.id) {
        return Err(Error::argument(&q.name, "ids", "must rise"));
    }
    let rows: Vec<Row> = list.iter().map(Imported::row).collect();
    insert::given(q, &rows);
    note(q, list.iter().map(|m| m.change(q)));
    Ok(list.len())
}
