//! From a commit to the session that waits for the message, on a queue where nothing else happens.
//!
//! One process and one steady clock, two connections. Three moments are taken: the sender's
//! `COMMIT` is answered, the waiter's call returns, the waiter has the message. The wake is from
//! the first to the second; the answer and the wake race each other, so a wake that came first
//! counts as zero. A second row has the whole way, flush included: from sending the `COMMIT` to
//! having the message.

use std::time::{Duration, Instant};

use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::pg::{MESSAGE, connect};
use pg_broker_bench_common::stats::percentile;
use pg_broker_bench_common::{Error, Result};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement};

use crate::client::{Claim, Worker};
use crate::load::micros;
use crate::run::Bench;
use crate::side::{Side, Wait};

pub const P50: &str = "wake-p50";
pub const P99: &str = "wake-p99";

/// The waiter surely sleeps again after this time.
const SETTLE: Duration = Duration::from_millis(20);
/// The commit then comes at any moment of this time, evenly spread: no poll's rhythm is favoured.
const SPREAD: f64 = 0.1;
const GOLDEN: f64 = 0.618_033_988_749_895;

/// A session that sleeps until there is a message, and takes it.
struct Waiter {
    worker: Worker,
    sleeper: Client,
    wait: Option<Statement>,
    told: UnboundedReceiver<()>,
}

struct Taken {
    woken: Instant,
    read: Instant,
}

impl Waiter {
    async fn open(url: &str, side: Side, queue: &str) -> Result<Waiter> {
        let (sleeper, mut connection) = tokio_postgres::connect(url, NoTls).await?;
        let (tell, told) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(message) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                match message {
                    Ok(AsyncMessage::Notification(_)) => drop(tell.send(())),
                    Ok(_) => {}
                    Err(error) => {
                        eprintln!("bench: connection lost: {error}");
                        break;
                    }
                }
            }
        });
        let wait = match side.wait {
            Wait::Call(sql) | Wait::Read(sql) => {
                Some(sleeper.prepare(&side.sql(sql, queue)).await?)
            }
            Wait::Listen => {
                sleeper
                    .batch_execute(&format!("LISTEN \"{queue}\""))
                    .await?;
                None
            }
        };
        Ok(Waiter {
            worker: Worker::open(url, side, queue).await?,
            sleeper,
            wait,
            told,
        })
    }

    /// Sleeps until a message is there, takes it, and settles it.
    async fn take(&mut self) -> Result<Taken> {
        loop {
            let rows = match &self.wait {
                Some(wait) => self.sleeper.query(wait, &[]).await?,
                None => {
                    self.told
                        .recv()
                        .await
                        .ok_or("the listener's connection is gone")?;
                    Vec::new()
                }
            };
            let woken = Instant::now();
            let claim = match (self.worker.side().wait, rows.first()) {
                (Wait::Read(_), None) => None,
                (Wait::Read(_), Some(row)) => Some(Claim {
                    id: row.try_get(0)?,
                    receipt: 0,
                }),
                (Wait::Call(_) | Wait::Listen, _) => self.worker.read_one().await?,
            };
            if let Some(claim) = claim {
                let read = Instant::now();
                self.worker.ack(claim).await?;
                return Ok(Taken { woken, read });
            }
        }
    }
}

impl Bench<'_> {
    pub async fn wake(&self) -> Result<Vec<Row>> {
        let ms = |key: &str, title: &str| Row::new(key, title, "ms", false);
        let mut rows = vec![
            ms(P50, "commit answered to waiter woken, p50"),
            ms(P99, "commit answered to waiter woken, p99"),
            ms("receipt-p50", "commit sent to message in hand, p50"),
            ms("receipt-p99", "commit sent to message in hand, p99"),
        ];
        let sides = self.queues();
        for round in 0..self.args.rounds {
            for turn in 0..sides.len() {
                let side = &sides[(round + turn) % sides.len()];
                let (mut wakes, mut receipts) = self.wake_round(side).await?;
                let values = [
                    percentile(&mut wakes, 0.5),
                    percentile(&mut wakes, 0.99),
                    percentile(&mut receipts, 0.5),
                    percentile(&mut receipts, 0.99),
                ]
                .map(|micros| f64::from(micros.unwrap_or(0)) / 1000.0);
                eprintln!(
                    "  wake         round {}  {:<17} {:.2} ms, 99 % in {:.2} ms",
                    round + 1,
                    side.title,
                    values[0],
                    values[1]
                );
                for (row, value) in rows.iter_mut().zip(values) {
                    row.add(side.name, value, &[]);
                }
            }
        }
        Ok(rows)
    }

    /// Microseconds of each wake, and of each whole way.
    async fn wake_round(&self, side: &Side) -> Result<(Vec<u32>, Vec<u32>)> {
        let (queue, url) = ("wake", self.url(side));
        let sender = connect(&url).await?;
        sender.batch_execute(&side.sql(side.create, queue)).await?;
        let send = sender.prepare(&side.sql(side.send_waking, queue)).await?;
        let samples = self.args.samples;
        let mut waiter = Waiter::open(&url, *side, queue).await?;
        let (report, mut taken) = unbounded_channel();
        let waiting = tokio::spawn(async move {
            for _ in 0..samples {
                let one = waiter.take().await?;
                drop(report.send(one));
            }
            Ok::<(), Error>(())
        });

        let (mut wakes, mut receipts) = (Vec::new(), Vec::new());
        for sample in 0..samples {
            let phase = (sample as f64 * GOLDEN).fract() * SPREAD;
            tokio::time::sleep(SETTLE + Duration::from_secs_f64(phase)).await;
            sender.batch_execute("BEGIN").await?;
            sender.query_one(&send, &[&MESSAGE]).await?;
            let asked = Instant::now();
            sender.batch_execute("COMMIT").await?;
            let answered = Instant::now();
            let Some(Taken { woken, read }) = taken.recv().await else {
                break;
            };
            wakes.push(micros(woken.saturating_duration_since(answered)));
            receipts.push(micros(read.duration_since(asked)));
        }
        waiting.await??;
        sender.batch_execute(&side.sql(side.drop, queue)).await?;
        Ok((wakes, receipts))
    }
}
