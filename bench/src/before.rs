//! This build beside an earlier one: two servers, each with its own, take turns at the same work.

use pg_broker_bench_common::Result;
use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::floor::Floor;

use crate::load::Job;
use crate::pair::{self, Pair, Place, QUEUE, Task};
use crate::run::Bench;
use crate::workload::BEFORE;

const TASKS: [Task; 4] = [
    Task {
        name: "cycle",
        title: "send, read 1, ack; 8 clients",
        unit: "cycles/s",
        job: Job::Cycle,
        clients: 8,
        fill: 0,
    },
    Task {
        name: "send",
        title: "send only; 8 clients",
        unit: "messages/s",
        job: Job::Send,
        clients: 8,
        fill: 0,
    },
    Task {
        name: "send-batch",
        title: "send 100 a call; 2 clients",
        unit: "messages/s",
        job: Job::SendBatch,
        clients: 2,
        fill: 0,
    },
    Task {
        name: "drain-batch",
        title: "read and ack 100 a call; 2 clients",
        unit: "messages/s",
        job: Job::Drain,
        clients: 2,
        fill: 80_000,
    },
];

pub fn floors() -> Vec<Floor> {
    pair::floors(BEFORE, &TASKS)
}

impl Bench<'_> {
    pub async fn before(&self) -> Result<Vec<Row>> {
        let side = self.sides.iter().find(|side| side.fenced);
        let (Some(side), Some(earlier)) = (side, &self.args.before) else {
            return Ok(Vec::new());
        };
        let now = Place::open(self.server.twin("now", None)?, side, "", "now".into()).await?;
        let server = self.server.twin("before", Some(&earlier.bin))?;
        let before = Place::open(server, side, "", earlier.name.clone()).await?;
        for place in [&now, &before] {
            place
                .owner
                .batch_execute(&side.sql(side.create, QUEUE))
                .await?;
        }
        let pair = Pair {
            workload: BEFORE,
            places: [&now, &before],
        };
        let rows = pair.all(&TASKS, self.args).await?;
        now.close().await;
        before.close().await;
        Ok(rows)
    }
}
