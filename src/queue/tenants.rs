//! Tenants that take turns, as a read serves them.

use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;
use crate::queue::limits;
use crate::storage::claim::Met;
use crate::storage::fair::{self, Rounds, Served};
use crate::wake::fair as board;
use pg_broker_core::fair::{Passed, Place};
use pg_broker_core::frontier::Span;

/// Of a queue.
pub struct Board<'a>(pub &'a Queue);

impl Rounds for Board<'_> {
    fn pass(&mut self, tenant: i64, rank: u32, ids: Span) -> Passed {
        board::pass(self.0, tenant, rank, ids)
    }

    fn pick(&mut self, most: usize, knows: &dyn Fn(&Place) -> bool) -> Vec<Place> {
        board::pick(self.0, most, knows)
    }

    fn served(&mut self, s: &Served) {
        board::served(self.0, &s.place, s.from, &s.put_off);
    }
}

/// What a reader would find in the places of all tenants.
pub enum Found {
    Ready,
    /// Only what may not be handed out before that.
    NotBefore(Micros),
    Nothing,
}

pub fn look(q: &Queue, now: Micros) -> Found {
    let places = board::places(q);
    let _pinned = Pinned::now();
    let mut first: Option<Micros> = None;
    for place in &places {
        let may = |row: &dyn Met| match q.options.is_rated_by_tenant() {
            true => limits::token_at(q, row),
            false => None,
        };
        match fair::look(q, place, now, may) {
            Some(None) => return Found::Ready,
            Some(Some(at)) => first = Some(first.map_or(at, |first| first.min(at))),
            None => {}
        }
    }
    first.map_or(Found::Nothing, Found::NotBefore)
}
