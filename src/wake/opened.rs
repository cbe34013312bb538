//! Queues that are open to readers again, after a pause or another session that had them for itself. Who waits for them is woken when the
//! transaction has told all sessions of the change, which is after its rows have become visible: a
//! waiter that looked in between would believe what it knew before, and sleep on.

use super::frontier;
use crate::catalog::Queue;
use crate::pg::board;
use crate::pg::time;
use crate::pg::waiters::Calls;
use crate::pg::xact;
use pg_broker_core::board::Key;
use std::cell::RefCell;

thread_local! {
    /// Queues that the transaction in progress opens, with the savepoint's level.
    static OPENED: RefCell<Vec<(i32, Key)>> = const { RefCell::new(Vec::new()) };
}

/// The queue is open to readers again when the transaction in progress commits.
pub fn opened(q: &Queue) {
    OPENED.with(|o| o.borrow_mut().push((xact::level(), frontier::key(q))));
}

/// Wakes as many waiters as one commit may.
pub(super) fn told() {
    let opened = OPENED.with(|o| std::mem::take(&mut *o.borrow_mut()));
    opened.into_iter().for_each(|(_, key)| wake(key));
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
