//! Deliveries whose transaction rolled back. A message that makes its consumer's transaction fail
//! is back at once, as if never handed out, and would go round for ever: so what was read or
//! popped is remembered when a transaction ends badly, and the next read of that queue, whoever's,
//! adds these failures to the rows. Kept in shared memory, bounded; what finds no place there (none
//! at all without preloading) the session remembers for its own next read. A crash forgets it.
//!
//! A rollback, of a transaction or to a savepoint, counts a message once, however often it was
//! handed out in between; and when savepoints end with what they lie in, that is one rollback.

use crate::catalog::Queue;
use crate::pg::blames;
use crate::pg::value::Oid;
use crate::pg::xact;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

struct Delivery {
    level: i32,
    storage: Oid,
    id: i64,
}

/// So many deliveries of one transaction, and so many failures, are remembered; more are not.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
struct Memory {
    /// Handed out by the transaction in progress.
    open: Vec<Delivery>,
    /// Storage and message of what a savepoint that ended badly has counted as a failure, as long
    /// as the transaction does not hand it out again.
    blamed: HashSet<(u32, i64)>,
    /// Failures not yet written that found no place in shared memory: by storage, then message.
    failures: HashMap<u32, HashMap<i64, i64>>,
    /// Failures written by the transaction in progress; remembered again if it rolls back.
    written: Vec<(i32, Oid, i64, i64)>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Notes messages that were just handed out.
pub fn note(q: &Queue, ids: impl Iterator<Item = i64>) {
    let level = xact::level();
    MEMORY.with(|m| {
        let Memory { open, blamed, .. } = &mut *m.borrow_mut();
        let room = REMEMBERED.saturating_sub(open.len());
        open.extend(ids.take(room).map(|id| {
            if !blamed.is_empty() {
                blamed.remove(&(u32::from(q.storage), id));
            }
            Delivery {
                level,
                storage: q.storage,
                id,
            }
        }));
    });
}

/// Takes the failures to be written to a queue's rows by the transaction in progress.
pub fn take_failures(q: &Queue) -> Vec<(i64, i64)> {
    let level = xact::level();
    let is_shared = blames::any(q.storage);
    MEMORY.with(|m| {
        let mut memory = m.borrow_mut();
        if memory.failures.is_empty() && !is_shared {
            return Vec::new();
        }
        let mut list = Vec::new();
        if is_shared {
            blames::take(q.storage, &mut list);
        }
        list.extend(
            memory
                .failures
                .remove(&u32::from(q.storage))
                .unwrap_or_default(),
        );
        list.sort_unstable();
        list.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 += next.1;
            }
            is_same
        });
        memory
            .written
            .extend(list.iter().map(|&(id, n)| (level, q.storage, id, n)));
        list
    })
}

/// Failures that were taken and cannot be written now: somebody will.
pub fn keep_failures(q: &Queue, id: i64, n: i64) {
    MEMORY.with(|m| {
        let mut memory = m.borrow_mut();
        let is_it = |w: &(i32, Oid, i64, i64)| (w.1, w.2, w.3) == (q.storage, id, n);
        if let Some(at) = memory.written.iter().rposition(is_it) {
            memory.written.remove(at);
            memory.remember(q.storage, id, n);
        }
    });
}

impl Memory {
    fn remember(&mut self, storage: Oid, id: i64, n: i64) {
        if blames::add(storage, id, n) {
            return;
        }
        let failures = self.failures.entry(u32::from(storage)).or_default();
        if failures.len() < REMEMBERED || failures.contains_key(&id) {
            *failures.entry(id).or_default() += n;
        }
    }

    /// Everything from savepoint `level` on is undone.
    fn undo(&mut self, level: i32, blame: bool) {
        let cut = self
            .open
            .iter()
            .position(|d| d.level >= level)
            .unwrap_or(self.open.len());
        for d in self.open.split_off(cut) {
            if blame && self.blamed.insert((u32::from(d.storage), d.id)) {
                self.remember(d.storage, d.id, 1);
            }
        }
        let cut = self
            .written
            .iter()
            .position(|w| w.0 >= level)
            .unwrap_or(self.written.len());
        for (_, storage, id, n) in self.written.split_off(cut) {
            self.remember(storage, id, n);
        }
    }
}

pub(super) fn commit() {
    MEMORY.with(|m| {
        let mut memory = m.borrow_mut();
        memory.open.clear();
        memory.blamed.clear();
        memory.written.clear();
    });
}

pub(super) fn abort(blame: bool) {
    MEMORY.with(|m| {
        let mut memory = m.borrow_mut();
        memory.undo(0, blame);
        memory.blamed.clear();
    });
}

pub(super) fn savepoint_released(level: i32) {
    MEMORY.with(|m| {
        let mut memory = m.borrow_mut();
        super::released(memory.open.iter_mut().map(|d| &mut d.level), level);
        super::released(memory.written.iter_mut().map(|w| &mut w.0), level);
    });
}

pub(super) fn savepoint_aborted(level: i32, blame: bool) {
    MEMORY.with(|m| m.borrow_mut().undo(level, blame));
}
