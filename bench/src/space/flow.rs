//! Messages that flow through a queue, and one who watches: sizes and rates over the whole time.
//!
//! The clock stands still, and with it all workers, while dead rows are counted, because that
//! reads every table, and while a second stream, the yardstick, has its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pg_broker_bench_common::Result;
use pg_broker_bench_common::pg::connect;
use pg_broker_bench_common::stats::median;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::gauge::{Dead, Gauge, Sizes};
use crate::client::Worker;
use crate::load::Tally;
use crate::run::create;
use crate::side::Side;

/// In how many parts a run is cut that are compared with each other.
pub const TENTHS: usize = 10;

/// Between two looks at the counters.
const TICK: Duration = Duration::from_millis(5);
/// Seconds of a turn, of the stream and of its yardstick.
const TURN: f64 = 0.25;
/// So many turns of the yardstick count nothing, after it was made anew.
const WARM: usize = 2;
/// Seconds between two samples.
const SAMPLE: f64 = 1.0;

/// What the workers share: how far they are, and whether they may go on.
#[derive(Default)]
pub struct Flow {
    pub sent: AtomicU64,
    pub acked: AtomicU64,
    pub refused: AtomicU64,
    stop: AtomicBool,
    turn: Arc<RwLock<()>>,
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
    /// How fast the stream was in the tenth that ends here, beside its yardstick: the median of its
    /// turns.
    pub beside: Option<f64>,
}

/// A stream of the same kind that is made anew for every tenth, and takes turns with the one that is
/// watched: how fast the machine is just now.
pub struct Yardstick {
    flow: Arc<Flow>,
    workers: Vec<JoinHandle<Result<()>>>,
    owner: Client,
    side: Side,
    queue: &'static str,
    segment: i64,
    /// Held while it has no turn.
    held: Option<OwnedRwLockWriteGuard<()>>,
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

/// Ends all workers of a stream.
async fn end(flow: &Flow, workers: Vec<JoinHandle<Result<()>>>) -> Result<()> {
    flow.stop.store(true, Relaxed);
    for worker in workers {
        worker.await??;
    }
    Ok(())
}

impl Yardstick {
    /// In a database of its own.
    pub async fn start(
        url: &str,
        side: Side,
        (queue, segment): (&'static str, i64),
        clients: usize,
    ) -> Result<Yardstick> {
        let owner = connect(url).await?;
        create(&owner, &side, queue, segment).await?;
        let flow = Arc::new(Flow::default());
        let held = flow.turn.clone().write_owned().await;
        let mut workers = Vec::new();
        for _ in 0..clients {
            let worker = Worker::open(url, side, queue).await?;
            workers.push(tokio::spawn(batches(worker, flow.clone())));
        }
        Ok(Yardstick {
            flow,
            workers,
            owner,
            side,
            queue,
            segment,
            held: Some(held),
        })
    }

    /// One turn: messages a second.
    async fn turn(&mut self) -> f64 {
        let (began, acked) = (Instant::now(), self.flow.acked.load(Relaxed));
        drop(self.held.take());
        tokio::time::sleep(Duration::from_secs_f64(TURN)).await;
        self.held = Some(self.flow.turn.clone().write_owned().await);
        (self.flow.acked.load(Relaxed) - acked) as f64 / began.elapsed().as_secs_f64()
    }

    /// A queue as at the beginning, once it has come to its pace.
    async fn renewed(&mut self) -> Result<()> {
        let drop = self.side.sql(self.side.drop, self.queue);
        self.owner.batch_execute(&drop).await?;
        create(&self.owner, &self.side, self.queue, self.segment).await?;
        for _ in 0..WARM {
            self.turn().await;
        }
        Ok(())
    }

    async fn end(mut self) -> Result<()> {
        drop(self.held.take());
        end(&self.flow, self.workers).await?;
        match self.flow.refused.load(Relaxed) {
            0 => Ok(()),
            refused => Err(format!("{refused} acks of the yardstick were refused").into()),
        }
    }
}

/// Watches until the goal is reached, then ends the workers. The tenths begin after `lead`.
pub async fn watch(
    flow: &Flow,
    workers: Vec<JoinHandle<Result<()>>>,
    mut yardstick: Option<Yardstick>,
    gauge: &Gauge,
    goal: Goal,
    lead: Duration,
) -> Result<Watched> {
    let mut clock = Clock::start();
    let mut samples: Vec<Sample> = Vec::new();
    let mut marks: Vec<Mark> = Vec::new();
    let mut due = 0.0;
    // Where the turn of the stream began, and how fast the turns of this tenth were.
    let (mut turn_at, mut turn_acked) = (0.0, flow.acked.load(Relaxed));
    let mut beside = Vec::new();
    // A worker that has ended already has failed.
    while marks.len() <= TENTHS && !workers.iter().any(JoinHandle::is_finished) {
        tokio::time::sleep(TICK).await;
        let at = clock.seconds();
        if at >= due {
            samples.push(sample(flow, gauge, at).await?);
            due += SAMPLE;
        }
        if let Some(yardstick) = &mut yardstick
            && at - turn_at >= TURN
        {
            let turn = flow.turn.write().await;
            let at = clock.stop();
            let acked = flow.acked.load(Relaxed);
            let rate = (acked - turn_acked) as f64 / (at - turn_at);
            beside.push(rate / yardstick.turn().await.max(1.0));
            (turn_at, turn_acked) = (at, acked);
            clock.go_on();
            drop(turn);
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
                beside: median(&beside),
            });
            beside.clear();
            if let Some(yardstick) = &mut yardstick {
                yardstick.renewed().await?;
                (turn_at, turn_acked) = (at, flow.acked.load(Relaxed));
            }
            clock.go_on();
            drop(turn);
        }
    }
    end(flow, workers).await?;
    if let Some(yardstick) = yardstick {
        yardstick.end().await?;
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
