//! What can happen to a message that was handed out. A hand-out is named by the message's id and
//! its receipt; without a receipt the current hand-out is meant. A row that anybody else has
//! locked, or has changed meanwhile, is not touched and not waited for.

use super::archive;
use super::find::runs;
use super::row::{self, After, Change, Facts, Place};
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::pg::wait;

/// An id with its receipt, or with none.
pub type HandOut = (i64, Option<i64>);

/// So often it is looked again for rows that are on the move.
const AGAIN: usize = 100;

/// Does something to the current hand-outs among these, in the order of their ids: `act` gives
/// what became of the message, or none when it was not to be had.
fn each(
    q: &Queue,
    list: &[HandOut],
    mut act: impl FnMut(&mut Space, &Facts) -> Option<After>,
) -> Vec<Change> {
    let mut list = list.to_vec();
    list.sort_unstable();
    let mut changes: Vec<Change> = Vec::with_capacity(list.len());
    for _ in 0..AGAIN {
        list = each_once(q, &list, &mut act, &mut changes);
        if list.is_empty() {
            break;
        }
    }
    changes
}

/// The same, in one snapshot; gives those that are to be looked for elsewhere, in a new one.
fn each_once(
    q: &Queue,
    list: &[HandOut],
    act: &mut impl FnMut(&mut Space, &Facts) -> Option<After>,
    changes: &mut Vec<Change>,
) -> Vec<HandOut> {
    let mut elsewhere = Vec::new();
    let _pinned = Pinned::now();
    let mut space = Space::to_write(q);
    for run in runs(list, |h| h.0) {
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            space.begin(first.0, last.0);
        }
        for &(id, receipt) in run {
            // Asked for twice, with and without a receipt: once is enough.
            if changes.last().is_some_and(|c| c.id == id) {
                continue;
            }
            let is_current =
                |f: &Facts| f.receipt.is_some() && (receipt.is_none() || f.receipt == receipt);
            match space.find_next(id) {
                None if space.has_changed() => elsewhere.push((id, receipt)),
                Some(facts) if is_current(&facts) => match act(&mut space, &facts) {
                    Some(after) => changes.push(Change::of(q, &facts, &after)),
                    None if space.is_moved(&facts.place) => elsewhere.push((id, receipt)),
                    None => {}
                },
                _ => {}
            }
        }
    }
    elsewhere
}

/// Removes messages.
pub fn ack(q: &Queue, list: &[HandOut]) -> Vec<Change> {
    each(q, list, |space, facts| {
        space.delete(&facts.place).then_some(After::Gone)
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
    each(q, list, |space, facts| {
        (wanted(facts) && space.lock(&facts.place)).then(|| {
            held.push(*facts);
            After::Is(*facts)
        })
    });
    held
}

/// Moves messages to the archive.
pub fn archive(q: &Queue, list: &[HandOut], now: Micros) -> Vec<Change> {
    archive::all(q, now, |act| each(q, list, act))
}

/// Counts a failure of messages that are not failed for the last time, and makes them available
/// again, each at the time that `due` says for so many failures (at once, if none).
pub fn retry(
    q: &Queue,
    list: &[HandOut],
    reason: Option<&str>,
    due: impl Fn(i32) -> Option<Micros>,
) -> Vec<Change> {
    each(q, list, |space, facts| {
        let failures = facts.failures.saturating_add(1);
        if !q.options.allows(failures) {
            return None;
        }
        let at = due(failures);
        let new = space.edited(|new| {
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
        space.update(&facts.place, &new).then_some(After::Is(again))
    })
}

/// Gives messages back without blame.
pub fn release(q: &Queue, list: &[HandOut], due: Option<Micros>) -> Vec<Change> {
    each(q, list, |space, facts| {
        let new = space.edited(|new| {
            new[row::DUE] = Value::opt(due, Value::timestamptz);
            new[row::RECEIPT] = Value::NULL;
        });
        let back = Facts {
            due,
            receipt: None,
            ..*facts
        };
        space.update(&facts.place, &new).then_some(After::Is(back))
    })
}

/// Moves the end of leases, of those that `may` be, given when they end. One that has ended is as good
/// as given back where messages are in groups: another of the group may be in somebody's hands by now.
pub fn extend(
    q: &Queue,
    list: &[HandOut],
    due: Micros,
    now: Micros,
    mut may: impl FnMut(Option<Micros>) -> bool,
) -> Vec<Change> {
    each(q, list, |space, facts| {
        if (facts.group(q).is_some() && !facts.is_leased(now)) || !may(facts.due) {
            return None;
        }
        let new = space.edited(|new| new[row::DUE] = Value::timestamptz(due));
        let longer = Facts {
            due: Some(due),
            ..*facts
        };
        space
            .update(&facts.place, &new)
            .then_some(After::Is(longer))
    })
}

/// Locks messages whoever holds them, waiting for whoever has them locked, in the order given;
/// gives those that were still there.
fn seize(q: &Queue, ids: &[i64]) -> Vec<Place> {
    let mut seized = Vec::with_capacity(ids.len());
    for id in ids {
        // Looked up anew each time: while another was waited for, it may have changed.
        loop {
            let _pinned = Pinned::now();
            let mut space = Space::to_write(q);
            let Some(place) = space.find(*id).map(|f| f.place) else {
                if space.has_changed() {
                    continue;
                }
                break;
            };
            if space.lock_waiting(&place) {
                seized.push(place);
                break;
            }
            wait::interruptible();
        }
    }
    seized
}

/// Removes messages, whoever holds them.
pub fn delete(q: &Queue, ids: &[i64]) -> Vec<Change> {
    let seized = seize(q, ids);
    let mut changes = Vec::with_capacity(seized.len());
    let _pinned = Pinned::now();
    let mut space = Space::to_write(q);
    for place in seized {
        if let Some(facts) = space.find(place.id)
            && space.delete(&facts.place)
        {
            changes.push(Change::gone(q, &facts));
        }
    }
    changes
}

/// Removes everything that no open transaction is working on; tells `gone` of each.
pub fn purge(q: &Queue, mut gone: impl FnMut(Change)) {
    // Again, as long as messages are on the move.
    for _ in 0..AGAIN {
        let _pinned = Pinned::now();
        let mut space = Space::to_write(q);
        space.seek_all();
        let mut is_over = true;
        while let Some(facts) = space.next() {
            wait::interruptible();
            if space.delete(&facts.place) {
                gone(Change::gone(q, &facts));
            } else {
                is_over &= !space.is_moved(&facts.place);
            }
        }
        if is_over && !space.has_changed() {
            break;
        }
    }
}

/// What became of failures that were to be added to a message.
pub enum Blamed {
    Added(Change),
    /// Somebody holds it, who must be able to settle it at any moment.
    Held,
    /// It is gone, or somebody is at it.
    Gone,
}

/// Adds failures to a message whose transaction rolled back, unless somebody has it.
pub fn blame(q: &Queue, id: i64, failures: i64, now: Micros) -> Blamed {
    for _ in 0..AGAIN {
        let _pinned = Pinned::now();
        let mut space = Space::to_write(q);
        let Some(facts) = space.find(id) else {
            if space.has_changed() {
                continue;
            }
            break;
        };
        if facts.is_leased(now) {
            return Blamed::Held;
        }
        let more = i32::try_from(failures).unwrap_or(i32::MAX);
        let failures = facts.failures.saturating_add(more);
        let new = space.edited(|new| {
            new[row::FAILURES] = Value::int4(failures);
            new[row::LAST_ERROR] = Value::text("transaction rolled back");
        });
        let blamed = Facts { failures, ..facts };
        if space.update(&facts.place, &new) {
            return Blamed::Added(Change::of(q, &facts, &After::Is(blamed)));
        }
        if !space.is_moved(&facts.place) {
            break;
        }
    }
    Blamed::Gone
}
