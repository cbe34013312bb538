//! The worker of one database: its queues, round after round.

use super::duties::{Charge, Duty};
use super::journal::Journal;
use super::{SECOND, interval, notify};
use crate::catalog::{self, Queue};
use crate::pg::blames;
use crate::pg::rel::{self, Lock};
use crate::pg::report::Collector;
use crate::pg::role::ActingAs;
use crate::pg::roster::{self, Entry, Outcome};
use crate::pg::time::{self, Micros};
use crate::pg::value::Oid;
use crate::pg::worker::{self, Argument, Failure};
use crate::queue::pace::{Pace, Step as Rotated};
use crate::queue::rotate;
use crate::queue::upkeep;
use crate::settings;
use crate::wake::notify::{NextDue, next_due};
use crate::wake::{counts, frontier};
use std::collections::{BTreeMap, BTreeSet};

/// Options are read again after so long, should nobody have told that they changed.
const KNOWN_FOR: Micros = 300 * SECOND;
/// So are the queues themselves.
const LISTED_EVERY: Micros = 10 * SECOND;
/// That something was done is written down at most this often; that it was looked at is kept in
/// shared memory, so that an idle server writes nothing.
const WRITTEN_EVERY: Micros = 60 * SECOND;
/// Rounds are at least so far apart.
const SPACING: Micros = 1000;
/// Who did something is believed to be wanted elsewhere only when this has passed without.
const LINGER: Micros = 5 * SECOND;

const LISTING: &str = "looking for queues";
const LOOKING: &str = "looking at a queue";
const NOTING: &str = "noting that upkeep ran";
const TIDYING: &str = "tidying up";
const ROTATING: &str = "making room";

/// So many steps are done for one queue before the others are looked at.
const STEPS: usize = 32;

struct Site {
    entry: &'static Entry,
    journal: Journal,
    charges: Vec<Charge>,
    listed: Micros,
    written: Micros,
    tidied: Micros,
    /// Since when there have been no queues.
    empty_since: Option<Micros>,
    /// What goes wrong: by queue (0 for none) and duty.
    troubles: BTreeMap<(u32, &'static str), String>,
    /// What of it is known to others.
    shown: Option<String>,
}

enum Step {
    SleepUntil(Micros),
    Leave(Outcome),
}

pub fn run(argument: Argument) {
    let Some(entry) = worker::become_worker(&argument) else {
        return;
    };
    let mut site = Site {
        entry,
        journal: Journal::default(),
        charges: Vec::new(),
        listed: 0,
        written: 0,
        tidied: time::now(),
        empty_since: None,
        troubles: BTreeMap::new(),
        // Unlike anything: what the worker before us has shown is replaced.
        shown: Some(String::new()),
    };
    loop {
        let began = time::now();
        // Whoever commits something due before then wakes us: we do not sleep longer in any case.
        entry.set_alarm(began + interval());
        let until = match site.round() {
            Step::SleepUntil(until) => until,
            Step::Leave(outcome) => return entry.set_outcome(outcome),
        };
        entry.set_alarm(until);
        let millis = (until - time::now()).max(0) / 1000 + 1;
        if worker::idle(millis) {
            return;
        }
        // What comes in rapid succession is done together.
        if time::now() - began < SPACING {
            worker::pause(SPACING);
        }
    }
}

impl Site {
    fn is_unwanted(&self) -> bool {
        self.entry.must_leave() || !settings::WORKER.get()
    }

    fn round(&mut self) -> Step {
        if self.is_unwanted() {
            return Step::Leave(Outcome::Aside);
        }
        let now = time::now();
        if let Some(outcome) = self.refresh(now) {
            return Step::Leave(outcome);
        }
        let mut moved = 0;
        let mut charges = std::mem::take(&mut self.charges);
        for charge in &mut charges {
            arm(charge, now);
        }
        let sent = notify::send(&mut charges, now);
        self.note(0, "sending NOTIFY", "sending NOTIFY", sent);
        for charge in &mut charges {
            for (n, duty) in charge.due(now) {
                if self.is_unwanted() {
                    return Step::Leave(Outcome::Aside);
                }
                moved += self.perform(charge, n, duty);
            }
        }
        for charge in charges.iter_mut().filter(|c| c.wants_space) {
            if self.is_unwanted() {
                return Step::Leave(Outcome::Aside);
            }
            moved += self.rotate(charge, now);
        }
        self.charges = charges;
        self.write_down(now, moved);
        let trouble = self.troubles.values().next().cloned();
        if trouble != self.shown {
            self.entry.set_error(trouble.as_deref(), now);
            self.shown = trouble;
        }
        self.entry.set_seen(now);
        if self.entry.has_news() {
            return Step::SleepUntil(now);
        }
        let next = self.charges.iter().map(Charge::next).min();
        let listing = match self.charges.is_empty() {
            true => now + interval(),
            false => self.listed + LISTED_EVERY.max(interval()),
        };
        let soonest = next.unwrap_or(Micros::MAX).min(listing);
        Step::SleepUntil(soonest.max(now))
    }

    /// Does one duty for one queue. Gives how many rows it moved.
    fn perform(&mut self, charge: &mut Charge, n: usize, duty: &Duty) -> u64 {
        let warnings = Collector::begin();
        let view = Oid::from(charge.view);
        let done = worker::transaction(|| match catalog::open_oid(view, Lock::Write)? {
            None => Ok((0, false)),
            Some(q) => {
                let _owner = ActingAs::owner(q.owner);
                (duty.run)(&q, charge)
            }
        });
        let told = warnings.take();
        drop(warnings);
        let context = format!("queue \"{}\", {}", charge.name, duty.name);
        let now = time::now();
        for warning in told {
            self.journal.tell(&context, &warning, now);
        }
        let (moved, more) = self
            .note(charge.view, duty.name, &context, done)
            .unwrap_or_default();
        if more {
            charge.go_on(n, now);
        }
        moved
    }

    /// Has a queue's tables change, step by step, each in a transaction of its own.
    fn rotate(&mut self, charge: &mut Charge, now: Micros) -> u64 {
        let view = Oid::from(charge.view);
        let context = format!("queue \"{}\", {ROTATING}", charge.name);
        let mut done = 0;
        if charge.space_at > now {
            return done;
        }
        for _ in 0..STEPS {
            let stepped = worker::transaction(|| match catalog::open_oid(view, Lock::Read)? {
                None => Ok(Rotated::Idle),
                Some(q) => {
                    let _owner = ActingAs::owner(q.owner);
                    rotate::step(&q, &Pace::of_a_worker())
                }
            });
            match self.note(charge.view, ROTATING, &context, stepped) {
                Some(Rotated::Done) => {
                    done += 1;
                    charge.space_pause = 0;
                    continue;
                }
                Some(Rotated::Idle) => charge.wants_space = false,
                Some(Rotated::Later(at)) => {
                    charge.space_pause = (at - time::now()).max(SPACING);
                }
                Some(Rotated::Waits) | None => {
                    let most = interval().max(SPACING);
                    charge.space_pause = (charge.space_pause * 2).clamp(SPACING * 10, most);
                }
            }
            break;
        }
        charge.space_at = time::now() + charge.space_pause;
        done
    }

    /// Keeps in mind whether something went well.
    fn note<R>(
        &mut self,
        view: u32,
        duty: &'static str,
        context: &str,
        done: std::result::Result<R, Failure>,
    ) -> Option<R> {
        match done {
            Ok(result) => {
                self.troubles.remove(&(view, duty));
                Some(result)
            }
            // Somebody else was at it: that is no news of any kind.
            Err(failure) if failure.is_busy => None,
            Err(failure) => {
                self.journal.tell(context, &failure.message, time::now());
                let trouble = format!("{context}: {}", failure.message);
                self.troubles.insert((view, duty), trouble);
                None
            }
        }
    }

    /// Learns which queues there are, and what is new of them. Says so when there is nothing to be
    /// here for.
    fn refresh(&mut self, now: Micros) -> Option<Outcome> {
        let has_news = self.entry.take_news();
        if !has_news && now - self.listed < LISTED_EVERY.max(interval()) {
            return None;
        }
        self.listed = now;
        let listed = worker::transaction(|| {
            if rel::in_recovery() || rel::internal("queue").is_none() {
                return Ok(None);
            }
            catalog::stamped_views().map(Some)
        });
        let mut views: BTreeMap<u32, u32> = match self.note(0, LISTING, LISTING, listed)? {
            Some(views) => views.into_iter().map(|(v, s)| (u32::from(v), s)).collect(),
            None => return Some(Outcome::NoExtension),
        };
        self.charges.retain(|c| views.contains_key(&c.view));
        self.troubles
            .retain(|(view, _), _| *view == 0 || views.contains_key(view));
        let mut charges = std::mem::take(&mut self.charges);
        let renamed = if has_news {
            self.renamed(&charges)
        } else {
            BTreeSet::new()
        };
        for charge in &mut charges {
            let stamp = views.remove(&charge.view).unwrap_or_default();
            let is_known = charge.stamp == stamp && now - charge.known < KNOWN_FOR;
            if !is_known || renamed.contains(&charge.view) {
                let view = charge.view;
                self.look_up(view, |q| charge.learn(q, stamp, now));
            }
        }
        let mut new = |view, stamp| {
            self.look_up(view, |q| {
                let mut charge = Charge::new(q, frontier::key(q), now);
                charge.learn(q, stamp, now);
                charge
            })
        };
        charges.extend(
            views
                .into_iter()
                .filter_map(|(view, stamp)| new(view, stamp)),
        );
        self.charges = charges;
        if !self.charges.is_empty() {
            self.empty_since = None;
            return None;
        }
        let since = *self.empty_since.get_or_insert(now);
        (now - since > LINGER).then_some(Outcome::NoQueues)
    }

    /// Those of these queues that have another name than is known.
    fn renamed(&mut self, charges: &[Charge]) -> BTreeSet<u32> {
        let looked = worker::transaction(|| {
            let is_renamed = |c: &&Charge| rel::name(Oid::from(c.view)).as_ref() != Some(&c.name);
            Ok(charges.iter().filter(is_renamed).map(|c| c.view).collect())
        });
        self.note(0, LISTING, LISTING, looked).unwrap_or_default()
    }

    /// Learns something of one queue.
    fn look_up<R>(&mut self, view: u32, learn: impl FnOnce(&Queue) -> R) -> Option<R> {
        let looked = worker::transaction(|| {
            let queue = catalog::open_oid(Oid::from(view), Lock::Read)?;
            Ok(queue.map(|q| learn(&q)))
        });
        self.note(view, LOOKING, LOOKING, looked).flatten()
    }

    /// Writes down that upkeep ran, if it did something, and tidies up in shared memory.
    fn write_down(&mut self, now: Micros, moved: u64) {
        if moved > 0 && now - self.written > WRITTEN_EVERY {
            self.written = now;
            let noted = worker::transaction(upkeep::note_run);
            self.note(0, NOTING, NOTING, noted);
        }
        if now - self.tidied > WRITTEN_EVERY {
            self.tidied = now;
            let own = roster::own_database();
            let tidied = worker::transaction(|| {
                blames::forget(|db, storage| db == own && !rel::exists(Oid::from(storage)));
                Ok(())
            });
            self.note(0, TIDYING, TIDYING, tidied);
        }
    }
}

/// Asks the board what comes due in a queue, and whether its messages are counted.
fn arm(charge: &mut Charge, now: Micros) {
    charge.now = now;
    charge.told = counts::activity(charge.key);
    charge.uncounted = counts::is_known(charge.key) != Some(true);
    if !charge.limited && !charge.notify {
        return;
    }
    let is_over = charge.armed.is_none_or(|at| at <= now);
    charge.has_due |= is_over && charge.armed.is_some();
    match next_due(charge.key) {
        NextDue::At(next) => {
            let is_due = next.is_some_and(|at| at <= now);
            charge.has_due |= is_due;
            // What was to come due by now may have been settled, or somebody has looked at it first: the
            // rows tell.
            let was = charge.armed.filter(|_| is_over && !is_due);
            charge.blind_since = was.map(|at| at - 1);
            charge.armed = next.filter(|_| !is_due);
            charge.asked = now;
        }
        // Nobody tells: it is looked for, once an interval, however often others wake us.
        NextDue::Unknown if is_over || charge.blind_since.is_none() => {
            charge.has_due = true;
            charge.armed = Some(now + interval());
            charge.blind_since = Some(charge.asked);
            charge.asked = now;
        }
        NextDue::Unknown => {}
    }
}
