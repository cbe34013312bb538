//! Event triggers: told of DDL that touches a queue's view.

use super::entry::Call;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    static OURS: Cell<u32> = const { Cell::new(0) };
}

/// While it lives, DDL is our own and the event triggers look away.
pub struct OwnDdl(());

impl OwnDdl {
    pub fn begin() -> Self {
        OURS.with(|n| n.set(n.get() + 1));
        OwnDdl(())
    }

    pub fn in_progress() -> bool {
        OURS.with(|n| n.get() > 0)
    }
}

impl Drop for OwnDdl {
    fn drop(&mut self) {
        OURS.with(|n| n.set(n.get().saturating_sub(1)));
    }
}

/// Refuses a call that no event trigger made.
pub fn require(call: &Call) -> Result<()> {
    // SAFETY: the context of an event trigger's call is told by its tag.
    let ok = unsafe {
        let context = (*call.fcinfo()).context;
        !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_EventTriggerData
    };
    if ok {
        Ok(())
    } else {
        Err(Error::Internal(
            "only an event trigger may call this".into(),
        ))
    }
}
