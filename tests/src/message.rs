//! One message in the model of a queue.

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Ready,
    Delayed,
    /// In somebody's hands; the lease runs.
    Leased,
    /// The lease has ended and nobody has it: ready, yet the last hand-out may still settle it.
    Ended,
    Archived,
    Dead,
    Gone,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub payload: String,
    pub headers: Option<String>,
    pub priority: i64,
    pub key: Option<String>,
    pub attempts: i64,
    /// `None` where the contract leaves the number open.
    pub failures: Option<i64>,
    pub error: Option<String>,
    pub error_known: bool,
    pub receipt: Option<i64>,
    pub place: Place,
}

impl Message {
    pub fn listed(&self) -> bool {
        !matches!(self.place, Place::Archived | Place::Dead | Place::Gone)
    }

    pub fn blame(&mut self) {
        self.failures = self.failures.map(|n| n + 1);
    }
}
