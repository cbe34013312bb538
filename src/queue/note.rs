//! Telling `wake` what storage did to messages, so that readers know where to look, and how many
//! there are.

use crate::catalog::Queue;
use crate::queue::turns;
use crate::storage::row::{Change, Facts};
use crate::wake::{counts, notify, touch};

pub fn note(q: &Queue, changes: impl IntoIterator<Item = Change>) {
    if !q.options.has_groups() {
        changes.into_iter().for_each(|c| tell(q, &c));
        return;
    }
    let changes: Vec<Change> = changes.into_iter().collect();
    changes.iter().for_each(|c| tell(q, c));
    note_next(q, &turns::next(q, &changes));
}

fn tell(q: &Queue, c: &Change) {
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

/// Messages whose turn it is once this transaction has committed.
fn note_next(q: &Queue, next: &[Facts]) {
    for facts in next {
        notify::ready(q);
        touch::ready(q, facts.place.rank, facts.id(), None);
    }
}

/// Notes messages that leave one by one, very many perhaps.
pub fn note_leaving(q: &Queue, mut leave: impl FnMut(&mut dyn FnMut(Change))) {
    let mut groups = Vec::new();
    leave(&mut |c| {
        tell(q, &c);
        if let Some(group) = c.group.filter(|g| groups.last() != Some(g)) {
            groups.push(group);
        }
    });
    if !groups.is_empty() {
        note_next(q, &turns::next_of(q, groups));
    }
}

/// Notes rows that were locked and stay as they are: a reader may have skipped them meanwhile.
pub fn note_locked(q: &Queue, rows: &[Facts]) {
    note(q, rows.iter().map(|f| Change::same(q, f)));
}
