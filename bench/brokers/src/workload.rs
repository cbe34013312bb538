//! The workloads: what is done by how many workers, and what a confirm must survive.

use pg_broker_bench_common::figure::Row;

use crate::drive::Job;
use crate::rabbitmq::Rabbitmq;
use crate::side::Side;

/// What a confirmed publish survives. Each side is told apart where it has the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Everybody syncs before confirming.
    Synced,
    /// Ours commits without waiting, JetStream syncs now and then; RabbitMQ has no such setting.
    Relaxed,
    /// Ours and RabbitMQ sync, JetStream has its defaults.
    Strict,
}

#[derive(Debug, Clone, Copy)]
pub enum Work {
    Job(Job, usize),
    Receipt,
}

pub struct Workload {
    pub key: &'static str,
    pub title: &'static str,
    pub work: Work,
    pub durability: Durability,
}

const fn cycle(
    key: &'static str,
    title: &'static str,
    workers: usize,
    durability: Durability,
) -> Workload {
    Workload {
        key,
        title,
        work: Work::Job(Job::Cycle, workers),
        durability,
    }
}

pub const WORKLOADS: [Workload; 10] = [
    cycle("cycle-1", "cycle, synced; 1 worker", 1, Durability::Synced),
    cycle("cycle-8", "cycle, synced; 8 workers", 8, Durability::Synced),
    cycle(
        "cycle-16",
        "cycle, synced; 16 workers",
        16,
        Durability::Synced,
    ),
    cycle(
        "relaxed-1",
        "cycle, not synced; 1 worker",
        1,
        Durability::Relaxed,
    ),
    cycle(
        "relaxed-8",
        "cycle, not synced; 8 workers",
        8,
        Durability::Relaxed,
    ),
    cycle(
        "relaxed-16",
        "cycle, not synced; 16 workers",
        16,
        Durability::Relaxed,
    ),
    Workload {
        key: "publish",
        title: "publish 100 a batch, JetStream not synced; 4 workers",
        work: Work::Job(Job::Publish, 4),
        durability: Durability::Strict,
    },
    Workload {
        key: "consume",
        title: "consume and ack 100 a batch, JetStream not synced; 4 workers",
        work: Work::Job(Job::Consume, 4),
        durability: Durability::Strict,
    },
    Workload {
        key: "receipt",
        title: "publish to receipt, synced",
        work: Work::Receipt,
        durability: Durability::Synced,
    },
    Workload {
        key: "relaxed-receipt",
        title: "publish to receipt, not synced",
        work: Work::Receipt,
        durability: Durability::Relaxed,
    },
];

impl Workload {
    pub fn rows(&self) -> Vec<Row> {
        match self.work {
            Work::Job(job, _) => {
                let unit = if job == Job::Cycle {
                    "cycles/s"
                } else {
                    "messages/s"
                };
                vec![Row::new(self.key, self.title, unit, true)]
            }
            Work::Receipt => ["p50", "p99"]
                .map(|share| {
                    let (key, title) = (self.key, self.title);
                    Row::new(
                        &format!("{key}-{share}"),
                        &format!("{title}, {share}"),
                        "ms",
                        false,
                    )
                })
                .to_vec(),
        }
    }

    pub fn takes(&self, party: &str) -> bool {
        party != Rabbitmq::PARTY.name || self.durability != Durability::Relaxed
    }
}
