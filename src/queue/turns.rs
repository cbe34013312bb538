//! Groups as a read takes them, and what comes after a message of a group has changed: then the
//! next one may have to be told to readers, who have passed it.

use crate::catalog::Queue;
use crate::pg::time::{self, Micros};
use crate::storage::claim::Claim;
use crate::storage::groups::{self, Taken, Turns};
use crate::storage::row::{Change, Facts, Fate};
use crate::wake::groups::{self as board, Passed};
use crate::wake::touch;
use pg_broker_core::groups::Known;
use pg_broker_core::tally::Kind;

/// Of a queue.
pub struct Reader<'a>(pub &'a Queue);

impl Turns for Reader<'_> {
    fn take(&mut self, group: i64) -> Taken {
        match board::take(self.0, group) {
            board::Taken::Ours(known) => Taken::Ours(known),
            board::Taken::Busy => Taken::Busy,
            board::Taken::Full => Taken::Full,
        }
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

/// What a read has met and left because its group was busy.
pub fn passed(claim: &mut Claim) -> Vec<Passed> {
    let blocked = claim.take_blocked().into_iter();
    blocked
        .map(|((group, rank), b)| Passed {
            group,
            rank,
            from: b.from,
            to: b.to,
        })
        .collect()
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
