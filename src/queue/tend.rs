//! Who sees to it that a queue's tables change: its worker, told by senders whose ids come near the end
//! of what there are ranges for; or, where none looks after it, senders and readers themselves, just
//! before they commit.

use super::pace::Pace;
use super::rotate::{fixed_size, step};
use super::spare;
use crate::catalog::map::{Map, Part, State};
use crate::catalog::{self, Queue};
use crate::error::Result;
use crate::pg::bell;
use crate::pg::rel::Lock;
use crate::pg::time::{self, Micros};
use crate::pg::value::Oid;
use crate::pg::wait;
use crate::pg::xact;
use crate::storage::rotate;
use pg_broker_core::space;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

thread_local! {
    /// A queue whose ids come near their end, and when that was last told.
    static TOLD: Cell<(u32, Micros)> = const { Cell::new((0, 0)) };
    /// Until when no sender waits for a range.
    static IMPATIENT: Cell<Micros> = const { Cell::new(0) };
    /// Queues that this session looks after, and when it last did.
    static TENDED: RefCell<HashMap<u32, Micros>> = RefCell::default();
}

/// The same thing is told at most this often by one session.
const TOLD_EVERY: Micros = 50_000;
/// A sender waits at most so long, in steps of two milliseconds, for a range for its messages.
const PATIENCE: usize = 50;
/// Nobody waits again for so long when that was in vain.
const IMPATIENCE: Micros = 1_000_000;
/// A session that has to look after a queue itself does so at most this often.
const TENDED_EVERY: Micros = 20_000;

/// So often upkeep waits a moment, of two milliseconds, for those who are in a table.
const UPKEEP_WAITS: usize = 100;

/// A table that messages left longer ago was truncated, or is looked at by upkeep.
const LATELY: Micros = 600_000_000;

/// Whether new ids come near to the end of what there are ranges for.
fn is_near_end(q: &Queue, map: &Map, last_id: i64) -> bool {
    match map.ranges().last() {
        Some(last) => last_id >= last.first,
        None => last_id > fixed_size(q).map_or(space::FIRST, i64::from),
    }
}

/// Messages with ids up to this one are about to be entered: has somebody make room where that is
/// needed, and waits a moment for it where there is none.
pub fn before_send(q: &Queue, last_id: i64) {
    let map = q.map();
    if !is_near_end(q, &map, last_id) {
        return;
    }
    let now = time::now();
    if !bell::is_heard() {
        return tend(q, now);
    }
    let storage = u32::from(q.storage);
    let (told, at) = TOLD.get();
    let is_beyond = map.ranges().last().is_some_and(|last| last_id >= last.past);
    if told != storage || now - at > TOLD_EVERY || is_beyond {
        TOLD.set((storage, now));
        bell::ring(q.storage);
    }
    if is_beyond && now > IMPATIENT.get() {
        let is_there = |map: &Map| map.ranges().last().is_some_and(|last| last_id < last.past);
        for _ in 0..PATIENCE {
            if is_there(&q.map_now()) {
                return;
            }
            wait::moment();
        }
        IMPATIENT.set(now + IMPATIENCE);
    }
}

/// Messages were read: where no worker looks after the queue, the readers do.
pub fn after_read(q: &Queue) {
    if !bell::is_heard() {
        let now = time::now();
        if has_work(&q.map(), now) {
            tend(q, now);
        }
    }
}

fn has_work(map: &Map, now: Micros) -> bool {
    let is_over = |p: &Part| match p.state {
        State::Closed | State::Source | State::Drained => true,
        State::Dormant => !p.is_new() && now - p.since < LATELY && rotate::pages(p) > 0,
        _ => false,
    };
    map.all().any(is_over) || spare::has_work(map, now)
}

/// Has this transaction do a step before it commits: whoever holds a table for himself should not
/// go on after that.
fn tend(q: &Queue, now: Micros) {
    let storage = u32::from(q.storage);
    let is_time = TENDED.with(|t| {
        let mut tended = t.borrow_mut();
        let last = tended.entry(storage).or_insert(0);
        let is_time = now - *last > TENDED_EVERY;
        if is_time {
            *last = now;
        }
        is_time
    });
    if is_time {
        at_commit(q);
    }
}

/// The same, whenever it was done last.
fn at_commit(q: &Queue) {
    let view = q.view;
    xact::before_commit(move || step_of(view, &Pace::of_a_session()));
}

/// Has the transaction that does the upkeep of these queues do a step for each before it commits.
pub fn all_at_commit(queues: &[Rc<Queue>]) {
    let moments = Rc::new(Cell::new(UPKEEP_WAITS));
    for view in queues.iter().map(|q| q.view) {
        let moments = moments.clone();
        xact::before_commit(move || step_of(view, &Pace::of_upkeep(&moments)));
    }
}

fn step_of(view: Oid, pace: &Pace) -> Result<()> {
    match catalog::open_oid(view, Lock::Read)? {
        Some(q) => step(&q, pace).map(|_| ()),
        None => Ok(()),
    }
}
