//! mq.maintain: what has to be done now and then, for the queues that the caller owns.

use super::args;
use crate::catalog::{self, Right};
use crate::error::Result;
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock};
use crate::pg::role;
use crate::pg::value::Value;
use crate::queue::upkeep;
use crate::sql_function;

sql_function!(mq_maintain, pg_finfo_mq_maintain, maintain);

fn maintain(call: &Call) -> Result<Value> {
    rel::require_writable("mq.maintain()")?;
    if !call.arg(0).is_null() {
        let q = catalog::open(&args::queue_name(call)?, Lock::Write, Right::Owner)?;
        return Ok(Value::int8(upkeep::maintain(&[q])? as i64));
    }
    let caller = role::caller();
    let mut queues = Vec::new();
    for view in catalog::views(None)? {
        let mine = rel::facts(view).is_some_and(|f| role::has_rights_of(caller, f.owner));
        if mine && let Some(q) = catalog::open_oid(view, Lock::Write)? {
            queues.push(q);
        }
    }
    let done = upkeep::maintain(&queues)?;
    upkeep::note_run()?;
    Ok(Value::int8(done as i64))
}
