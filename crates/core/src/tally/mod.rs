//! How many messages a queue has in which state, kept up to date by whoever changes it.
//!
//! Rows are counted as they enter and leave. Those that wait (leased or delayed) are counted
//! beside, by when their wait ends, so that the passing of time alone makes them ready: ready is
//! what does not wait. Some will not be handed out again once their wait is over, because a
//! failure more is one too many: these are counted within each figure as `last`.
//!
//! Waits are kept in buckets, fine for short waits and coarse for long ones. A bucket is over when
//! its stretch of time is; one that `now` falls into is *open*: what it holds has to be looked at
//! row by row, for which it keeps the ids, as two spans.
//!
//! Invariants:
//! - Which bucket a row is in follows from the row alone (`Cell::of`), so that it leaves the one
//!   it entered, whenever that is.
//! - Adding commutes. Sessions tell of their changes after these can be seen by others, so that a
//!   row may leave before it has entered: figures are signed, and right when all have told.
//! - A wait begins no later than now. So at any moment the stretches of a level that are not
//!   over fit its slots, and whatever else is in a slot is over.
//!
//! All-zero bytes are the empty tally. Nothing here allocates or panics.

mod cells;
mod counting;
mod ids;
mod leases;

pub use cells::{Cell, FAR, Kind, LEVELS, SLOTS};
pub use counting::{Counting, IN_PROGRESS, Moment, Stamp};
pub use ids::Ids;
pub use leases::Leases;

use ids::Packed;

/// What a row counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub wait: Option<Wait>,
    /// Once it does not wait, it will not be handed out.
    pub is_last: bool,
}

/// Until when a row waits, and since when it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub kind: Kind,
    pub due: i64,
    pub since: i64,
}

/// Rows that come (or, negative, go), all together or those of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// None: rows, whether or not they wait.
    pub cell: Option<Cell>,
    pub n: i64,
    /// How many of them are `last`.
    pub last: i64,
    pub ids: Ids,
    /// No row is due before that.
    pub earliest: i64,
}

impl Part {
    /// No rows. Which rows they are, is told of those that wait only.
    const ROWS: Part = Part {
        cell: None,
        n: 0,
        last: 0,
        ids: Ids::NONE,
        earliest: i64::MAX,
    };

    pub fn is_nothing(&self) -> bool {
        self.n == 0 && self.last == 0
    }

    /// Takes rows of the same cell in; false if they are of another.
    #[inline]
    pub fn merge(&mut self, other: &Part) -> bool {
        if self.cell != other.cell {
            return false;
        }
        self.n = self.n.saturating_add(other.n);
        self.last = self.last.saturating_add(other.last);
        self.ids.take_in(&other.ids);
        self.earliest = self.earliest.min(other.earliest);
        true
    }
}

/// What it adds to all when a row that counted as `was` counts as `now`: rows that stay rows are
/// not told of as such.
#[inline]
pub fn changes(
    id: i64,
    was: Option<Standing>,
    now: Option<Standing>,
) -> impl Iterator<Item = Part> + use<> {
    let sum = |of: fn(&Standing) -> bool| {
        let one = |s: &Option<Standing>| i64::from(s.as_ref().is_some_and(of));
        one(&now) - one(&was)
    };
    let rows = Part {
        n: sum(|_| true),
        last: sum(|s| s.is_last),
        ..Part::ROWS
    };
    let wait = |s: Option<Standing>, sign| s.and_then(|s| s.wait_part(id, sign));
    [
        Some(rows).filter(|p| !p.is_nothing()),
        wait(now, 1),
        wait(was, -1),
    ]
    .into_iter()
    .flatten()
}

impl Standing {
    fn last(&self, sign: i64) -> i64 {
        if self.is_last { sign } else { 0 }
    }

    #[inline]
    fn wait_part(&self, id: i64, sign: i64) -> Option<Part> {
        let wait = self.wait?;
        Some(Part {
            cell: Some(Cell::of(&wait)?),
            n: sign,
            last: self.last(sign),
            ids: Ids::one(id),
            earliest: wait.due,
        })
    }
}

/// Rows that wait and fall due within one stretch of time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    ids: Packed,
    stretch: u32,
    n: i32,
    last: i32,
}

fn narrow(n: i64) -> i32 {
    i32::try_from(n).unwrap_or(if n < 0 { i32::MIN } else { i32::MAX })
}

/// Waits that end too far away for any level.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Far {
    n: i64,
    last: i64,
    /// None of them ends before that; 0 while there never was one.
    earliest: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waits {
    levels: [[Bucket; SLOTS]; LEVELS],
    far: Far,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    n: i64,
    last: i64,
    waits: [Waits; 2],
}

/// Sessions look at the clock, and then wait for the lock: one may be behind another by so much.
const LATE: i64 = 1_000_000;

/// The clock was set back: what was kept by it means nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSetBack;

impl Tally {
    pub fn add(&mut self, part: &Part, now: i64) -> Result<(), ClockSetBack> {
        let Some(cell) = part.cell else {
            self.n = self.n.saturating_add(part.n);
            self.last = self.last.saturating_add(part.last);
            return Ok(());
        };
        let [leased, delayed] = &mut self.waits;
        let waits = match cell.kind {
            Kind::Leased => leased,
            Kind::Delayed => delayed,
        };
        if cell.level == FAR {
            let far = &mut waits.far;
            far.n = far.n.saturating_add(part.n);
            far.last = far.last.saturating_add(part.last);
            if far.earliest == 0 || part.earliest < far.earliest {
                far.earliest = part.earliest;
            }
            return Ok(());
        }
        let level = waits.levels.get_mut(usize::from(cell.level));
        let Some(bucket) = level.and_then(|level| level.get_mut(cell.slot())) else {
            return Ok(());
        };
        if cell.is_over(now) {
            return Ok(());
        }
        if bucket.stretch != cell.stretch {
            let kept = Cell {
                stretch: bucket.stretch,
                ..cell
            };
            let older = if kept.stretch < cell.stretch {
                kept
            } else {
                cell
            };
            if !older.is_over(now.saturating_add(LATE)) {
                return Err(ClockSetBack);
            }
            if older == cell {
                return Ok(());
            }
            *bucket = Bucket {
                ids: Packed::of(&part.ids),
                stretch: cell.stretch,
                ..Bucket::default()
            };
        } else {
            let mut ids = bucket.ids.ids();
            ids.take_in(&part.ids);
            bucket.ids = Packed::of(&ids);
        }
        bucket.n = bucket.n.saturating_add(narrow(part.n));
        bucket.last = bucket.last.saturating_add(narrow(part.last));
        Ok(())
    }

    /// Adds all that another has.
    pub fn absorb(&mut self, other: &Tally, now: i64) -> Result<(), ClockSetBack> {
        self.n = self.n.saturating_add(other.n);
        self.last = self.last.saturating_add(other.last);
        other.parts().try_for_each(|part| self.add(&part, now))
    }

    /// What it has of waits.
    fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let kinds = [Kind::Leased, Kind::Delayed];
        kinds
            .into_iter()
            .zip(&self.waits)
            .flat_map(|(kind, waits)| {
                let far = &waits.far;
                let far = (far.earliest != 0).then_some(Part {
                    cell: Some(Cell::far(kind)),
                    n: far.n,
                    last: far.last,
                    ids: Ids::NONE,
                    earliest: far.earliest,
                });
                let near = waits.levels.iter().zip(0..).flat_map(move |(level, n)| {
                    level.iter().filter(|b| b.stretch != 0).map(move |b| Part {
                        cell: Some(Cell {
                            kind,
                            level: n,
                            stretch: b.stretch,
                        }),
                        n: i64::from(b.n),
                        last: i64::from(b.last),
                        ids: b.ids.ids(),
                        earliest: i64::MAX,
                    })
                });
                near.chain(far)
            })
    }

    /// What it says now; none when that cannot be told any more.
    pub fn read(&self, now: i64) -> Option<Reading> {
        let mut reading = Reading {
            n: self.n,
            last: self.last,
            ..Reading::default()
        };
        for waits in &self.waits {
            if waits.far.earliest != 0 && waits.far.earliest <= now {
                return None;
            }
        }
        self.parts().for_each(|part| reading.add(&part, now));
        Some(reading)
    }
}

/// Rows that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub n: i64,
    pub last: i64,
}

/// Rows of which some may wait and some not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub cell: Cell,
    pub n: i64,
    pub last: i64,
    pub ids: Ids,
}

/// What a tally says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub n: i64,
    pub last: i64,
    pub leased: Waiting,
    pub delayed: Waiting,
    /// At most one a level and kind, and so few that a table of them is not worth it.
    open: [Option<Open>; 2 * LEVELS],
}

impl Reading {
    fn waiting(&mut self, kind: Kind) -> &mut Waiting {
        match kind {
            Kind::Leased => &mut self.leased,
            Kind::Delayed => &mut self.delayed,
        }
    }

    /// Adds what no tally knows yet.
    pub fn add(&mut self, part: &Part, now: i64) {
        let Some(cell) = part.cell else {
            self.n = self.n.saturating_add(part.n);
            self.last = self.last.saturating_add(part.last);
            return;
        };
        if cell.is_over(now) || part.is_nothing() {
            return;
        }
        if !cell.is_open(now) {
            self.waits(cell.kind, part.n, part.last);
            return;
        }
        let same = |o: &Option<Open>| o.is_none_or(|o| o.cell == cell);
        if let Some(place) = self.open.iter_mut().find(|o| same(o)) {
            let open = place.get_or_insert(Open {
                cell,
                n: 0,
                last: 0,
                ids: part.ids,
            });
            open.n = open.n.saturating_add(part.n);
            open.last = open.last.saturating_add(part.last);
            open.ids.take_in(&part.ids);
        }
    }

    /// So many more rows of that kind wait.
    pub fn waits(&mut self, kind: Kind, n: i64, last: i64) {
        let waiting = self.waiting(kind);
        waiting.n = waiting.n.saturating_add(n);
        waiting.last = waiting.last.saturating_add(last);
    }

    /// What has to be looked at: one of these at a time, until there is none.
    pub fn take_open(&mut self) -> Option<Open> {
        let taken = self.open.iter_mut().find_map(Option::take)?;
        if taken.n == 0 && taken.last == 0 {
            return self.take_open();
        }
        Some(taken)
    }

    /// How many do not wait and may be handed out.
    pub fn ready(&self) -> i64 {
        let [leased, delayed] = [self.leased, self.delayed].map(|w| w.n.saturating_sub(w.last));
        let may = self.n.saturating_sub(self.last);
        may.saturating_sub(leased).saturating_sub(delayed)
    }
}
