//! A snapshot that is taken in one moment with something that happens under a queue's lock.

use super::board::{self, Held};
use super::table::Pinned;
use pg_broker_core::board::Key;
use pg_broker_core::tally::Moment;
use pgrx::pg_sys;

/// The number of a transaction whose id is not far from those given out now.
fn number(xid: u32) -> u64 {
    // SAFETY: reads a counter in shared memory.
    let next = unsafe { pg_sys::ReadNextFullTransactionId() }.value;
    let epoch = next >> 32;
    let epoch = match u64::from(xid) > next & u64::from(u32::MAX) {
        true => epoch.saturating_sub(1),
        false => epoch,
    };
    (epoch << 32) | u64::from(xid)
}

/// A snapshot of the present, active until dropped, and what `mark` makes of it under the lock. None
/// when the queue has no place on the board, or `mark` makes nothing of it.
pub fn pinned<R>(
    key: Key,
    mark: impl FnOnce(&mut Held, &Moment) -> Option<R>,
) -> Option<(Pinned, R)> {
    // SAFETY: own writes are in the snapshots that follow. The first is for the memory that a
    // session's first one allocates: that must not happen under the lock.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::GetLatestSnapshot();
    }
    let (snapshot, made) = board::with(key, true, |h| {
        // SAFETY: the snapshot lies in memory of the session until the next one is taken; its list
        // has as many ids as it says.
        unsafe {
            let snapshot = pg_sys::GetLatestSnapshot();
            let n = (*snapshot).xcnt as usize;
            let in_progress = match n {
                0 => &[],
                _ => std::slice::from_raw_parts((*snapshot).xip.cast::<u32>(), n),
            };
            let moment = Moment {
                next: number(u32::from((*snapshot).xmax)),
                in_progress,
            };
            mark(h, &moment).map(|made| (snapshot, made))
        }
    })
    .flatten()?;
    // SAFETY: no other snapshot was taken since; it is copied, and popped when dropped.
    unsafe { pg_sys::PushActiveSnapshot(snapshot) };
    Some((Pinned(()), made))
}
