//! Waiting for a message: the session enters the queue's list, looks, and sleeps until a commit
//! wakes it, or until it is to look by itself.

use super::frontier;
use crate::catalog::Queue;
use crate::pg::time::{self, Micros};
use crate::pg::wait;
use crate::pg::waiters::Waiter;
use crate::settings::RECHECK;
use pg_broker_core::board::Key;
use std::cell::RefCell;

struct Place {
    waiter: Waiter,
    was_keeper: bool,
    /// Told to look because of what came about then.
    event: Option<Micros>,
}

thread_local! {
    /// Where this session waits. Left by an error too, when its transaction aborts.
    static PLACES: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// Without a list to be in, a waiter looks again after so many milliseconds, at first and later.
const SOON: i64 = 10;
const LATER: i64 = 50;
/// Who holds locks sees after so many microseconds, again and again, whether that keeps somebody
/// waiting.
const TURN: Micros = 200_000;
/// So many looks come soon.
const IMPATIENT: u32 = 100;

/// A session that waits.
pub struct Waiting {
    joined: Vec<Key>,
    /// In the lists of all its queues.
    is_listed: bool,
    deadline: Option<Micros>,
    looked_at: Micros,
    looks: u32,
    /// When to see next whether somebody waits for what this session holds.
    turn_at: Micros,
    /// When it leaves, what it was woken for may be for others.
    passes_on: bool,
}

impl Waiting {
    pub fn until(deadline: Option<Micros>) -> Self {
        Waiting {
            joined: Vec::new(),
            is_listed: true,
            deadline,
            looked_at: 0,
            looks: 0,
            turn_at: time::now() + TURN,
            passes_on: false,
        }
    }

    /// Enters a queue's list, once, before the first look at it.
    pub fn join(&mut self, q: &Queue) {
        let key = frontier::key(q);
        if self.joined.contains(&key) {
            return;
        }
        self.joined.push(key);
        match Waiter::enter(key) {
            Some(waiter) => PLACES.with(|p| {
                p.borrow_mut().push(Place {
                    waiter,
                    was_keeper: true,
                    event: None,
                });
            }),
            None => self.is_listed = false,
        }
    }

    /// Before each look: what is reported from now on wakes.
    pub fn looking(&mut self) {
        self.looked_at = time::now();
        self.looks = self.looks.saturating_add(1);
        PLACES.with(|p| {
            p.borrow()
                .iter()
                .for_each(|p| p.waiter.again(self.looked_at))
        });
    }

    /// After a look in which something was left, or may have been, that others would take: they are
    /// told, one after the other, until one of them takes it.
    pub fn hand_on(&mut self) {
        self.passes_on = true;
        PLACES.with(|p| {
            for place in p.borrow_mut().iter_mut() {
                if let Some(event) = place.event.take() {
                    place.waiter.hand_on(event);
                }
            }
        });
    }

    /// Sleeps until it is time to look; false when the time is over. There is a look after that,
    /// for what nobody told of.
    pub fn sleep(&mut self) -> bool {
        self.sleep_turning(None)
    }

    /// The same for who holds locks meanwhile: over, too, soon after `is_in_the_way` says so, which
    /// is asked now and then, but not at once.
    pub fn sleep_holding(&mut self, is_in_the_way: impl Fn() -> bool) -> bool {
        self.sleep_turning(Some(&is_in_the_way))
    }

    fn sleep_turning(&mut self, is_in_the_way: Option<&dyn Fn() -> bool>) -> bool {
        loop {
            let now = time::now();
            if let Some(deadline) = self.deadline
                && deadline <= now
            {
                return self.looked_at < deadline;
            }
            let mut until = self.deadline;
            let mut earlier = |at: Micros| until = Some(until.map_or(at, |u| u.min(at)));
            if let Some(is_in_the_way) = is_in_the_way {
                if self.turn_at <= now {
                    self.turn_at = now + TURN;
                    if is_in_the_way() {
                        self.passes_on = true;
                        return false;
                    }
                }
                earlier(self.turn_at);
            }
            if self.is_listed {
                let latest = self.looked_at + i64::from(RECHECK.get()) * 1000;
                let roles: Vec<_> = PLACES.with(|p| {
                    p.borrow_mut()
                        .iter_mut()
                        .map(|p| {
                            let role =
                                p.waiter
                                    .role(&mut p.was_keeper, self.looked_at, latest, now);
                            p.event = role.must_look.then_some(role.event);
                            role
                        })
                        .collect()
                });
                if roles.iter().any(|r| r.must_look) {
                    return true;
                }
                roles.iter().filter_map(|r| r.until).for_each(&mut earlier);
            } else {
                let step = if self.looks < IMPATIENT { SOON } else { LATER };
                let at = self.looked_at + step * 1000;
                if at <= now {
                    return true;
                }
                earlier(at);
            }
            wait::sleep(until.map(|u| (u - now + 999) / 1000));
        }
    }

    /// Leaves the lists: what it was woken for it has seen, unless it gave way or is choosy.
    pub fn leave(self) {
        leave(self.passes_on);
    }
}

fn leave(passes_on: bool) {
    let places = PLACES.with(|p| std::mem::take(&mut *p.borrow_mut()));
    let now = time::now();
    for place in places {
        place.waiter.leave(passes_on, now);
    }
}

/// The transaction aborts, perhaps because the waiter was cancelled.
pub(super) fn abort() {
    if PLACES.with(|p| !p.borrow().is_empty()) {
        leave(true);
    }
}
