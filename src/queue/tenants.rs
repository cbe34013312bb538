//! Tenants that take turns, as a read serves them.

use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::storage::fair::{self, Rounds, Served};
use crate::wake::fair as board;
use pg_broker_core::fair::{Passed, Place};
use pg_broker_core::frontier::Span;

/// Of a queue.
pub struct Board<'a>(pub &'a Queue);

/// So many tenants are served at once at most.
const MOST: usize = 100;

impl Rounds for Board<'_> {
    fn pass(&mut self, tenant: i64, rank: u32, ids: Span) -> Passed {
        board::pass(self.0, tenant, rank, ids)
    }

    fn pick(&mut self, most: usize) -> Vec<Place> {
        board::pick(self.0, most.min(MOST))
    }

    fn served(&mut self, s: &Served) {
        board::served(self.0, &s.place, s.from, &s.put_off);
    }
}

/// Whether a reader would find anything to do in the place of any tenant.
pub fn any_ready(q: &Queue, now: Micros) -> bool {
    let places = board::places(q);
    let _pinned = Pinned::now();
    places.iter().any(|place| !fair::is_idle(q, place, now))
}
