//! Messages that will not be handed out again: to the dead-letter queue with a header that tells
//! why, or, where there is none, removed and counted.

use crate::catalog::{self, Queue};
use crate::error::{Error, Result};
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::report;
use crate::pg::spi;
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};
use crate::queue::note::note;
use crate::queue::send;
use crate::storage::insert::Message;
use crate::storage::length;
use crate::storage::row::Place;
use crate::storage::upkeep::{self, Corpse};
use crate::wake::totals::{self, Total};
use crate::wake::touch;
use pg_broker_core::death::{Death, Reason, record};
use std::rc::Rc;

/// Where dead letters go.
enum Target {
    Nowhere,
    Queue(Rc<Queue>),
    /// Named, but not to be had: why.
    Closed(Error),
}

fn target(q: &Queue, n: i64) -> Result<Target> {
    let Some(view) = q.options.dead_letter else {
        return Ok(Target::Nowhere);
    };
    let Some(dead) = catalog::open_oid(view, Lock::Write)? else {
        return Ok(Target::Closed(Error::NoDeadLetter(q.name.clone())));
    };
    if !rel::allows(dead.view, q.owner, Privilege::Insert) {
        return Ok(Target::Closed(Error::DeadLetterDenied {
            queue: q.name.clone(),
            target: dead.name.clone(),
        }));
    }
    match send::no_room(&dead, n)? {
        Some(full) => Ok(Target::Closed(full)),
        None => Ok(Target::Queue(dead)),
    }
}

fn timestamp_text(t: Micros) -> Result<String> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT pg_catalog.to_char(pg_catalog.timezone('UTC', $1), \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            &[Ty::Timestamptz],
            &[Value::timestamptz(t)],
        )?;
        Ok(rows.get(0, 0).as_text().unwrap_or_default())
    })
}

/// The letter that becomes of a message.
fn letter(q: &Queue, c: &Corpse, reason: Reason, at: &str) -> Message {
    let headers = record(
        c.headers.jsonb_text().as_deref(),
        &Death {
            reason,
            queue: &q.name,
            id: c.id(),
            failures: c.failures,
            error: c.last_error.as_deref(),
            at,
        },
    );
    Message {
        id: 0,
        due: None,
        expires_at: None,
        priority: c.priority,
        group_key: c.group_key.clone(),
        dedup_key: None,
        headers: Value::jsonb(&headers.to_string()),
        body: c.body,
        data: c.data,
    }
}

fn send_letters(
    q: &Queue,
    dead: &Queue,
    corpses: &[Corpse],
    reason: impl Fn(&Corpse) -> Reason,
    now: Micros,
) -> Result<()> {
    let at = timestamp_text(now)?;
    for c in corpses {
        send::forward(dead, letter(q, c, reason(c), &at), now)?;
    }
    Ok(())
}

fn gone(q: &Queue, corpses: &[Corpse], reason: impl Fn(&Corpse) -> Reason) -> Result<()> {
    upkeep::remove(q, &corpses.iter().map(|c| c.place).collect::<Vec<_>>())?;
    note(q, corpses.iter().map(Corpse::gone));
    length::add(q, -(corpses.len() as i64))?;
    let expired = corpses
        .iter()
        .filter(|c| reason(c) == Reason::Expired)
        .count();
    totals::count(q, Total::Expired, expired);
    totals::count(q, Total::Dead, corpses.len() - expired);
    Ok(())
}

/// Keeps messages that cannot be buried, says why, and goes on.
fn postpone(q: &Queue, corpses: &[Corpse], why: &Error, now: Micros) -> Result<()> {
    const MARK: &str = "not dead-lettered: ";
    let until = now.saturating_add(upkeep::POSTPONED);
    for c in corpses {
        // The consumer's reason stays in front, however often burying is tried.
        let reason = c
            .last_error
            .as_deref()
            .map(|e| e.split(MARK).next().unwrap_or(e));
        let reason = reason.map_or("", |r| r.trim_end_matches("; "));
        let gap = if reason.is_empty() { "" } else { "; " };
        let error = format!("{reason}{gap}{MARK}{why}");
        note(q, upkeep::postpone(q, c, &error, until));
    }
    report::warn(
        &format!(
            "queue \"{}\": {} dead message(s) kept: {why}",
            q.name,
            corpses.len()
        ),
        "They are not handed out, and tried again in a minute; see mq.status().",
    );
    Ok(())
}

/// Buries rows that this transaction has locked and that are over. A dead-letter queue that is
/// full or gone is a warning here. Gives how many left the queue.
pub fn over(q: &Queue, places: &[Place], now: Micros) -> Result<usize> {
    if places.is_empty() {
        return Ok(0);
    }
    let corpses = upkeep::exhume(q, places, now);
    totals::count(
        q,
        Total::Failed,
        corpses.iter().filter(|c| c.lease_ended).count(),
    );
    let reason = |c: &Corpse| {
        if c.expired {
            Reason::Expired
        } else {
            Reason::Failures
        }
    };
    bury(q, &corpses, reason, now)
}

fn bury(
    q: &Queue,
    corpses: &[Corpse],
    reason: impl Fn(&Corpse) -> Reason,
    now: Micros,
) -> Result<usize> {
    if corpses.is_empty() {
        return Ok(0);
    }
    match target(q, corpses.len() as i64)? {
        Target::Queue(dead) => send_letters(q, &dead, corpses, &reason, now)?,
        Target::Nowhere => {}
        Target::Closed(why) => {
            postpone(q, corpses, &why, now)?;
            return Ok(0);
        }
    }
    gone(q, corpses, reason)?;
    Ok(corpses.len())
}

/// Buries messages that a nack has failed for the last allowed time. The rows are locked by this
/// transaction.
pub fn failed(q: &Queue, places: &[Place], error: Option<&str>, now: Micros) -> Result<()> {
    let mut corpses = upkeep::exhume(q, places, now);
    for c in &mut corpses {
        // The nack is the failure, whether or not the lease has ended meanwhile.
        c.failures += i32::from(!c.lease_ended);
        c.last_error = error.map(str::to_owned);
    }
    bury(q, &corpses, |_| Reason::Failures, now).map(|_| ())
}

/// Buries messages for a caller to whom a dead-letter queue that is full or gone is an error. The
/// rows are locked by this transaction.
fn bury_or_fail(q: &Queue, corpses: &[Corpse], reason: Reason, now: Micros) -> Result<()> {
    match target(q, corpses.len() as i64)? {
        Target::Queue(dead) => send_letters(q, &dead, corpses, |_| reason, now)?,
        Target::Nowhere => {}
        Target::Closed(why) => return Err(why),
    }
    gone(q, corpses, |_| reason)
}

/// Buries messages that a consumer rejected.
pub fn rejected(q: &Queue, places: &[Place], error: Option<&str>, now: Micros) -> Result<()> {
    let mut corpses = upkeep::exhume(q, places, now);
    corpses
        .iter_mut()
        .for_each(|c| c.last_error = error.map(str::to_owned));
    bury_or_fail(q, &corpses, Reason::Rejected, now)
}

/// Makes room by burying the `n` oldest messages that nobody holds. Gives how many it buried.
pub fn oldest(q: &Queue, n: i64, now: Micros) -> Result<i64> {
    let begun = touch::begin(q, 0);
    let places: Vec<Place> = upkeep::oldest(q, n, now).iter().map(|f| f.place).collect();
    let corpses = upkeep::exhume(q, &places, now);
    bury_or_fail(q, &corpses, Reason::MaxLength, now)?;
    begun.told();
    Ok(corpses.len() as i64)
}
