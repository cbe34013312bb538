//! `NOTIFY` for queues that want it. The worker sends it, so that no sender waits for the lock of
//! the notification queue: at commit a session marks the queue and wakes the worker, and tells it
//! of moments before which it would sleep on. Where no worker runs, the sender notifies itself.

use super::frontier;
use crate::catalog::Queue;
use crate::pg::board;
use crate::pg::roster;
use crate::pg::time::Micros;
use crate::pg::value::Oid;
use crate::pg::{bell, rel, xact};
use pg_broker_core::board::Key;
use std::cell::{Cell, RefCell};

thread_local! {
    /// Queues to be told of when the transaction in progress commits, with the savepoint's level.
    static RUNG: RefCell<Vec<(i32, Oid)>> = const { RefCell::new(Vec::new()) };
    /// The earliest moment at which a message of such a queue comes due.
    static DUE: Cell<Micros> = const { Cell::new(Micros::MAX) };
}

/// The channel of a queue.
pub fn channel(queue: &str) -> String {
    format!("mq.{queue}")
}

/// A message was sent.
pub fn sent(q: &Queue) {
    if !q.options.notify {
        return;
    }
    if bell::is_heard() {
        ring(q);
    } else {
        rel::notify(&channel(&q.name));
    }
}

/// A message may be handed out again.
pub fn ready(q: &Queue) {
    if q.options.notify && bell::is_heard() {
        ring(q);
    }
}

/// A message may be handed out at that moment.
pub fn waits(q: &Queue, due: Micros) {
    if is_awaited(q) {
        DUE.with(|d| d.set(d.get().min(due)));
    }
}

/// Whether the worker has something to do at the moment when a lease or a delay ends.
fn is_awaited(q: &Queue) -> bool {
    q.options.notify || q.options.max_failures.is_some()
}

fn ring(q: &Queue) {
    let level = xact::level();
    RUNG.with(|r| {
        let mut rung = r.borrow_mut();
        if !rung.contains(&(level, q.storage)) {
            rung.push((level, q.storage));
        }
    });
}

/// When a message of a queue comes due.
pub enum NextDue {
    /// Nobody knows.
    Unknown,
    At(Option<Micros>),
}

pub fn next_due(key: Key) -> NextDue {
    let known = board::with(key, false, |h| {
        let next = h.next_due();
        h.state.is_reliable().then_some(next)
    });
    known.flatten().map_or(NextDue::Unknown, NextDue::At)
}

/// Lets what has come due be looked at, so that it is not the next to come due any more.
pub fn pass_due(q: &Queue, now: Micros) {
    let _ = frontier::Looks::begin(q, now);
}

pub(super) fn commit() {
    let due = DUE.with(|d| d.replace(Micros::MAX));
    if due < Micros::MAX
        && let Some(entry) = roster::entry(roster::own_database())
    {
        entry.wake_before(due);
    }
    RUNG.with(|r| {
        if let Ok(mut rung) = r.try_borrow_mut() {
            rung.drain(..).for_each(|(_, storage)| bell::ring(storage));
        }
    });
}

/// Also when the transaction is prepared: then whoever commits it tells of all queues.
pub(super) fn abort() {
    DUE.with(|d| d.set(Micros::MAX));
    savepoint_aborted(i32::MIN);
}

pub(super) fn savepoint_released(level: i32) {
    RUNG.with(|r| {
        super::released(r.borrow_mut().iter_mut().map(|e| &mut e.0), level);
    });
}

pub(super) fn savepoint_aborted(level: i32) {
    RUNG.with(|r| r.borrow_mut().retain(|e| e.0 < level));
}
