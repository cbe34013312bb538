//! The worker of one database: its queues, round after round.

use super::duties::{Charge, Duty};
use super::journal::Journal;
use super::{SECOND, interval, notify};
use crate::catalog::{self, Queue};
use crate::error::Result;
use crate::pg::blames;
use crate::pg::rel::{self, Lock};
use crate::pg::report::Collector;
use crate::pg::role::ActingAs;
use crate::pg::roster::{self, Entry, Outcome};
use crate::pg::time::{self, Micros};
use crate::pg::value::Oid;
use crate::pg::worker::{self, Argument, Failure};
use crate::queue::upkeep;
use crate::settings;
use crate::wake::frontier;
use crate::wake::notify::{NextDue, next_due};

/// Options are read again after so long, should nobody have told that they changed.
const KNOWN_FOR: Micros = 30 * SECOND;
/// That something was done is written down at most this often; that it was looked at is kept in
/// shared memory, so that an idle server writes nothing.
const WRITTEN_EVERY: Micros = 60 * SECOND;
/// Who did something is believed to be wanted elsewhere only when this has passed without.
const LINGER: Micros = 5 * SECOND;

struct Site {
    entry: &'static Entry,
    journal: Journal,
    charges: Vec<Charge>,
    listed: Micros,
    written: Micros,
    tidied: Micros,
    /// Since when there have been no queues.
    empty_since: Option<Micros>,
    /// What went wrong in the round before.
    trouble: Option<String>,
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
        trouble: None,
    };
    loop {
        // Whoever commits something due from here on wakes us, until it is known what comes next.
        entry.set_alarm(Micros::MAX);
        let until = match site.round() {
            Step::SleepUntil(until) => until,
            Step::Leave(outcome) => return entry.set_outcome(outcome),
        };
        entry.set_alarm(until);
        let millis = (until - time::now()).max(0) / 1000 + 1;
        if worker::idle(millis) {
            return;
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
        let mut trouble = None;
        if let Some(outcome) = self.refresh(now, &mut trouble) {
            return Step::Leave(outcome);
        }
        let mut moved = 0;
        let mut charges = std::mem::take(&mut self.charges);
        for charge in &mut charges {
            arm(charge, now);
        }
        notify::send(&mut charges, now, |failure| {
            self.fail("NOTIFY", failure, &mut trouble);
        });
        for charge in &mut charges {
            for (n, duty) in charge.due(now) {
                if self.is_unwanted() {
                    return Step::Leave(Outcome::Aside);
                }
                moved += self.perform(charge, n, duty, &mut trouble);
            }
        }
        self.charges = charges;
        self.write_down(now, moved, &mut trouble);
        if trouble != self.trouble {
            self.entry.set_error(trouble.as_deref(), now);
            self.trouble = trouble;
        }
        self.entry.set_seen(now);
        if self.entry.has_news() {
            return Step::SleepUntil(now);
        }
        let next = self.charges.iter().map(Charge::next).min();
        let soonest = next.unwrap_or(Micros::MAX).min(self.listed + interval());
        Step::SleepUntil(soonest.max(now))
    }

    /// Does one duty for one queue. Gives how many rows it moved.
    fn perform(
        &mut self,
        charge: &mut Charge,
        n: usize,
        duty: &Duty,
        trouble: &mut Option<String>,
    ) -> u64 {
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
        match done {
            Ok((moved, more)) => {
                if more {
                    charge.go_on(n, now);
                }
                moved
            }
            Err(failure) => {
                self.fail(&context, failure, trouble);
                0
            }
        }
    }

    fn fail(&mut self, context: &str, failure: Failure, trouble: &mut Option<String>) {
        if failure.is_busy {
            return;
        }
        self.journal.tell(context, &failure.message, time::now());
        *trouble = Some(format!("{context}: {}", failure.message));
    }

    /// Learns which queues there are. Says so when there is nothing to be here for.
    fn refresh(&mut self, now: Micros, trouble: &mut Option<String>) -> Option<Outcome> {
        let has_news = self.entry.take_news();
        if has_news {
            self.charges.iter_mut().for_each(|c| c.known = 0);
        }
        if !has_news && now - self.listed < interval() {
            return None;
        }
        self.listed = now;
        let listed = worker::transaction(|| {
            if rel::in_recovery() || rel::internal("queue").is_none() {
                return Ok(None);
            }
            catalog::views(None).map(Some)
        });
        let views: Vec<u32> = match listed {
            Ok(Some(views)) => views.into_iter().map(u32::from).collect(),
            Ok(None) => return Some(Outcome::NoExtension),
            Err(failure) => {
                self.fail("looking for queues", failure, trouble);
                return None;
            }
        };
        self.charges.retain(|c| views.contains(&c.view));
        for view in views {
            self.look_up(view, now, trouble);
        }
        if !self.charges.is_empty() {
            self.empty_since = None;
            return None;
        }
        let since = *self.empty_since.get_or_insert(now);
        (now - since > LINGER).then_some(Outcome::NoQueues)
    }

    /// Learns of one queue, unless it is known well enough.
    fn look_up(&mut self, view: u32, now: Micros, trouble: &mut Option<String>) {
        let at = self.charges.iter().position(|c| c.view == view);
        let known = at.and_then(|at| self.charges.get_mut(at));
        if known.as_ref().is_some_and(|c| now - c.known < KNOWN_FOR) {
            return;
        }
        let learn = |q: &Queue| match known {
            Some(charge) => {
                charge.learn(q, now);
                None
            }
            None => Some(Charge::new(q, frontier::key(q), now)),
        };
        let looked = worker::transaction(|| -> Result<Option<Charge>> {
            let queue = catalog::open_oid(Oid::from(view), Lock::Read)?;
            Ok(queue.and_then(|q| learn(&q)))
        });
        match looked {
            Ok(new) => self.charges.extend(new),
            Err(failure) => self.fail("looking at a queue", failure, trouble),
        }
    }

    /// Writes down that upkeep ran, if it did something, and tidies up in shared memory.
    fn write_down(&mut self, now: Micros, moved: u64, trouble: &mut Option<String>) {
        if moved > 0 && now - self.written > WRITTEN_EVERY {
            self.written = now;
            if let Err(failure) = worker::transaction(upkeep::note_run) {
                self.fail("noting that upkeep ran", failure, trouble);
            }
        }
        if now - self.tidied > WRITTEN_EVERY {
            self.tidied = now;
            let own = roster::own_database();
            let tidied = worker::transaction(|| {
                blames::forget(|db, storage| db == own && !rel::exists(Oid::from(storage)));
                Ok(())
            });
            if let Err(failure) = tidied {
                self.fail("tidying up", failure, trouble);
            }
        }
    }
}

/// Asks the board what comes due in a queue.
fn arm(charge: &mut Charge, now: Micros) {
    if !charge.limited && !charge.notify {
        return;
    }
    charge.has_due |= charge.armed.is_some_and(|at| at <= now);
    charge.armed = match next_due(charge.key) {
        NextDue::At(Some(at)) if at <= now => {
            charge.has_due = true;
            None
        }
        NextDue::At(next) => next,
        // Nobody tells: look every time.
        NextDue::Unknown => {
            charge.has_due |= charge.limited;
            Some(now + interval())
        }
    };
}
