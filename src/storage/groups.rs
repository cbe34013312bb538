//! Messages of one group, handed out one after the other.
//!
//! A message of a group may be handed out when it is the first of its group that is there, and none
//! of the group is in anybody's hands. Both are seen in a snapshot that is taken when the group is locked
//! (`Turns::take`): whoever had it before has ended, and what he did is seen. One read may take
//! several messages of a group in a row.
//!
//! That none is in anybody's hands needs a look at those behind the first only where that was handed
//! out before, as part of a row of several, or may have come late, after another of its group
//! was handed out. What is left of a hand-out whose lease has ended is taken back from its holder on
//! this occasion, so that he cannot have it prolonged beside the new one. The look ends at the first that is neither: it was always there, so none behind it
//! can have been handed out.

use super::LEASE_ENDED;
use super::claim::{Claim, Handed};
use super::row::{self, After, Change, Facts, Fate, Place};
use super::space::Space;
use crate::catalog::{Ordering, Queue};
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::pg::wait;
use pg_broker_core::groups::{Known, Note, Taken};
use std::collections::HashMap;

/// Who gives groups out, and knows what is known of them beside their rows.
pub trait Turns {
    fn take(&mut self, group: i64) -> Taken;
    /// Nothing was done with a group that was taken.
    fn give_up(&mut self, group: i64);
    /// What is known of a group that need not be taken.
    fn look_up(&mut self, group: i64) -> Known;
    /// A message is about to be locked, and maybe handed out. False: look again.
    fn hand_out(&mut self, group: i64, id: i64, known: &Known) -> bool;
    /// What a look came to: nothing is below `low`; what is below `clean` is in nobody's hands.
    fn learn(&mut self, group: i64, known: &Known, low: i64, clean: i64);
}

/// What a read has come to with a group.
#[derive(Clone, Copy)]
enum Done {
    /// All up to this id were handed out, or must be buried; the others have to wait.
    Upto(i64),
    /// The others may be handed out.
    Left(i64),
}

/// What is to be expected of a group before it is taken.
enum Prospect {
    /// Its first message has to be waited for.
    Waits,
    /// This is the first one, and ready: the group's turn is when that is met, by its priority.
    Behind(Place),
    /// This reader does not want the first one.
    Unwanted,
    Open,
}

/// What a read knows of groups.
pub struct Turn<'a> {
    turns: &'a mut dyn Turns,
    done: HashMap<i64, Done>,
    /// Messages that were met and not handed out, because of others of the group.
    pub blocked: HashMap<(i64, i16), Note>,
    /// The first messages of groups of which others were met.
    pub heads: HashMap<i64, Note>,
}

impl<'a> Turn<'a> {
    pub fn new(turns: &'a mut dyn Turns) -> Self {
        Turn {
            turns,
            done: HashMap::new(),
            blocked: HashMap::new(),
            heads: HashMap::new(),
        }
    }

    fn block(&mut self, group: i64, row: &Facts) {
        let met = note(group, &row.place);
        let blocked = self.blocked.entry((group, row.place.rank));
        blocked.and_modify(|b| b.join(&met)).or_insert(met);
    }
}

fn note(group: i64, place: &Place) -> Note {
    Note::one(group, place.rank, place.id)
}

/// So often a group is looked at again in one read.
const AGAIN: usize = 100;

/// What came of one look at a group.
enum Look {
    Done(Done),
    /// Rows have moved, or come, since: look again.
    Again,
}

impl Claim<'_> {
    /// A message of a group was met that could be handed out. Gives whether it has to be looked at
    /// again, or was seen to.
    pub(super) fn meet_in_group(
        &mut self,
        row: &Facts,
        group: i64,
        hand: &mut impl FnMut(&[Value]),
    ) -> bool {
        let Some(mut turn) = self.turn.take() else {
            return false;
        };
        let done = self.see_to(&mut turn, group, Some(row.id()), hand);
        let is_seen_to = match done {
            None => {
                turn.block(group, row);
                true
            }
            Some(Done::Upto(id)) if row.id() > id => {
                turn.block(group, row);
                self.is_stopped |= self.q.options.ordering == Ordering::Strict;
                true
            }
            Some(Done::Left(id)) => row.id() <= id,
            Some(Done::Upto(_)) => true,
        };
        self.turn = Some(turn);
        is_seen_to
    }

    /// A message of a group was buried: the next one follows, though it may be none that is looked for
    /// here.
    pub(super) fn follow_in_group(&mut self, group: i64, hand: &mut impl FnMut(&[Value])) {
        if let Some(mut turn) = self.turn.take() {
            self.see_to(&mut turn, group, None, hand);
            self.turn = Some(turn);
        }
    }

    /// Takes a group of which this message was met, and hands out its next messages, once in a read. None
    /// when that is not the one to begin with.
    fn see_to(
        &mut self,
        turn: &mut Turn,
        group: i64,
        met: Option<i64>,
        hand: &mut impl FnMut(&[Value]),
    ) -> Option<Done> {
        if let Some(done) = turn.done.get(&group) {
            return Some(*done);
        }
        let done = match self.prospect(turn, group, met) {
            Prospect::Behind(first) => {
                turn.heads.insert(group, note(group, &first));
                return None;
            }
            Prospect::Waits => Done::Upto(i64::MIN),
            // Others want what stands first, and could not have it while this transaction has the group.
            Prospect::Unwanted => Done::Left(i64::MIN),
            Prospect::Open => self.take_and_serve(turn, group, hand),
        };
        turn.done.insert(group, done);
        Some(done)
    }

    /// What is to be expected of a group, as far as the snapshot of the walk shows. Most groups that are
    /// met and are not free are left at that.
    fn prospect(&mut self, turn: &mut Turn, group: i64, met: Option<i64>) -> Prospect {
        let known = turn.turns.look_up(group);
        let mut probe = match self.probe.take() {
            Some(probe) => probe,
            None => Space::to_read(self.q),
        };
        probe.seek_group(group, known.low, met.unwrap_or(i64::MAX));
        let mut prospect = Prospect::Open;
        while let Some(facts) = probe.next() {
            match facts.fate(self.q, self.now) {
                Fate::Ready if met.is_some_and(|id| id != facts.id()) => {
                    prospect = Prospect::Behind(facts.place);
                }
                Fate::Ready if self.wants(&probe) => break,
                Fate::Ready => prospect = Prospect::Unwanted,
                Fate::Waits(_) => prospect = Prospect::Waits,
                Fate::FailedOut | Fate::Expired => {
                    wait::interruptible();
                    continue;
                }
            }
            break;
        }
        if probe.has_changed() {
            prospect = Prospect::Open;
        }
        self.probe = Some(probe);
        prospect
    }

    fn take_and_serve(
        &mut self,
        turn: &mut Turn,
        group: i64,
        hand: &mut impl FnMut(&[Value]),
    ) -> Done {
        match turn.turns.take(group) {
            Taken::Full => {
                self.has_too_many = true;
                Done::Left(i64::MIN)
            }
            Taken::Busy => Done::Upto(i64::MIN),
            Taken::Ours(known) => self.serve(turn, group, known, hand),
        }
    }

    /// Hands out the next messages of a group that was taken.
    fn serve(
        &mut self,
        turn: &mut Turn,
        group: i64,
        mut known: Known,
        hand: &mut impl FnMut(&[Value]),
    ) -> Done {
        let before = (self.changes.len(), self.taken_back.len(), self.over.len());
        for _ in 0..AGAIN {
            match self.serve_once(turn, group, &known, hand) {
                Look::Done(done) => {
                    if before == (self.changes.len(), self.taken_back.len(), self.over.len()) {
                        turn.turns.give_up(group);
                    }
                    return done;
                }
                Look::Again => known = turn.turns.look_up(group),
            }
            wait::interruptible();
        }
        Done::Left(i64::MIN)
    }

    fn serve_once(
        &mut self,
        turn: &mut Turn,
        group: i64,
        known: &Known,
        hand: &mut impl FnMut(&[Value]),
    ) -> Look {
        let q = self.q;
        let _pinned = Pinned::now();
        let mut space = Space::to_write(q);
        space.seek_group(group, known.low, i64::MAX);
        let mut low = None;
        let mut upto = i64::MIN;
        let first = loop {
            let Some(facts) = space.next() else {
                break None;
            };
            low.get_or_insert(facts.id());
            match facts.fate(q, self.now) {
                Fate::Ready => break Some(facts),
                Fate::Waits(_) => break None,
                Fate::FailedOut | Fate::Expired => {
                    // What cannot be buried now stands in the way.
                    if !turn.turns.hand_out(group, facts.id(), known) {
                        return Look::Again;
                    }
                    match self.lay_out(&mut space, &facts) {
                        Some(true) => upto = facts.id(),
                        Some(false) => break None,
                        None => return Look::Done(Done::Left(upto)),
                    }
                }
            }
        };
        if space.has_changed() {
            return Look::Again;
        }
        let mut clean = known.clean;
        let Some(first) = first else {
            if let Some(low) = low {
                turn.turns.learn(group, known, low, clean);
            }
            return Look::Done(Done::Upto(upto));
        };
        let low = low.unwrap_or_default();
        let is_doubtful = |f: &Facts| f.is_again || (f.id() < known.late && f.id() >= known.clean);
        if is_doubtful(&first) {
            let mut has_taken_back = false;
            clean = loop {
                match space.next() {
                    None => break i64::MAX,
                    Some(f) if f.is_leased(self.now) => {
                        turn.turns.learn(group, known, low, known.clean);
                        return Look::Done(Done::Upto(upto));
                    }
                    Some(f) if !is_doubtful(&f) => break clean.max(f.id()),
                    // Its holder may be about to prolong the lease, or will be.
                    Some(f) if f.receipt.is_some() => match self.take_back(&mut space, &f) {
                        true => has_taken_back = true,
                        false => return Look::Done(Done::Upto(upto)),
                    },
                    Some(_) => wait::interruptible(),
                }
            };
            if has_taken_back {
                return Look::Again;
            }
            space.seek_group(group, first.id(), i64::MAX);
            if space.next().is_none_or(|f| f.place != first.place) || space.has_changed() {
                return Look::Again;
            }
        }
        let most = q.options.limits.group_max_in_flight.unwrap_or(i32::MAX);
        let mut taken = 0;
        let mut next = Some(first);
        while let Some(facts) = next {
            match facts.fate(q, self.now) {
                Fate::Ready => {}
                Fate::Waits(_) => break,
                Fate::FailedOut | Fate::Expired => match self.lay_out(&mut space, &facts) {
                    Some(true) => {
                        upto = facts.id();
                        next = space.next();
                        continue;
                    }
                    _ => break,
                },
            }
            if self.is_satisfied() || taken >= most {
                break;
            }
            let is_first = facts.id() == first.id();
            if !self.wants(&space) {
                // Who wants it may have passed it, because this transaction has the group.
                if is_first {
                    self.declined.push(Change::same(q, &facts));
                }
                return Look::Done(Done::Left(upto));
            }
            if !turn.turns.hand_out(group, facts.id(), known) {
                match is_first {
                    true => return Look::Again,
                    false => break,
                }
            }
            match self.try_hand_out(&mut space, &facts, hand) {
                Handed::Out => {
                    upto = facts.id();
                    taken += 1;
                }
                Handed::Later(_) | Handed::Stopped => return Look::Done(Done::Left(upto)),
                Handed::Moved if is_first => return Look::Again,
                Handed::Moved | Handed::Taken => break,
            }
            next = space.next();
        }
        turn.turns.learn(group, known, low, clean);
        Look::Done(Done::Upto(upto))
    }
}

impl Claim<'_> {
    /// Ends a hand-out whose lease has ended: nobody can prolong it any more, nor settle it. False:
    /// somebody is at it.
    fn take_back(&mut self, space: &mut Space, facts: &Facts) -> bool {
        let back = Facts {
            due: None,
            receipt: None,
            failures: facts.failures(self.now),
            ..*facts
        };
        let new = space.edited(|new| {
            new[row::DUE] = Value::NULL;
            new[row::RECEIPT] = Value::NULL;
            new[row::FAILURES] = Value::int4(back.failures);
            new[row::LAST_ERROR] = Value::text(LEASE_ENDED);
        });
        let done = space.update(&facts.place, &new);
        if done {
            let change = Change::of(self.q, facts, &After::Is(back));
            self.taken_back.push(change);
        }
        done
    }
}

/// The first message of a group with an id from `from` to `to`, and what a reader would do with it.
pub fn first(q: &Queue, group: i64, (from, to): (i64, i64), now: Micros) -> Option<(Facts, Fate)> {
    let mut found = None;
    for _ in 0..AGAIN {
        let _pinned = Pinned::now();
        let mut space = Space::to_read(q);
        space.seek_group(group, from, to);
        found = space.next();
        if !space.has_changed() {
            break;
        }
        wait::interruptible();
    }
    found.map(|facts| (facts, facts.fate(q, now)))
}

/// Whether a reader who knows nothing but the rows would find the next message of a group ready. A
/// snapshot must be active.
pub fn is_ready(q: &Queue, group: i64, now: Micros) -> bool {
    let mut space = Space::to_read(q);
    space.seek_group(group, 0, i64::MAX);
    let mut is_first = true;
    while let Some(facts) = space.next() {
        wait::interruptible();
        match facts.fate(q, now) {
            Fate::FailedOut | Fate::Expired if is_first => return true,
            Fate::Waits(_) if is_first || facts.is_leased(now) => return false,
            _ => is_first = false,
        }
    }
    true
}
