//! Telling `wake` what storage did to messages, so that readers know where to look.

use crate::catalog::Queue;
use crate::storage::row::{After, Change, Facts};
use crate::wake::{notify, touch};

pub fn note(q: &Queue, changes: impl IntoIterator<Item = Change>) {
    for c in changes {
        match c.after {
            After::Ready if !c.is_new => notify::ready(q),
            After::Waits(due) => notify::waits(q, due),
            After::Ready | After::Gone => {}
        }
        match c.after {
            After::Ready if c.is_new => touch::sent(q, c.rank, c.id, None),
            After::Waits(due) if c.is_new => touch::sent(q, c.rank, c.id, Some(due)),
            After::Ready => touch::ready(q, c.rank, c.id, c.was),
            After::Waits(due) => touch::waits(q, c.rank, c.id, c.was, due),
            After::Gone => touch::gone(q, c.rank, c.id, c.was),
        }
    }
}

/// Notes rows that were locked and stay as they are: a reader may have skipped them meanwhile.
pub fn note_locked(q: &Queue, rows: &[Facts]) {
    note(
        q,
        rows.iter()
            .map(|f| Change::of(f, f.due.map_or(After::Ready, After::Waits))),
    );
}
