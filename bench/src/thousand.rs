//! What many queues cost that are mostly idle: the same work on two servers, one with a single
//! queue and one with many, turn by turn; then what both cost while nothing happens.
//!
//! Commits do not wait for the flush here: what many queues could cost is processor time, and the
//! flush would hide it.

use std::time::{Duration, Instant};

use pg_broker_bench_common::Result;
use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::floor::Floor;
use pg_broker_bench_common::pg::MESSAGE;
use pg_broker_bench_common::text::grouped;
use tokio_postgres::Client;

use crate::idle::MEASURABLE;
use crate::load::Job;
use crate::pair::{self, Pair, Place, QUEUE, Task};
use crate::process::{family, memory, parent, spent, times, title};
use crate::run::Bench;
use crate::server::Server;
use crate::side::Side;
use crate::space::CATALOGS;
use crate::workload::THOUSAND;

const CLIENTS: usize = 8;
const RELAXED: &str = "SET synchronous_commit = off";
const TASKS: [Task; 2] = [
    Task {
        name: "send",
        title: "send; 8 clients",
        unit: "messages/s",
        job: Job::Send,
        clients: CLIENTS,
        fill: 0,
    },
    Task {
        name: "cycle",
        title: "send, read 1, ack; 8 clients",
        unit: "cycles/s",
        job: Job::Cycle,
        clients: CLIENTS,
        fill: 0,
    },
];

/// Workers look at every queue once a minute; this much later they are through.
const LOOKED_AT: Duration = Duration::from_secs(5);

/// Kilobytes that catalogs, and a worker's memory, may grow by in an idle minute: none to speak of.
const CATALOGS_A_MINUTE: f64 = 100.0;
const MEMORY_A_MINUTE: f64 = 1000.0;

pub fn floors() -> Vec<Floor> {
    let mut floors = pair::floors(THOUSAND, &TASKS);
    let key = |row: &str| Pair::key(THOUSAND, row);
    floors.extend([
        Floor::value(&key("worker"), MEASURABLE),
        Floor::value(&key("catalogs-minute"), CATALOGS_A_MINUTE),
        Floor::value(&key("memory-minute"), MEMORY_A_MINUTE),
    ]);
    floors
}

/// What a server costs while nothing happens, and what it holds.
struct Idle {
    /// Milliseconds of CPU a second of the extension's workers.
    cpu: f64,
    /// Their own memory, in bytes, before and after.
    memory: (u64, u64),
    /// Bytes of the catalogs, before and after.
    catalogs: (i64, i64),
}

impl Place {
    /// Makes so many queues, of which one is to be used.
    async fn with_queues(server: Server, side: &Side, queues: usize) -> Result<Place> {
        let what = match queues {
            1 => "with 1 queue".to_string(),
            queues => format!("with {} queues", grouped(queues as i64)),
        };
        let place = Place::open(server, side, RELAXED, what).await?;
        for number in 0..queues {
            let idle = format!("idle_{number}");
            let queue = if number == queues / 2 { QUEUE } else { &idle };
            place
                .owner
                .batch_execute(&side.sql(side.create, queue))
                .await?;
            touch(&place.owner, side, queue).await?;
        }
        place.owner.batch_execute("VACUUM (ANALYZE)").await?;
        Ok(place)
    }

    async fn catalogs(&self) -> Result<i64> {
        Ok(self.owner.query_one(CATALOGS, &[]).await?.try_get(0)?)
    }

    /// The extension's own processes.
    async fn workers(&self) -> Result<Vec<i32>> {
        let row = self.owner.query_one("SELECT pg_backend_pid()", &[]).await?;
        let server = parent(row.try_get(0)?).ok_or("the server's processes cannot be seen")?;
        let mut pids = family(server)?;
        pids.retain(|pid| title(*pid).starts_with("postgres: pg_broker"));
        match pids.is_empty() {
            true => Err("no worker of the extension is seen".into()),
            false => Ok(pids),
        }
    }

    /// Shared memory of the extension, in bytes.
    async fn shared(&self) -> Result<i64> {
        let sum = "SELECT coalesce(sum(allocated_size), 0)::bigint FROM pg_shmem_allocations \
                   WHERE name LIKE 'pg_broker%'";
        Ok(self.owner.query_one(sum, &[]).await?.try_get(0)?)
    }

    async fn idle(&self, time: Duration) -> Result<Idle> {
        let (catalogs, pids) = (self.catalogs().await?, self.workers().await?);
        let (first, held, began) = (times(&pids)?, memory(&pids), Instant::now());
        tokio::time::sleep(time).await;
        let pids = self.workers().await?;
        let nanos = spent(&first, &times(&pids)?);
        Ok(Idle {
            cpu: nanos as f64 / 1e6 / began.elapsed().as_secs_f64(),
            memory: (held, memory(&pids)),
            catalogs: (catalogs, self.catalogs().await?),
        })
    }
}

/// Uses a queue once, so that whatever is kept about queues in use is kept about it.
async fn touch(owner: &Client, side: &Side, queue: &str) -> Result<()> {
    let send = owner.prepare(&side.sql(side.send, queue)).await?;
    owner.query_one(&send, &[&MESSAGE]).await?;
    let ack = format!("SELECT mq.ack('{queue}', id, receipt) FROM mq.read('{queue}')");
    owner.batch_execute(&ack).await?;
    Ok(())
}

impl Bench<'_> {
    pub async fn thousand(&self) -> Result<Vec<Row>> {
        let Some(side) = self.sides.iter().find(|side| side.fenced) else {
            return Ok(Vec::new());
        };
        let queues = self.args.queues;
        let many = Place::with_queues(self.server.twin("many", None)?, side, queues).await?;
        let one = Place::with_queues(self.server.twin("one", None)?, side, 1).await?;
        let pair = Pair {
            workload: THOUSAND,
            places: [&many, &one],
        };
        let mut rows = pair.all(&TASKS, self.args).await?;

        // The first look at every queue after the vacuums before, which make sessions read all they
        // know of a table anew, is no idle minute's: it is made once.
        let minute = Duration::from_secs_f64(self.args.minute);
        tokio::time::sleep(minute + LOOKED_AT).await;
        let (many_idle, one_idle) = tokio::try_join!(many.idle(minute), one.idle(minute))?;
        let mut add = |name: &str, what: &str, unit, values: [f64; 2]| {
            for (mut row, value) in pair.rows(name, what, unit, false).into_iter().zip(values) {
                row.add(side.name, value, &[]);
                rows.push(row);
            }
        };
        let idles = [&many_idle, &one_idle];
        let kilo = |from: i64, to: i64| (to - from) as f64 / 1e3;
        add(
            "worker",
            "workers' CPU while all is idle",
            "ms/s",
            idles.map(|idle| idle.cpu),
        );
        add(
            "memory",
            "workers' own memory",
            "MB",
            idles.map(|idle| idle.memory.1 as f64 / 1e6),
        );
        let shared = [many.shared().await?, one.shared().await?];
        add(
            "shared",
            "shared memory",
            "MB",
            shared.map(|bytes| bytes as f64 / 1e6),
        );
        add(
            "memory-minute",
            "workers' memory grew in an idle minute",
            "kB",
            idles.map(|idle| kilo(idle.memory.0 as i64, idle.memory.1 as i64)),
        );
        add(
            "catalogs-minute",
            "catalogs grew in an idle minute",
            "kB",
            idles.map(|idle| kilo(idle.catalogs.0, idle.catalogs.1)),
        );
        let each = kilo(one_idle.catalogs.0, many_idle.catalogs.0) / (queues as f64 - 1.0).max(1.0);
        let mut row = Row::new(
            &Pair::key(THOUSAND, "catalogs"),
            "catalogs, for each queue",
            "kB",
            false,
        );
        row.add(side.name, each, &[]);
        rows.push(row);
        many.close().await;
        one.close().await;
        Ok(rows)
    }
}
