//! Arguments as the calls need them, refused in one wording.

use crate::error::{Error, Result};
use crate::pg::array;
use crate::pg::entry::Call;
use crate::pg::time::Interval;
use crate::pg::value::{Ty, Value};
use crate::queue::send::not_negative;
use crate::storage::settle::HandOut;

/// The queue's name, argument 0 by convention.
pub fn queue_name(call: &Call) -> Result<String> {
    call.arg(0)
        .as_text()
        .ok_or(Error::NullQueue { argument: "queue" })
}

/// The exchange's name, argument 0 by convention.
pub fn exchange_name(call: &Call) -> Result<String> {
    call.arg(0).as_text().ok_or(Error::NullQueue {
        argument: "exchange",
    })
}

pub fn id(call: &Call, n: usize, queue: &str) -> Result<i64> {
    call.arg(n)
        .as_int8()
        .ok_or_else(|| Error::null(queue, "id"))
}

pub fn qty(call: &Call, n: usize, queue: &str) -> Result<i64> {
    match call.arg(n).as_int4() {
        None => Ok(1),
        Some(qty) if qty >= 1 => Ok(qty.into()),
        Some(qty) => Err(Error::argument(
            queue,
            "qty",
            format!("must be at least 1, not {qty}"),
        )),
    }
}

pub fn delay(call: &Call, n: usize, queue: &str) -> Result<Option<Interval>> {
    call.arg(n)
        .as_interval()
        .map(|i| not_negative(queue, "delay", i))
        .transpose()
}

/// The elements of an array argument, or none for null.
pub fn list(queue: &str, name: &'static str, value: Value, ty: Ty) -> Result<Option<Vec<Value>>> {
    array::elements(value, ty).map_err(|_| Error::argument(queue, name, "must have one dimension"))
}

pub fn ids(call: &Call, n: usize, queue: &str) -> Result<Vec<i64>> {
    let list =
        list(queue, "ids", call.arg(n), Ty::Int8)?.ok_or_else(|| Error::null(queue, "ids"))?;
    list.into_iter()
        .map(|v| {
            v.as_int8()
                .ok_or_else(|| Error::argument(queue, "ids", "must not hold a null"))
        })
        .collect()
}

/// Refuses a second array that is not as long as the first.
pub fn same_length(
    queue: &str,
    name: &'static str,
    len: usize,
    first: &'static str,
    wanted: usize,
) -> Result<()> {
    if len == wanted {
        return Ok(());
    }
    Err(Error::argument_hint(
        queue,
        name,
        format!("has {len} elements where {first} has {wanted}"),
        "Give one element for each, null for none.",
    ))
}

/// `ids` with `receipts`, each pair once.
pub fn hand_outs(call: &Call, queue: &str) -> Result<Vec<HandOut>> {
    let ids = ids(call, 1, queue)?;
    let receipts = match list(queue, "receipts", call.arg(2), Ty::Int8)? {
        None => vec![None; ids.len()],
        Some(list) => {
            same_length(queue, "receipts", list.len(), "ids", ids.len())?;
            list.into_iter().map(Value::as_int8).collect()
        }
    };
    if is_rising(&ids) {
        return Ok(ids.into_iter().zip(receipts).collect());
    }
    let mut seen = std::collections::HashSet::new();
    Ok(ids
        .into_iter()
        .zip(receipts)
        .filter(|pair| seen.insert(*pair))
        .collect())
}

/// Whether every id is higher than the one before: as a read gives them.
fn is_rising(ids: &[i64]) -> bool {
    ids.is_sorted_by(|a, b| a < b)
}

/// `done`, in the order of `asked`, each once.
pub fn in_order(asked: &[i64], done: Vec<i64>) -> Vec<i64> {
    if is_rising(asked) && is_rising(&done) {
        return done;
    }
    let mut left: std::collections::HashSet<i64> = done.into_iter().collect();
    asked.iter().copied().filter(|id| left.remove(id)).collect()
}
