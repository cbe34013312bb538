//! A fixed table of counters in shared memory, without locks: one row a queue, found by the
//! database and the storage relation, created when first counted. Only there when the library was
//! preloaded; when the table is full, further queues go uncounted.

use super::time::{self, Micros};
use super::value::Oid;
use super::{bell, blames, board, buckets, roster, waiters};
use pg_broker_core::board::TOTALS;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

const ROWS: usize = 8192;
const PROBES: usize = 64;
const FREE: u64 = 0;

#[repr(C)]
struct Slot {
    key: AtomicU64,
    since: AtomicI64,
    counts: [AtomicU64; TOTALS],
}

static TABLE: AtomicPtr<Slot> = AtomicPtr::new(std::ptr::null_mut());
static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

const fn size() -> usize {
    ROWS * size_of::<Slot>()
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_request() {
    // SAFETY: runs in the postmaster at its start, in the order of the hooks.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(size());
        board::request(queues());
        buckets::request(keys());
        waiters::request();
        roster::request();
        bell::request();
        blames::request();
    }
}

/// A piece of shared memory of that name and size, zeroed when it is new.
///
/// # Safety
/// Called from shmem_startup_hook, with a size that was asked for; all-zero is a valid `T`, or
/// several.
pub(in crate::pg) unsafe fn zeroed<T>(name: &CStr, size: usize) -> *mut T {
    let mut found = false;
    // SAFETY: ShmemInitStruct returns memory of the size asked for, or raises an error.
    unsafe {
        let p = pg_sys::ShmemInitStruct(name.as_ptr(), size, &mut found).cast::<u8>();
        if !found {
            std::ptr::write_bytes(p, 0, size);
        }
        p.cast()
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    // SAFETY: the hook for this; all-zero is a valid, free slot.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        TABLE.store(zeroed(c"pg_broker totals", size()), Ordering::Release);
    }
    board::startup(queues());
    buckets::startup(keys());
    waiters::startup();
    roster::startup();
    bell::startup();
    blames::startup();
}

static QUEUES: AtomicUsize = AtomicUsize::new(0);
static KEYS: AtomicUsize = AtomicUsize::new(0);

fn queues() -> usize {
    QUEUES.load(Ordering::Acquire)
}

fn keys() -> usize {
    KEYS.load(Ordering::Acquire)
}

/// Whether the library is being loaded by shared_preload_libraries, now.
pub fn preloading() -> bool {
    // SAFETY: reads a flag.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Asks for the table, a board for so many queues, and buckets for so many keys; only useful while
/// preloading.
pub fn request(queues: usize, keys: usize) {
    QUEUES.store(queues, Ordering::Release);
    KEYS.store(keys, Ordering::Release);
    // SAFETY: single-threaded server start.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(on_request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

/// Whether the table is there.
pub fn attached() -> bool {
    !TABLE.load(Ordering::Acquire).is_null()
}

fn slots() -> Option<&'static [Slot]> {
    let table = TABLE.load(Ordering::Acquire);
    // SAFETY: the pointer is null or the table of ROWS slots, which lives as long as the server;
    // every field is atomic.
    (!table.is_null()).then(|| unsafe { std::slice::from_raw_parts(table, ROWS) })
}

fn key(storage: Oid) -> u64 {
    // SAFETY: reads backend state.
    let database = unsafe { pg_sys::MyDatabaseId };
    (u64::from(u32::from(database)) << 32) | u64::from(u32::from(storage))
}

fn home(key: u64) -> usize {
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % ROWS
}

fn find(storage: Oid, create: bool) -> Option<&'static Slot> {
    let slots = slots()?;
    let key = key(storage);
    for i in 0..PROBES {
        let slot = &slots[(home(key) + i) % ROWS];
        match slot.key.load(Ordering::Acquire) {
            k if k == key => return Some(slot),
            FREE if !create => return None,
            FREE => match slot
                .key
                .compare_exchange(FREE, key, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    slot.since.store(time::now(), Ordering::Release);
                    return Some(slot);
                }
                Err(k) if k == key => return Some(slot),
                Err(_) => {}
            },
            _ => {}
        }
    }
    None
}

/// Adds to a queue's counters.
pub fn add(storage: Oid, by: &[u64; TOTALS]) {
    if let Some(slot) = find(storage, true) {
        for (count, n) in slot.counts.iter().zip(by) {
            if *n > 0 {
                count.fetch_add(*n, Ordering::Relaxed);
            }
        }
    }
}

/// A queue's counters and the time they run from. Creates them at zero when there are none yet.
pub fn read(storage: Oid) -> Option<(Micros, [u64; TOTALS])> {
    let slot = find(storage, true)?;
    Some((
        slot.since.load(Ordering::Acquire),
        std::array::from_fn(|i| slot.counts[i].load(Ordering::Relaxed)),
    ))
}
