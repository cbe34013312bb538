//! How many messages there are in which state, at a bounded cost: so many rows are looked at, and
//! the rest is taken from the statistics that PostgreSQL keeps anyway.

use super::row::{ENQUEUED_AT, Facts, Fate};
use crate::catalog::Queue;
use crate::pg::rel;
use crate::pg::table::{Pinned, Table};
use crate::pg::time::Micros;
use crate::pg::walk::Walk;

/// So many rows are looked at, and one more.
const EXACT: i64 = 10_000;

#[derive(Default)]
pub struct Counts {
    pub ready: i64,
    pub delayed: i64,
    pub leased: i64,
    pub estimated: bool,
    /// When the oldest message that may be handed out now was sent.
    pub oldest_ready: Option<Micros>,
}

pub fn count(q: &Queue, now: Micros) -> Counts {
    let _pinned = Pinned::now();
    let table = Table::open_to_read(q.storage);
    let mut walk = Walk::by_id(&table, q.index);
    walk.seek_from(0);
    let mut counts = Counts::default();
    let mut seen = 0;
    while walk.next() {
        if seen > EXACT {
            estimate(q, &mut counts);
            break;
        }
        seen += 1;
        let facts = Facts::of(&walk);
        match facts.fate(q, now) {
            Fate::Ready => {
                counts.ready += 1;
                let sent = walk.get(ENQUEUED_AT).as_timestamptz();
                counts.oldest_ready = match (counts.oldest_ready, sent) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            Fate::Waits(_) if facts.is_leased(now) => counts.leased += 1,
            Fate::Waits(_) => counts.delayed += 1,
            Fate::FailedOut | Fate::Expired => {}
        }
    }
    counts
}

/// What was not looked at is taken to be like what was.
fn estimate(q: &Queue, counts: &mut Counts) {
    counts.estimated = true;
    let seen = (counts.ready + counts.delayed + counts.leased).max(1);
    let rest = (rel::live_rows(q.storage) - seen).max(0);
    let share = |n: i64| (i128::from(rest) * i128::from(n) / i128::from(seen)) as i64;
    counts.ready += share(counts.ready);
    counts.delayed += share(counts.delayed);
    counts.leased += share(counts.leased);
}
