//! Messages that will not be handed out again: to the dead-letter queue with a header that tells
//! why, or, where there is none, removed and counted.

use crate::catalog::{self, Queue};
use crate::error::{Error, Result};
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::report;
use crate::pg::spi::Spi;
use crate::pg::time::{self, Interval, Micros};
use crate::pg::value::{Ty, Value};
use crate::queue::send;
use crate::storage::insert::Message;
use crate::storage::length;
use crate::storage::upkeep::{self, Corpse, Grave};
use crate::wake::totals::{self, Total};
use pg_broker_core::death::{Death, Reason, record};
use std::rc::Rc;

/// A message whose dead-letter queue cannot take it is tried again after this long.
const POSTPONED: Interval = Interval {
    micros: 60_000_000,
    days: 0,
    months: 0,
};

/// Where dead letters go.
enum Target {
    Nowhere,
    Queue(Rc<Queue>),
    /// Named, but not to be had: why.
    Closed(String),
}

fn target(spi: &Spi, q: &Queue, n: i64) -> Result<Target> {
    let Some(view) = q.options.dead_letter else {
        return Ok(Target::Nowhere);
    };
    let Some(dead) = catalog::open_oid(view, Lock::Write)? else {
        return Ok(Target::Closed("its dead-letter queue is gone".into()));
    };
    if !rel::allows(dead.view, q.owner, Privilege::Insert) {
        return Ok(Target::Closed(format!(
            "the owner of the queue may not send to dead-letter queue \"{}\"",
            dead.name
        )));
    }
    if !send::has_room(spi, &dead, n)? {
        return Ok(Target::Closed(format!(
            "dead-letter queue \"{}\" is full",
            dead.name
        )));
    }
    Ok(Target::Queue(dead))
}

fn timestamp_text(spi: &Spi, t: Micros) -> Result<String> {
    let rows = spi.query(
        "SELECT pg_catalog.to_char(pg_catalog.timezone('UTC', $1), \
         'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        &[Ty::Timestamptz],
        &[Value::timestamptz(t)],
    )?;
    Ok(rows.get(0, 0).as_text().unwrap_or_default())
}

/// The letter that becomes of a message.
fn letter(q: &Queue, c: &Corpse, reason: Reason, at: &str) -> Message {
    let headers = record(
        c.headers.jsonb_text().as_deref(),
        &Death {
            reason,
            queue: &q.name,
            id: c.id,
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
    spi: &Spi,
    q: &Queue,
    dead: &Queue,
    corpses: &[Corpse],
    reason: impl Fn(&Corpse) -> Reason,
    now: Micros,
) -> Result<()> {
    let at = timestamp_text(spi, now)?;
    for c in corpses {
        send::forward(spi, dead, letter(q, c, reason(c), &at), now)?;
    }
    Ok(())
}

fn gone(
    spi: &Spi,
    q: &Queue,
    corpses: &[Corpse],
    reason: impl Fn(&Corpse) -> Reason,
) -> Result<()> {
    upkeep::remove(spi, q, &corpses.iter().map(|c| c.id).collect::<Vec<_>>())?;
    length::add(spi, q, -(corpses.len() as i64))?;
    let expired = corpses
        .iter()
        .filter(|c| reason(c) == Reason::Expired)
        .count();
    totals::count(q, Total::Expired, expired);
    totals::count(q, Total::Dead, corpses.len() - expired);
    Ok(())
}

/// Keeps messages that cannot be buried, says why, and goes on.
fn postpone(spi: &Spi, q: &Queue, corpses: &[Corpse], why: &str, now: Micros) -> Result<()> {
    let until = time::add(now, &POSTPONED);
    for c in corpses {
        let error = format!("not dead-lettered: {why}");
        upkeep::postpone(spi, q, c.id, c.failures, &error, until)?;
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

/// Buries those of `ids` that are over. Gives how many it dealt with. A dead-letter queue that is
/// full or gone is a warning here.
pub fn over(spi: &Spi, q: &Queue, ids: &[i64], now: Micros) -> Result<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    let mut corpses = upkeep::exhume(spi, q, ids, Grave::IfOver, now)?;
    corpses.sort_by_key(|c| c.id);
    let reason = |c: &Corpse| {
        if c.expired {
            Reason::Expired
        } else {
            Reason::Failures
        }
    };
    bury(spi, q, &corpses, reason, now)?;
    Ok(corpses.len())
}

fn bury(
    spi: &Spi,
    q: &Queue,
    corpses: &[Corpse],
    reason: impl Fn(&Corpse) -> Reason,
    now: Micros,
) -> Result<()> {
    if corpses.is_empty() {
        return Ok(());
    }
    match target(spi, q, corpses.len() as i64)? {
        Target::Queue(dead) => {
            send_letters(spi, q, &dead, corpses, &reason, now)?;
            gone(spi, q, corpses, reason)
        }
        Target::Nowhere => gone(spi, q, corpses, reason),
        Target::Closed(why) => postpone(spi, q, corpses, &why, now),
    }
}

/// Buries messages that a nack has failed for the last allowed time. The rows are locked by this
/// transaction.
pub fn failed(spi: &Spi, q: &Queue, ids: &[i64], error: Option<&str>, now: Micros) -> Result<()> {
    let mut corpses = upkeep::exhume(spi, q, ids, Grave::Decided, now)?;
    corpses.sort_by_key(|c| c.id);
    for c in &mut corpses {
        // The nack counts, whether or not the lease has ended meanwhile.
        c.failures = q
            .options
            .max_failures
            .map_or(c.failures, |max| c.failures.max(max));
        c.last_error = error.map(str::to_owned);
    }
    bury(spi, q, &corpses, |_| Reason::Failures, now)
}

/// Buries messages that a consumer rejected; the rows are locked by this transaction. A
/// dead-letter queue that is full or gone is an error: nothing is settled.
pub fn rejected(spi: &Spi, q: &Queue, ids: &[i64], error: Option<&str>, now: Micros) -> Result<()> {
    let mut corpses = upkeep::exhume(spi, q, ids, Grave::Decided, now)?;
    corpses.sort_by_key(|c| c.id);
    for c in &mut corpses {
        c.last_error = error.map(str::to_owned);
    }
    let reason = |_: &Corpse| Reason::Rejected;
    match target(spi, q, corpses.len() as i64)? {
        Target::Queue(dead) => send_letters(spi, q, &dead, &corpses, reason, now)?,
        Target::Nowhere => {}
        Target::Closed(why) => {
            return Err(Error::argument_hint(
                &q.name,
                "queue",
                format!("cannot reject: {why}"),
                "Make room in the dead-letter queue or name another with mq.alter_queue.",
            ));
        }
    }
    gone(spi, q, &corpses, reason)
}

/// Makes room by burying the `n` oldest messages that nobody holds. Gives how many it buried.
pub fn oldest(spi: &Spi, q: &Queue, n: i64, now: Micros) -> Result<i64> {
    let ids = upkeep::oldest(spi, q, n, now)?;
    let corpses = upkeep::exhume(spi, q, &ids, Grave::Decided, now)?;
    let reason = |_: &Corpse| Reason::MaxLength;
    match target(spi, q, corpses.len() as i64)? {
        Target::Queue(dead) => send_letters(spi, q, &dead, &corpses, reason, now)?,
        Target::Nowhere => {}
        Target::Closed(_) => return Ok(0),
    }
    gone(spi, q, &corpses, reason)?;
    Ok(corpses.len() as i64)
}
