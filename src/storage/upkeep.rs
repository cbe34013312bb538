//! Rows behind dead-lettering, dropping the oldest, and redriving.

use super::find::{self, Finder};
use super::plans::{Kind, ask};
use super::row::{self, After, Change, Facts, Fate, Place, RANKS};
use super::{LEASE_ENDED, table};
use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::{Ty, Value};
use crate::pg::walk::Walk;
use pg_broker_core::tally::Standing;

pub use super::find::remove;

/// A message about to leave for another queue; payload as it lies in storage.
pub struct Corpse {
    pub place: Place,
    pub was: Standing,
    pub body: Value,
    pub data: Value,
    pub headers: Value,
    pub priority: i16,
    pub group_key: Option<String>,
    pub failures: i32,
    pub last_error: Option<String>,
    pub expired: bool,
    /// A lease of it ended unsettled: a failure that is not yet counted.
    pub lease_ended: bool,
}

impl Corpse {
    pub fn id(&self) -> i64 {
        self.place.id
    }

    /// That it is gone.
    pub fn gone(&self) -> Change {
        Change {
            rank: self.place.rank,
            id: self.place.id,
            is_new: false,
            was: Some(self.was),
            now: None,
        }
    }
}

/// Brings rows that this transaction has locked, in the order of their ids.
pub fn exhume(q: &Queue, places: &[Place], now: Micros) -> Vec<Corpse> {
    if places.is_empty() {
        return Vec::new();
    }
    find::rows(q, places)
        .into_iter()
        .map(|kept| {
            let (facts, row) = (kept.facts, kept.row);
            let lease_ended = facts.lease_ended(now);
            Corpse {
                place: facts.place,
                was: facts.standing(q),
                body: row[row::BODY],
                data: row[row::DATA],
                headers: row[row::HEADERS],
                priority: RANKS - 1 - facts.place.rank,
                group_key: row[row::GROUP_KEY].as_text(),
                failures: facts.failures(now),
                last_error: if lease_ended {
                    Some(LEASE_ENDED.to_owned())
                } else {
                    row[row::LAST_ERROR].as_text()
                },
                expired: facts.has_expired(now),
                lease_ended,
            }
        })
        .collect()
}

/// Keeps a row that cannot be buried now out of everybody's way until then.
pub fn postpone(q: &Queue, corpse: &Corpse, error: &str, until: Micros) -> Option<Change> {
    let _pinned = Pinned::now();
    let mut table = row::table(q);
    let mut finder = Finder::new(q, &table);
    let facts = finder.find(corpse.id())?;
    let new = finder.edited(|new| {
        new[row::DUE] = Value::timestamptz(until);
        new[row::RECEIPT] = Value::NULL;
        new[row::FAILURES] = Value::int4(corpse.failures);
        new[row::LAST_ERROR] = Value::text(error);
    });
    let kept = Facts {
        due: Some(until),
        receipt: None,
        failures: corpse.failures,
        ..facts
    };
    table
        .update(facts.place.tid, &new)
        .then(|| Change::of(q, &facts, &After::Is(kept)))
}

/// A message whose dead-letter queue cannot take it is tried again after this long, or by the
/// next upkeep.
pub const POSTPONED: Micros = 60_000_000;

/// Locks rows that must be buried, at most so many of each kind: expired, or past their failures
/// and due, or postponed.
pub fn overdue(q: &Queue, limit: i64, now: Micros) -> Result<Vec<Place>> {
    let mut found = expired(q, limit, now)?;
    let most = found.len() + usize::try_from(limit).unwrap_or(usize::MAX);
    if q.options.max_failures.is_some() {
        let _pinned = Pinned::now();
        let table = row::table(q);
        let mut walk = Walk::by_id(&table, q.index);
        walk.seek_ids(0, i64::MAX);
        while found.len() < most && walk.next() {
            crate::pg::wait::interruptible();
            let facts = Facts::of(&walk);
            let is_postponed = facts.receipt.is_none()
                && facts
                    .due
                    .is_some_and(|at| at <= now.saturating_add(POSTPONED))
                && !q.options.allows(facts.failures);
            if (is_postponed || facts.fate(q, now) == Fate::FailedOut)
                && table.lock(facts.place.tid)
            {
                found.push(facts.place);
            }
        }
    }
    Ok(found)
}

/// Locks expired rows that nobody holds.
pub fn expired(q: &Queue, limit: i64, now: Micros) -> Result<Vec<Place>> {
    let ids: Vec<i64> = ask(
        q,
        Kind::Expired,
        &[Ty::Timestamptz, Ty::Int8],
        &[Value::timestamptz(now), Value::int8(limit)],
        || {
            format!(
                "SELECT m.id FROM {} m WHERE m.expires_at <= $1 AND (m.receipt IS NULL OR \
                 m.due <= $1) ORDER BY m.expires_at LIMIT $2",
                table(q)
            )
        },
        |rows| {
            (0..rows.len())
                .filter_map(|i| rows.get(i, 0).as_int8())
                .collect()
        },
    )?;
    let locked = lock(q, &ids, |f| !f.is_leased(now) && f.has_expired(now));
    Ok(locked.into_iter().map(|f| f.place).collect())
}

/// How often it is looked again when others were faster.
const AGAIN: usize = 5;

/// Locks the oldest messages that nobody holds, at most so many.
pub fn oldest(q: &Queue, limit: i64, now: Micros) -> Vec<Facts> {
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found: Vec<Facts> = Vec::new();
    for _ in 0..AGAIN {
        let _pinned = Pinned::now();
        let table = row::table(q);
        let mut walk = Walk::by_id(&table, q.index);
        walk.seek_ids(0, i64::MAX);
        let mut lost = false;
        while found.len() < wanted && walk.next() {
            let facts = Facts::of(&walk);
            if facts.is_leased(now) || found.iter().any(|f| f.id() == facts.id()) {
                continue;
            }
            if table.lock(facts.place.tid) {
                found.push(facts);
            } else {
                lost = true;
            }
        }
        if found.len() == wanted || !lost {
            break;
        }
    }
    found
}

/// Locks those of `ids` that nobody holds.
pub fn idle(q: &Queue, ids: &[i64], now: Micros) -> Vec<Facts> {
    lock(q, ids, |f| !f.is_leased(now))
}

/// Locks those of `ids` that are wanted, and that nobody else has locked.
fn lock(q: &Queue, ids: &[i64], wanted: impl Fn(&Facts) -> bool) -> Vec<Facts> {
    let _pinned = Pinned::now();
    let table = row::table(q);
    let mut finder = Finder::new(q, &table);
    ids.iter()
        .filter_map(|id| finder.find(*id))
        .filter(|f| wanted(f) && table.lock(f.place.tid))
        .collect()
}
