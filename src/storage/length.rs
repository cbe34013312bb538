//! How many messages a limited queue holds, without counting them.
//!
//! The count is spread over slots: a transaction adds to a slot that no other open transaction has
//! touched, so that nobody waits, and the sum over all slots is exact for what is committed and
//! for the own transaction. Only queues with a `max_length` pay for this.

use super::insert::new_id;
use super::plans::{Kind, ask};
use super::table;
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::rel::{self, Lock};
use crate::pg::value::{Ty, Value};

/// Notes that `n` messages came (or, negative, went).
pub fn add(q: &Queue, n: i64) -> Result<()> {
    if q.options.max_length.is_none() || n == 0 {
        return Ok(());
    }
    let added = ask(
        q,
        Kind::LengthAdd,
        &[Ty::Int8],
        &[Value::int8(n)],
        || {
            let t = table(q);
            format!(
                "UPDATE {t}_length s SET n=s.n + $1 WHERE s.slot = (SELECT f.slot FROM {t}_length f \
                 ORDER BY f.slot LIMIT 1 FOR UPDATE SKIP LOCKED)"
            )
        },
        |rows| rows.processed > 0,
    )?;
    if added {
        return Ok(());
    }
    let slot = match rel::internal(&format!("q_{}_length", q.n)) {
        // Every slot is another transaction's: a new one, under a number never used before.
        Some(_) => new_id(q),
        None => return Ok(()),
    };
    ask(
        q,
        Kind::LengthNew,
        &[Ty::Int8, Ty::Int8],
        &[Value::int8(slot), Value::int8(n)],
        || format!("INSERT INTO {}_length (slot, n) VALUES ($1, $2)", table(q)),
        |_| (),
    )
}

/// Whether this transaction is the one that may bring an overfull queue back to its limit.
pub fn try_lock(q: &Queue) -> bool {
    rel::internal(&format!("q_{}_length", q.n)).is_some_and(|t| rel::try_hold(t, Lock::Alter))
}

/// Whether `total` need not wait for somebody who turns the limit on or off.
pub fn can_tell(q: &Queue) -> bool {
    let counters = rel::internal(&format!("q_{}_length", q.n));
    counters.is_none_or(|t| rel::try_hold(t, Lock::Read))
}

/// How many messages there are, as far as this transaction can see.
pub fn total(q: &Queue) -> Result<i64> {
    ask(
        q,
        Kind::LengthSum,
        &[],
        &[],
        || {
            format!(
                "SELECT COALESCE(pg_catalog.sum(s.n), 0)::pg_catalog.int8 FROM {}_length s",
                table(q)
            )
        },
        |rows| rows.get(0, 0).as_int8().unwrap_or(0),
    )
}
