//! Where this session stands in queues that it reads through a filter: what it need not look at again,
//! because it has and does not want it (see `pg_broker_core::frontier::Position`).
//!
//! Forgetting a position costs a look at all that is ready. None is kept for long, for the sake of rows
//! that nobody reports: those that come by replication, or that somebody wrote by hand.

use crate::pg::time::{self, Micros};
use pg_broker_core::board::{Key, RANKS};
use pg_broker_core::frontier::Position;
use std::cell::RefCell;
use std::rc::Rc;

/// What one filter has seen of one queue, by rank.
#[derive(Default)]
pub struct Positions([Option<Box<Position>>; RANKS]);

impl Positions {
    /// The position in a rank, which must be one.
    pub fn of_rank(&mut self, rank: usize) -> &mut Position {
        self.0[rank.min(RANKS - 1)].get_or_insert_default()
    }
}

struct Entry {
    key: Key,
    filter: Box<[u8]>,
    /// Times in a filter are compared by it.
    zone: usize,
    since: Micros,
    positions: Rc<RefCell<Positions>>,
}

thread_local! {
    /// Those used last come last.
    static KEPT: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// So many queues and filters are remembered.
const MOST: usize = 64;
/// For so long.
const LASTS: Micros = 600_000_000;

/// What this session knows of a queue and a filter.
pub fn of(key: Key, filter: &[u8], now: Micros) -> Rc<RefCell<Positions>> {
    let zone = time::zone();
    KEPT.with(|k| {
        let mut kept = k.borrow_mut();
        let is_it = |e: &Entry| e.key == key && e.zone == zone && *e.filter == *filter;
        let known = kept.iter().position(is_it).map(|at| kept.remove(at));
        let is_recent = |e: &Entry| (0..LASTS).contains(&now.saturating_sub(e.since));
        let entry = known.filter(is_recent).unwrap_or_else(|| Entry {
            key,
            filter: filter.into(),
            zone,
            since: now,
            positions: Rc::default(),
        });
        if kept.len() >= MOST {
            kept.remove(0);
        }
        let positions = entry.positions.clone();
        kept.push(entry);
        positions
    })
}
