//! Drives a number of workers at one job and measures what they do in a given time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pg_broker_bench_common::{BATCH, Result};
use tokio::sync::Barrier;
use tokio_postgres::Client;

use crate::args::Args;
use crate::client::{Claim, Worker};
use crate::process::{family, parent, spent, times as cpu_times};
use crate::side::Side;

/// What every worker does, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Send one, read one, ack it: three transactions.
    Cycle,
    /// The same, of which only the read is timed.
    Read,
    /// Send one.
    Send,
    /// Send `BATCH` in one call.
    SendBatch,
    /// Read `BATCH` and ack them, until nothing is left.
    Drain,
    /// Read where nothing is ready.
    Empty,
}

/// What a worker, or all of them, did from the first call to the last, warming up included.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub sent: u64,
    pub acked: u64,
    pub refused: u64,
    /// Time spent in what the job measures.
    pub busy: Duration,
    /// Microseconds of each measured round trip of the job.
    pub micros: Vec<u32>,
}

/// What was measured: operations, how long, and what they cost.
#[derive(Debug, Default, Clone)]
pub struct Load {
    /// Operations a second of each slice of the measured time.
    pub slices: Vec<f64>,
    pub rate: f64,
    /// WAL bytes an operation.
    pub wal: f64,
    /// Microseconds of the processor that an operation takes of all processes of the server, where
    /// the kernel tells.
    pub cpu: Option<f64>,
    pub tally: Tally,
}

/// Where the workers and the one who measures them meet.
struct Gate {
    start: Barrier,
    stop: AtomicBool,
    measuring: AtomicBool,
    done: AtomicU64,
}

pub struct Times {
    pub warm: Duration,
    pub slice: Duration,
    pub slices: usize,
}

impl Times {
    /// Of one round of a workload.
    pub fn of_a_round(args: &Args) -> Times {
        Times {
            warm: Duration::from_secs_f64(args.warm),
            slice: Duration::from_secs_f64(args.seconds),
            slices: 1,
        }
    }
}

/// Batches that a draining worker takes before it is measured.
pub const DRAIN_WARM: usize = 5;

pub async fn drive(
    admin: &Client,
    url: &str,
    side: Side,
    queue: &str,
    job: Job,
    clients: usize,
    times: &Times,
) -> Result<Load> {
    let gate = Arc::new(Gate {
        start: Barrier::new(clients + 1),
        stop: AtomicBool::new(false),
        measuring: AtomicBool::new(false),
        done: AtomicU64::new(0),
    });
    let mut workers = Vec::with_capacity(clients);
    for _ in 0..clients {
        workers.push(Worker::open(url, side, queue).await?);
    }
    let tasks: Vec<_> = workers
        .into_iter()
        .map(|worker| {
            let gate = gate.clone();
            tokio::spawn(async move {
                let tally = work(&worker, job, &gate).await?;
                // Its session lives until all is counted.
                Ok::<_, pg_broker_bench_common::Error>((tally, worker))
            })
        })
        .collect();

    let mut marks = Vec::with_capacity(times.slices + 1);
    gate.start.wait().await;
    if job == Job::Drain {
        marks.push(mark(admin, &gate).await?);
    } else {
        tokio::time::sleep(times.warm).await;
        gate.measuring.store(true, Relaxed);
        let first = mark(admin, &gate).await?;
        let began = first.at;
        marks.push(first);
        for slice in 1..=times.slices {
            let until = began + times.slice * slice as u32;
            tokio::time::sleep_until(until.into()).await;
            marks.push(mark(admin, &gate).await?);
        }
        gate.stop.store(true, Relaxed);
    }
    let mut tally = Tally::default();
    let mut workers = Vec::with_capacity(clients);
    for task in tasks {
        let (own, worker) = task.await??;
        tally.add(own);
        workers.push(worker);
    }
    if job == Job::Drain {
        marks.push(mark(admin, &gate).await?);
    }

    let rate = |from: &Mark, to: &Mark| {
        (to.done - from.done) as f64 / to.at.duration_since(from.at).as_secs_f64()
    };
    let (Some(first), Some(last)) = (marks.first(), marks.last()) else {
        return Err("nothing was measured".into());
    };
    let operations = (last.done - first.done).max(1) as f64;
    Ok(Load {
        slices: marks
            .windows(2)
            .map(|pair| rate(&pair[0], &pair[1]))
            .collect(),
        rate: match job {
            Job::Read => tally.micros.len() as f64 / tally.busy.as_secs_f64(),
            _ => rate(first, last),
        },
        wal: (last.wal - first.wal) as f64 / operations,
        cpu: match (&first.cpu, &last.cpu) {
            (Some(from), Some(to)) => Some(spent(from, to) as f64 / 1e3 / operations),
            _ => None,
        },
        tally,
    })
}

struct Mark {
    at: Instant,
    done: u64,
    wal: i64,
    cpu: Option<HashMap<i32, u64>>,
}

async fn mark(admin: &Client, gate: &Gate) -> Result<Mark> {
    let row = admin
        .query_one(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, pg_backend_pid()",
            &[],
        )
        .await?;
    let server = parent(row.try_get(1)?);
    let cpu = server.and_then(|server| cpu_times(&family(server).ok()?).ok());
    Ok(Mark {
        at: Instant::now(),
        done: gate.done.load(Relaxed),
        wal: row.try_get(0)?,
        cpu,
    })
}

async fn work(worker: &Worker, job: Job, gate: &Gate) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut claims: Vec<Claim> = Vec::with_capacity(BATCH);
    if job == Job::Drain {
        for _ in 0..DRAIN_WARM {
            drain(worker, &mut claims, &mut tally).await?;
        }
        gate.measuring.store(true, Relaxed);
    }
    gate.start.wait().await;
    while !gate.stop.load(Relaxed) {
        let began = Instant::now();
        let mut took = None;
        let done = match job {
            Job::Cycle => {
                cycle(worker, &mut tally).await?;
                1
            }
            Job::Read => {
                took = Some(cycle(worker, &mut tally).await?);
                1
            }
            Job::Send => {
                worker.send().await?;
                tally.sent += 1;
                1
            }
            Job::SendBatch => {
                let sent = worker.send_batch().await?;
                tally.sent += sent;
                sent
            }
            Job::Empty => match worker.read_one().await? {
                None => 1,
                Some(claim) => {
                    return Err(format!("an empty queue gave message {}", claim.id).into());
                }
            },
            Job::Drain => drain(worker, &mut claims, &mut tally).await?,
        };
        if done == 0 {
            break;
        }
        gate.done.fetch_add(done, Relaxed);
        if gate.measuring.load(Relaxed) {
            let took = took.unwrap_or_else(|| began.elapsed());
            tally.busy += took;
            tally.micros.push(micros(took));
        }
    }
    Ok(tally)
}

pub fn micros(took: Duration) -> u32 {
    took.as_micros().min(u32::MAX as u128) as u32
}

/// How long the read took that found a message.
async fn cycle(worker: &Worker, tally: &mut Tally) -> Result<Duration> {
    let id = worker.send().await?;
    tally.sent += 1;
    if !worker.side().is_queue() {
        let began = Instant::now();
        worker.read_one().await?;
        let took = began.elapsed();
        settled(
            u64::from(worker.ack(Claim { id, receipt: 0 }).await?),
            1,
            tally,
        );
        return Ok(took);
    }
    // Another worker may have taken ours while the one it left for us was not yet committed for
    // our snapshot: look again. Somebody's is always there.
    let patience = Instant::now();
    let (claim, took) = loop {
        let began = Instant::now();
        match worker.read_one().await? {
            Some(claim) => break (claim, began.elapsed()),
            None if patience.elapsed() > Duration::from_secs(20) => {
                return Err("a message was sent, and none could be read for 20 s".into());
            }
            None => {}
        }
    };
    settled(u64::from(worker.ack(claim).await?), 1, tally);
    Ok(took)
}

async fn drain(worker: &Worker, claims: &mut Vec<Claim>, tally: &mut Tally) -> Result<u64> {
    worker.read_many(claims).await?;
    if !claims.is_empty() {
        settled(worker.ack_batch(claims).await?, claims.len() as u64, tally);
    }
    Ok(claims.len() as u64)
}

fn settled(settled: u64, of: u64, tally: &mut Tally) {
    tally.acked += settled;
    tally.refused += of - settled.min(of);
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.sent += other.sent;
        self.acked += other.acked;
        self.refused += other.refused;
        self.busy += other.busy;
        self.micros.extend(other.micros);
    }
}
