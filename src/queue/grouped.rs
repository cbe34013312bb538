//! Handing out by groups that a header names: of a group nothing while its first message is with
//! somebody or waits.
//!
//! A reader has a group to itself until its transaction ends: the lock comes before the look that
//! decides, so that two readers never take from one group past each other.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::rel;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::queue::limits;
use crate::queue::note::note;
use crate::storage::claim::{Claim, Gate, Take};
use crate::storage::grouped::{self, Group};
use crate::wake::totals::{self, Total};
use crate::wake::{deliveries, lease, touch};
use pg_broker_core::hash;
use std::collections::HashSet;

/// In which order the messages of several groups are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As many as there are of the first group, then of the next.
    GroupByGroup,
    /// The first of each group, then the second of each.
    InTurn,
    /// The first of each group, and no more.
    Heads,
}

impl Order {
    /// How many messages of one group a reader of `qty` could take.
    fn of_one(self, qty: usize) -> usize {
        if self == Order::Heads { 1 } else { qty }
    }

    /// The messages in the order in which they are taken, with the group of each.
    fn line(self, groups: &[Group]) -> Vec<(usize, i64)> {
        let mut line: Vec<(usize, usize, i64)> = Vec::new();
        for (n, group) in groups.iter().enumerate() {
            line.extend(group.ready.iter().enumerate().map(|(i, id)| (n, i, *id)));
        }
        if self == Order::InTurn {
            line.sort_by_key(|(n, i, _)| (*i, *n));
        }
        line.into_iter().map(|(n, _, id)| (n, id)).collect()
    }
}

/// Over the queue and the group.
fn lock_key(q: &Queue, group: &str) -> i64 {
    let storage = u32::from(q.storage).to_le_bytes();
    hash::fnv(storage.iter().chain(group.as_bytes())).cast_signed()
}

/// Locks groups that nobody else reads, as many as it takes for `qty` messages.
fn lock(q: &Queue, groups: Vec<Group>, qty: usize, order: Order) -> HashSet<String> {
    let mut locked = HashSet::new();
    let mut found = 0;
    for group in groups {
        if found >= qty {
            break;
        }
        if rel::try_advisory(lock_key(q, &group.key)) {
            // In turn, each group that is there may give one.
            found += match order {
                Order::GroupByGroup => group.ready.len(),
                Order::InTurn | Order::Heads => 1,
            };
            locked.insert(group.key);
        }
    }
    locked
}

/// Hands out up to `qty` messages of a queue that is not paused, each through `hand`, leased until
/// `until`. `key` tells a message's group from its headers. Gives how many.
pub fn hand_out(
    q: &Queue,
    qty: usize,
    order: Order,
    key: impl Fn(Value) -> String,
    (now, until): (Micros, Micros),
    mut hand: impl FnMut(&[Value]),
) -> Result<usize> {
    if qty == 0 {
        return Ok(0);
    }
    let most = order.of_one(qty);
    let seen = grouped::ready(q, now, most, |headers| Some(key(headers)));
    let locked = lock(q, seen, qty, order);
    if locked.is_empty() {
        return Ok(0);
    }
    let groups = grouped::ready(q, now, most, |headers| {
        Some(key(headers)).filter(|key| locked.contains(key))
    });
    let line = order.line(&groups);
    let Some(lowest) = line.iter().map(|(_, id)| *id).min() else {
        return Ok(0);
    };
    let mut limits = None;
    if q.options.limits.hold_back() {
        limits = limits::enter(q, qty as i64, now)?;
        if limits.is_none() {
            return Ok(0);
        }
    }
    let most = limits.as_ref().map_or(qty, |l| l.most(qty));
    let clean = lease::begin();
    let begun = touch::begin(q, lowest);
    let gate = limits.as_mut().map(|l| l as &mut dyn Gate);
    let mut claim = Claim::new(q, most, None, Take::Until(until), None, now).through(gate);
    let mut stopped = HashSet::new();
    for (group, id) in line {
        if claim.is_satisfied() {
            break;
        }
        // Whoever reads without groups may have taken one: what comes after it waits.
        if !stopped.contains(&group) && !claim.one(id, &mut hand) {
            stopped.insert(group);
        }
    }
    let is_over = !claim.is_satisfied();
    let claimed = claim.end();
    lease::end(clean);
    let n = claimed.changes.len();
    if let Some(limits) = limits {
        limits.end(n, is_over);
    }
    deliveries::note(q, claimed.changes.iter().map(|c| c.id));
    note(q, claimed.changes);
    begun.told();
    totals::count(q, Total::Delivered, n);
    totals::count(q, Total::Failed, claimed.ended);
    Ok(n)
}
