//! Walking a table along an index, and looking at the rows one by one.
//!
//! A walk shows the row versions of the snapshot that was active when it began, which must stay
//! active as long as it lives. Values of a row are valid until the walk moves on.

use super::calm;
use super::table::{Table, Tid};
use super::time::Micros;
use super::value::{Oid, Value};
use pgrx::pg_sys;

pub struct Walk {
    index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    order: Order,
    /// How much of the lock on the index is given back at the end.
    unlock: u32,
}

/// What the index has, and what a walk along it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// Ids, from one to another.
    Id,
    /// Rank and id, the ids of one rank from one to another.
    Rank,
    /// Group and id, the ids of one group from one to another.
    Group,
    /// Times, up to one.
    Time,
    /// Numbers, those of one.
    Number,
}

fn key(column: i16, strategy: u32, function: u32, value: Value) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: fills the key; the function is the comparison of the strategy for the column's type.
    unsafe {
        pg_sys::ScanKeyEntryInitialize(
            &mut key,
            0,
            column,
            strategy as u16,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::Oid::from(function),
            value.datum,
        );
    }
    key
}

fn between(column: i16, first: i64, last: i64) -> [pg_sys::ScanKeyData; 2] {
    let from = pg_sys::BTGreaterEqualStrategyNumber;
    let to = pg_sys::BTLessEqualStrategyNumber;
    [
        key(column, from, pg_sys::F_INT8GE, Value::int8(first)),
        key(column, to, pg_sys::F_INT8LE, Value::int8(last)),
    ]
}

impl Walk {
    fn begin(table: &Table, index: Oid, order: Order) -> Self {
        let keys = match order {
            Order::Time | Order::Number => 1,
            Order::Id => 2,
            Order::Rank | Order::Group => 3,
        };
        // SAFETY: the index belongs to the open table; the active snapshot outlives the scan.
        unsafe {
            let index = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
            let snapshot = calm::active_snapshot();
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(table.relation, index, snapshot, keys, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(
                table.relation,
                index,
                snapshot,
                std::ptr::null_mut(),
                keys,
                0,
            );
            let slot = pg_sys::table_slot_create(table.relation, std::ptr::null_mut());
            Walk {
                index,
                scan,
                slot,
                order,
                // A session that looks at many queues would hold many locks; one that writes is
                // likely to come back.
                unlock: match table.is_for_writing {
                    true => pg_sys::NoLock,
                    false => pg_sys::AccessShareLock,
                },
            }
        }
    }

    /// Along an index of (bigint).
    pub fn by_id(table: &Table, index: Oid) -> Self {
        Self::begin(table, index, Order::Id)
    }

    /// Along an index of (smallint, bigint).
    pub fn by_rank(table: &Table, index: Oid) -> Self {
        Self::begin(table, index, Order::Rank)
    }

    /// Along an index of (bigint, bigint).
    pub fn by_group(table: &Table, index: Oid) -> Self {
        Self::begin(table, index, Order::Group)
    }

    /// Along an index of (timestamptz).
    pub fn by_time(table: &Table, index: Oid) -> Self {
        Self::begin(table, index, Order::Time)
    }

    /// Along an index whose first column is an int.
    pub fn by_number(table: &Table, index: Oid) -> Self {
        Self::begin(table, index, Order::Number)
    }

    fn seek(&mut self, keys: &mut [pg_sys::ScanKeyData]) {
        // SAFETY: as many keys as the scan was begun with, which copies them.
        unsafe {
            pg_sys::index_rescan(
                self.scan,
                keys.as_mut_ptr(),
                keys.len() as i32,
                std::ptr::null_mut(),
                0,
            );
        }
    }

    /// To the ids from one to another, in a walk by id.
    pub fn seek_ids(&mut self, first: i64, last: i64) {
        debug_assert_eq!(self.order, Order::Id);
        let [from, to] = between(1, first, last);
        self.seek(&mut [from, to]);
    }

    /// To the ids of a rank from one to another, in a walk by rank.
    pub fn seek_in_rank(&mut self, rank: i16, first: i64, last: i64) {
        debug_assert_eq!(self.order, Order::Rank);
        let equal = pg_sys::BTEqualStrategyNumber;
        let [from, to] = between(2, first, last);
        let rank = key(1, equal, pg_sys::F_INT2EQ, Value::int2(rank));
        self.seek(&mut [rank, from, to]);
    }

    /// To the ids of a group from one to another, in a walk by group.
    pub fn seek_in_group(&mut self, group: i64, first: i64, last: i64) {
        debug_assert_eq!(self.order, Order::Group);
        let equal = pg_sys::BTEqualStrategyNumber;
        let [from, to] = between(2, first, last);
        let group = key(1, equal, pg_sys::F_INT8EQ, Value::int8(group));
        self.seek(&mut [group, from, to]);
    }

    /// To times no later than this one, in a walk by time.
    pub fn seek_upto(&mut self, time: Micros) {
        debug_assert_eq!(self.order, Order::Time);
        self.seek(&mut [key(
            1,
            pg_sys::BTLessEqualStrategyNumber,
            pg_sys::F_TIMESTAMPTZ_LE,
            Value::timestamptz(time),
        )]);
    }

    /// To the rows of this number, in a walk by number.
    pub fn seek_number(&mut self, n: i32) {
        debug_assert_eq!(self.order, Order::Number);
        let equal = pg_sys::BTEqualStrategyNumber;
        self.seek(&mut [key(1, equal, pg_sys::F_INT4EQ, Value::int4(n))]);
    }

    /// Moves to the next row, if there is one.
    pub fn next(&mut self) -> bool {
        // SAFETY: the scan is positioned; the slot is of the table's kind.
        unsafe {
            pg_sys::index_getnext_slot(
                self.scan,
                pg_sys::ScanDirection::ForwardScanDirection,
                self.slot,
            )
        }
    }

    /// Where the row lies.
    pub fn tid(&self) -> Tid {
        // SAFETY: the slot holds a row.
        Tid::of(unsafe { (*self.slot).tts_tid })
    }

    /// Column `n` (from 0) of the row. Whoever asks for one beyond the first that was asked for is
    /// taken to want all of them: it pays to ask for the last of a few first.
    pub fn get(&self, n: usize) -> Value {
        // SAFETY: the slot holds a row; columns are taken apart at least up to the one asked for.
        unsafe {
            let slot = self.slot;
            let natts = (*(*slot).tts_tupleDescriptor).natts;
            if n >= natts as usize {
                return Value::NULL;
            }
            let known = (*slot).tts_nvalid;
            if known as usize <= n {
                let upto = if known == 0 { n as i32 + 1 } else { natts };
                pg_sys::slot_getsomeattrs_int(slot, upto);
            }
            Value::raw(*(*slot).tts_values.add(n), *(*slot).tts_isnull.add(n))
        }
    }

    /// A copy of the row that outlives the walk's moving on: its columns, in memory of the
    /// present call.
    pub fn keep(&self) -> Vec<Value> {
        // SAFETY: copies the row, then takes the copy apart.
        unsafe {
            let desc = (*self.slot).tts_tupleDescriptor;
            let natts = (*desc).natts as usize;
            let Some(copy) = (*(*self.slot).tts_ops).copy_heap_tuple else {
                return vec![Value::NULL; natts];
            };
            let tuple = pg_sys::ffi::pg_guard_ffi_boundary(|| copy(self.slot));
            let mut values = vec![pg_sys::Datum::null(); natts];
            let mut nulls = vec![true; natts];
            pg_sys::heap_deform_tuple(tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            values
                .into_iter()
                .zip(nulls)
                .map(|(v, null)| Value::raw(v, null))
                .collect()
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: what `begin` opened; on an error the resource owner does the same.
            unsafe {
                pg_sys::index_endscan(self.scan);
                pg_sys::ExecDropSingleTupleTableSlot(self.slot);
                pg_sys::index_close(self.index, self.unlock as i32);
            }
        }
    }
}
