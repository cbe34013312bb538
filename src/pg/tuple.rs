//! Locking rows by their place, without ever locking another version than the one seen.
//!
//! `FOR UPDATE SKIP LOCKED` follows a row that was updated since the snapshot to its newest version
//! and locks that before it finds that the row no longer qualifies; the lock stays until the
//! transaction ends, and the row's holder cannot settle it. Here such a row is left alone.

use super::value::{Oid, Value};
use pgrx::pg_sys;

/// Where a row version lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tid {
    block: u32,
    offset: u16,
}

impl Tid {
    fn pointer(self) -> pg_sys::ItemPointerData {
        let mut p = pg_sys::ItemPointerData::default();
        pgrx::itemptr::item_pointer_set_all(&mut p, self.block, self.offset);
        p
    }
}

impl Value {
    pub fn as_tid(self) -> Option<Tid> {
        if self.null {
            return None;
        }
        // SAFETY: the value is of type tid, which is passed by reference.
        let p = unsafe { *self.datum.cast_mut_ptr::<pg_sys::ItemPointerData>() };
        let (block, offset) = pgrx::itemptr::item_pointer_get_both(p);
        Some(Tid { block, offset })
    }

    pub fn tid(tid: Tid) -> Value {
        // SAFETY: palloc gives memory of the size asked for.
        unsafe {
            let p = pg_sys::palloc(size_of::<pg_sys::ItemPointerData>())
                .cast::<pg_sys::ItemPointerData>();
            *p = tid.pointer();
            Value::raw(pg_sys::Datum::from(p), false)
        }
    }
}

/// Keeps every row version that a query sees from now on in its place, until dropped.
pub struct Pinned(());

impl Pinned {
    pub fn now() -> Self {
        // SAFETY: pushes a snapshot of the present, popped when dropped.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
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

/// Locks rows of one table, one by one, waiting for none.
pub struct RowLocks {
    relation: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
}

impl RowLocks {
    pub fn of(table: Oid) -> Self {
        // SAFETY: opens the table with the lock that an UPDATE takes, kept to the end of the
        // transaction.
        unsafe {
            let relation = pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32);
            let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
            RowLocks { relation, slot }
        }
    }

    /// Locks this version of a row for the rest of the transaction; false when it is locked by
    /// somebody else, or is no longer the newest version.
    pub fn try_lock(&self, tid: Tid) -> bool {
        let mut pointer = tid.pointer();
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the caller holds a snapshot that keeps the version in its place (`Pinned`); the
        // access method's function is called as table_tuple_lock calls it, without the flag that
        // would follow the row to a newer version.
        unsafe {
            let Some(lock) = (*(*self.relation).rd_tableam).tuple_lock else {
                return false;
            };
            let result = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                lock(
                    self.relation,
                    &mut pointer,
                    pg_sys::GetActiveSnapshot(),
                    self.slot,
                    pg_sys::GetCurrentCommandId(false),
                    pg_sys::LockTupleMode::LockTupleExclusive,
                    pg_sys::LockWaitPolicy::LockWaitSkip,
                    0,
                    &mut failure,
                )
            });
            result == pg_sys::TM_Result::TM_Ok
        }
    }
}

impl RowLocks {
    /// Removes this version of a row; false when somebody else has it locked, or when it is no
    /// longer the newest.
    pub fn try_delete(&self, tid: Tid) -> bool {
        match self.delete(tid, false) {
            pg_sys::TM_Result::TM_Ok => true,
            // Also said of a row that only this transaction has locked. Once it is known to be
            // locked by us, there is nobody to wait for.
            pg_sys::TM_Result::TM_BeingModified => {
                self.try_lock(tid) && self.delete(tid, true) == pg_sys::TM_Result::TM_Ok
            }
            _ => false,
        }
    }

    fn delete(&self, tid: Tid, wait: bool) -> pg_sys::TM_Result::Type {
        let mut pointer = tid.pointer();
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: as in `try_lock`; a deletion needs no change of an index.
        unsafe {
            let Some(delete) = (*(*self.relation).rd_tableam).tuple_delete else {
                return pg_sys::TM_Result::TM_Invisible;
            };
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                delete(
                    self.relation,
                    &mut pointer,
                    pg_sys::GetCurrentCommandId(true),
                    pg_sys::GetActiveSnapshot(),
                    std::ptr::null_mut(),
                    wait,
                    &mut failure,
                    false,
                )
            })
        }
    }
}

/// How many buffers this session has looked at so far: what a scan costs, whatever the clock says.
pub fn buffers_touched() -> i64 {
    // SAFETY: reads a counter of this backend.
    unsafe { pg_sys::pgBufferUsage.shared_blks_hit + pg_sys::pgBufferUsage.shared_blks_read }
}

impl Drop for RowLocks {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: what `of` opened; on an error the resource owner does the same.
            unsafe {
                pg_sys::ExecDropSingleTupleTableSlot(self.slot);
                pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
            }
        }
    }
}
