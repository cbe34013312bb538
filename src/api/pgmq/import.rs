//! mq_internal.import_messages: what mq.import_pgmq enters messages with.

use crate::api::args;
use crate::catalog::{self, Right};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock};
use crate::pg::time;
use crate::pg::value::{Ty, Value};
use crate::queue::import::{self, Imported};
use crate::sql_function;

sql_function!(
    mq_import_messages,
    pg_finfo_mq_import_messages,
    import_messages
);

fn import_messages(call: &Call) -> Result<Value> {
    rel::require_writable("mq.import_pgmq()")?;
    let name = args::queue_name(call)?;
    let q = catalog::open(&name, Lock::Write, Right::Owner)?;
    let now = time::now();
    let ids = args::ids(call, 1, &name)?;
    let list = |n, argument, ty| -> Result<Vec<Value>> {
        let list = args::list(&name, argument, call.arg(n), ty)?
            .ok_or_else(|| Error::null(&name, argument))?;
        args::same_length(&name, argument, list.len(), "ids", ids.len())?;
        Ok(list)
    };
    let attempts = list(2, "attempts", Ty::Int4)?;
    let enqueued = list(3, "enqueued_at", Ty::Timestamptz)?;
    let read = list(4, "read_at", Ty::Timestamptz)?;
    let due = list(5, "visible_at", Ty::Timestamptz)?;
    let bodies = list(6, "bodies", Ty::Jsonb)?;
    let headers = list(7, "headers", Ty::Jsonb)?;
    let waits = |at: Value| {
        let at = at.as_timestamptz().map(|at| super::finite(at, now));
        at.filter(|&at| at > now)
    };
    let messages: Vec<Imported> = ids
        .iter()
        .enumerate()
        .map(|(i, id)| Imported {
            id: *id,
            attempts: attempts[i].as_int4().unwrap_or_default(),
            enqueued_at: enqueued[i].as_timestamptz().unwrap_or(now),
            read_at: read[i].as_timestamptz(),
            due: waits(due[i]),
            body: bodies[i],
            headers: headers[i],
        })
        .collect();
    let n = import::enter(&q, &messages)?;
    Ok(Value::int8(n as i64))
}
