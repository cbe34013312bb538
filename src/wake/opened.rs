//! Queues that are open to readers again, after a pause, with other limits, or after another session
//! that had them for itself. Who waits for them is woken when the
//! transaction has told all sessions of the change, which is after its rows have become visible: a
//! waiter that looked in between would believe what it knew before, and sleep on.

use super::frontier;
use crate::catalog::Queue;
use crate::pg::board;
use crate::pg::time;
use crate::pg::waiters::Calls;
use crate::pg::xact;
use pg_broker_core::board::{Key, RANKS};
use pg_broker_core::frontier::Span;
use std::cell::RefCell;

#[derive(Clone, Copy)]
struct Opened {
    key: Key,
    /// Messages may be ready that readers have put off.
    is_anew: bool,
}

const ALL: Span = Span::new(0, i64::MAX);

thread_local! {
    /// Queues that the transaction in progress opens, with the savepoint's level.
    static OPENED: RefCell<Vec<(i32, Opened)>> = const { RefCell::new(Vec::new()) };
}

/// The queue is open to readers again when the transaction in progress commits.
pub fn opened(q: &Queue) {
    open(q, false);
}

/// The queue has other limits.
pub fn freed(q: &Queue) {
    open(q, true);
}

fn open(q: &Queue, is_anew: bool) {
    let key = frontier::key(q);
    OPENED.with(|o| {
        o.borrow_mut()
            .push((xact::level(), Opened { key, is_anew }));
    });
}

/// Wakes as many waiters as one commit may.
pub(super) fn told() {
    let opened = OPENED.with(|o| std::mem::take(&mut *o.borrow_mut()));
    for (_, opened) in opened {
        let mut calls = Calls::none();
        board::with(opened.key, false, |h| {
            if opened.is_anew {
                (0..RANKS).for_each(|rank| h.report(rank, ALL));
            }
            h.wake(Calls::MOST, time::now(), &mut calls);
        });
        calls.make();
    }
}

/// The queue is open to readers again, now. Wakes as many as one commit may.
pub fn wake(key: Key) {
    let mut calls = Calls::none();
    board::with(key, false, |h| h.wake(Calls::MOST, time::now(), &mut calls));
    calls.make();
}

pub(super) fn abort() {
    savepoint_aborted(i32::MIN);
}

pub(super) fn savepoint_released(level: i32) {
    OPENED.with(|o| {
        super::released(o.borrow_mut().iter_mut().map(|e| &mut e.0), level);
    });
}

pub(super) fn savepoint_aborted(level: i32) {
    OPENED.with(|o| o.borrow_mut().retain(|e| e.0 < level));
}
