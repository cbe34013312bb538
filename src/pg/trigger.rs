//! The `INSTEAD OF` triggers' view of a call: which relation, which event, the rows.

use super::entry::Call;
use super::value::{Oid, Value};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

unsafe extern "C-unwind" {
    fn datum_image_eq(a: pg_sys::Datum, b: pg_sys::Datum, by_value: bool, len: i32) -> bool;
}

pub struct Trigger {
    data: *mut pg_sys::TriggerData,
}

#[derive(Clone, Copy)]
pub enum Row {
    Old,
    New,
}

impl Trigger {
    /// The trigger that a call belongs to; an error when called otherwise.
    pub fn of(call: &Call) -> Result<Self> {
        // SAFETY: the context of a trigger's call is a TriggerData, told by its tag.
        unsafe {
            let context = (*call.fcinfo()).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return Err(Error::Internal("only a queue's view may call this".into()));
            }
            Ok(Trigger {
                data: context.cast(),
            })
        }
    }

    pub fn relation(&self) -> Oid {
        // SAFETY: the relation is open while the trigger runs.
        unsafe { (*(*self.data).tg_relation).rd_id }
    }

    fn tuple(&self, row: Row) -> pg_sys::HeapTuple {
        // SAFETY: for INSERT the new row is tg_trigtuple; for UPDATE it is tg_newtuple.
        unsafe {
            let data = &*self.data;
            match row {
                Row::New if !data.tg_newtuple.is_null() => data.tg_newtuple,
                _ => data.tg_trigtuple,
            }
        }
    }

    /// Column `n` (from 0) of a row.
    pub fn column(&self, row: Row, n: usize) -> Value {
        let mut null = false;
        // SAFETY: the tuple has the relation's row type.
        let datum = unsafe {
            let desc = (*(*self.data).tg_relation).rd_att;
            if n >= (*desc).natts as usize {
                return Value::NULL;
            }
            pg_sys::heap_getattr(self.tuple(row), n as i32 + 1, desc, &mut null)
        };
        Value::raw(datum, null)
    }

    /// Whether a column differs between the old and the new row, byte by byte as stored.
    pub fn changed(&self, n: usize) -> bool {
        let (old, new) = (self.column(Row::Old, n), self.column(Row::New, n));
        if old.null || new.null {
            return old.null != new.null;
        }
        // SAFETY: both datums have the column's type, whose length and passing are the
        // descriptor's.
        unsafe {
            let desc = (*(*self.data).tg_relation).rd_att;
            let (mut len, mut by_value) = (0i16, false);
            pg_sys::get_typlenbyval(
                pg_sys::SPI_gettypeid(desc, n as i32 + 1),
                &mut len,
                &mut by_value,
            );
            !pg_guard_ffi_boundary(|| datum_image_eq(old.datum, new.datum, by_value, len as i32))
        }
    }

    /// The new row with some columns set, as the trigger's result.
    pub fn returning(&self, row: Row, columns: &[(usize, Value)]) -> Value {
        let mut at: Vec<i32> = columns.iter().map(|(n, _)| *n as i32 + 1).collect();
        let mut datums: Vec<pg_sys::Datum> = columns.iter().map(|(_, v)| v.datum).collect();
        let mut nulls: Vec<bool> = columns.iter().map(|(_, v)| v.null).collect();
        // SAFETY: the vectors have the same length; the tuple has the relation's row type. A
        // trigger returns a HeapTuple pointer as its datum.
        unsafe {
            let desc = (*(*self.data).tg_relation).rd_att;
            let tuple = pg_sys::heap_modify_tuple_by_cols(
                self.tuple(row),
                desc,
                at.len() as i32,
                at.as_mut_ptr(),
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            Value::raw(pg_sys::Datum::from(tuple), false)
        }
    }

    /// "This row was not touched". A trigger says so with a null pointer that is not SQL null.
    pub fn skip() -> Value {
        Value::raw(pg_sys::Datum::null(), false)
    }
}
