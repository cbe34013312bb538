//! The options of mq.create_queue and mq.alter_queue that limit handing out, from arguments to
//! settings.

use super::options::{at_least_one, setting};
use crate::catalog::limits::{GROUP_KEY, LimitSettings, Limits};
use crate::catalog::{Ordering, Setting};
use crate::error::{Error, Result};
use crate::pg::board;
use crate::pg::entry::Call;
use crate::pg::time::Interval;
use crate::pg::value::Value;
use crate::queue::send::positive;

/// The options that `reset` may name, in the order of the arguments.
pub const NAMES: [&str; 6] = [
    "rate_limit",
    "rate_interval",
    "rate_burst",
    "rate_key",
    "max_in_flight",
    "group_max_in_flight",
];

/// Longer intervals a rate cannot have: a year and a day.
const LONGEST: i128 = 366 * 86_400 * 1_000_000;

fn interval(queue: &str, value: Value) -> Result<Option<Interval>> {
    let Some(interval) = value.as_interval() else {
        return Ok(None);
    };
    let interval = positive(queue, "rate_interval", interval)?;
    if interval.span() > LONGEST {
        return Err(Error::argument(
            queue,
            "rate_interval",
            "must be at most 366 days",
        ));
    }
    Ok(Some(interval))
}

fn key(queue: &str, value: Value) -> Result<Option<String>> {
    match value.as_text() {
        Some(key) if key.is_empty() => Err(Error::argument(queue, "rate_key", "must not be empty")),
        other => Ok(other),
    }
}

/// The limits from argument `first` on, over those that there are.
pub fn limits(
    call: &Call,
    queue: &str,
    first: usize,
    reset: &[String],
    present: &Limits,
    ordering: Ordering,
) -> Result<Limits> {
    let arg = |n: usize| call.arg(first + n);
    let number = |n: usize| at_least_one(queue, NAMES[n], arg(n).as_int4());
    let given = (0..NAMES.len()).filter(|n| !arg(*n).is_null());
    if let Some(n) = given.clone().find(|&n| reset.iter().any(|r| r == NAMES[n])) {
        return Err(Error::reset_and_given(queue, NAMES[n]));
    }
    let settings = LimitSettings {
        rate_limit: setting(reset, NAMES[0], number(0)?),
        rate_interval: setting(reset, NAMES[1], interval(queue, arg(1))?),
        rate_burst: setting(reset, NAMES[2], number(2)?),
        rate_key: setting(reset, NAMES[3], key(queue, arg(3))?),
        max_in_flight: setting(reset, NAMES[4], number(4)?),
        group_max_in_flight: setting(reset, NAMES[5], number(5)?),
    };
    let needs_group = matches!(settings.group_max_in_flight, Setting::To(_));
    let limits = settings.over(present);
    if limits.rate_limit.is_none()
        && let Some(n) = given.clone().find(|n| (1..=3).contains(n))
    {
        return Err(Error::argument(queue, NAMES[n], "needs a rate_limit"));
    }
    if needs_group && ordering != Ordering::Group {
        return Err(Error::argument(
            queue,
            NAMES[5],
            "needs a queue with ordering => 'group'",
        ));
    }
    let by_group = arg(3).as_text().is_some_and(|key| key == GROUP_KEY);
    if by_group && ordering != Ordering::Group {
        return Err(Error::argument(
            queue,
            NAMES[3],
            "'group_key' needs a queue with ordering => 'group'",
        ));
    }
    if given.clone().any(|n| n != 5) && limits.hold_back() && !board::is_there() {
        return Err(Error::NeedsBoard(queue.into()));
    }
    Ok(limits)
}
