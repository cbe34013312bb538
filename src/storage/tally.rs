//! How many messages there are in which state, from what sessions have told: only rows of which
//! the tally cannot say whether they still wait are looked at, and those that have expired.

use super::count::{Counts, EXACT};
use super::row::{DEFAULT_RANK, Fate};
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::table::Pinned;
use crate::pg::time::{self, Micros};
use crate::pg::wait;
use pg_broker_core::frontier::Span;
use pg_broker_core::tally::{self, Cell, Kind, Open, Reading, Tally};

/// Counts every row of the snapshot that is active, as long as `go_on` says of how many there were;
/// none when it ended that.
pub fn all(q: &Queue, go_on: impl Fn(i64) -> bool) -> Option<Tally> {
    let now = time::now();
    let mut space = Space::to_read(q);
    space.seek_all();
    let mut tally = Tally::default();
    let mut n = 0;
    while let Some(facts) = space.next() {
        wait::interruptible();
        n += 1;
        if !go_on(n) {
            return None;
        }
        for part in tally::changes(facts.id(), None, Some(facts.standing(q))) {
            tally.add(&part, now).ok()?;
        }
    }
    Some(tally)
}

/// What is left of so many rows that may be looked at.
struct Budget(i64);

impl Budget {
    fn spend(&mut self) -> bool {
        self.0 -= 1;
        self.0 >= 0
    }
}

/// What a tally says, made exact. `looks` gives where readers would look.
pub fn settle(
    q: &Queue,
    now: Micros,
    mut reading: Reading,
    looks: impl Iterator<Item = (i16, i64, i64)>,
) -> Counts {
    let _pinned = Pinned::now();
    let mut space = Space::to_read(q);
    let is_open_known = settle_open(q, &mut space, now, &mut reading);
    let is_expired_known = leave_out_expired(q, &mut space, now, &mut reading);
    let ready = reading.ready().max(0);
    let (oldest_ready, is_oldest_known) = match ready {
        0 => (None, true),
        _ => oldest(q, &mut space, now, looks),
    };
    Counts {
        ready,
        delayed: reading.delayed.n.max(0),
        leased: reading.leased.n.max(0),
        estimated: !(is_open_known && is_expired_known && is_oldest_known),
        oldest_ready,
    }
}

/// Looks at the rows that may or may not wait; false when there were too many, and the rest is
/// taken to come due evenly.
fn settle_open(q: &Queue, space: &mut Space, now: Micros, reading: &mut Reading) -> bool {
    let mut open: Vec<Open> = std::iter::from_fn(|| reading.take_open()).collect();
    if open.is_empty() {
        return true;
    }
    let mut budget = Budget(EXACT);
    let mut complete = true;
    for ids in spans(&open) {
        space.seek(DEFAULT_RANK, ids.lo, ids.hi);
        while open.iter().any(|o| o.n > 0)
            && let Some(facts) = space.next()
        {
            if !budget.spend() {
                complete = false;
                break;
            }
            let standing = facts.standing(q);
            let cell = standing.wait.as_ref().and_then(Cell::of);
            if let Some(found) = open.iter_mut().find(|o| Some(o.cell) == cell) {
                let last = i64::from(standing.is_last);
                found.n -= 1;
                found.last -= last;
                if facts.due.is_some_and(|due| due > now) {
                    reading.waits(found.cell.kind, 1, last);
                }
            }
        }
    }
    // Rows that are not to be found have left while this was looking.
    if !complete {
        open.iter()
            .for_each(|rest| come_due_evenly(rest, now, reading));
    }
    complete
}

fn come_due_evenly(open: &Open, now: Micros, reading: &mut Reading) {
    let share = |n: i64| n.max(0).saturating_mul(open.cell.rest(now)) / 1000;
    reading.waits(open.cell.kind, share(open.n), share(open.last));
}

/// What a tally says, without a look at any row: expired ones count, too.
pub fn estimate(now: Micros, mut reading: Reading) -> Counts {
    while let Some(open) = reading.take_open() {
        come_due_evenly(&open, now, &mut reading);
    }
    Counts {
        ready: reading.ready().max(0),
        delayed: reading.delayed.n.max(0),
        leased: reading.leased.n.max(0),
        estimated: true,
        oldest_ready: None,
    }
}

/// Where the rows are, each id once.
pub(super) fn spans(open: &[Open]) -> Vec<Span> {
    let mut spans: Vec<Span> = open.iter().flat_map(|o| o.ids.spans()).collect();
    spans.sort_unstable_by_key(|s| s.lo);
    spans.dedup_by(|next, kept| {
        let meets = next.lo <= kept.hi;
        if meets {
            *kept = kept.hull(*next);
        }
        meets
    });
    spans
}

/// Takes out what has expired and nobody holds; false when it is too much.
fn leave_out_expired(q: &Queue, space: &mut Space, now: Micros, reading: &mut Reading) -> bool {
    let mut budget = Budget(EXACT);
    let mut is_complete = true;
    space.expiring(now, |facts| {
        is_complete = budget.spend();
        // Past its last failure and expired: not `Fate::Expired` alone, but what is not leased.
        if is_complete && !facts.is_leased(now) && facts.has_expired(now) {
            let last = i64::from(facts.standing(q).is_last);
            reading.n -= 1;
            reading.last -= last;
            if facts.due.is_some_and(|due| due > now) {
                reading.waits(Kind::Delayed, -1, -last);
            }
        }
        is_complete
    });
    is_complete
}

/// When the first ready message of each priority was sent, the earliest of them; and whether all
/// could be found.
fn oldest(
    q: &Queue,
    space: &mut Space,
    now: Micros,
    looks: impl Iterator<Item = (i16, i64, i64)>,
) -> (Option<Micros>, bool) {
    let mut budget = Budget(EXACT);
    let mut oldest: Option<Micros> = None;
    let mut found = None;
    for (rank, from, to) in looks {
        if found == Some(rank) {
            continue;
        }
        space.seek(rank, from, to);
        while let Some(facts) = space.next() {
            if !budget.spend() {
                return (oldest, false);
            }
            if facts.place.rank == rank && facts.fate(q, now) == Fate::Ready {
                let sent = facts.enqueued_at;
                oldest = Some(oldest.map_or(sent, |o| o.min(sent)));
                found = Some(rank);
                break;
            }
        }
    }
    (oldest, true)
}
