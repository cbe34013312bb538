//! Rows behind dead-lettering, dropping the oldest, and redriving.

use super::LEASE_ENDED;
use super::find;
use super::row::{self, After, Change, Facts, Fate, Place, RANKS};
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::Value;
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
    pub group: Option<i64>,
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
            group: self.group,
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
                group: facts.group(q),
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
    let mut space = Space::to_write(q);
    let facts = space.find(corpse.id())?;
    let new = space.edited(|new| {
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
    space
        .update(&facts.place, &new)
        .then(|| Change::of(q, &facts, &After::Is(kept)))
}

/// A message whose dead-letter queue cannot take it is tried again after this long, or by the
/// next upkeep.
pub const POSTPONED: Micros = 60_000_000;

/// Locks rows that must be buried, at most so many of each kind: expired, or past their failures
/// and due, or postponed.
pub fn overdue(q: &Queue, limit: i64, now: Micros) -> Vec<Place> {
    let mut found = expired(q, limit, now);
    let most = found.len() + usize::try_from(limit).unwrap_or(usize::MAX);
    if q.options.max_failures.is_some() {
        let _pinned = Pinned::now();
        let mut space = Space::to_write(q);
        space.seek_all();
        while found.len() < most
            && let Some(facts) = space.next()
        {
            crate::pg::wait::interruptible();
            let is_postponed = facts.receipt.is_none()
                && facts
                    .due
                    .is_some_and(|at| at <= now.saturating_add(POSTPONED))
                && !q.options.allows(facts.failures);
            if (is_postponed || facts.fate(q, now) == Fate::FailedOut) && space.lock(&facts.place) {
                found.push(facts.place);
            }
        }
    }
    found
}

/// Locks expired rows that nobody holds.
pub fn expired(q: &Queue, limit: i64, now: Micros) -> Vec<Place> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut ids: Vec<i64> = Vec::new();
    {
        let _pinned = Pinned::now();
        Space::to_read(q).expiring(now, |facts| {
            if !facts.is_leased(now) && facts.has_expired(now) {
                ids.push(facts.id());
            }
            ids.len() < most
        });
    }
    let locked = lock(q, &ids, |f| !f.is_leased(now) && f.has_expired(now));
    locked.into_iter().map(|f| f.place).collect()
}

/// When the next message expires, or the first that has expired did.
pub fn next_expiry(q: &Queue) -> Option<Micros> {
    let _pinned = Pinned::now();
    let mut first: Option<Micros> = None;
    Space::to_read(q).first_expiring(|facts| {
        first = [first, facts.expires_at].into_iter().flatten().min();
    });
    first
}

/// How often it is looked again when others were faster.
const AGAIN: usize = 5;

/// Locks the oldest messages that nobody holds, at most so many.
pub fn oldest(q: &Queue, limit: i64, now: Micros) -> Vec<Facts> {
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found: Vec<Facts> = Vec::new();
    for _ in 0..AGAIN {
        let _pinned = Pinned::now();
        let mut space = Space::to_write(q);
        space.seek_all();
        let mut lost = false;
        while found.len() < wanted
            && let Some(facts) = space.next()
        {
            if facts.is_leased(now) || found.iter().any(|f| f.id() == facts.id()) {
                continue;
            }
            if space.lock(&facts.place) {
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
    let mut space = Space::to_write(q);
    ids.iter()
        .filter_map(|id| {
            let facts = space.find(*id)?;
            (wanted(&facts) && space.lock(&facts.place)).then_some(facts)
        })
        .collect()
}
