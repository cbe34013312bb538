//! Functions of PostgreSQL that raise no error, called without the guard that would catch one: on
//! a path of a few microseconds the guards of those that are called most can be felt.
//!
//! Whoever adds one reads its source in every supported version first. `LWLockAcquire` does raise
//! one when a session holds two hundred locks; we hold three at most.

use super::time::Micros;
use super::value::Oid;
use pgrx::pg_sys;

mod c {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        pub fn GetCurrentTransactionNestLevel() -> i32;
        pub fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
        pub fn GetUserId() -> pg_sys::Oid;
        pub fn GetUserIdAndSecContext(user: *mut pg_sys::Oid, context: *mut i32);
        pub fn SetUserIdAndSecContext(user: pg_sys::Oid, context: i32);
        pub fn GetActiveSnapshot() -> pg_sys::Snapshot;
        pub fn LWLockAcquire(lock: *mut pg_sys::LWLock, mode: pg_sys::LWLockMode::Type) -> bool;
        pub fn LWLockRelease(lock: *mut pg_sys::LWLock);
    }
}

/// How many savepoints deep the session is.
pub fn nest_level() -> i32 {
    // SAFETY: reads backend state.
    unsafe { c::GetCurrentTransactionNestLevel() }
}

/// The wall clock.
pub fn timestamp() -> Micros {
    // SAFETY: reads the clock.
    unsafe { c::GetCurrentTimestamp() }
}

/// The current role.
pub fn user() -> Oid {
    // SAFETY: reads backend state.
    unsafe { c::GetUserId() }
}

/// The current role, and what it is kept from.
pub fn user_and_context() -> (Oid, i32) {
    let (mut user, mut context) = (Oid::INVALID, 0);
    // SAFETY: reads backend state into both.
    unsafe { c::GetUserIdAndSecContext(&raw mut user, &raw mut context) };
    (user, context)
}

pub fn set_user_and_context(user: Oid, context: i32) {
    // SAFETY: sets backend state.
    unsafe { c::SetUserIdAndSecContext(user, context) }
}

/// The snapshot that was pushed last.
pub fn active_snapshot() -> pg_sys::Snapshot {
    // SAFETY: reads backend state.
    unsafe { c::GetActiveSnapshot() }
}

/// # Safety
/// The lock is one of shared memory, and not held by this session.
pub unsafe fn acquire(lock: *mut pg_sys::LWLock, mode: pg_sys::LWLockMode::Type) {
    // SAFETY: the caller's.
    unsafe { c::LWLockAcquire(lock, mode) };
}

/// # Safety
/// The lock is held by this session.
pub unsafe fn release(lock: *mut pg_sys::LWLock) {
    // SAFETY: the caller's.
    unsafe { c::LWLockRelease(lock) }
}
