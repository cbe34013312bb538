//! Deduplication keys: who sent a key first within its window.

use super::archive::remove_found;
use super::lookup;
use super::plans::{Kind, ask};
use super::table;
use crate::catalog::Queue;
use crate::error::{Error, Result};
use crate::pg::rel;
use crate::pg::spi;
use crate::pg::table::{Pinned, Table};
use crate::pg::time::{self, Micros};
use crate::pg::value::{Ty, Value};
use crate::pg::walk::Walk;

/// Takes a key for message `id` until then. Gives the id of the message that has it: `id` when
/// the key was free or its window over. Waits for a transaction that has taken the key and is
/// still open.
pub fn take(q: &Queue, key: &str, id: i64, until: Micros, now: Micros) -> Result<i64> {
    loop {
        match holder(q, key, now)? {
            Some((holder, Hold::Current)) => return Ok(holder),
            // The holder keeps the key for as long as it is in the queue, and it has left.
            Some((holder, Hold::Left)) => {
                if steal(q, key, holder, id, until)? {
                    return Ok(id);
                }
            }
            Some((_, Hold::Over)) | None => {
                if seize(q, key, id, until, now)? {
                    return Ok(id);
                }
            }
        }
    }
}

/// What a key's entry is worth.
enum Hold {
    Current,
    Over,
    Left,
}

/// Who has a key, as far as is committed. Looks without locking: a duplicate of something sent
/// long ago neither waits nor makes others wait.
fn holder(q: &Queue, key: &str, now: Micros) -> Result<Option<(i64, Hold)>> {
    let found = ask(
        q,
        Kind::KeyHolder,
        &[Ty::Text, Ty::Timestamptz],
        &[Value::text(key), Value::timestamptz(now)],
        || {
            format!(
                "SELECT k.id, k.until <= $2, k.until = 'infinity' FROM {}_keys k WHERE k.key = $1",
                table(q)
            )
        },
        |rows| {
            let yes = |col| rows.get(0, col).as_bool() == Some(true);
            rows.get(0, 0).as_int8().map(|id| (id, yes(1), yes(2)))
        },
    )?;
    Ok(found.map(|(id, is_over, is_forever)| {
        let hold = if is_over {
            Hold::Over
        } else if is_forever && !lookup::exists(q, id) {
            Hold::Left
        } else {
            Hold::Current
        };
        (id, hold)
    }))
}

/// Enters a key that nobody has, or whose window is over. Waits for a transaction that has done
/// so and is still open.
fn seize(q: &Queue, key: &str, id: i64, until: Micros, now: Micros) -> Result<bool> {
    ask(
        q,
        Kind::KeyTake,
        &[Ty::Text, Ty::Int8, Ty::Timestamptz, Ty::Timestamptz],
        &[
            Value::text(key),
            Value::int8(id),
            Value::timestamptz(until),
            Value::timestamptz(now),
        ],
        || {
            format!(
                "INSERT INTO {}_keys AS k (key, id, until) VALUES ($1, $2, $3) \
                 ON CONFLICT (key) DO UPDATE SET id=excluded.id, until=excluded.until \
                 WHERE k.until <= $4",
                table(q)
            )
        },
        |rows| rows.processed > 0,
    )
}

fn steal(q: &Queue, key: &str, from: i64, id: i64, until: Micros) -> Result<bool> {
    ask(
        q,
        Kind::KeySteal,
        &[Ty::Text, Ty::Int8, Ty::Int8, Ty::Timestamptz],
        &[
            Value::text(key),
            Value::int8(from),
            Value::int8(id),
            Value::timestamptz(until),
        ],
        || {
            format!(
                "UPDATE {}_keys k SET id=$3, until=$4 WHERE k.key = $1 AND k.id = $2",
                table(q)
            )
        },
        |rows| rows.processed > 0,
    )
}

/// When the next window is over.
pub fn next(q: &Queue) -> Result<Option<Micros>> {
    const UNTIL: usize = 2;
    let broken = || Error::BrokenQueue(q.name.clone());
    let keys = rel::internal(&format!("q_{}_keys", q.n)).ok_or_else(broken)?;
    let _pinned = Pinned::now();
    let table = Table::open_to_read(keys);
    if table.is_empty() {
        return Ok(None);
    }
    let index = rel::internal(&format!("q_{}_keys_until", q.n)).ok_or_else(broken)?;
    let mut walk = Walk::by_time(&table, index);
    walk.seek_upto(time::INFINITY);
    let is_there = walk.next();
    Ok(is_there.then(|| walk.get(UNTIL).as_timestamptz()).flatten())
}

/// Removes keys whose window is over, at most so many; none that somebody is taking.
pub fn expire(q: &Queue, limit: i64, now: Micros) -> Result<u64> {
    spi::connect(|spi| {
        remove_found(
            spi,
            q,
            (Kind::KeysExpired, Kind::KeysRemove),
            "keys",
            &[Ty::Timestamptz, Ty::Int8],
            &[Value::timestamptz(now), Value::int8(limit)],
            || {
                format!(
                    "SELECT k.ctid FROM {}_keys k WHERE k.until <= $1 ORDER BY k.until LIMIT $2 \
                 FOR UPDATE SKIP LOCKED",
                    table(q)
                )
            },
        )
    })
}
