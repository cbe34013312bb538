//! Ending a hand-out: done, failed, given back, refused, prolonged.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::rel;
use crate::pg::time::{self, Interval, Micros};
use crate::queue::bury;
use crate::queue::limits;
use crate::queue::note::{note, note_leaving, note_locked};
use crate::storage::length;
use crate::storage::lookup::{self, Repair, Repaired};
use crate::storage::row::{Change, Facts, Place};
use crate::storage::settle::{self, HandOut};
use crate::wake::totals::{self, Total};
use crate::wake::touch;
use pg_broker_core::backoff;

/// The lowest id of a list.
fn lowest(list: &[HandOut]) -> i64 {
    list.iter().map(|&(id, _)| id).min().unwrap_or(i64::MAX)
}

fn noted(q: &Queue, changes: Vec<Change>) -> Vec<i64> {
    let ids = changes.iter().map(|c| c.id).collect();
    note(q, changes);
    ids
}

fn removed(q: &Queue, changes: Vec<Change>) -> Result<Vec<i64>> {
    length::add(q, -(changes.len() as i64))?;
    Ok(noted(q, changes))
}

pub fn ack(q: &Queue, list: &[HandOut]) -> Result<Vec<i64>> {
    let begun = touch::begin(q, lowest(list));
    let done = removed(q, settle::ack(q, list))?;
    totals::count(q, Total::Acked, done.len());
    begun.told();
    Ok(done)
}

pub fn archive(q: &Queue, list: &[HandOut], now: Micros) -> Result<Vec<i64>> {
    let begun = touch::begin(q, lowest(list));
    let done = removed(q, settle::archive(q, list, now))?;
    totals::count(q, Total::Acked, done.len());
    begun.told();
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

/// Rows that were locked, for burying.
fn held(q: &Queue, rows: &[Facts]) -> Vec<Place> {
    note_locked(q, rows);
    rows.iter().map(|f| f.place).collect()
}

pub fn nack(
    q: &Queue,
    list: &[HandOut],
    delay: Option<Interval>,
    reason: Option<&str>,
    now: Micros,
) -> Result<Vec<i64>> {
    let begun = touch::begin(q, lowest(list));
    let again = settle::retry(q, list, reason, |failures| {
        retry_at(q, failures, delay, now)
    });
    let mut done = noted(q, again);
    if q.options.max_failures.is_some() && done.len() < list.len() {
        let last = held(q, &settle::hold_last(q, list));
        bury::failed(q, &last, reason, now)?;
        done.extend(last.iter().map(|p| p.id));
    }
    totals::count(q, Total::Failed, done.len());
    begun.told();
    Ok(done)
}

pub fn release(q: &Queue, list: &[HandOut], delay: Option<Interval>, now: Micros) -> Vec<i64> {
    let begun = touch::begin(q, lowest(list));
    let due = delay.map(|d| time::add(now, &d)).filter(|&at| at > now);
    let done = noted(q, settle::release(q, list, due));
    begun.told();
    done
}

pub fn reject(q: &Queue, list: &[HandOut], reason: Option<&str>, now: Micros) -> Result<Vec<i64>> {
    let begun = touch::begin(q, lowest(list));
    let held = held(q, &settle::hold(q, list));
    if !held.is_empty() {
        bury::rejected(q, &held, reason, now)?;
    }
    begun.told();
    Ok(held.iter().map(|p| p.id).collect())
}

/// Gives the ids whose lease now ends at `due`.
pub fn extend(q: &Queue, list: &[HandOut], due: Micros, now: Micros) -> Vec<i64> {
    let begun = touch::begin(q, lowest(list));
    let may = |ends: Option<Micros>| {
        let has_ended = ends.is_none_or(|at| at <= time::now());
        limits::may_extend(q, has_ended)
    };
    let done = noted(q, settle::extend(q, list, due, now, may));
    begun.told();
    done
}

/// Removes messages whoever holds them.
pub fn delete(q: &Queue, ids: &[i64]) -> Result<Vec<i64>> {
    let begun = touch::begin(q, ids.iter().min().copied().unwrap_or(i64::MAX));
    let done = removed(q, settle::delete(q, ids))?;
    begun.told();
    Ok(done)
}

pub enum Mended {
    Done,
    Leased,
    Gone,
}

/// Replaces what an owner may mend.
pub fn repair(q: &Queue, id: i64, repair: &Repair, now: Micros) -> Mended {
    let begun = touch::begin(q, id);
    let mended = match lookup::repair(q, id, repair, now) {
        Repaired::Done(changes) => {
            note(q, changes);
            Mended::Done
        }
        Repaired::Leased(row) => {
            note_locked(q, &[row]);
            Mended::Leased
        }
        Repaired::Gone => Mended::Gone,
    };
    begun.told();
    mended
}

pub fn purge(q: &Queue) -> Result<i64> {
    let begun = touch::begin(q, 0);
    let mut n = 0;
    note_leaving(q, |leaves| {
        settle::purge(q, |change| {
            n += 1;
            leaves(change);
        });
    });
    length::add(q, -n)?;
    begun.told();
    Ok(n)
}
