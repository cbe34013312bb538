//! The named options of mq.create_queue and mq.alter_queue, from arguments to settings.

use super::{args, limits};
use crate::catalog::{self, Ordering, Overflow, Right, Setting, Settings};
use crate::error::{Error, Result};
use crate::pg::board;
use crate::pg::entry::Call;
use crate::pg::rel::{Lock, Privilege};
use crate::pg::time::Interval;
use crate::pg::value::{Oid, Ty, Value};
use crate::queue::send::{not_negative, positive};
use pg_broker_core::ids::BLOCK;

/// The options that `reset` may name.
const NAMES: [&str; 13] = [
    "visibility",
    "max_failures",
    "dead_letter",
    "backoff",
    "ttl",
    "dedup_window",
    "max_length",
    "overflow",
    "max_bytes",
    "archive_retention",
    "notify",
    "segment_size",
    "single_active",
];

/// Those that mq.create_queue alone takes.
const FOR_GOOD: [&str; 3] = ["durable", "ordering", "fair_by"];

pub(super) fn setting<T>(reset: &[String], name: &'static str, value: Option<T>) -> Setting<T> {
    match value {
        Some(v) => Setting::To(v),
        None if reset.iter().any(|r| r == name) => Setting::Reset,
        None => Setting::Keep,
    }
}

pub(super) fn at_least_one<T: PartialOrd + From<i32> + std::fmt::Display>(
    queue: &str,
    name: &'static str,
    value: Option<T>,
) -> Result<Option<T>> {
    match value {
        Some(v) if v < T::from(1) => Err(Error::argument(
            queue,
            name,
            format!("must be at least 1, not {v}"),
        )),
        other => Ok(other),
    }
}

fn dead_letter(queue: &str, value: Value) -> Result<Option<Oid>> {
    let Some(name) = value.as_text() else {
        return Ok(None);
    };
    if name == queue {
        return Err(Error::argument_hint(
            queue,
            "dead_letter",
            "cannot be the queue itself",
            "Name another queue.",
        ));
    }
    let target = catalog::open(&name, Lock::Read, Right::Has(Privilege::Insert))?;
    Ok(Some(target.view))
}

fn backoff(queue: &str, value: Value) -> Result<Option<Vec<Interval>>> {
    let Some(list) = args::list(queue, "backoff", value, Ty::Interval)? else {
        return Ok(None);
    };
    list.into_iter()
        .map(|v| match v.as_interval() {
            Some(i) => not_negative(queue, "backoff", i),
            None => Err(Error::argument(queue, "backoff", "must not hold a null")),
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

fn overflow(queue: &str, value: Value) -> Result<Option<Overflow>> {
    match value.as_text().as_deref() {
        None => Ok(None),
        Some("reject") => Ok(Some(Overflow::Reject)),
        Some("drop_oldest") => Ok(Some(Overflow::DropOldest)),
        Some(other) => Err(Error::argument(
            queue,
            "overflow",
            format!("must be 'reject' or 'drop_oldest', not '{other}'"),
        )),
    }
}

/// How a queue's messages are kept in order, which is for good.
pub fn ordering(queue: &str, value: Value) -> Result<Ordering> {
    let Some(name) = value.as_text() else {
        return Ok(Ordering::None);
    };
    Ordering::named(&name).ok_or_else(|| {
        Error::argument(
            queue,
            "ordering",
            format!("must be 'none', 'group' or 'strict', not '{name}'"),
        )
    })
}

/// A header whose values take turns, which is for good, too.
pub fn fair_by(queue: &str, value: Value, ordering: Ordering) -> Result<Option<String>> {
    let Some(header) = value.as_text() else {
        return Ok(None);
    };
    if header.is_empty() {
        return Err(Error::argument(queue, "fair_by", "must not be empty"));
    }
    if ordering != Ordering::None {
        return Err(Error::argument(
            queue,
            "fair_by",
            "cannot be combined with ordering",
        ));
    }
    match board::is_there() {
        true => Ok(Some(header)),
        false => Err(Error::FairNeedsBoard(queue.into())),
    }
}

/// A window may be infinite, where PostgreSQL knows infinite intervals.
fn window(queue: &str, i: Interval) -> Result<Interval> {
    if i.is_infinite() && i.span() > 0 {
        return Ok(Interval {
            micros: 0,
            days: 0,
            months: 12_000,
        });
    }
    positive(queue, "dedup_window", i)
}

/// As much as `pg_broker.segment_size` may be.
const MOST: i64 = 100_000_000;

/// A segment has at least as many messages as are given ids at once.
fn segment_size(queue: &str, value: Value) -> Result<Option<i32>> {
    match value.as_int4() {
        Some(n) if n != 0 && !(BLOCK..=MOST).contains(&i64::from(n)) => Err(Error::argument(
            queue,
            "segment_size",
            format!("must be 0 (by the rate) or between {BLOCK} and {MOST}, not {n}"),
        )),
        other => Ok(other),
    }
}

/// All options that `reset` may name.
fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(limits::NAMES)
}

/// What `reset` asks for.
pub fn resets(queue: &str, value: Value) -> Result<Vec<String>> {
    let list = args::list(queue, "reset", value, Ty::Text)?.unwrap_or_default();
    list.into_iter()
        .map(|v| match v.as_text() {
            Some(name) if names().any(|n| n == name) => Ok(name),
            Some(name) if FOR_GOOD.contains(&name.as_str()) => Err(Error::argument_hint(
                queue,
                "reset",
                format!("cannot take {name} back"),
                "It is said when the queue is made, for good.",
            )),
            Some(name) => Err(Error::argument_hint(
                queue,
                "reset",
                format!("names no option: \"{name}\""),
                format!(
                    "The options are {}.",
                    names().collect::<Vec<_>>().join(", ")
                ),
            )),
            None => Err(Error::argument(queue, "reset", "must not hold a null")),
        })
        .collect()
}

/// The options from argument `first` on.
pub fn settings(call: &Call, queue: &str, first: usize, reset: &[String]) -> Result<Settings> {
    let arg = |n: usize| call.arg(first + n);
    let interval = |n: usize, name: &'static str| {
        arg(n)
            .as_interval()
            .map(|i| positive(queue, name, i))
            .transpose()
    };
    let max_failures = at_least_one(queue, "max_failures", arg(1).as_int4())?;
    let max_length = at_least_one(queue, "max_length", arg(6).as_int8())?;
    let max_bytes = at_least_one(queue, "max_bytes", arg(8).as_int4())?;
    let dedup_window = arg(5).as_interval().map(|i| window(queue, i)).transpose()?;
    let settings = Settings {
        visibility: setting(reset, "visibility", interval(0, "visibility")?),
        max_failures: setting(reset, "max_failures", max_failures),
        dead_letter: setting(reset, "dead_letter", dead_letter(queue, arg(2))?),
        backoff: setting(reset, "backoff", backoff(queue, arg(3))?),
        ttl: setting(reset, "ttl", interval(4, "ttl")?),
        dedup_window: setting(reset, "dedup_window", dedup_window),
        max_length: setting(reset, "max_length", max_length),
        overflow: setting(reset, "overflow", overflow(queue, arg(7))?),
        max_bytes: setting(reset, "max_bytes", max_bytes.map(i64::from)),
        archive_retention: setting(
            reset,
            "archive_retention",
            interval(9, "archive_retention")?,
        ),
        notify: setting(reset, "notify", arg(10).as_bool()),
        segment_size: setting(reset, "segment_size", segment_size(queue, arg(11))?),
        single_active: setting(reset, "single_active", arg(12).as_bool()),
    };
    let given =
        (0..NAMES.len()).find(|&n| !arg(n).is_null() && reset.iter().any(|r| r == NAMES[n]));
    match given {
        Some(n) => Err(Error::reset_and_given(queue, NAMES[n])),
        None => Ok(settings),
    }
}
