//! What pgmq.create and its like are made of: a queue under pgmq's name for it.

use super::{find, given};
use crate::api::queues::reserve;
use crate::catalog::Options;
use crate::catalog::companion::{self, Named};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock};
use crate::pg::report;
use crate::pg::role;
use crate::pg::value::Value;
use crate::queue::life;
use crate::sql_function;
use crate::storage::insert;
use pg_broker_core::names::{pgmq, refuse};

sql_function!(pgmq_make, pg_finfo_pgmq_make, make);
sql_function!(pgmq_queue, pg_finfo_pgmq_queue, queue);
sql_function!(pgmq_last_id, pg_finfo_pgmq_last_id, last_id);

/// A message is as large as PostgreSQL lets it be.
const LARGEST: i64 = i32::MAX as i64;

/// Makes the queue of that name, unless it is there; argument 1: durably. Gives its name here.
fn make(call: &Call) -> Result<Value> {
    rel::require_writable("pgmq.create()")?;
    let name = given(call, 0)?;
    if !rel::may_create_in_pgmq(role::caller()) {
        return Err(Error::PgmqDenied);
    }
    if let Some(q) = find(&name, Lock::Read)? {
        report::notice(&format!(
            "relation \"{}\" already exists, skipping",
            super::relation(&name)
        ));
        companion::named(&Named {
            queue: &q.name,
            given: &name,
            is_fresh: false,
            is_partitioned: false,
        })?;
        return Ok(Value::text(&q.name));
    }
    let mut new = pgmq::for_new(&name);
    match reserve(&new, &[]) {
        // Its own name is an archive's, or that of an exchange.
        Err(Error::NameTaken(_)) => {
            new = pgmq::instead(&pgmq::folded(&name));
            reserve(&new, &[])?;
        }
        other => other?,
    }
    if let Some(why) = refuse(&new) {
        return Err(Error::BadName {
            what: "a queue",
            name: new,
            why,
        });
    }
    let durable = call.arg(1).as_bool().unwrap_or(true);
    let options = Options {
        max_bytes: LARGEST,
        ..Options::default()
    };
    life::create(&new, durable, &options)?;
    companion::named(&Named {
        queue: &new,
        given: &name,
        is_fresh: true,
        is_partitioned: call.arg(2).as_bool().unwrap_or(false),
    })?;
    Ok(Value::text(&new))
}

/// What the queue is called here that pgmq's callers know by that name; null when there is none.
fn queue(call: &Call) -> Result<Value> {
    let found = find(&given(call, 0)?, Lock::Read)?;
    Ok(found.map_or(Value::NULL, |q| Value::text(&q.name)))
}

/// The last id that was given to a message of the queue, if anybody knows.
fn last_id(call: &Call) -> Result<Value> {
    let found = find(&given(call, 0)?, Lock::Read)?;
    let last = found.map(|q| insert::last_id(&q)).transpose()?;
    Ok(Value::opt(last, Value::int8))
}
