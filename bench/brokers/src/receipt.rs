//! From publishing to having the message, one at a time, with a consumer that waits for it.
//!
//! One process and one steady clock; publisher and consumer have a connection each.

use std::time::{Duration, Instant};

use pg_broker_bench_common::Result;
use tokio::sync::mpsc::unbounded_channel;

use crate::side::{Session, Side};

/// The consumer surely waits again after this time.
const SETTLE: Duration = Duration::from_millis(5);

/// Microseconds of each message.
pub async fn receipts<S: Side>(side: &S, samples: usize) -> Result<Vec<u32>> {
    let mut publisher = side.open().await?;
    let mut consumer = side.open().await?;
    let (report, mut seen) = unbounded_channel();
    let waiting = tokio::spawn(async move {
        for _ in 0..=samples {
            if report.send(consumer.receive().await?).is_err() {
                break;
            }
        }
        consumer.close().await
    });
    let mut micros = Vec::with_capacity(samples);
    for sample in 0..=samples {
        tokio::time::sleep(SETTLE).await;
        let began = Instant::now();
        publisher.publish().await?;
        let Some(seen) = seen.recv().await else {
            break;
        };
        // The first one pays for what is set up once.
        if sample > 0 {
            let took = seen.saturating_duration_since(began).as_micros();
            micros.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
    }
    waiting.await??;
    publisher.close().await?;
    Ok(micros)
}
