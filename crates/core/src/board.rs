//! What is kept of one queue in shared memory: which lanes it has, which ranks have messages at
//! all, how many there are, and whom it still waits to hear from.
//!
//! The ranks are a lane of their own, in which rank r is the id r + 1: every change of a row of a
//! rank is reported there, and a reader that finds no row at all in a rank publishes that. So a
//! queue whose messages all have the default priority looks at nothing else.
//!
//! All-zero bytes are the free state. Nothing here allocates or panics.

use crate::frontier::{LaneOf, Span, TicketOf};
use crate::gate::Gate;
use crate::ids::Ids;
use crate::names::DEFAULT_PRIORITY;
use crate::tally::Counting;

/// How many ranks a queue has.
pub const RANKS: usize = 10;
/// The rank of messages with the default priority.
pub const DEFAULT_RANK: usize = RANKS - 1 - DEFAULT_PRIORITY as usize;
/// How many spans of prepared transactions a queue remembers.
pub const SUSPECTS: usize = 16;

/// Joined only when they touch; reports are few.
pub type RankLane = LaneOf<10, 0, 16, 2, 1, 1, 1_000_000>;
pub type RankTicket = TicketOf<10, 0>;

/// Whose state this is. `created` tells queues apart that were given the same number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    pub database: u32,
    pub storage: u32,
    pub created: i64,
}

impl Key {
    /// Nobody's, and never was anybody's.
    pub const FREE: Key = Key {
        database: 0,
        storage: 0,
        created: 0,
    };
    /// Nobody's any more.
    pub const LEFT: Key = Key {
        database: 0,
        storage: 0,
        created: -1,
    };

    pub fn is_vacant(&self) -> bool {
        self.database == 0
    }

    /// Spreads keys over a table.
    pub fn hash(&self) -> u64 {
        let word = (u64::from(self.database) << 32) | u64::from(self.storage);
        (word ^ self.created.cast_unsigned().rotate_left(17)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            >> 20
    }
}

/// How many totals a queue has.
pub const TOTALS: usize = 6;

/// A suspect of any rank.
pub const ANY_RANK: u32 = u32::MAX;

/// A prepared transaction and ids that it touched, of one rank or `ANY_RANK`: to be reported when
/// it has ended. One of those that a transaction has in a queue also has what it counted there, and
/// its places.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspect {
    pub xid: u32,
    pub rank: u32,
    pub ids: Span,
    pub counted: [u32; TOTALS],
    /// Places that its messages have among those in flight.
    pub promised: u32,
}

#[repr(C)]
#[derive(Debug)]
pub struct QueueState {
    pub key: Key,
    /// Whether the transactions that were prepared before this state was made are among the
    /// suspects. Until then nothing here is to be relied on.
    listed: u32,
    /// More suspects than there is room for: nothing here is to be relied on until they are listed
    /// anew.
    overrun: u32,
    /// Not before this is that tried.
    relist_at: i64,
    /// Which of the lanes belongs to a rank, plus one; 0 for none.
    pub lanes: [u32; RANKS],
    /// What is kept of its groups, plus one; 0 for nothing.
    pub groups: u32,
    /// The same of the turns of its tenants.
    pub round: u32,
    pub ranks: RankLane,
    suspects: [Suspect; SUSPECTS],
    suspected: u32,
    pub waiters: Waiters,
    /// Ids for new messages.
    pub ids: Ids,
    pub counting: Counting,
    pub gate: Gate,
}

/// Who waits for a message of the queue, as a list of places in a table of waiters (plus one; 0
/// for none). The first is the keeper: it looks after due times for all of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiters {
    pub first: u32,
    pub last: u32,
    /// How many they are.
    pub n: u32,
    /// When the keeper looks next by itself.
    pub keeper_until: i64,
    /// When it is to be seen whether whoever was woken has taken the message; 0 when nobody was.
    pub check_at: i64,
}

impl QueueState {
    /// Makes it a queue's.
    pub fn begin(&mut self, key: Key) {
        self.key = key;
        self.listed = 0;
        self.overrun = 0;
        self.relist_at = 0;
        self.lanes = [0; RANKS];
        self.groups = 0;
        self.round = 0;
        self.ranks.reset();
        self.suspected = 0;
        self.waiters = Waiters::default();
        self.ids = Ids::default();
        self.counting.forget();
        self.gate = Gate::default();
    }

    pub fn is_listed(&self) -> bool {
        self.listed != 0
    }

    /// The transactions that were prepared before are suspected now.
    pub fn list(&mut self) {
        self.listed = 1;
    }

    /// After an overrun, every now and then: whether the suspects are to be listed anew. All ids are
    /// to be reported then, for those of the suspects that are forgotten here.
    pub fn begin_anew(&mut self, now: i64, pause: i64) -> bool {
        if self.overrun == 0 || now < self.relist_at {
            return false;
        }
        self.listed = 0;
        self.overrun = 0;
        self.suspected = 0;
        self.relist_at = now.saturating_add(pause);
        self.counting.forget();
        true
    }

    /// Whether readers may start anywhere but at the beginning.
    pub fn is_reliable(&self) -> bool {
        self.listed != 0 && self.overrun == 0
    }

    pub fn has_suspects(&self) -> bool {
        self.suspected > 0
    }

    pub fn suspect(&mut self, suspect: Suspect) {
        match self.suspects.get_mut(self.suspected as usize) {
            Some(place) => {
                *place = suspect;
                self.suspected += 1;
            }
            None => self.overrun = 1,
        }
    }

    /// Places promised to transactions that have not ended, among messages in flight; none when
    /// that is not known, as of transactions prepared before the server's start.
    pub fn promised(&self) -> Option<i64> {
        let suspects = self.suspects.iter().take(self.suspected as usize);
        let is_known = |s: &Suspect| s.rank != ANY_RANK;
        if !self.is_reliable() || !suspects.clone().all(is_known) {
            return None;
        }
        let prepared = suspects.map(|s| i64::from(s.promised));
        Some(prepared.fold(self.gate.promised(), i64::saturating_add))
    }

    /// Takes out a suspect that `is_over`.
    pub fn take_ended(&mut self, mut is_over: impl FnMut(u32) -> bool) -> Option<Suspect> {
        let n = (self.suspected as usize).min(SUSPECTS);
        let list = self.suspects.get_mut(..n)?;
        let at = list.iter().position(|s| is_over(s.xid))?;
        let last = list.len().checked_sub(1)?;
        list.swap(at, last);
        self.suspected = last as u32;
        list.get(last).copied()
    }

    /// A rank has, or may have, a message. The default rank is always looked at.
    pub fn report_rank(&mut self, rank: usize) {
        if rank != DEFAULT_RANK {
            let id = rank as i64 + 1;
            self.ranks.report(id, id + 1);
        }
    }

    /// Whether it is known that a rank has no message but those of transactions that are bound to
    /// report them.
    pub fn knows_empty(&self, rank: usize) -> bool {
        rank != DEFAULT_RANK && self.is_reliable() && !self.ranks.covers(rank as i64 + 1, i64::MAX)
    }

    /// A reader has found no row at all in a rank.
    pub fn publish_empty_rank(&mut self, ticket: &RankTicket, rank: usize) {
        let id = rank as i64 + 1;
        self.ranks.publish(ticket, id, id + 1);
    }
}

/// Whether a ticket says that there may be messages of a rank.
pub fn names_rank(ticket: &RankTicket, rank: usize) -> bool {
    ticket.seek(rank as i64 + 1) == rank as i64 + 1
}
