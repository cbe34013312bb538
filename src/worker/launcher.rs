//! The launcher: goes over the databases and starts a worker where there is something to do.
//!
//! It is connected to no database, so it stands in nobody's way. A worker that fails is started
//! again after a while that grows; where there are more databases with queues than workers allowed,
//! or slots, they take turns.

use super::SECOND;
use crate::pg::blames;
use crate::pg::roster::{self, Entry, Outcome};
use crate::pg::time::{self, Micros};
use crate::pg::worker::{self, Argument, Started};
use crate::settings;
use std::collections::HashMap;

/// A database without the extension, or without queues, is looked at again after this long,
/// should nobody have told.
const NO_EXTENSION: Micros = 600 * SECOND;
const NO_QUEUES: Micros = 60 * SECOND;
/// A worker may stay this long though others wait for their turn.
const TURN: Micros = 10 * SECOND;
/// One that worked this long had no trouble.
const SOUND: Micros = 60 * SECOND;
/// The wait after a failure doubles up to 64 s.
const DOUBLINGS: u32 = 6;
/// After so many failures in a row it is worth a warning.
const WORRYING: u32 = 3;
/// The longest sleep: databases come and go.
const LONGEST: Micros = 10 * SECOND;

#[derive(Default)]
struct Site {
    running: Option<(Started, Micros)>,
    /// When a worker may be started.
    next: Micros,
    failures: u32,
}

pub fn run(_: Argument) {
    worker::become_launcher();
    let mut sites: HashMap<u32, Site> = HashMap::new();
    loop {
        let sleep = round(&mut sites, time::now());
        if worker::idle(sleep / 1000 + 1) {
            worker::end_launcher();
        }
    }
}

/// Starts what is to be started. Gives how long there is nothing else to do.
fn round(sites: &mut HashMap<u32, Site>, now: Micros) -> Micros {
    let databases = worker::databases();
    for (database, site) in sites.iter_mut() {
        site.follow(roster::entry(*database), now);
    }
    sites.retain(|database, site| databases.contains(database) || site.running.is_some());
    roster::retain(|database| databases.contains(&database));
    blames::forget(|database, _| !databases.contains(&database));
    if !settings::WORKER.get() {
        return LONGEST;
    }
    let mut waiting = Vec::new();
    let mut sleep = LONGEST;
    for database in databases {
        let Some(entry) = roster::enter(database) else {
            roster::note_full(now);
            continue;
        };
        let site = sites.entry(database).or_default();
        if site.running.is_some() {
            continue;
        }
        if site.failures == 0 && entry.take_news() {
            site.next = now;
        }
        if entry.is_held() {
            // Who holds it wakes us when done, unless it was killed.
            sleep = sleep.min(SECOND);
        } else if site.next <= now {
            waiting.push((site.next, database));
        } else {
            sleep = sleep.min(site.next - now);
        }
    }
    waiting.sort_unstable();
    for (_, database) in waiting {
        if !begin(sites, database, now) {
            return sleep.min(SECOND);
        }
    }
    sleep
}

/// Starts the worker of a database; false when no other can be started now either.
fn begin(sites: &mut HashMap<u32, Site>, database: u32, now: Micros) -> bool {
    let allowed = usize::try_from(settings::WORKERS.get()).unwrap_or(1);
    let at_work = sites.values().filter(|s| s.running.is_some()).count();
    if at_work < allowed {
        let Some(entry) = roster::entry(database).filter(|e| e.summon()) else {
            return true;
        };
        if let Some(started) = worker::start(c"pg_broker_worker", database) {
            let site = sites.entry(database).or_default();
            site.running = Some((started, now));
            return true;
        }
        entry.dismiss();
        roster::note_no_slot(now);
    }
    let longest = sites
        .iter()
        .filter_map(|(database, site)| site.running.as_ref().map(|r| (r.1, *database)))
        .min();
    if let Some((since, other)) = longest
        && now - since > TURN
        && let Some(entry) = roster::entry(other)
    {
        entry.ask_to_leave();
    }
    false
}

impl Site {
    /// Notices that the worker has ended, and why.
    fn follow(&mut self, entry: Option<&Entry>, now: Micros) {
        let Some((started, since)) = &self.running else {
            return;
        };
        if started.is_running() {
            return;
        }
        let worked = now - since;
        self.running = None;
        if let Some(entry) = entry {
            entry.dismiss();
        }
        let after = match entry.map_or(Outcome::None, Entry::outcome) {
            Outcome::NoExtension => NO_EXTENSION,
            Outcome::NoQueues => NO_QUEUES,
            Outcome::Aside => 0,
            Outcome::None => {
                self.failures = if worked > SOUND { 1 } else { self.failures + 1 };
                if let Some(entry) = entry
                    && self.failures >= WORRYING
                {
                    let why = "the worker ends again and again; see the server's log";
                    entry.set_error(Some(why), now);
                }
                self.next = now + (SECOND << (self.failures - 1).min(DOUBLINGS));
                return;
            }
        };
        self.failures = 0;
        self.next = now + after;
    }
}
