//! Failures of deliveries whose transaction rolled back, in shared memory until the next reader of
//! the queue writes them to the rows: bounded, and lost with a crash of the server. Only there when
//! the library was preloaded.
//!
//! A reader of a queue without any pays for one atomic load. Nothing here allocates or raises an
//! error while the lock is held.

use super::calm;
use super::roster;
use super::shmem::zeroed;
use super::value::Oid;
use pgrx::pg_sys;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

const PLACES: usize = 4096;
/// A message is kept within so many places from where its id says.
const PROBES: usize = 64;
/// Queues are told apart by so many counters, to see at once that there is nothing.
const COUNTERS: usize = 256;
const TRANCHE: &std::ffi::CStr = c"pg_broker failures";

#[repr(C)]
#[derive(Clone, Copy)]
struct Place {
    /// 0: free.
    database: u32,
    storage: u32,
    id: i64,
    failures: i64,
}

#[repr(C)]
struct Table {
    /// How many places in use belong to queues of each hash.
    counters: [AtomicU32; COUNTERS],
    /// Under the lock.
    places: UnsafeCell<[Place; PLACES]>,
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(std::ptr::null_mut());
static LOCK: AtomicPtr<pg_sys::LWLockPadded> = AtomicPtr::new(std::ptr::null_mut());

/// Asks for the memory and the lock, in the hook for that.
pub(in crate::pg) fn request() {
    // SAFETY: called from shmem_request_hook.
    unsafe {
        pg_sys::RequestAddinShmemSpace(size_of::<Table>());
        pg_sys::RequestNamedLWLockTranche(TRANCHE.as_ptr(), 1);
    }
}

/// Takes the memory in use, in the hook for that.
pub(in crate::pg) fn startup() {
    // SAFETY: called from shmem_startup_hook; all-zero is no failures.
    unsafe {
        let table = zeroed(c"pg_broker blames", size_of::<Table>());
        LOCK.store(
            pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr()),
            Ordering::Release,
        );
        TABLE.store(table, Ordering::Release);
    }
}

fn table() -> Option<&'static Table> {
    // SAFETY: null, or memory that lives as long as the server.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }
}

/// Looks at all places under the lock.
fn locked<R>(table: &Table, f: impl FnOnce(&mut [Place; PLACES]) -> R) -> R {
    // SAFETY: the lock came with its tranche; `f` raises nothing, so that it is released here.
    unsafe {
        let lock = &raw mut (*LOCK.load(Ordering::Acquire)).lock;
        calm::acquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let result = f(&mut *table.places.get());
        calm::release(lock);
        result
    }
}

fn counter(table: &Table, database: u32, storage: u32) -> Option<&AtomicU32> {
    let word = (u64::from(database) << 32) | u64::from(storage);
    table
        .counters
        .get((word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % COUNTERS)
}

/// Remembers failures of a message of this database; false when there is no room.
pub fn add(storage: Oid, id: i64, failures: i64) -> bool {
    let Some(table) = table() else { return false };
    let (database, storage) = (roster::own_database(), u32::from(storage));
    locked(table, |places| {
        let is_same = |p: &Place| p.database == database && p.storage == storage && p.id == id;
        let home = id.unsigned_abs() as usize + storage as usize * PROBES;
        let mut free = None;
        for at in (0..PROBES).map(|i| (home + i) % PLACES) {
            match places.get_mut(at) {
                Some(known) if is_same(known) => {
                    known.failures = known.failures.saturating_add(failures);
                    return true;
                }
                Some(place) if place.database == 0 => free = free.or(Some(at)),
                _ => {}
            }
        }
        let Some(free) = free.and_then(|at| places.get_mut(at)) else {
            return false;
        };
        *free = Place {
            database,
            storage,
            id,
            failures,
        };
        if let Some(n) = counter(table, database, storage) {
            n.fetch_add(1, Ordering::AcqRel);
        }
        true
    })
}

/// Whether there may be failures of a queue of this database.
pub fn any(storage: Oid) -> bool {
    let at = |t| counter(t, roster::own_database(), u32::from(storage));
    table()
        .and_then(at)
        .is_some_and(|n| n.load(Ordering::Acquire) > 0)
}

/// Takes up to as many failures of a queue of this database as the list has room for.
pub fn take(storage: Oid, into: &mut Vec<(i64, i64)>) {
    let Some(table) = table() else { return };
    let (database, storage) = (roster::own_database(), u32::from(storage));
    into.reserve(PLACES);
    locked(table, |places| {
        for p in places.iter_mut() {
            if p.database == database && p.storage == storage && into.len() < into.capacity() {
                into.push((p.id, p.failures));
                p.database = 0;
                if let Some(n) = counter(table, database, storage) {
                    n.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
    });
}

/// Forgets the failures of which `is_gone`, given database and storage, says that the queue is no
/// more. It is asked without the lock held, and may look at the catalog.
pub fn forget(is_gone: impl Fn(u32, u32) -> bool) {
    let Some(table) = table() else { return };
    let mut queues: Vec<(u32, u32)> = Vec::with_capacity(PLACES);
    locked(table, |places| {
        let used = places.iter().filter(|p| p.database != 0);
        queues.extend(used.map(|p| (p.database, p.storage)));
    });
    queues.sort_unstable();
    queues.dedup();
    queues.retain(|&(database, storage)| is_gone(database, storage));
    if queues.is_empty() {
        return;
    }
    locked(table, |places| {
        for p in places.iter_mut() {
            if queues.contains(&(p.database, p.storage)) {
                if let Some(n) = counter(table, p.database, p.storage) {
                    n.fetch_sub(1, Ordering::AcqRel);
                }
                p.database = 0;
            }
        }
    });
}
