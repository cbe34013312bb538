//! Event triggers: a queue follows what standard SQL does to its view.

use super::queues::check_name;
use crate::catalog::{self, Queue, exchange, replies};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::event::{self, OwnDdl};
use crate::pg::rel;
use crate::pg::spi;
use crate::pg::value::{Oid, Value};
use crate::queue::life;
use crate::sql_function;
use crate::storage::{exchanges, tables};
use pg_broker_core::names::{self, archive_of};

sql_function!(mq_on_drop, pg_finfo_mq_on_drop, on_drop);
sql_function!(mq_on_alter, pg_finfo_mq_on_alter, on_alter);
sql_function!(mq_on_plant, pg_finfo_mq_on_plant, on_plant);

fn objects(source: &str, condition: &str) -> Result<Vec<Oid>> {
    spi::connect(|spi| {
        let rows = spi.query(
            &format!(
                "SELECT DISTINCT o.objid FROM pg_catalog.{source}() o WHERE o.classid = \
                 'pg_catalog.pg_class'::pg_catalog.regclass {condition}"
            ),
            &[],
            &[],
        )?;
        Ok((0..rows.len())
            .filter_map(|i| rows.get(i, 0).as_oid())
            .collect())
    })
}

/// Views were dropped: queues go with theirs; an archive goes only with its queue.
fn on_drop(call: &Call) -> Result<Value> {
    event::require(call)?;
    // While the extension itself is dropped, its catalog may be gone already.
    if OwnDdl::in_progress() || rel::internal("queue").is_none() {
        return Ok(Value::NULL);
    }
    let views = objects(
        "pg_event_trigger_dropped_objects",
        "AND o.object_type = 'view'",
    )?;
    for &view in &views {
        if let Some((n, archive)) = catalog::remove(view)? {
            if let Some(storage) = rel::internal(&format!("q_{n}")) {
                life::ended(storage);
            }
            tables::drop(n, &[archive], true)?;
        }
        exchange::forget(view)?;
    }
    for &view in &views {
        if let Some(queue) = catalog::with_archive(view)? {
            let queue = rel::name(queue).unwrap_or_default();
            return Err(Error::PartOfQueue {
                what: "view",
                name: archive_of(&queue),
                queue,
            });
        }
    }
    Ok(Value::NULL)
}

/// Relations were altered: name and owner of a queue's view are its own.
fn on_alter(call: &Call) -> Result<Value> {
    event::require(call)?;
    if OwnDdl::in_progress() || rel::internal("queue").is_none() {
        return Ok(Value::NULL);
    }
    for oid in objects("pg_event_trigger_ddl_commands", "")? {
        if let Some(q) = catalog::behind(oid)? {
            if !rel::is_public(oid) {
                return Err(moved("A queue", &q.name));
            }
            check_new_name(&q)?;
            tables::follow_rename(q.n, &q.name, q.archive_view)?;
            if rel::facts(q.storage).is_some_and(|f| f.owner != q.owner) {
                tables::follow_owner(q.n, q.owner, q.archive_view)?;
            }
        } else if let Some(queue) = catalog::with_archive(oid)? {
            check_archive(oid, queue)?;
        } else if let Some(e) = exchange::behind(oid)? {
            if !rel::is_public(oid) {
                return Err(moved("An exchange", &e.name));
            }
            check_name("an exchange", &e.name)?;
            if !exchanges::is_intact(oid)? {
                return Err(Error::NotSupported {
                    what: "rename a column of",
                    name: format!("exchange \"{}\"", e.name),
                    hint: "Publishing goes by the names of its columns.".into(),
                });
            }
        }
    }
    Ok(Value::NULL)
}

/// A reply queue keeps its name, which nobody else can have.
fn check_new_name(q: &Queue) -> Result<()> {
    match replies::holder(q.view)?.is_some() {
        true if names::is_reply_queue(&q.name) => Ok(()),
        true => Err(Error::renamed_reply_queue(&q.name)),
        false => check_name("a queue", &q.name),
    }
}

fn moved(what: &str, name: &str) -> Error {
    let noun = what.rsplit(' ').next().unwrap_or(what);
    Error::NotSupported {
        what: "move to another schema:",
        name: format!("{noun} \"{name}\""),
        hint: format!("{what} is the view of its name in schema mq."),
    }
}

fn check_archive(archive: Oid, queue: Oid) -> Result<()> {
    let queue_name = rel::name(queue).unwrap_or_default();
    let owner = |oid| rel::facts(oid).map(|f| f.owner);
    let name = rel::name(archive).unwrap_or_default();
    let same = name == archive_of(&queue_name)
        && rel::is_public(archive)
        && owner(archive) == owner(queue);
    if same {
        return Ok(());
    }
    Err(Error::NotSupported {
        what: "rename, move or give away by itself",
        name: format!("the archive of queue \"{queue_name}\""),
        hint: "Alter the queue; its archive follows.".into(),
    })
}

/// Something callable was made or moved into one of our schemas by somebody else.
fn on_plant(call: &Call) -> Result<Value> {
    event::require(call)?;
    let planted = spi::connect(|spi| {
        let rows = spi.query(
            "SELECT o.object_identity FROM pg_catalog.pg_event_trigger_ddl_commands() o \
             WHERE o.schema_name IN ('mq', 'mq_internal') AND NOT o.in_extension LIMIT 1",
            &[],
            &[],
        )?;
        Ok(rows.get(0, 0).as_text())
    })?;
    match planted {
        None => Ok(Value::NULL),
        Some(name) => Err(Error::Planted(name)),
    }
}
