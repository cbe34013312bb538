//! Totals per queue: sent, delivered, acked, failed, dead, expired. Counted in the session while
//! its transaction is open, minus savepoints that roll back, and added to shared memory at commit.
//! What a prepared transaction has counted lies on the board until it ends (`suspects`).

use crate::catalog::Queue;
use crate::pg::shmem;
use crate::pg::value::Oid;
use crate::pg::xact;
use pg_broker_core::board::TOTALS;
use std::cell::RefCell;

#[derive(Clone, Copy, Debug)]
pub enum Total {
    Sent,
    Delivered,
    Acked,
    Failed,
    Dead,
    Expired,
}

struct Pending {
    level: i32,
    storage: Oid,
    counts: [u64; TOTALS],
}

thread_local! {
    static PENDING: RefCell<Vec<Pending>> = const { RefCell::new(Vec::new()) };
}

/// Counts `n` of something, if this transaction commits.
pub fn count(q: &Queue, what: Total, n: usize) {
    if n == 0 || !shmem::attached() {
        return;
    }
    let level = xact::level();
    PENDING.with(|p| {
        let mut pending = p.borrow_mut();
        let at = match pending
            .iter()
            .rposition(|e| e.level == level && e.storage == q.storage)
        {
            Some(at) => at,
            None => {
                pending.push(Pending {
                    level,
                    storage: q.storage,
                    counts: [0; TOTALS],
                });
                pending.len() - 1
            }
        };
        pending[at].counts[what as usize] += n as u64;
    });
}

pub(super) fn commit() {
    PENDING.with(|p| {
        for e in p.borrow_mut().drain(..) {
            shmem::add(e.storage, &e.counts);
        }
    });
}

/// Takes what the transaction that is being prepared has counted in a queue.
pub(super) fn take(storage: u32) -> [u32; TOTALS] {
    let mut counted = [0u32; TOTALS];
    PENDING.with(|p| {
        p.borrow_mut().retain(|e| {
            let is_other = u32::from(e.storage) != storage;
            if !is_other {
                for (count, n) in counted.iter_mut().zip(e.counts) {
                    *count = count.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
                }
            }
            is_other
        });
    });
    counted
}

/// What a prepared transaction had counted, which has been committed now.
pub(super) fn committed(storage: u32, counted: &[u32; TOTALS]) {
    shmem::add(Oid::from(storage), &counted.map(u64::from));
}

pub(super) fn abort() {
    PENDING.with(|p| p.borrow_mut().clear());
}

pub(super) fn savepoint_released(level: i32) {
    PENDING.with(|p| {
        super::released(p.borrow_mut().iter_mut().map(|e| &mut e.level), level);
    });
}

pub(super) fn savepoint_aborted(level: i32) {
    PENDING.with(|p| p.borrow_mut().retain(|e| e.level < level));
}
