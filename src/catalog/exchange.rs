//! Which exchanges there are, with what is bound to them: read once a session, kept until the
//! exchange's view is altered, under the same rule as queues (see the head of `catalog`).

use super::{KNOWN, Right, known};
use crate::error::{Error, Result};
use crate::pg::filter::Filter;
use crate::pg::rel::{self, Lock};
use crate::pg::role;
use crate::pg::spi;
use crate::pg::time;
use crate::pg::value::{Oid, Ty, Value};
use pg_broker_core::route::{self, Binding, Kind, Table};
use serde_json::Map;
use std::cell::OnceCell;
use std::rc::Rc;

pub struct Exchange {
    pub name: String,
    pub owner: Oid,
    pub view: Oid,
    pub kind: Kind,
    /// Where goes what nothing is bound for.
    pub alternate: Option<Oid>,
    /// Read when something is published: who binds much has no use for it.
    compiled: OnceCell<Compiled>,
}

/// What is bound to an exchange, and how it is found.
struct Compiled {
    bound: Vec<Bound>,
    table: Table,
}

/// What is bound to an exchange.
pub struct Bound {
    pub target: Oid,
    pub is_exchange: bool,
    filter: Option<Filter>,
}

/// What an exchange looks at.
pub struct Look<'a> {
    pub key: Option<&'a str>,
    pub headers: Value,
    pub body: Value,
    /// Its headers, taken apart when a binding asks for one.
    members: OnceCell<Map<String, serde_json::Value>>,
}

impl<'a> Look<'a> {
    pub fn new(key: Option<&'a str>, headers: Value, body: Value) -> Self {
        Look {
            key,
            headers,
            body,
            members: OnceCell::new(),
        }
    }

    fn header(&self, name: &str) -> Option<String> {
        let members = self.members.get_or_init(|| members(self.headers));
        members.get(name).map(canonical)
    }
}

fn members(object: Value) -> Map<String, serde_json::Value> {
    let text = object.jsonb_text();
    match text.and_then(|t| serde_json::from_str(&t).ok()) {
        Some(serde_json::Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// A value as text that equal values share.
fn canonical(value: &serde_json::Value) -> String {
    let text = value.to_string();
    // jsonb tells 1.50 from 1.5 in what it shows, not in what it is.
    match value.is_number() && text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}

impl Exchange {
    /// What a message goes to: all that is bound for it.
    pub fn matching(&self, look: &Look) -> Result<Vec<&Bound>> {
        let header = |name: &str| look.header(name);
        let compiled = self.compiled()?;
        let places = compiled
            .table
            .matches(look.key.unwrap_or_default(), &header);
        let mut found = Vec::with_capacity(places.len());
        for bound in places.into_iter().filter_map(|at| compiled.bound.get(at)) {
            let passes = |filter: &Filter| filter.passes(look.headers, look.body);
            if bound.filter.as_ref().is_none_or(passes) {
                found.push(bound);
            }
        }
        Ok(found)
    }

    fn compiled(&self) -> Result<&Compiled> {
        if let Some(compiled) = self.compiled.get() {
            return Ok(compiled);
        }
        let compiled = compile(self.view, self.kind)?;
        Ok(self.compiled.get_or_init(|| compiled))
    }

    pub fn require_owner(&self) -> Result<()> {
        match role::has_rights_of(role::caller(), self.owner) {
            true => Ok(()),
            false => Err(Error::NotExchangeOwner(self.name.clone())),
        }
    }
}

/// The exchange behind a view that the caller has locked, or none when the relation is no exchange.
pub fn behind(view: Oid) -> Result<Option<Rc<Exchange>>> {
    if let Some(found) = known(|k| k.exchanges.get(&u32::from(view)).cloned()) {
        return Ok(Some(found));
    }
    let Some(exchange) = load(view)? else {
        return Ok(None);
    };
    let exchange = Rc::new(exchange);
    KNOWN.with(|k| {
        k.borrow_mut()
            .exchanges
            .insert(u32::from(view), exchange.clone());
    });
    Ok(Some(exchange))
}

fn load(view: Oid) -> Result<Option<Exchange>> {
    let Some((name, facts)) = rel::name(view).zip(rel::facts(view)) else {
        return Ok(None);
    };
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT kind, alternate::pg_catalog.oid FROM mq_internal.exchange WHERE view = $1",
            &[Ty::Oid],
            &[Value::oid(view)],
        )?;
        let Some(kind) = rows.get(0, 0).as_text().and_then(|k| Kind::named(&k)) else {
            return Ok(None);
        };
        Ok(Some(Exchange {
            name,
            owner: facts.owner,
            view,
            kind,
            alternate: rows.get(0, 1).as_oid(),
            compiled: OnceCell::new(),
        }))
    })
}

fn compile(view: Oid, kind: Kind) -> Result<Compiled> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT b.target::pg_catalog.oid, x.view IS NOT NULL, b.pattern, b.headers, b.is_any, \
             b.filter, b.weight, b.label FROM mq_internal.binding b LEFT JOIN mq_internal.exchange x \
             ON x.view = b.target WHERE b.exchange = $1 ORDER BY b.n",
            &[Ty::Oid],
            &[Value::oid(view)],
        )?;
        let (mut bound, mut bindings) = (Vec::new(), Vec::new());
        for i in 0..rows.len() {
            let get = |column| rows.get(i, column);
            bound.push(Bound {
                target: get(0).as_oid().unwrap_or(Oid::INVALID),
                is_exchange: get(1).as_bool() == Some(true),
                filter: Filter::new(get(5)),
            });
            bindings.push(Binding {
                pattern: get(2).as_text(),
                headers: pairs(get(3)),
                any: get(4).as_bool() == Some(true),
                weight: get(6).as_int4().unwrap_or(1).unsigned_abs(),
                label: get(7).as_text().unwrap_or_default(),
            });
        }
        let table = Table::new(kind, &bindings);
        Ok(Compiled { bound, table })
    })
}

/// Headers as a binding wants them.
pub fn pairs(headers: Value) -> Vec<(String, String)> {
    let members = members(headers);
    let pair = |(name, value): (String, serde_json::Value)| (name, canonical(&value));
    members.into_iter().map(pair).collect()
}

/// The exchange of that name, its view locked until the end of the transaction, with the caller's
/// right to it checked.
pub fn open(name: &str, lock: Lock, right: Right) -> Result<Rc<Exchange>> {
    let missing = || Error::NoSuchExchange(name.to_owned());
    let view = rel::lock_public(name, lock).ok_or_else(missing)?;
    let exchange = behind(view)?.ok_or_else(missing)?;
    match right {
        Right::Has(privilege) => rel::require(view, name, privilege, role::caller())?,
        Right::Owner => exchange.require_owner()?,
    }
    Ok(exchange)
}

/// The exchange behind a view's OID, locked; none when it is gone.
pub fn open_oid(view: Oid, lock: Lock) -> Result<Option<Rc<Exchange>>> {
    match rel::lock(view, lock) {
        true => behind(view),
        false => Ok(None),
    }
}

/// Enters a new exchange.
pub fn insert(view: Oid, kind: Kind, alternate: Option<Oid>) -> Result<()> {
    spi::connect(|spi| {
        spi.query(
            "INSERT INTO mq_internal.exchange (view, kind, alternate, created_at) VALUES \
             ($1::pg_catalog.regclass, $2, $3::pg_catalog.regclass, $4)",
            &[Ty::Oid, Ty::Text, Ty::Oid, Ty::Timestamptz],
            &[
                Value::oid(view),
                Value::text(kind.as_str()),
                Value::opt(alternate, Value::oid),
                Value::timestamptz(time::now()),
            ],
        )?;
        Ok(())
    })
}

pub fn put_alternate(view: Oid, alternate: Option<Oid>) -> Result<()> {
    spi::connect(|spi| {
        spi.query(
            "UPDATE mq_internal.exchange SET alternate = $2::pg_catalog.regclass WHERE view = $1",
            &[Ty::Oid, Ty::Oid],
            &[Value::oid(view), Value::opt(alternate, Value::oid)],
        )?;
        Ok(())
    })?;
    rel::invalidate(view);
    Ok(())
}

/// A binding to be, as it was asked for.
pub struct Wanted {
    pub target: Oid,
    pub label: String,
    pub pattern: Option<String>,
    pub headers: Value,
    pub any: bool,
    pub filter: Value,
    pub weight: i32,
}

/// What a hash exchange knows its targets by: each once, and a name that was another's is told apart.
fn label_in_ring(exchange: &Exchange, w: &Wanted) -> Result<String> {
    let taken = spi::connect(|spi| {
        let rows = spi.query(
            "SELECT target::pg_catalog.oid, label FROM mq_internal.binding WHERE exchange = $1",
            &[Ty::Oid],
            &[Value::oid(exchange.view)],
        )?;
        Ok((0..rows.len())
            .map(|i| (rows.get(i, 0).as_oid(), rows.get(i, 1).as_text()))
            .collect::<Vec<_>>())
    })?;
    if taken.iter().any(|(target, _)| *target == Some(w.target)) {
        return Err(Error::ExchangeArgument {
            exchange: exchange.name.clone(),
            argument: "target",
            why: format!("is bound already: unbind \"{}\" first", w.label),
        });
    }
    let is_free = |label: &String| taken.iter().all(|(_, l)| l.as_ref() != Some(label));
    let more = (2..).map(|n| format!("{} ({n})", w.label));
    let mut labels = std::iter::once(w.label.clone()).chain(more);
    Ok(labels.find(is_free).unwrap_or_default())
}

/// Binds; false when that binding was there.
pub fn bind(exchange: &Exchange, w: &Wanted) -> Result<bool> {
    let label = match exchange.kind {
        Kind::Hash => label_in_ring(exchange, w)?,
        _ => w.label.clone(),
    };
    let done = spi::connect(|spi| {
        let types = [
            Ty::Oid,
            Ty::Oid,
            Ty::Text,
            Ty::Jsonb,
            Ty::Bool,
            Ty::Jsonpath,
            Ty::Int4,
            Ty::Text,
        ];
        let values = [
            Value::oid(exchange.view),
            Value::oid(w.target),
            Value::opt(w.pattern.as_deref(), Value::text),
            w.headers,
            Value::bool(w.any),
            w.filter,
            Value::int4(w.weight),
            Value::text(&label),
        ];
        let rows = spi.query(
            "INSERT INTO mq_internal.binding (exchange, target, pattern, headers, is_any, filter, \
             weight, label, digest) VALUES ($1::pg_catalog.regclass, $2::pg_catalog.regclass, $3, \
             $4, $5, $6, $7, $8, pg_catalog.md5(pg_catalog.jsonb_build_array($3, $4, $5, \
             $6::pg_catalog.text, $7)::pg_catalog.text)) ON CONFLICT DO NOTHING",
            &types,
            &values,
        )?;
        Ok(rows.processed > 0)
    })?;
    rel::invalidate(exchange.view);
    Ok(done)
}

/// Which bindings to a target are meant: those with what is given.
pub struct Chosen {
    pub pattern: Value,
    pub headers: Value,
    pub filter: Value,
}

/// Takes bindings to a target away. Gives how many.
pub fn unbind(exchange: &Exchange, target: Oid, chosen: &Chosen) -> Result<i64> {
    let gone = spi::connect(|spi| {
        let rows = spi.query(
            "DELETE FROM mq_internal.binding WHERE exchange = $1 AND target = $2 \
             AND ($3 IS NULL OR pattern = $3) AND ($4 IS NULL OR headers = $4) \
             AND ($5 IS NULL OR filter::pg_catalog.text = $5::pg_catalog.text)",
            &[Ty::Oid, Ty::Oid, Ty::Text, Ty::Jsonb, Ty::Jsonpath],
            &[
                Value::oid(exchange.view),
                Value::oid(target),
                chosen.pattern,
                chosen.headers,
                chosen.filter,
            ],
        )?;
        Ok(rows.processed)
    })?;
    rel::invalidate(exchange.view);
    Ok(gone as i64)
}

/// The exchanges that have another as alternate or among what is bound, but itself.
pub fn users(view: Oid) -> Result<Vec<Oid>> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT e.view::pg_catalog.oid FROM mq_internal.exchange e WHERE e.alternate = $1 \
             AND e.view <> $1 UNION SELECT b.exchange::pg_catalog.oid FROM mq_internal.binding b \
             WHERE b.target = $1 AND b.exchange <> $1",
            &[Ty::Oid],
            &[Value::oid(view)],
        )?;
        Ok((0..rows.len())
            .filter_map(|i| rows.get(i, 0).as_oid())
            .collect())
    })
}

/// Forgets a relation that is being dropped, exchange or queue, wherever exchanges name it.
pub fn forget(view: Oid) -> Result<()> {
    let users = users(view)?;
    spi::connect(|spi| {
        for sql in [
            "DELETE FROM mq_internal.binding WHERE exchange = $1 OR target = $1",
            "UPDATE mq_internal.exchange SET alternate = NULL WHERE alternate = $1",
            "DELETE FROM mq_internal.exchange WHERE view = $1",
        ] {
            spi.query(sql, &[Ty::Oid], &[Value::oid(view)])?;
        }
        Ok(())
    })?;
    users
        .into_iter()
        .filter(|user| rel::exists(*user))
        .for_each(rel::invalidate);
    Ok(())
}

/// Why a binding cannot be one of an exchange.
pub fn refuse(exchange: &Exchange, w: &Wanted) -> Result<()> {
    if Filter::new(w.filter).is_some_and(|f| route::has_variable(&f.text())) {
        return Err(Error::ExchangeArgument {
            exchange: exchange.name.clone(),
            argument: "filter",
            why: "must not have a variable".into(),
        });
    }
    let binding = Binding {
        pattern: w.pattern.clone(),
        headers: pairs(w.headers),
        any: w.any,
        weight: w.weight.unsigned_abs(),
        label: w.label.clone(),
    };
    match route::refuse(exchange.kind, &binding) {
        None => Ok(()),
        Some((argument, why)) => Err(Error::ExchangeArgument {
            exchange: exchange.name.clone(),
            argument,
            why: why.into(),
        }),
    }
}
