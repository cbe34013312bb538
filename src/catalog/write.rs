//! Changes to the catalog. Who calls these has checked the caller's rights and holds the lock.

use super::Options;
use crate::error::Result;
use crate::pg::array;
use crate::pg::aside;
use crate::pg::rel;
use crate::pg::spi;
use crate::pg::time::{self, Micros};
use crate::pg::value::{Oid, Ty, Value};

const TYPES: [Ty; 13] = [
    Ty::Interval,
    Ty::Int4,
    Ty::Oid,
    Ty::IntervalArray,
    Ty::Interval,
    Ty::Interval,
    Ty::Int8,
    Ty::Text,
    Ty::Int4,
    Ty::Interval,
    Ty::Bool,
    Ty::Int4,
    Ty::Bool,
];

fn values(o: &Options) -> [Value; 13] {
    let backoff: Vec<Value> = o.backoff.iter().map(Value::interval).collect();
    [
        Value::interval(&o.visibility),
        Value::opt(o.max_failures, Value::int4),
        Value::opt(o.dead_letter, Value::oid),
        if backoff.is_empty() {
            Value::NULL
        } else {
            array::build(&backoff, Ty::Interval)
        },
        Value::opt(o.ttl.as_ref(), Value::interval),
        Value::interval(&o.dedup_window),
        Value::opt(o.max_length, Value::int8),
        Value::text(o.overflow.as_str()),
        Value::int4(o.max_bytes as i32),
        Value::opt(o.archive_retention.as_ref(), Value::interval),
        Value::bool(o.notify),
        Value::opt(o.segment_size, Value::int4),
        Value::bool(o.single_active),
    ]
}

fn args(o: &Options, more: &[(Ty, Value)]) -> (Vec<Ty>, Vec<Value>) {
    let types = TYPES
        .iter()
        .copied()
        .chain(more.iter().map(|m| m.0))
        .collect();
    let values = values(o)
        .into_iter()
        .chain(more.iter().map(|m| m.1))
        .collect();
    (types, values)
}

/// Enters a new queue.
pub fn insert(n: i32, view: Oid, archive: Oid, o: &Options) -> Result<()> {
    spi::connect(|spi| {
        let (types, values) = args(
            o,
            &[
                (Ty::Int4, Value::int4(n)),
                (Ty::Oid, Value::oid(view)),
                (Ty::Oid, Value::oid(archive)),
                (Ty::Timestamptz, Value::timestamptz(time::now())),
                (Ty::Text, Value::text(o.ordering.as_str())),
                (Ty::Text, Value::opt(o.fair_by.as_deref(), Value::text)),
            ],
        );
        spi.query(
            "INSERT INTO mq_internal.queue (visibility, max_failures, dead_letter, backoff, ttl, \
             dedup_window, max_length, overflow, max_bytes, archive_retention, notify, \
             segment_size, single_active, n, view, archive, created_at, ordering, fair_by, paused) VALUES ($1, \
             $2, $3::pg_catalog.regclass, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
             $15::pg_catalog.regclass, $16::pg_catalog.regclass, $17, $18, $19, false)",
            &types,
            &values,
        )?;
        aside::announce_at_commit();
        Ok(())
    })
}

/// Replaces a queue's options.
pub fn update(view: Oid, o: &Options) -> Result<()> {
    spi::connect(|spi| {
        let (types, values) = args(o, &[(Ty::Oid, Value::oid(view))]);
        spi.query(
            "UPDATE mq_internal.queue SET visibility=$1, max_failures=$2, \
             dead_letter=$3::pg_catalog.regclass, backoff=$4, ttl=$5, dedup_window=$6, \
             max_length=$7, overflow=$8, max_bytes=$9, archive_retention=$10, notify=$11, \
             segment_size=$12, single_active=$13 WHERE view = $14",
            &types,
            &values,
        )?;
        aside::announce_at_commit();
        Ok(())
    })?;
    rel::invalidate(view);
    Ok(())
}

pub fn put_paused(view: Oid, paused: bool, until: Option<Micros>) -> Result<()> {
    spi::connect(|spi| {
        spi.query(
            "UPDATE mq_internal.queue SET paused=$1, paused_until=$2 WHERE view = $3",
            &[Ty::Bool, Ty::Timestamptz, Ty::Oid],
            &[
                Value::bool(paused),
                Value::opt(until, Value::timestamptz),
                Value::oid(view),
            ],
        )?;
        Ok(())
    })?;
    rel::invalidate(view);
    Ok(())
}

/// Forgets a queue; gives its number and its archive's view.
pub fn remove(view: Oid) -> Result<Option<(i32, Oid)>> {
    spi::connect(|spi| {
        let rows = spi.query(
            "DELETE FROM mq_internal.queue WHERE view = $1 RETURNING n, archive::pg_catalog.oid",
            &[Ty::Oid],
            &[Value::oid(view)],
        )?;
        if !rows.is_empty() {
            let n = rows.get(0, 0);
            spi.query(
                "DELETE FROM mq_internal.segment WHERE n = $1",
                &[Ty::Int4],
                &[n],
            )?;
            spi.query(
                "DELETE FROM mq_internal.reply_queue WHERE view = $1",
                &[Ty::Oid],
                &[Value::oid(view)],
            )?;
        }
        Ok(rows.get(0, 0).as_int4().zip(rows.get(0, 1).as_oid()))
    })
}
