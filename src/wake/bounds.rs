//! Where a session's next look at a queue may start.
//!
//! While somebody holds an old snapshot, the entries of finished messages cannot be cleaned away,
//! and a look that starts at the beginning walks over all of them. So a session notes, when a look
//! was costly, where it found the first message, and starts there for a while: a small multiple of
//! what the look took. What turns up before the bound meanwhile (a send that commits late, a
//! message given back) is found when the while is over, or when nothing is found behind the bound.
//! Where looks are cheap, nothing is ever noted, and every look starts at the beginning.

use crate::catalog::Queue;
use crate::pg::time::Micros;
use std::cell::RefCell;
use std::collections::HashMap;

/// A look that touches more buffers than this is costly.
const COSTLY: i64 = 400;
/// A bound holds for so many times the duration of the costly look, at most so long.
const TIMES: i64 = 20;
const LONGEST: Micros = 5_000_000;
/// Expired messages are looked for after this long, and whenever nothing else is found.
const EXPIRY_INTERVAL: Micros = 100_000;
/// More queues than this are not remembered.
const REMEMBERED: usize = 4096;

#[derive(Clone, Copy, Default)]
struct Memory {
    from_id: i64,
    due_after: Micros,
    until: Micros,
    expiry_seen: Micros,
}

thread_local! {
    static MEMORY: RefCell<HashMap<u32, Memory>> = RefCell::default();
}

fn with<R>(q: &Queue, f: impl FnOnce(&mut Memory) -> R) -> R {
    MEMORY.with(|m| {
        let mut memory = m.borrow_mut();
        if memory.len() >= REMEMBERED {
            memory.clear();
        }
        f(memory.entry(u32::from(q.storage)).or_default())
    })
}

/// The bound in force: the smallest id, and the time until which nothing due was left.
pub fn get(q: &Queue, now: Micros) -> Option<(i64, Micros)> {
    with(q, |m| (m.until > now).then_some((m.from_id, m.due_after)))
}

/// Notes what a look from the beginning cost and where it found the first ordinary message;
/// nothing was due at its time.
pub fn looked(q: &Queue, first_id: Option<i64>, buffers: i64, began: Micros, took: Micros) {
    if let Some(from_id) = first_id
        && buffers > COSTLY
    {
        let until = began + took + (took * TIMES).min(LONGEST);
        with(q, |m| {
            (m.from_id, m.due_after, m.until) = (from_id, began, until);
        });
    }
}

/// Moves a bound in force on to the first ordinary message that was found behind it.
pub fn moved(q: &Queue, first_id: Option<i64>) {
    if let Some(from_id) = first_id {
        with(q, |m| m.from_id = m.from_id.max(from_id));
    }
}

/// Whether it is time to look for expired messages; if so, that is noted as done.
pub fn expiry_is_due(q: &Queue, now: Micros) -> bool {
    with(q, |m| {
        let due = now - m.expiry_seen >= EXPIRY_INTERVAL || now < m.expiry_seen;
        if due {
            m.expiry_seen = now;
        }
        due
    })
}
