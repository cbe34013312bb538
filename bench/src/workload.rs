//! The workloads. To add one: a line here, and a `Job` in `load.rs` if it does something new.

use pg_broker_bench_common::BATCH;
use pg_broker_bench_common::text::grouped;

use crate::args::Args;
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
    /// This many handed out for hours, with lower ids than all that follows, filled once.
    Leased(i64),
}

impl Front {
    /// Whether one queue serves all rounds.
    pub fn is_kept(self) -> bool {
        matches!(self, Front::Ready(_) | Front::Delayed(_) | Front::Leased(_))
    }
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

impl Workload {
    pub fn queue(&self) -> String {
        self.key.replace('-', "_")
    }
}

/// The workloads that have procedures of their own: under an open snapshot, waking, waiters on an
/// idle queue, what becomes of the space, exchanges, and ordered groups.
pub const SNAPSHOT: &str = "snapshot";
pub const WAKE: &str = "wake";
pub const IDLE: &str = "idle";
pub const SPACE: &str = "space";
pub const PARKED: &str = "parked";
pub const DELAYED: &str = "delayed";
pub const THOUSAND: &str = "thousand";
pub const BEFORE: &str = "before";
pub const ROUTES: &str = "routes";
pub const ORDERED: &str = "ordered";
pub const SPECIAL: [(&str, &str); 10] = [
    (ORDERED, "cycles in queues with ordered groups"),
    (ROUTES, "publishing, with few and with many bindings"),
    (SNAPSHOT, "cycles under an open snapshot, minute by minute"),
    (WAKE, "from a commit to the waiter on an idle queue"),
    (IDLE, "what waiters on an idle queue cost the server"),
    (SPACE, "size and throughput under an open snapshot"),
    (PARKED, "the space that a few messages which stay hold back"),
    (
        DELAYED,
        "every message delayed by 5 s, under an open snapshot",
    ),
    (THOUSAND, "what a thousand idle queues cost"),
    (BEFORE, "this build beside an earlier one (--before)"),
];

/// Whether the chart of ratios leaves the row out: it is about space, or ours alone.
pub fn is_apart(row: &str) -> bool {
    let workload = row.split_once('-').map_or(row, |(workload, _)| workload);
    [SPACE, PARKED, DELAYED, THOUSAND, BEFORE].contains(&workload)
}

/// The row that is read off the cycles of 8 clients.
pub const WAL: &str = "wal";
pub const WAL_FROM: &str = "cycle-8";

/// In groups: the rounds of a group take turns with each other, because they are compared.
pub fn groups(args: &Args) -> Vec<Vec<Workload>> {
    use Front::{Delayed, Fill, Leased, Nothing, Ready};
    let drained = (40_000.0 * args.seconds) as i64 / BATCH as i64 * BATCH as i64
        + (2 * DRAIN_WARM * BATCH) as i64;
    let work = |key, title: &str, unit, job, clients, front| {
        let title = match front {
            Ready(n) | Delayed(n) | Leased(n) => title.replace("{n}", &grouped(n)),
            Nothing | Fill(_) => title.to_string(),
        };
        Workload {
            key,
            title,
            unit,
            job,
            clients,
            front,
        }
    };
    let cycle =
        |key, title, clients, front| work(key, title, "cycles/s", Job::Cycle, clients, front);
    let read = |key, title, front| work(key, title, "reads/s", Job::Read, 1, front);
    let messages =
        |key, title, job, clients, front| work(key, title, "messages/s", job, clients, front);
    vec![
        vec![
            cycle("cycle-1", "send, read 1, ack; 1 client", 1, Nothing),
            cycle("cycle-8", "send, read 1, ack; 8 clients", 8, Nothing),
            cycle("cycle-64", "send, read 1, ack; 64 clients", 64, Nothing),
        ],
        vec![messages(
            "send-8",
            "send only; 8 clients",
            Job::Send,
            8,
            Nothing,
        )],
        vec![messages(
            "send-batch",
            "send 100 a call; 2 clients",
            Job::SendBatch,
            2,
            Nothing,
        )],
        vec![messages(
            "drain-batch",
            "read and ack 100 a call; 2 clients",
            Job::Drain,
            2,
            Fill(drained),
        )],
        vec![work(
            "empty",
            "read of an empty queue; 1 client",
            "reads/s",
            Job::Empty,
            1,
            Nothing,
        )],
        vec![
            read("read", "read 1, the only one; 1 client", Nothing),
            read(
                "read-ready",
                "read 1 of {n} ready; 1 client",
                Ready(args.backlog),
            ),
            read(
                "read-delayed",
                "read 1 behind {n} delayed; 1 client",
                Delayed(args.delayed),
            ),
            read(
                "read-leased",
                "read 1 behind {n} leased; 1 client",
                Leased(args.leased),
            ),
        ],
        vec![cycle(
            "backlog",
            "cycle with {n} waiting; 8 clients",
            8,
            Ready(args.backlog),
        )],
    ]
}

/// Every name that `--only` knows, with what it is.
pub fn names(args: &Args) -> Vec<(&'static str, String)> {
    let plain = groups(args).into_iter().flatten();
    plain
        .map(|workload| (workload.key, workload.title))
        .chain(SPECIAL.map(|(key, title)| (key, title.to_string())))
        .collect()
}
