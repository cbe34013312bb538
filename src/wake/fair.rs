//! Whose turn it is among the tenants of a queue (`pg_broker_core::fair`), on the board.

use super::frontier::{self, Found};
use super::touch;
use crate::catalog::Queue;
use crate::pg::board::{self, Held};
use crate::pg::time::{self, Micros};
use crate::pg::waiters::Calls;
use pg_broker_core::board::RANKS;
use pg_broker_core::fair::{PLACES, Passed, Place};
use pg_broker_core::frontier::{Batch, Span};

/// Messages of a tenant and rank among these ids are ready.
pub fn pass(q: &Queue, tenant: i64, rank: u32, ids: Span) -> Passed {
    let passed = board::with(frontier::key(q), false, |h| {
        Some(h.round(false)?.pass(tenant, rank, ids))
    });
    // Without a place on the board, in the order of ids.
    passed.flatten().unwrap_or(Passed::NoPlace { is_due: true })
}

/// The places of up to `most` tenants whose turn it is, to be worked on now; without those that the
/// reader `knows`.
pub fn pick(q: &Queue, most: usize, knows: impl Fn(&Place) -> bool) -> Vec<Place> {
    // Made here: nothing is allocated under the lock.
    let mut picked = Vec::with_capacity(if most == 1 { RANKS } else { PLACES });
    board::with(frontier::key(q), false, |h| {
        if let Some(round) = h.round(false) {
            round.pick(most, &knows, |place| {
                if picked.len() < picked.capacity() {
                    picked.push(*place);
                }
            });
        }
    });
    if let Some(lowest) = picked.iter().map(|p| p.ids.lo).min() {
        touch::lower(lowest);
    }
    picked
}

/// A place that was picked has been looked at: nothing below `from` is left there but these, which
/// wait until then.
pub fn served(q: &Queue, place: &Place, from: i64, put_off: &[(i64, Micros)]) {
    let now = time::now();
    let due = put_off.iter().filter(|(_, until)| *until <= now).count();
    let mut calls = Calls::none();
    board::with(frontier::key(q), false, |h| {
        if let Some(lane) = h.lane(place.rank as usize, false) {
            for &(id, until) in put_off {
                lane.enter(now, &Batch::one(id, until));
            }
        }
        if let Some(round) = h.round(false) {
            round.served(place, from);
        }
        h.wake(due, now, &mut calls);
    });
    calls.make();
}

/// All places, as they are.
pub fn places(q: &Queue) -> Vec<Place> {
    let mut places = Vec::with_capacity(PLACES);
    board::with(frontier::key(q), false, |h| {
        if let Some(round) = h.round(false) {
            places.extend_from_slice(round.places());
        }
    });
    places
}

/// Whether a row that is ready will be found by its tenant's turn.
pub(super) fn covers(h: &mut Held, found: &Found) -> bool {
    let rank = found.rank.unsigned_abs().into();
    let tenant = found.belongs_to.unwrap_or_default();
    let round = h.round(false);
    round.is_some_and(|r| r.covers(tenant, rank, found.id))
}
