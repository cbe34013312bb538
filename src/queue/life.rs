//! A queue's beginning and end: its tables and its entry, and telling `wake` of them. Who calls these
//! has checked the caller's rights and the name.

use crate::catalog::limits::{self, Limits};
use crate::catalog::{self, Options, Queue, companion, exchange};
use crate::error::Result;
use crate::pg::rel;
use crate::pg::role;
use crate::pg::value::Oid;
use crate::storage::tables::{self, Made};
use crate::wake::{frontier, opened, touch};
use pg_broker_core::names;

/// Makes a queue of the caller's.
pub fn create(name: &str, durable: bool, options: &Options) -> Result<Oid> {
    let n = tables::next_number()?;
    let view = make(n, name, durable, options)?;
    tables::give_default_privileges(name, role::caller())?;
    if options.max_length.is_some() {
        tables::limit_length(n, role::caller(), view, true)?;
    }
    companion::made(name)?;
    Ok(view)
}

/// Makes a queue of the caller's for replies: everybody may send there, and nobody else anything more,
/// whatever the caller's default privileges say.
pub fn create_for_replies() -> Result<Oid> {
    let n = tables::next_number()?;
    let name = names::reply_queue(n);
    let view = make(n, &name, false, &Options::default())?;
    tables::open_to_all(&name)?;
    Ok(view)
}

fn make(n: i32, name: &str, durable: bool, options: &Options) -> Result<Oid> {
    let made = Made {
        durable,
        has_groups_index: options.has_groups_index(),
    };
    let (view, archive) = tables::create(n, name, role::caller(), made)?;
    catalog::insert(n, view, archive, options)?;
    if options.limits != Limits::default() {
        limits::put(view, &options.limits)?;
    }
    rel::see_own_changes();
    if let Some(q) = catalog::behind(view)? {
        // The transaction in progress makes this queue.
        frontier::created(&q);
    }
    Ok(view)
}

/// The transaction in progress resumes this queue, or opens it to all sessions.
pub fn resumed(q: &Queue) {
    opened::opened(q);
}

/// Replaces the limits of a queue: what they held back is looked at anew.
pub fn limit(q: &Queue, new: &Limits) -> Result<()> {
    limits::put(q.view, new)?;
    opened::freed(q);
    Ok(())
}

/// Drops a queue that is locked against everybody.
pub fn drop(q: &Queue, cascade: bool) -> Result<()> {
    catalog::remove(q.view)?;
    exchange::forget(q.view)?;
    ended(q.storage);
    tables::drop(q.n, &[q.view, q.archive_view], cascade)
}

/// The transaction in progress drops the queue with this storage.
pub fn ended(storage: Oid) {
    touch::dropped(storage);
}
