//! How fast, and how many at a time, a queue's messages are handed out: options that need shared
//! memory to be kept.

use super::options::Setting;
use crate::error::Result;
use crate::pg::rel;
use crate::pg::spi;
use crate::pg::spi::Rows;
use crate::pg::time::Interval;
use crate::pg::value::{Oid, Ty, Value};
use pg_broker_core::rate::Rate;

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Limits {
    /// So many messages each `rate_interval`, and at most `rate_burst` at once.
    pub rate_limit: Option<i32>,
    /// None: a second.
    pub rate_interval: Option<Interval>,
    /// None: as many as `rate_limit`.
    pub rate_burst: Option<i32>,
    /// A header (or `GROUP_KEY`): the rate is for each of its values apart.
    pub rate_key: Option<String>,
    pub max_in_flight: Option<i32>,
    pub group_max_in_flight: Option<i32>,
}

/// As `rate_key` it is no header.
pub const GROUP_KEY: &str = "group_key";

/// The columns that `Limits` is made of, in the order that `from_row` reads.
pub(super) const COLUMNS: &str = "rate_limit, rate_interval, rate_burst, rate_key, max_in_flight, \
     group_max_in_flight";

const SECOND: i64 = 1_000_000;

impl Limits {
    /// From the columns from `first` on.
    pub(super) fn from_row(rows: &Rows, first: usize) -> Self {
        let at = |col: usize| rows.get(0, first + col);
        Limits {
            rate_limit: at(0).as_int4(),
            rate_interval: at(1).as_interval(),
            rate_burst: at(2).as_int4(),
            rate_key: at(3).as_text(),
            max_in_flight: at(4).as_int4(),
            group_max_in_flight: at(5).as_int4(),
        }
    }

    /// Whether a reader has to ask for leave.
    pub fn hold_back(&self) -> bool {
        self.rate_limit.is_some() || self.max_in_flight.is_some()
    }

    pub fn rate(&self) -> Option<Rate> {
        let tokens = self.rate_limit?;
        let span = self.rate_interval.map_or(i128::from(SECOND), |i| i.span());
        let interval = i64::try_from(span).unwrap_or(i64::MAX);
        Some(Rate::new(
            tokens,
            interval,
            self.rate_burst.unwrap_or(tokens),
        ))
    }
}

/// The limits named in a call, checked one by one.
pub struct LimitSettings {
    pub rate_limit: Setting<i32>,
    pub rate_interval: Setting<Interval>,
    pub rate_burst: Setting<i32>,
    pub rate_key: Setting<String>,
    pub max_in_flight: Setting<i32>,
    pub group_max_in_flight: Setting<i32>,
}

impl LimitSettings {
    pub fn over(self, p: &Limits) -> Limits {
        Limits {
            rate_limit: self.rate_limit.over_opt(p.rate_limit),
            rate_interval: self.rate_interval.over_opt(p.rate_interval),
            rate_burst: self.rate_burst.over_opt(p.rate_burst),
            rate_key: self.rate_key.over_opt(p.rate_key.clone()),
            max_in_flight: self.max_in_flight.over_opt(p.max_in_flight),
            group_max_in_flight: self.group_max_in_flight.over_opt(p.group_max_in_flight),
        }
    }
}

/// Replaces a queue's limits. Who calls this has checked the caller's rights and holds the lock.
pub fn put(view: Oid, l: &Limits) -> Result<()> {
    spi::connect(|spi| {
        spi.query(
            "UPDATE mq_internal.queue SET rate_limit=$1, rate_interval=$2, rate_burst=$3, \
             rate_key=$4, max_in_flight=$5, group_max_in_flight=$6 WHERE view = $7",
            &[
                Ty::Int4,
                Ty::Interval,
                Ty::Int4,
                Ty::Text,
                Ty::Int4,
                Ty::Int4,
                Ty::Oid,
            ],
            &[
                Value::opt(l.rate_limit, Value::int4),
                Value::opt(l.rate_interval.as_ref(), Value::interval),
                Value::opt(l.rate_burst, Value::int4),
                Value::opt(l.rate_key.as_deref(), Value::text),
                Value::opt(l.max_in_flight, Value::int4),
                Value::opt(l.group_max_in_flight, Value::int4),
                Value::oid(view),
            ],
        )?;
        Ok(())
    })?;
    rel::invalidate(view);
    Ok(())
}
