//! Looking at a queue as a whole.

use crate::catalog::Queue;
use crate::pg::time::Micros;
use crate::storage::count::{self, Counts};
use crate::wake::frontier::Looks;

/// How many messages there are in which state.
pub fn count(q: &Queue, now: Micros) -> Counts {
    let mut looks = Looks::begin(q, now);
    count::count(q, now, std::iter::from_fn(|| looks.next()))
}
