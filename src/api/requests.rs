//! CALL mq.request; mq.reply, mq.reply_queue, mq.read_reply.

use super::args;
use super::receive::{self, Taken};
use crate::catalog::{self, Queue, Right};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::json::Kept;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::time::{self, Interval, Micros};
use crate::pg::value::{Oid, Value};
use crate::pg::wait;
use crate::queue::read::{self, Waiting};
use crate::queue::request;
use crate::queue::send::positive;
use crate::sql_function;
use crate::storage::claim::Take;
use std::rc::Rc;

sql_function!(mq_request, pg_finfo_mq_request, request_reply);
sql_function!(mq_reply, pg_finfo_mq_reply, reply);
sql_function!(mq_reply_queue, pg_finfo_mq_reply_queue, reply_queue);
sql_function!(mq_read_reply, pg_finfo_mq_read_reply, read_reply);

/// Columns of mq.message.
const QUEUE: i16 = 3;
const BODY: usize = 3;
const HEADERS: usize = 5;

/// So many replies are taken at once.
const PIECE: usize = 100;

/// A request in the making.
struct Asking<'a> {
    call: &'a Call,
    queue: String,
    deadline: Option<Micros>,
    /// What was asked: where the reply comes, and what it will name.
    sent: Option<(Oid, String)>,
    waiting: Waiting,
    has_looked: bool,
    reply: Option<Kept>,
}

impl Asking<'_> {
    /// The queue, if there is a reader where one is expected.
    fn open(&self) -> Result<Rc<Queue>> {
        let q = catalog::open(&self.queue, Lock::Write, Right::Has(Privilege::Insert))?;
        if self.call.arg(4).as_bool().unwrap_or(false) {
            request::expect_reader(&q)?;
        }
        Ok(q)
    }

    /// Whether the reply queue was there when this transaction began; takes or makes it otherwise. That
    /// commits before the request: who answers is woken by a commit before it learns of the relations
    /// that the same commit made.
    fn has_reply_queue(&self) -> Result<bool> {
        if request::own_queue()?.is_some() {
            return Ok(true);
        }
        self.open()?;
        request::reply_queue()?;
        Ok(false)
    }

    fn send(&mut self) -> Result<()> {
        let q = self.open()?;
        let to = request::reply_queue()?;
        let (body, headers) = (self.call.arg(1), self.call.arg(3));
        let id = request::ask(&q, &to, body, headers, self.deadline)?;
        self.sent = Some((to.view, id));
        Ok(())
    }

    /// Takes what has come. Replies to what is not waited for any more go with it.
    fn look(&mut self) -> Result<bool> {
        let Some((view, id)) = &self.sent else {
            return Ok(false);
        };
        let q = catalog::open_oid(*view, Lock::Write)?.ok_or(Error::NoReplyQueue)?;
        self.waiting.join(&q);
        self.waiting.looking();
        self.has_looked = true;
        let now = time::now();
        let mut found = None;
        while found.is_none() && !q.options.is_paused(now) {
            let n = read::hand_out(&q, PIECE as i64, Take::Away, now, |row| {
                let at = |n: usize| row.get(n).copied().unwrap_or(Value::NULL);
                if request::is_about(at(HEADERS), id) {
                    found = Some(at(BODY).kept());
                }
            })?;
            if n < PIECE {
                break;
            }
        }
        self.reply = found;
        Ok(self.reply.is_some())
    }

    fn sleep(&mut self) -> bool {
        // Who has not looked yet is not in the list.
        !self.has_looked || self.waiting.sleep()
    }
}

fn request_reply(call: &Call) -> Result<Value> {
    rel::require_writable("mq.request()")?;
    let queue = args::queue_name(call)?;
    let timeout = call.arg(2).as_interval().unwrap_or(Interval {
        micros: 5_000_000,
        days: 0,
        months: 0,
    });
    let is_endless = timeout.is_infinite() && timeout.span() > 0;
    let deadline = match is_endless {
        true => None,
        false => Some(time::add(
            time::now(),
            &positive(&queue, "timeout", timeout)?,
        )),
    };
    let mut asking = Asking {
        call,
        queue,
        deadline,
        sent: None,
        waiting: Waiting::until(deadline),
        has_looked: false,
        reply: None,
    };
    let done = wait::between_transactions(
        "request",
        call.is_atomic(),
        &mut asking,
        |asking| match asking.sent {
            None => match asking.has_reply_queue()? {
                true => asking.send().map(|()| false),
                false => Ok(false),
            },
            Some(_) => asking.look(),
        },
        Asking::sleep,
    );
    let Asking { waiting, reply, .. } = asking;
    waiting.leave();
    done?;
    Ok(call.row(&[reply.map_or(Value::NULL, |kept| kept.value())]))
}

fn reply(call: &Call) -> Result<Value> {
    rel::require_writable("mq.reply()")?;
    let message = call.arg(0);
    if message.is_null() {
        return Err(Error::null("", "message"));
    }
    let queue = message.column(QUEUE).as_text().unwrap_or_default();
    let asked = message.column(HEADERS as i16 + 1);
    request::answer(&queue, asked, call.arg(1), call.arg(2)).map(Value::int8)
}

fn reply_queue(_call: &Call) -> Result<Value> {
    rel::require_writable("mq.reply_queue()")?;
    Ok(Value::text(&request::reply_queue()?.name))
}

fn read_reply(call: &Call) -> Result<Value> {
    rel::require_writable("mq.read_reply()")?;
    let id = call
        .arg(0)
        .as_text()
        .ok_or_else(|| Error::null("", "correlation_id"))?;
    let q = request::own_queue()?.ok_or(Error::NoReplyQueue)?;
    let deadline = receive::longest_wait(&q, call.arg(1).as_interval())?;
    let sink = call.rows();
    let wanted = |headers, _body| request::is_about(headers, &id);
    let take = |q: &Queue| {
        let now = time::now();
        if q.options.is_paused(now) {
            return Ok(Taken::Nothing);
        }
        let hand = |row: &[Value]| sink.values(row);
        let n = read::hand_out_only(q, 1, Some(&wanted), Take::Away, now, hand)?;
        Ok(Taken::of(n))
    };
    let again = |name: &str| catalog::open(name, Lock::Write, Right::Owner);
    receive::until_taken(q, again, deadline, take)?;
    Ok(Value::NULL)
}
