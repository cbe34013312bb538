//! A lock that one session at a time has on a queue, from when it took it until it gives it up or
//! ends: an advisory lock that no function of PostgreSQL's can name. So `pg_locks` shows it, whatever
//! gives up all advisory locks of a session gives it up, and it outlives no crash.

use super::roster;
use super::value::Oid;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};

/// What tells it from the advisory locks of SQL, which have 1 or 2 here.
const OURS: u16 = 28_017;

thread_local! {
    /// Queues that this session has, or had and may have lost, and what their end is told with.
    static TAKEN: RefCell<Vec<(Oid, Told)>> = const { RefCell::new(Vec::new()) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// What is done when a lock is gone with its session.
pub type Told = Box<dyn Fn()>;

const MODE: i32 = pg_sys::ExclusiveLock as i32;

fn tag(view: Oid) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: roster::own_database(),
        locktag_field2: u32::from(view),
        locktag_field3: 0,
        locktag_field4: OURS,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// Takes the queue behind a view for this session, unless another has it. `told` is called when the
/// session has ended and the lock is free; it must not raise an error.
pub fn try_take(view: Oid, told: impl FnOnce() -> Told) -> bool {
    let tag = tag(view);
    // SAFETY: takes a lock of the session, without waiting; one that it had already is counted.
    let got = unsafe { pg_sys::LockAcquire(&raw const tag, MODE, true, true) };
    match got {
        pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL => return false,
        pg_sys::LockAcquireResult::LOCKACQUIRE_OK => {}
        _ => {
            // SAFETY: gives back what was just taken once more.
            unsafe { pg_sys::LockRelease(&raw const tag, MODE, true) };
        }
    }
    TAKEN.with(|t| {
        let mut taken = t.borrow_mut();
        if !taken.iter().any(|(v, _)| *v == view) {
            taken.push((view, told()));
        }
    });
    if !IS_REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the library. It is called after the session's
        // transaction was aborted and its locks were released.
        unsafe { pg_sys::on_shmem_exit(Some(on_exit), pg_sys::Datum::null()) };
    }
    true
}

/// Gives the queue behind a view up; false when this session does not have it.
pub fn give_up(view: Oid) -> bool {
    let was_taken = TAKEN.with(|t| {
        let mut taken = t.borrow_mut();
        let before = taken.len();
        taken.retain(|(v, _)| *v != view);
        taken.len() < before
    });
    // Whoever gives up all advisory locks has given it up already.
    let tag = tag(view);
    was_taken && has(&tag) && {
        // SAFETY: a lock that this session has.
        unsafe { pg_sys::LockRelease(&raw const tag, MODE, true) }
    }
}

fn has(tag: &pg_sys::LOCKTAG) -> bool {
    // SAFETY: looks at the session's own locks.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return pg_sys::LockHeldByMe(tag, MODE);
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        return pg_sys::LockHeldByMe(tag, MODE, false);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: i32, _arg: pg_sys::Datum) {
    let taken = TAKEN.try_with(|t| t.try_borrow_mut().map(|mut t| std::mem::take(&mut *t)));
    if let Ok(Ok(taken)) = taken {
        taken.iter().for_each(|(_, told)| told());
    }
}
