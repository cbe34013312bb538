//! The workloads. To add one: a line here, and a `Job` in `load.rs` if it does something new.

use crate::args::Args;
use crate::client::BATCH;
use crate::load::{DRAIN_WARM, Job};

/// What is in the queue before the workers start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Nothing; a new queue for every round.
    Nothing,
    /// This many ready ones, new for every round: to be drained.
    Fill(i64),
    /// This many ready ones, filled once: the rounds leave as many as they found.
    Ready(i64),
    /// This many not due for hours, with lower ids than all that follows, filled once.
    Delayed(i64),
}

#[derive(Debug, Clone)]
pub struct Workload {
    pub key: &'static str,
    pub title: String,
    pub unit: &'static str,
    pub job: Job,
    pub clients: usize,
    pub front: Front,
}

/// The workload that runs under an open snapshot; it has a procedure of its own.
pub const SNAPSHOT: &str = "snapshot";
pub const SNAPSHOT_CLIENTS: usize = 8;

/// The row that is read off the cycles of 8 clients.
pub const WAL: &str = "wal";
pub const WAL_FROM: &str = "cycle-8";

pub fn all(args: &Args) -> Vec<Workload> {
    use Front::{Delayed, Fill, Nothing, Ready};
    let drained = (40_000.0 * args.seconds) as i64 / BATCH as i64 * BATCH as i64
        + (2 * DRAIN_WARM * BATCH) as i64;
    let list = [
        (
            "cycle-1",
            "send, read 1, ack; 1 client",
            "cycles/s",
            Job::Cycle,
            1,
            Nothing,
        ),
        (
            "cycle-8",
            "send, read 1, ack; 8 clients",
            "cycles/s",
            Job::Cycle,
            8,
            Nothing,
        ),
        (
            "cycle-64",
            "send, read 1, ack; 64 clients",
            "cycles/s",
            Job::Cycle,
            64,
            Nothing,
        ),
        (
            "send-8",
            "send only; 8 clients",
            "messages/s",
            Job::Send,
            8,
            Nothing,
        ),
        (
            "send-batch",
            "send 100 a call; 2 clients",
            "messages/s",
            Job::SendBatch,
            2,
            Nothing,
        ),
        (
            "drain-batch",
            "read and ack 100 a call; 2 clients",
            "messages/s",
            Job::Drain,
            2,
            Fill(drained),
        ),
        (
            "empty",
            "read of an empty queue; 1 client",
            "reads/s",
            Job::Empty,
            1,
            Nothing,
        ),
        (
            "delayed",
            "cycle behind {n} delayed; 1 client",
            "cycles/s",
            Job::Cycle,
            1,
            Delayed(args.delayed),
        ),
        (
            "backlog",
            "cycle with {n} waiting; 8 clients",
            "cycles/s",
            Job::Cycle,
            8,
            Ready(args.backlog),
        ),
    ];
    list.into_iter()
        .map(|(key, title, unit, job, clients, front)| {
            let title = match front {
                Ready(n) | Delayed(n) => title.replace("{n}", &grouped(n)),
                _ => title.to_string(),
            };
            Workload {
                key,
                title,
                unit,
                job,
                clients,
                front,
            }
        })
        .collect()
}

/// 1234567 → 1,234,567
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}
