//! Messages that flow through a queue, and one who watches: sizes and rates over the whole time.
//!
//! The clock stands still, and with it all workers, while dead rows are counted, because that
//! reads every table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pg_broker_bench_common::Result;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::task::JoinHandle;

use super::gauge::{Dead, Gauge, Sizes};
use crate::client::Worker;
use crate::load::Tally;

/// In how many parts a run is cut that are compared with each other.
pub const TENTHS: usize = 10;

/// Between two looks at the counters.
const TICK: Duration = Duration::from_millis(5);
/// Seconds between two samples.
const SAMPLE: f64 = 1.0;

/// What the workers share: how far they are, and whether they may go on.
#[derive(Default)]
pub struct Flow {
    pub sent: AtomicU64,
    pub acked: AtomicU64,
    pub refused: AtomicU64,
    stop: AtomicBool,
    turn: RwLock<()>,
}

/// Where a flow ends.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// When so many messages were acked.
    Messages(u64),
    Time(Duration),
}

#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Seconds since the start, without those when the clock stood still.
    pub at: f64,
    pub acked: u64,
    /// Messages that were sent and not yet acked.
    pub live: u64,
    pub sizes: Sizes,
}

/// The beginning or the end of a tenth.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    pub at: f64,
    pub acked: u64,
    pub dead: Dead,
}

pub struct Watched {
    pub samples: Vec<Sample>,
    /// One more than there are tenths.
    pub marks: Vec<Mark>,
    pub tally: Tally,
}

impl Flow {
    /// For one cycle of a worker; nothing when there is to be no other.
    pub async fn next(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let turn = self.turn.read().await;
        (!self.stop.load(Relaxed)).then_some(turn)
    }

    pub fn tally(&self) -> Tally {
        Tally {
            sent: self.sent.load(Relaxed),
            acked: self.acked.load(Relaxed),
            refused: self.refused.load(Relaxed),
            ..Tally::default()
        }
    }

    pub fn settled(&self, settled: u64, of: usize) {
        self.acked.fetch_add(settled, Relaxed);
        self.refused.fetch_add(of as u64 - settled, Relaxed);
    }
}

/// Sends a batch, reads one, acks it, again and again. Where nothing can be read it rests for as
/// long as it took to send, so that what is sent while all is delayed is not far more than can be
/// read later.
pub async fn batches(worker: Worker, flow: Arc<Flow>) -> Result<()> {
    let mut claims = Vec::new();
    while let Some(turn) = flow.next().await {
        let began = Instant::now();
        flow.sent.fetch_add(worker.send_batch().await?, Relaxed);
        let took = began.elapsed();
        worker.read_many(&mut claims).await?;
        if !claims.is_empty() {
            let settled = worker.ack_batch(&claims).await?;
            flow.settled(settled, claims.len());
        }
        drop(turn);
        if claims.is_empty() {
            tokio::time::sleep(took).await;
        }
    }
    Ok(())
}

/// Watches until the goal is reached, then ends the workers. The tenths begin after `lead`.
pub async fn watch(
    flow: &Flow,
    workers: Vec<JoinHandle<Result<()>>>,
    gauge: &Gauge,
    goal: Goal,
    lead: Duration,
) -> Result<Watched> {
    let mut clock = Clock::start();
    let mut samples: Vec<Sample> = Vec::new();
    let mut marks: Vec<Mark> = Vec::new();
    let mut due = 0.0;
    // A worker that has ended already has failed.
    while marks.len() <= TENTHS && !workers.iter().any(JoinHandle::is_finished) {
        tokio::time::sleep(TICK).await;
        let at = clock.seconds();
        if at >= due {
            samples.push(sample(flow, gauge, at).await?);
            due += SAMPLE;
        }
        let done = match goal {
            Goal::Messages(all) => flow.acked.load(Relaxed) as f64 / all.max(1) as f64,
            Goal::Time(all) => {
                (at - lead.as_secs_f64()) / all.saturating_sub(lead).as_secs_f64().max(1e-3)
            }
        };
        if done * TENTHS as f64 >= marks.len() as f64 {
            let turn = flow.turn.write().await;
            let at = clock.stop();
            samples.push(sample(flow, gauge, at).await?);
            marks.push(Mark {
                at,
                acked: flow.acked.load(Relaxed),
                dead: gauge.dead().await?,
            });
            clock.go_on();
            drop(turn);
        }
    }
    flow.stop.store(true, Relaxed);
    for worker in workers {
        worker.await??;
    }
    Ok(Watched {
        samples,
        marks,
        tally: flow.tally(),
    })
}

async fn sample(flow: &Flow, gauge: &Gauge, at: f64) -> Result<Sample> {
    let sizes = gauge.sizes().await?;
    let acked = flow.acked.load(Relaxed);
    Ok(Sample {
        at,
        acked,
        live: flow.sent.load(Relaxed).saturating_sub(acked),
        sizes,
    })
}

struct Clock {
    began: Instant,
    stood: Duration,
    stopped: Instant,
}

impl Clock {
    fn start() -> Clock {
        let now = Instant::now();
        Clock {
            began: now,
            stood: Duration::ZERO,
            stopped: now,
        }
    }

    fn seconds(&self) -> f64 {
        (self.began.elapsed() - self.stood).as_secs_f64()
    }

    fn stop(&mut self) -> f64 {
        self.stopped = Instant::now();
        self.seconds()
    }

    fn go_on(&mut self) {
        self.stood += self.stopped.elapsed();
    }
}
