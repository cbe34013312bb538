//! What many queues cost that are mostly idle: the same work on two servers, one with a single
//! queue and one with many, turn by turn; then what both cost while nothing happens.
//!
//! Commits do not wait for the flush here: what many queues could cost is processor time, and the
//! flush would hide it.

use std::time::{Duration, Instant};

use pg_broker_bench_common::Result;
use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::floor::Floor;
use pg_broker_bench_common::pg::{MESSAGE, connect};
use pg_broker_bench_common::text::grouped;
use tokio_postgres::Client;

use crate::idle::MEASURABLE;
use crate::load::{Job, Times, drive};
use crate::process::{family, memory, parent, spent, times, title};
use crate::run::{Bench, verify};
use crate::server::Server;
use crate::side::Side;
use crate::space::CATALOGS;
use crate::workload::{Front, THOUSAND};

const QUEUE: &str = "busy";
const CLIENTS: usize = 8;
const RELAXED: &str = "SET synchronous_commit = off";
const JOBS: [(Job, &str, &str, &str); 2] = [
    (Job::Send, "send", "send; 8 clients", "messages/s"),
    (
        Job::Cycle,
        "cycle",
        "send, read 1, ack; 8 clients",
        "cycles/s",
    ),
];

/// Workers look at every queue once a minute; this much later they are through.
const LOOKED_AT: Duration = Duration::from_secs(5);

/// Rounds are so much shorter than elsewhere.
const SHORTER: u32 = 4;

/// As fast with many queues as with one.
const AS_FAST: f64 = 0.97;
/// Kilobytes that catalogs, and a worker's memory, may grow by in an idle minute: none to speak of.
const CATALOGS_A_MINUTE: f64 = 100.0;
const MEMORY_A_MINUTE: f64 = 1000.0;

fn key(row: &str) -> String {
    format!("{THOUSAND}-{row}")
}

pub fn floors() -> Vec<Floor> {
    let mut floors: Vec<Floor> = JOBS
        .iter()
        .map(|(_, name, ..)| Floor::row(&key(name), &key(&format!("{name}-one")), AS_FAST))
        .collect();
    floors.extend([
        Floor::value(&key("worker"), MEASURABLE),
        Floor::value(&key("catalogs-minute"), CATALOGS_A_MINUTE),
        Floor::value(&key("memory-minute"), MEMORY_A_MINUTE),
    ]);
    floors
}

/// A server with so many queues, of which one is used.
struct Place {
    server: Server,
    owner: Client,
    queues: usize,
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
    async fn open(server: Server, side: &Side, queues: usize) -> Result<Place> {
        let admin = connect(&server.url("postgres")).await?;
        admin
            .batch_execute(&format!("CREATE DATABASE {}", side.database()))
            .await?;
        let url = server.url(&side.database());
        let owner = connect(&url).await?;
        side.install(&owner, &url).await?;
        owner.batch_execute(RELAXED).await?;
        for number in 0..queues {
            let idle = format!("idle_{number}");
            let queue = if number == queues / 2 { QUEUE } else { &idle };
            owner.batch_execute(&side.sql(side.create, queue)).await?;
            touch(&owner, side, queue).await?;
        }
        owner.batch_execute("VACUUM (ANALYZE)").await?;
        Ok(Place {
            server,
            owner,
            queues,
        })
    }

    /// One round of a job, in a queue that was emptied before.
    async fn round(&self, side: &Side, job: Job, times: &Times) -> Result<f64> {
        let purge = format!("SELECT mq.purge_queue('{QUEUE}')");
        self.owner.batch_execute(&purge).await?;
        let tables = format!(
            "SELECT string_agg(oid::regclass::text, ', ') FROM ({}) AS tables",
            side.sql(side.tables, QUEUE)
        );
        let tables: String = self.owner.query_one(&tables, &[]).await?.try_get(0)?;
        self.owner
            .batch_execute(&format!("VACUUM (ANALYZE) {tables}"))
            .await?;
        let relaxed = Side {
            session: RELAXED,
            ..*side
        };
        let load = drive(
            &self.owner,
            &self.server.url(&side.database()),
            relaxed,
            QUEUE,
            job,
            CLIENTS,
            times,
        )
        .await?;
        verify(&self.owner, side, QUEUE, Front::Nothing, &load.tally).await?;
        Ok(load.rate)
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

    /// Without the news that its connections are lost.
    async fn close(self) {
        drop(self.owner);
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(self.server);
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
        let many = Place::open(self.server.twin("many")?, side, self.args.queues).await?;
        let one = Place::open(self.server.twin("one")?, side, 1).await?;
        let places = [&many, &one];
        let title = |what: &str, place: &Place| match place.queues {
            1 => format!("{what}, with 1 queue"),
            queues => format!("{what}, with {} queues", grouped(queues as i64)),
        };
        let pair = |name: &str, what: &str, unit, more| {
            let one_key = key(&format!("{name}-one"));
            [
                Row::new(&key(name), &title(what, &many), unit, more),
                Row::new(&one_key, &title(what, &one), unit, more),
            ]
        };

        // A difference of three percent is to be seen, through noise that is ten times that and comes
        // and goes over seconds: short turns, and many.
        let mut times = Times::of_a_round(self.args);
        times.slice /= SHORTER;
        times.warm /= 2;
        let mut rows = Vec::new();
        for (job, name, what, unit) in JOBS {
            let mut both = pair(name, what, unit, true);
            for round in 0..2 * SHORTER as usize * self.args.rounds + 1 {
                for turn in 0..places.len() {
                    let number = (round + turn) % places.len();
                    let rate = places[number].round(side, job, &times).await?;
                    both[number].add(side.name, rate, &[]);
                }
            }
            for row in both {
                eprintln!(
                    "  {THOUSAND:<12} {:<50} {:>10.0} {unit}",
                    row.title,
                    row.median(side.name).unwrap_or(0.0)
                );
                rows.push(row);
            }
        }

        // The first look at every queue after the vacuums before, which make sessions read all they
        // know of a table anew, is no idle minute's: it is made once.
        let minute = Duration::from_secs_f64(self.args.minute);
        tokio::time::sleep(minute + LOOKED_AT).await;
        let (many_idle, one_idle) = tokio::try_join!(many.idle(minute), one.idle(minute))?;
        let mut add = |name: &str, what: &str, unit, values: [f64; 2]| {
            for (mut row, value) in pair(name, what, unit, false).into_iter().zip(values) {
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
        let queues = (many.queues as f64 - 1.0).max(1.0);
        let each = kilo(one_idle.catalogs.0, many_idle.catalogs.0) / queues;
        let mut row = Row::new(&key("catalogs"), "catalogs, for each queue", "kB", false);
        row.add(side.name, each, &[]);
        rows.push(row);
        many.close().await;
        one.close().await;
        Ok(rows)
    }
}
