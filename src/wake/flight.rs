//! How many messages of a queue are in flight, where that is limited: those leased, and those that
//! transactions under way have taken.
//!
//! Invariant: a message that is leased, or may be once a transaction under way commits, is counted
//! by the tally or among the promised places, and goes from these to that in one critical section.
//! So there are never more leased at one time than the sum, and who hands out makes sure of a place
//! before it looks for a message. What is not known for certain counts as in flight.

use super::{counts, frontier};
use crate::catalog::Queue;
use crate::pg::board::{self, Held};
use crate::pg::time::{self, Micros};
use crate::pg::waiters::Calls;
use crate::pg::xact;
use pg_broker_core::board::Key;
use pg_broker_core::tally::{Cell, Leases, Open, Stamp};
use std::cell::RefCell;

struct Promise {
    key: Key,
    level: i32,
    n: i64,
}

thread_local! {
    /// The places of the transaction in progress.
    static PROMISED: RefCell<Vec<Promise>> = const { RefCell::new(Vec::new()) };
}

/// What who asks for places is told.
pub enum Answer {
    /// So many are promised.
    Places(i64),
    /// There is none; perhaps then.
    Full(Option<Micros>),
    /// Some leases may have ended: to be asked again, with how many of which.
    Doubt(Doubt),
    /// It is not known how many messages are in flight.
    Unknown,
    /// There is no room for the queue in shared memory.
    NoPlace,
}

/// Leases that may have ended.
pub struct Doubt {
    stamp: Stamp,
    pub open: Vec<Open>,
    next: Option<Micros>,
}

/// What became of them.
pub struct Ended {
    stamp: Stamp,
    ended: Vec<(Cell, i64)>,
    next: Option<Micros>,
}

impl Doubt {
    /// So many of each have ended; the first of the others ends then.
    pub fn settled(self, ended: Vec<(Cell, i64)>, first: Option<Micros>) -> Ended {
        Ended {
            stamp: self.stamp,
            ended,
            next: self.next.into_iter().chain(first).min(),
        }
    }
}

/// How many in flight are known to be gone, of those that count.
fn gone(leases: &Leases, stamp: Stamp, known: Option<&Ended>) -> i64 {
    // What was told since may have been of the same messages.
    let known = known.filter(|k| k.stamp == stamp);
    let ended = known.iter().flat_map(|k| &k.ended);
    let counts = |cell: &Cell| leases.open.iter().flatten().any(|o| o.cell == *cell);
    ended.filter(|(cell, _)| counts(cell)).map(|(_, n)| n).sum()
}

/// Asks for up to `wanted` places of `max`, to have until the end of the transaction; with 0, only
/// whether there is one.
pub fn ask(q: &Queue, max: i32, wanted: i64, known: Option<&Ended>) -> Answer {
    let key = frontier::key(q);
    frontier::learn(q, time::now());
    let answer = board::with(key, true, |h| {
        let now = time::now();
        let counted = h.state.counting.leases(counts::limit(q), now);
        let (Some(promised), Some((leases, stamp))) = (h.state.promised(), counted) else {
            return (Answer::Unknown, None);
        };
        let doubtful = leases.doubtful();
        let sure = leases.sure.saturating_add(promised);
        let in_flight = sure + doubtful - gone(&leases, stamp, known);
        let free = i64::from(max) - in_flight;
        let is_settled = match free > 0 {
            // Looked at once, that is enough.
            true => free >= wanted || known.is_some(),
            false => known.is_some_and(|k| k.stamp == stamp),
        };
        if doubtful > 0 && !is_settled {
            return (Answer::Unknown, Some((leases, stamp)));
        }
        if free <= 0 {
            let next = known.and_then(|k| k.next).into_iter().chain(leases.next);
            return (Answer::Full(next.min()), None);
        }
        let n = free.min(wanted);
        h.state.gate.promise(n);
        (Answer::Places(n), None)
    });
    match answer {
        None => Answer::NoPlace,
        Some((_, Some((leases, stamp)))) => Answer::Doubt(Doubt {
            stamp,
            open: leases.open.into_iter().flatten().collect(),
            next: leases.next,
        }),
        Some((answer, None)) => {
            if let Answer::Places(n @ 1..) = answer {
                remember(key, n);
            }
            answer
        }
    }
}

fn remember(key: Key, n: i64) {
    let level = xact::level();
    PROMISED.with(|p| p.borrow_mut().push(Promise { key, level, n }));
}

/// A lease that has not ended is to be prolonged: its place is kept beside until the end of the
/// transaction, because it may end before that.
pub fn keep(q: &Queue) {
    let key = frontier::key(q);
    if board::with(key, true, |h| h.state.gate.promise(1)).is_some() {
        remember(key, 1);
    }
}

/// Gives back places that were promised last and not used.
pub fn give_back(q: &Queue, n: i64) {
    if n <= 0 {
        return;
    }
    let key = frontier::key(q);
    PROMISED.with(|p| {
        let mut list = p.borrow_mut();
        if let Some(last) = list.iter_mut().rev().find(|e| e.key == key) {
            last.n -= n;
        }
        list.retain(|e| e.n > 0);
    });
    free(key, n);
}

fn free(key: Key, n: i64) {
    let mut calls = Calls::none();
    board::with(key, false, |h| {
        h.state.gate.give_back(n);
        call(h, n, time::now(), &mut calls);
    });
    calls.make();
}

/// Calls who waits for one of so many places that may have become free.
fn call(h: &mut Held, n: i64, now: Micros, calls: &mut Calls) {
    if n > 0 && h.state.gate.has_refused() {
        h.wake(usize::try_from(n).unwrap_or(0), now, calls);
    }
}

/// Takes what is promised in a queue from a level on.
fn take(key: Key, level: i32) -> i64 {
    let mut n = 0;
    PROMISED.with(|p| {
        p.borrow_mut().retain(|e| {
            let is_it = e.key == key && e.level >= level;
            n += if is_it { e.n } else { 0 };
            !is_it
        });
    });
    n
}

/// The transaction has committed, and told what it did to a queue. `held`: how many messages it had
/// taken or settled.
pub(super) fn tell(key: Key, h: &mut Held, held: usize, now: Micros, calls: &mut Calls) {
    let n = take(key, i32::MIN);
    h.state.gate.give_back(n);
    call(h, n.max(held as i64), now, calls);
}

/// The places of a transaction that is being prepared go to its suspect.
pub(super) fn prepare(key: Key, h: &mut Held) -> u32 {
    let n = take(key, i32::MIN);
    h.state.gate.give_back(n);
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Gives up all places that are left from a level on.
pub(super) fn leave(level: i32) {
    loop {
        let next = PROMISED.with(|p| {
            let list = p.borrow();
            list.iter().find(|e| e.level >= level).map(|e| e.key)
        });
        let Some(key) = next else { break };
        free(key, take(key, level));
    }
}

pub(super) fn savepoint_released(level: i32) {
    PROMISED.with(|p| {
        super::released(p.borrow_mut().iter_mut().map(|e| &mut e.level), level);
    });
}

/// A reader was refused, who looks again then, or when it is called.
pub fn refused(q: &Queue, now: Micros, opens_at: Option<Micros>) {
    let mut calls = Calls::none();
    board::with(frontier::key(q), false, |h| {
        h.state.gate.refuse(now, opens_at);
        if let Some(at) = opens_at {
            h.falls_due(at, &mut calls);
        }
    });
    calls.make();
}

/// A reader that began then found nothing more to hand out.
pub fn found_nothing(q: &Queue, begun_at: Micros) {
    board::with(frontier::key(q), false, |h| {
        h.state.gate.found_nothing(begun_at)
    });
}
