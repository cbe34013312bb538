//! What is kept in shared memory of a queue whose messages belong to tenants that take turns: which
//! of them have messages waiting, where, and whose turn it is.
//!
//! The truth is the rows. Who looks along the ids for messages that are ready (see `frontier`) does
//! not hand out what it meets, but passes it to the place of its tenant and rank here; handed out
//! is from the places, the first one first, which then is the last one.
//!
//! The invariant: every committed row that is not being changed is where `frontier` says; or it is
//! ready, and there is a place for its tenant and rank, and its id is within the place's bounds.
//!
//! What keeps it:
//! - A reader passes a row before it publishes that it has seen it.
//! - A reader who picks a place takes its snapshot after that. It narrows the bounds, or takes the place
//!   out, only if nothing was passed to the place since: so all that was passed before is in its
//!   snapshot, and what it does not find ready there is in somebody's hands, or was changed since by
//!   somebody, who is bound to report it.
//!
//! - Who passes a row may go by a later clock than who looks at it afterwards: one that becomes ready
//!   within a moment is taken for ready there.
//!
//! A row may be passed twice, and be within the bounds while somebody has it. A tenant who finds no place
//! stays where it is, and the first of those has one turn of `OTHERS`.
//!
//! All-zero bytes are a queue that was just made. Nothing here allocates or panics; the caller holds
//! the queue's lock.

use crate::frontier::Span;

/// How many tenants can have messages waiting at one time; each rank counts.
pub const PLACES: usize = 2048;

/// Of so many turns one is of those who find no place.
pub const OTHERS: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub tenant: i64,
    pub rank: u32,
    /// What was passed here is among these ids.
    pub ids: Span,
    /// Another one whenever something was passed here.
    stamp: u64,
}

impl Place {
    fn is_of(&self, tenant: i64, rank: u32) -> bool {
        (self.tenant, self.rank) == (tenant, rank)
    }

    /// Whether nothing was passed to the one since the other was picked.
    pub fn is_same(&self, picked: &Place) -> bool {
        self.is_of(picked.tenant, picked.rank) && self.stamp == picked.stamp
    }
}

/// What became of a message that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    To,
    /// There is no place; with the right to hand this one out, if it is the turn of such.
    NoPlace {
        is_due: bool,
    },
}

#[repr(C)]
#[derive(Clone, Debug)]
pub struct Round {
    /// Those used, in the order of their turns; of one tenant, one after the other in the order of
    /// ranks.
    places: [Place; PLACES],
    used: u32,
    /// So many turns come before that of those that have no place.
    before_others: u32,
    stamp: u64,
}

impl Default for Round {
    fn default() -> Self {
        Round {
            places: [Place::default(); PLACES],
            used: 0,
            before_others: 0,
            stamp: 0,
        }
    }
}

impl Round {
    /// Forgets everything; also for readers under way.
    pub fn begin(&mut self) {
        self.used = 0;
        self.before_others = 0;
    }

    pub fn places(&self) -> &[Place] {
        self.places.get(..self.used as usize).unwrap_or_default()
    }

    /// Messages of a tenant among these ids are ready.
    pub fn pass(&mut self, tenant: i64, rank: u32, ids: Span) -> Passed {
        self.stamp = self.stamp.wrapping_add(1);
        let stamp = self.stamp;
        let n = self.used as usize;
        let used = self.places.get_mut(..n).unwrap_or_default();
        if let Some(place) = used.iter_mut().find(|p| p.is_of(tenant, rank)) {
            place.ids = place.ids.hull(ids);
            place.stamp = stamp;
            return Passed::To;
        }
        if n >= PLACES {
            let is_due = self.before_others == 0;
            if is_due {
                self.before_others = OTHERS as u32 - 1;
            }
            return Passed::NoPlace { is_due };
        }
        let own = used.iter().position(|p| p.tenant == tenant);
        let at = own.map_or(n, |first| {
            let own = used.iter().skip(first);
            first
                + own
                    .take_while(|p| p.tenant == tenant && p.rank < rank)
                    .count()
        });
        self.places.copy_within(at..n, at + 1);
        if let Some(place) = self.places.get_mut(at) {
            *place = Place {
                tenant,
                rank,
                ids,
                stamp,
            };
        }
        self.used += 1;
        Passed::To
    }

    /// Gives the places of up to `most` tenants whose turn it is to `each`, without those that the reader
    /// `knows`. All others come before them now.
    pub fn pick(
        &mut self,
        most: usize,
        knows: impl Fn(&Place) -> bool,
        mut each: impl FnMut(&Place),
    ) {
        let used = self
            .places
            .get_mut(..self.used as usize)
            .unwrap_or_default();
        let mut tenants = 0;
        let mut last = None;
        let mut n = 0;
        for (at, place) in used.iter().enumerate() {
            let is_another = last != Some(place.tenant);
            if !knows(place) {
                if is_another && tenants == most {
                    break;
                }
                if is_another {
                    tenants += 1;
                    last = Some(place.tenant);
                }
                each(place);
            }
            // Its places stay together.
            if last == Some(place.tenant) {
                n = at + 1;
            }
        }
        used.rotate_left(n);
        self.before_others = self.before_others.saturating_sub(n as u32);
    }

    /// A reader has looked at what was passed to a place before it was picked: of that nothing is left
    /// below `from` that nobody is bound to report.
    pub fn served(&mut self, picked: &Place, from: i64) {
        let n = self.used as usize;
        let used = self.places.get_mut(..n).unwrap_or_default();
        let Some(at) = used.iter().position(|p| p.is_same(picked)) else {
            return;
        };
        if from < picked.ids.hi {
            if let Some(place) = used.get_mut(at) {
                place.ids.lo = place.ids.lo.max(from);
            }
            return;
        }
        self.places.copy_within(at + 1..n, at);
        self.used -= 1;
    }

    /// Whether readers will find a message here.
    pub fn covers(&self, tenant: i64, rank: u32, id: i64) -> bool {
        let mut places = self.places().iter();
        places.any(|p| p.is_of(tenant, rank) && p.ids.holds(id))
    }
}
