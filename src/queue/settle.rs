//! Ending a hand-out: done, failed, given back, refused, prolonged.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::rel;
use crate::pg::spi::Spi;
use crate::pg::time::{self, Interval, Micros};
use crate::queue::bury;
use crate::storage::length;
use crate::storage::place::{self, Place};
use crate::storage::settle::{self, HandOut, Held};
use crate::wake::totals::{self, Total};
use pg_broker_core::backoff;

fn removed(spi: &Spi, q: &Queue, n: usize) -> Result<()> {
    length::add(spi, q, -(n as i64))?;
    totals::count(q, Total::Acked, n);
    Ok(())
}

/// Locks hand-outs: where they lie.
fn places(spi: &Spi, q: &Queue, list: &[HandOut]) -> Result<Vec<Place>> {
    Ok(settle::hold(spi, q, list)?
        .into_iter()
        .map(|h| h.place)
        .collect())
}

pub fn ack(spi: &Spi, q: &Queue, list: &[HandOut], _now: Micros) -> Result<Vec<i64>> {
    let done = match list {
        [(id, receipt)] if settle::ack_one(spi, q, *id, *receipt)? => vec![*id],
        [_] => Vec::new(),
        _ => settle::ack(spi, q, list)?,
    };
    removed(spi, q, done.len())?;
    Ok(done)
}

pub fn archive(spi: &Spi, q: &Queue, list: &[HandOut], now: Micros) -> Result<Vec<i64>> {
    let done = settle::archive(spi, q, &places(spi, q, list)?, now)?;
    removed(spi, q, done.len())?;
    Ok(done)
}

/// When a message that has now failed so often is tried again.
fn retry_at(q: &Queue, failures: i32, delay: Option<Interval>, now: Micros) -> Option<Micros> {
    let at = match delay {
        Some(delay) => time::add(now, &delay),
        None => {
            let step = backoff::step(failures, q.options.backoff.len())?;
            let wait = time::add(now, &q.options.backoff[step]) - now;
            now.saturating_add(backoff::jitter(wait, rel::random_receipt() as u64))
        }
    };
    (at > now).then_some(at)
}

pub fn nack(
    spi: &Spi,
    q: &Queue,
    list: &[HandOut],
    delay: Option<Interval>,
    reason: Option<&str>,
    now: Micros,
) -> Result<Vec<i64>> {
    let held = settle::hold(spi, q, list)?;
    let is_last = |h: &Held| {
        q.options
            .max_failures
            .is_some_and(|max| h.failures + 1 >= max)
    };
    let (last, again): (Vec<Held>, Vec<Held>) = held.iter().copied().partition(is_last);
    for h in again {
        settle::retry(
            spi,
            q,
            h.place,
            retry_at(q, h.failures + 1, delay, now),
            reason,
        )?;
    }
    bury::failed(
        spi,
        q,
        &last.iter().map(|h| h.place).collect::<Vec<_>>(),
        reason,
        now,
    )?;
    totals::count(q, Total::Failed, held.len());
    Ok(held.into_iter().map(|h| h.place.1).collect())
}

pub fn release(
    spi: &Spi,
    q: &Queue,
    list: &[HandOut],
    delay: Option<Interval>,
    now: Micros,
) -> Result<Vec<i64>> {
    let due = delay.map(|d| time::add(now, &d)).filter(|&at| at > now);
    settle::release(spi, q, &places(spi, q, list)?, due)
}

pub fn reject(
    spi: &Spi,
    q: &Queue,
    list: &[HandOut],
    reason: Option<&str>,
    now: Micros,
) -> Result<Vec<i64>> {
    let held = places(spi, q, list)?;
    if !held.is_empty() {
        bury::rejected(spi, q, &held, reason, now)?;
    }
    Ok(place::ids(&held))
}

/// Gives the ids whose lease now ends at `due`.
pub fn extend(spi: &Spi, q: &Queue, list: &[HandOut], due: Micros) -> Result<Vec<i64>> {
    settle::extend(spi, q, &places(spi, q, list)?, due)
}

/// Removes messages whoever holds them.
pub fn delete(spi: &Spi, q: &Queue, ids: &[i64]) -> Result<Vec<i64>> {
    let gone = place::remove(q, &settle::seize(spi, q, ids)?)?;
    length::add(spi, q, -(gone.len() as i64))?;
    Ok(gone)
}

pub fn purge(spi: &Spi, q: &Queue) -> Result<i64> {
    let n = settle::purge(spi, q)?;
    length::add(spi, q, -n)?;
    Ok(n)
}
