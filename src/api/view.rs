//! The triggers that make a queue's view writable: insert sends, update repairs, delete deletes.
//! PostgreSQL has checked the caller's privilege on the view before they run.

use crate::catalog::{self, Queue, Right};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock};
use crate::pg::role;
use crate::pg::time;
use crate::pg::trigger::{Row, Trigger};
use crate::pg::value::Value;
use crate::queue::send::{self, Wish};
use crate::queue::settle::{self, Mended};
use crate::sql_function;
use crate::storage::insert::Message;
use crate::storage::lookup::Repair;
use std::rc::Rc;

sql_function!(mq_view_insert, pg_finfo_mq_view_insert, insert);
sql_function!(mq_view_update, pg_finfo_mq_view_update, update);
sql_function!(mq_view_delete, pg_finfo_mq_view_delete, delete);
sql_function!(mq_archive_write, pg_finfo_mq_archive_write, archive_write);

/// The view's columns, in order.
const COLUMNS: [&str; 17] = [
    "id",
    "receipt",
    "queue",
    "body",
    "data",
    "headers",
    "attempts",
    "failures",
    "last_error",
    "priority",
    "group_key",
    "dedup_key",
    "enqueued_at",
    "visible_at",
    "read_at",
    "expires_at",
    "state",
];

fn at(name: &str) -> usize {
    COLUMNS
        .iter()
        .position(|c| *c == name)
        .unwrap_or(COLUMNS.len())
}

fn queue(trigger: &Trigger) -> Result<Rc<Queue>> {
    catalog::open_oid(trigger.relation(), Lock::Write)?
        .ok_or_else(|| Error::Internal("this view is not a queue".into()))
}

/// Exactly one payload, and both it and the headers as a send would have them.
fn check(q: &Queue, body: Value, data: Value, headers: Value) -> Result<()> {
    match (body.is_null(), data.is_null()) {
        (false, true) => send::check_payload(q, "body", body, headers),
        (true, false) => send::check_payload(q, "data", data, headers),
        (true, true) => Err(Error::null(&q.name, "body")),
        (false, false) => Err(Error::argument(
            &q.name,
            "data",
            "cannot be combined with body",
        )),
    }
}

fn insert(call: &Call) -> Result<Value> {
    let trigger = Trigger::of(call)?;
    let q = queue(&trigger)?;
    let new = |name| trigger.column(Row::New, at(name));
    const SENT: [&str; 8] = [
        "body",
        "data",
        "headers",
        "priority",
        "group_key",
        "dedup_key",
        "visible_at",
        "expires_at",
    ];
    if let Some(column) = COLUMNS
        .iter()
        .find(|c| !SENT.contains(c) && !new(c).is_null())
    {
        return Err(Error::Column {
            queue: q.name.clone(),
            column: (*column).into(),
            hint: "A send may give body or data, headers, priority, group_key, dedup_key, \
                   visible_at and expires_at.",
        });
    }
    let (body, data) = (new("body"), new("data"));
    let now = time::now();
    let headers = new("headers");
    check(&q, body, data, headers)?;
    if new("visible_at")
        .as_timestamptz()
        .is_some_and(|t| !time::is_finite(t))
    {
        return Err(Error::argument(&q.name, "visible_at", "must be finite"));
    }
    let wish = Wish {
        deliver_at: new("visible_at").as_timestamptz(),
        priority: new("priority").as_int2().map(i32::from),
        expires_at: new("expires_at").as_timestamptz(),
        ..Wish::default()
    };
    let how = send::how(&q, &wish, now)?;
    let group_key = new("group_key").as_text();
    send::check_group(&q, group_key.as_deref())?;
    let message = Message {
        id: 0,
        due: how.due,
        expires_at: how.expires_at,
        priority: how.priority,
        group_key,
        dedup_key: new("dedup_key").as_text(),
        headers,
        body,
        data,
    };
    let id = send::one(&q, message, now)?;
    let state = if how.due.is_some() {
        "delayed"
    } else {
        "ready"
    };
    Ok(trigger.returning(
        Row::New,
        &[
            (at("id"), Value::int8(id)),
            (at("queue"), Value::text(&q.name)),
            (at("attempts"), Value::int4(0)),
            (at("failures"), Value::int4(0)),
            (at("priority"), Value::int2(how.priority)),
            (at("enqueued_at"), Value::timestamptz(now)),
            (at("visible_at"), Value::timestamptz(how.due.unwrap_or(now))),
            (
                at("expires_at"),
                Value::opt(how.expires_at, Value::timestamptz),
            ),
            (at("state"), Value::text(state)),
        ],
    ))
}

fn update(call: &Call) -> Result<Value> {
    let trigger = Trigger::of(call)?;
    let q = queue(&trigger)?;
    q.require(Right::Owner, role::caller())?;
    const MENDED: [&str; 5] = ["body", "headers", "data", "priority", "expires_at"];
    if let Some(column) = COLUMNS
        .iter()
        .find(|c| !MENDED.contains(c) && trigger.changed(at(c)))
    {
        return Err(Error::Column {
            queue: q.name.clone(),
            column: (*column).into(),
            hint: "An owner may mend body, headers, data, priority and expires_at; everything \
                   else changes through mq.nack, mq.release, mq.extend and the like.",
        });
    }
    let new = |name| trigger.column(Row::New, at(name));
    let (body, data) = (new("body"), new("data"));
    check(&q, body, data, new("headers"))?;
    let wish = Wish {
        priority: new("priority").as_int2().map(i32::from),
        ..Wish::default()
    };
    let priority = send::how(&q, &wish, time::now())?.priority;
    let id = trigger
        .column(Row::Old, at("id"))
        .as_int8()
        .ok_or_else(|| Error::null(&q.name, "id"))?;
    let repair = Repair {
        headers: new("headers"),
        body,
        data,
        priority,
        expires_at: new("expires_at"),
    };
    match settle::repair(&q, id, &repair, time::now()) {
        Mended::Done => {
            let now = time::now();
            let is_past = |name| new(name).as_timestamptz().is_some_and(|t| t <= now);
            let state = match (is_past("expires_at"), is_past("visible_at")) {
                (true, _) => "expired",
                (false, false) => "delayed",
                (false, true) => "ready",
            };
            let shown = [
                (at("priority"), Value::int2(priority)),
                (at("state"), Value::text(state)),
            ];
            Ok(trigger.returning(Row::New, &shown))
        }
        Mended::Leased => Err(Error::Leased {
            queue: q.name.clone(),
            id,
        }),
        Mended::Gone => Ok(Trigger::skip()),
    }
}

fn delete(call: &Call) -> Result<Value> {
    let trigger = Trigger::of(call)?;
    let q = queue(&trigger)?;
    let id = trigger
        .column(Row::Old, at("id"))
        .as_int8()
        .ok_or_else(|| Error::null(&q.name, "id"))?;
    let gone = settle::delete(&q, &[id])?;
    Ok(if gone.is_empty() {
        Trigger::skip()
    } else {
        trigger.returning(Row::Old, &[(at("id"), Value::int8(id))])
    })
}

/// An archive is written by mq.archive alone; its owner may delete from it.
fn archive_write(call: &Call) -> Result<Value> {
    let trigger = Trigger::of(call)?;
    Err(Error::NotSupported {
        what: "insert into or update",
        name: format!(
            "archive \"{}\"",
            rel::name(trigger.relation()).unwrap_or_default()
        ),
        hint: "Messages come here through mq.archive; old ones may be deleted.".into(),
    })
}
