//! A snapshot for the present call.

use pgrx::pg_sys;

/// A snapshot of the present, active until dropped. Own writes so far are in it.
pub struct Pinned(pub(in crate::pg) ());

impl Pinned {
    pub fn now() -> Self {
        // SAFETY: pushes a snapshot of the present, popped when dropped.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        }
        Pinned(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // An error resets the stack of snapshots by itself.
        if !std::thread::panicking() {
            // SAFETY: pops what `now` pushed: connections in between are over.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}
