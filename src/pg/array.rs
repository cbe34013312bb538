//! One-dimensional arrays, taken apart into values and put together again.

use super::value::{Oid, Ty, Value};
use pgrx::pg_sys;

/// What stands in the way of reading an array as a plain list.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAList;

struct Layout {
    oid: Oid,
    len: i16,
    by_value: bool,
    align: u8,
}

fn layout(ty: Ty) -> Layout {
    let (mut len, mut by_value, mut align) = (0i16, false, 0 as std::ffi::c_char);
    let oid = ty.oid();
    // SAFETY: `oid` names a built-in type; the three out-parameters are live.
    unsafe { pg_sys::get_typlenbyvalalign(oid, &mut len, &mut by_value, &mut align) };
    Layout {
        oid,
        len,
        by_value,
        align: align as u8,
    }
}

/// The elements of an array value of element type `ty`. `None` for SQL null.
pub fn elements(array: Value, ty: Ty) -> Result<Option<Vec<Value>>, NotAList> {
    if array.is_null() {
        return Ok(None);
    }
    let l = layout(ty);
    // SAFETY: the SQL declaration of the argument says that it is an array of `ty`; the arrays
    // that deconstruct_array returns hold `n` entries each.
    unsafe {
        let arr = pg_sys::pg_detoast_datum(array.datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        match (*arr).ndim {
            0 => return Ok(Some(Vec::new())),
            1 => {}
            _ => return Err(NotAList),
        }
        let (mut datums, mut nulls, mut n) = (std::ptr::null_mut(), std::ptr::null_mut(), 0i32);
        pg_sys::deconstruct_array(
            arr,
            l.oid,
            l.len as i32,
            l.by_value,
            l.align as std::ffi::c_char,
            &mut datums,
            &mut nulls,
            &mut n,
        );
        let list = (0..n as usize)
            .map(|i| Value::raw(*datums.add(i), *nulls.add(i)))
            .collect::<Vec<_>>();
        Ok(Some(list))
    }
}

/// An array of element type `ty` from `values`.
pub fn build(values: &[Value], ty: Ty) -> Value {
    let l = layout(ty);
    let mut datums: Vec<pg_sys::Datum> = values.iter().map(|v| v.datum).collect();
    let mut nulls: Vec<bool> = values.iter().map(|v| v.null).collect();
    let mut dims = [values.len() as i32];
    let mut lower = [1i32];
    // SAFETY: the vectors hold as many entries as the dimension says.
    let array = unsafe {
        pg_sys::construct_md_array(
            datums.as_mut_ptr(),
            nulls.as_mut_ptr(),
            if values.is_empty() { 0 } else { 1 },
            dims.as_mut_ptr(),
            lower.as_mut_ptr(),
            l.oid,
            l.len as i32,
            l.by_value,
            l.align as std::ffi::c_char,
        )
    };
    Value::raw(pg_sys::Datum::from(array), false)
}
