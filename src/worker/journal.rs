//! What a worker has said in the log, so that it does not say it again and again.

use crate::pg::report;
use crate::pg::time::Micros;
use std::collections::HashMap;

/// The same trouble is told again after an hour.
const AGAIN: Micros = 3_600_000_000;
/// So many troubles are remembered; more begin anew.
const REMEMBERED: usize = 1000;

#[derive(Default)]
pub struct Journal(HashMap<String, Micros>);

impl Journal {
    /// Tells of a trouble, unless it was told not long ago. Numbers make no difference.
    pub fn tell(&mut self, context: &str, message: &str, now: Micros) {
        let text: String = message.chars().filter(|c| !c.is_ascii_digit()).collect();
        let key = format!("{context}: {text}");
        if self.0.get(&key).is_some_and(|at| now - at < AGAIN) {
            return;
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(key, now);
        report::warn(
            &format!("pg_broker worker, {context}: {message}"),
            "This is tried again; the log says so once an hour. See mq.status().",
        );
    }
}
