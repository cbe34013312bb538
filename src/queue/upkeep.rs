//! What has to be done now and then for a queue, in bounded pieces.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi;
use crate::pg::time::{self, Interval, Micros};
use crate::pg::value::{Ty, Value};
use crate::queue::{bury, look, request, tend};
use crate::storage::row::{Facts, Place};
use crate::storage::{archive, groups, keys, over, upkeep};
use crate::wake::counts::{self, Told};
use crate::wake::frontier::Found;
use crate::wake::frontier::{self, Looks};
use crate::wake::touch::{self, Begun};
use std::rc::Rc;

/// One call does at most so much of each duty.
pub const PIECE: i64 = 10_000;
/// A walk in search of what is over passes at most so many rows.
const WALK: usize = 10_000;

/// All duties for some queues. Gives how many rows were moved or removed.
pub fn maintain(queues: &[Rc<Queue>]) -> Result<u64> {
    // Before anything else, and again at the end, in case that it was nothing: who has changed
    // rows cannot count them for others.
    let count_all = || queues.iter().for_each(|q| _ = count(q, || true));
    count_all();
    let mut done = 0;
    for q in queues {
        done += bury_overdue(q, time::now())? + trim_archive(q)? + expire_keys(q)?;
        let mut swept = Some(Sweep::default());
        while let Some(at) = swept {
            let (n, on) = sweep(q, at)?;
            (done, swept) = (done + n, on);
        }
    }
    count_all();
    tend::all_at_commit(queues);
    // At the end, because some of them may be dropped.
    for q in queues {
        done += request::tend(q)?;
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
    let found = upkeep::overdue(q, PIECE, now);
    bury(q, found, now, begun)
}

/// Buries what is over where a reader would look now: what has just come due is there.
pub fn bury_due(q: &Queue) -> Result<u64> {
    let (now, begun) = (time::now(), touch::begin(q, 0));
    let mut looks = Looks::begin(q, now);
    let (mut found, mut ready): (Vec<Place>, Vec<Facts>) = (Vec::new(), Vec::new());
    while let Some((rank, from, to)) = looks.next() {
        over::in_span(q, Some(rank), (from, to), WALK, now, &mut found, &mut ready);
    }
    bury(q, found, now, begun)
}

/// Whether a message has become ready by itself since then, as far as a short walk can tell.
pub fn came_due(q: &Queue, since: Micros) -> bool {
    over::came_due(q, since, time::now(), WALK)
}

/// How far a sweep has come.
#[derive(Clone, Copy, Default)]
pub struct Sweep {
    from: i64,
    /// How many rows it has met.
    rows: i64,
    /// How many there were when it began, if that was known.
    told: Option<Told>,
}

/// Buries what is over among the rows that the sweep has not met yet, and has readers look where
/// there are ready rows that nobody has reported, written by plain SQL or by replication. That the
/// figures are wrong for such reasons shows when it is through and meanwhile nobody told of
/// anything. Gives where to go on, until it was through.
pub fn sweep(q: &Queue, mut at: Sweep) -> Result<(u64, Option<Sweep>)> {
    if at.from == 0 {
        at.told = counts::told_so_far(q);
    }
    let (now, begun) = (time::now(), touch::begin(q, at.from));
    let (mut found, mut ready) = (Vec::new(), Vec::new());
    let span = (at.from, i64::MAX);
    let walked = over::in_span(q, None, span, WALK, now, &mut found, &mut ready);
    // Those that wait for others of their group are looked at when it is their turn.
    ready.retain(|f| {
        f.group(q).is_none_or(|group| {
            groups::first(q, group, (0, f.id()), now).is_some_and(|(first, _)| first.id() == f.id())
        })
    });
    let of = |f: &Facts| Found {
        rank: f.place.rank,
        id: f.id(),
        belongs_to: f.belongs_to,
    };
    let ready: Vec<_> = ready.iter().map(of).collect();
    frontier::found(q, &ready, now);
    at.from = walked.upto;
    at.rows += walked.rows;
    let is_through = at.from == i64::MAX;
    if is_through && let Some(told) = at.told {
        counts::compare(q, &told, at.rows);
    }
    let done = bury(q, found, now, begun)?;
    Ok((done, (!is_through).then_some(at)))
}

/// Buries what has expired.
pub fn bury_expired(q: &Queue) -> Result<u64> {
    let (now, begun) = (time::now(), touch::begin(q, 0));
    let found = upkeep::expired(q, PIECE, now);
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

/// When there will be an expired message, or a deduplication key whose window is over.
pub fn next_expiry(q: &Queue) -> Option<Micros> {
    upkeep::next_expiry(q)
}

pub fn next_key(q: &Queue) -> Result<Option<Micros>> {
    keys::next(q)
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
