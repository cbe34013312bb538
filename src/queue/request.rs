//! Requests and replies: a request is a message that says in two headers where its reply goes and which
//! it answers; a reply is a message there that names it. A session's replies come to a private queue.
//!
//! A private queue is one session's, for one role, from the commit of the transaction that took it until
//! the session has ended. Then it is emptied and waits for another session of that role. Which session
//! has it is in the catalog; what is remembered here is only what that says.

use crate::catalog::replies::{self, Holder};
use crate::catalog::{self, Queue, Right};
use crate::error::{Error, Result};
use crate::pg::holders;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::role;
use crate::pg::shmem;
use crate::pg::time::{self, Micros};
use crate::pg::value::{Oid, Value};
use crate::pg::wait;
use crate::pg::xact;
use crate::queue::life;
use crate::queue::look;
use crate::queue::send::{self, Wish};
use crate::queue::settle;
use crate::storage::insert::Message;
use crate::storage::tables;
use pg_broker_core::names;
use std::cell::RefCell;
use std::rc::Rc;

const REPLY_TO: &str = "reply_to";
const CORRELATION_ID: &str = "correlation_id";

/// A private queue that nobody has is dropped after so long.
const KEPT: Micros = 3_600_000_000;
/// So long somebody may be between two waits, or between a wait and its read.
const BETWEEN: Micros = 100_000;

thread_local! {
    /// The private queues that this session has, by role; only what is committed.
    static OWN: RefCell<Vec<(Oid, Oid)>> = const { RefCell::new(Vec::new()) };
    /// The roles for which that is learnt when the transaction in progress commits.
    static TO_LEARN: RefCell<Vec<Oid>> = const { RefCell::new(Vec::new()) };
}

fn forget() {
    OWN.with(|o| o.borrow_mut().clear());
    TO_LEARN.with(|t| t.borrow_mut().clear());
}

/// Opens a private queue, if it still is one of that role's.
fn open(view: Oid, owner: Oid) -> Result<Option<Rc<Queue>>> {
    let q = catalog::open_oid(view, Lock::Write)?;
    Ok(q.filter(|q| q.owner == owner && names::is_reply_queue(&q.name)))
}

/// Remembers the private queue for a role, once it is known to be committed.
fn remember(owner: Oid) {
    let is_new = TO_LEARN.with(|t| {
        let mut roles = t.borrow_mut();
        let is_new = !roles.contains(&owner);
        if is_new {
            roles.push(owner);
        }
        is_new
    });
    if !is_new {
        return;
    }
    xact::if_undone(forget);
    // A savepoint that it was taken after may have been rolled back.
    xact::before_commit(move || {
        let view = replies::own(owner)?;
        TO_LEARN.with(|t| t.borrow_mut().retain(|role| *role != owner));
        OWN.with(|o| {
            let mut own = o.borrow_mut();
            own.retain(|(role, _)| *role != owner);
            own.extend(view.map(|view| (owner, view)));
        });
        Ok(())
    });
}

/// The private queue that this session has for the calling role.
pub fn own_queue() -> Result<Option<Rc<Queue>>> {
    let owner = role::caller();
    let known = OWN.with(|o| o.borrow().iter().find(|(role, _)| *role == owner).copied());
    if let Some((_, view)) = known {
        if let Some(q) = open(view, owner)? {
            return Ok(Some(q));
        }
        // Dropped, or somebody else's by now.
        forget();
    }
    let Some(view) = replies::own(owner)? else {
        return Ok(None);
    };
    remember(owner);
    open(view, owner)
}

/// The same; one that is free is taken, or one made, where there is none.
pub fn reply_queue() -> Result<Rc<Queue>> {
    if let Some(q) = own_queue()? {
        return Ok(q);
    }
    let owner = role::caller();
    let q = match idle(owner)? {
        Some(q) => q,
        None => make(owner)?,
    };
    replies::take(q.view)?;
    remember(owner);
    Ok(q)
}

/// One that nobody has any more, emptied.
fn idle(owner: Oid) -> Result<Option<Rc<Queue>>> {
    let Some(view) = replies::find_idle(owner)? else {
        return Ok(None);
    };
    // Who has it locked, as to drop it, is not waited for.
    if !rel::try_hold(view, Lock::Write) {
        return Ok(None);
    }
    let q = open(view, owner)?;
    q.as_ref().map(|q| settle::purge(q)).transpose()?;
    Ok(q)
}

fn make(owner: Oid) -> Result<Rc<Queue>> {
    let view = life::create_for_replies()?;
    open(view, owner)?.ok_or_else(|| Error::Internal("a new reply queue is gone".into()))
}

/// Frees a private queue whose session has ended, and drops one that was free for long. Gives how many
/// messages were removed. Whoever looks after queues calls it for each of them.
pub fn tend(q: &Queue) -> Result<u64> {
    if !names::is_reply_queue(&q.name) || !is_idle(replies::holder(q.view)?)? {
        return Ok(0);
    }
    // Now that nobody can take it, once more.
    let holder = replies::lock(q.view)?;
    if !is_idle(holder)? {
        return Ok(0);
    }
    if let Some(Holder::Somebody(_)) = holder {
        let n = settle::purge(q)?;
        replies::free(q.view)?;
        return Ok(n.unsigned_abs());
    }
    // Who sends there now is not waited for; and what somebody has built on it is not taken away.
    let is_free = rel::try_hold(q.view, Lock::Exclusive);
    if is_free && tables::dependents(&[q.view, q.archive_view])?.is_empty() {
        life::drop(q, false)?;
    }
    Ok(0)
}

/// Whether there is something to do: it is to be freed, or dropped.
fn is_idle(holder: Option<Holder>) -> Result<bool> {
    match holder {
        None => Ok(false),
        Some(Holder::Nobody { since }) => Ok(time::now() - since > KEPT),
        Some(Holder::Somebody(session)) => replies::has_ended(session),
    }
}

fn object(members: &[(&str, Value)]) -> Value {
    let members: Vec<String> = members
        .iter()
        .filter_map(|(key, value)| Some(format!("\"{key}\": {}", value.jsonb_text()?)))
        .collect();
    Value::jsonb(&format!("{{{}}}", members.join(", ")))
}

fn send_with(
    q: &Queue,
    body: Value,
    headers: Value,
    more: &[(&str, Value)],
    expires_at: Option<Micros>,
) -> Result<i64> {
    // Before they are put together: that they are an object.
    send::check_payload(q, "body", body, headers)?;
    let headers = match more {
        [] => headers,
        more => headers.with_members_of(object(more)),
    };
    send::check_payload(q, "body", body, headers)?;
    let now = time::now();
    let wish = Wish {
        expires_at,
        ..Wish::default()
    };
    let how = send::how(q, &wish, now)?;
    let message = Message {
        id: 0,
        due: how.due,
        expires_at: how.expires_at,
        priority: how.priority,
        group_key: None,
        dedup_key: None,
        headers,
        body,
        data: Value::NULL,
    };
    send::one(q, message, now)
}

/// Sends a request whose reply shall come to `to`, and which nobody gets when the time is over. Gives
/// the id that the reply will name.
pub fn ask(
    q: &Queue,
    to: &Queue,
    body: Value,
    headers: Value,
    expires_at: Option<Micros>,
) -> Result<String> {
    let id = rel::random_uuid();
    let more = [
        (REPLY_TO, Value::jsonb_string(&to.name)),
        (CORRELATION_ID, Value::jsonb_string(&id)),
    ];
    send_with(q, body, headers, &more, expires_at)?;
    Ok(id)
}

/// Sends the reply to a request of queue `from` with these headers, if the caller may send to where
/// it asks for it. Gives the reply's id.
pub fn answer(from: &str, asked: Value, body: Value, headers: Value) -> Result<i64> {
    let refuse = |why: &str| {
        Error::argument_hint(
            from,
            "message",
            why,
            "The header reply_to names a queue, as mq.request writes it, or who sends with \
             reply_to => mq.reply_queue().",
        )
    };
    let to = asked
        .member(REPLY_TO)
        .ok_or_else(|| refuse("asks for no reply: it has no header reply_to"))?
        .jsonb_string_text()
        .ok_or_else(|| refuse("has a header reply_to that is not a string"))?;
    let q = open_named(&to)?;
    let id = asked.member(CORRELATION_ID).map(|id| (CORRELATION_ID, id));
    send_with(&q, body, headers, id.as_slice(), None)
}

/// The queue that a reply goes to. Where a session's own was made by the transaction of the request,
/// the wake-up comes a moment before the news of it.
fn open_named(to: &str) -> Result<Rc<Queue>> {
    const MOMENTS: usize = 25;
    let open = || catalog::open(to, Lock::Write, Right::Has(Privilege::Insert));
    for _ in 0..MOMENTS {
        match open() {
            Err(Error::NoSuchQueue(_)) if names::is_reply_queue(to) => {
                wait::moment();
                holders::hear();
            }
            other => return other,
        }
    }
    open()
}

/// Whether headers name the request that they are about by this id.
pub fn is_about(headers: Value, id: &str) -> bool {
    let named = headers.member(CORRELATION_ID);
    named.is_some_and(|named| match named.jsonb_string_text() {
        Some(text) => text == id,
        None => named.jsonb_text().as_deref() == Some(id),
    })
}

/// Refuses when nobody reads a queue: nobody waits for it, or holds one of its messages. Who is about
/// to wait again is given a moment.
pub fn expect_reader(q: &Queue) -> Result<()> {
    if !shmem::attached() {
        return Err(Error::NeedsPreload("expect_reader"));
    }
    let until = time::now() + BETWEEN;
    loop {
        let now = time::now();
        if look::waiters(&q.outline()).is_some_and(|n| n > 0) || look::count(q, now).leased > 0 {
            return Ok(());
        }
        if now > until {
            return Err(Error::NoReader(q.name.clone()));
        }
        wait::moment();
    }
}
