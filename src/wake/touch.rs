//! What the transaction in progress has done to messages, told to the board when it ends: only
//! then can others see it, and whatever they skipped meanwhile must be looked at again.

use super::{counts, flight, frontier, totals};
use crate::catalog::Queue;
use crate::pg::board;
use crate::pg::time::{self, Micros};
use crate::pg::value::Oid;
use crate::pg::waiters::Calls;
use crate::pg::xact;
use pg_broker_core::board::{Key, RANKS, Suspect};
use pg_broker_core::frontier::{Effect, Span, Touched};
use std::cell::RefCell;

struct Entry {
    key: Key,
    rank: usize,
    touched: Touched,
    /// Messages made ready, and messages held: how many waiters are worth waking at the end.
    ready: usize,
    held: usize,
    first_due: Option<Micros>,
}

/// Rows from an id on that are being worked on, and of which nothing is told yet.
struct Busy {
    level: i32,
    key: Key,
    from: i64,
}

struct Fate {
    level: i32,
    storage: Oid,
    is_new: bool,
}

impl Entry {
    fn falls_due(&mut self, due: Micros) {
        self.first_due = Some(self.first_due.map_or(due, |d| d.min(due)));
    }
}

thread_local! {
    static TOUCHED: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    static BUSY: RefCell<Vec<Busy>> = const { RefCell::new(Vec::new()) };
    /// Queues that the transaction in progress makes or drops.
    static FATES: RefCell<Vec<Fate>> = const { RefCell::new(Vec::new()) };
}

fn on(q: &Queue, rank: i16, what: impl FnOnce(&mut Entry, i32)) {
    if !board::is_there() {
        return;
    }
    let (key, rank) = (frontier::key(q), usize::try_from(rank).unwrap_or(0));
    let level = xact::level();
    TOUCHED.with(|t| {
        let mut list = t.borrow_mut();
        let at = match list.iter().position(|e| e.rank == rank && e.key == key) {
            Some(at) => at,
            None => {
                list.push(Entry {
                    key,
                    rank,
                    touched: Touched::default(),
                    ready: 0,
                    held: 0,
                    first_due: None,
                });
                list.len() - 1
            }
        };
        what(&mut list[at], level);
    });
}

/// The caller is about to lock and change rows of a queue, none of a lower id than `from`, and will
/// tell here what it did. If it fails before that, nobody knows which rows others may have skipped
/// meanwhile: then all from there on are reported.
pub fn begin(q: &Queue, from: i64) -> Begun {
    let depth = BUSY.with(|b| b.borrow().len());
    if board::is_there() {
        let (level, key) = (xact::level(), frontier::key(q));
        BUSY.with(|b| b.borrow_mut().push(Busy { level, key, from }));
    }
    Begun { depth }
}

/// A lower id than was said is among the rows.
pub fn lower(id: i64) {
    BUSY.with(|b| {
        if let Some(busy) = b.borrow_mut().last_mut() {
            busy.from = busy.from.min(id);
        }
    });
}

/// Work on rows that was begun.
#[must_use]
pub struct Begun {
    depth: usize,
}

impl Begun {
    /// All that was done has been told.
    pub fn told(self) {
        BUSY.with(|b| b.borrow_mut().truncate(self.depth));
    }
}

/// Reports what failed halfway, within the savepoint of this level. Nobody knows how many messages
/// that were, so as many waiters are woken as can be.
fn report_unfinished(level: i32) {
    BUSY.with(|b| {
        let mut list = b.borrow_mut();
        for busy in list.iter().filter(|b| b.level >= level) {
            let mut calls = Calls::none();
            board::with(busy.key, false, |h| {
                for rank in 0..RANKS {
                    h.report(rank, Span::new(busy.from, i64::MAX));
                }
                h.wake(Calls::MOST, time::now(), &mut calls);
            });
            calls.make();
        }
        list.retain(|b| b.level < level);
    });
}

/// A new message, that waits until `due` if that is given.
pub fn sent(q: &Queue, rank: i16, id: i64, due: Option<Micros>) {
    on(q, rank, |e, level| match due {
        None => {
            e.ready += 1;
            e.touched.sent(level, id);
        }
        Some(due) => {
            e.falls_due(due);
            e.touched.sent_for(level, id, due);
        }
    });
}

/// A message that may be handed out now; `was`: until when it waited before.
pub fn ready(q: &Queue, rank: i16, id: i64, was: Option<Micros>) {
    on(q, rank, |e, level| {
        e.ready += 1;
        e.held += 1;
        e.touched.ready(level, id, was);
    });
}

/// A message that is leased or delayed now.
pub fn waits(q: &Queue, rank: i16, id: i64, was: Option<Micros>, due: Micros) {
    on(q, rank, |e, level| {
        e.held += 1;
        e.falls_due(due);
        e.touched.waits(level, id, due, was);
    });
}

/// A message that is gone.
pub fn gone(q: &Queue, rank: i16, id: i64, was: Option<Micros>) {
    on(q, rank, |e, level| {
        e.held += 1;
        e.touched.gone(level, id, was);
    });
}

fn fate(storage: Oid, is_new: bool) {
    let level = xact::level();
    FATES.with(|f| {
        f.borrow_mut().push(Fate {
            level,
            storage,
            is_new,
        });
    });
}

/// The queue is being made.
pub fn created(storage: Oid) {
    fate(storage, true);
}

/// The queue is being dropped.
pub fn dropped(storage: Oid) {
    fate(storage, false);
}

/// What is known of a queue is of no use any more.
fn forget(fate: &Fate) {
    let database = board::key(fate.storage, 0).database;
    board::forget(|k| k.database == database && k.storage == u32::from(fate.storage));
}

/// What this transaction has made ready in a queue, or what comes due in it by now: rank and ids.
pub fn pending(key: Key, now: Micros) -> Vec<(usize, Span)> {
    TOUCHED.with(|t| {
        t.borrow()
            .iter()
            .filter(|e| e.key == key)
            .flat_map(|e| e.touched.pending(now).map(|s| (e.rank, s)))
            .collect()
    })
}

/// Whether this transaction has done anything in a queue before.
pub(super) fn has_touched(key: Key) -> bool {
    TOUCHED.with(|t| t.borrow().iter().any(|e| e.key == key))
}

pub(super) fn commit() {
    let now = time::now();
    TOUCHED.with(|t| {
        for e in t.borrow_mut().iter_mut() {
            let mut calls = Calls::none();
            board::with(e.key, false, |h| {
                counts::tell(e.key, h, now);
                flight::tell(e.key, h, e.held, now, &mut calls);
                h.wake(e.ready, now, &mut calls);
                if let Some(due) = e.first_due {
                    h.falls_due(due, &mut calls);
                }
                // The first messages of a rank known to be empty: its lane starts with them.
                if h.state.knows_empty(e.rank)
                    && let Some(lane) = h.lane(e.rank, true)
                {
                    let ticket = lane.begin(now);
                    lane.publish(&ticket, 0, i64::MAX);
                }
                h.state.report_rank(e.rank);
                let mut lane = h.lane(e.rank, false);
                e.touched.commit(|effect: Effect| {
                    if let Some(lane) = &mut lane {
                        lane.apply(now, effect);
                    }
                });
            });
            calls.make();
        }
        t.borrow_mut().clear();
    });
    counts::told();
    FATES.with(|f| {
        f.borrow_mut()
            .drain(..)
            .filter(|f| !f.is_new)
            .for_each(|f| forget(&f));
    });
}

pub(super) fn abort() {
    savepoint_aborted(i32::MIN);
    TOUCHED.with(|t| t.borrow_mut().clear());
}

/// The transaction is prepared: whoever ends it, this session will not hear of it.
pub(super) fn prepare() {
    let xid = board::own_xid().unwrap_or_default();
    TOUCHED.with(|t| {
        for e in t.borrow_mut().iter() {
            // With the first of the queue's suspects: whoever asks later is given nothing.
            let mut counted = totals::take(e.key.storage);
            // Also where nothing is known of the queue yet: somebody may look at it from now on.
            board::with(e.key, true, |h| {
                let held = e.touched.held();
                let mut promised = match held.is_empty() {
                    true => 0,
                    false => flight::prepare(e.key, h),
                };
                for ids in held.spans() {
                    h.state.suspect(Suspect {
                        xid,
                        rank: e.rank as u32,
                        ids: *ids,
                        counted: std::mem::take(&mut counted),
                        promised: std::mem::take(&mut promised),
                    });
                }
            });
        }
        t.borrow_mut().clear();
    });
    FATES.with(|f| f.borrow_mut().clear());
}

pub(super) fn savepoint_released(level: i32) {
    TOUCHED.with(|t| {
        t.borrow_mut()
            .iter_mut()
            .for_each(|e| e.touched.release(level));
    });
    FATES.with(|f| {
        super::released(f.borrow_mut().iter_mut().map(|f| &mut f.level), level);
    });
}

pub(super) fn savepoint_aborted(level: i32) {
    report_unfinished(level);
    TOUCHED.with(|t| {
        let now = time::now();
        for e in t.borrow_mut().iter_mut() {
            let mut calls = Calls::none();
            board::with(e.key, false, |h| {
                e.touched.abort_to(level, |span| h.report(e.rank, span));
                h.wake(e.held, now, &mut calls);
            });
            calls.make();
        }
    });
    FATES.with(|f| {
        let mut fates = f.borrow_mut();
        fates
            .iter()
            .filter(|f| f.level >= level && f.is_new)
            .for_each(forget);
        fates.retain(|f| f.level < level);
    });
}
