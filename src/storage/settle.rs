//! What can happen to a message that was handed out. A hand-out is named by the message's id and
//! its receipt; without a receipt the current hand-out is meant. A row that anybody else has
//! locked, or has changed meanwhile, is not touched and not waited for.

use super::find::{Finder, runs};
use super::row::{self, After, Change, Facts, Place};
use crate::catalog::Queue;
use crate::pg::table::{Pinned, Table};
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::pg::walk::Walk;

/// An id with its receipt, or with none.
pub type HandOut = (i64, Option<i64>);

/// Does something to the current hand-outs among these, in the order of their ids: `act` gives
/// what became of the message, or none when it was not to be had.
fn each(
    q: &Queue,
    list: &[HandOut],
    mut act: impl FnMut(&mut Table, &Finder, &Facts) -> Option<After>,
) -> Vec<Change> {
    let _pinned = Pinned::now();
    let mut table = row::table(q);
    let mut finder = Finder::new(q, &table);
    let mut list = list.to_vec();
    list.sort_unstable();
    let mut changes: Vec<Change> = Vec::with_capacity(list.len());
    for run in runs(&list, |h| h.0) {
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            finder.begin(first.0, last.0);
        }
        for &(id, receipt) in run {
            // Asked for twice, with and without a receipt: once is enough.
            if changes.last().is_some_and(|c| c.id == id) {
                continue;
            }
            let is_current =
                |f: &Facts| f.receipt.is_some() && (receipt.is_none() || f.receipt == receipt);
            if let Some(facts) = finder.next(id).filter(is_current)
                && let Some(after) = act(&mut table, &finder, &facts)
            {
                changes.push(Change::of(q, &facts, &after));
            }
        }
    }
    changes
}

/// Removes messages.
pub fn ack(q: &Queue, list: &[HandOut]) -> Vec<Change> {
    each(q, list, |table, _, facts| {
        table.delete(facts.place.tid).then_some(After::Gone)
    })
}

/// Locks the current hand-outs among these.
pub fn hold(q: &Queue, list: &[HandOut]) -> Vec<Facts> {
    hold_if(q, list, |_| true)
}

/// Locks those of the current hand-outs that a failure more would end.
pub fn hold_last(q: &Queue, list: &[HandOut]) -> Vec<Facts> {
    hold_if(q, list, |f| !q.options.allows(f.failures.saturating_add(1)))
}

fn hold_if(q: &Queue, list: &[HandOut], wanted: impl Fn(&Facts) -> bool) -> Vec<Facts> {
    let mut held = Vec::new();
    each(q, list, |table, _, facts| {
        (wanted(facts) && table.lock(facts.place.tid)).then(|| {
            held.push(*facts);
            After::Is(*facts)
        })
    });
    held
}

/// Moves messages to the archive.
pub fn archive(q: &Queue, list: &[HandOut], now: Micros) -> Vec<Change> {
    let mut kept = Vec::new();
    let changes = each(q, list, |table, finder, facts| {
        let row = finder.keep();
        table.delete(facts.place.tid).then(|| {
            kept.push(row);
            After::Gone
        })
    });
    super::archive::add(q, kept, now);
    changes
}

/// Counts a failure of messages that are not failed for the last time, and makes them available
/// again, each at the time that `due` says for so many failures (at once, if none).
pub fn retry(
    q: &Queue,
    list: &[HandOut],
    reason: Option<&str>,
    due: impl Fn(i32) -> Option<Micros>,
) -> Vec<Change> {
    each(q, list, |table, finder, facts| {
        let failures = facts.failures.saturating_add(1);
        if !q.options.allows(failures) {
            return None;
        }
        let at = due(failures);
        let new = finder.edited(|new| {
            new[row::DUE] = Value::opt(at, Value::timestamptz);
            new[row::RECEIPT] = Value::NULL;
            new[row::FAILURES] = Value::int4(failures);
            new[row::LAST_ERROR] = Value::opt(reason, Value::text);
        });
        let again = Facts {
            due: at,
            receipt: None,
            failures,
            ..*facts
        };
        table
            .update(facts.place.tid, &new)
            .then_some(After::Is(again))
    })
}

/// Gives messages back without blame.
pub fn release(q: &Queue, list: &[HandOut], due: Option<Micros>) -> Vec<Change> {
    each(q, list, |table, finder, facts| {
        let new = finder.edited(|new| {
            new[row::DUE] = Value::opt(due, Value::timestamptz);
            new[row::RECEIPT] = Value::NULL;
        });
        let back = Facts {
            due,
            receipt: None,
            ..*facts
        };
        table
            .update(facts.place.tid, &new)
            .then_some(After::Is(back))
    })
}

/// Moves the end of leases.
pub fn extend(q: &Queue, list: &[HandOut], due: Micros) -> Vec<Change> {
    each(q, list, |table, finder, facts| {
        let new = finder.edited(|new| new[row::DUE] = Value::timestamptz(due));
        let longer = Facts {
            due: Some(due),
            ..*facts
        };
        table
            .update(facts.place.tid, &new)
            .then_some(After::Is(longer))
    })
}

/// Locks messages whoever holds them, waiting for whoever has them locked, in the order given;
/// gives those that were still there.
fn seize(q: &Queue, ids: &[i64]) -> Vec<Place> {
    let found: Vec<Place> = {
        let _pinned = Pinned::now();
        let table = row::table(q);
        let mut finder = Finder::new(q, &table);
        ids.iter()
            .filter_map(|id| finder.find(*id).map(|f| f.place))
            .collect()
    };
    let mut seized = Vec::with_capacity(found.len());
    for place in found {
        let _pinned = Pinned::now();
        let table = row::table(q);
        let mut finder = Finder::new(q, &table);
        // Looked up anew: while the one before was waited for, this one may have changed.
        if let Some(present) = finder.find(place.id).map(|f| f.place)
            && let Some(tid) = table.lock_waiting(present.tid)
        {
            seized.push(Place { tid, ..present });
        }
    }
    seized
}

/// Removes messages, whoever holds them.
pub fn delete(q: &Queue, ids: &[i64]) -> Vec<Change> {
    let seized = seize(q, ids);
    let mut changes = Vec::with_capacity(seized.len());
    let _pinned = Pinned::now();
    let mut table = row::table(q);
    let mut finder = Finder::new(q, &table);
    for place in seized {
        if let Some(facts) = finder.find(place.id)
            && table.delete(facts.place.tid)
        {
            changes.push(Change::gone(q, &facts));
        }
    }
    changes
}

/// Removes everything that no open transaction is working on; tells `gone` of each.
pub fn purge(q: &Queue, mut gone: impl FnMut(Change)) {
    let _pinned = Pinned::now();
    let mut table = row::table(q);
    let mut walk = Walk::by_id(&table, q.index);
    walk.seek_ids(0, i64::MAX);
    while walk.next() {
        crate::pg::wait::interruptible();
        let facts = Facts::of(&walk);
        if table.delete(facts.place.tid) {
            gone(Change::gone(q, &facts));
        }
    }
}

/// Adds failures to a message whose transaction rolled back, unless somebody has it locked.
pub fn blame(q: &Queue, id: i64, failures: i64) -> Option<Change> {
    let _pinned = Pinned::now();
    let mut table = row::table(q);
    let mut finder = Finder::new(q, &table);
    let facts = finder.find(id)?;
    let more = i32::try_from(failures).unwrap_or(i32::MAX);
    let failures = facts.failures.saturating_add(more);
    let new = finder.edited(|new| {
        new[row::FAILURES] = Value::int4(failures);
        new[row::LAST_ERROR] = Value::text("transaction rolled back");
    });
    let blamed = Facts { failures, ..facts };
    table
        .update(facts.place.tid, &new)
        .then(|| Change::of(q, &facts, &After::Is(blamed)))
}
