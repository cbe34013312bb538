//! What has been reported lately, so that a reader can tell what its look may have missed. The
//! last `R` reports are kept as they were, and the last `R` groups of `R` reports as one span
//! each: a slow reader then knows less exactly, and a very slow one nothing.
//!
//! All-zero bytes are the fresh state. Nothing here allocates or panics.

use super::spans::{Span, SpanSet};

#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reports<const R: usize> {
    made: u64,
    single: [Span; R],
    groups: [Span; R],
}

impl<const R: usize> Default for Reports<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const R: usize> Reports<R> {
    const SIZE: u64 = R as u64;

    pub const fn new() -> Self {
        const { assert!(R > 0) };
        Self {
            made: 0,
            single: [Span::new(0, 0); R],
            groups: [Span::new(0, 0); R],
        }
    }

    /// How many there have been.
    pub fn made(&self) -> u64 {
        self.made
    }

    fn place(ring: &[Span; R], number: u64) -> Span {
        let at = usize::try_from(number % Self::SIZE).unwrap_or(0);
        ring.get(at).copied().unwrap_or_default()
    }

    fn put(ring: &mut [Span; R], number: u64, span: Span) {
        let at = usize::try_from(number % Self::SIZE).unwrap_or(0);
        if let Some(place) = ring.get_mut(at) {
            *place = span;
        }
    }

    pub fn record(&mut self, span: Span) {
        let group = self.made / Self::SIZE;
        let begun = if self.made.is_multiple_of(Self::SIZE) {
            span
        } else {
            Self::place(&self.groups, group).hull(span)
        };
        Self::put(&mut self.single, self.made, span);
        Self::put(&mut self.groups, group, begun);
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
        if before > self.made {
            return false;
        }
        let exact = before.max(self.made.saturating_sub(Self::SIZE));
        if before < exact {
            let first = before / Self::SIZE;
            let last = exact.saturating_sub(1) / Self::SIZE;
            let newest = self.made.saturating_sub(1) / Self::SIZE;
            if newest.saturating_sub(first) >= Self::SIZE {
                return false;
            }
            for group in first..=last {
                found.add(Self::place(&self.groups, group).clip(of));
            }
        }
        for number in exact..self.made {
            found.add(Self::place(&self.single, number).clip(of));
        }
        true
    }
}
