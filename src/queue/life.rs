//! A queue's beginning and end, told to `wake`.

use crate::catalog::Queue;
use crate::pg::value::Oid;
use crate::wake::{frontier, opened, touch};

/// The transaction in progress makes this queue.
pub fn begun(q: &Queue) {
    frontier::created(q);
}

/// The transaction in progress resumes this queue.
pub fn resumed(q: &Queue) {
    opened::opened(q);
}

/// The transaction in progress drops the queue with this storage.
pub fn ended(storage: Oid) {
    touch::dropped(storage);
}
