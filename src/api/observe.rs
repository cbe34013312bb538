//! mq.version, mq.status, the figures behind mq.metrics.
//!
//! None of them waits for a lock on a queue: what cannot be had at once is left out.

use crate::catalog::{self, Queue};
use crate::error::Result;
use crate::pg::array;
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::role;
use crate::pg::roster::{self, Entry};
use crate::pg::shmem;
use crate::pg::spi;
use crate::pg::time::{self, Micros};
use crate::pg::value::{Oid, Ty, Value};
use crate::queue::{look, rotate, send};
use crate::settings;
use crate::sql_function;
use crate::storage::length;

sql_function!(mq_version, pg_finfo_mq_version, version);
sql_function!(mq_status, pg_finfo_mq_status, status);
sql_function!(mq_measure, pg_finfo_mq_measure, measure);
sql_function!(mq_kept_by, pg_finfo_mq_kept_by, kept_by);

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Upkeep that is older than this deserves a warning.
const STALE: Micros = 3_600_000_000;
/// So long after there was no slot for a worker, none is taken to be there still.
const RECENT: Micros = 60_000_000;
/// A segment that lasts shorter than this is too small.
const OFTEN: Micros = 5_000_000;

fn version(_call: &Call) -> Result<Value> {
    Ok(Value::text(VERSION))
}

/// The figures of one queue: ready, delayed, leased, oldest_ready_age, estimated, sent,
/// delivered, acked, failed, dead, expired, since, waiters.
fn measure(call: &Call) -> Result<Value> {
    let nothing = [Value::NULL; 13];
    let Some(view) = call.arg(0).as_oid() else {
        return Ok(call.row(&nothing));
    };
    let open = catalog::try_open_oid(view)?;
    let known = match &open {
        Some(q) => Some(q.outline()),
        None => catalog::outlines(Some(view))?.pop(),
    };
    let Some(known) = known else {
        return Ok(call.row(&nothing));
    };
    let now = time::now();
    let mut row = nothing;
    // Where somebody has it locked or wants to, as to drop it, the messages are not looked at.
    let counts = match open {
        // A standby has no data of unlogged tables.
        Some(q) if q.unlogged && rel::in_recovery() => None,
        Some(q) => Some(look::count(&q, now)),
        None => look::estimate(&known, now),
    };
    if let Some(c) = counts {
        row[0] = Value::int8(c.ready);
        row[1] = Value::int8(c.delayed);
        row[2] = Value::int8(c.leased);
        row[3] = Value::opt(c.oldest_ready, |t| {
            Value::interval(&time::Interval {
                micros: (now - t).max(0),
                days: 0,
                months: 0,
            })
        });
        row[4] = Value::bool(c.estimated);
    }
    if let Some((since, totals)) = shmem::read(known.storage) {
        for (cell, total) in row[5..11].iter_mut().zip(totals) {
            *cell = Value::int8(total as i64);
        }
        row[11] = Value::timestamptz(since);
    }
    row[12] = Value::opt(look::waiters(&known), Value::int8);
    Ok(call.row(&row))
}

/// What keeps one of a queue's tables from being truncated.
fn kept_by(call: &Call) -> Result<Value> {
    let (Some(view), Some(k)) = (call.arg(0).as_oid(), call.arg(1).as_int4()) else {
        return Ok(Value::NULL);
    };
    if !rel::try_hold(view, Lock::Read) || !rel::exists(view) {
        return Ok(Value::NULL);
    }
    let why = match catalog::behind(view)? {
        // A standby has no data of unlogged tables.
        Some(q) if !(q.unlogged && rel::in_recovery()) => rotate::kept_by(&q, k),
        _ => None,
    };
    Ok(Value::opt(why.as_deref(), Value::text))
}

/// What is to be said of a queue's segments.
fn segment_warning(q: &Queue) -> Option<String> {
    let took = rotate::lasts(q, time::now())?;
    (took < OFTEN).then(|| {
        format!(
            "queue \"{}\" begins a new segment every {:.1} seconds, and standbys replay the end of each \
             with an exclusive lock: raise its segment_size, or leave it to pg_broker.rotation_interval",
            q.name,
            took as f64 / 1e6
        )
    })
}

fn sees(view: Oid, caller: Oid) -> bool {
    let all = [
        Privilege::Insert,
        Privilege::Select,
        Privilege::Update,
        Privilege::Delete,
    ];
    all.into_iter().any(|p| rel::allows(view, caller, p))
}

fn dead_letter_warning(q: &Queue) -> Result<Option<String>> {
    let Some(view) = q.options.dead_letter else {
        return Ok(None);
    };
    if !rel::exists(view) {
        return Ok(Some(format!(
            "the dead-letter queue of queue \"{}\" is gone: its dead messages are kept in it",
            q.name
        )));
    }
    let Some(dead) = catalog::try_open_oid(view)? else {
        return Ok(None);
    };
    if rel::in_recovery() && dead.unlogged || !length::can_tell(&dead) {
        return Ok(None);
    }
    let full = send::no_room(&dead, 1)?;
    Ok(full.map(|_| {
        format!(
            "dead-letter queue \"{}\" is full: dead messages of queue \"{}\" are kept in it",
            dead.name, q.name
        )
    }))
}

fn last_run() -> Result<Option<Micros>> {
    spi::connect(|spi| {
        let rows = spi.query("SELECT u.last_run FROM mq_internal.upkeep u", &[], &[])?;
        Ok(rows.get(0, 0).as_timestamptz())
    })
}

fn installed_version() -> Result<Option<String>> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_broker'",
            &[],
            &[],
        )?;
        Ok(rows.get(0, 0).as_text())
    })
}

/// What keeps upkeep from being done.
fn upkeep_warnings(
    entry: Option<&Entry>,
    worker: Option<i32>,
    last: Option<Micros>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    // A standby's queues are looked after on the primary.
    if rel::in_recovery() {
        return warnings;
    }
    if let Some(error) = entry.and_then(Entry::error) {
        // Other people's queues are named in it.
        let what = match role::monitors(role::caller()) {
            true => error,
            false => "the server's log says why".to_owned(),
        };
        warnings.push(format!("the worker of this database fails: {what}"));
    }
    let now = time::now();
    let is_stale = last.is_none_or(|t| now - t > STALE);
    let is_expected = settings::WORKER.get() && shmem::attached();
    if is_expected && roster::lacks_launcher(now) {
        warnings.push(
            "no worker runs, because the server had no slot for their launcher: raise \
             max_worker_processes"
                .to_owned(),
        );
    }
    if !is_expected || (worker.is_none() && roster::launcher_pid().is_none()) {
        if is_stale {
            warnings.push(
                "mq.maintain() has not run for an hour, and no worker does it: schedule it, for \
                 instance every minute"
                    .to_owned(),
            );
        }
        return warnings;
    }
    let (no_slot, full) = roster::shortages();
    if worker.is_none() && now - no_slot < RECENT {
        warnings.push(
            "no worker could be started for this database: raise max_worker_processes".to_owned(),
        );
    }
    if entry.is_none() && now - full < RECENT {
        warnings.push(
            "there are more databases than the launcher looks after: call mq.maintain() in this \
             one, for instance every minute"
                .to_owned(),
        );
    }
    warnings
}

fn status(call: &Call) -> Result<Value> {
    let caller = role::caller();
    let mut warnings = Vec::new();
    if !shmem::attached() {
        warnings.push(
            "pg_broker is not in shared_preload_libraries: no worker runs, reading starts at the \
             beginning of a queue, and mq.metrics has no totals"
                .to_owned(),
        );
    }
    if let Some(installed) = installed_version()?
        && installed != VERSION
    {
        warnings.push(format!(
            "the library is version {VERSION} and the extension {installed}: run ALTER EXTENSION \
             pg_broker UPDATE"
        ));
    }
    let entry = roster::entry(roster::own_database());
    let last = last_run()?.max(entry.and_then(Entry::seen));
    let worker = entry.and_then(Entry::worker_pid);
    warnings.extend(upkeep_warnings(entry, worker, last));
    let n = look::without_place()?;
    if n > 0 {
        warnings.push(format!(
            "shared memory has no room for {n} of the queues of this database, and reading them \
             starts at the beginning every time: raise pg_broker.max_queues"
        ));
    }
    for view in catalog::views(None)? {
        if sees(view, caller)
            && let Some(q) = catalog::try_open_oid(view)?
        {
            warnings.extend(dead_letter_warning(&q)?);
            warnings.extend(segment_warning(&q));
        }
    }
    let launcher = || roster::launcher_pid().filter(|_| settings::WORKER.get());
    let list: Vec<Value> = warnings.iter().map(|w| Value::text(w)).collect();
    Ok(call.row(&[
        Value::text(VERSION),
        Value::bool(shmem::attached()),
        Value::opt(worker.or_else(launcher), Value::int4),
        Value::opt(last, Value::timestamptz),
        array::build(&list, Ty::Text),
    ]))
}
