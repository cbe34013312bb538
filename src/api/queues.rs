//! mq.create_queue, mq.alter_queue, mq.drop_queue, mq.rename_queue, mq.pause, mq.resume.

use super::{args, limits, options};
use crate::catalog::{self, Options, Queue, Right, companion};
use crate::error::{Error, Result};
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock};
use crate::pg::report;
use crate::pg::time;
use crate::pg::value::{Oid, Value};
use crate::queue::life;
use crate::sql_function;
use crate::storage::tables;
use pg_broker_core::names::{self, archive_of, dead_letter_of};

sql_function!(mq_create_queue, pg_finfo_mq_create_queue, create_queue);
sql_function!(mq_alter_queue, pg_finfo_mq_alter_queue, alter_queue);
sql_function!(mq_drop_queue, pg_finfo_mq_drop_queue, drop_queue);
sql_function!(mq_rename_queue, pg_finfo_mq_rename_queue, rename_queue);
sql_function!(mq_pause, pg_finfo_mq_pause, pause);
sql_function!(mq_resume, pg_finfo_mq_resume, resume);

pub(super) fn check_name(what: &'static str, name: &str) -> Result<()> {
    match names::refuse(name) {
        Some(why) => Err(Error::BadName {
            what,
            name: name.into(),
            why,
        }),
        None => Ok(()),
    }
}

/// Refuses when a queue, or anything else in schema mq, has one of the names that queue `name`
/// will take. Two that want the same name go one after the other.
pub(super) fn reserve(name: &str, also: &[String]) -> Result<()> {
    let mut wanted = vec![name.to_owned(), archive_of(name)];
    for other in also {
        wanted.extend([other.clone(), archive_of(other)]);
    }
    let Some(taken) = reserve_names(&wanted) else {
        return Ok(());
    };
    let taken_name = rel::name(taken).unwrap_or_default();
    match matches!(catalog::behind(taken), Ok(Some(_))) && taken_name == name {
        true => Err(Error::QueueExists(taken_name)),
        false => Err(Error::NameTaken(taken_name)),
    }
}

/// Has nobody else take these names in schema mq before the transaction ends. Gives what already has
/// one of them.
pub(super) fn reserve_names(wanted: &[String]) -> Option<Oid> {
    let mut locks: Vec<u32> = wanted.iter().map(|n| hash(n)).collect();
    locks.sort_unstable();
    locks.dedup();
    locks.into_iter().for_each(rel::lock_name);
    wanted.iter().find_map(|n| rel::public(n))
}

/// FNV-1a: the same on every server.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

fn create_queue(call: &Call) -> Result<Value> {
    rel::require_writable("mq.create_queue()")?;
    let name = args::queue_name(call)?;
    check_name("a queue", &name)?;
    let durable = call.arg(1).as_bool().unwrap_or(true);
    let settings = options::settings(call, &name, 2, &[])?;
    let if_not_exists = call.arg(23).as_bool().unwrap_or(false);
    let mut options = settings.over(&Options::default());
    options.ordering = options::ordering(&name, call.arg(15))?;
    options.fair_by = options::fair_by(&name, call.arg(22), options.ordering)?;
    let none = options.limits.clone();
    options.limits = limits::limits(call, &name, 16, &[], &none, options.ordering)?;
    let makes_dead = options.max_failures.is_some() && options.dead_letter.is_none();
    let dead = dead_letter_of(&name);
    let also = if makes_dead {
        vec![dead.clone()]
    } else {
        Vec::new()
    };
    match reserve(&name, &also) {
        Err(Error::QueueExists(taken)) if if_not_exists && taken == name => {
            return Ok(Value::bool(false));
        }
        other => other?,
    }
    if makes_dead {
        options.dead_letter = Some(life::create(&dead, durable, &Options::default())?);
    }
    life::create(&name, durable, &options)?;
    Ok(Value::bool(true))
}

/// Refuses a dead-letter queue from which letters would come back.
fn check_cycle(q: &Queue, target: Oid) -> Result<()> {
    let mut next = Some(target);
    let mut steps = 0;
    while let Some(view) = next {
        let Some(queue) = catalog::open_oid(view, Lock::Read)? else {
            return Ok(());
        };
        steps += 1;
        if queue.view == q.view || steps > 1000 {
            let target = rel::name(target).unwrap_or_default();
            return Err(Error::Cycle {
                queue: target,
                target: q.name.clone(),
            });
        }
        next = queue.options.dead_letter;
    }
    Ok(())
}

fn alter_queue(call: &Call) -> Result<Value> {
    rel::require_writable("mq.alter_queue()")?;
    let name = args::queue_name(call)?;
    let q = catalog::open(&name, Lock::Alter, Right::Owner)?;
    let reset = options::resets(&name, call.arg(20))?;
    let mut new = options::settings(call, &name, 1, &reset)?.over(&q.options);
    let (present, ordering) = (&q.options.limits, q.options.ordering);
    new.limits = limits::limits(call, &name, 14, &reset, present, ordering)?;
    if let Some(target) = new.dead_letter
        && q.options.dead_letter != Some(target)
    {
        check_cycle(&q, target)?;
    }
    if new.max_length.is_some() != q.options.max_length.is_some() {
        tables::limit_length(q.n, q.owner, q.view, new.max_length.is_some())?;
    }
    catalog::update(q.view, &new)?;
    if q.options.single_active && !new.single_active {
        life::resumed(&q);
    }
    if new.limits != q.options.limits {
        life::limit(&q, &new.limits)?;
    }
    let lowered = new.max_failures.is_some() && new.max_failures != q.options.max_failures;
    if new.max_failures.is_some() && new.dead_letter.is_none() && lowered {
        report::notice(&format!(
            "queue \"{name}\" has no dead-letter queue: messages that have failed {} time(s) are \
             removed and counted as dead",
            new.max_failures.unwrap_or_default()
        ));
    }
    Ok(Value::NULL)
}

fn drop_queue(call: &Call) -> Result<Value> {
    rel::require_writable("mq.drop_queue()")?;
    let name = args::queue_name(call)?;
    let if_exists = call.arg(1).as_bool().unwrap_or(false);
    let cascade = call.arg(2).as_bool().unwrap_or(false);
    let q = match catalog::open(&name, Lock::Exclusive, Right::Owner) {
        Err(Error::NoSuchQueue(_)) if if_exists => return Ok(Value::bool(false)),
        other => other?,
    };
    if !cascade {
        companion::leaves(&name)?;
        refuse_dependents(&q)?;
    }
    life::drop(&q, cascade)?;
    Ok(Value::bool(true))
}

fn refuse_dependents(q: &Queue) -> Result<()> {
    let mut found: Vec<String> = catalog::views(Some(q.view))?
        .into_iter()
        .filter_map(rel::name)
        .map(|n| format!("queue \"{n}\" dead-letters into it"))
        .collect();
    found.extend(tables::dependents(&[q.view, q.archive_view])?);
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::Depends {
        queue: q.name.clone(),
        detail: found.join("; "),
    })
}

fn rename_queue(call: &Call) -> Result<Value> {
    rel::require_writable("mq.rename_queue()")?;
    let name = args::queue_name(call)?;
    let new = call
        .arg(1)
        .as_text()
        .ok_or_else(|| Error::null(&name, "new_name"))?;
    let q = catalog::open(&name, Lock::Exclusive, Right::Owner)?;
    check_name("a queue", &new)?;
    if names::is_reply_queue(&name) {
        return Err(Error::renamed_reply_queue(&name));
    }
    if new != name {
        reserve(&new, &[]).map_err(|e| match e {
            Error::QueueExists(taken) => Error::NameTaken(taken),
            other => other,
        })?;
        tables::rename(&name, &new)?;
        tables::follow_rename(q.n, &new, q.archive_view)?;
    }
    Ok(Value::NULL)
}

fn pause(call: &Call) -> Result<Value> {
    rel::require_writable("mq.pause()")?;
    let name = args::queue_name(call)?;
    let q = catalog::open(&name, Lock::Alter, Right::Owner)?;
    let until = call.arg(1).as_timestamptz();
    if until.is_some_and(|t| t != time::INFINITY && t <= time::now()) {
        return Err(Error::argument(&name, "until", "must be in the future"));
    }
    catalog::put_paused(q.view, true, until)?;
    Ok(Value::NULL)
}

fn resume(call: &Call) -> Result<Value> {
    rel::require_writable("mq.resume()")?;
    let name = args::queue_name(call)?;
    let q = catalog::open(&name, Lock::Alter, Right::Owner)?;
    catalog::put_paused(q.view, false, None)?;
    life::resumed(&q);
    Ok(Value::NULL)
}
