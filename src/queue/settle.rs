//! Ending a hand-out: done, failed, given back, refused, prolonged.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::rel;
use crate::pg::spi::Spi;
use crate::pg::time::{self, Interval, Micros};
use crate::queue::bury;
use crate::storage::length;
use crate::storage::settle::{self, HandOuts};
use crate::wake::totals::{self, Total};
use pg_broker_core::backoff;

/// An id with its receipt, or with none.
pub type HandOut = (i64, Option<i64>);

/// Settles hand-outs with `act`, which leaves out rows that somebody else has locked. While a
/// lease is running that can only be a peer of the same hand-out (or an operator), who is waited
/// for; once it has ended, it may be another consumer, who is not.
fn settled(
    spi: &Spi,
    q: &Queue,
    list: &[HandOut],
    now: Micros,
    act: impl Fn(&[HandOut]) -> Result<Vec<i64>>,
) -> Result<Vec<i64>> {
    let mut done = act(list)?;
    let missed: Vec<HandOut> = list
        .iter()
        .filter(|h| !done.contains(&h.0))
        .copied()
        .collect();
    if !missed.is_empty() {
        let current = settle::await_peers(spi, q, &HandOuts::new(&missed), now)?;
        if !current.is_empty() {
            done.extend(act(&current)?);
        }
    }
    Ok(done)
}

fn removed(spi: &Spi, q: &Queue, n: usize) -> Result<()> {
    length::add(spi, q, -(n as i64))?;
    totals::count(q, Total::Acked, n);
    Ok(())
}

pub fn ack(spi: &Spi, q: &Queue, list: &[HandOut], now: Micros) -> Result<Vec<i64>> {
    let done = settled(spi, q, list, now, |list| match list {
        [(id, receipt)] => Ok(if settle::ack_one(spi, q, *id, *receipt)? {
            vec![*id]
        } else {
            Vec::new()
        }),
        _ => settle::ack(spi, q, &HandOuts::new(list)),
    })?;
    removed(spi, q, done.len())?;
    Ok(done)
}

pub fn archive(spi: &Spi, q: &Queue, list: &[HandOut], now: Micros) -> Result<Vec<i64>> {
    let done = settled(spi, q, list, now, |list| {
        settle::archive(spi, q, &HandOuts::new(list), now)
    })?;
    removed(spi, q, done.len())?;
    Ok(done)
}

/// Locks hand-outs: their ids, with the failures counted so far.
fn lock(spi: &Spi, q: &Queue, list: &[HandOut], now: Micros) -> Result<Vec<(i64, i32)>> {
    let locked = std::cell::RefCell::new(Vec::new());
    settled(spi, q, list, now, |list| {
        let found = settle::lock(spi, q, &HandOuts::new(list))?;
        let ids = found.iter().map(|f| f.0).collect();
        locked.borrow_mut().extend(found);
        Ok(ids)
    })?;
    let mut locked = locked.into_inner();
    locked.sort_unstable();
    locked.dedup();
    Ok(locked)
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
    let locked = lock(spi, q, list, now)?;
    let is_last = |failures: i32| {
        q.options
            .max_failures
            .is_some_and(|max| failures + 1 >= max)
    };
    let (last, again): (Vec<_>, Vec<_>) = locked.iter().copied().partition(|l| is_last(l.1));
    if !again.is_empty() {
        let at: Vec<_> = again
            .iter()
            .map(|&(id, f)| (id, retry_at(q, f + 1, delay, now)))
            .collect();
        settle::retry(spi, q, &at, reason)?;
    }
    if !last.is_empty() {
        bury::failed(
            spi,
            q,
            &last.iter().map(|l| l.0).collect::<Vec<_>>(),
            reason,
            now,
        )?;
    }
    totals::count(q, Total::Failed, locked.len());
    Ok(locked.into_iter().map(|l| l.0).collect())
}

pub fn release(
    spi: &Spi,
    q: &Queue,
    list: &[HandOut],
    delay: Option<Interval>,
    now: Micros,
) -> Result<Vec<i64>> {
    let due = delay.map(|d| time::add(now, &d)).filter(|&at| at > now);
    settled(spi, q, list, now, |list| {
        settle::release(spi, q, &HandOuts::new(list), due)
    })
}

pub fn reject(
    spi: &Spi,
    q: &Queue,
    list: &[HandOut],
    reason: Option<&str>,
    now: Micros,
) -> Result<Vec<i64>> {
    let ids: Vec<i64> = settle::lock(spi, q, &HandOuts::new(list))?
        .into_iter()
        .map(|l| l.0)
        .collect();
    if !ids.is_empty() {
        bury::rejected(spi, q, &ids, reason, now)?;
    }
    Ok(ids)
}

/// Gives the ids whose lease now ends at `due`.
pub fn extend(
    spi: &Spi,
    q: &Queue,
    list: &[HandOut],
    due: Micros,
    now: Micros,
) -> Result<Vec<i64>> {
    settled(spi, q, list, now, |list| {
        settle::extend(spi, q, &HandOuts::new(list), due)
    })
}

/// Removes messages whoever holds them.
pub fn delete(spi: &Spi, q: &Queue, ids: &[i64]) -> Result<Vec<i64>> {
    let gone = settle::delete(spi, q, ids)?;
    length::add(spi, q, -(gone.len() as i64))?;
    Ok(gone)
}

pub fn purge(spi: &Spi, q: &Queue) -> Result<i64> {
    let n = settle::purge(spi, q)? as i64;
    length::add(spi, q, -n)?;
    Ok(n)
}
