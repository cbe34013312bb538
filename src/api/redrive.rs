//! mq.redrive.

use super::args;
use crate::catalog::{self, Right};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock};
use crate::pg::role;
use crate::pg::time;
use crate::pg::value::Value;
use crate::queue::redrive;
use crate::sql_function;

sql_function!(mq_redrive, pg_finfo_mq_redrive, redrive_letters);

fn redrive_letters(call: &Call) -> Result<Value> {
    rel::require_writable("mq.redrive()")?;
    let name = args::queue_name(call)?;
    let q = catalog::open(&name, Lock::Write, Right::Owner)?;
    let caller = role::caller();
    let to = match call.arg(1).as_text() {
        Some(to) if to == name => {
            return Err(Error::argument(&name, "to", "must be another queue"));
        }
        Some(to) => Some(redrive::open_target(&to, caller)?),
        None => None,
    };
    let ids = match call.arg(2).is_null() {
        true => None,
        false => Some(args::ids(call, 2, &name)?),
    };
    let max = match call.arg(3).as_int8() {
        None => redrive::ALL,
        Some(max) if max >= 1 => max,
        Some(max) => {
            return Err(Error::argument(
                &name,
                "max",
                format!("must be at least 1, not {max}"),
            ));
        }
    };
    let ids = ids.as_deref();
    redrive::redrive(&q, to, ids, max, time::now(), caller).map(Value::int8)
}
