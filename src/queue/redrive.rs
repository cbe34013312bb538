//! Dead letters back to where they came from, or to a queue that the caller names.

use crate::catalog::{self, Queue, Right};
use crate::error::Result;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::report;
use crate::pg::time::Micros;
use crate::pg::value::Oid;
use crate::queue::note::{note, note_locked};
use crate::queue::send;
use crate::storage::insert::Message;
use crate::storage::length;
use crate::storage::row::{Facts, Place};
use crate::storage::upkeep::{self, Corpse};
use crate::wake::touch;
use pg_broker_core::death::origin;
use std::collections::HashMap;
use std::rc::Rc;

/// One call looks at no more letters than this when no limit is given.
pub const ALL: i64 = i64::MAX;

fn home(c: &Corpse) -> Option<String> {
    origin(&c.headers.jsonb_text()?)
}

fn message(c: &Corpse) -> Message {
    Message {
        id: 0,
        due: None,
        expires_at: None,
        priority: c.priority,
        group_key: c.group_key.clone(),
        dedup_key: None,
        headers: c.headers,
        body: c.body,
        data: c.data,
    }
}

/// The dead letters that are wanted and that nobody holds, locked.
fn letters(q: &Queue, ids: Option<&[i64]>, max: i64, now: Micros) -> Vec<Corpse> {
    let mut locked = match ids {
        Some(ids) => upkeep::idle(q, ids, now),
        None => upkeep::oldest(q, max, now),
    };
    note_locked(q, &locked);
    locked.sort_unstable_by_key(Facts::id);
    locked.dedup_by_key(|f| f.id());
    locked.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    let places: Vec<Place> = locked.iter().map(|f| f.place).collect();
    upkeep::exhume(q, &places, now)
}

/// Sends dead letters back, with the rights of `caller`.
pub fn redrive(
    q: &Queue,
    to: Option<Rc<Queue>>,
    ids: Option<&[i64]>,
    max: i64,
    now: Micros,
    caller: Oid,
) -> Result<i64> {
    let mut targets: HashMap<String, Rc<Queue>> = HashMap::new();
    let mut done = Vec::new();
    let mut homeless = 0;
    let begun = touch::begin(q, 0);
    for c in letters(q, ids, max, now) {
        let target = match (&to, home(&c)) {
            (Some(to), _) => to.clone(),
            (None, Some(name)) => match origin_of(q, name, &mut targets, caller)? {
                Some(target) => target,
                None => {
                    homeless += 1;
                    continue;
                }
            },
            (None, None) => {
                homeless += 1;
                continue;
            }
        };
        send::forward(&target, message(&c), now)?;
        done.push(c);
    }
    upkeep::remove(q, &done.iter().map(|c| c.place).collect::<Vec<_>>())?;
    note(q, done.iter().map(Corpse::gone));
    begun.told();
    length::add(q, -(done.len() as i64))?;
    if homeless > 0 {
        report::notice(&format!(
            "{homeless} message(s) of queue \"{}\" stay: the queue that they came from is not known, \
             or no longer dead-letters here; name one in \"to\"",
            q.name
        ));
    }
    Ok(done.len() as i64)
}

/// The queue of that name, when it dead-letters into `q`: anybody who may send to `q` can write
/// any origin into a message, and must not reach other queues by the hand of who redrives.
fn origin_of(
    q: &Queue,
    name: String,
    known: &mut HashMap<String, Rc<Queue>>,
    caller: Oid,
) -> Result<Option<Rc<Queue>>> {
    if let Some(target) = known.get(&name) {
        return Ok(Some(target.clone()));
    }
    let is_origin = rel::public(&name)
        .map(|view| catalog::open_oid(view, Lock::Write))
        .transpose()?
        .flatten()
        .is_some_and(|source| source.options.dead_letter == Some(q.view));
    if !is_origin {
        return Ok(None);
    }
    let target = open_target(&name, caller)?;
    known.insert(name, target.clone());
    Ok(Some(target))
}

/// Opens a queue that dead letters may be sent to.
pub fn open_target(name: &str, caller: Oid) -> Result<Rc<Queue>> {
    catalog::open_as(name, Lock::Write, Right::Has(Privilege::Insert), caller)
}
