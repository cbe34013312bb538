//! The buckets of tokens of queues that limit their rate by key, in shared memory: a table in sets,
//! each under a lock that it shares with others. Only there when the library was preloaded.
//!
//! Nothing here allocates or raises an error while a lock is held.

use super::calm;
use super::shmem::zeroed;
use super::time::{self, Micros};
use pg_broker_core::rate::Keyed;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicUsize, Ordering};

/// A key's bucket is in one of so many places.
const WAYS: usize = 32;
const LOCKS: usize = 64;
const TRANCHE: &std::ffi::CStr = c"pg_broker rates";

static TABLE: AtomicPtr<Keyed> = AtomicPtr::new(std::ptr::null_mut());
static LOCK: AtomicPtr<pg_sys::LWLockPadded> = AtomicPtr::new(std::ptr::null_mut());
static SETS: AtomicUsize = AtomicUsize::new(0);
/// When shared memory was made.
static STARTED: AtomicI64 = AtomicI64::new(0);

/// How many sets there are for so many keys.
fn sets(keys: usize) -> usize {
    keys.div_ceil(WAYS).max(1)
}

/// Asks for the memory and the locks, in the hook for that.
pub(in crate::pg) fn request(keys: usize) {
    // SAFETY: called from shmem_request_hook.
    unsafe {
        pg_sys::RequestAddinShmemSpace(sets(keys) * WAYS * size_of::<Keyed>() + 64);
        pg_sys::RequestNamedLWLockTranche(TRANCHE.as_ptr(), LOCKS as i32);
    }
}

/// Takes the memory in use, in the hook for that.
pub(in crate::pg) fn startup(keys: usize) {
    // SAFETY: called from shmem_startup_hook; all-zero is a full bucket, which is nobody's.
    unsafe {
        let table = zeroed(c"pg_broker rates", sets(keys) * WAYS * size_of::<Keyed>());
        LOCK.store(
            pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr()),
            Ordering::Release,
        );
        TABLE.store(table, Ordering::Release);
        SETS.store(sets(keys), Ordering::Release);
        STARTED.store(time::now(), Ordering::Release);
    }
}

/// When all that shared memory says began: what was before, nobody knows.
pub fn started() -> Micros {
    STARTED.load(Ordering::Acquire)
}

/// The places where the bucket of a key may be, under their lock, with the time. None without a table.
pub fn with<R>(key: u64, f: impl FnOnce(&mut [Keyed], Micros) -> R) -> Option<R> {
    let sets = SETS.load(Ordering::Acquire);
    let table = TABLE.load(Ordering::Acquire);
    if table.is_null() || sets == 0 {
        return None;
    }
    let set = key as usize % sets;
    // SAFETY: the table has so many sets of so many places, and lives as long as the server; the lock
    // came with its tranche; `f` raises nothing, so that it is released here.
    unsafe {
        let lock = &raw mut (*LOCK.load(Ordering::Acquire).add(set % LOCKS)).lock;
        calm::acquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let places = std::slice::from_raw_parts_mut(table.add(set * WAYS), WAYS);
        let result = f(places, time::now());
        calm::release(lock);
        Some(result)
    }
}
