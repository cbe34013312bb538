//! Entering rows into indexes that the caller knows, without the executor: no expression is
//! evaluated, and an index that has no entry for a row is not even opened.
//!
//! Invariant: only done while a table has exactly these indexes. Any other (somebody made one more,
//! one is being rebuilt concurrently) is kept by the executor, with all the rest. What is held
//! on the table keeps it so: whoever makes an index beside writers waits for all that were there
//! before, as he does for the executor.

use super::value::{Oid, Value};
use pgrx::pg_sys;

/// How many indexes a queue's table has at most.
pub const INDEXES: usize = 4;

/// An ordinary (btree) index without expressions.
#[derive(Clone, Copy)]
pub struct Known {
    /// `INVALID`: the table has none of this kind.
    pub oid: Oid,
    /// Its columns, numbered from 0.
    pub columns: &'static [usize],
    /// Whether it has an entry for a row.
    pub wants: fn(&[Value]) -> bool,
}

/// The indexes of a table that is being written.
pub(in crate::pg) struct Entries {
    known: [Known; INDEXES],
    open: [pg_sys::Relation; INDEXES],
}

/// No index has more columns than this.
const COLUMNS: usize = 2;

/// Whether the indexes of an open, locked table are these and no others.
fn are_all(table: pg_sys::Relation, known: &[Known; INDEXES]) -> bool {
    // SAFETY: the table's entry in the relation cache; its list of indexes is made when it is not
    // there, and nothing in between makes it go.
    unsafe {
        if !(*table).rd_indexvalid {
            pg_sys::list_free(pg_sys::RelationGetIndexList(table));
        }
        let list = (*table).rd_indexlist;
        let there = known.iter().filter(|k| k.oid != Oid::INVALID).count();
        !list.is_null()
            && (*list).length as usize == there
            && (0..there).all(|i| {
                let oid = (*(*list).elements.add(i)).oid_value;
                known.iter().any(|k| k.oid == oid)
            })
    }
}

impl Entries {
    /// None when these are not all the indexes that the table has.
    pub fn of(table: pg_sys::Relation, known: [Known; INDEXES]) -> Option<Self> {
        are_all(table, &known).then_some(Entries {
            known,
            open: [std::ptr::null_mut(); INDEXES],
        })
    }

    /// Enters a row that was just written at a place. `unchanged`: as a new version of one whose
    /// columns here are the same.
    pub fn enter(
        &mut self,
        table: pg_sys::Relation,
        place: &mut pg_sys::ItemPointerData,
        row: &[Value],
        unchanged: bool,
    ) {
        for (index, open) in self.known.iter().zip(&mut self.open) {
            if index.oid == Oid::INVALID || !(index.wants)(row) {
                continue;
            }
            let mut datums = [pg_sys::Datum::null(); COLUMNS];
            let mut nulls = [true; COLUMNS];
            for (i, column) in index.columns.iter().take(COLUMNS).enumerate() {
                let value = row.get(*column).copied().unwrap_or(Value::NULL);
                datums[i] = value.datum;
                nulls[i] = value.null;
            }
            let mut info = pg_sys::IndexInfo {
                type_: pg_sys::NodeTag::T_IndexInfo,
                ..Default::default()
            };
            // SAFETY: an index of the table, locked as for writing until the transaction ends. A
            // btree asks nothing of the description it is given.
            unsafe {
                if open.is_null() {
                    *open = pg_sys::index_open(index.oid, pg_sys::RowExclusiveLock as i32);
                }
                let check = match (*(**open).rd_index).indisunique {
                    true => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES,
                    false => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                };
                pg_sys::index_insert(
                    *open,
                    datums.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                    place,
                    table,
                    check,
                    unchanged,
                    &raw mut info,
                );
            }
        }
    }

    pub fn close(&mut self) {
        for open in &mut self.open {
            let relation = std::mem::replace(open, std::ptr::null_mut());
            if !relation.is_null() {
                // SAFETY: opened above; the lock stays to the end of the transaction.
                unsafe { pg_sys::index_close(relation, pg_sys::NoLock as i32) }
            }
        }
    }
}
