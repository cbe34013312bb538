//! Publishing: an exchange passes a message on to every queue that is bound for it, each once, or to
//! none when one of them refuses it.
//!
//! Whoever publishes needs a right on the exchange alone; its owner answers for what comes after.

use crate::catalog::exchange::{self, Bound, Exchange, Look};
use crate::catalog::{self, Queue};
use crate::error::{Error, Result};
use crate::pg::holders;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::time::Micros;
use crate::pg::value::{Oid, Value};
use crate::queue::send::{self, Wish};
use crate::storage::insert::Message;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

/// The header that tells what a message was published with.
const KEY: &str = "x-key";

/// A message on its way to whoever wants it.
pub struct Letter {
    pub key: Option<String>,
    pub headers: Value,
    pub body: Value,
    pub data: Value,
    pub group_key: Option<String>,
    pub dedup_key: Option<String>,
}

/// Queues by their views: whoever publishes to several comes to them in the same order.
type Reached = BTreeMap<u32, Rc<Queue>>;

/// An error of an argument of publishing.
fn refused(e: &Exchange, argument: &'static str, why: &str) -> Error {
    Error::ExchangeArgument {
        exchange: e.name.clone(),
        argument,
        why: why.into(),
    }
}

/// Adds the key to the headers, once both are known to be in order.
fn address(e: &Exchange, mut letter: Letter) -> Result<Letter> {
    if let Some(why) = pg_broker_core::route::refuse_key(e.kind, letter.key.as_deref()) {
        return Err(refused(e, "key", why));
    }
    if !letter.headers.is_null() && !letter.headers.jsonb_is_object() {
        return Err(refused(e, "headers", "must be a JSON object"));
    }
    if let Some(key) = &letter.key {
        let mark = serde_json::json!({ KEY: key }).to_string();
        letter.headers = letter.headers.with_members_of(Value::jsonb(&mark));
    }
    Ok(letter)
}

/// A walk from one exchange to all queues that take a message.
struct Route<'a> {
    look: Look<'a>,
    seen: HashSet<u32>,
    todo: Vec<Rc<Exchange>>,
    reached: Reached,
    /// Something that was bound is gone: perhaps what is bound now is not what was found.
    has_changed: bool,
}

impl Route<'_> {
    fn walk(mut self) -> Result<(Reached, bool)> {
        while let Some(e) = self.todo.pop() {
            let mut matching = e.matching(&self.look)?;
            // Two publishers lock what they have in common in the same order.
            matching.sort_by_key(|bound| u32::from(bound.target));
            for bound in &matching {
                self.visit(&e, bound)?;
            }
            if matching.is_empty()
                && let Some(alternate) = e.alternate
            {
                self.pass(&e, alternate)?;
            }
        }
        Ok((self.reached, self.has_changed))
    }

    fn visit(&mut self, e: &Exchange, bound: &Bound) -> Result<()> {
        if bound.is_exchange {
            return self.pass(e, bound.target);
        }
        match catalog::open_oid(bound.target, Lock::Write)? {
            Some(q) => {
                permit(e, q.view, &q.name)?;
                self.reached.insert(u32::from(q.view), q);
            }
            None => self.has_changed = true,
        }
        Ok(())
    }

    /// On to another exchange, if this message has not been there.
    fn pass(&mut self, e: &Exchange, to: Oid) -> Result<()> {
        match exchange::open_oid(to, Lock::Write)? {
            Some(next) => {
                permit(e, next.view, &next.name)?;
                if self.seen.insert(u32::from(next.view)) {
                    self.todo.push(next);
                }
            }
            None => self.has_changed = true,
        }
        Ok(())
    }
}

fn permit(e: &Exchange, target: Oid, name: &str) -> Result<()> {
    match rel::allows(target, e.owner, Privilege::Insert) {
        true => Ok(()),
        false => Err(Error::PublishDenied {
            exchange: e.name.clone(),
            target: name.into(),
        }),
    }
}

/// So often a way is looked for anew when something on it was dropped.
const AGAIN: usize = 20;

/// The queues that take a message which is in order. Whoever waited for a drop looks again: what was
/// bound in its place gets the message, as it would a moment later.
fn reached(e: &Rc<Exchange>, letter: &Letter, mandatory: bool) -> Result<Reached> {
    let mut reached = Reached::new();
    for _ in 0..AGAIN {
        let first = exchange::behind(e.view)?.unwrap_or_else(|| e.clone());
        let route = Route {
            look: Look::new(letter.key.as_deref(), letter.headers, letter.body),
            seen: HashSet::from([u32::from(first.view)]),
            todo: vec![first],
            reached: Reached::new(),
            has_changed: false,
        };
        let (found, has_changed) = route.walk()?;
        reached = found;
        if !has_changed {
            break;
        }
        holders::hear();
    }
    if reached.is_empty() && mandatory {
        return Err(Error::Unrouted {
            exchange: e.name.clone(),
            key: letter.key.clone(),
        });
    }
    Ok(reached)
}

/// Refuses what no queue would take, also where there is none.
fn check(e: &Exchange, terms: &Terms) -> Result<()> {
    match send::how_of(&e.name, None, &terms.wish, terms.now) {
        Ok(_) => Ok(()),
        Err(Error::Argument { argument, why, .. }) => Err(refused(e, argument, &why)),
        Err(other) => Err(other),
    }
}

/// The message that a queue gets.
fn message(
    q: &Queue,
    letter: &Letter,
    argument: &'static str,
    wish: &Wish,
    now: Micros,
) -> Result<Message> {
    let payload = match letter.body.is_null() {
        true => letter.data,
        false => letter.body,
    };
    send::check_payload(q, argument, payload, letter.headers)?;
    let how = send::how(q, wish, now)?;
    send::check_group(q, letter.group_key.as_deref())?;
    Ok(Message {
        id: 0,
        due: how.due,
        expires_at: how.expires_at,
        priority: how.priority,
        group_key: letter.group_key.clone(),
        dedup_key: letter.dedup_key.clone(),
        headers: letter.headers,
        body: letter.body,
        data: letter.data,
    })
}

/// How everything of one call is to be published.
pub struct Terms {
    /// What the payload is called.
    pub argument: &'static str,
    pub wish: Wish,
    pub mandatory: bool,
    pub now: Micros,
}

/// Publishes one message. Gives how many queues it reached.
pub fn one(e: &Rc<Exchange>, letter: Letter, terms: &Terms) -> Result<i32> {
    check(e, terms)?;
    let letter = address(e, letter)?;
    let reached = reached(e, &letter, terms.mandatory)?;
    for q in reached.values() {
        let m = message(q, &letter, terms.argument, &terms.wish, terms.now)?;
        send::one(q, m, terms.now)?;
    }
    Ok(reached.len() as i32)
}

/// Publishes many messages, in their order. Gives how many queues each reached.
pub fn many(e: &Rc<Exchange>, letters: Vec<Letter>, terms: &Terms) -> Result<Vec<i32>> {
    check(e, terms)?;
    let mut counts = Vec::with_capacity(letters.len());
    let mut all: BTreeMap<u32, (Rc<Queue>, Vec<Message>)> = BTreeMap::new();
    for letter in letters {
        let letter = address(e, letter)?;
        let reached = reached(e, &letter, terms.mandatory)?;
        counts.push(reached.len() as i32);
        for (view, q) in reached {
            let m = message(&q, &letter, terms.argument, &terms.wish, terms.now)?;
            all.entry(view).or_insert((q, Vec::new())).1.push(m);
        }
    }
    for (q, list) in all.into_values() {
        send::many(&q, list, terms.now)?;
    }
    Ok(counts)
}
