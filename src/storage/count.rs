//! How many messages there are in which state, at a bounded cost, where no tally says it
//! (`tally`). Up to so many rows are looked at
//! one by one, and then the counts are exact. In a larger queue the ready ones are counted where
//! readers would look, which leaves out what is leased or delayed; the rest is taken from the
//! statistics that PostgreSQL keeps anyway.

use super::row::{ENQUEUED_AT, Facts, Fate};
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::rel;
use crate::pg::table::Pinned;
use crate::pg::time::Micros;

/// So many rows are looked at, and one more.
pub const EXACT: i64 = 10_000;

#[derive(Default, Clone)]
pub struct Counts {
    pub ready: i64,
    pub delayed: i64,
    pub leased: i64,
    pub estimated: bool,
    /// When the oldest message that may be handed out now was sent.
    pub oldest_ready: Option<Micros>,
}

/// Rows being counted.
struct Counter {
    counts: Counts,
    left: i64,
}

impl Counter {
    fn new() -> Self {
        Counter {
            counts: Counts::default(),
            left: EXACT + 1,
        }
    }

    /// Counts what is `wanted` along a walk; false when there is no end of it.
    fn along(
        &mut self,
        q: &Queue,
        space: &mut Space,
        now: Micros,
        wanted: impl Fn(&Facts) -> bool,
    ) -> bool {
        while let Some(facts) = space.next() {
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            if wanted(&facts) {
                self.add(q, space, &facts, now);
            }
        }
        true
    }

    fn add(&mut self, q: &Queue, space: &Space, facts: &Facts, now: Micros) {
        let c = &mut self.counts;
        match facts.fate(q, now) {
            Fate::Ready => {
                c.ready += 1;
                let sent = space.value(ENQUEUED_AT).as_timestamptz();
                c.oldest_ready = match (c.oldest_ready, sent) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            Fate::Waits(_) if facts.is_leased(now) => c.leased += 1,
            Fate::Waits(_) => c.delayed += 1,
            Fate::FailedOut | Fate::Expired => {}
        }
    }
}

/// `looks` gives where readers would look: rank, from, and to before which.
pub fn count(q: &Queue, now: Micros, looks: impl Iterator<Item = (i16, i64, i64)>) -> Counts {
    let _pinned = Pinned::now();
    let mut space = Space::to_read(q);
    let mut head = Counter::new();
    space.seek_all();
    if head.along(q, &mut space, now, |_| true) {
        return head.counts;
    }
    let mut ready = Counter::new();
    let mut all = true;
    for (rank, from, to) in looks {
        space.seek(rank, from, to);
        all &= ready.along(q, &mut space, now, |f| f.place.rank == rank);
    }
    let live = q
        .map()
        .live
        .iter()
        .map(|p| rel::live_rows(p.table))
        .sum::<i64>()
        .max(EXACT);
    estimate(&head.counts, &ready.counts, all, live)
}

/// What was not looked at is taken to be like what was at the head; ready ones are known exactly
/// when all of them were looked at.
fn estimate(head: &Counts, ready: &Counts, all: bool, live: i64) -> Counts {
    let known = if all { ready.ready } else { 0 };
    let like = Counts {
        ready: if all { 0 } else { head.ready.max(ready.ready) },
        ..head.clone()
    };
    let seen = (like.ready + like.delayed + like.leased).max(1);
    let share =
        |n: i64| (i128::from((live - known).max(0)) * i128::from(n) / i128::from(seen)) as i64;
    Counts {
        ready: known + share(like.ready).max(like.ready),
        delayed: share(like.delayed).max(head.delayed),
        leased: share(like.leased).max(head.leased),
        estimated: true,
        oldest_ready: [head.oldest_ready, ready.oldest_ready]
            .into_iter()
            .flatten()
            .min(),
    }
}
