//! Handing messages out: walk along the index, skip what is not ready or not free, and write or
//! remove the rest at once.
//!
//! A row that is being changed, is locked, or was changed since the snapshot belongs to somebody
//! else, and is skipped; nothing is waited for, and nothing is locked but what is handed out or
//! must be buried.

use super::row::{self, Change, Facts, Fate, Place};
use super::space::Space;
use super::{LEASE_ENDED, Shown, message};
use crate::catalog::Queue;
use crate::pg::rel;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::Value;

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
    /// Whether there was any row of the rank.
    pub any: bool,
    /// The row at `upto` was moved meanwhile: it is where a new snapshot shows it (`Claim::renew`).
    pub is_moved: bool,
}

/// So many ids, and two for each message wanted, are looked at before all that follow.
const NEAR: i64 = 30;
const FAR: usize = 10_000;

/// So often one read looks for rows that were moved meanwhile.
const RENEWED: usize = 100;

/// How many rows one read buries in passing.
const BURIED: usize = 64;

/// Which of the messages that are ready a reader wants, by their headers and bodies; all, where none is
/// told.
pub type Wanted<'a> = Option<&'a dyn Fn(Value, Value) -> bool>;

/// One reader at work. It has a snapshot of its own, active as long as it lives.
pub struct Claim<'a> {
    q: &'a Queue,
    now: Micros,
    take: Take,
    wanted: usize,
    only: Wanted<'a>,
    // Before the snapshot, because they end in this order.
    space: Option<Space<'a>>,
    pinned: Option<Pinned>,
    /// The row that was moved while this one looked.
    moved: Option<i64>,
    renewed: usize,
    queue_name: Value,
    leased: Value,
    changes: Vec<Change>,
    ended: usize,
    over: Vec<Place>,
    /// Rows passed that wait, and until when.
    pub waiting: Vec<(i64, Micros)>,
    /// The first row of the present span that needs somebody's attention and got none.
    left: Option<i64>,
}

/// What a reader came to.
pub struct Claimed {
    /// What this transaction has done to rows.
    pub changes: Vec<Change>,
    /// How many of the messages handed out had a lease that ended.
    pub ended: usize,
    /// Rows that are over and that this transaction has locked, to be buried.
    pub over: Vec<Place>,
}

impl<'a> Claim<'a> {
    pub fn new(q: &'a Queue, wanted: usize, only: Wanted<'a>, take: Take, now: Micros) -> Self {
        let mut claim = Claim {
            q,
            now,
            take,
            wanted,
            only,
            space: None,
            pinned: None,
            moved: None,
            renewed: 0,
            queue_name: Value::text(&q.name),
            leased: Value::text("leased"),
            changes: Vec::new(),
            ended: 0,
            over: Vec::new(),
            waiting: Vec::new(),
            left: None,
        };
        claim.look_anew();
        claim
    }

    fn look_anew(&mut self) {
        self.space = None;
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
        self.missing() == 0
    }

    fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.changes.len())
    }

    /// Ends the walks, then their snapshot.
    pub fn end(self) -> Claimed {
        Claimed {
            changes: self.changes,
            ended: self.ended,
            over: self.over,
        }
    }

    /// Walks the ids from `from` to before `to` of one rank, handing out through `hand`.
    pub fn span(&mut self, rank: i16, from: i64, to: i64, hand: &mut impl FnMut(&[Value])) -> Seen {
        self.left = None;
        self.moved = None;
        let mut seen = Seen {
            upto: from,
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
        seen.upto = self.left.map_or(seen.upto, |id| id.min(seen.upto));
        if let Some(id) = self.moved {
            seen.upto = id.min(seen.upto);
            seen.is_moved = seen.upto == id;
        }
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
        while !self.is_satisfied() {
            let Some(facts) = space.next() else {
                seen.upto = to;
                break;
            };
            if facts.place.rank == rank {
                seen.any = true;
                self.meet(space, &facts, hand);
                if self.moved.is_some() {
                    break;
                }
            }
            seen.upto = facts.id().saturating_add(1);
        }
    }

    fn meet(&mut self, space: &mut Space, row: &Facts, hand: &mut impl FnMut(&[Value])) {
        match row.fate(self.q, self.now) {
            // Others may want it: readers look here again.
            Fate::Ready if !self.wants(space) => self.left = self.left.or(Some(row.id())),
            Fate::Ready => self.try_hand_out(space, row, hand),
            Fate::Waits(until) => self.waiting.push((row.id(), until)),
            Fate::FailedOut | Fate::Expired if self.over.len() >= BURIED => {
                self.left = self.left.or(Some(row.id()));
            }
            // Looked at again, in a new snapshot.
            Fate::FailedOut | Fate::Expired if self.over.iter().any(|p| p.id == row.id()) => {}
            Fate::FailedOut | Fate::Expired => {
                if space.lock(&row.place) {
                    self.over.push(row.place);
                }
            }
        }
    }

    fn wants(&self, space: &Space) -> bool {
        self.only
            .is_none_or(|wants| wants(space.value(row::HEADERS), space.value(row::BODY)))
    }

    /// Hands out the message of that id, if it is ready and free.
    pub fn one(&mut self, id: i64, hand: &mut impl FnMut(&[Value])) -> bool {
        let before = self.changes.len();
        let Some(mut space) = self.space.take() else {
            return false;
        };
        if let Some(facts) = space.find(id)
            && facts.fate(self.q, self.now) == Fate::Ready
        {
            self.try_hand_out(&mut space, &facts, hand);
        }
        self.space = Some(space);
        self.changes.len() > before
    }

    fn try_hand_out(&mut self, space: &mut Space, facts: &Facts, hand: &mut impl FnMut(&[Value])) {
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
                new[row::READ_AT] = Value::timestamptz(self.now);
                let receipt = rel::random_receipt();
                new[row::RECEIPT] = Value::int8(receipt);
                let leased = Facts {
                    due: Some(due),
                    read_at: Some(self.now),
                    receipt: Some(receipt),
                    failures,
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
            // Whoever takes a later one instead would be out of order.
            if self.renewed < RENEWED && space.is_moved(&facts.place) {
                self.moved = Some(facts.id());
            }
            return;
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
    }
}

/// What a look at a span came to where a reader would find nothing to do.
pub struct Idle {
    /// Whether there was any row of the rank.
    pub any: bool,
    /// Rows that wait, and until when.
    pub waiting: Vec<(i64, Micros)>,
}

/// What there is in a span, unless a reader would find something to do now: to hand out, or to
/// bury. A snapshot must be active.
pub fn idle(q: &Queue, rank: i16, from: i64, to: i64, now: Micros) -> Option<Idle> {
    let mut idle = Idle {
        any: false,
        waiting: Vec::new(),
    };
    let mut space = Space::to_read(q);
    space.seek(rank, from, to);
    while let Some(facts) = space.next() {
        if facts.place.rank == rank {
            let Fate::Waits(until) = facts.fate(q, now) else {
                return None;
            };
            idle.any = true;
            idle.waiting.push((facts.id(), until));
        }
    }
    Some(idle)
}
