//! What is done to messages whoever holds them, by callers that know them by their ids alone.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::queue::note::note;
use crate::storage::length;
use crate::storage::row::{self, Change};
use crate::storage::seize::{self, Row};
use crate::wake::totals::{self, Total};
use crate::wake::touch;

fn lowest(ids: &[i64]) -> i64 {
    ids.iter().min().copied().unwrap_or(i64::MAX)
}

/// Notes what has left the queue: a message that somebody held was acknowledged so.
fn gone(q: &Queue, changes: Vec<Change>) -> Result<Vec<i64>> {
    length::add(q, -(changes.len() as i64))?;
    totals::count(q, Total::Acked, changes.len());
    let ids = changes.iter().map(|c| c.id).collect();
    note(q, changes);
    Ok(ids)
}

/// Removes messages; gives the ids of those that were there.
pub fn delete(q: &Queue, ids: &[i64]) -> Result<Vec<i64>> {
    let begun = touch::begin(q, lowest(ids));
    let done = gone(q, seize::delete(q, ids))?;
    begun.told();
    Ok(done)
}

/// Moves messages to the archive; gives the ids of those that were there.
pub fn archive(q: &Queue, ids: &[i64], now: Micros) -> Result<Vec<i64>> {
    let begun = touch::begin(q, lowest(ids));
    let done = gone(q, seize::archive(q, ids, now))?;
    begun.told();
    Ok(done)
}

/// Has a row wait until then, by whoever holds it; before `now`: gives it back without blame.
pub fn wait_until(row: &mut Row, at: Micros, now: Micros) {
    if at > now {
        row[row::DUE] = Value::timestamptz(at);
    } else {
        row[row::DUE] = Value::NULL;
        row[row::RECEIPT] = Value::NULL;
    }
}

/// Changes messages as `edit` says; tells `told` of each as it is then, and gives how many there were.
pub fn change(q: &Queue, ids: &[i64], edit: impl Fn(&mut Row), told: impl FnMut(&Row)) -> usize {
    let begun = touch::begin(q, lowest(ids));
    let changes = seize::change(q, ids, edit, told);
    let n = changes.len();
    note(q, changes);
    begun.told();
    n
}
