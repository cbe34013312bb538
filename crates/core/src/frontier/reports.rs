//! What has been reported lately, so that a reader can tell what its look may have missed. The
//! last `R` reports are kept as they were, the last `R` groups of `R` reports as one span each,
//! and so on up to `D` rings: a slow reader then knows less exactly, and only one that is
//! beyond the last ring nothing.
//!
//! All-zero bytes are the fresh state. Nothing here allocates or panics.

use super::spans::{Span, SpanSet};

#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reports<const R: usize, const D: usize> {
    made: u64,
    rings: [[Span; R]; D],
}

impl<const R: usize, const D: usize> Default for Reports<R, D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const R: usize, const D: usize> Reports<R, D> {
    const SIZE: u64 = R as u64;

    pub const fn new() -> Self {
        const { assert!(R > 1 && D > 0) };
        Self {
            made: 0,
            rings: [[Span::new(0, 0); R]; D],
        }
    }

    /// How many there have been.
    pub fn made(&self) -> u64 {
        self.made
    }

    fn place(group: u64) -> usize {
        usize::try_from(group % Self::SIZE).unwrap_or(0)
    }

    pub fn record(&mut self, span: Span) {
        let mut unit: u64 = 1;
        for ring in &mut self.rings {
            if let Some(group) = ring.get_mut(Self::place(self.made / unit)) {
                *group = if self.made.is_multiple_of(unit) {
                    span
                } else {
                    group.hull(span)
                };
            }
            unit = unit.saturating_mul(Self::SIZE);
        }
        self.made = self.made.saturating_add(1);
    }

    /// Collects what was reported within `of` after the first `before` reports; false if that
    /// is no longer known.
    pub fn since<const K: usize, const NEAR: i64>(
        &self,
        before: u64,
        of: Span,
        found: &mut SpanSet<K, NEAR>,
    ) -> bool {
        let mut unit: u64 = 1;
        // Everything from here on is found.
        let mut from = self.made;
        for ring in &self.rings {
            if from <= before {
                break;
            }
            let newest = self.made.saturating_sub(1) / unit;
            let oldest = newest.saturating_sub(Self::SIZE.saturating_sub(1));
            let first = oldest.max(before / unit);
            let last = from.saturating_sub(1) / unit;
            for group in first..=last {
                let span = ring.get(Self::place(group)).copied().unwrap_or_default();
                found.add(span.clip(of));
            }
            from = from.min(first.saturating_mul(unit));
            unit = unit.saturating_mul(Self::SIZE);
        }
        from <= before && before <= self.made
    }
}
