//! The columns of a queue's table, and what a row says of its message.
//!
//! A row waits when it has a `due` time that is to come: leased if it has a receipt, delayed if not.
//! One that may be handed out from the start has none. Rank 0 is priority 9: messages
//! are handed out by rank and id. Those of the default rank are found by the primary key, the id;
//! the others by a partial index (rank, id).
//!
//! A queue whose messages belong together in groups has the number of its group in each row that
//! belongs to one (`GROUP`), and an index (grp, id) of those; a queue whose tenants take turns has
//! that of the tenant.

use crate::catalog::Queue;
use crate::catalog::map::Part;
use crate::pg::index::Known;
use crate::pg::table::{Table, Tid};
use crate::pg::time::Micros;
use crate::pg::walk::Walk;
use pg_broker_core::tally::{Kind, Standing, Wait};

pub const ID: usize = 0;
pub const ENQUEUED_AT: usize = 1;
pub const DUE: usize = 2;
pub const READ_AT: usize = 3;
pub const RECEIPT: usize = 4;
pub const EXPIRES_AT: usize = 5;
pub const GROUP: usize = 6;
pub const ATTEMPTS: usize = 7;
pub const FAILURES: usize = 8;
pub const RANK: usize = 9;
pub const LAST_ERROR: usize = 10;
pub const GROUP_KEY: usize = 11;
pub const DEDUP_KEY: usize = 12;
pub const HEADERS: usize = 13;
pub const BODY: usize = 14;
pub const DATA: usize = 15;
pub const WIDTH: usize = 16;

/// The columns as SQL declares them, in this order. The fixed-width ones that a claim writes stand
/// together, so that the log of a claim is short.
pub const COLUMNS: &str = "id bigint NOT NULL, enqueued_at timestamptz NOT NULL, \
     due timestamptz, read_at timestamptz, receipt bigint, expires_at timestamptz, grp bigint, \
     attempts int NOT NULL, failures int NOT NULL, rank smallint NOT NULL, last_error text, \
     group_key text, dedup_key text, headers jsonb, body jsonb, data bytea";

/// How many ranks there are.
pub const RANKS: i16 = pg_broker_core::board::RANKS as i16;

/// The rank of messages with the default priority.
pub const DEFAULT_RANK: i16 = pg_broker_core::board::DEFAULT_RANK as i16;

pub fn rank_of(priority: i16) -> i16 {
    RANKS - 1 - priority
}

/// One of a queue's tables open for writing.
pub fn table(part: &Part) -> Table {
    Table::open_indexed(
        part.table,
        [
            Known {
                oid: part.index,
                columns: &[ID],
                wants: |_| true,
            },
            Known {
                oid: part.ranks_index,
                columns: &[RANK, ID],
                wants: |row| row[RANK].as_int2() != Some(DEFAULT_RANK),
            },
            Known {
                oid: part.expiry_index,
                columns: &[EXPIRES_AT],
                wants: |row| !row[EXPIRES_AT].is_null(),
            },
            Known {
                oid: part.groups_index,
                columns: &[GROUP, ID],
                wants: |row| !row[GROUP].is_null(),
            },
        ],
    )
}

/// A row version and whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// In which of the queue's tables.
    pub k: i32,
    pub tid: Tid,
    pub rank: i16,
    pub id: i64,
}

/// What decides about a message.
#[derive(Clone, Copy)]
pub struct Facts {
    pub place: Place,
    /// When its lease or delay ends, or has ended.
    pub due: Option<Micros>,
    pub expires_at: Option<Micros>,
    pub enqueued_at: Micros,
    pub read_at: Option<Micros>,
    pub receipt: Option<i64>,
    /// Failures counted so far.
    pub failures: i32,
    /// Its group, in a queue that has such; its tenant, where those take turns.
    pub belongs_to: Option<i64>,
    /// It was handed out before.
    pub is_again: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// May be handed out.
    Ready,
    /// Leased or delayed until then.
    Waits(Micros),
    /// Failed for the last allowed time.
    FailedOut,
    Expired,
}

impl Facts {
    /// What a row says, of table `k`.
    pub fn of(k: i32, row: &Walk) -> Self {
        Facts {
            place: Place {
                k,
                tid: row.tid(),
                rank: row.get(RANK).as_int2().unwrap_or_default(),
                id: row.get(ID).as_int8().unwrap_or_default(),
            },
            due: row.get(DUE).as_timestamptz(),
            expires_at: row.get(EXPIRES_AT).as_timestamptz(),
            enqueued_at: row.get(ENQUEUED_AT).as_timestamptz().unwrap_or_default(),
            read_at: row.get(READ_AT).as_timestamptz(),
            receipt: row.get(RECEIPT).as_int8(),
            failures: row.get(FAILURES).as_int4().unwrap_or_default(),
            belongs_to: row.get(GROUP).as_int8(),
            is_again: row.get(ATTEMPTS).as_int4().unwrap_or_default() > 0,
        }
    }

    pub fn id(&self) -> i64 {
        self.place.id
    }

    /// Its group, where messages of one are handed out one after the other.
    pub fn group(&self, q: &Queue) -> Option<i64> {
        self.belongs_to.filter(|_| q.options.has_groups())
    }

    pub fn is_leased(&self, now: Micros) -> bool {
        self.receipt.is_some() && self.due.is_some_and(|at| at > now)
    }

    /// A lease of it ended unsettled: a failure that is not yet counted.
    pub fn lease_ended(&self, now: Micros) -> bool {
        self.receipt.is_some() && self.due.is_none_or(|at| at <= now)
    }

    /// Failures, with one for a lease that ended.
    pub fn failures(&self, now: Micros) -> i32 {
        self.failures
            .saturating_add(i32::from(self.lease_ended(now)))
    }

    pub fn has_expired(&self, now: Micros) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// What it counts as, which the clock has no say in.
    pub fn standing(&self, q: &Queue) -> Standing {
        let is_held = self.receipt.is_some();
        Standing {
            wait: self.due.map(|due| Wait {
                kind: if is_held { Kind::Leased } else { Kind::Delayed },
                due,
                since: self.enqueued_at.max(self.read_at.unwrap_or_default()),
            }),
            is_last: !q
                .options
                .allows(self.failures.saturating_add(i32::from(is_held))),
        }
    }

    pub fn fate(&self, q: &Queue, now: Micros) -> Fate {
        match self.due {
            Some(at) if at > now && (self.receipt.is_some() || !self.has_expired(now)) => {
                Fate::Waits(at)
            }
            _ if self.has_expired(now) => Fate::Expired,
            _ if q.options.allows(self.failures(now)) => Fate::Ready,
            _ => Fate::FailedOut,
        }
    }
}

/// What became of a message in this transaction.
#[derive(Clone, Copy)]
pub enum After {
    /// It is this now.
    Is(Facts),
    /// It has left.
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub rank: i16,
    pub id: i64,
    pub group: Option<i64>,
    /// It was not there before, for who looks in the order of this rank.
    pub is_new: bool,
    /// What it counted as before, if it did.
    pub was: Option<Standing>,
    /// What it counts as now; none when it has left.
    pub now: Option<Standing>,
}

impl Change {
    pub fn of(q: &Queue, row: &Facts, after: &After) -> Self {
        Change {
            rank: row.place.rank,
            id: row.place.id,
            group: row.group(q),
            is_new: false,
            was: Some(row.standing(q)),
            now: match after {
                After::Is(new) => Some(new.standing(q)),
                After::Gone => None,
            },
        }
    }

    /// It left.
    pub fn gone(q: &Queue, row: &Facts) -> Self {
        Self::of(q, row, &After::Gone)
    }

    /// It was locked, and is what it was.
    pub fn same(q: &Queue, row: &Facts) -> Self {
        Self::of(q, row, &After::Is(*row))
    }

    /// Until when it waited before.
    pub fn was_due(&self) -> Option<Micros> {
        self.was.and_then(|s| s.wait).map(|w| w.due)
    }

    /// Until when it waits now.
    pub fn due(&self) -> Option<Micros> {
        self.now.and_then(|s| s.wait).map(|w| w.due)
    }
}
