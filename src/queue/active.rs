//! Queues with `single_active`: one session at a time is handed messages, the first that asks, until it
//! ends or steps down. Then whoever waits looks, and the first of them has it.

use crate::catalog::Queue;
use crate::pg::active;
use crate::wake::{frontier, opened};

/// Whether this session may be handed messages of a queue; makes it the active one where there is
/// none.
pub fn admits(q: &Queue) -> bool {
    if !q.options.single_active {
        // Since it was taken, the queue was opened to all.
        active::give_up(q.view);
        return true;
    }
    let key = frontier::key(q);
    active::try_take(q.view, || Box::new(move || opened::wake(key)))
}

/// Gives the queue up; false when this session is not the active one.
pub fn step_down(q: &Queue) -> bool {
    let was_active = active::give_up(q.view);
    if was_active {
        opened::wake(frontier::key(q));
    }
    was_active
}
