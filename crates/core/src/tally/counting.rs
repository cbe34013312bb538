//! A tally that may have to be made anew, while messages come and go.
//!
//! It is unknown after a start of the server, and when something happened that nobody told of.
//! Whoever makes it anew takes a snapshot in the moment that it begins, under the lock, and
//! counts the rows of that; whoever commits adds what it did unless that snapshot has it.
//!
//! Invariants:
//! - Whoever has told of its changes before the moment is in the snapshot, because sessions
//!   tell after others can see. So everybody who is not in it tells later, and is added then;
//!   and everybody who is in it is not, however late it tells.
//! - A count that was begun counts for nothing once `forget` was called, or it was abandoned.
//!
//! Transactions have numbers that never return. All-zero bytes are the unknown state. Nothing here
//! allocates or panics; the caller holds the queue's lock.

use super::{Leases, Part, Reading, Tally};

/// So many transactions in progress a snapshot may have.
pub const IN_PROGRESS: usize = 128;

/// What tells who is in a snapshot: nobody from `next` on, nor those in progress.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    pub next: u64,
    /// The lower halves of their numbers.
    pub in_progress: &'a [u32],
}

const UNKNOWN: u32 = 0;
const UNDER_WAY: u32 = 1;
const KNOWN: u32 = 2;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Counting {
    phase: u32,
    generation: u32,
    /// How often a message may fail, by which all are counted.
    limit: i32,
    in_progress: u32,
    next: u64,
    xids: [u32; IN_PROGRESS],
    /// How many changes were told, for who wants to see that there were none.
    told: u64,
    tally: Tally,
}

/// Names what was told so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    told: u64,
    generation: u32,
}

impl Default for Counting {
    fn default() -> Self {
        Counting {
            phase: UNKNOWN,
            generation: 0,
            limit: 0,
            in_progress: 0,
            next: 0,
            xids: [0; IN_PROGRESS],
            told: 0,
            tally: Tally::default(),
        }
    }
}

impl Counting {
    pub fn is_known(&self) -> bool {
        self.phase == KNOWN
    }

    /// Something has happened that nobody told of.
    pub fn forget(&mut self) {
        self.phase = UNKNOWN;
        self.generation = self.generation.wrapping_add(1);
    }

    /// The queue is being made: it holds nothing, and nobody but its maker knows it.
    pub fn start(&mut self, limit: i32) {
        self.forget();
        self.phase = KNOWN;
        self.limit = limit;
        self.in_progress = 0;
        self.next = 0;
        self.tally = Tally::default();
    }

    /// Counting begins, in this moment; gives what names it. None while somebody else is at it, or
    /// when there is no room for the transactions in progress.
    pub fn begin(&mut self, moment: &Moment, limit: i32) -> Option<u32> {
        let n = moment.in_progress.len();
        if self.phase == UNDER_WAY {
            return None;
        }
        self.xids.get_mut(..n)?.copy_from_slice(moment.in_progress);
        self.in_progress = n as u32;
        self.next = moment.next;
        self.forget();
        self.phase = UNDER_WAY;
        self.limit = limit;
        self.tally = Tally::default();
        Some(self.generation)
    }

    fn is_mine(&self, generation: u32) -> bool {
        self.phase == UNDER_WAY && self.generation == generation
    }

    /// The count that was begun is this; false when it counts for nothing.
    pub fn finish(&mut self, generation: u32, counted: &Tally, now: i64) -> bool {
        if !self.is_mine(generation) {
            return false;
        }
        self.phase = KNOWN;
        if self.tally.absorb(counted, now).is_err() {
            self.forget();
        }
        self.is_known()
    }

    /// The count that was begun will not be finished.
    pub fn abandon(&mut self, generation: u32) {
        if self.is_mine(generation) {
            self.forget();
        }
    }

    /// Whether the snapshot has that transaction.
    fn holds(&self, xid: u64) -> bool {
        let running = self.xids.get(..self.in_progress as usize);
        xid < self.next && running.is_none_or(|list| !list.contains(&(xid as u32)))
    }

    /// A transaction has committed these, each counted by its limit.
    pub fn add<'a>(
        &mut self,
        xid: u64,
        parts: impl IntoIterator<Item = (i32, &'a Part)>,
        now: i64,
    ) {
        self.told = self.told.wrapping_add(1);
        if self.phase == UNKNOWN || self.holds(xid) {
            return;
        }
        let all_fit = parts
            .into_iter()
            .all(|(limit, part)| limit == self.limit && self.tally.add(part, now).is_ok());
        if !all_fit {
            self.forget();
        }
    }

    /// What is known now, by that limit.
    pub fn read(&mut self, limit: i32, now: i64) -> Option<Reading> {
        if !self.is_known() {
            return None;
        }
        let reading = (limit == self.limit).then(|| self.tally.read(now));
        if reading.as_ref().is_none_or(Option::is_none) {
            self.forget();
        }
        reading.flatten()
    }

    /// How many messages are leased, by that limit, if that is known; and what changes whenever that
    /// may, but for the clock.
    pub fn leases(&mut self, limit: i32, now: i64) -> Option<(Leases, Stamp)> {
        if !self.is_known() {
            return None;
        }
        let leases = (limit == self.limit).then(|| self.tally.leases(now));
        if leases.as_ref().is_none_or(Option::is_none) {
            self.forget();
        }
        let stamp = Stamp {
            told: self.told,
            generation: self.generation,
        };
        Some((leases.flatten()?, stamp))
    }

    /// How many rows there are, if that is known, and a number that changes whenever it may.
    pub fn rows(&self) -> Option<(i64, u64)> {
        self.is_known().then_some((self.tally.n, self.told))
    }
}
