//! `NOTIFY` for the queues of a database: what was sent, and what came due. One transaction for
//! all that has come together meanwhile.

use super::duties::Charge;
use crate::catalog::{self, companion};
use crate::pg::bell;
use crate::pg::rel::{self, Lock};
use crate::pg::time::Micros;
use crate::pg::value::Oid;
use crate::pg::worker::{self, Failure};
use crate::queue::upkeep;
use crate::wake::notify;

pub fn send(charges: &mut [Charge], now: Micros) -> Result<(), Failure> {
    let (storages, is_all) = bell::take();
    for charge in charges.iter_mut() {
        if is_all || storages.contains(&charge.storage) {
            charge.wants_space = true;
            charge.space_at = now;
        }
    }
    let mut looked = Ok(());
    let mut is_wanted = |c: &Charge| {
        let is_rung = is_all || storages.contains(&c.storage);
        c.notify && (is_rung || c.has_due && has_come_due(c, &mut looked))
    };
    let wanted: Vec<&Charge> = charges.iter().filter(|c| is_wanted(c)).collect();
    if !wanted.is_empty() {
        let sent = worker::transaction(|| {
            for charge in &wanted {
                rel::notify(&notify::channel(&charge.name));
            }
            let names: Vec<String> = wanted.iter().map(|c| c.name.clone()).collect();
            companion::told(&names)
        });
        if let Err(failure) = sent {
            // For the next round: not at once, lest it fail without a pause.
            for storage in &storages {
                bell::put(*storage);
            }
            return Err(failure);
        }
    }
    for charge in charges.iter_mut().filter(|c| c.notify && c.has_due) {
        let view = Oid::from(charge.view);
        // Looked at only where no duty does so afterwards.
        if !charge.limited {
            charge.has_due = false;
            let passed = worker::transaction(|| {
                if let Some(q) = catalog::open_oid(view, Lock::Read)? {
                    notify::pass_due(&q, now);
                }
                Ok(())
            });
            charge.has_due = passed.is_err();
        }
    }
    looked
}

/// Whether something has come due in a queue: where shared memory does not say what, a look at its
/// rows does. What goes wrong with that is left in `looked`.
fn has_come_due(charge: &Charge, looked: &mut Result<(), Failure>) -> bool {
    let Some(since) = charge.blind_since else {
        return true;
    };
    let found = worker::transaction(|| {
        let q = catalog::open_oid(Oid::from(charge.view), Lock::Read)?;
        Ok(q.is_some_and(|q| upkeep::came_due(&q, since)))
    });
    found.unwrap_or_else(|failure| {
        *looked = Err(failure);
        false
    })
}
