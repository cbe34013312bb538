//! Handing messages out: walk along the index, skip what is not ready or not free, and write or
//! remove the rest at once.
//!
//! A row that is being changed, is locked, or was changed since the snapshot belongs to somebody
//! else, and is skipped; nothing is waited for, and nothing is locked but what is handed out or
//! must be buried.

use super::row::{self, Change, Facts, Fate, Place};
use super::{LEASE_ENDED, Shown, message};
use crate::catalog::Queue;
use crate::pg::rel;
use crate::pg::table::Table;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::pg::walk::Walk;

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
}

/// So many ids, and two for each message wanted, are looked at before all that follow.
const NEAR: i64 = 30;
const FAR: usize = 10_000;

/// How many rows one read buries in passing.
const BURIED: usize = 64;

/// One reader at work. A snapshot must be active as long as it lives.
pub struct Claim<'a> {
    q: &'a Queue,
    now: Micros,
    take: Take,
    wanted: usize,
    // Before the table, because they end in this order.
    by_id: Option<Walk>,
    by_rank: Option<Walk>,
    table: Table,
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
    pub fn new(q: &'a Queue, wanted: usize, take: Take, now: Micros) -> Self {
        Claim {
            q,
            now,
            take,
            wanted,
            by_id: None,
            by_rank: None,
            table: row::table(q),
            queue_name: Value::text(&q.name),
            leased: Value::text("leased"),
            changes: Vec::new(),
            ended: 0,
            over: Vec::new(),
            waiting: Vec::new(),
            left: None,
        }
    }

    pub fn is_satisfied(&self) -> bool {
        self.missing() == 0
    }

    fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.changes.len())
    }

    /// Ends the walks, while their snapshot is still active.
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
        let is_default = rank == row::DEFAULT_RANK;
        let mut walk = match is_default {
            true => self.by_id.take(),
            false => self.by_rank.take(),
        }
        .unwrap_or_else(|| walk_of(self.q, &self.table, rank));
        let mut seen = Seen {
            upto: from,
            any: false,
        };
        // What is wanted is usually found at once. A walk without an end near by would take in a whole
        // page of the index for it.
        let near = from.saturating_add(NEAR + 2 * self.missing().min(FAR) as i64);
        for (from, to) in [(from, to.min(near)), (to.min(near), to)] {
            if from < to && !self.is_satisfied() {
                seek(&mut walk, rank, from, to);
                self.walk(&mut walk, rank, to, &mut seen, hand);
            }
        }
        match is_default {
            true => self.by_id = Some(walk),
            false => self.by_rank = Some(walk),
        }
        seen.upto = self.left.map_or(seen.upto, |id| id.min(seen.upto));
        seen
    }

    /// Walks on to before `to`, or until there is enough.
    fn walk(
        &mut self,
        walk: &mut Walk,
        rank: i16,
        to: i64,
        seen: &mut Seen,
        hand: &mut impl FnMut(&[Value]),
    ) {
        while !self.is_satisfied() {
            if !walk.next() {
                seen.upto = to;
                break;
            }
            let facts = Facts::of(walk);
            if facts.place.rank == rank {
                seen.any = true;
                self.meet(walk, &facts, hand);
            }
            seen.upto = facts.id().saturating_add(1);
        }
    }

    fn meet(&mut self, walk: &Walk, row: &Facts, hand: &mut impl FnMut(&[Value])) {
        match row.fate(self.q, self.now) {
            Fate::Ready => self.try_hand_out(walk, row, hand),
            Fate::Waits(until) => self.waiting.push((row.id(), until)),
            Fate::FailedOut | Fate::Expired if self.over.len() >= BURIED => {
                self.left = self.left.or(Some(row.id()));
            }
            Fate::FailedOut | Fate::Expired => {
                if self.table.lock(row.place.tid) {
                    self.over.push(row.place);
                }
            }
        }
    }

    fn try_hand_out(&mut self, walk: &Walk, facts: &Facts, hand: &mut impl FnMut(&[Value])) {
        let mut new: [Value; row::WIDTH] = std::array::from_fn(|i| walk.get(i));
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
                (
                    self.table.update(facts.place.tid, &new),
                    row::After::Is(leased),
                )
            }
            Take::Away => {
                new[row::RECEIPT] = Value::NULL;
                (self.table.delete(facts.place.tid), row::After::Gone)
            }
        };
        if !done {
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

/// The index that has the messages of a rank in their order.
pub(super) fn walk_of(q: &Queue, table: &Table, rank: i16) -> Walk {
    match rank {
        row::DEFAULT_RANK => Walk::by_id(table, q.index),
        _ => Walk::by_rank(table, q.ranks_index),
    }
}

/// To the ids of a rank from one to before another.
pub(super) fn seek(walk: &mut Walk, rank: i16, from: i64, to: i64) {
    let last = if to == i64::MAX { to } else { to - 1 };
    match rank {
        row::DEFAULT_RANK => walk.seek_ids(from, last),
        _ => walk.seek_in_rank(rank, from, last),
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
    let table = Table::open_to_read(q.storage);
    let mut walk = walk_of(q, &table, rank);
    seek(&mut walk, rank, from, to);
    while walk.next() {
        let facts = Facts::of(&walk);
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
