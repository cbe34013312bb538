//! mq.create_exchange, mq.alter_exchange, mq.drop_exchange, mq.bind, mq.unbind.

use super::args;
use super::queues::{check_name, reserve_names};
use crate::catalog::exchange::{self, Chosen, Exchange, Wanted};
use crate::catalog::{self, Right};
use crate::error::{Error, Result};
use crate::pg::array;
use crate::pg::entry::Call;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::role;
use crate::pg::value::{Oid, Ty, Value};
use crate::sql_function;
use crate::storage::{exchanges, tables};
use pg_broker_core::route::Kind;

sql_function!(
    mq_create_exchange,
    pg_finfo_mq_create_exchange,
    create_exchange
);
sql_function!(
    mq_alter_exchange,
    pg_finfo_mq_alter_exchange,
    alter_exchange
);
sql_function!(
    mq_rename_exchange,
    pg_finfo_mq_rename_exchange,
    rename_exchange
);
sql_function!(mq_drop_exchange, pg_finfo_mq_drop_exchange, drop_exchange);
sql_function!(mq_bind, pg_finfo_mq_bind, bind);
sql_function!(mq_unbind, pg_finfo_mq_unbind, unbind);

fn refused(exchange: &str, argument: &'static str, why: impl Into<String>) -> Error {
    Error::ExchangeArgument {
        exchange: exchange.into(),
        argument,
        why: why.into(),
    }
}

/// An exchange that the caller may publish to, named as another's alternate.
fn alternate(exchange: &str, call: &Call, n: usize) -> Result<Option<Oid>> {
    let Some(name) = call.arg(n).as_text() else {
        return Ok(None);
    };
    if name == exchange {
        return Err(refused(exchange, "alternate", "must be another exchange"));
    }
    let found = exchange::open(&name, Lock::Read, Right::Has(Privilege::Insert))?;
    Ok(Some(found.view))
}

fn create_exchange(call: &Call) -> Result<Value> {
    rel::require_writable("mq.create_exchange()")?;
    let name = args::exchange_name(call)?;
    check_name("an exchange", &name)?;
    let kind = call
        .arg(1)
        .as_text()
        .ok_or_else(|| refused(&name, "kind", "must not be null"))?;
    let kind = Kind::named(&kind)
        .ok_or_else(|| refused(&name, "kind", format!("must not be \"{kind}\"")))?;
    let alternate = alternate(&name, call, 2)?;
    let if_not_exists = call.arg(3).as_bool() == Some(true);
    match reserve_names(std::slice::from_ref(&name)) {
        None => {}
        Some(view) => {
            return match exchange::behind(view)? {
                Some(_) if if_not_exists => Ok(Value::bool(false)),
                Some(_) => Err(Error::ExchangeExists(name)),
                None => Err(Error::NameTaken(name)),
            };
        }
    }
    let view = exchanges::create(&name, role::caller())?;
    exchange::insert(view, kind, alternate)?;
    Ok(Value::bool(true))
}

fn alter_exchange(call: &Call) -> Result<Value> {
    rel::require_writable("mq.alter_exchange()")?;
    let name = args::exchange_name(call)?;
    let e = exchange::open(&name, Lock::Alter, Right::Owner)?;
    let resets = array::elements(call.arg(2), Ty::Text)
        .map_err(|_| refused(&name, "reset", "must have one dimension"))?
        .unwrap_or_default();
    if resets
        .iter()
        .any(|r| r.as_text().as_deref() != Some("alternate"))
    {
        return Err(refused(&name, "reset", "may only name alternate"));
    }
    let wanted = alternate(&name, call, 1)?;
    match (wanted, resets.is_empty()) {
        (Some(_), false) => Err(refused(&name, "reset", "also names what is set")),
        (None, true) => Ok(Value::NULL),
        (wanted, _) => exchange::put_alternate(e.view, wanted).map(|()| Value::NULL),
    }
}

fn rename_exchange(call: &Call) -> Result<Value> {
    rel::require_writable("mq.rename_exchange()")?;
    let name = args::exchange_name(call)?;
    exchange::open(&name, Lock::Exclusive, Right::Owner)?;
    let new = call
        .arg(1)
        .as_text()
        .ok_or_else(|| refused(&name, "new_name", "must not be null"))?;
    check_name("an exchange", &new)?;
    if new != name {
        if reserve_names(std::slice::from_ref(&new)).is_some() {
            return Err(Error::NameTaken(new));
        }
        tables::rename(&name, &new)?;
    }
    Ok(Value::NULL)
}

fn drop_exchange(call: &Call) -> Result<Value> {
    rel::require_writable("mq.drop_exchange()")?;
    let name = args::exchange_name(call)?;
    let if_exists = call.arg(1).as_bool() == Some(true);
    let cascade = call.arg(2).as_bool() == Some(true);
    let e = match exchange::open(&name, Lock::Exclusive, Right::Owner) {
        Err(Error::NoSuchExchange(_)) if if_exists => return Ok(Value::bool(false)),
        other => other?,
    };
    if !cascade {
        refuse_dependents(&e)?;
    }
    exchange::forget(e.view)?;
    exchanges::drop(&name, cascade)?;
    Ok(Value::bool(true))
}

fn refuse_dependents(e: &Exchange) -> Result<()> {
    let users = exchange::users(e.view)?.into_iter().filter_map(rel::name);
    let mut found: Vec<String> = users
        .map(|user| format!("exchange \"{user}\" passes messages on to it"))
        .collect();
    found.sort();
    found.extend(tables::dependents(&[e.view])?);
    match found.is_empty() {
        true => Ok(()),
        false => Err(Error::ExchangeDepends {
            exchange: e.name.clone(),
            detail: found.join("; "),
        }),
    }
}

/// The queue or exchange that is to be bound, locked.
fn target(call: &Call, e: &Exchange) -> Result<(Oid, String)> {
    let name = call
        .arg(1)
        .as_text()
        .ok_or_else(|| refused(&e.name, "target", "must not be null"))?;
    let missing = || Error::NoTarget(name.clone());
    let view = rel::lock_public(&name, Lock::Read).ok_or_else(missing)?;
    if exchange::behind(view)?.is_none() && catalog::behind(view)?.is_none() {
        return Err(missing());
    }
    Ok((view, name))
}

fn bind(call: &Call) -> Result<Value> {
    rel::require_writable("mq.bind()")?;
    let name = args::exchange_name(call)?;
    let e = exchange::open(&name, Lock::Alter, Right::Owner)?;
    let (target, label) = target(call, &e)?;
    if target == e.view {
        return Err(refused(&name, "target", "must be another exchange"));
    }
    rel::require(target, &label, Privilege::Insert, role::caller())?;
    let headers = call.arg(3);
    if !headers.is_null() && !headers.jsonb_is_object() {
        return Err(refused(&name, "headers", "must be a JSON object"));
    }
    let any = match call.arg(4).as_text().as_deref() {
        None | Some("all") => false,
        Some("any") => true,
        Some(other) => {
            return Err(refused(&name, "match", format!("must not be \"{other}\"")));
        }
    };
    if !call.arg(4).is_null() && e.kind != Kind::Headers {
        return Err(refused(&name, "match", "is for exchanges of kind headers"));
    }
    let weight = call.arg(6).as_int4();
    if weight.is_some() && e.kind != Kind::Hash {
        return Err(refused(&name, "weight", "is for exchanges of kind hash"));
    }
    if weight.is_some_and(|w| w < 1) {
        return Err(refused(&name, "weight", "must be at least 1"));
    }
    let wanted = Wanted {
        target,
        label,
        pattern: call.arg(2).as_text(),
        headers,
        any,
        filter: call.arg(5),
        weight: weight.unwrap_or(1),
    };
    exchange::refuse(&e, &wanted)?;
    exchange::bind(&e, &wanted).map(Value::bool)
}

fn unbind(call: &Call) -> Result<Value> {
    rel::require_writable("mq.unbind()")?;
    let name = args::exchange_name(call)?;
    let e = exchange::open(&name, Lock::Alter, Right::Owner)?;
    let (target, _) = target(call, &e)?;
    let chosen = Chosen {
        pattern: call.arg(2),
        headers: call.arg(3),
        filter: call.arg(4),
    };
    exchange::unbind(&e, target, &chosen).map(Value::int8)
}
