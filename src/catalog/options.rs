//! The options of a queue, as stored and as asked for.

use super::limits::Limits;
use crate::pg::array;
use crate::pg::spi::Rows;
use crate::pg::time::{Interval, Micros};
use crate::pg::value::{Oid, Ty, Value};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overflow {
    Reject,
    DropOldest,
}

/// Which messages are handed out one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ordering {
    None,
    /// Those of one `group_key`.
    Group,
    /// All of them.
    Strict,
}

#[derive(Clone)]
pub struct Options {
    pub visibility: Interval,
    pub max_failures: Option<i32>,
    pub dead_letter: Option<Oid>,
    pub backoff: Vec<Interval>,
    pub ttl: Option<Interval>,
    pub dedup_window: Interval,
    pub max_length: Option<i64>,
    pub overflow: Overflow,
    pub max_bytes: i64,
    pub archive_retention: Option<Interval>,
    pub notify: bool,
    /// How many messages a segment takes.
    pub segment_size: Option<i32>,
    pub ordering: Ordering,
    /// One session at a time is handed messages.
    pub single_active: bool,
    /// A header: those who have a value of it, the tenants, take turns.
    pub fair_by: Option<String>,
    pub limits: Limits,
    pub paused: bool,
    pub paused_until: Option<Micros>,
}

/// The columns that `Queue` is made of, in the order that `from_row` reads.
pub(super) const COLUMNS: &str = "n, archive::pg_catalog.oid, visibility, max_failures, \
     dead_letter::pg_catalog.oid, backoff, ttl, dedup_window, max_length, overflow, max_bytes, \
     archive_retention, notify, paused, paused_until, created_at, \
     segment_size, ordering, single_active, fair_by";
/// How many columns that are: after them come those of the limits.
const LIMITS: usize = 20;

const SECOND: i64 = 1_000_000;
/// A window of a thousand years or more is for as long as the message is in the queue.
const FOREVER: i128 = 1000 * 360 * 86_400 * SECOND as i128;

impl Default for Options {
    fn default() -> Self {
        let seconds = |s: i64| Interval {
            micros: s * SECOND,
            days: 0,
            months: 0,
        };
        Options {
            visibility: seconds(30),
            max_failures: None,
            dead_letter: None,
            backoff: Vec::new(),
            ttl: None,
            dedup_window: seconds(300),
            max_length: None,
            overflow: Overflow::Reject,
            max_bytes: 1 << 20,
            archive_retention: None,
            notify: false,
            segment_size: None,
            ordering: Ordering::None,
            single_active: false,
            fair_by: None,
            limits: Limits::default(),
            paused: false,
            paused_until: None,
        }
    }
}

impl Options {
    pub(super) fn from_row(rows: &Rows) -> Self {
        let at = |col| rows.get(0, col);
        let d = Options::default();
        let backoff = array::elements(at(5), Ty::Interval)
            .ok()
            .flatten()
            .unwrap_or_default();
        Options {
            visibility: at(2).as_interval().unwrap_or(d.visibility),
            max_failures: at(3).as_int4(),
            dead_letter: at(4).as_oid(),
            backoff: backoff.into_iter().filter_map(Value::as_interval).collect(),
            ttl: at(6).as_interval(),
            dedup_window: at(7).as_interval().unwrap_or(d.dedup_window),
            max_length: at(8).as_int8(),
            overflow: match at(9).as_text().as_deref() {
                Some("drop_oldest") => Overflow::DropOldest,
                _ => Overflow::Reject,
            },
            max_bytes: at(10).as_int4().map_or(d.max_bytes, i64::from),
            archive_retention: at(11).as_interval(),
            notify: at(12).as_bool().unwrap_or(false),
            segment_size: at(16).as_int4(),
            ordering: at(17)
                .as_text()
                .and_then(|name| Ordering::named(&name))
                .unwrap_or(d.ordering),
            single_active: at(18).as_bool().unwrap_or(false),
            fair_by: at(19).as_text(),
            limits: Limits::from_row(rows, LIMITS),
            paused: at(13).as_bool().unwrap_or(false),
            paused_until: at(14).as_timestamptz(),
        }
    }

    pub fn is_paused(&self, now: Micros) -> bool {
        self.paused && self.paused_until.is_none_or(|until| until > now)
    }

    /// Whether messages of a group are handed out one after the other.
    pub fn has_groups(&self) -> bool {
        self.ordering != Ordering::None
    }

    /// Whether tenants take turns.
    pub fn is_fair(&self) -> bool {
        self.fair_by.is_some()
    }

    /// Whether messages are looked up by what they belong to.
    pub fn has_groups_index(&self) -> bool {
        self.has_groups() || self.is_fair()
    }

    /// Whether a message that has failed so often may be handed out again.
    pub fn allows(&self, failures: i32) -> bool {
        self.max_failures.is_none_or(|max| failures < max)
    }

    /// Deduplication for as long as the message is in the queue.
    pub fn dedups_forever(&self) -> bool {
        self.dedup_window.span() >= FOREVER
    }
}

impl Ordering {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Ordering::None),
            "group" => Some(Ordering::Group),
            "strict" => Some(Ordering::Strict),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Ordering::None => "none",
            Ordering::Group => "group",
            Ordering::Strict => "strict",
        }
    }
}

impl Overflow {
    pub fn as_str(self) -> &'static str {
        match self {
            Overflow::Reject => "reject",
            Overflow::DropOldest => "drop_oldest",
        }
    }
}

/// What an option shall become.
#[derive(Clone)]
pub enum Setting<T> {
    Keep,
    Reset,
    To(T),
}

impl<T> Setting<T> {
    pub fn over(self, present: T, default: T) -> T {
        match self {
            Setting::Keep => present,
            Setting::Reset => default,
            Setting::To(v) => v,
        }
    }

    pub fn over_opt(self, present: Option<T>) -> Option<T> {
        match self {
            Setting::Keep => present,
            Setting::Reset => None,
            Setting::To(v) => Some(v),
        }
    }
}

/// The options named in a call, checked one by one but not yet against each other.
pub struct Settings {
    pub visibility: Setting<Interval>,
    pub max_failures: Setting<i32>,
    pub dead_letter: Setting<Oid>,
    pub backoff: Setting<Vec<Interval>>,
    pub ttl: Setting<Interval>,
    pub dedup_window: Setting<Interval>,
    pub max_length: Setting<i64>,
    pub overflow: Setting<Overflow>,
    pub max_bytes: Setting<i64>,
    pub archive_retention: Setting<Interval>,
    pub notify: Setting<bool>,
    pub segment_size: Setting<i32>,
    pub single_active: Setting<bool>,
}

impl Settings {
    pub fn over(self, p: &Options) -> Options {
        let d = Options::default();
        Options {
            visibility: self.visibility.over(p.visibility, d.visibility),
            max_failures: self.max_failures.over_opt(p.max_failures),
            dead_letter: self.dead_letter.over_opt(p.dead_letter),
            backoff: self.backoff.over(p.backoff.clone(), d.backoff),
            ttl: self.ttl.over_opt(p.ttl),
            dedup_window: self.dedup_window.over(p.dedup_window, d.dedup_window),
            max_length: self.max_length.over_opt(p.max_length),
            overflow: self.overflow.over(p.overflow, d.overflow),
            max_bytes: self.max_bytes.over(p.max_bytes, d.max_bytes),
            archive_retention: self.archive_retention.over_opt(p.archive_retention),
            notify: self.notify.over(p.notify, d.notify),
            segment_size: self.segment_size.over_opt(p.segment_size),
            ordering: p.ordering,
            single_active: self.single_active.over(p.single_active, d.single_active),
            fair_by: p.fair_by.clone(),
            limits: p.limits.clone(),
            paused: p.paused,
            paused_until: p.paused_until,
        }
    }
}
