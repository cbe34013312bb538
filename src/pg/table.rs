//! Tables of ours, written through their access method: insert, update, delete and lock one row by
//! its place, with the table's indexes kept in step.
//!
//! Invariants:
//! - Nothing here waits for another transaction, but `Table::lock_waiting`.
//! - No other version of a row is touched than the one at the place given: a row that was changed
//!   meanwhile is left alone (`FOR UPDATE SKIP LOCKED` would follow it and lock the newest version).
//! - What is written is visible to the next snapshot of this transaction: every write ends with
//!   an advance of the command counter (`Table::done`, also when dropped).
//! - Triggers and rules of these tables do not fire; nobody but a superuser could make any.

use super::calm;
use super::index::{Entries, INDEXES, Known};
pub use super::pinned::Pinned;
pub use super::place::{Lost, Tid};
use super::value::{Oid, Value};
use pgrx::pg_sys::{self, ffi::pg_guard_ffi_boundary};
use std::cell::Cell;
use std::ffi::CStr;
use std::sync::OnceLock;

/// What the executor needs to keep indexes in step.
struct Indexes {
    state: *mut pg_sys::EState,
    info: *mut pg_sys::ResultRelInfo,
}

/// A table open for writing. Locked as by an `UPDATE` to the end of the transaction.
pub struct Table {
    pub(in crate::pg) relation: pg_sys::Relation,
    /// Holds the row to be written; null until one is.
    out: *mut pg_sys::TupleTableSlot,
    /// The indexes that the caller knows, until a row is entered.
    known: Option<[Known; INDEXES]>,
    /// Its indexes, where they are those.
    entries: Option<Entries>,
    indexes: Option<Indexes>,
    pub(in crate::pg) is_for_writing: bool,
    wrote: bool,
    /// Why the last row version was not to be had.
    lost: Cell<Lost>,
}

/// `heap_update` can do without waiting, but a server built with assertions ends when it meets a
/// row that is being modified then: there rows are locked first. Elsewhere that would be one more
/// record in the log for every claim.
fn must_lock_first() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        // SAFETY: null, or the text of a setting that tells how the server was built.
        unsafe {
            let built = pg_sys::GetConfigOption(c"debug_assertions".as_ptr(), true, false);
            !built.is_null() && CStr::from_ptr(built) == c"on"
        }
    })
}

/// How many rows are given to the access method at once.
const MANY: usize = 500;

impl Table {
    pub fn open(table: Oid) -> Self {
        Self::open_with(table, pg_sys::RowExclusiveLock)
    }

    /// A table with these indexes, as far as the caller knows.
    pub fn open_indexed(table: Oid, known: [Known; INDEXES]) -> Self {
        let mut table = Self::open(table);
        table.known = Some(known);
        table
    }

    /// The table locked as by a `SELECT`, for use on a standby too.
    pub fn open_to_read(table: Oid) -> Self {
        Self::open_with(table, pg_sys::AccessShareLock)
    }

    /// The same, if that needs no waiting.
    pub fn try_open_to_read(table: Oid) -> Option<Self> {
        let lock = pg_sys::AccessShareLock;
        // SAFETY: locks by OID, then opens what is locked; an error when it is gone.
        unsafe {
            pg_sys::ConditionalLockRelationOid(table, lock as i32)
                .then(|| Self::of(pg_sys::table_open(table, pg_sys::NoLock as i32), lock))
        }
    }

    fn open_with(table: Oid, lock: u32) -> Self {
        // SAFETY: opens the table; an error when it is gone.
        Self::of(unsafe { pg_sys::table_open(table, lock as i32) }, lock)
    }

    fn of(relation: pg_sys::Relation, lock: u32) -> Self {
        Table {
            relation,
            out: std::ptr::null_mut(),
            known: None,
            entries: None,
            indexes: None,
            is_for_writing: lock != pg_sys::AccessShareLock,
            wrote: false,
            lost: Cell::new(Lost::Taken),
        }
    }

    /// The slot for the row to be written.
    fn out(&mut self) -> *mut pg_sys::TupleTableSlot {
        if self.out.is_null() {
            // SAFETY: the slot has the row type of the open table.
            self.out = unsafe {
                pg_sys::MakeSingleTupleTableSlot(
                    (*self.relation).rd_att,
                    &raw const pg_sys::TTSOpsVirtual,
                )
            };
        }
        self.out
    }

    /// Whether it has no page: then there is no row, whoever looks.
    pub fn is_empty(&self) -> bool {
        self.pages() == 0
    }

    /// How many pages it has.
    pub fn pages(&self) -> u32 {
        // SAFETY: the relation is open and locked.
        unsafe {
            pg_sys::RelationGetNumberOfBlocksInFork(self.relation, pg_sys::ForkNumber::MAIN_FORKNUM)
        }
    }

    /// The table that has its large values.
    pub fn annex(&self) -> Option<Oid> {
        // SAFETY: the relation is open.
        let oid = unsafe { (*(*self.relation).rd_rel).reltoastrelid };
        (oid != pg_sys::InvalidOid).then_some(oid)
    }

    /// Gives back the lock that was taken when it was opened: nothing was seen of it that matters.
    pub fn let_go(self) {
        let lock = match self.is_for_writing {
            true => pg_sys::RowExclusiveLock,
            false => pg_sys::AccessShareLock,
        };
        // SAFETY: the lock that `open_with` has taken; one that was held before stays.
        unsafe {
            pg_sys::UnlockRelationOid((*self.relation).rd_id, lock as i32);
        }
    }

    /// Why the last `update`, `delete` or `lock` was refused.
    pub fn lost(&self) -> Lost {
        self.lost.get()
    }

    fn indexes(&mut self) -> (*mut pg_sys::EState, *mut pg_sys::ResultRelInfo) {
        let open = self.indexes.get_or_insert_with(|| {
            // SAFETY: what the executor does before it writes into a table that no query names.
            unsafe {
                let state = pg_sys::CreateExecutorState();
                let info = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>())
                    .cast::<pg_sys::ResultRelInfo>();
                (*info).type_ = pg_sys::NodeTag::T_ResultRelInfo;
                pg_sys::InitResultRelInfo(info, self.relation, 0, std::ptr::null_mut(), 0);
                pg_sys::ExecOpenIndices(info, false);
                Indexes { state, info }
            }
        });
        (open.state, open.info)
    }

    /// Puts a row into a slot made with this table's row type.
    fn fill(slot: *mut pg_sys::TupleTableSlot, row: &[Value]) {
        // SAFETY: the slot has as many columns as the table; a shorter row leaves the rest
        // null.
        unsafe {
            if let Some(clear) = (*(*slot).tts_ops).clear {
                clear(slot);
            }
            let natts = (*(*slot).tts_tupleDescriptor).natts as usize;
            for i in 0..natts {
                let value = row.get(i).copied().unwrap_or(Value::NULL);
                *(*slot).tts_values.add(i) = value.datum;
                *(*slot).tts_isnull.add(i) = value.null;
            }
            pg_sys::ExecStoreVirtualTuple(slot);
        }
    }

    /// Enters a row just written into the indexes. `summaries_only`: the row stayed on its page with the entries it has (HOT), and only indexes
    /// that describe whole pages have to hear of it. An entry more in any other would outlive
    /// the row version it leads to.
    fn index(
        &mut self,
        slot: *mut pg_sys::TupleTableSlot,
        row: &[Value],
        update: bool,
        summaries_only: bool,
    ) {
        if let Some(known) = self.known.take() {
            self.entries = Entries::of(self.relation, known);
        }
        if let Some(entries) = &mut self.entries {
            // SAFETY: the slot holds the row just written, with its place.
            let mut place = unsafe { (*slot).tts_tid };
            entries.enter(self.relation, &mut place, row, update);
            return;
        }
        #[cfg(feature = "pg15")]
        let _ = summaries_only;
        let (state, info) = self.indexes();
        // SAFETY: the slot holds the row just written, with its place.
        unsafe {
            if (*info).ri_NumIndices > 0 {
                #[cfg(feature = "pg15")]
                pg_sys::ExecInsertIndexTuples(
                    info,
                    slot,
                    state,
                    update,
                    false,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                );
                #[cfg(not(feature = "pg15"))]
                pg_sys::ExecInsertIndexTuples(
                    info,
                    slot,
                    state,
                    update,
                    false,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    summaries_only,
                );
            }
        }
    }

    /// Writes a new row.
    pub fn insert(&mut self, row: &[Value]) {
        let slot = self.out();
        Self::fill(slot, row);
        // SAFETY: the access method's function, called as table_tuple_insert calls it.
        unsafe {
            if let Some(insert) = (*(*self.relation).rd_tableam).tuple_insert {
                let cid = pg_sys::GetCurrentCommandId(true);
                pg_guard_ffi_boundary(|| {
                    insert(self.relation, slot, cid, 0, std::ptr::null_mut());
                });
            }
        }
        self.wrote = true;
        self.index(slot, row, false, false);
    }

    /// Writes new rows, as few changes of pages and as little log as the access method can do.
    pub fn insert_many<R: AsRef<[Value]>>(&mut self, rows: &[R]) {
        // SAFETY: slots of this table's row type, dropped after use; the access method's function
        // is called as table_multi_insert calls it.
        unsafe {
            // A copy of the row type is nobody else's: slots of it need not be accounted for.
            let desc = pg_sys::CreateTupleDescCopy((*self.relation).rd_att);
            let slots: Vec<_> = (0..rows.len().min(MANY))
                .map(|_| pg_sys::MakeSingleTupleTableSlot(desc, &raw const pg_sys::TTSOpsVirtual))
                .collect();
            for part in rows.chunks(MANY) {
                for (slot, row) in slots.iter().zip(part) {
                    Self::fill(*slot, row.as_ref());
                }
                if let Some(insert) = (*(*self.relation).rd_tableam).multi_insert {
                    let cid = pg_sys::GetCurrentCommandId(true);
                    let mut list = slots.clone();
                    pg_guard_ffi_boundary(|| {
                        insert(
                            self.relation,
                            list.as_mut_ptr(),
                            part.len() as i32,
                            cid,
                            0,
                            std::ptr::null_mut(),
                        );
                    });
                }
                self.wrote = true;
                for (slot, row) in slots.iter().zip(part) {
                    self.index(*slot, row.as_ref(), false, false);
                }
            }
            for slot in slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::FreeTupleDesc(desc);
        }
    }

    /// Replaces the row version at a place; false when somebody else has it locked, or when it is
    /// no longer the newest. A snapshot that keeps the version in its place must be active.
    pub fn update(&mut self, tid: Tid, row: &[Value]) -> bool {
        Self::fill(self.out(), row);
        let lock_first = must_lock_first();
        if lock_first && !self.lock(tid) {
            return false;
        }
        self.insist(tid, lock_first, |table, tid, wait| {
            table.try_update(tid, row, wait)
        })
    }

    /// Writes a row version; false when it is somebody else's.
    fn insist(
        &mut self,
        tid: Tid,
        wait: bool,
        write: impl Fn(&mut Self, Tid, bool) -> pg_sys::TM_Result::Type,
    ) -> bool {
        match write(self, tid, wait) {
            pg_sys::TM_Result::TM_Ok => true,
            // Also said of a row that only this transaction has locked. Once it is known to be
            // locked by us, there is nobody to wait for.
            pg_sys::TM_Result::TM_BeingModified => {
                self.lock(tid) && write(self, tid, true) == pg_sys::TM_Result::TM_Ok
            }
            _ => false,
        }
    }

    fn try_update(&mut self, tid: Tid, row: &[Value], wait: bool) -> pg_sys::TM_Result::Type {
        let mut pointer = tid.pointer();
        let mut failure = pg_sys::TM_FailureData::default();
        let mut mode = pg_sys::LockTupleMode::LockTupleExclusive;
        #[cfg(feature = "pg15")]
        let mut again = false;
        #[cfg(not(feature = "pg15"))]
        let mut again = pg_sys::TU_UpdateIndexes::TU_None;
        // SAFETY: the access method's function, called as table_tuple_update calls it.
        let result = unsafe {
            let Some(update) = (*(*self.relation).rd_tableam).tuple_update else {
                return pg_sys::TM_Result::TM_Invisible;
            };
            let cid = pg_sys::GetCurrentCommandId(true);
            pg_guard_ffi_boundary(|| {
                update(
                    self.relation,
                    &mut pointer,
                    self.out,
                    cid,
                    calm::active_snapshot(),
                    std::ptr::null_mut(),
                    wait,
                    &mut failure,
                    &mut mode,
                    &mut again,
                )
            })
        };
        self.lost.set(Lost::of(result, &failure));
        if result == pg_sys::TM_Result::TM_Ok {
            self.wrote = true;
            #[cfg(feature = "pg15")]
            let summaries_only = false;
            #[cfg(not(feature = "pg15"))]
            let (again, summaries_only) = (
                again != pg_sys::TU_UpdateIndexes::TU_None,
                again == pg_sys::TU_UpdateIndexes::TU_Summarizing,
            );
            if again {
                self.index(self.out, row, true, summaries_only);
            }
        }
        result
    }

    /// Removes the row version at a place; false as for `update`.
    pub fn delete(&mut self, tid: Tid) -> bool {
        self.insist(tid, false, |t, tid, wait| t.try_delete(tid, wait, false))
    }

    /// The same, and who has the row in sight is told that it was moved to another table.
    pub fn move_out(&mut self, tid: Tid) -> bool {
        self.insist(tid, false, |t, tid, wait| t.try_delete(tid, wait, true))
    }

    fn try_delete(&mut self, tid: Tid, wait: bool, moved: bool) -> pg_sys::TM_Result::Type {
        let mut pointer = tid.pointer();
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the access method's function, called as table_tuple_delete calls it; a deletion
        // needs no change of an index.
        let result = unsafe {
            let Some(delete) = (*(*self.relation).rd_tableam).tuple_delete else {
                return pg_sys::TM_Result::TM_Invisible;
            };
            let cid = pg_sys::GetCurrentCommandId(true);
            pg_guard_ffi_boundary(|| {
                delete(
                    self.relation,
                    &mut pointer,
                    cid,
                    calm::active_snapshot(),
                    std::ptr::null_mut(),
                    wait,
                    &mut failure,
                    moved,
                )
            })
        };
        self.wrote |= result == pg_sys::TM_Result::TM_Ok;
        self.lost.set(Lost::of(result, &failure));
        result
    }

    /// Locks the row version at a place for the rest of the transaction; false when it is locked
    /// by somebody else, or is no longer the newest.
    pub fn lock(&self, tid: Tid) -> bool {
        self.try_lock(tid, pg_sys::LockWaitPolicy::LockWaitSkip)
    }

    /// The same, waiting for whoever has it; false when the row was changed or removed.
    pub fn lock_waiting(&self, tid: Tid) -> bool {
        self.try_lock(tid, pg_sys::LockWaitPolicy::LockWaitBlock)
    }

    fn try_lock(&self, tid: Tid, policy: pg_sys::LockWaitPolicy::Type) -> bool {
        let mut pointer = tid.pointer();
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the access method's function, called as table_tuple_lock calls it, with a slot
        // of its own kind.
        unsafe {
            let Some(lock) = (*(*self.relation).rd_tableam).tuple_lock else {
                return false;
            };
            let slot = pg_sys::table_slot_create(self.relation, std::ptr::null_mut());
            let cid = pg_sys::GetCurrentCommandId(false);
            let result = pg_guard_ffi_boundary(|| {
                lock(
                    self.relation,
                    &mut pointer,
                    calm::active_snapshot(),
                    slot,
                    cid,
                    pg_sys::LockTupleMode::LockTupleExclusive,
                    policy,
                    0,
                    &mut failure,
                )
            });
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            self.lost.set(Lost::of(result, &failure));
            result == pg_sys::TM_Result::TM_Ok
        }
    }

    /// Makes what was written visible to the snapshots that this transaction takes from now on.
    pub fn done(&mut self) {
        if std::mem::take(&mut self.wrote) {
            // SAFETY: advances the command counter.
            unsafe { pg_sys::CommandCounterIncrement() }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.done();
        if let Some(entries) = &mut self.entries {
            entries.close();
        }
        // SAFETY: what `open` and `indexes` opened; on an error the resource owner does the same.
        unsafe {
            if let Some(open) = self.indexes.take() {
                pg_sys::ExecCloseIndices(open.info);
                pg_sys::FreeExecutorState(open.state);
                pg_sys::pfree(open.info.cast());
            }
            if !self.out.is_null() {
                pg_sys::ExecDropSingleTupleTableSlot(self.out);
            }
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
        }
    }
}
