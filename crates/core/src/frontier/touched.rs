//! What the running transaction did to the rows of one lane, so that its end can be told to the
//! lane: at commit what each change asks for, at abort (of all of it or of a savepoint) that
//! every row it held is free again.
//!
//! Lives in the backend. Recording may allocate; `commit`, `abort` and, but for the lists of
//! one savepoint going into another's, `release` do not. None of it grows with the number of
//! rows: ids are kept as a few spans, due times as batches that are made coarser when there are
//! too many.

use super::{Batch, Span, SpanSet};

/// Ids of a transaction, as a few spans.
pub type Ids = SpanSet<8, 64>;

/// Rows with due times, as batches: those of one moment together. Also what a reader collects
/// about the rows that it passes because they are not due.
#[derive(Clone, Debug, Default)]
pub struct Dated {
    batches: Vec<Batch>,
}

impl Dated {
    const MOST: usize = 1024;
    /// How far back a batch of the same moment is searched: a statement gives all its rows one
    /// due time, or few.
    const RECENT: usize = 8;

    pub fn add(&mut self, batch: Batch) {
        let recent = self.batches.iter_mut().rev().take(Self::RECENT);
        for one in recent {
            if one.due == batch.due {
                *one = one.plus(batch);
                return;
            }
        }
        if self.batches.len() >= Self::MOST {
            self.coarsen();
        }
        self.batches.push(batch);
    }

    pub fn add_one(&mut self, id: i64, due: i64) {
        self.add(Batch::one(id, due));
    }

    /// Halves the list, by taking neighbours in time together.
    fn coarsen(&mut self) {
        self.batches.sort_unstable_by_key(|b| b.due);
        let pairs = self.batches.chunks(2);
        self.batches = pairs
            .filter_map(|pair| pair.iter().copied().reduce(Batch::plus))
            .collect();
    }

    /// Takes a row out that was put in here; false if it was not.
    fn cancel(&mut self, gone: &Batch) -> bool {
        let place = self
            .batches
            .iter()
            .position(|b| b.due == gone.due && b.ids.lo <= gone.ids.lo && gone.ids.hi <= b.ids.hi);
        let Some((place, batch)) = place.and_then(|p| Some((p, self.batches.get_mut(p)?))) else {
            return false;
        };
        *batch = batch.minus(gone);
        if batch.is_settled() {
            self.batches.swap_remove(place);
        }
        true
    }

    pub fn iter(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn clear(&mut self) {
        self.batches.clear();
    }
}

/// What to tell the lane, under its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Report(Span),
    Enter(Batch),
    Leave(Batch),
}

#[derive(Clone, Debug, Default)]
struct Level {
    level: i32,
    /// Rows that others may have passed because we hold them.
    held: Ids,
    /// Rows that are, or may be, ready once we commit.
    ready: Ids,
    waiting: Dated,
    left: Dated,
}

impl Level {
    fn leave(&mut self, gone: &Batch) {
        // One that is forgotten costs a look for nothing.
        if !self.waiting.cancel(gone) && self.left.batches.len() < Dated::MOST {
            self.left.add(*gone);
        }
    }

    fn take_in(&mut self, inner: &Level) {
        for span in inner.held.spans() {
            self.held.add(*span);
        }
        for span in inner.ready.spans() {
            self.ready.add(*span);
        }
        // First what left: a row that was only touched left a moment and waits for the same again,
        // and must not cancel that.
        for batch in inner.left.iter() {
            self.leave(batch);
        }
        for batch in inner.waiting.iter() {
            self.waiting.add(*batch);
        }
    }
}

/// By level of nesting, as `GetCurrentTransactionNestLevel` counts them.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    levels: Vec<Level>,
}

impl Touched {
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// A new row, ready at commit. Nobody can have passed it before.
    pub fn sent(&mut self, level: i32, id: i64) {
        self.on(level, |l| l.ready.add(Span::one(id)));
    }

    /// A new row that waits for its time.
    pub fn sent_for(&mut self, level: i32, id: i64, due: i64) {
        self.on(level, |l| l.waiting.add_one(id, due));
    }

    /// A row that was there and may be ready at commit; `was` is the due time it had.
    pub fn ready(&mut self, level: i32, id: i64, was: Option<i64>) {
        self.change(level, id, was, |l| l.ready.add(Span::one(id)));
    }

    /// A row that was there and waits now: leased, put off, extended.
    pub fn waits(&mut self, level: i32, id: i64, due: i64, was: Option<i64>) {
        self.change(level, id, was, |l| l.waiting.add_one(id, due));
    }

    /// A row that was there and is removed.
    pub fn gone(&mut self, level: i32, id: i64, was: Option<i64>) {
        self.change(level, id, was, |_| ());
    }

    /// A row that was locked and perhaps left as it is.
    pub fn locked(&mut self, level: i32, id: i64) {
        self.ready(level, id, None);
    }

    fn change(&mut self, level: i32, id: i64, was: Option<i64>, what: impl FnOnce(&mut Level)) {
        self.on(level, |l| {
            l.held.add(Span::one(id));
            if let Some(due) = was {
                l.leave(&Batch::one(id, due));
            }
            what(l);
        });
    }

    fn on(&mut self, level: i32, what: impl FnOnce(&mut Level)) {
        let at = self.levels.partition_point(|l| l.level < level);
        if self.levels.get(at).is_none_or(|l| l.level != level) {
            let fresh = Level {
                level,
                ..Level::default()
            };
            self.levels.insert(at, fresh);
        }
        if let Some(found) = self.levels.get_mut(at) {
            what(found);
        }
    }

    /// The savepoint of this level was released: what it did is now its parent's.
    pub fn release(&mut self, level: i32) {
        let parent = level.saturating_sub(1);
        while let Some(mut inner) = self.levels.pop_if(|l| l.level >= level) {
            match self.levels.last_mut() {
                Some(outer) if outer.level >= parent => outer.take_in(&inner),
                _ => {
                    inner.level = parent;
                    self.levels.push(inner);
                    return;
                }
            }
        }
    }

    /// The savepoint of this level was rolled back, and all within it: reports what it held.
    pub fn abort_to(&mut self, level: i32, mut report: impl FnMut(Span)) {
        while let Some(inner) = self.levels.pop_if(|l| l.level >= level) {
            inner.held.spans().iter().for_each(|span| report(*span));
        }
    }

    pub fn abort(&mut self, report: impl FnMut(Span)) {
        self.abort_to(i32::MIN, report);
    }

    /// What it has made ready, or what is due by now: the transaction itself sees that already.
    pub fn pending(&self, now: i64) -> impl Iterator<Item = Span> + '_ {
        self.levels.iter().flat_map(move |l| {
            let due = l.waiting.iter().filter(move |b| b.due <= now);
            l.ready.spans().iter().copied().chain(due.map(|b| b.ids))
        })
    }

    /// All that the transaction held or has written, for the list of prepared ones: also new rows
    /// that wait, which nobody else would enter when they are committed.
    pub fn held(&self) -> Ids {
        let mut all = Ids::new();
        for level in &self.levels {
            let kept = level.held.spans().iter().chain(level.ready.spans());
            let waiting = level.waiting.iter().map(|b| &b.ids);
            kept.chain(waiting).for_each(|span| all.add(*span));
        }
        all
    }

    /// Everything is committed: tells what it asks for, and forgets it. Rows enter before rows
    /// leave, so that what was taken and settled within the transaction cancels out.
    pub fn commit(&mut self, mut tell: impl FnMut(Effect)) {
        for level in &self.levels {
            level
                .ready
                .spans()
                .iter()
                .for_each(|s| tell(Effect::Report(*s)));
            level.waiting.iter().for_each(|b| tell(Effect::Enter(*b)));
        }
        for level in &self.levels {
            level.left.iter().for_each(|b| tell(Effect::Leave(*b)));
        }
        self.levels.clear();
    }
}
