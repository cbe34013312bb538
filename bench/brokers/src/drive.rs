//! Drives a number of workers of one side at one job, and measures what they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pg_broker_bench_common::{BATCH, Result};
use tokio::sync::Barrier;

use crate::side::{Session, Side};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Publish one and wait for the confirm, fetch one, ack it.
    Cycle,
    /// Publish `BATCH`, then wait until all are confirmed.
    Publish,
    /// Fetch and ack `BATCH` at a time, until nothing is left.
    Consume,
}

#[derive(Default)]
pub struct Load {
    /// Messages a second.
    pub rate: f64,
    pub published: u64,
    pub taken: u64,
    /// Microseconds of each measured round of the job.
    pub micros: Vec<u32>,
}

struct Gate {
    start: Barrier,
    stop: AtomicBool,
    measuring: AtomicBool,
    done: AtomicU64,
}

/// What a worker did, and when it last did something.
struct Done {
    published: u64,
    taken: u64,
    micros: Vec<u32>,
    last: Instant,
}

pub async fn drive<S: Side>(side: &S, job: Job, workers: usize, time: Duration) -> Result<Load> {
    let gate = Arc::new(Gate {
        start: Barrier::new(workers + 1),
        stop: AtomicBool::new(false),
        measuring: AtomicBool::new(job == Job::Consume),
        done: AtomicU64::new(0),
    });
    let mut tasks = Vec::with_capacity(workers);
    for _ in 0..workers {
        tasks.push(tokio::spawn(work(side.open().await?, job, gate.clone())));
    }
    gate.start.wait().await;
    let mut began = Instant::now();
    let mut rate = 0.0;
    if job != Job::Consume {
        tokio::time::sleep(time / 5).await;
        gate.measuring.store(true, Relaxed);
        let before = gate.done.load(Relaxed);
        began = Instant::now();
        tokio::time::sleep(time).await;
        let done = gate.done.load(Relaxed) - before;
        rate = done as f64 / began.elapsed().as_secs_f64();
        gate.stop.store(true, Relaxed);
    }
    let mut load = Load {
        rate,
        ..Load::default()
    };
    let mut ended = began;
    for task in tasks {
        let done = task.await??;
        load.published += done.published;
        load.taken += done.taken;
        load.micros.extend(done.micros);
        ended = ended.max(done.last);
    }
    if job == Job::Consume {
        load.rate = load.taken as f64 / ended.duration_since(began).as_secs_f64();
    }
    Ok(load)
}

async fn work<S: Session>(mut session: S, job: Job, gate: Arc<Gate>) -> Result<Done> {
    gate.start.wait().await;
    let mut done = Done {
        published: 0,
        taken: 0,
        micros: Vec::new(),
        last: Instant::now(),
    };
    while !gate.stop.load(Relaxed) {
        let began = Instant::now();
        let messages = match job {
            Job::Cycle => {
                session.publish().await?;
                done.published += 1;
                take(&mut session).await?;
                done.taken += 1;
                1
            }
            Job::Publish => {
                session.publish_batch().await?;
                done.published += BATCH as u64;
                BATCH as u64
            }
            Job::Consume => {
                let taken = session.take_batch().await?;
                if taken == 0 {
                    break;
                }
                done.taken += taken;
                taken
            }
        };
        gate.done.fetch_add(messages, Relaxed);
        done.last = Instant::now();
        if gate.measuring.load(Relaxed) {
            let micros = done.last.duration_since(began).as_micros();
            done.micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }
    session.close().await?;
    Ok(done)
}

/// Another worker may have taken ours a moment before the one that it left for us can be seen.
async fn take<S: Session>(session: &mut S) -> Result<()> {
    let began = Instant::now();
    while !session.take().await? {
        if began.elapsed() > Duration::from_secs(20) {
            return Err("a message was published, and none could be fetched for 20 s".into());
        }
    }
    Ok(())
}
