//! Who holds locks, without waiting for anybody: so that a truncation is only begun where nobody
//! stands in its way, and a row that is on the move can be waited for.

use super::rel::Lock;
use super::roster;
use super::value::Oid;
use pgrx::pg_sys;

/// A transaction of some session, named for as long as it runs.
#[derive(Clone, Copy)]
pub struct Holder(pg_sys::VirtualTransactionId);

impl Holder {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        // SAFETY: looks at a lock, and does not wait for it.
        unsafe { pg_sys::VirtualXactLock(self.0, false) }
    }

    /// The process that runs it, if it is not a prepared transaction: of that, the place may be
    /// somebody else's by now.
    pub fn pid(&self) -> Option<i32> {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let number = self.0.backendId;
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        let number = self.0.procNumber;
        if number == NOBODY {
            return None;
        }
        // SAFETY: null, or a place in shared memory that is never given back.
        unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let process = BackendIdGetProc(number);
            #[cfg(not(any(feature = "pg15", feature = "pg16")))]
            let process = pg_sys::ProcNumberGetProc(number);
            let process = process.as_ref()?;
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let present = process.lxid;
            #[cfg(not(any(feature = "pg15", feature = "pg16")))]
            let present = process.vxid.lxid;
            (present == self.0.localTransactionId).then_some(process.pid)
        }
    }
}

#[cfg(any(feature = "pg15", feature = "pg16"))]
const NOBODY: i32 = pg_sys::InvalidBackendId;
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
const NOBODY: i32 = pg_sys::INVALID_PROC_NUMBER;

#[cfg(any(feature = "pg15", feature = "pg16"))]
unsafe extern "C-unwind" {
    fn BackendIdGetProc(id: i32) -> *mut pg_sys::PGPROC;
}

pub(in crate::pg) fn relation(relation: Oid) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: roster::own_database(),
        locktag_field2: u32::from(relation),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}

fn transaction(xid: u32) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        locktag_field1: xid,
        locktag_field2: 0,
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_TRANSACTION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}

fn conflicts(tag: &pg_sys::LOCKTAG, mode: i32) -> Vec<Holder> {
    let mut n = 0;
    // SAFETY: a list in memory of the present call, as long as it says; our own transaction is
    // not in it.
    unsafe {
        let list = pg_sys::GetLockConflicts(tag, mode, &raw mut n);
        (0..usize::try_from(n).unwrap_or(0))
            .map(|i| Holder(*list.add(i)))
            .collect()
    }
}

/// Who else holds a lock on a relation that `lock` could not be had beside.
pub fn of(oid: Oid, lock: Lock) -> Vec<Holder> {
    conflicts(&relation(oid), lock.mode())
}

/// Who has read, in a transaction that goes on, which tables there are. What the server looks up for
/// itself does not count.
pub fn readers_of_the_catalog() -> Vec<Holder> {
    of(pg_sys::RelationRelationId, Lock::Exclusive)
}

/// Whether a transaction is not over in every respect: others may see what it did, and not yet have
/// been told of it.
pub fn is_ending(xid: u32) -> bool {
    !conflicts(&transaction(xid), pg_sys::ShareLock as i32).is_empty()
}

/// Whether a transaction is not over yet, as far as its rows are concerned.
pub fn is_running(xid: u32) -> bool {
    // SAFETY: looks at shared memory.
    unsafe { pg_sys::TransactionIdIsInProgress(pg_sys::TransactionId::from(xid)) }
}

/// What nobody but those who move rows, and those who wait for them, locks.
const MOVES: u16 = 1;
/// What nobody but those who change a map locks.
const MAP: u16 = 2;

/// What nobody but those who hand out messages of groups lock.
const GROUP: u16 = 3;

/// How many groups one transaction may take: a quarter of what the server's table of locks has room for.
pub fn most_groups() -> usize {
    // SAFETY: reads settings.
    let locks =
        unsafe { i64::from(pg_sys::max_locks_per_xact) * i64::from(pg_sys::MaxConnections) };
    usize::try_from(locks / 4).unwrap_or_default().max(16)
}

/// Takes a group of the queue with this storage for the transaction in progress, if nobody else has
/// it. Groups that share half of their number share a lock.
pub fn try_take_group(storage: Oid, group: i64) -> bool {
    let number = Oid::from(group.cast_unsigned() as u32);
    // SAFETY: a lock on an object that only we name.
    unsafe {
        let mode = pg_sys::ExclusiveLock as i32;
        pg_sys::ConditionalLockDatabaseObject(storage, number, GROUP, mode)
    }
}

/// Gives it back before the end of the transaction.
pub fn let_group_go(storage: Oid, group: i64) {
    let number = Oid::from(group.cast_unsigned() as u32);
    // SAFETY: a lock that this transaction holds.
    unsafe {
        let mode = pg_sys::ExclusiveLock as i32;
        pg_sys::UnlockDatabaseObject(storage, number, GROUP, mode);
    }
}

/// Takes the map of the queue with this storage for the transaction in progress, if nobody else has
/// it.
pub fn try_take_map(catalog: Oid, storage: Oid) -> bool {
    // SAFETY: a lock on an object that only we name.
    unsafe {
        let mode = pg_sys::ExclusiveLock as i32;
        pg_sys::ConditionalLockDatabaseObject(catalog, storage, MAP, mode)
    }
}

/// The transaction in progress is about to move rows of tables that `catalog` (a table of ours)
/// tells of. Held to its end.
pub fn announce_moves(catalog: Oid) {
    // SAFETY: a lock on an object that only we name, by the transaction's own number, or the savepoint's,
    // as the rows will have it: nobody else asks for it but to wait.
    unsafe {
        let xid = Oid::from(u32::from(pg_sys::GetCurrentTransactionId()));
        pg_sys::LockDatabaseObject(catalog, xid, MOVES, pg_sys::ExclusiveLock as i32);
    }
}

/// Waits for the end of a transaction if it is one that moves rows; false if it is not.
pub fn await_moves(catalog: Oid, xid: u32) -> bool {
    let tag = pg_sys::LOCKTAG {
        locktag_field1: roster::own_database(),
        locktag_field2: u32::from(catalog),
        locktag_field3: xid,
        locktag_field4: MOVES,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    if conflicts(&tag, pg_sys::ShareLock as i32).is_empty() {
        return false;
    }
    // SAFETY: waits for a transaction that itself waits for nobody.
    unsafe {
        let mode = pg_sys::ShareLock as i32;
        pg_sys::LockDatabaseObject(catalog, Oid::from(xid), MOVES, mode);
        pg_sys::UnlockDatabaseObject(catalog, Oid::from(xid), MOVES, mode);
    }
    true
}

/// Hears of all changes that others have told of.
pub fn hear() {
    // SAFETY: empties the queue of invalidations, as every lock taken anew does.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// The number of the transaction in progress; gives it one if it has none.
pub fn own_xid() -> u32 {
    // SAFETY: the transaction may write.
    u32::from(unsafe { pg_sys::GetTopTransactionId() })
}

/// Whether every snapshot that anybody may use in this database sees what a transaction that has
/// ended did.
pub fn is_seen_by_all(xid: u32, table: &super::table::Table) -> bool {
    // SAFETY: reads shared state; the table is open.
    unsafe {
        let oldest = pg_sys::GetOldestNonRemovableTransactionId(table.relation);
        pg_sys::TransactionIdPrecedes(pg_sys::TransactionId::from(xid), oldest)
    }
}
