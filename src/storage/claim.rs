//! Handing messages out: walk along the index, skip what is not ready or not free, and write or
//! remove the rest at once.
//!
//! A row that is being changed, is locked, or was changed since the snapshot belongs to somebody
//! else, and is skipped; nothing is waited for, and nothing is locked but what is handed out or
//! must be buried.

use super::fair::{Rounds, Tenants};
use super::groups::{Turn, Turns};
use super::row::{self, Change, Facts, Fate, Place};
use super::space::Space;
use super::{LEASE_ENDED, Shown, message};
use crate::catalog::Queue;
use crate::pg::rel;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use pg_broker_core::groups::Note;

/// What becomes of a claimed row.
#[derive(Clone, Copy)]
pub enum Take {
    /// Leased until then.
    Until(Micros),
    /// Removed.
    Away,
}

/// What a walk through a span came to.
pub struct Seen {
    /// Every row before this id is somebody's, gone, waiting (and noted), or over.
    pub upto: i64,
    /// The same, or ready and not wanted.
    pub passed: i64,
    /// Whether there was any row of the rank.
    pub any: bool,
    /// The row at `passed` was moved meanwhile: it is where a new snapshot shows it (`Claim::renew`).
    pub is_moved: bool,
}

/// So many ids, and two for each message wanted, are looked at before all that follow.
const NEAR: i64 = 30;
const FAR: usize = 10_000;

/// So often one read looks for rows that were moved meanwhile.
pub(super) const RENEWED: usize = 100;

/// How many rows one read buries in passing.
const BURIED: usize = 64;

/// Which of the messages that are ready a reader wants, by headers and body; all, where none is told.
pub type Wanted<'a> = Option<&'a dyn Fn(Value, Value) -> bool>;

/// Who is asked for leave before a message that is ready is handed out.
pub trait Gate {
    fn ask(&mut self, row: &dyn Met) -> Leave;
    /// The row for which leave was given then was not to be had.
    fn give_back(&mut self, row: &dyn Met, at: Micros);
}

pub enum Leave {
    /// To be handed out, at that moment if it is told.
    Take(Option<Micros>),
    /// Not before that; others may be.
    Pass(Micros),
    /// Nothing may.
    Stop,
}

/// What a gate may want to know of a row.
pub trait Met {
    fn header(&self, name: &str) -> Option<String>;
    fn group(&self) -> Option<String>;
}

impl Met for Space<'_> {
    fn header(&self, name: &str) -> Option<String> {
        self.value(row::HEADERS).member_text(name)
    }

    fn group(&self) -> Option<String> {
        self.value(row::GROUP_KEY).as_text()
    }
}

/// One reader at work. It has a snapshot of its own, active as long as it lives.
pub struct Claim<'a> {
    pub(super) q: &'a Queue,
    pub(super) now: Micros,
    /// In a queue with groups.
    pub(super) turn: Option<Turn<'a>>,
    /// In a queue whose tenants take turns.
    pub(super) tenants: Option<Tenants<'a>>,
    take: Take,
    wanted: usize,
    only: Wanted<'a>,
    gate: Option<&'a mut dyn Gate>,
    // Before the snapshot, because they end in this order.
    pub(super) space: Option<Space<'a>>,
    /// Looks at groups in the same snapshot.
    pub(super) probe: Option<Space<'a>>,
    pinned: Option<Pinned>,
    /// The row that was moved while this one looked.
    moved: Option<i64>,
    pub(super) renewed: usize,
    queue_name: Value,
    leased: Value,
    pub(super) changes: Vec<Change>,
    ended: usize,
    pub(super) taken_back: Vec<Change>,
    pub(super) has_too_many: bool,
    /// All that follows has to wait.
    pub(super) is_stopped: bool,
    pub(super) declined: Vec<Change>,
    pub(super) over: Vec<Place>,
    /// Rows passed that wait, and until when.
    pub waiting: Vec<(i64, Micros)>,
    /// The first row of the present span that needs somebody's attention and got none.
    pub(super) left: Option<i64>,
    /// The first one of it that is ready and not wanted.
    unwanted: Option<i64>,
}

/// What a reader came to.
pub struct Claimed {
    /// What this transaction has done to rows.
    pub changes: Vec<Change>,
    /// A group was left because this transaction has as many as it may.
    pub has_too_many: bool,
    /// Messages taken back from somebody whose lease ended.
    pub taken_back: Vec<Change>,
    /// The next messages of groups that were taken, but not wanted: others are to look there.
    pub declined: Vec<Change>,
    /// How many had a lease that ended.
    pub ended: usize,
    /// Rows that are over and that this transaction has locked, to be buried.
    pub over: Vec<Place>,
}

/// What became of a message that was to be handed out.
pub enum Handed {
    Out,
    /// It is somebody else's.
    Taken,
    /// A new snapshot shows it elsewhere.
    Moved,
    /// There is no leave before that; others may have it.
    Later(Micros),
    /// There is no leave for any.
    Stopped,
}

impl<'a> Claim<'a> {
    /// `turns`: who gives out groups, in a queue that has such.
    pub fn new(
        q: &'a Queue,
        wanted: usize,
        only: Wanted<'a>,
        take: Take,
        turns: Option<&'a mut dyn Turns>,
        now: Micros,
    ) -> Self {
        let mut claim = Claim {
            q,
            now,
            turn: turns.map(Turn::new),
            tenants: None,
            take,
            wanted,
            only,
            gate: None,
            space: None,
            probe: None,
            pinned: None,
            moved: None,
            renewed: 0,
            queue_name: Value::text(&q.name),
            leased: Value::text("leased"),
            changes: Vec::new(),
            ended: 0,
            taken_back: Vec::new(),
            has_too_many: false,
            is_stopped: false,
            declined: Vec::new(),
            over: Vec::new(),
            waiting: Vec::new(),
            left: None,
            unwanted: None,
        };
        claim.look_anew();
        claim
    }

    /// Has the reader ask for leave.
    pub fn through(mut self, gate: Option<&'a mut dyn Gate>) -> Self {
        self.gate = gate;
        self
    }

    /// Has the reader pass what it meets to tenants, and then hand out what is theirs.
    pub fn by_tenants(mut self, rounds: Option<&'a mut dyn Rounds>) -> Self {
        self.tenants = rounds.map(Tenants::new);
        self
    }

    pub(super) fn look_anew(&mut self) {
        if let Some(tenants) = &mut self.tenants {
            tenants.forget_met();
        }
        self.space = None;
        self.probe = None;
        self.pinned = None;
        self.pinned = Some(Pinned::now());
        self.space = Some(Space::to_write(self.q));
    }

    /// Goes on in a new snapshot.
    pub fn renew(&mut self) {
        self.renewed += 1;
        self.look_anew();
    }

    pub fn is_satisfied(&self) -> bool {
        self.missing() == 0 || self.is_stopped
    }

    pub(super) fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.changes.len())
    }

    /// Messages that were met and have to wait for others of their group.
    pub fn take_blocked(&mut self) -> Vec<Note> {
        let turn = self.turn.as_mut();
        turn.map_or_else(Vec::new, |t| t.blocked.drain().map(|b| b.1).collect())
    }

    /// The first messages of groups that come later, whether somebody looks there or not.
    pub fn take_heads(&mut self) -> Vec<Note> {
        let turn = self.turn.as_mut();
        turn.map_or_else(Vec::new, |t| t.heads.drain().map(|h| h.1).collect())
    }

    /// Ends the walks, then their snapshot.
    pub fn end(self) -> Claimed {
        Claimed {
            changes: self.changes,
            ended: self.ended + self.taken_back.len(),
            taken_back: self.taken_back,
            has_too_many: self.has_too_many,
            declined: self.declined,
            over: self.over,
        }
    }

    /// Walks the ids from `from` to before `to` of one rank, handing out through `hand`.
    pub fn span(&mut self, rank: i16, from: i64, to: i64, hand: &mut impl FnMut(&[Value])) -> Seen {
        self.left = None;
        self.unwanted = None;
        self.moved = None;
        let mut seen = Seen {
            upto: from,
            passed: from,
            any: false,
            is_moved: false,
        };
        let Some(mut space) = self.space.take() else {
            return seen;
        };
        // What is wanted is usually found at once. A walk without an end near by would take in a whole
        // page of the index for it.
        let near = from.saturating_add(NEAR + 2 * self.missing().min(FAR) as i64);
        let is_sure = !space.has_changed() || self.renewed >= RENEWED;
        for (from, to) in [(from, to.min(near)), (to.min(near), to)] {
            if is_sure && from < to && !self.is_satisfied() && self.moved.is_none() {
                space.seek(rank, from, to);
                self.walk(&mut space, rank, to, &mut seen, hand);
            }
        }
        // Where tables have changed between the snapshot and the map, or since, something may have been
        // passed that is elsewhere.
        if space.has_changed() && self.renewed < RENEWED {
            self.moved = Some(from);
            self.waiting.clear();
        }
        self.space = Some(space);
        seen.passed = self.left.map_or(seen.upto, |id| id.min(seen.upto));
        if let Some(id) = self.moved {
            seen.passed = id.min(seen.passed);
            seen.is_moved = seen.passed == id;
        }
        seen.upto = self.unwanted.map_or(seen.passed, |id| id.min(seen.passed));
        seen
    }

    /// Walks on to before `to`, or until there is enough.
    fn walk(
        &mut self,
        space: &mut Space,
        rank: i16,
        to: i64,
        seen: &mut Seen,
        hand: &mut impl FnMut(&[Value]),
    ) {
        while !self.is_satisfied() && !self.has_passed_enough() {
            let Some(facts) = space.next() else {
                seen.upto = to;
                break;
            };
            if facts.place.rank == rank {
                seen.any = true;
                self.meet(space, &facts, hand);
                if self.moved.is_some() || self.has_no_place() {
                    break;
                }
            }
            seen.upto = facts.id().saturating_add(1);
        }
    }

    fn meet(&mut self, space: &mut Space, row: &Facts, hand: &mut impl FnMut(&[Value])) {
        // Rows that somebody wrote by hand may name no tenant.
        let is_tenants = self.tenants.is_some() && row.belongs_to.is_some();
        match row.fate(self.q, self.now) {
            Fate::Ready if is_tenants => self.pass_to_tenant(space, row, hand),
            // Others may want it: they look here again. Nor is what is behind it in its group ours yet, and
            // so the group is left alone.
            Fate::Ready if !self.wants(space) => {
                self.unwanted = self.unwanted.or(Some(row.id()));
            }
            Fate::Ready if self.turn.is_some() && row.belongs_to.is_some() => {
                let group = row.belongs_to.unwrap_or_default();
                if !self.meet_in_group(row, group, hand) {
                    self.left = self.left.or(Some(row.id()));
                }
            }
            Fate::Ready => match self.try_hand_out(space, row, hand) {
                // Whoever takes a later one instead would be out of order.
                Handed::Moved => self.moved = Some(row.id()),
                Handed::Later(until) => self.waiting.push((row.id(), until)),
                Handed::Stopped => self.left = self.left.or(Some(row.id())),
                Handed::Out | Handed::Taken => {}
            },
            Fate::Waits(until) => self.waiting.push((row.id(), until)),
            Fate::FailedOut | Fate::Expired => {
                match (self.lay_out(space, row), row.group(self.q)) {
                    (None, _) => self.left = self.left.or(Some(row.id())),
                    (Some(true), Some(group)) => self.follow_in_group(group, hand),
                    _ => {}
                }
            }
        }
    }

    /// Hands out the message of that id, if it is ready and free.
    pub fn one(&mut self, id: i64, hand: &mut impl FnMut(&[Value])) -> bool {
        while self.renewed < RENEWED {
            let Some(mut space) = self.space.take() else {
                return false;
            };
            let found = space.find(id);
            let handed = match &found {
                Some(facts) if facts.fate(self.q, self.now) == Fate::Ready => {
                    self.try_hand_out(&mut space, facts, hand)
                }
                None if space.has_changed() => Handed::Moved,
                _ => Handed::Taken,
            };
            self.space = Some(space);
            match handed {
                Handed::Moved => self.renew(),
                handed => return matches!(handed, Handed::Out),
            }
        }
        false
    }

    /// Locks a row that is over, to be buried. False: somebody else has it; none: there are enough.
    pub(super) fn lay_out(&mut self, space: &mut Space, row: &Facts) -> Option<bool> {
        // Looked at again, in a new snapshot.
        if self.over.iter().any(|p| p.id == row.id()) {
            return Some(true);
        }
        if self.over.len() >= BURIED {
            return None;
        }
        let is_ours = space.lock(&row.place);
        if is_ours {
            self.over.push(row.place);
        }
        Some(is_ours)
    }

    pub(super) fn wants(&self, space: &Space) -> bool {
        self.only
            .is_none_or(|wants| wants(space.value(row::HEADERS), space.value(row::BODY)))
    }

    /// Hands a row out, if there is leave.
    pub(super) fn try_hand_out(
        &mut self,
        space: &mut Space,
        row: &Facts,
        hand: &mut impl FnMut(&[Value]),
    ) -> Handed {
        let Some(gate) = &mut self.gate else {
            return self.hand_out(space, row, self.now, hand);
        };
        let at = match gate.ask(space) {
            Leave::Take(at) => at.unwrap_or(self.now),
            Leave::Pass(until) => return Handed::Later(until),
            Leave::Stop => {
                self.is_stopped = true;
                return Handed::Stopped;
            }
        };
        let handed = self.hand_out(space, row, at, hand);
        if !matches!(handed, Handed::Out)
            && let Some(gate) = &mut self.gate
        {
            gate.give_back(space, at);
        }
        handed
    }

    /// Hands a row out, as read at that moment.
    fn hand_out(
        &mut self,
        space: &mut Space,
        facts: &Facts,
        at: Micros,
        hand: &mut impl FnMut(&[Value]),
    ) -> Handed {
        let mut new = space.edited(|_| ());
        let attempts = new[row::ATTEMPTS].as_int4().unwrap_or_default();
        new[row::ATTEMPTS] = Value::int4(attempts.saturating_add(1));
        let ended = facts.lease_ended(self.now);
        let failures = facts.failures(self.now);
        if ended {
            new[row::FAILURES] = Value::int4(failures);
            new[row::LAST_ERROR] = Value::text(LEASE_ENDED);
        }
        let (done, after) = match self.take {
            Take::Until(due) => {
                new[row::DUE] = Value::timestamptz(due);
                new[row::READ_AT] = Value::timestamptz(at);
                let receipt = rel::random_receipt();
                new[row::RECEIPT] = Value::int8(receipt);
                let leased = Facts {
                    due: Some(due),
                    read_at: Some(at),
                    receipt: Some(receipt),
                    failures,
                    is_again: true,
                    ..*facts
                };
                (space.update(&facts.place, &new), row::After::Is(leased))
            }
            Take::Away => {
                new[row::RECEIPT] = Value::NULL;
                (space.delete(&facts.place), row::After::Gone)
            }
        };
        if !done {
            return match self.renewed < RENEWED && space.is_moved(&facts.place) {
                true => Handed::Moved,
                false => Handed::Taken,
            };
        }
        let shown = Shown {
            receipt: new[row::RECEIPT],
            queue: self.queue_name,
            state: self.leased,
        };
        hand(&message(
            &new,
            new[row::FAILURES],
            new[row::LAST_ERROR],
            &shown,
        ));
        self.ended += usize::from(ended);
        self.changes.push(Change::of(self.q, facts, &after));
        Handed::Out
    }
}
