//! Sleeping, interruptibly, with and without a transaction.

use super::value::Value;
use crate::error::{Error, Result};
use pgrx::pg_sys;

/// Sleeps up to `millis`, or until the latch is set; cancels and terminations are obeyed.
pub fn nap(millis: i64) {
    // SAFETY: the latch is this backend's own; CHECK_FOR_INTERRUPTS may raise.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            millis as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

/// Obeys a cancel or a termination that has come in.
pub fn interruptible() {
    pgrx::check_for_interrupts!();
}

/// Runs `check` again and again until it says true or `deadline` has passed, each time in a
/// transaction of its own that is over before the sleep: nothing is held while waiting.
pub fn poll_between_transactions(
    name: &'static str,
    atomic: bool,
    mut pause: impl FnMut(u32) -> Option<i64>,
    mut check: impl FnMut() -> Result<bool>,
) -> Result<bool> {
    if atomic {
        return Err(Error::InTransaction(name));
    }
    // SAFETY: a non-atomic connection may commit; SPI_commit starts the next transaction.
    unsafe {
        pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32);
    }
    let mut round = 0;
    let result = loop {
        // SAFETY: a snapshot for the look-up, gone before the commit.
        let ready = unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let ready = check();
            pg_sys::PopActiveSnapshot();
            ready
        };
        // SAFETY: as above; an error in the commit is raised as usual.
        unsafe { pg_sys::SPI_commit() };
        match ready {
            Ok(false) => {}
            done => break done,
        }
        match pause(round) {
            Some(millis) => nap(millis),
            None => break Ok(false),
        }
        round += 1;
    };
    // SAFETY: pairs with the connect above.
    unsafe { pg_sys::SPI_finish() };
    result
}

/// The one-column row that a procedure with an `INOUT ready` returns.
pub fn ready_row(call: &super::entry::Call, ready: bool) -> Value {
    call.row(&[Value::bool(ready)])
}
