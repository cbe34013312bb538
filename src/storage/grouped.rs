//! The messages of a queue by group, where a header says to which group one belongs: which groups could
//! be read, and what is ready in them.
//!
//! Every message is looked at, as long as no index knows of groups.

use super::claim::RENEWED;
use super::row::{self, Fate};
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::pg::wait;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A group whose first message is ready.
pub struct Group {
    pub key: String,
    /// The messages that are ready, in order, as many as were asked for.
    pub ready: Vec<i64>,
}

/// The groups whose first message is ready, in the order of these messages. `key` tells the group from
/// the headers, and none for groups that are of no interest; of each so many ids are given.
pub fn ready(
    q: &Queue,
    now: Micros,
    most: usize,
    key: impl Fn(Value) -> Option<String>,
) -> Vec<Group> {
    let mut groups = Vec::new();
    for _ in 0..RENEWED {
        let has_changed;
        (groups, has_changed) = look(q, now, most, &key);
        if !has_changed {
            break;
        }
    }
    groups
}

/// The same in one snapshot, and whether messages may have been moved meanwhile.
fn look(
    q: &Queue,
    now: Micros,
    most: usize,
    key: &impl Fn(Value) -> Option<String>,
) -> (Vec<Group>, bool) {
    let _pinned = Pinned::now();
    let mut space = Space::to_read(q);
    let mut at: HashMap<String, Option<usize>> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    space.seek_all();
    while let Some(facts) = space.next() {
        wait::interruptible();
        let is_ready = match facts.fate(q, now) {
            Fate::Ready => true,
            Fate::Waits(_) => false,
            // As good as gone.
            Fate::FailedOut | Fate::Expired => continue,
        };
        let Some(key) = key(space.value(row::HEADERS)) else {
            continue;
        };
        match at.entry(key) {
            Entry::Occupied(known) => {
                if let Some(n) = *known.get()
                    && is_ready
                    && groups[n].ready.len() < most
                {
                    groups[n].ready.push(facts.id());
                }
            }
            Entry::Vacant(new) => {
                let place = is_ready.then_some(groups.len());
                if is_ready {
                    groups.push(Group {
                        key: new.key().clone(),
                        ready: vec![facts.id()],
                    });
                }
                new.insert(place);
            }
        }
    }
    let has_changed = space.has_changed();
    (groups, has_changed)
}
