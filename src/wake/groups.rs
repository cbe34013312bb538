//! Groups of messages that the transaction in progress takes or changes, told to the board when it
//! begins with them and when it ends (`pg_broker_core::groups` says why), and the locks on them.
//!
//! A lock on a group is held to the end of the transaction by whoever looks for its next message to
//! hand it out, so that two never do so at a time.

use super::frontier::Looks;
use super::{frontier, touch};
use crate::catalog::Queue;
use crate::pg::board::{self, Held};
use crate::pg::holders;
use crate::pg::time;
use crate::pg::value::Oid;
use crate::pg::waiters::Calls;
use crate::pg::xact;
use crate::settings;
use pg_broker_core::board::{Key, RANKS};
use pg_broker_core::frontier::Span;
use pg_broker_core::groups::{Groups, Known, NOTES, Note, Taken, Ticket, UNKNOWN, bucket};
use std::cell::RefCell;
use std::collections::HashMap;

/// So many groups are told of under one lock: readers want it.
const PART: usize = 256;

/// What the transaction has to do with a group.
#[derive(Default)]
struct Stake {
    is_in: bool,
    /// Its lock was taken in the savepoint of this level.
    taken: Option<i32>,
    /// It was taken before the read in progress asked for it, and not for that alone.
    is_kept: bool,
    /// The lowest id of the messages that it sent.
    sent: Option<i64>,
    /// It has been told that they are coming.
    is_coming: bool,
}

struct Stakes {
    key: Key,
    storage: Oid,
    groups: HashMap<i64, Stake>,
    taken: usize,
    /// The board knew nothing of the queue's groups when it was to be told.
    is_unheard: bool,
}

thread_local! {
    static STAKES: RefCell<Vec<Stakes>> = const { RefCell::new(Vec::new()) };
    /// Groups whose locks go with the savepoint that is being undone.
    static FREED: RefCell<Vec<(Key, i64)>> = const { RefCell::new(Vec::new()) };
}

fn on<R>(q: &Queue, what: impl FnOnce(&mut Stakes) -> R) -> R {
    let key = frontier::key(q);
    STAKES.with(|s| {
        let mut list = s.borrow_mut();
        let at = match list.iter().position(|s| s.key == key) {
            Some(at) => at,
            None => {
                list.push(Stakes {
                    key,
                    storage: q.storage,
                    groups: HashMap::new(),
                    taken: 0,
                    is_unheard: false,
                });
                list.len() - 1
            }
        };
        what(&mut list[at])
    })
}

/// Takes a group for this transaction, to its end.
pub fn take(q: &Queue, group: i64) -> Taken {
    let is_ours = on(q, |s| {
        let stake = s.groups.entry(group).or_default();
        let is_taken = stake.taken.is_some();
        if !is_taken && s.taken >= holders::most_groups() {
            return None;
        }
        stake.is_kept = is_taken;
        let is_ours = is_taken || holders::try_take_group(s.storage, group);
        if is_ours && !is_taken {
            stake.taken = Some(xact::level());
            s.taken += 1;
        }
        Some(is_ours)
    });
    match is_ours {
        None => Taken::Full,
        Some(false) => Taken::Busy,
        Some(true) => Taken::Ours(enter(q, group)),
    }
}

/// Nothing was done with a group that was taken: somebody else may take it now, unless the transaction
/// has had it before.
pub fn give_up(q: &Queue, group: i64) {
    let is_free = on(q, |s| match s.groups.get_mut(&group) {
        Some(stake) if !stake.is_kept && stake.taken == Some(xact::level()) => {
            stake.taken = None;
            s.taken -= 1;
            holders::let_group_go(s.storage, group);
            stake.is_in
        }
        _ => false,
    });
    if is_free {
        leave_for_a_moment(frontier::key(q), group);
    }
}

/// The transaction has taken, or has changed, a group. Only after this may it look for its next
/// message.
pub fn enter(q: &Queue, group: i64) -> Known {
    on(q, |s| {
        let stake = s.groups.entry(group).or_default();
        let is_new = !std::mem::replace(&mut stake.is_in, true);
        let known = board::with(s.key, true, |h| {
            let has_suspects = h.state.has_suspects();
            let groups = h.groups(true)?;
            if is_new {
                groups.enter(group);
            }
            Some(groups.look_up(group, has_suspects))
        });
        let sent = stake.sent;
        match known.flatten() {
            Some(known) => usable(known, sent),
            None => {
                stake.is_in = false;
                s.is_unheard = true;
                UNKNOWN
            }
        }
    })
}

/// Without hints, nothing is taken for granted. What this transaction has `sent`, from that id on,
/// others do not know of before it commits: that may be late, too.
fn usable(known: Known, sent: Option<i64>) -> Known {
    match (settings::HINTS.get(), sent) {
        (false, _) => known.doubted(),
        (true, Some(id)) => known.doubted_from(id),
        (true, None) => known,
    }
}

/// The same, for another look.
pub fn look_up(q: &Queue, group: i64) -> Known {
    let key = frontier::key(q);
    let known = board::with(key, false, |h| {
        let has_suspects = h.state.has_suspects();
        Some(h.groups(false)?.look_up(group, has_suspects))
    });
    let sent = STAKES.with(|s| {
        let list = s.borrow();
        let stakes = list.iter().find(|s| s.key == key)?;
        stakes.groups.get(&group)?.sent
    });
    let known = known.flatten();
    known.map_or(UNKNOWN, |known| usable(known, sent))
}

/// A message of a group that was taken is about to be handed out. False: the rows have to be looked
/// at again.
pub fn hand_out(q: &Queue, group: i64, id: i64, known: &Known) -> bool {
    let done = board::with(frontier::key(q), false, |h| {
        Some(h.groups(false)?.hand_out(group, id, known))
    });
    done.flatten().unwrap_or(true)
}

/// What a look at a group came to. Not when this transaction has changed anything before: that may
/// be undone.
pub fn learn(q: &Queue, group: i64, known: &Known, low: i64, clean: i64) {
    let key = frontier::key(q);
    if settings::HINTS.get() && !touch::has_touched(key) {
        board::with(key, false, |h| {
            if !h.state.has_suspects()
                && let Some(groups) = h.groups(false)
            {
                groups.learn(group, known, low, clean);
            }
        });
    }
}

/// A message of a group was sent.
pub fn sent(q: &Queue, group: i64, id: i64) {
    if board::is_there() {
        on(q, |s| {
            let stake = s.groups.entry(group).or_default();
            stake.sent = Some(stake.sent.map_or(id, |low| low.min(id)));
        });
    }
}

/// In how many groups of each bucket the transaction is.
pub(super) fn own(key: Key) -> HashMap<usize, u32> {
    STAKES.with(|s| {
        let list = s.borrow();
        let mut own = HashMap::new();
        if let Some(stakes) = list.iter().find(|s| s.key == key) {
            for (group, _) in stakes.groups.iter().filter(|(_, s)| s.is_in) {
                *own.entry(bucket(*group)).or_default() += 1;
            }
        }
        own
    })
}

impl Looks {
    /// Messages were met and passed because their group was busy. Gives those that nobody is bound to
    /// report.
    pub fn pass(&self, passed: &[Note]) -> Vec<Note> {
        match &self.groups {
            Some(ticket) if !passed.is_empty() => self.pass_with(ticket, passed),
            _ => Vec::new(),
        }
    }

    /// What a new look at a group needs before its snapshot.
    pub fn new_ticket(&self) -> Option<Ticket> {
        board::with(self.key, false, |h| Some(h.groups(false)?.ticket())).flatten()
    }

    /// The same as `pass`, after such a look.
    pub fn pass_with(&self, ticket: &Ticket, passed: &[Note]) -> Vec<Note> {
        let mut again = Vec::new();
        let own = own(self.key);
        // A few at a time: others want the lock.
        for part in passed.chunks(256) {
            let mut refused = [false; 256];
            let done = board::with(self.key, false, |h| {
                let has_suspects = h.state.has_suspects();
                let groups = h.groups(false)?;
                for (p, refused) in part.iter().zip(&mut refused) {
                    let own = own.get(&bucket(p.group)).copied().unwrap_or(0);
                    *refused = !groups.pass(ticket, *p, own, has_suspects);
                }
                Some(())
            });
            if done.flatten().is_none() {
                refused.fill(true);
            }
            again.extend(
                part.iter()
                    .zip(refused)
                    .filter_map(|(p, r)| r.then_some(*p)),
            );
        }
        again
    }
}

/// Does something to what is kept of a queue's groups, and reports the notes that this gives. Gives how
/// many they were.
fn report(h: &mut Held, what: impl FnOnce(&mut Groups, &mut dyn FnMut(Note))) -> usize {
    let mut notes = [None; NOTES];
    let mut found = 0;
    if let Some(groups) = h.groups(false) {
        what(groups, &mut |note| {
            if let Some(place) = notes.get_mut(found) {
                *place = Some(note);
                found += 1;
            }
        });
    }
    for note in notes.iter().flatten() {
        h.report(note.rank as usize, note.ids());
    }
    found
}

/// Tells the board of groups, a part at a time; reports what `tell` gives, and wakes as many.
fn tell(key: Key, groups: &[i64], tell: impl Fn(&mut Groups, i64, &mut dyn FnMut(Note))) {
    let now = time::now();
    for part in groups.chunks(PART) {
        let mut calls = Calls::none();
        board::with(key, false, |h| {
            let mut n = 0;
            for group in part {
                n += report(h, |groups, each| tell(groups, *group, each));
            }
            if h.groups(false).is_some_and(|g| g.take_overrun()) {
                n = Calls::MOST;
            }
            h.wake(n, now, &mut calls);
        });
        calls.make();
    }
}

/// The transaction is about to commit: others must know which messages are coming before they can
/// be seen.
pub(super) fn before_commit() {
    STAKES.with(|s| {
        for stakes in s.borrow_mut().iter_mut() {
            let mut coming: Vec<(i64, &mut Stake)> = stakes
                .groups
                .iter_mut()
                .filter(|(_, s)| s.sent.is_some() && !s.is_coming)
                .map(|(group, stake)| (*group, stake))
                .collect();
            for part in coming.chunks_mut(PART) {
                board::with(stakes.key, true, |h| {
                    if let Some(groups) = h.groups(true) {
                        for (group, stake) in part.iter_mut() {
                            if let Some(low) = stake.sent {
                                groups.coming(*group, low);
                                stake.is_coming = true;
                            }
                        }
                    }
                });
            }
        }
    });
}

/// Others can see what the transaction did, or that it did nothing, and may take its groups: not before,
/// or they would find a group taken, and nobody bound to report it.
pub(super) fn ended() {
    let list = STAKES.with(|s| std::mem::take(&mut *s.borrow_mut()));
    for stakes in list {
        let those = |is_such: fn(&Stake) -> bool| -> Vec<i64> {
            let such = stakes.groups.iter().filter(|(_, s)| is_such(s));
            such.map(|(group, _)| *group).collect()
        };
        let (come, left) = (those(|s| s.is_coming), those(|s| s.is_in));
        tell(stakes.key, &come, |groups, group, _| groups.come(group));
        tell(stakes.key, &left, |groups, group, report| {
            groups.leave(group, report);
        });
        if stakes.is_unheard {
            // Whoever looked meanwhile did not know of this transaction.
            let mut calls = Calls::none();
            board::with(stakes.key, false, |h| {
                if h.groups(false).is_some() {
                    (0..RANKS).for_each(|rank| h.report(rank, Span::new(0, i64::MAX)));
                    h.wake(Calls::MOST, time::now(), &mut calls);
                }
            });
            calls.make();
        }
    }
}

/// The locks of a savepoint that comes to nothing are gone.
pub(super) fn savepoint_aborted(level: i32) {
    let mut freed = Vec::new();
    STAKES.with(|s| {
        for stakes in s.borrow_mut().iter_mut() {
            for (group, stake) in &mut stakes.groups {
                if stake.taken.is_some_and(|at| at >= level) {
                    stake.taken = None;
                    stakes.taken -= 1;
                    freed.push((stakes.key, *group));
                }
            }
        }
    });
    FREED.with(|f| f.borrow_mut().extend(freed));
}

/// They are now: who met them taken is to look again. The transaction itself stays in.
pub(super) fn part_unlocked() {
    for (key, group) in FREED.with(|f| std::mem::take(&mut *f.borrow_mut())) {
        leave_for_a_moment(key, group);
    }
}

fn leave_for_a_moment(key: Key, group: i64) {
    tell(key, &[group], |groups, group, report| {
        groups.leave(group, report);
        groups.enter(group);
    });
}

pub(super) fn savepoint_released(level: i32) {
    STAKES.with(|s| {
        let mut list = s.borrow_mut();
        let stakes = list.iter_mut().flat_map(|s| s.groups.values_mut());
        super::released(stakes.filter_map(|s| s.taken.as_mut()), level);
    });
}

/// The transaction is prepared, and its queues suspect it.
pub(super) fn prepared() {
    let list = STAKES.with(|s| std::mem::take(&mut *s.borrow_mut()));
    for stakes in list {
        let left = stakes.groups.iter().filter(|(_, s)| s.is_in);
        let left: Vec<i64> = left.map(|(group, _)| *group).collect();
        tell(stakes.key, &left, |groups, group, _| {
            groups.leave_prepared(group);
        });
    }
}

/// A prepared transaction has ended, or it is not known which there are.
pub(super) fn forget(h: &mut Held) {
    report(h, |groups, each| groups.forget(each));
}
