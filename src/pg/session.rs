//! Which session this is, so that others can tell whether it is there still.

use super::time::Micros;
use pgrx::pg_sys;

/// A session of this server: the number of its process may be another's later, but not with the same
/// beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    pub pid: i32,
    pub began: Micros,
}

pub fn own() -> Session {
    // SAFETY: reads variables of this backend. The time is what pg_stat_activity calls backend_start.
    unsafe {
        Session {
            pid: pg_sys::MyProcPid,
            began: pg_sys::MyStartTimestamp,
        }
    }
}

/// What this transaction has seen of the sessions that there are is looked up anew when it is asked
/// for next: one that has begun since must not be taken for gone.
pub fn look_anew() {
    // SAFETY: forgets a copy of shared memory.
    unsafe { pg_sys::pgstat_clear_backend_activity_snapshot() }
}
