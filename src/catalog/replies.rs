//! Private reply queues: which there are, and which session has each.
//!
//! A row is changed only by who has it locked, and only when its session is gone: nobody is robbed.
//! Whether a session is gone is asked after the row was locked, or one that has begun since might be
//! taken for gone.

use crate::error::Result;
use crate::pg::roster;
use crate::pg::session::{self, Session};
use crate::pg::spi::{self, Spi};
use crate::pg::time::{self, Micros};
use crate::pg::value::{Oid, Ty, Value};

/// Who has a reply queue.
#[derive(Clone, Copy)]
pub enum Holder {
    Nobody { since: Micros },
    Somebody(Session),
}

fn is_alive(spi: &Spi, s: Session) -> Result<bool> {
    session::look_anew();
    let rows = spi.query(
        "SELECT FROM pg_catalog.pg_stat_get_activity($1) a WHERE a.backend_start = $2 AND a.datid = $3",
        &[Ty::Int4, Ty::Timestamptz, Ty::Oid],
        &[
            Value::int4(s.pid),
            Value::timestamptz(s.began),
            Value::oid(Oid::from(roster::own_database())),
        ],
    )?;
    Ok(!rows.is_empty())
}

/// Whether that session of this database has ended.
pub fn has_ended(s: Session) -> Result<bool> {
    spi::connect(|spi| Ok(!is_alive(spi, s)?))
}

fn look(spi: &Spi, view: Oid, lock: &str) -> Result<Option<Holder>> {
    let rows = spi.query(
        &format!(
            "SELECT pid, backend_start, since FROM mq_internal.reply_queue WHERE view = $1 {lock}"
        ),
        &[Ty::Oid],
        &[Value::oid(view)],
    )?;
    if rows.is_empty() {
        return Ok(None);
    }
    let session = rows
        .get(0, 0)
        .as_int4()
        .zip(rows.get(0, 1).as_timestamptz());
    Ok(Some(match session {
        Some((pid, began)) => Holder::Somebody(Session { pid, began }),
        None => Holder::Nobody {
            since: rows.get(0, 2).as_timestamptz().unwrap_or_default(),
        },
    }))
}

/// Who has the reply queue behind a view; none when it is not one.
pub fn holder(view: Oid) -> Result<Option<Holder>> {
    spi::connect(|spi| look(spi, view, ""))
}

/// The same, locked until the end of the transaction; none also when somebody else has it locked.
pub fn lock(view: Oid) -> Result<Option<Holder>> {
    spi::connect(|spi| look(spi, view, "FOR UPDATE SKIP LOCKED"))
}

/// The view of the reply queue that this session has for a role.
pub fn own(owner: Oid) -> Result<Option<Oid>> {
    let s = session::own();
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT r.view::pg_catalog.oid FROM mq_internal.reply_queue r JOIN \
             pg_catalog.pg_class c ON c.oid = r.view WHERE r.pid = $1 AND r.backend_start = $2 \
             AND c.relowner = $3 ORDER BY r.view LIMIT 1",
            &[Ty::Int4, Ty::Timestamptz, Ty::Oid],
            &[
                Value::int4(s.pid),
                Value::timestamptz(s.began),
                Value::oid(owner),
            ],
        )?;
        Ok(rows.get(0, 0).as_oid())
    })
}

/// A reply queue of a role that nobody has, or whose session has ended; locked until the end of the
/// transaction.
pub fn find_idle(owner: Oid) -> Result<Option<Oid>> {
    session::look_anew();
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT r.view::pg_catalog.oid FROM mq_internal.reply_queue r \
             JOIN pg_catalog.pg_class c ON c.oid = r.view \
             LEFT JOIN pg_catalog.pg_stat_get_activity(NULL) a ON a.pid = r.pid \
             AND a.backend_start = r.backend_start AND a.datid = $2 \
             WHERE c.relowner = $1 AND a.pid IS NULL ORDER BY r.view LIMIT 1 \
             FOR UPDATE OF r SKIP LOCKED",
            &[Ty::Oid, Ty::Oid],
            &[
                Value::oid(owner),
                Value::oid(Oid::from(roster::own_database())),
            ],
        )?;
        let Some(view) = rows.get(0, 0).as_oid() else {
            return Ok(None);
        };
        Ok(match look(spi, view, "")? {
            Some(Holder::Nobody { .. }) => Some(view),
            Some(Holder::Somebody(s)) if !is_alive(spi, s)? => Some(view),
            _ => None,
        })
    })
}

fn set(view: Oid, to: Option<Session>) -> Result<()> {
    spi::connect(|spi| {
        spi.query(
            "INSERT INTO mq_internal.reply_queue (view, pid, backend_start, since) \
             VALUES ($1::pg_catalog.regclass, $2, $3, $4) ON CONFLICT (view) DO UPDATE \
             SET pid = excluded.pid, backend_start = excluded.backend_start, since = excluded.since",
            &[Ty::Oid, Ty::Int4, Ty::Timestamptz, Ty::Timestamptz],
            &[
                Value::oid(view),
                Value::opt(to.map(|s| s.pid), Value::int4),
                Value::opt(to.map(|s| s.began), Value::timestamptz),
                Value::timestamptz(time::now()),
            ],
        )?;
        Ok(())
    })
}

/// Gives one that is new, or locked, to this session.
pub fn take(view: Oid) -> Result<()> {
    set(view, Some(session::own()))
}

/// Has nobody have one that is locked.
pub fn free(view: Oid) -> Result<()> {
    set(view, None)
}
