//! Whether a session is in somebody's way who waits for a lock.

use super::holders::relation as tag;
use super::rel::Lock;
use super::value::Oid;
use pgrx::pg_sys;

/// Whether somebody waits to lock one of these relations in a way that `held` stands against.
///
/// `LockHasWaiters` is not for this: it looks for the lock in shared memory, where a weak one that
/// was taken the fast way never was.
pub fn is_waited_for(relations: &[Oid], held: Lock) -> bool {
    // SAFETY: looks into the table of locks. Where nobody waits, our weak locks are not even in
    // it, as a rule, which is cheap to see; only otherwise is the table copied.
    unsafe {
        if relations
            .iter()
            .all(|r| pg_sys::LockWaiterCount(&tag(*r)) == 0)
        {
            return false;
        }
        let data = pg_sys::GetLockStatusData();
        let n = usize::try_from((*data).nelements).unwrap_or(0);
        let list = std::slice::from_raw_parts((*data).locks, n);
        let is_found = list.iter().any(|lock| {
            lock.waitLockMode != pg_sys::NoLock as i32
                && relations.iter().any(|r| is_same(&lock.locktag, &tag(*r)))
                && pg_sys::DoLockModesConflict(lock.waitLockMode, held.mode())
        });
        pg_sys::pfree((*data).locks.cast());
        pg_sys::pfree(data.cast());
        is_found
    }
}

fn is_same(a: &pg_sys::LOCKTAG, b: &pg_sys::LOCKTAG) -> bool {
    a.locktag_field1 == b.locktag_field1
        && a.locktag_field2 == b.locktag_field2
        && a.locktag_type == b.locktag_type
        && a.locktag_lockmethodid == b.locktag_lockmethodid
}

/// Whether the transaction in progress goes on after this statement, and keeps its locks.
pub fn is_in_block() -> bool {
    // SAFETY: reads backend state.
    unsafe { pg_sys::IsTransactionBlock() }
}
