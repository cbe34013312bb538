//! Queues that somebody has to be told of, for the worker: one mark a queue in shared memory, set
//! by whoever commits and taken by the worker of the database. Only there when the library was
//! preloaded; when there is no room for a mark, the worker tells of all queues.

use super::roster;
use super::shmem::zeroed;
use super::value::Oid;
use pgrx::pg_sys;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

const MARKS: usize = 1024;
const PROBES: usize = 16;
const FREE: u64 = 0;
/// How many databases can be told of as a whole.
const WHOLE: usize = 64;

#[repr(C)]
struct Bell {
    /// Database and storage of a queue.
    marks: [AtomicU64; MARKS],
    whole: [AtomicU32; WHOLE],
}

static BELL: AtomicPtr<Bell> = AtomicPtr::new(std::ptr::null_mut());

/// Asks for the memory, in the hook for that.
pub(in crate::pg) fn request() {
    // SAFETY: called from shmem_request_hook.
    unsafe { pg_sys::RequestAddinShmemSpace(size_of::<Bell>()) }
}

/// Takes the memory in use, in the hook for that.
pub(in crate::pg) fn startup() {
    // SAFETY: called from shmem_startup_hook; all-zero is no marks.
    let bell = unsafe { zeroed(c"pg_broker bell", size_of::<Bell>()) };
    BELL.store(bell, Ordering::Release);
}

fn bell() -> Option<&'static Bell> {
    // SAFETY: null, or memory that lives as long as the server and holds atomics only.
    unsafe { BELL.load(Ordering::Acquire).as_ref() }
}

fn mark(storage: u32) -> u64 {
    (u64::from(roster::own_database()) << 32) | u64::from(storage)
}

fn wake() {
    if let Some(entry) = roster::entry(roster::own_database()) {
        entry.wake_worker();
    }
}

/// Whether there is a worker that would hear.
pub fn is_heard() -> bool {
    roster::entry(roster::own_database()).is_some_and(|e| e.worker_pid().is_some())
}

/// Marks a queue of this database and wakes the worker. Neither allocates nor raises.
pub fn ring(storage: Oid) {
    match put(u32::from(storage)) {
        true => wake(),
        false => ring_all(),
    }
}

/// Marks a queue of this database, for the worker's next round; false when there is no room.
pub fn put(storage: u32) -> bool {
    let Some(bell) = bell() else { return true };
    let mark = mark(storage);
    let home = (mark.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
    (0..PROBES)
        .filter_map(|i| bell.marks.get((home + i) % MARKS))
        .any(|place| {
            let found = place.compare_exchange(FREE, mark, Ordering::AcqRel, Ordering::Acquire);
            found.is_ok() || found == Err(mark)
        })
}

/// Marks all queues of this database and wakes the worker.
pub fn ring_all() {
    let Some(bell) = bell() else { return };
    let own = roster::own_database();
    for place in &bell.whole {
        let found = place.compare_exchange(0, own, Ordering::AcqRel, Ordering::Acquire);
        if found.is_ok() || found == Err(own) {
            break;
        }
    }
    wake();
}

/// Takes the marks of this database: storages of queues, and whether all of them are meant.
pub fn take() -> (Vec<u32>, bool) {
    let Some(bell) = bell() else {
        return (Vec::new(), false);
    };
    let own = roster::own_database();
    let take_one = |place: &AtomicU64| {
        let mark = place.load(Ordering::Acquire);
        let is_ours = mark >> 32 == u64::from(own)
            && place
                .compare_exchange(mark, FREE, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        is_ours.then_some(mark as u32)
    };
    let marks = bell.marks.iter().filter_map(take_one).collect();
    let mut is_all = false;
    for place in &bell.whole {
        is_all |= place
            .compare_exchange(own, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
    }
    (marks, is_all)
}
