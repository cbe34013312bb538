//! Where a wait is counted: level n has stretches of 4ⁿ units (of a second and a little), and
//! takes the waits for which its slots reach from when they may have begun to when they end.
//! So a wait lasts at least four stretches of its level, but on the finest.

use super::Wait;

/// A unit of time is so many binary digits of microseconds: 1.05 s.
const UNIT: u32 = 20;
/// A stretch of the next level is four of this one.
const WIDENING: u32 = 2;
pub const SLOTS: usize = 16;
/// The widest level reaches 45 days.
pub const LEVELS: usize = 10;
/// The level of waits that end beyond all others.
pub const FAR: u8 = u8::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Leased,
    Delayed,
}

/// A stretch of time on one level, numbered from the beginning of time. Number 0 is over since
/// ever, and marks a slot that was never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    pub kind: Kind,
    pub level: u8,
    pub stretch: u32,
}

fn shift(level: u8) -> u32 {
    UNIT.saturating_add(WIDENING.saturating_mul(u32::from(level)))
}

impl Cell {
    /// None: it is over since ever.
    #[inline]
    pub fn of(wait: &Wait) -> Option<Cell> {
        let found = (0..LEVELS as u8).find_map(|level| {
            let bits = shift(level);
            let stretch = wait.due >> bits;
            let reach = stretch.saturating_sub(wait.since >> bits);
            (reach < SLOTS as i64).then_some((level, stretch))
        });
        let Some((level, stretch)) = found else {
            return Some(Cell::far(wait.kind));
        };
        if stretch <= 0 {
            return None;
        }
        // Far as well what is due in the year 2142, when the numbers of seconds end.
        Some(
            u32::try_from(stretch).map_or(Cell::far(wait.kind), |stretch| Cell {
                kind: wait.kind,
                level,
                stretch,
            }),
        )
    }

    pub const fn far(kind: Kind) -> Cell {
        Cell {
            kind,
            level: FAR,
            stretch: u32::MAX,
        }
    }

    pub(super) fn slot(self) -> usize {
        self.stretch as usize % SLOTS
    }

    fn present(self, now: i64) -> i64 {
        now >> shift(self.level)
    }

    /// When its stretch does; none where it has no bounds.
    pub fn begins(self) -> Option<i64> {
        (self.level != FAR).then(|| i64::from(self.stretch) << shift(self.level))
    }

    /// All of its rows are due.
    pub fn is_over(self, now: i64) -> bool {
        self.level != FAR && i64::from(self.stretch) < self.present(now)
    }

    /// Some of its rows may be due, and some not.
    pub fn is_open(self, now: i64) -> bool {
        self.level != FAR && i64::from(self.stretch) == self.present(now)
    }

    /// How much of its time is still to come, in thousandths.
    pub fn rest(self, now: i64) -> i64 {
        let width = 1_i64
            .checked_shl(shift(self.level))
            .unwrap_or(i64::MAX)
            .max(1);
        let gone = now.rem_euclid(width);
        ((i128::from(width.saturating_sub(gone)) * 1000) / i128::from(width)) as i64
    }
}
