//! How many messages a queue has in which state: what the transaction in progress changes of
//! that, told to the board at its commit, and the counting anew where the board does not know.
//!
//! Changes are kept by the bucket of the tally that they concern, so that a batch is a few entries
//! and a single message finds room that was there before. What a prepared transaction changed is
//! lost with its session: when it has ended, all has to be counted anew (`frontier`).

use super::frontier;
use crate::catalog::{Outline, Queue};
use crate::pg::board::{self, Held};
use crate::pg::moment;
use crate::pg::rel;
use crate::pg::table::Pinned;
use crate::pg::time::{self, Micros};
use crate::pg::xact;
use crate::settings;
use pg_broker_core::board::Key;
use pg_broker_core::tally::{self, Part, Reading, Standing, Tally};
use std::cell::{Cell, RefCell};

/// Which queue a change concerns, on which level of nesting it was made, and by which number of
/// failures it counts.
type Of = (Key, i32, i32);

struct Pending {
    key: Key,
    level: i32,
    limit: i32,
    part: Part,
}

/// More entries than this are put together where they can be.
const FEW: usize = 256;
/// How far back an entry for the same bucket is searched.
const RECENT: usize = 6;

#[derive(Default)]
struct List {
    entries: Vec<Pending>,
    crowded: usize,
}

thread_local! {
    static PENDING: RefCell<List> = RefCell::default();
    /// The counting anew that this session is at.
    static AT_WORK: Cell<Option<(Key, u32)>> = const { Cell::new(None) };
}

/// By which number of failures messages are counted.
pub(super) fn limit(q: &Queue) -> i32 {
    q.options.max_failures.unwrap_or(i32::MAX)
}

impl Pending {
    fn merge(&mut self, (key, level, limit): Of, part: &Part) -> bool {
        let same = self.level == level && self.limit == limit && self.key == key;
        same && self.part.merge(part)
    }
}

impl List {
    fn add(&mut self, of @ (key, level, limit): Of, part: Part) {
        let mut recent = self.entries.iter_mut().rev().take(RECENT);
        if recent.any(|one| one.merge(of, &part)) {
            return;
        }
        if self.entries.len() >= self.crowded.max(FEW) {
            self.gather();
            self.crowded = self.entries.len() * 2;
        }
        self.entries.push(Pending {
            key,
            level,
            limit,
            part,
        });
    }

    fn gather(&mut self) {
        self.entries
            .sort_unstable_by_key(|e| (e.level, e.key.storage, e.key.created, e.part.cell));
        self.entries
            .dedup_by(|next, kept| kept.merge((next.key, next.level, next.limit), &next.part));
        self.entries.retain(|e| !e.part.is_nothing());
    }
}

/// A message counted as `was`, and counts as `now`, if this transaction commits.
pub fn changed(q: &Queue, id: i64, was: Option<Standing>, now: Option<Standing>) {
    if was == now || !board::is_there() {
        return;
    }
    let of = (frontier::key(q), xact::level(), limit(q));
    PENDING.with(|p| {
        let mut list = p.borrow_mut();
        for part in tally::changes(id, was, now) {
            list.add(of, part);
        }
    });
}

/// Tells the board what was changed in a queue, once.
pub(super) fn tell(key: Key, h: &mut Held, now: Micros) {
    PENDING.with(|p| {
        let entries = &mut p.borrow_mut().entries;
        if !entries.iter().any(|e| e.key == key) {
            return;
        }
        // Whoever changes a row has a number.
        let number = board::own_number().unwrap_or(u64::MAX);
        let own = entries.iter().filter(|e| e.key == key);
        h.state
            .counting
            .add(number, own.map(|e| (e.limit, &e.part)), now);
        entries.retain(|e| e.key != key);
    });
}

/// All was told that there was somebody to tell of.
pub(super) fn told() {
    PENDING.with(|p| p.borrow_mut().entries.clear());
}

pub(super) fn abort() {
    told();
    give_up();
}

pub(super) fn savepoint_released(level: i32) {
    PENDING.with(|p| {
        let entries = &mut p.borrow_mut().entries;
        super::released(entries.iter_mut().map(|e| &mut e.level), level);
    });
}

pub(super) fn savepoint_aborted(level: i32) {
    PENDING.with(|p| p.borrow_mut().entries.retain(|e| e.level < level));
    give_up();
}

/// Counting anew opens no savepoint: one that ends badly has interrupted it.
fn give_up() {
    if let Some((key, generation)) = AT_WORK.take() {
        board::with(key, false, |h| h.state.counting.abandon(generation));
    }
}

fn may_be_known() -> bool {
    // A standby hears of no changes.
    board::is_there() && !rel::in_recovery()
}

/// What the board knows, with what this transaction has changed.
pub fn read(q: &Queue, now: Micros) -> Option<Reading> {
    read_by(frontier::key(q), limit(q), now)
}

/// The same of a queue that is not open.
pub fn read_outline(q: &Outline, now: Micros) -> Option<Reading> {
    let key = board::key(q.storage, q.created_at);
    read_by(key, q.max_failures.unwrap_or(i32::MAX), now)
}

fn read_by(key: Key, limit: i32, now: Micros) -> Option<Reading> {
    if !may_be_known() || !settings::HINTS.get() {
        return None;
    }
    let known = board::with(key, false, |h| match h.state.is_reliable() {
        true => h.state.counting.read(limit, now),
        false => None,
    });
    let mut reading = known.flatten()?;
    PENDING.with(|p| {
        let list = p.borrow();
        let own = list.entries.iter().filter(|e| e.key == key);
        own.for_each(|e| reading.add(&e.part, now));
    });
    Some(reading)
}

/// Whether the board knows how many messages a queue has; none when it has no place for that.
pub fn is_known(key: Key) -> Option<bool> {
    let known = board::with(key, false, |h| {
        let known = h.state.counting.is_known();
        h.state.is_reliable().then_some(known)
    });
    known.flatten()
}

/// How many rows there are for this session, and when in the order of what is told.
#[derive(Clone, Copy)]
pub struct Told {
    rows: i64,
    changes: u64,
}

/// A number that changes whenever something in a queue does; none where nobody can tell.
pub fn activity(key: Key) -> Option<u64> {
    let known = board::with(key, false, |h| h.state.counting.rows());
    known.flatten().map(|(_, changes)| changes)
}

pub fn told_so_far(q: &Queue) -> Option<Told> {
    let key = frontier::key(q);
    let known = board::with(key, false, |h| h.state.counting.rows());
    let (rows, changes) = known.flatten()?;
    let own: i64 = PENDING.with(|p| {
        let list = p.borrow();
        let own = list.entries.iter().filter(|e| e.key == key);
        own.filter(|e| e.part.cell.is_none())
            .map(|e| e.part.n)
            .sum()
    });
    Some(Told {
        rows: rows.saturating_add(own),
        changes,
    })
}

/// So many rows were met since: if others should have been, and nobody has told of anything
/// meanwhile, the figures are wrong.
pub fn compare(q: &Queue, before: &Told, met: i64) {
    board::with(frontier::key(q), false, |h| {
        let counting = &mut h.state.counting;
        let is_quiet = counting.rows().is_some_and(|(_, n)| n == before.changes);
        if is_quiet && met != before.rows {
            counting.forget();
        }
    });
}

/// How many sessions wait for a message of the queue, where anybody could tell.
pub fn waiters(q: &Outline) -> Option<i64> {
    if !board::is_there() {
        return None;
    }
    let key = board::key(q.storage, q.created_at);
    let n = board::with(key, false, |h| h.state.waiters.n);
    Some(n.map_or(0, i64::from))
}

/// Counting anew.
pub struct Count {
    key: Key,
    generation: u32,
}

/// Begins to count anew, with the snapshot that is to be counted. None where that is not to be had
/// now: somebody is at it, or this transaction has changed rows, which may yet be undone.
pub fn begin(q: &Queue) -> Option<(Count, Pinned)> {
    if !may_be_known() || board::own_number().is_some() {
        return None;
    }
    let (key, limit) = (frontier::key(q), limit(q));
    let (pinned, generation) = moment::pinned(key, |h, moment| match h.state.is_reliable() {
        true => h.state.counting.begin(moment, limit),
        false => None,
    })?;
    AT_WORK.set(Some((key, generation)));
    Some((Count { key, generation }, pinned))
}

impl Count {
    /// Tells what was counted; nothing when it was too much. False when it counts for nothing.
    pub fn finish(self, counted: Option<&Tally>) -> bool {
        let (generation, now) = (self.generation, time::now());
        let known = board::with(self.key, false, |h| match counted {
            Some(tally) => h.state.counting.finish(generation, tally, now),
            None => {
                h.state.counting.abandon(generation);
                false
            }
        });
        AT_WORK.set(None);
        known.unwrap_or(false)
    }
}
