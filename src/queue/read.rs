//! Handing out: where to look is `wake`'s to say, how is storage's.

use crate::catalog::Queue;
use crate::error::{Error, Result};
use crate::pg::filter::Filter;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use crate::pg::wait;
use crate::queue::bury;
use crate::queue::limits;
use crate::queue::note::note;
use crate::queue::tenants::{self, Board};
use crate::queue::tend;
use crate::queue::turns::{self, Reader};
use crate::storage::claim::{self, Claim, Claimed, Gate, Take, Wanted};
use crate::storage::fair::Rounds;
use crate::storage::groups::Turns;
use crate::storage::length;
use crate::storage::settle::{self, Blamed};
use crate::wake::deliveries;
use crate::wake::frontier::Looks;
use crate::wake::lease;
use crate::wake::totals::{self, Total};
use crate::wake::touch;
pub use crate::wake::waiting::Waiting;

/// Hands out up to `qty` messages of a queue that is not paused, each through `hand`, in order.
/// Gives how many.
pub fn hand_out(
    q: &Queue,
    qty: i64,
    take: Take,
    now: Micros,
    hand: impl FnMut(&[Value]),
) -> Result<usize> {
    hand_out_only(q, qty, None, take, now, hand)
}

/// The same of those that a filter lets pass. What it does not is looked at once, and again when it
/// has changed.
pub fn hand_out_filtered(
    q: &Queue,
    qty: i64,
    filter: &Filter,
    take: Take,
    now: Micros,
    hand: impl FnMut(&[Value]),
) -> Result<usize> {
    let wants = |headers, body| filter.passes(headers, body);
    hand_out_where(q, qty, Some(filter), Some(&wants), take, now, hand)
}

/// The same of those messages that are wanted: for short queues, because the others are looked at
/// each time.
pub fn hand_out_only(
    q: &Queue,
    qty: i64,
    only: Wanted,
    take: Take,
    now: Micros,
    hand: impl FnMut(&[Value]),
) -> Result<usize> {
    hand_out_where(q, qty, None, only, take, now, hand)
}

fn hand_out_where(
    q: &Queue,
    qty: i64,
    filter: Option<&Filter>,
    only: Wanted,
    take: Take,
    now: Micros,
    mut hand: impl FnMut(&[Value]),
) -> Result<usize> {
    write_failures(q, now);
    for _ in 0..AGAIN {
        let came_to = hand_out_once(q, qty, filter, only, take, now, &mut hand)?;
        if came_to.handed > 0 || !came_to.is_to_look_again {
            return Ok(came_to.handed);
        }
        wait::interruptible();
    }
    Ok(0)
}

/// So often one read looks again when groups became free while it looked.
const AGAIN: usize = 5;

/// What one look came to.
struct CameTo {
    handed: usize,
    /// There may be more by now.
    is_to_look_again: bool,
}

impl CameTo {
    const NOTHING: Self = CameTo {
        handed: 0,
        is_to_look_again: false,
    };
}

fn hand_out_once(
    q: &Queue,
    qty: i64,
    filter: Option<&Filter>,
    only: Wanted,
    take: Take,
    now: Micros,
    hand: &mut impl FnMut(&[Value]),
) -> Result<CameTo> {
    let wanted = usize::try_from(qty).unwrap_or(usize::MAX);
    // Where to look is asked before the snapshot is taken: what is reported later is not in it.
    let mut looks = match filter {
        // What tenants have waiting is in nobody's position.
        Some(filter) if !q.options.is_fair() => Looks::begin_filtered(q, filter.bytes(), now),
        _ => Looks::begin(q, now),
    };
    if looks.is_empty() {
        limits::found_nothing(q, now);
        return Ok(CameTo::NOTHING);
    }
    let mut limits = None;
    if q.options.limits.hold_back() {
        limits = limits::enter(q, qty, now)?;
        if limits.is_none() {
            return Ok(CameTo::NOTHING);
        }
    }
    let most = limits.as_ref().map_or(wanted, |l| l.most(wanted));
    let clean = lease::begin();
    let begun = touch::begin(q, looks.lowest());
    let mut turns = Reader(q);
    let turns: Option<&mut dyn Turns> = match q.options.has_groups() {
        true => Some(&mut turns),
        false => None,
    };
    let gate = limits.as_mut().map(|l| l as &mut dyn Gate);
    let mut board = Board(q);
    let rounds: Option<&mut dyn Rounds> = match looks.any_tenant {
        Some(_) => Some(&mut board),
        None => None,
    };
    let mut claim = Claim::new(q, most, only, take, turns, now)
        .through(gate)
        .by_tenants(rounds);
    while !claim.is_satisfied()
        && let Some((rank, mut from, to)) = looks.next()
    {
        loop {
            let seen = claim.span(rank, from, to, hand);
            // What waits beyond what is not wanted stays where others look.
            let n = claim.waiting.partition_point(|(id, _)| *id < seen.upto);
            let (before, beyond) = claim.waiting.split_at(n);
            looks.seen(rank, from, seen.upto, seen.any, before);
            looks.seen_by_filter(rank, from, seen.passed, beyond);
            claim.waiting.clear();
            if seen.is_moved {
                claim.renew();
            } else if !claim.was_stopped_to_serve() || !claim.serve_tenants(hand) {
                break;
            }
            from = seen.passed;
        }
    }
    claim.serve_tenants(hand);
    let is_over = !claim.is_satisfied();
    let again = turns::pass(q, &looks, &mut claim);
    let is_to_look_again = !again.is_empty() || claim.has_passed_any();
    looks.finish(now, &again);
    let Claimed {
        changes,
        taken_back,
        has_too_many,
        declined,
        ended,
        over,
    } = claim.end();
    if let Take::Until(_) = take {
        lease::end(clean);
    }
    let n = changes.len();
    if let Some(limits) = limits {
        limits.end(n, is_over);
    }
    if n == 0 && has_too_many {
        return Err(Error::TooManyGroups(q.name.clone()));
    }
    deliveries::note(q, changes.iter().map(|c| c.id));
    note(q, taken_back.into_iter().chain(declined).chain(changes));
    bury::over(q, &over, now)?;
    begun.told();
    tend::after_read(q);
    totals::count(q, Total::Delivered, n);
    totals::count(q, Total::Failed, ended);
    if let Take::Away = take {
        totals::count(q, Total::Acked, n);
        length::add(q, -(n as i64))?;
    }
    Ok(CameTo {
        handed: n,
        is_to_look_again,
    })
}

/// Whether a reader would find anything to do now. If not, what was seen is published, as a reader
/// does: so who waits knows when the next message comes due.
pub fn any_ready(q: &Queue, now: Micros) -> Result<bool> {
    let mut looks = Looks::begin(q, now);
    if looks.is_empty() {
        limits::found_nothing(q, now);
        return Ok(false);
    }
    if limits::is_shut(q, now)? {
        return Ok(false);
    }
    let mut is_blocked = false;
    let _pinned = Pinned::now();
    while let Some((rank, from, to)) = looks.next() {
        let Some(idle) = claim::idle(q, rank, from, to, now) else {
            return Ok(true);
        };
        is_blocked |= idle.is_blocked;
        looks.seen(rank, from, to, idle.any, &idle.waiting);
    }
    if looks.any_tenant == Some(true) && tenants::any_ready(q, now) {
        return Ok(true);
    }
    // Who is to tell of messages that wait for others was not asked: a read asks.
    if !is_blocked {
        looks.finish(now, &[]);
    }
    limits::found_nothing(q, now);
    Ok(false)
}

/// Adds the failures of this session's rolled-back transactions to the rows.
fn write_failures(q: &Queue, now: Micros) {
    let failures = deliveries::take_failures(q);
    if failures.is_empty() {
        return;
    }
    let mut written = failures.len();
    for (id, n) in failures {
        let begun = touch::begin(q, id);
        match settle::blame(q, id, n, now) {
            Blamed::Added(change) => note(q, [change]),
            Blamed::Held => {
                deliveries::keep_failures(q, id, n);
                written -= 1;
            }
            Blamed::Gone => {}
        }
        begun.told();
    }
    totals::count(q, Total::Failed, written);
}
