//! The extension pgmq, where it is installed: it keeps relations of its own for every queue, and is told
//! here when one is made or about to go.
//!
//! Invariant: what is called runs with the machinery's rights, so it is called only if a superuser owns
//! it, as the extension's own functions are.

use crate::error::Result;
use crate::pg::spi::{self, Spi};
use crate::pg::value::{Ty, Value};
use pg_broker_core::names::quote_literal;

fn is_there(spi: &Spi, function: &str) -> Result<bool> {
    let rows = spi.query(
        "SELECT 1 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         JOIN pg_catalog.pg_roles o ON o.oid = p.proowner \
         WHERE n.nspname = 'pgmq' AND p.proname = $1::pg_catalog.name AND o.rolsuper",
        &[Ty::Text],
        &[Value::text(function)],
    )?;
    Ok(!rows.is_empty())
}

fn call(function: &str, args: &[&str]) -> Result<()> {
    spi::connect(|spi| {
        if !is_there(spi, function)? {
            return Ok(());
        }
        let args: Vec<String> = args.iter().map(|a| quote_literal(a)).collect();
        spi.utility(&format!("SELECT pgmq.{function}({})", args.join(", ")))
    })
}

/// A queue was made.
pub fn made(queue: &str) -> Result<()> {
    call("_queue_made", &[queue])
}

/// How pgmq.create made a queue, or found it.
pub struct Named<'a> {
    pub queue: &'a str,
    pub given: &'a str,
    pub is_fresh: bool,
    pub is_partitioned: bool,
}

/// A queue is one that pgmq's callers know by the name that they gave.
pub fn named(n: &Named) -> Result<()> {
    let says = |is: bool| if is { "true" } else { "false" };
    let (fresh, partitioned) = (says(n.is_fresh), says(n.is_partitioned));
    call("_queue_named", &[n.queue, n.given, fresh, partitioned])
}

/// A queue is about to be dropped, and nothing of pgmq's shall stand in the way.
pub fn leaves(queue: &str) -> Result<()> {
    call("_queue_leaves", &[queue])
}

/// Listeners of these queues were told of messages; pgmq's may have to be, too.
pub fn told(queues: &[String]) -> Result<()> {
    let quoted = |q: &String| format!("\"{}\"", q.replace('\\', "\\\\").replace('"', "\\\""));
    let list: Vec<String> = queues.iter().map(quoted).collect();
    call("_queues_told", &[&format!("{{{}}}", list.join(","))])
}
