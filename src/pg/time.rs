//! The wall clock, and intervals: checked, compared, added.

use super::value::Value;
use pgrx::pg_sys;

/// Microseconds since 2000, as PostgreSQL counts.
pub type Micros = i64;

/// The wall clock, now.
pub fn now() -> Micros {
    super::calm::timestamp()
}

/// Neither `infinity` nor `-infinity`.
pub fn is_finite(t: Micros) -> bool {
    t != i64::MAX && t != i64::MIN
}

/// Tells one time zone of the session from another.
pub fn zone() -> usize {
    // SAFETY: reads backend state; zones are kept as long as the process lives.
    unsafe { pg_sys::session_timezone as usize }
}

pub const INFINITY: Micros = i64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub micros: i64,
    pub days: i32,
    pub months: i32,
}

impl Interval {
    /// Its length as comparisons see it: a month is 30 days, a day 24 hours.
    pub fn span(&self) -> i128 {
        (self.months as i128 * 30 + self.days as i128) * 86_400_000_000 + self.micros as i128
    }

    /// PostgreSQL 17 and later have infinite intervals; earlier ones never produce these values.
    pub fn is_infinite(&self) -> bool {
        (self.months == i32::MAX && self.days == i32::MAX && self.micros == i64::MAX)
            || (self.months == i32::MIN && self.days == i32::MIN && self.micros == i64::MIN)
    }

    fn from_pg(p: *const pg_sys::Interval) -> Self {
        // SAFETY: `p` comes from a datum declared as interval.
        unsafe {
            Interval {
                micros: (*p).time,
                days: (*p).day,
                months: (*p).month,
            }
        }
    }
}

impl Value {
    pub fn as_interval(self) -> Option<Interval> {
        if self.null {
            None
        } else {
            Some(Interval::from_pg(self.datum.cast_mut_ptr()))
        }
    }

    pub fn interval(i: &Interval) -> Value {
        // SAFETY: palloc returns memory of the size asked for, aligned for any type.
        unsafe {
            let p = pg_sys::palloc(size_of::<pg_sys::Interval>()).cast::<pg_sys::Interval>();
            (*p).time = i.micros;
            (*p).day = i.days;
            (*p).month = i.months;
            Value::raw(pg_sys::Datum::from(p), false)
        }
    }
}

/// `t + i`, with days and months by the session's calendar. Out of range raises PostgreSQL's error.
pub fn add(t: Micros, i: &Interval) -> Micros {
    if i.months == 0
        && i.days == 0
        && let Some(sum) = t.checked_add(i.micros)
    {
        return sum;
    }
    let interval = Value::interval(i);
    // SAFETY: the function takes a timestamptz and an interval and returns a timestamptz.
    unsafe {
        pg_sys::OidFunctionCall2Coll(
            pg_sys::Oid::from(pg_sys::F_TIMESTAMPTZ_PL_INTERVAL),
            pg_sys::InvalidOid,
            pg_sys::Datum::from(t),
            interval.datum,
        )
        .value() as i64
    }
}
