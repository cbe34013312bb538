//! Kept plans: one a statement and queue, made when first needed.

use crate::catalog::Queue;
use crate::error::Result;
use crate::pg::spi::{Plan, Rows, Spi};
use crate::pg::value::{Ty, Value};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Insert,
    InsertMany,
    Ready,
    ReadyOnly,
    Due,
    DueOrReady,
    Lease,
    TakeAway,
    AnyReady,
    AckOne,
    Ack,
    Archive,
    LockHandedOut,
    Retry,
    Release,
    Extend,
    Delete,
    Purge,
    Get,
    Repair,
    Exhume,
    Idle,
    StillHeld,
    RemoveIds,
    Postpone,
    Blame,
    Overdue,
    Oldest,
    KeyTake,
    KeyHolder,
    KeySteal,
    KeysExpired,
    LengthAdd,
    LengthNew,
    LengthSum,
    Retention,
    Count,
    OldestReady,
    FailedOut,
}

type Key = (u32, Kind);

/// A session that touches more statements than this starts its cache afresh.
const KEPT: usize = 4096;

thread_local! {
    static PLANS: RefCell<HashMap<Key, Plan>> = RefCell::new(HashMap::new());
    static RUNNING: Cell<u32> = const { Cell::new(0) };
}

struct Running;

impl Running {
    fn begin() -> Self {
        RUNNING.with(|n| n.set(n.get() + 1));
        Running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with(|n| n.set(n.get().saturating_sub(1)));
    }
}

fn plan(spi: &Spi, key: Key, types: &[Ty], sql: impl FnOnce() -> String) -> Result<Plan> {
    if let Some(plan) = PLANS.with(|p| p.borrow().get(&key).copied()) {
        return Ok(plan);
    }
    let plan = spi.prepare(&sql(), types)?;
    PLANS.with(|p| {
        let mut plans = p.borrow_mut();
        // Nothing of ours is on the stack that may still use a plan.
        if plans.len() >= KEPT && RUNNING.with(Cell::get) == 0 {
            plans.drain().for_each(|(_, old)| old.forget());
        }
        plans.insert(key, plan);
    });
    Ok(plan)
}

/// Runs a statement of a queue with its owner's rights.
pub fn run(
    spi: &Spi,
    q: &Queue,
    kind: Kind,
    types: &[Ty],
    args: &[Value],
    sql: impl FnOnce() -> String,
) -> Result<Rows> {
    let plan = plan(spi, (u32::from(q.storage), kind), types, sql)?;
    let _running = Running::begin();
    spi.execute(q.owner, plan, args)
}
