//! What keeps readers of a queue from messages that are ready: how many places for messages in
//! flight are promised to transactions under way, and when a reader that was refused is to look again.
//!
//! All-zero bytes are the open gate. Nothing here allocates or panics.

use crate::rate::Bucket;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Tokens of a queue whose rate is limited as a whole.
    pub bucket: Bucket,
    /// Places promised to transactions under way, but for prepared ones.
    promised: i64,
    /// When a reader was last refused; 0: none since the last that found nothing more.
    refused_at: i64,
    /// When who was refused may look again without being called; 0: not by the clock.
    opens_at: i64,
}

impl Gate {
    pub fn promised(&self) -> i64 {
        self.promised
    }

    pub fn promise(&mut self, places: i64) {
        self.promised = self.promised.saturating_add(places);
    }

    pub fn give_back(&mut self, places: i64) {
        self.promised = self.promised.saturating_sub(places);
    }

    /// A reader was refused, who knows by when it is worth looking again, perhaps.
    pub fn refuse(&mut self, now: i64, opens_at: Option<i64>) {
        self.refused_at = self.refused_at.max(now);
        // Who was refused before may know of an earlier time.
        let known = self.opens_at().filter(|at| *at > now);
        let earliest = known.into_iter().chain(opens_at).min();
        self.opens_at = earliest.unwrap_or_default();
    }

    /// A reader that began then has found nothing more to hand out.
    pub fn found_nothing(&mut self, begun_at: i64) {
        // Who was refused since may have seen what this one did not.
        if self.refused_at < begun_at {
            self.refused_at = 0;
            self.opens_at = 0;
        }
    }

    /// Whether somebody was refused, and is worth calling when there is room again.
    pub fn has_refused(&self) -> bool {
        self.refused_at != 0
    }

    pub fn opens_at(&self) -> Option<i64> {
        (self.opens_at != 0).then_some(self.opens_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_look_finds_nothing() {
        let mut gate = Gate::default();
        gate.refuse(90, Some(150));
        gate.refuse(100, None);
        gate.refuse(100, Some(170));
        gate.found_nothing(99);
        gate.found_nothing(100);
        assert!(gate.has_refused());
        assert_eq!(gate.opens_at(), Some(150));
        gate.found_nothing(101);
        assert!(!gate.has_refused());
        assert_eq!(gate.opens_at(), None);
    }
}
