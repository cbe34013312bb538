//! Sessions that wait for a message, as lists in shared memory: one a queue, changed under the
//! queue's lock. A waiter that is woken is out of its list, and told by its latch.
//!
//! Nothing here raises an error or allocates while a lock is held.

use super::board::{self, Held};
use super::shmem::zeroed;
use super::time::{self, Micros};
use pg_broker_core::board::Key;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

const FREE: u32 = 0;
const WAITING: u32 = 1;
const WOKEN: u32 = 2;

/// A place in the table of waiters.
#[repr(C)]
pub struct Node {
    state: AtomicU32,
    next: AtomicU32,
    previous: AtomicU32,
    latch: AtomicPtr<pg_sys::Latch>,
    /// When it began to look for the last time.
    looked_at: AtomicI64,
    /// When that came about for which it was woken, or as keeper was told to look; 0: unknown.
    called_for: AtomicI64,
}

static NODES: AtomicPtr<Node> = AtomicPtr::new(std::ptr::null_mut());
static ROOM: AtomicUsize = AtomicUsize::new(0);

/// How many waiters there is room for: every session may wait for some queues.
fn room() -> usize {
    // SAFETY: known since the server's start.
    usize::try_from(unsafe { pg_sys::MaxBackends }).unwrap_or(0) * 2
}

pub(in crate::pg) fn request() {
    // SAFETY: called from shmem_request_hook.
    unsafe { pg_sys::RequestAddinShmemSpace(room() * size_of::<Node>() + 64) }
}

pub(in crate::pg) fn startup() {
    let size = room() * size_of::<Node>();
    // SAFETY: called from shmem_startup_hook; all-zero is a free place.
    let nodes = unsafe { zeroed(c"pg_broker waiters", size) };
    NODES.store(nodes, Ordering::Release);
    ROOM.store(room(), Ordering::Release);
}

fn nodes() -> &'static [Node] {
    let nodes = NODES.load(Ordering::Acquire);
    if nodes.is_null() {
        return &[];
    }
    // SAFETY: the table lives as long as the server; its fields are atomic.
    unsafe { std::slice::from_raw_parts(nodes, ROOM.load(Ordering::Acquire)) }
}

/// A place's number plus one, as lists have it.
fn node(place: u32) -> Option<&'static Node> {
    nodes().get((place as usize).checked_sub(1)?)
}

/// Latches to be set once no lock is held.
pub struct Calls {
    latches: [*mut pg_sys::Latch; Calls::MOST],
    n: usize,
}

impl Calls {
    /// So many at once.
    pub const MOST: usize = 64;

    pub fn none() -> Self {
        Calls {
            latches: [std::ptr::null_mut(); Self::MOST],
            n: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.n >= Self::MOST
    }

    fn add(&mut self, node: &Node) {
        let latch = node.latch.load(Ordering::Acquire);
        if let Some(place) = self.latches.get_mut(self.n) {
            *place = latch;
            self.n += 1;
        }
    }

    pub fn make(self) {
        for latch in self.latches.into_iter().take(self.n) {
            if !latch.is_null() {
                // SAFETY: latches of sessions lie in shared memory as long as the server lives;
                // one that has changed hands is woken for nothing.
                unsafe { pg_sys::SetLatch(latch) }
            }
        }
    }
}

impl Held<'_> {
    fn append(&mut self, place: u32) {
        let Some(new) = node(place) else { return };
        let list = &mut self.state.waiters;
        new.next.store(0, Ordering::Relaxed);
        new.previous.store(list.last, Ordering::Relaxed);
        match node(list.last) {
            Some(last) => last.next.store(place, Ordering::Relaxed),
            None => list.first = place,
        }
        list.last = place;
        new.state.store(WAITING, Ordering::Release);
        list.n = list.n.saturating_add(1);
    }

    fn unlink(&mut self, place: u32) {
        let Some(gone) = node(place) else { return };
        let (previous, next) = (
            gone.previous.load(Ordering::Relaxed),
            gone.next.load(Ordering::Relaxed),
        );
        let list = &mut self.state.waiters;
        match node(previous) {
            Some(p) => p.next.store(next, Ordering::Relaxed),
            None => list.first = next,
        }
        match node(next) {
            Some(n) => n.previous.store(previous, Ordering::Relaxed),
            None => list.last = previous,
        }
        list.n = list.n.saturating_sub(1);
        if list.first == 0 {
            list.check_at = 0;
        }
    }

    pub fn has_waiters(&self) -> bool {
        self.state.waiters.first != 0
    }

    fn call_keeper(&self, calls: &mut Calls) {
        if let Some(first) = node(self.state.waiters.first) {
            calls.add(first);
        }
    }

    /// Wakes up to `n` waiters, the keeper last; the keeper sees to it after a while that whoever
    /// was woken took what there was.
    pub fn wake(&mut self, n: usize, now: Micros, calls: &mut Calls) {
        // Who only took or settled something wakes nobody.
        if n == 0 {
            return;
        }
        for _ in 0..n {
            let list = self.state.waiters;
            let keeper = list.first;
            let place = match node(keeper).map(|k| k.next.load(Ordering::Relaxed)) {
                None => return,
                Some(0) => keeper,
                Some(second) => second,
            };
            // The keeper takes one call too.
            if calls.n + 1 >= Calls::MOST {
                break;
            }
            self.call(place, now, calls);
        }
        self.check_later(now, calls);
    }

    fn call(&mut self, place: u32, event: Micros, calls: &mut Calls) {
        self.unlink(place);
        if let Some(woken) = node(place) {
            woken.called_for.store(event, Ordering::Relaxed);
            woken.state.store(WOKEN, Ordering::Release);
            calls.add(woken);
        }
    }

    /// Wakes one waiter who has not looked since `event`, the keeper last.
    fn hand_on(&mut self, event: Micros, calls: &mut Calls) {
        let keeper = self.state.waiters.first;
        let is_late = |n: &Node| n.looked_at.load(Ordering::Acquire) < event;
        let next = |n: &Node| n.next.load(Ordering::Relaxed);
        let mut place = node(keeper).map_or(0, next);
        while let Some(one) = node(place) {
            if is_late(one) {
                return self.call(place, event, calls);
            }
            place = next(one);
        }
        if let Some(one) = node(keeper).filter(|n| is_late(n)) {
            // He stays the keeper.
            if self.state.waiters.check_at == 0 {
                one.called_for.store(event, Ordering::Relaxed);
            }
            self.state.waiters.check_at = event;
            calls.add(one);
        }
    }

    /// Has the keeper look after a while.
    fn check_later(&mut self, now: Micros, calls: &mut Calls) {
        if self.has_waiters() && self.state.waiters.check_at == 0 {
            self.state.waiters.check_at = now.saturating_add(LOAN);
            if self.state.waiters.keeper_until > self.state.waiters.check_at {
                self.call_keeper(calls);
            }
        }
    }

    /// Something falls due then: the keeper must not sleep longer. What is over already, as when the
    /// transaction took its time, is nothing to wait for any more.
    pub fn falls_due(&mut self, due: Micros, calls: &mut Calls) {
        let now = time::now();
        if due <= now {
            self.wake(1, now, calls);
        } else if self.has_waiters() && self.state.waiters.keeper_until > due {
            self.call_keeper(calls);
        }
    }

    /// Wakes everybody that there is room to call; gives whether that were all.
    pub fn wake_all(&mut self, calls: &mut Calls) -> bool {
        while self.has_waiters() && !calls.is_full() {
            self.call(self.state.waiters.first, time::now(), calls);
        }
        !self.has_waiters()
    }
}

/// How long a woken waiter is given to take what it was woken for.
const LOAN: Micros = 100_000;

/// This session waiting for a queue.
#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    key: Key,
    place: u32,
}

/// What a waiter is told before it sleeps.
pub struct Role {
    /// Woken, or made keeper: it is to look now.
    pub must_look: bool,
    /// When it is to look at the latest, if that is its business.
    pub until: Option<Micros>,
    /// When what it is to look for came about, if it is to look: who has looked since has seen that.
    pub event: Micros,
}

impl Waiter {
    /// Enters the list; none when there is no room.
    pub fn enter(key: Key) -> Option<Self> {
        let all = nodes();
        // SAFETY: reads a variable of this backend; the latch is this session's own.
        let (start, latch) = unsafe { (pg_sys::MyProcPid as usize, pg_sys::MyLatch) };
        let at = (0..all.len()).map(|i| (start + i) % all.len()).find(|&i| {
            all[i]
                .state
                .compare_exchange(FREE, WOKEN, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        })?;
        let waiter = Waiter {
            key,
            place: at as u32 + 1,
        };
        all[at].latch.store(latch, Ordering::Release);
        all[at].looked_at.store(0, Ordering::Release);
        all[at].called_for.store(0, Ordering::Relaxed);
        if board::with(key, true, |h| h.append(waiter.place)).is_none() {
            all[at].state.store(FREE, Ordering::Release);
            return None;
        }
        Some(waiter)
    }

    fn is_woken(self) -> bool {
        node(self.place).is_some_and(|n| n.state.load(Ordering::Acquire) == WOKEN)
    }

    /// Is about to look; enters the list again after it was woken.
    pub fn again(self, now: Micros) {
        if let Some(own) = node(self.place) {
            own.looked_at.store(now, Ordering::Release);
        }
        if self.is_woken() {
            board::with(self.key, true, |h| h.append(self.place));
        }
    }

    /// Before sleeping; the keeper looks at `latest`. `was_keeper` keeps whether this one was the keeper when it last asked.
    pub fn role(
        self,
        was_keeper: &mut bool,
        looked_at: Micros,
        latest: Micros,
        now: Micros,
    ) -> Role {
        let called_for = || match node(self.place) {
            Some(own) => match own.called_for.swap(0, Ordering::Relaxed) {
                0 => now,
                event => event,
            },
            None => now,
        };
        if self.is_woken() {
            return Role {
                must_look: true,
                until: None,
                event: called_for(),
            };
        }
        let told = board::with(self.key, false, |h| {
            if h.state.waiters.first != self.place {
                return None;
            }
            let mut until = latest;
            let check = h.state.waiters.check_at;
            // Also when what it sleeps for was found by somebody else, as the worker: he may not
            // have taken it.
            let slept_until = std::mem::take(&mut h.state.waiters.keeper_until);
            let is_over = slept_until > looked_at && slept_until <= now;
            let mut must_look = !*was_keeper || latest <= now || is_over;
            if check != 0 {
                must_look |= check <= now;
                if must_look {
                    h.state.waiters.check_at = 0;
                } else {
                    until = until.min(check);
                }
            }
            let opens_at = h.state.gate.opens_at();
            if let Some(due) = h.next_due().into_iter().chain(opens_at).min() {
                // What fell due before the last look and was left is not for us, as in a pause.
                let is_left = due <= looked_at;
                must_look |= due <= now && !is_left;
                until = until.min(if is_left { now + LOAN } else { due });
            }
            h.state.waiters.keeper_until = until;
            Some((must_look, until))
        });
        match told.flatten() {
            Some((must_look, until)) => {
                *was_keeper = true;
                Role {
                    must_look,
                    until: Some(until),
                    event: if must_look { called_for() } else { now },
                }
            }
            None => {
                *was_keeper = false;
                Role {
                    must_look: false,
                    until: None,
                    event: now,
                }
            }
        }
    }

    /// Has looked, and there may be something that is not for it: has somebody look who has not
    /// done so since `event`.
    pub fn hand_on(self, event: Micros) {
        let mut calls = Calls::none();
        board::with(self.key, false, |h| h.hand_on(event, &mut calls));
        calls.make();
    }

    /// Leaves. One that was woken and goes without having looked passes the call on.
    pub fn leave(self, passes_on: bool, now: Micros) {
        let mut calls = Calls::none();
        board::with(self.key, false, |h| {
            if self.is_woken() {
                if passes_on {
                    h.wake(1, now, &mut calls);
                }
            } else {
                let was_keeper = h.state.waiters.first == self.place;
                h.unlink(self.place);
                if was_keeper {
                    h.state.waiters.keeper_until = 0;
                    h.call_keeper(&mut calls);
                }
            }
        });
        if let Some(n) = node(self.place) {
            n.state.store(FREE, Ordering::Release);
        }
        calls.make();
    }
}
