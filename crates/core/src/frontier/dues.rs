//! Rows that are not ready yet: when somebody has to look again, and where.
//!
//! A bucket holds the rows that fall due within one stretch of time: the earliest moment, the
//! span of ids, and a sum that tells when all of them were settled. Buckets are fine near and
//! coarse far: `L` levels of `S` each, level n of width `W`·16ⁿ, and one for all beyond.
//!
//! Invariants: a row entered and not left is in a bucket with `earliest` no later than its due
//! time, until that bucket is handed back as a span to look at. `earliest` is within the
//! stretch of its bucket. All-zero bytes are the fresh state. Nothing allocates or panics.

use super::spans::Span;

/// Rows with one due time (or, if `vague`, with that one as the earliest).
///
/// `sum` adds up a hash of each row, and entries and leaves of equal rows cancel exactly, in
/// whatever order they come. A plain count would not do: a row that leaves without having been
/// entered here would be counted for one that is still waiting.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch {
    pub due: i64,
    pub ids: Span,
    count: i64,
    sum: u64,
    vague: bool,
}

impl Batch {
    pub fn one(id: i64, due: i64) -> Self {
        Self {
            due,
            ids: Span::one(id),
            count: 1,
            sum: hash(id, due),
            vague: false,
        }
    }

    /// Rows of which it is only known that they are among `ids` and none is due before
    /// `earliest`. They cannot leave one by one.
    pub fn vague(ids: Span, earliest: i64) -> Self {
        Self {
            due: earliest,
            ids,
            count: 1,
            sum: 0,
            vague: true,
        }
    }

    #[must_use]
    pub fn plus(self, other: Batch) -> Self {
        Self {
            due: self.due.min(other.due),
            ids: self.ids.hull(other.ids),
            count: self.count.wrapping_add(other.count),
            sum: self.sum.wrapping_add(other.sum),
            vague: self.vague || other.vague || self.due != other.due,
        }
    }

    /// What is left to wait for when those of `gone` (of the same due time) are settled.
    #[must_use]
    pub fn minus(self, gone: &Batch) -> Self {
        Self {
            count: self.count.wrapping_sub(gone.count),
            sum: self.sum.wrapping_sub(gone.sum),
            vague: self.vague || gone.vague,
            ..self
        }
    }

    pub fn is_settled(&self) -> bool {
        self.count == 0 && self.sum == 0 && !self.vague
    }
}

/// Spreads a row over 64 bits (splitmix64), so that sums of different rows do not meet.
fn hash(id: i64, due: i64) -> u64 {
    fn mix(value: u64) -> u64 {
        let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    mix(mix(due.cast_unsigned()) ^ id.cast_unsigned())
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Bucket {
    used: u64,
    earliest: i64,
    ids: Span,
    count: i64,
    sum: u64,
    /// Holds rows that cannot leave; only its time ends it.
    vague: u64,
}

impl Bucket {
    const FREE: Bucket = Bucket {
        used: 0,
        earliest: 0,
        ids: Span::new(0, 0),
        count: 0,
        sum: 0,
        vague: 0,
    };

    fn is_used(&self) -> bool {
        self.used != 0
    }

    fn enter(&mut self, batch: &Batch) {
        if !self.is_used() {
            *self = Bucket {
                used: 1,
                earliest: batch.due,
                ..Bucket::FREE
            };
        }
        self.earliest = self.earliest.min(batch.due);
        self.ids = self.ids.hull(batch.ids);
        self.count = self.count.wrapping_add(batch.count);
        self.sum = self.sum.wrapping_add(batch.sum);
        self.vague |= u64::from(batch.vague);
    }

    fn may_hold(&self, batch: &Batch) -> bool {
        self.is_used()
            && self.earliest <= batch.due
            && self.ids.lo <= batch.ids.lo
            && batch.ids.hi <= self.ids.hi
    }

    /// Takes out; true if nobody is left.
    fn leave(&mut self, batch: &Batch) -> bool {
        self.count = self.count.wrapping_sub(batch.count);
        self.sum = self.sum.wrapping_sub(batch.sum);
        self.vague |= u64::from(batch.vague);
        self.count == 0 && self.sum == 0 && self.vague == 0
    }
}

#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dues<const L: usize, const S: usize, const W: i64> {
    /// How many buckets are used, and the earliest of all while there are any.
    used: u64,
    earliest: i64,
    levels: [[Bucket; S]; L],
    beyond: Bucket,
}

impl<const L: usize, const S: usize, const W: i64> Default for Dues<L, S, W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const L: usize, const S: usize, const W: i64> Dues<L, S, W> {
    const WIDENING: i64 = 16;
    const SLOTS: i64 = S as i64;

    pub const fn new() -> Self {
        const { assert!(S > 0 && W > 0) };
        Self {
            used: 0,
            earliest: 0,
            levels: [[Bucket::FREE; S]; L],
            beyond: Bucket::FREE,
        }
    }

    pub fn next(&self) -> Option<i64> {
        (self.used > 0).then_some(self.earliest)
    }

    /// Whether somebody will look at the row by its due time.
    pub fn hold(&self, id: i64, due: i64) -> bool {
        self.buckets()
            .any(|b| b.is_used() && b.earliest <= due && b.ids.holds(id))
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.levels.iter().flatten().chain([&self.beyond])
    }

    /// Puts rows that are due later than now into their bucket. The slot may still hold rows of
    /// an older stretch, which is over (or the clock was set back): their span is handed back,
    /// to be looked at.
    pub fn enter(&mut self, now: i64, batch: &Batch) -> Option<Span> {
        let (width, bucket) = Self::of(&mut self.levels, &mut self.beyond, now, batch.due);
        let stale = bucket.is_used()
            && width.is_some_and(|w| bucket.earliest.div_euclid(w) != batch.due.div_euclid(w));
        let old = stale.then(|| std::mem::take(bucket).ids);
        let fresh = !bucket.is_used();
        bucket.enter(batch);
        if old.is_some() {
            self.recount();
        } else if fresh {
            self.earliest = self.next().map_or(batch.due, |e| e.min(batch.due));
            self.used = self.used.saturating_add(1);
        } else {
            self.earliest = self.earliest.min(batch.due);
        }
        old
    }

    /// The bucket for a due time as seen from now: of the finest level that reaches so far.
    fn of<'a>(
        levels: &'a mut [[Bucket; S]; L],
        beyond: &'a mut Bucket,
        now: i64,
        due: i64,
    ) -> (Option<i64>, &'a mut Bucket) {
        let mut width = W;
        for level in levels {
            let stretch = due.div_euclid(width);
            if stretch.saturating_sub(now.div_euclid(width)) < Self::SLOTS
                && let Some(bucket) = level.get_mut(Self::slot(stretch))
            {
                return (Some(width), bucket);
            }
            width = width.saturating_mul(Self::WIDENING);
        }
        (None, beyond)
    }

    fn slot(stretch: i64) -> usize {
        usize::try_from(stretch.rem_euclid(Self::SLOTS)).unwrap_or(0)
    }

    /// Takes out rows that were entered and need no look any more. When they are not found, or
    /// found in the wrong one of several buckets, that costs a look for nothing, later.
    pub fn leave(&mut self, batch: &Batch) {
        if self.used == 0 {
            return;
        }
        let mut width = W;
        let mut freed = None;
        for level in &mut self.levels {
            let stretch = batch.due.div_euclid(width);
            if let Some(bucket) = level.get_mut(Self::slot(stretch))
                && bucket.may_hold(batch)
                && bucket.earliest.div_euclid(width) == stretch
            {
                freed = Some(bucket);
                break;
            }
            width = width.saturating_mul(Self::WIDENING);
        }
        let bucket = freed.unwrap_or(&mut self.beyond);
        if bucket.may_hold(batch) && bucket.leave(batch) {
            let was = std::mem::take(bucket).earliest;
            self.used = self.used.saturating_sub(1);
            if self.used == 0 {
                self.earliest = 0;
            } else if was <= self.earliest {
                self.recount();
            }
        }
    }

    /// Empties one bucket that holds something due, and says where to look.
    pub fn take_due(&mut self, now: i64) -> Option<Span> {
        if self.next()? > now {
            return None;
        }
        let levels = self.levels.iter_mut().flatten();
        let bucket = levels
            .chain([&mut self.beyond])
            .find(|b| b.is_used() && b.earliest <= now);
        let ids = bucket.map(|b| std::mem::take(b).ids);
        self.recount();
        ids
    }

    fn recount(&mut self) {
        let mut used: u64 = 0;
        let mut earliest = i64::MAX;
        for bucket in self.buckets().filter(|b| b.is_used()) {
            used = used.saturating_add(1);
            earliest = earliest.min(bucket.earliest);
        }
        self.used = used;
        self.earliest = if used > 0 { earliest } else { 0 };
    }
}
