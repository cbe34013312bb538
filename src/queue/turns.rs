//! Groups as a read takes them, and what comes after a message of a group has changed: then the
//! next one may have to be told to readers, who have passed it.

use crate::catalog::Queue;
use crate::pg::time::{self, Micros};
use crate::storage::claim::Claim;
use crate::storage::groups::{self, Turns};
use crate::storage::row::{Change, Facts, Fate};
use crate::wake::frontier::Looks;
use crate::wake::groups as board;
use crate::wake::touch;
use pg_broker_core::groups::{Known, Note, Taken};
use pg_broker_core::tally::Kind;

/// Of a queue.
pub struct Reader<'a>(pub &'a Queue);

impl Turns for Reader<'_> {
    fn take(&mut self, group: i64) -> Taken {
        board::take(self.0, group)
    }

    fn give_up(&mut self, group: i64) {
        board::give_up(self.0, group);
    }

    fn look_up(&mut self, group: i64) -> Known {
        board::look_up(self.0, group)
    }

    fn hand_out(&mut self, group: i64, id: i64, known: &Known) -> bool {
        touch::lower(id);
        board::hand_out(self.0, group, id, known)
    }

    fn learn(&mut self, group: i64, known: &Known, low: i64, clean: i64) {
        board::learn(self.0, group, known, low, clean);
    }
}

/// Passes what a read has met and left because its group was busy. Gives what is to be looked at
/// again.
pub fn pass(q: &Queue, looks: &Looks, claim: &mut Claim) -> Vec<Note> {
    let refused = looks.pass(&claim.take_blocked());
    let mut again: Vec<Note> = refused
        .iter()
        .filter_map(|p| pass_after_another_look(q, looks, p))
        .collect();
    let heads = claim.take_heads();
    if looks.ticket.is_some() {
        again.extend(heads);
    }
    again
}

/// So often a group is looked at again before all of it is.
const LOOKS: usize = 20;

/// Somebody has left the group since the read began: it is seen what there is now, which takes but a
/// moment, so that nobody leaves meanwhile.
fn pass_after_another_look(q: &Queue, looks: &Looks, p: &Note) -> Option<Note> {
    for _ in 0..LOOKS {
        let Some(ticket) = looks.new_ticket() else {
            break;
        };
        let low = board::look_up(q, p.group).low;
        let (first, fate) = groups::first(q, p.group, (low, p.to), time::now())?;
        if looks.pass_with(&ticket, &[*p]).is_empty() {
            let is_free = !matches!(fate, Fate::Waits(_));
            return is_free.then(|| Note::one(p.group, first.place.rank, first.id()));
        }
    }
    Some(*p)
}

/// The group that a change may have made a place in: not where a message was sent, or is leased now.
fn freed(c: &Change) -> Option<i64> {
    let is_leased = c
        .now
        .and_then(|s| s.wait)
        .is_some_and(|w| w.kind == Kind::Leased);
    c.group.filter(|_| !c.is_new && !is_leased)
}

/// The next messages of the groups of these changes, where readers have passed them: to be told when
/// the transaction commits.
pub fn next(q: &Queue, changes: &[Change]) -> Vec<Facts> {
    for c in changes.iter().filter(|c| c.is_new) {
        if let Some(group) = c.group {
            board::sent(q, group, c.id);
        }
    }
    next_of(q, changes.iter().filter_map(freed).collect())
}

/// The next messages of groups of which some have left.
pub fn next_of(q: &Queue, mut groups: Vec<i64>) -> Vec<Facts> {
    groups.sort_unstable();
    groups.dedup();
    let now = time::now();
    groups
        .into_iter()
        .filter_map(|group| next_in(q, group, now))
        .collect()
}

fn next_in(q: &Queue, group: i64, now: Micros) -> Option<Facts> {
    let known = board::enter(q, group);
    if known.passed <= 0 || known.passed == i64::MAX {
        return None;
    }
    let (next, fate) = groups::first(q, group, (known.low, known.passed), now)?;
    (!matches!(fate, Fate::Waits(_))).then_some(next)
}
