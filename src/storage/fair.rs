//! Tenants that take turns: what a reader meets along the ids it passes to the place of its tenant,
//! and hands out from the places, one message of each tenant after the other.
//!
//! What is kept of places, and why nothing is lost between here and there, is
//! `pg_broker_core::fair`'s to say.

use super::claim::{Claim, Handed, RENEWED};
use super::row::{Facts, Fate};
use super::space::Space;
use crate::catalog::Queue;
use crate::pg::time::{self, Micros};
use crate::pg::value::Value;
use crate::pg::wait;
use pg_broker_core::fair::{Passed, Place};
use pg_broker_core::frontier::Span;
use std::collections::HashMap;

/// Who keeps the places.
pub trait Rounds {
    /// Messages of a tenant and rank among these ids are ready.
    fn pass(&mut self, tenant: i64, rank: u32, ids: Span) -> Passed;
    /// The places of up to so many tenants, in the order of their turns. Only after this may the rows
    /// be looked at.
    fn pick(&mut self, most: usize) -> Vec<Place>;
    /// What came of a place that was picked.
    fn served(&mut self, served: &Served);
}

/// What came of a place.
pub struct Served {
    pub place: Place,
    /// Nothing below this is left there.
    pub from: i64,
    /// But these, which wait until then.
    pub put_off: Vec<(i64, Micros)>,
}

/// A read passes so many rows before it hands out what is there. So what it costs does not grow with
/// one tenant's messages, and those of the others are met soon.
const ENOUGH: usize = 10_000;

/// So far, at most, clocks of sessions are apart.
const EARLY: Micros = 1_000_000;

/// What a read has to do with tenants.
pub struct Tenants<'a> {
    rounds: &'a mut dyn Rounds,
    /// What was met in the present snapshot, by tenant and rank.
    met: HashMap<(i64, u32), Met>,
    passed: usize,
    has_passed_any: bool,
    /// One was met that has no place.
    is_full: bool,
    /// Places that were served, and had nothing more.
    spent: Vec<Place>,
}

struct Met {
    ids: Span,
    /// As many of them are passed.
    told: Span,
}

impl<'a> Tenants<'a> {
    pub fn new(rounds: &'a mut dyn Rounds) -> Self {
        Tenants {
            rounds,
            met: HashMap::new(),
            passed: 0,
            has_passed_any: false,
            is_full: false,
            spent: Vec::new(),
        }
    }

    /// What is seen in a new snapshot is passed anew.
    pub fn forget_met(&mut self) {
        self.tell();
        self.met.clear();
    }

    /// A tenant's place is there from its first message on. How far it reaches is told afterwards.
    fn tell(&mut self) {
        for ((tenant, rank), met) in &mut self.met {
            if met.ids != met.told {
                self.rounds.pass(*tenant, *rank, met.ids);
                met.told = met.ids;
            }
        }
    }

    fn pass(&mut self, tenant: i64, rank: u32, id: i64) -> Passed {
        self.passed += 1;
        self.has_passed_any = true;
        let ids = Span::one(id);
        if let Some(met) = self.met.get_mut(&(tenant, rank)) {
            met.ids = met.ids.hull(ids);
            return Passed::To;
        }
        let passed = self.rounds.pass(tenant, rank, ids);
        if let Passed::To = passed {
            let met = Met { ids, told: ids };
            self.met.insert((tenant, rank), met);
        }
        passed
    }
}

/// A place as far as this read has come with it.
struct At {
    place: Place,
    from: i64,
    /// The first message that was left, ready.
    left: Option<i64>,
    put_off: Vec<(i64, Micros)>,
    is_over: bool,
    /// A new snapshot may show more.
    is_doubtful: bool,
}

impl At {
    fn new(place: Place) -> Self {
        At {
            from: place.ids.lo,
            place,
            left: None,
            put_off: Vec::new(),
            is_over: false,
            is_doubtful: false,
        }
    }

    fn leave(&mut self, id: i64) {
        self.left = self.left.or(Some(id));
    }

    fn end(self) -> Served {
        let upto = if self.is_over { i64::MAX } else { self.from };
        let from = match self.is_doubtful {
            true => self.place.ids.lo,
            false => self.left.map_or(upto, |id| id.min(upto)),
        };
        Served {
            place: self.place,
            from,
            put_off: self.put_off,
        }
    }
}

impl Claim<'_> {
    pub(super) fn has_passed_enough(&self) -> bool {
        let tenants = self.tenants.as_ref();
        tenants.is_some_and(|t| t.passed >= ENOUGH)
    }

    /// What was passed may be with others by now.
    pub fn has_passed_any(&self) -> bool {
        self.tenants.as_ref().is_some_and(|t| t.has_passed_any)
    }

    pub fn was_stopped_to_serve(&self) -> bool {
        self.has_passed_enough() || self.has_no_place()
    }

    pub(super) fn has_no_place(&self) -> bool {
        self.tenants.as_ref().is_some_and(|t| t.is_full)
    }

    /// A message that could be handed out was met.
    pub(super) fn pass_to_tenant(
        &mut self,
        space: &mut Space,
        row: &Facts,
        hand: &mut impl FnMut(&[Value]),
    ) {
        let Some(mut tenants) = self.tenants.take() else {
            return;
        };
        let rank = row.place.rank.unsigned_abs().into();
        match tenants.pass(row.belongs_to.unwrap_or_default(), rank, row.id()) {
            Passed::To => {}
            Passed::NoPlace { is_due } => {
                let is_out = is_due
                    && self.wants(space)
                    && matches!(self.try_hand_out(space, row, hand), Handed::Out);
                if !is_out {
                    self.left = self.left.or(Some(row.id()));
                    tenants.is_full = true;
                }
            }
        }
        self.tenants = Some(tenants);
    }

    /// Hands out what was passed to the tenants, now or before, one message of each after the other. Gives
    /// whether a walk that was stopped for this is to go on.
    pub fn serve_tenants(&mut self, hand: &mut impl FnMut(&[Value])) -> bool {
        let Some(tenants) = &mut self.tenants else {
            return false;
        };
        let was_full = std::mem::take(&mut tenants.is_full);
        tenants.passed = 0;
        tenants.tell();
        let before = self.changes.len();
        while !self.is_satisfied() && self.serve_some(hand) {
            wait::interruptible();
        }
        !self.is_satisfied() && (!was_full || self.changes.len() > before)
    }

    /// Serves as many tenants as there are messages wanted. False: there is nothing more.
    fn serve_some(&mut self, hand: &mut impl FnMut(&[Value])) -> bool {
        let most = self.missing();
        let Some(tenants) = &mut self.tenants else {
            return false;
        };
        let picked = tenants.rounds.pick(most);
        let is_new = |p: &Place| !tenants.spent.iter().any(|s| p.is_same(s));
        // Each comes again when all the others have had their turn.
        let goes_on = !picked.is_empty() && picked.iter().all(is_new);
        let mut at: Vec<At> = picked.into_iter().filter(is_new).map(At::new).collect();
        if at.is_empty() {
            return false;
        }
        self.look_anew();
        let Some(mut space) = self.space.take() else {
            return false;
        };
        self.serve_places(&mut space, &mut at, hand);
        self.space = Some(space);
        if let Some(tenants) = &mut self.tenants {
            let over = at.iter().filter(|a| a.is_over && !a.is_doubtful);
            tenants.spent.extend(over.map(|a| a.place));
            for at in at {
                tenants.rounds.served(&at.end());
            }
        }
        goes_on
    }

    fn serve_places(&mut self, space: &mut Space, at: &mut [At], hand: &mut impl FnMut(&[Value])) {
        let mut in_use = None;
        loop {
            let before = self.changes.len();
            // A tenant's ranks come one after the other, and it has one turn for all.
            let mut last = None;
            for (n, at) in at.iter_mut().enumerate() {
                if self.is_satisfied() {
                    return;
                }
                if at.is_over || last == Some(at.place.tenant) {
                    continue;
                }
                if in_use != Some(n) {
                    space.seek_group(at.place.tenant, at.from, at.place.ids.hi - 1);
                    in_use = Some(n);
                }
                if self.serve_one(space, at, hand) {
                    last = Some(at.place.tenant);
                }
            }
            if self.changes.len() == before {
                return;
            }
        }
    }

    /// Hands out the next message of a place, on which the walk stands. False: there is none.
    fn serve_one(
        &mut self,
        space: &mut Space,
        at: &mut At,
        hand: &mut impl FnMut(&[Value]),
    ) -> bool {
        let clock = time::now();
        while let Some(row) = space.next() {
            let id = row.id();
            if u32::from(row.place.rank.unsigned_abs()) == at.place.rank {
                match row.fate(self.q, self.now) {
                    Fate::Ready if !self.wants(space) => at.leave(id),
                    Fate::Ready => match self.try_hand_out(space, &row, hand) {
                        Handed::Out => {
                            at.from = id.saturating_add(1);
                            return true;
                        }
                        Handed::Taken => {}
                        Handed::Moved => {
                            self.renewed += 1;
                            at.is_doubtful = self.renewed < RENEWED;
                            at.leave(id);
                        }
                        Handed::Later(until) if !self.goes_by_tenant() => {
                            at.put_off.push((id, until));
                        }
                        Handed::Later(_) | Handed::Stopped => {
                            at.leave(id);
                            at.is_over = true;
                            return false;
                        }
                    },
                    // Who passed it may have found it ready, by a later clock than this read's.
                    Fate::Waits(until) if until <= clock + EARLY => at.leave(id),
                    // Who made it so has told of it, or is bound to.
                    Fate::Waits(_) => {}
                    Fate::FailedOut | Fate::Expired => {
                        if self.lay_out(space, &row).is_none() {
                            at.leave(id);
                        }
                    }
                }
            }
            at.from = id.saturating_add(1);
        }
        if space.has_changed() {
            self.renewed += 1;
            at.is_doubtful = self.renewed < RENEWED;
            at.leave(at.place.ids.lo);
        }
        at.is_over = true;
        false
    }

    /// Whether each tenant has a rate of its own: then none of its messages may be handed out before
    /// the one that was refused.
    fn goes_by_tenant(&self) -> bool {
        self.q.options.limits.rate_key == self.q.options.fair_by
    }
}

/// Whether a reader would find nothing to do in a place. A snapshot must be active.
pub fn is_idle(q: &Queue, place: &Place, now: Micros) -> bool {
    let mut space = Space::to_read(q);
    space.seek_group(place.tenant, place.ids.lo, place.ids.hi - 1);
    while let Some(row) = space.next() {
        let is_here = u32::from(row.place.rank.unsigned_abs()) == place.rank;
        if is_here && !matches!(row.fate(q, now), Fate::Waits(_)) {
            return false;
        }
        wait::interruptible();
    }
    true
}
