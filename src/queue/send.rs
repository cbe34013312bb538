//! Sending: checks, deduplication, limits, and the row.

use crate::catalog::{Ordering, Overflow, Queue, companion};
use crate::error::{Error, Result};
use crate::pg::bell;
use crate::pg::spi;
use crate::pg::time::{self, Interval, Micros};
use crate::pg::value::Value;
use crate::queue::bury;
use crate::queue::note::note;
use crate::queue::tend;
use crate::storage::insert::{self, Message};
use crate::storage::row::{Change, rank_of};
use crate::storage::{keys, length};
use crate::wake::notify;
use crate::wake::totals::{self, Total};
use pg_broker_core::names::DEFAULT_PRIORITY;

/// The longest interval that anything may last: far from the end of PostgreSQL's calendar.
const LONGEST: i128 = 10_000 * 360 * 86_400_000_000;

/// How a message is to be sent, checked, beside its payload.
#[derive(Clone)]
pub struct How {
    pub due: Option<Micros>,
    pub expires_at: Option<Micros>,
    pub priority: i16,
}

/// What a sender may say about a message beside its payload.
#[derive(Clone, Default)]
pub struct Wish {
    pub delay: Option<Interval>,
    pub deliver_at: Option<Micros>,
    pub priority: Option<i32>,
    pub ttl: Option<Interval>,
    pub expires_at: Option<Micros>,
}

/// An interval that must last longer than nothing.
pub fn positive(q: &str, argument: &'static str, i: Interval) -> Result<Interval> {
    if !i.is_infinite() && i.span() <= 0 {
        return Err(Error::argument(q, argument, "must be longer than zero"));
    }
    not_negative(q, argument, i)
}

/// An interval that may be nothing, but not negative.
pub fn not_negative(q: &str, argument: &'static str, i: Interval) -> Result<Interval> {
    if i.is_infinite() {
        Err(Error::argument(q, argument, "must be finite"))
    } else if i.span() < 0 {
        Err(Error::argument(q, argument, "must not be negative"))
    } else if i.span() > LONGEST {
        Err(Error::argument(q, argument, "must be at most 10000 years"))
    } else {
        Ok(i)
    }
}

fn due(q: &str, wish: &Wish, now: Micros) -> Result<Option<Micros>> {
    let at = match (wish.delay, wish.deliver_at) {
        (Some(_), Some(_)) => {
            return Err(Error::argument_hint(
                q,
                "deliver_at",
                "cannot be combined with delay",
                "Give either how long to wait or the time to deliver at.",
            ));
        }
        (Some(delay), None) => Some(time::add(now, &not_negative(q, "delay", delay)?)),
        (None, Some(at)) if time::is_finite(at) => Some(at),
        (None, Some(_)) => return Err(Error::argument(q, "deliver_at", "must be finite")),
        (None, None) => None,
    };
    Ok(at.filter(|&at| at > now))
}

/// Checks a wish against the queue's rules.
pub fn how(q: &Queue, wish: &Wish, now: Micros) -> Result<How> {
    how_of(&q.name, q.options.ttl.as_ref(), wish, now)
}

/// The same where messages live so long (for ever, if nothing is said), under that name.
pub fn how_of(name: &str, lives: Option<&Interval>, wish: &Wish, now: Micros) -> Result<How> {
    let priority = match wish.priority {
        None => DEFAULT_PRIORITY,
        Some(p @ 0..=9) => p as i16,
        Some(p) => {
            return Err(Error::argument(
                name,
                "priority",
                format!("must be between 0 and 9, not {p}"),
            ));
        }
    };
    let due = due(name, wish, now)?;
    let expires_at = match (wish.ttl, wish.expires_at, lives) {
        (Some(ttl), _, _) => Some(time::add(now, &positive(name, "ttl", ttl)?)),
        (None, Some(at), _) if at == time::INFINITY => None,
        (None, Some(at), _) if !time::is_finite(at) => {
            return Err(Error::argument(name, "expires_at", "must not be -infinity"));
        }
        (None, Some(at), _) => Some(at),
        (None, None, Some(ttl)) => Some(time::add(now, ttl)),
        (None, None, None) => None,
    };
    if let (Some(_), Some(due), Some(expires_at)) = (wish.ttl, due, expires_at)
        && expires_at <= due
    {
        return Err(Error::argument(
            name,
            "ttl",
            "ends before the message could be delivered",
        ));
    }
    Ok(How {
        due,
        expires_at,
        priority,
    })
}

/// Checks payload and headers.
pub fn check_payload(q: &Queue, name: &'static str, payload: Value, headers: Value) -> Result<()> {
    if payload.is_null() {
        return Err(Error::null(&q.name, name));
    }
    if !headers.is_null() && !headers.jsonb_is_object() {
        return Err(Error::argument_hint(
            &q.name,
            "headers",
            "must be a JSON object",
            "Write it as in '{\"type\": \"order\"}'.",
        ));
    }
    check_size(q, name, payload, headers)
}

/// Checks that payload and headers together are not too large.
pub fn check_size(q: &Queue, name: &'static str, payload: Value, headers: Value) -> Result<()> {
    let size = payload.payload_size() + headers.payload_size();
    if size > q.options.max_bytes {
        return Err(Error::TooLarge {
            queue: q.name.clone(),
            argument: name,
            size,
            limit: q.options.max_bytes,
        });
    }
    Ok(())
}

/// Only a queue that keeps groups in order is told of one.
pub fn check_group(q: &Queue, group_key: Option<&str>) -> Result<()> {
    match group_key {
        Some(_) if q.options.ordering != Ordering::Group => Err(Error::NoGroups {
            queue: q.name.clone(),
        }),
        _ => Ok(()),
    }
}

fn window_end(q: &Queue, now: Micros) -> Micros {
    if q.options.dedups_forever() {
        time::INFINITY
    } else {
        time::add(now, &q.options.dedup_window)
    }
}

fn sent(q: &Queue, list: &[Message], now: Micros) {
    totals::count(q, Total::Sent, list.len());
    note(
        q,
        list.iter().map(|m| Change {
            rank: rank_of(m.priority),
            id: m.id,
            group: insert::group_of(q, m),
            is_new: true,
            was: None,
            now: Some(m.standing(q, now)),
        }),
    );
}

/// Sends one message. Gives its id, or the id of the one that has its deduplication key.
pub fn one(q: &Queue, mut m: Message, now: Micros) -> Result<i64> {
    m.id = insert::new_id(q);
    if let Some(key) = &m.dedup_key {
        let holder = keys::take(q, key, m.id, window_end(q, now), now)?;
        if holder != m.id {
            return Ok(holder);
        }
    }
    enter(q, 1, m.id, now, || insert::one(q, &m, now))?;
    sent(q, std::slice::from_ref(&m), now);
    Ok(m.id)
}

/// Sends many messages. Gives their ids in order; a duplicate's is the winner's.
pub fn many(q: &Queue, mut list: Vec<Message>, now: Micros) -> Result<Vec<i64>> {
    let mut ids = insert::new_ids(q, list.len());
    for (m, id) in list.iter_mut().zip(&ids) {
        m.id = *id;
    }
    // Keys are taken in their order, so that two batches cannot wait for each other.
    let mut keyed: Vec<usize> = (0..list.len())
        .filter(|&i| list[i].dedup_key.is_some())
        .collect();
    keyed.sort_by(|&a, &b| (&list[a].dedup_key, a).cmp(&(&list[b].dedup_key, b)));
    let until = if keyed.is_empty() {
        now
    } else {
        window_end(q, now)
    };
    let mut before: Option<usize> = None;
    let take_keys = || {
        for i in keyed {
            // A key that the batch itself has just taken belongs to its first message.
            ids[i] = match (before, &list[i].dedup_key) {
                (Some(first), key) if list[first].dedup_key == *key => ids[first],
                (_, Some(key)) => keys::take(q, key, list[i].id, until, now)?,
                (_, None) => ids[i],
            };
            before = Some(i);
        }
        Ok(())
    };
    if until != now {
        // One connection for all of them.
        spi::connect(|_| take_keys())?;
    }
    let mut at = 0;
    list.retain(|m| {
        at += 1;
        ids[at - 1] == m.id
    });
    let n = list.len();
    if n > 0 {
        let last_id = list.iter().map(|m| m.id).max().unwrap_or_default();
        enter(q, n as i64, last_id, now, || {
            insert::many(q, &list, now);
        })?;
        sent(q, &list, now);
    }
    Ok(ids)
}

/// Sends a message that is already in the system to another queue: no deduplication, no check of
/// size, but the limits of the queue.
pub fn forward(q: &Queue, mut m: Message, now: Micros) -> Result<i64> {
    m.id = insert::new_id(q);
    enter(q, 1, m.id, now, || insert::one(q, &m, now))?;
    sent(q, std::slice::from_ref(&m), now);
    Ok(m.id)
}

/// Why `n` more messages do not fit, if they do not.
pub fn no_room(q: &Queue, n: i64) -> Result<Option<Error>> {
    match q.options.max_length {
        Some(limit) if q.options.overflow == Overflow::Reject && length::total(q)? + n > limit => {
            Ok(Some(Error::Full {
                queue: q.name.clone(),
                limit,
            }))
        }
        _ => Ok(None),
    }
}

/// Lets `n` messages in under the queue's limit, of which `last_id` is the last.
fn enter(q: &Queue, n: i64, last_id: i64, now: Micros, insert: impl FnOnce()) -> Result<()> {
    if let Some(limit) = q.options.max_length {
        length::add(q, n)?;
        let over = length::total(q)? - limit;
        if over > 0 && (q.options.overflow == Overflow::Reject || n > limit) {
            return Err(Error::Full {
                queue: q.name.clone(),
                limit,
            });
        }
        if over > 0 {
            // Room for what comes is made by whoever brings it; what is over beyond that, by one
            // sender at a time, or several would each drop the same excess from other messages.
            let drop = if length::try_lock(q) {
                length::total(q)? - limit
            } else {
                over.min(n)
            };
            if drop > 0 && bury::oldest(q, drop, now)? < drop.min(n) {
                return Err(Error::Full {
                    queue: q.name.clone(),
                    limit,
                });
            }
        }
    }
    tend::before_send(q, last_id);
    insert();
    notify::sent(q);
    if q.options.notify && !bell::is_heard() {
        companion::told(std::slice::from_ref(&q.name))?;
    }
    Ok(())
}
