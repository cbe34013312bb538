//! What has to be done now and then for a queue, in bounded pieces.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi;
use crate::pg::time::{self, Interval, Micros};
use crate::pg::value::{Ty, Value};
use crate::queue::{bury, look};
use crate::storage::row::Place;
use crate::storage::{archive, keys, over, upkeep};
use crate::wake::counts;
use crate::wake::frontier::{self, Looks};
use crate::wake::touch::{self, Begun};

/// One call does at most so much of each duty.
pub const PIECE: i64 = 10_000;
/// A walk in search of what is over passes at most so many rows.
const WALK: usize = 10_000;

/// All duties for one queue. Gives how many rows were moved or removed.
pub fn maintain(q: &Queue) -> Result<u64> {
    let now = time::now();
    // First: who has changed rows cannot count them for others.
    count(q, || true);
    let mut done = bury_overdue(q, now)? + trim_archive(q)? + expire_keys(q)?;
    let mut from = Some(0);
    while let Some(at) = from {
        let (n, on) = sweep(q, at)?;
        (done, from) = (done + n, on);
    }
    Ok(done)
}

/// Counts the messages, if nobody knows how many there are, as long as `go_on` says. Gives whether
/// that is still to be done.
pub fn count(q: &Queue, go_on: impl Fn() -> bool) -> bool {
    let key = frontier::key(q);
    if counts::is_known(key) == Some(true) || look::recount(q, |_| go_on()) {
        return false;
    }
    counts::is_known(key) == Some(false)
}

fn bury_overdue(q: &Queue, now: Micros) -> Result<u64> {
    let begun = touch::begin(q, 0);
    let found = upkeep::overdue(q, PIECE, now)?;
    bury(q, found, now, begun)
}

/// Buries what is over where a reader would look now: what has just come due is there.
pub fn bury_due(q: &Queue) -> Result<u64> {
    let (now, begun) = (time::now(), touch::begin(q, 0));
    let mut looks = Looks::begin(q, now);
    let (mut found, mut ready): (Vec<Place>, _) = (Vec::new(), Vec::new());
    while let Some((rank, from, to)) = looks.next() {
        over::in_span(q, Some(rank), (from, to), WALK, now, &mut found, &mut ready);
    }
    bury(q, found, now, begun)
}

/// Buries what is over among the rows from `from` on, and has readers look where there are ready
/// rows that nobody has reported, written by plain SQL or by replication. Gives where to go on,
/// until it was through.
pub fn sweep(q: &Queue, from: i64) -> Result<(u64, Option<i64>)> {
    let (now, begun) = (time::now(), touch::begin(q, from));
    let (mut found, mut ready) = (Vec::new(), Vec::new());
    let span = (from, i64::MAX);
    let at = over::in_span(q, None, span, WALK, now, &mut found, &mut ready);
    frontier::found(q, &ready, now);
    Ok((bury(q, found, now, begun)?, (at < i64::MAX).then_some(at)))
}

/// Buries what has expired.
pub fn bury_expired(q: &Queue) -> Result<u64> {
    let (now, begun) = (time::now(), touch::begin(q, 0));
    let found = upkeep::expired(q, PIECE, now)?;
    bury(q, found, now, begun)
}

fn bury(q: &Queue, mut found: Vec<Place>, now: Micros, begun: Begun) -> Result<u64> {
    found.sort_unstable_by_key(|p| p.id);
    found.dedup_by_key(|p| p.id);
    let buried = bury::over(q, &found, now)?;
    begun.told();
    Ok(buried as u64)
}

/// Removes deduplication keys whose window is over.
pub fn expire_keys(q: &Queue) -> Result<u64> {
    keys::expire(q, PIECE, time::now())
}

/// Removes from the archive what is older than the queue keeps.
pub fn trim_archive(q: &Queue) -> Result<u64> {
    let now = time::now();
    match &q.options.archive_retention {
        Some(keep) => {
            let back = Interval {
                micros: -keep.micros,
                days: -keep.days,
                months: -keep.months,
            };
            archive::retain(q, time::add(now, &back), PIECE)
        }
        None => Ok(0),
    }
}

/// Notes that upkeep ran, unless another session is noting the same.
pub fn note_run() -> Result<()> {
    spi::connect(|spi| {
        let now = [Value::timestamptz(time::now())];
        let types = [Ty::Timestamptz];
        let done = spi.query(
            "UPDATE mq_internal.upkeep u SET last_run=$1 WHERE u.one = (SELECT w.one FROM \
             mq_internal.upkeep w FOR UPDATE SKIP LOCKED)",
            &types,
            &now,
        )?;
        if done.processed == 0 {
            spi.query(
                "INSERT INTO mq_internal.upkeep (last_run) SELECT $1 WHERE NOT EXISTS (SELECT \
                 FROM mq_internal.upkeep) ON CONFLICT DO NOTHING",
                &types,
                &now,
            )?;
        }
        Ok(())
    })
}
