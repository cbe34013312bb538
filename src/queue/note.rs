//! Telling `wake` what storage did to messages, so that readers know where to look, and how many
//! there are.

use crate::catalog::Queue;
use crate::storage::row::{Change, Facts};
use crate::wake::{counts, notify, touch};

pub fn note(q: &Queue, changes: impl IntoIterator<Item = Change>) {
    for c in changes {
        counts::changed(q, c.id, c.was, c.now);
        let (was, due) = (c.was_due(), c.due());
        match due {
            _ if c.now.is_none() => {}
            None if !c.is_new => notify::ready(q),
            None => {}
            Some(due) => notify::waits(q, due),
        }
        match due {
            _ if c.now.is_none() => touch::gone(q, c.rank, c.id, was),
            _ if c.is_new => touch::sent(q, c.rank, c.id, due),
            None => touch::ready(q, c.rank, c.id, was),
            Some(due) => touch::waits(q, c.rank, c.id, was, due),
        }
    }
}

/// Notes rows that were locked and stay as they are: a reader may have skipped them meanwhile.
pub fn note_locked(q: &Queue, rows: &[Facts]) {
    note(q, rows.iter().map(|f| Change::same(q, f)));
}
