//! The board in shared memory: one state a queue, each under its own lock, and a pool of lanes that
//! queues take as they need them. Only there when the library was preloaded. What it says is a
//! hint: when there is no room for a queue, or no board, readers start at the beginning.
//!
//! Nothing that runs under a lock of the board may raise an error or allocate.

use super::calm;
use super::pool::Pool;
use super::shmem::zeroed;
use super::time::Micros;
use super::value::Oid;
use super::waiters::Calls;
use pg_broker_core::board::{DEFAULT_RANK, Key, QueueState, RANKS};
use pg_broker_core::fair::Round;
use pg_broker_core::frontier::{Lane, Span};
use pg_broker_core::groups::Groups;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static QUEUES: AtomicPtr<QueueState> = AtomicPtr::new(std::ptr::null_mut());
static LANES: Pool<Lane> = Pool::new();
static GROUPS: Pool<Groups> = Pool::new();
static ROUNDS: Pool<Round> = Pool::new();
static LOCKS: AtomicPtr<pg_sys::LWLockPadded> = AtomicPtr::new(std::ptr::null_mut());
static ROOM: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where this session has found queues.
    static FOUND: RefCell<HashMap<Key, usize>> = RefCell::default();
    /// The one looked at last.
    static LAST: Cell<(Key, usize)> = const { Cell::new((Key::FREE, 0)) };
}

/// So many places are looked at for a queue, from where its key leads on: a queue that finds none
/// goes without, and must not pay for looking.
const PROBES: usize = 256;

/// More places than this are not remembered.
const REMEMBERED: usize = 4096;
const TRANCHE: &std::ffi::CStr = c"pg_broker";

/// How many lanes there are for so many queues: one each, and some for further priorities.
fn lanes_for(queues: usize) -> usize {
    queues + queues / 4 + 16
}

/// How many of so many queues may have groups, or need not look at everything each time.
fn groups_for(queues: usize) -> usize {
    queues / 8 + 16
}

/// How many may have tenants that take turns: the others go on in the order of ids.
fn rounds_for(queues: usize) -> usize {
    queues / 16 + 8
}

/// Asks for the memory and the locks, in the hook for that.
pub(in crate::pg) fn request(queues: usize) {
    // SAFETY: called from shmem_request_hook; one lock a queue and one for the table of them.
    unsafe {
        pg_sys::RequestAddinShmemSpace(queues * size_of::<QueueState>() + 64);
        pg_sys::RequestNamedLWLockTranche(TRANCHE.as_ptr(), queues as i32 + 1);
    }
    Pool::<Lane>::request(lanes_for(queues));
    Pool::<Groups>::request(groups_for(queues));
    Pool::<Round>::request(rounds_for(queues));
}

/// Takes the memory in use, in the hook for that.
pub(in crate::pg) fn startup(queues: usize) {
    // SAFETY: called from shmem_startup_hook; all-zero is a free queue, and a fresh lane.
    unsafe {
        let bytes = queues * size_of::<QueueState>();
        QUEUES.store(zeroed(c"pg_broker queues", bytes), Ordering::Release);
        let (groups, rounds) = (groups_for(queues), rounds_for(queues));
        LANES.startup(
            lanes_for(queues),
            c"pg_broker lanes",
            c"pg_broker lane owners",
        );
        GROUPS.startup(groups, c"pg_broker groups", c"pg_broker group owners");
        ROUNDS.startup(rounds, c"pg_broker rounds", c"pg_broker round owners");
        LOCKS.store(
            pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr()),
            Ordering::Release,
        );
        ROOM.store(queues, Ordering::Release);
    }
}

pub fn is_there() -> bool {
    ROOM.load(Ordering::Acquire) > 0
}

/// The key of a queue of this database.
pub fn key(storage: Oid, created: i64) -> Key {
    Key {
        // SAFETY: reads backend state.
        database: u32::from(unsafe { pg_sys::MyDatabaseId }),
        storage: u32::from(storage),
        created,
    }
}

struct Locked(*mut pg_sys::LWLock);

impl Locked {
    fn take(n: usize, mode: pg_sys::LWLockMode::Type) -> Self {
        // SAFETY: the tranche has one lock more than there are queues.
        unsafe {
            let lock = &raw mut (*LOCKS.load(Ordering::Acquire).add(n)).lock;
            calm::acquire(lock, mode);
            Locked(lock)
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // After an error PostgreSQL has released it already.
        if !std::thread::panicking() {
            // SAFETY: taken by this.
            unsafe { calm::release(self.0) }
        }
    }
}

/// A queue's state while its lock is held.
pub struct Held<'a> {
    n: usize,
    pub state: &'a mut QueueState,
}

impl Held<'_> {
    /// The lane of a rank, if there is one; with `create`, if there is room for one.
    pub fn lane(&mut self, rank: usize, create: bool) -> Option<&mut Lane> {
        let place = self.state.lanes.get_mut(rank)?;
        thing(&LANES, place, self.n, create, Lane::reset)
    }

    /// What is kept of the queue's groups, if anything; with `create`, if there is room for it.
    pub fn groups(&mut self, create: bool) -> Option<&mut Groups> {
        thing(
            &GROUPS,
            &mut self.state.groups,
            self.n,
            create,
            Groups::begin,
        )
    }

    /// The same of the turns of its tenants.
    pub fn round(&mut self, create: bool) -> Option<&mut Round> {
        thing(&ROUNDS, &mut self.state.round, self.n, create, Round::begin)
    }

    /// Messages of a rank may be ready there.
    pub fn report(&mut self, rank: usize, ids: Span) {
        self.state.report_rank(rank);
        if let Some(lane) = self.lane(rank, false) {
            lane.report(ids.lo, ids.hi);
        }
    }

    /// When the next of the queue's messages falls due.
    pub fn next_due(&mut self) -> Option<Micros> {
        (0..RANKS)
            .filter_map(|rank| self.lane(rank, false).and_then(|lane| lane.next_due()))
            .min()
    }

    fn free_all(&mut self) {
        let lanes = std::mem::take(&mut self.state.lanes);
        lanes.into_iter().for_each(|place| give_back(&LANES, place));
        give_back(&GROUPS, std::mem::take(&mut self.state.groups));
        give_back(&ROUNDS, std::mem::take(&mut self.state.round));
    }
}

/// What queue `n`, whose lock is held, has of a pool at a place (plus one; 0 for nothing).
fn thing<T>(
    pool: &Pool<T>,
    place: &mut u32,
    n: usize,
    create: bool,
    begin: impl FnOnce(&mut T),
) -> Option<&'static mut T> {
    let at = match *place {
        0 if !create => return None,
        0 => pool.claim(n)?,
        there => there as usize - 1,
    };
    // SAFETY: it belongs to this queue, whose lock is held.
    let thing = unsafe { pool.get(at)? };
    if *place == 0 {
        begin(thing);
        *place = at as u32 + 1;
    }
    Some(thing)
}

fn give_back<T>(pool: &Pool<T>, place: u32) {
    if place > 0 {
        pool.free(place as usize - 1);
    }
}

fn state(n: usize) -> Option<&'static mut QueueState> {
    // SAFETY: callers hold the queue's lock, or the table's where only the key is looked at.
    unsafe { QUEUES.load(Ordering::Acquire).add(n).as_mut() }
}

/// Looks at a queue's state under its lock; none when it has none (and, with `create`, when there
/// is no room).
pub fn with<R>(key: Key, create: bool, f: impl FnOnce(&mut Held) -> R) -> Option<R> {
    let room = ROOM.load(Ordering::Acquire);
    if room == 0 {
        return None;
    }
    let (last, n) = LAST.get();
    let known = match last == key {
        true => Some(n),
        false => FOUND.with(|f| f.try_borrow().ok().and_then(|f| f.get(&key).copied())),
    };
    if let Some(n) = known {
        let _lock = Locked::take(n, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let state = state(n)?;
        if state.key == key {
            LAST.set((key, n));
            return Some(f(&mut Held { n, state }));
        }
    }
    let (n, lock) = find(key, create, room)?;
    let result = state(n).map(|state| f(&mut Held { n, state }));
    drop(lock);
    FOUND.with(|f| {
        if let Ok(mut found) = f.try_borrow_mut() {
            if found.len() >= REMEMBERED {
                found.clear();
            }
            found.insert(key, n);
        }
    });
    result
}

/// Whether a queue has a place, and a lane for its default rank; it is given them if there is room.
pub fn has_room(key: Key) -> bool {
    [false, true].into_iter().any(|create| {
        with(key, create, |h| h.lane(DEFAULT_RANK, create).is_some()).unwrap_or(false)
    })
}

/// Where a queue's state is, locked.
fn find(key: Key, create: bool, room: usize) -> Option<(usize, Locked)> {
    let mode = match create {
        true => pg_sys::LWLockMode::LW_EXCLUSIVE,
        false => pg_sys::LWLockMode::LW_SHARED,
    };
    let _table = Locked::take(room, mode);
    let mut vacant = None;
    let mut at = None;
    for i in 0..room.min(PROBES) {
        let n = ((key.hash() as usize % room) + i) % room;
        let found = state(n)?.key;
        if found == key {
            at = Some(n);
            break;
        }
        if found.is_vacant() {
            vacant = vacant.or(Some(n));
        }
        if found == Key::FREE {
            break;
        }
    }
    let (n, is_new) = match (at, vacant) {
        (Some(n), _) => (n, false),
        (None, Some(n)) if create => (n, true),
        _ => return None,
    };
    let lock = Locked::take(n, pg_sys::LWLockMode::LW_EXCLUSIVE);
    if is_new {
        state(n)?.begin(key);
    }
    Some((n, lock))
}

/// Gives up the states of which `is_gone` says that their queue is no more. It is asked without a
/// lock held, and may look at the catalog.
pub fn forget(is_gone: impl Fn(&Key) -> bool) {
    let room = ROOM.load(Ordering::Acquire);
    for n in 0..room {
        let key = {
            let _lock = Locked::take(n, pg_sys::LWLockMode::LW_SHARED);
            state(n).map(|s| s.key)
        };
        let Some(key) = key.filter(|k| !k.is_vacant() && is_gone(k)) else {
            continue;
        };
        let _table = Locked::take(room, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let _lock = Locked::take(n, pg_sys::LWLockMode::LW_EXCLUSIVE);
        if let Some(state) = state(n)
            && state.key == key
        {
            let mut held = Held { n, state };
            // Few wait for one queue; a call too many for one go is made under the lock.
            loop {
                let mut calls = Calls::none();
                let all = held.wake_all(&mut calls);
                calls.make();
                if all {
                    break;
                }
            }
            held.free_all();
            held.state.key = Key::LEFT;
        }
    }
}

/// The queues of this database whose state is such.
pub fn own(is_such: impl Fn(&QueueState) -> bool) -> Vec<Key> {
    let room = ROOM.load(Ordering::Acquire);
    let database = key(Oid::INVALID, 0).database;
    let mut keys = Vec::with_capacity(room);
    if room > 0 {
        let _table = Locked::take(room, pg_sys::LWLockMode::LW_SHARED);
        for n in 0..room {
            let Some(state) = state(n).filter(|s| s.key.database == database) else {
                continue;
            };
            let _lock = Locked::take(n, pg_sys::LWLockMode::LW_SHARED);
            if is_such(state) {
                keys.push(state.key);
            }
        }
    }
    keys
}

/// Whether the queue of a key of any database is gone.
pub fn is_orphan(key: &Key) -> bool {
    // SAFETY: reads backend state, and looks the database up.
    unsafe {
        if u32::from(pg_sys::MyDatabaseId) == key.database {
            return !super::rel::exists(Oid::from(key.storage));
        }
        let name = pg_sys::get_database_name(Oid::from(key.database));
        name.is_null()
    }
}

/// Whether a transaction is still open (or prepared).
pub fn is_open(xid: u32) -> bool {
    // SAFETY: looks the transaction up in shared memory.
    unsafe { pg_sys::TransactionIdIsInProgress(pg_sys::TransactionId::from(xid)) }
}

/// Whether a transaction that is over was committed; not known of one long past.
pub fn has_committed(xid: u32) -> bool {
    // SAFETY: the function takes a number by value, and looks at the log of commits only as far as
    // that is kept.
    let status: Option<String> = unsafe {
        let next = pg_sys::ReadNextFullTransactionId().value;
        let this_round = (next >> 32 << 32) | u64::from(xid);
        let number = match this_round < next {
            true => this_round,
            false => this_round.wrapping_sub(1 << 32),
        };
        pgrx::direct_function_call(pg_sys::pg_xact_status, &[Some(pg_sys::Datum::from(number))])
    };
    status.is_some_and(|s| s == "committed")
}

/// The number of the transaction in progress, if it has one; unlike its id it never returns.
/// Also to be had while the end of the transaction is told.
pub fn own_number() -> Option<u64> {
    // SAFETY: reads backend state.
    let number = unsafe { pg_sys::GetTopFullTransactionIdIfAny() }.value;
    (number != 0).then_some(number)
}

/// The transaction id of the transaction in progress, if it has one.
pub fn own_xid() -> Option<u32> {
    // SAFETY: reads backend state.
    let xid = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    let xid = u32::from(xid);
    (xid != 0).then_some(xid)
}
