//! Which tables hold a queue's messages, and which ids are where.
//!
//! A range of ids, once given to a segment, is the segment's until it was truncated. So a map that is
//! out of date is still right of every segment that is locked and that a newer map also has; what
//! it does not know of is in one of the parked tables, where readers look in any case. Hence the
//! rules for who uses a map:
//! - Whoever changes it holds the parent locked against other changes (`Lock::Alter`), to the end.
//! - Whoever walks takes a map after the snapshot (`Queue::map_now`): all that was committed and
//!   told before is in it.
//! - Whoever enters a row locks the table first, and then asks for the map again. A range whose
//!   giver is not over in every respect is not used yet, so that nobody can see a row in a table
//!   that he has not been told of.

use super::Queue;
use crate::error::{Error, Result};
use crate::pg::holders;
use crate::pg::rel;
use crate::pg::table::{Pinned, Table};
use crate::pg::time::{self, Micros};
use crate::pg::value::{Oid, Value};
use crate::pg::walk::Walk;

/// What a table is for at present. The numbers are those of `mq_internal.segment`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// A segment: new messages with ids of its range go there.
    Open = 0,
    /// A segment whose ids are used up: nothing is entered any more.
    Closed = 1,
    /// A segment without a range, and without a row.
    Free = 2,
    /// A parked table: what is parked goes there.
    Target = 3,
    /// A parked table that is being emptied into the other: nothing is entered any more.
    Source = 4,
    /// A parked table without a message, where nobody looks.
    Dormant = 5,
    /// A segment whose ids are used up and whose messages have all left: nobody looks there.
    Drained = 6,
}

impl State {
    fn of(number: i16) -> Self {
        match number {
            0 => State::Open,
            1 => State::Closed,
            2 => State::Free,
            3 => State::Target,
            4 => State::Source,
            6 => State::Drained,
            _ => State::Dormant,
        }
    }

    /// Whether messages may be there.
    pub fn is_live(self) -> bool {
        !matches!(self, State::Free | State::Dormant | State::Drained)
    }
}

/// The number of the parent, which is the first of the two parked tables.
pub const PARENT: i32 = 0;
/// The number of the second parked table.
pub const SECOND: i32 = -1;

/// In place of a range: the table was never used.
pub const NEW: i64 = -1;

/// What is appended to the parent's name for a table.
pub fn suffix(k: i32) -> String {
    match k {
        PARENT => String::new(),
        SECOND => "_p".into(),
        _ => format!("_s{k}"),
    }
}

/// A table that messages lie in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    pub k: i32,
    pub table: Oid,
    /// The primary key: the ids.
    pub index: Oid,
    /// The index of messages of other priorities than the default, in hand-out order.
    pub ranks_index: Oid,
    /// The index of messages that expire, by when they do.
    pub expiry_index: Oid,
    /// The index of messages that belong to a group, by that; `INVALID` in a queue without.
    pub groups_index: Oid,
    pub state: State,
    /// Its range of ids, from and to before which; nothing for a parked table.
    pub first: i64,
    pub past: i64,
    /// Since when it is what it is.
    pub since: Micros,
    /// By which transaction; 0 when it has always been.
    pub changed_by: u32,
    /// When rows were last moved out, and by which transaction.
    pub moved: Option<(Micros, u32)>,
}

impl Part {
    pub fn has(&self, id: i64) -> bool {
        self.first <= id && id < self.past
    }

    /// The same table for the same use.
    pub fn is_same(&self, other: &Part) -> bool {
        (self.k, self.table, self.first, self.past)
            == (other.k, other.table, other.first, other.past)
            && self.index == other.index
            && self.ranks_index == other.ranks_index
            && self.expiry_index == other.expiry_index
            && self.groups_index == other.groups_index
    }

    /// A parked table that was never used.
    pub fn is_new(&self) -> bool {
        self.k <= PARENT && self.first == NEW
    }

    /// Whether rows may be entered.
    pub fn takes(&self) -> bool {
        matches!(self.state, State::Open | State::Target)
    }
}

pub struct Map {
    /// Segments with a range, by that; then parked tables that may hold messages, the target first.
    pub live: Vec<Part>,
    /// How many of them are segments.
    pub segments: usize,
    /// The others.
    pub idle: Vec<Part>,
    /// A range of it was not to be used yet.
    is_passing: bool,
}

impl Map {
    pub fn ranges(&self) -> &[Part] {
        self.live.get(..self.segments).unwrap_or_default()
    }

    pub fn parked(&self) -> &[Part] {
        self.live.get(self.segments..).unwrap_or_default()
    }

    /// Messages are in the same tables.
    pub fn is_same(&self, other: &Map) -> bool {
        std::ptr::eq(self, other) || self.live == other.live
    }

    pub fn all(&self) -> impl Iterator<Item = &Part> {
        self.live.iter().chain(&self.idle)
    }

    /// The segment that has an id.
    pub fn covering(&self, id: i64) -> Option<&Part> {
        let after = self.ranges().partition_point(|p| p.first <= id);
        self.ranges()
            .get(after.checked_sub(1)?)
            .filter(|p| p.has(id))
    }

    /// Where a new message of that id goes.
    pub fn entry(&self, id: i64) -> Option<&Part> {
        let open = self.covering(id).filter(|p| p.state == State::Open);
        open.or_else(|| self.parked().first())
    }

    /// The part of this number, for the same use as before.
    pub fn again(&self, part: &Part) -> Option<&Part> {
        self.live.iter().find(|p| p.is_same(part))
    }
}

mod column {
    pub const N: usize = 0;
    pub const K: usize = 1;
    pub const STATE: usize = 2;
    pub const FIRST: usize = 3;
    pub const PAST: usize = 4;
    pub const SINCE: usize = 5;
    pub const CHANGED_BY: usize = 6;
    pub const MOVED_AT: usize = 7;
    pub const MOVED_BY: usize = 8;
    pub const ALL: usize = 9;
}

/// What a row of the map has, and nothing of any table yet.
type Row = [Value; column::ALL];

/// A change of what the map says of a table.
pub enum Change {
    /// It is something else from now on.
    To {
        state: State,
        range: Option<(i64, i64)>,
    },
    /// Rows were moved out of it.
    MovedOut,
    /// It is no more.
    Dropped,
}

impl Change {
    /// The row that there is to be, after one that there may have been.
    fn apply(&self, mut row: Row) -> Option<Row> {
        let (now, own) = (
            Value::timestamptz(time::now()),
            Value::int8(i64::from(holders::own_xid())),
        );
        match self {
            Change::To { state, range } => {
                row[column::STATE] = Value::int2(*state as i16);
                row[column::FIRST] = Value::opt(range.map(|r| r.0), Value::int8);
                row[column::PAST] = Value::opt(range.map(|r| r.1), Value::int8);
                (row[column::SINCE], row[column::CHANGED_BY]) = (now, own);
                if matches!(state, State::Open | State::Free | State::Target) {
                    (row[column::MOVED_AT], row[column::MOVED_BY]) = (Value::NULL, Value::NULL);
                }
            }
            Change::MovedOut => (row[column::MOVED_AT], row[column::MOVED_BY]) = (now, own),
            Change::Dropped => return None,
        }
        Some(row)
    }
}

/// Changes the map of a queue, which the caller has to himself.
pub fn change(q: &Queue, k: i32, change: &Change) -> Result<()> {
    let unknown = || Error::Internal("table mq_internal.segment is not what it should be".into());
    let names = rel::internal("segment").zip(rel::internal("segment_pkey"));
    let (catalog, index) = names.ok_or_else(unknown)?;
    let _pinned = Pinned::now();
    let mut table = Table::open(catalog);
    let mut walk = Walk::by_number(&table, index);
    walk.seek_number(q.n);
    let mut found = None;
    while found.is_none() && walk.next() {
        let row: Row = std::array::from_fn(|i| walk.get(i));
        if row[column::K].as_int4() == Some(k) {
            found = Some((walk.tid(), row));
        }
    }
    drop(walk);
    let is_done = match found {
        Some((tid, old)) => match change.apply(old) {
            Some(new) => table.update(tid, &new),
            None => table.delete(tid),
        },
        None => {
            let mut none = [Value::NULL; column::ALL];
            (none[column::N], none[column::K]) = (Value::int4(q.n), Value::int4(k));
            if let Some(new) = change.apply(none) {
                table.insert(&new);
            }
            true
        }
    };
    rel::invalidate(q.storage);
    is_done.then_some(()).ok_or_else(unknown)
}

/// A table of queue `n` and its indexes; none when one of them is not to be found.
fn tables(n: i32, k: i32, has_groups_index: bool) -> Option<Part> {
    let name = |what: &str| rel::internal(&format!("q_{n}{}{what}", suffix(k)));
    Some(Part {
        k,
        table: name("")?,
        index: name("_pkey")?,
        ranks_index: name("_ranks")?,
        expiry_index: name("_expiry")?,
        groups_index: match has_groups_index {
            true => name("_groups")?,
            false => Oid::INVALID,
        },
        state: State::Target,
        first: 0,
        past: 0,
        since: 0,
        changed_by: 0,
        moved: None,
    })
}

/// What of a transaction's number is kept in tables, where it would be too wide.
fn narrow(xid: i64) -> u32 {
    xid as u32
}

/// A table is not to be found.
pub(super) enum Missing {
    Parent,
    Segment,
}

/// Reads the map of queue `n`, as it is now.
pub(super) fn load(n: i32, has_groups_index: bool) -> std::result::Result<Map, Missing> {
    let mut parts: Vec<Part> = Vec::new();
    let mut parent = tables(n, PARENT, has_groups_index).ok_or(Missing::Parent)?;
    if let (Some(catalog), Some(index)) = (rel::internal("segment"), rel::internal("segment_pkey"))
    {
        let _pinned = Pinned::now();
        let table = Table::open_to_read(catalog);
        let mut walk = Walk::by_number(&table, index);
        walk.seek_number(n);
        while walk.next() {
            let row: Row = std::array::from_fn(|i| walk.get(i));
            let k = row[column::K].as_int4().unwrap_or_default();
            let state = State::of(row[column::STATE].as_int2().unwrap_or_default());
            let found = match k {
                PARENT => parent,
                _ => match tables(n, k, has_groups_index) {
                    Some(found) => found,
                    // Dropped since that snapshot, as one that nobody needs may be.
                    None if state == State::Free => continue,
                    None => return Err(Missing::Segment),
                },
            };
            let moved_at = row[column::MOVED_AT].as_timestamptz();
            let moved_by = row[column::MOVED_BY].as_int8().map(narrow);
            let part = Part {
                state,
                first: row[column::FIRST].as_int8().unwrap_or_default(),
                past: row[column::PAST].as_int8().unwrap_or_default(),
                since: row[column::SINCE].as_timestamptz().unwrap_or_default(),
                changed_by: row[column::CHANGED_BY].as_int8().map_or(0, narrow),
                moved: moved_at.zip(moved_by),
                ..found
            };
            match k {
                PARENT => parent = part,
                _ => parts.push(part),
            }
        }
    }
    parts.push(parent);
    let (mut live, idle): (Vec<_>, Vec<_>) = parts.into_iter().partition(|p| p.state.is_live());
    live.sort_by_key(|p| match p.state {
        State::Target => (1, 0),
        State::Source => (2, 0),
        _ => (0, p.first),
    });
    let mut segments = live
        .iter()
        .filter(|p| matches!(p.state, State::Open | State::Closed))
        .count();
    // Ranges are given in order: what is not over can only be the last.
    let is_passing = segments > 0
        && live.get(segments - 1).is_some_and(|last| {
            last.state == State::Open && last.changed_by != 0 && holders::is_ending(last.changed_by)
        });
    if is_passing {
        segments -= 1;
        live.remove(segments);
    }
    Ok(Map {
        live,
        segments,
        idle,
        is_passing,
    })
}

impl Map {
    /// Whether it will be another one soon.
    pub fn is_passing(&self) -> bool {
        self.is_passing
    }
}

impl Queue {
    /// Whether a relation is one of the queue's tables.
    pub(super) fn has_table(&self, relation: u32) -> bool {
        u32::from(self.storage) == relation
            || self
                .known_map()
                .is_some_and(|m| m.all().any(|p| u32::from(p.table) == relation))
    }
}
