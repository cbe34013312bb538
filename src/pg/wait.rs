//! Sleeping, interruptibly, with and without a transaction.

use super::value::Value;
use crate::error::{Error, Result};
use pgrx::pg_sys;

/// Sleeps up to so many milliseconds (for ever, if none), or until the latch is set; cancels and
/// terminations are obeyed, and changes of the catalog taken in.
pub fn sleep(millis: Option<i64>) {
    let timeout = match millis {
        Some(_) => pg_sys::WL_TIMEOUT,
        None => 0,
    };
    // SAFETY: the latch is this backend's own; the checks may raise.
    unsafe {
        pg_sys::InvalidateCatalogSnapshotConditionally();
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | timeout) as i32,
            millis.unwrap_or(-1).clamp(-1, 3_600_000) as std::ffi::c_long,
            event(),
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
    // SAFETY: a session that sleeps long must not hold up the queue of invalidations.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// What pg_stat_activity shows as wait_event: from 17 on a name of our own, before `Extension`.
fn event() -> u32 {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    return pg_sys::PG_WAIT_EXTENSION;
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    {
        thread_local! {
            static EVENT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
        }
        EVENT.with(|e| {
            if e.get() == 0 {
                // SAFETY: the name outlives the call, which copies it.
                e.set(unsafe { pg_sys::WaitEventExtensionNew(c"PgBrokerMessage".as_ptr()) });
            }
            e.get()
        })
    }
}

/// Sleeps two milliseconds.
pub fn moment() {
    interruptible();
    std::thread::sleep(std::time::Duration::from_millis(2));
}

/// Obeys a cancel or a termination that has come in.
pub fn interruptible() {
    pgrx::check_for_interrupts!();
}

/// Runs `check` until it says true, each time in a transaction of its own that is over before
/// `sleep`: nothing is held while waiting. `sleep` gives whether to look again. An error of `check`
/// ends it, and what it had done in that transaction is not committed.
pub fn between_transactions<S>(
    name: &'static str,
    atomic: bool,
    state: &mut S,
    mut check: impl FnMut(&mut S) -> Result<bool>,
    mut sleep: impl FnMut(&mut S) -> bool,
) -> Result<bool> {
    if atomic {
        return Err(Error::InTransaction(name));
    }
    // SAFETY: a non-atomic connection may commit; SPI_commit starts the next transaction.
    unsafe {
        pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32);
    }
    let result = loop {
        // SAFETY: a snapshot for the look-up, gone before the commit.
        let ready = unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let ready = check(state);
            pg_sys::PopActiveSnapshot();
            ready
        };
        if ready.is_err() {
            break ready;
        }
        // SAFETY: as above; an error in the commit is raised as usual.
        unsafe { pg_sys::SPI_commit() };
        if let Ok(true) = ready {
            break ready;
        }
        if !sleep(state) {
            break Ok(false);
        }
    };
    // SAFETY: pairs with the connect above.
    unsafe { pg_sys::SPI_finish() };
    result
}

/// The one-column row that a procedure with an `INOUT ready` returns.
pub fn ready_row(call: &super::entry::Call, ready: bool) -> Value {
    call.row(&[Value::bool(ready)])
}
