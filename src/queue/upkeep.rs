//! What has to be done now and then for a queue, in bounded pieces.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi;
use crate::pg::time::{self, Interval, Micros};
use crate::pg::value::{Ty, Value};
use crate::queue::bury;
use crate::storage::{archive, keys, upkeep};
use crate::wake::touch;

/// One call does at most so much of each duty.
const PIECE: i64 = 10_000;

/// All duties for one queue. Gives how many rows were moved or removed.
pub fn maintain(q: &Queue) -> Result<u64> {
    let now = time::now();
    Ok(bury_overdue(q, now)? + trim_archive(q, now)? + keys::expire(q, PIECE, now)?)
}

fn bury_overdue(q: &Queue, now: Micros) -> Result<u64> {
    let begun = touch::begin(q, 0);
    let found = upkeep::overdue(q, PIECE, now)?;
    let buried = bury::over(q, &found, now)?;
    begun.told();
    Ok(buried as u64)
}

fn trim_archive(q: &Queue, now: Micros) -> Result<u64> {
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
