//! CALL mq.wait, CALL mq.wait_any: until a message may be ready, holding nothing meanwhile.

use super::args;
use crate::catalog::{self, Right};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::rel::{Lock, Privilege};
use crate::pg::time::{self, Micros};
use crate::pg::value::{Ty, Value};
use crate::pg::wait;
use crate::queue::active;
use crate::queue::read::{self, Waiting};
use crate::queue::send::not_negative;
use crate::sql_function;

sql_function!(mq_wait, pg_finfo_mq_wait, wait_one);
sql_function!(mq_wait_any, pg_finfo_mq_wait_any, wait_any);

/// Whether a reader would find something in this queue. The session is in its list before it looks.
fn is_ready(name: &str, waiting: &mut Waiting) -> Result<bool> {
    let q = catalog::open(name, Lock::Read, Right::Has(Privilege::Update))?;
    waiting.join(&q);
    let now = time::now();
    if q.options.is_paused(now) || !read::any_ready(&q, now)? {
        return Ok(false);
    }
    // Who is told that there is something is the one who gets it.
    let is_ours = active::admits(&q);
    if !is_ours {
        waiting.hand_on();
    }
    Ok(is_ours)
}

fn deadline(call: &Call, queue: &str) -> Result<Option<Micros>> {
    match call.arg(1).as_interval() {
        None => Err(Error::null(queue, "timeout")),
        Some(i) if i.is_infinite() && i.span() > 0 => Ok(None),
        Some(i) => Ok(Some(time::add(
            time::now(),
            &not_negative(queue, "timeout", i)?,
        ))),
    }
}

fn wait_for(
    call: &Call,
    what: &'static str,
    queues: &[String],
    deadline: Option<Micros>,
) -> Result<Value> {
    let mut waiting = Waiting::until(deadline);
    let ready = wait::between_transactions(
        what,
        call.is_atomic(),
        &mut waiting,
        |waiting| {
            waiting.looking();
            for name in queues {
                if is_ready(name, waiting)? {
                    return Ok(true);
                }
            }
            Ok(false)
        },
        Waiting::sleep,
    );
    waiting.leave();
    let ready = ready?;
    Ok(wait::ready_row(call, ready))
}

fn wait_one(call: &Call) -> Result<Value> {
    let name = args::queue_name(call)?;
    let deadline = deadline(call, &name)?;
    wait_for(call, "wait", &[name], deadline)
}

fn wait_any(call: &Call) -> Result<Value> {
    let refuse = |why: &str| Error::argument("", "queues", why);
    let names: Vec<String> = args::list("", "queues", call.arg(0), Ty::Text)?
        .ok_or_else(|| refuse("must not be null"))?
        .into_iter()
        .map(|v| v.as_text().ok_or_else(|| refuse("must not hold a null")))
        .collect::<Result<_>>()?;
    let first = names.first().ok_or_else(|| refuse("must not be empty"))?;
    let deadline = deadline(call, first)?;
    wait_for(call, "wait_any", &names, deadline)
}
