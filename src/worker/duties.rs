//! The duties of a worker: what is done for one queue, and when.

use super::{SECOND, interval};
use crate::catalog::map::State;
use crate::catalog::{Options, Queue};
use crate::error::Result;
use crate::pg::roster::{self, Entry};
use crate::pg::time::Micros;
use crate::queue::request;
use crate::queue::upkeep::{self, Sweep};
use pg_broker_core::board::Key;
use pg_broker_core::names;

/// A queue and where its duties stand.
pub struct Charge {
    pub view: u32,
    pub storage: u32,
    pub key: Key,
    pub name: String,
    pub notify: bool,
    pub limited: bool,
    pub retains: bool,
    /// It is some session's private queue for replies.
    is_for_replies: bool,
    /// When this was last read from the catalog, and as of which of its changes.
    pub known: Micros,
    pub stamp: u32,
    /// When something comes due, as it was when last looked; for somebody might look at it first.
    pub armed: Option<Micros>,
    /// Something has come due that nobody has looked at for us.
    pub has_due: bool,
    /// Shared memory has no place for it: since when nobody has looked for what comes due.
    pub blind_since: Option<Micros>,
    /// When it was last asked, or looked for, what has come due.
    pub asked: Micros,
    /// Nobody knows how many messages it has.
    pub uncounted: bool,
    /// What `wake::counts` said of it last, and when.
    pub told: Option<u64>,
    pub now: Micros,
    /// When there will be something expired, if nothing happens before; and a key.
    expiry: Coming,
    key_expiry: Coming,
    /// Its tables may have to change.
    pub wants_space: bool,
    /// When that is looked at again, and how long after that.
    pub space_at: Micros,
    pub space_pause: Micros,
    next: [Micros; DUTIES.len()],
    /// How far the sweep has come.
    swept: Sweep,
}

impl Charge {
    pub fn new(q: &Queue, key: Key, now: Micros) -> Self {
        Charge {
            view: u32::from(q.view),
            storage: u32::from(q.storage),
            key,
            name: String::new(),
            notify: false,
            limited: false,
            retains: false,
            is_for_replies: false,
            known: now,
            stamp: 0,
            armed: None,
            has_due: false,
            blind_since: None,
            asked: now,
            uncounted: false,
            told: None,
            now,
            expiry: Coming::default(),
            key_expiry: Coming::default(),
            wants_space: true,
            space_at: now,
            space_pause: 0,
            next: [now; DUTIES.len()],
            swept: Sweep::default(),
        }
    }

    /// Takes over what may have been altered.
    pub fn learn(&mut self, q: &Queue, stamp: u32, now: Micros) {
        let Options {
            notify,
            max_failures,
            archive_retention,
            ..
        } = &q.options;
        self.name.clone_from(&q.name);
        self.notify = *notify;
        self.limited = max_failures.is_some();
        self.retains = archive_retention.is_some();
        self.is_for_replies = names::is_reply_queue(&q.name);
        self.known = now;
        self.stamp = stamp;
    }
}

/// When something will be over, as it was when last looked.
#[derive(Default)]
struct Coming {
    at: Option<Micros>,
    /// What `Charge::told` was then. When nobody can tell, it is looked again in any case.
    told: Option<u64>,
}

impl Coming {
    fn after(c: &Charge, at: Option<Micros>) -> Self {
        Coming { at, told: c.told }
    }

    fn is_due(&self, c: &Charge) -> bool {
        self.told.is_none() || self.told != c.told || self.at.is_some_and(|at| at <= c.now)
    }
}

/// Something to be done for a queue. Gives how many rows were moved or removed, and whether there
/// is more to do at once.
pub struct Duty {
    pub name: &'static str,
    is_due: fn(&Charge) -> bool,
    every: fn() -> Micros,
    pub run: fn(&Queue, &mut Charge) -> Result<(u64, bool)>,
}

fn soon() -> Micros {
    interval()
}

/// What need not be done at once is done for many queues in one round: whoever wakes looks at all.
fn at_once_with_others(at: Micros) -> Micros {
    let grain = interval().max(1);
    (at + grain - 1) / grain * grain
}

fn later() -> Micros {
    interval() * 10
}

fn seldom() -> Micros {
    (interval() * 60).min(600 * SECOND)
}

const DUTIES: [Duty; 7] = [
    Duty {
        name: "burying what has just come due",
        is_due: |c| c.limited && c.has_due,
        every: || 0,
        run: bury_due,
    },
    Duty {
        name: "burying what has expired",
        is_due: |c| c.expiry.is_due(c),
        every: later,
        run: bury_expired,
    },
    Duty {
        name: "looking for what nobody reported",
        is_due: |_| true,
        every: seldom,
        run: sweep,
    },
    Duty {
        name: "counting",
        is_due: |c| c.uncounted,
        every: later,
        run: count,
    },
    Duty {
        name: "trimming the archive",
        is_due: |c| c.retains,
        every: later,
        run: trim_archive,
    },
    Duty {
        name: "removing deduplication keys",
        is_due: |c| c.key_expiry.is_due(c),
        every: later,
        run: expire_keys,
    },
    // The last: it may drop the queue.
    Duty {
        name: "freeing reply queues",
        is_due: |c| c.is_for_replies,
        every: later,
        run: tend_reply_queue,
    },
];

fn whole(n: u64) -> (u64, bool) {
    (n, n >= upkeep::PIECE as u64)
}

fn bury_due(q: &Queue, c: &mut Charge) -> Result<(u64, bool)> {
    c.has_due = false;
    upkeep::bury_due(q).map(|n| (n, false))
}

fn bury_expired(q: &Queue, c: &mut Charge) -> Result<(u64, bool)> {
    let buried = upkeep::bury_expired(q)?;
    c.expiry = Coming::after(c, upkeep::next_expiry(q));
    Ok(whole(buried))
}

fn sweep(q: &Queue, c: &mut Charge) -> Result<(u64, bool)> {
    let (n, on) = upkeep::sweep(q, c.swept)?;
    c.swept = on.unwrap_or_default();
    // Plain SQL and replication may also write where nobody looks.
    c.wants_space |= q.map().idle.iter().any(|part| part.state == State::Dormant);
    Ok((n, on.is_some()))
}

fn count(q: &Queue, c: &mut Charge) -> Result<(u64, bool)> {
    let entry = roster::entry(roster::own_database());
    c.uncounted = upkeep::count(q, || !entry.is_some_and(Entry::must_leave));
    Ok((0, c.uncounted))
}

fn trim_archive(q: &Queue, _: &mut Charge) -> Result<(u64, bool)> {
    upkeep::trim_archive(q).map(whole)
}

fn expire_keys(q: &Queue, c: &mut Charge) -> Result<(u64, bool)> {
    // Most queues have no keys, and need no statement for them.
    let next = upkeep::next_key(q)?;
    if next.is_none_or(|at| at > c.now) {
        c.key_expiry = Coming::after(c, next);
        return Ok((0, false));
    }
    let removed = upkeep::expire_keys(q)?;
    c.key_expiry = Coming::after(c, upkeep::next_key(q)?);
    Ok(whole(removed))
}

fn tend_reply_queue(q: &Queue, _: &mut Charge) -> Result<(u64, bool)> {
    request::tend(q).map(|n| (n, false))
}

impl Charge {
    /// The duties that are due now, each of which counts as done.
    pub fn due(&mut self, now: Micros) -> Vec<(usize, &'static Duty)> {
        let mut due = Vec::new();
        for (n, duty) in DUTIES.iter().enumerate() {
            let next = self.next.get(n).copied().unwrap_or_default();
            if next <= now && (duty.is_due)(self) {
                due.push((n, duty));
            }
        }
        for (n, duty) in &due {
            let next = match (duty.every)() {
                0 => now,
                every => at_once_with_others(now + every),
            };
            self.put_off(*n, next);
        }
        due
    }

    fn put_off(&mut self, n: usize, until: Micros) {
        if let Some(next) = self.next.get_mut(n) {
            *next = until;
        }
    }

    /// There is more to do: it is done in the next round.
    pub fn go_on(&mut self, n: usize, now: Micros) {
        self.put_off(n, now + soon());
    }

    /// When this queue next needs somebody.
    pub fn next(&self) -> Micros {
        let planned = DUTIES
            .iter()
            .zip(self.next)
            .filter(|(duty, _)| (duty.is_due)(self))
            .map(|(_, at)| at);
        // What was to come due may be settled before: that is asked now and then.
        let armed = self.armed.filter(|_| self.limited || self.notify);
        let armed = armed.map(|at| at.min(self.now + interval()));
        let space = self.wants_space.then_some(self.space_at);
        let coming = [self.expiry.at, self.key_expiry.at].into_iter().flatten();
        // No sooner than such a duty comes round.
        let coming = coming.map(|at| at.max(self.now + later()));
        planned
            .chain(armed)
            .chain(space)
            .chain(coming)
            .min()
            .unwrap_or(Micros::MAX)
    }
}
