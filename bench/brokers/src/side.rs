//! What every side must be able to do: each worker with one connection of its own.
//!
//! A publish has returned once the broker has taken responsibility. An ack of ours has returned
//! once it is durable; JetStream can do the same, and does where everybody syncs; RabbitMQ answers
//! no ack, which is to its advantage.

use std::future::Future;
use std::time::Instant;

use pg_broker_bench_common::report::Party;
use pg_broker_bench_common::{BODY, Result};

/// The queue or stream that is made anew for every round.
pub const QUEUE: &str = "bench_brokers";

pub trait Side: Sync {
    type Session: Session;

    const PARTY: Party;

    /// What it is and what a confirmed message survives, for the report.
    fn about(&self) -> impl Future<Output = Result<String>> + Send;

    /// A new and empty queue.
    fn reset(&self) -> impl Future<Output = Result<()>> + Send;

    /// No queue.
    fn remove(&self) -> impl Future<Output = Result<()>> + Send;

    /// Messages in the queue, also those in somebody's hands.
    fn count(&self) -> impl Future<Output = Result<u64>> + Send;

    fn open(&self) -> impl Future<Output = Result<Self::Session>> + Send;
}

pub trait Session: Send + 'static {
    fn publish(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// `BATCH` messages, confirmed together.
    fn publish_batch(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Fetches one message and acks it; false when there is none.
    fn take(&mut self) -> impl Future<Output = Result<bool>> + Send;

    /// Fetches and acks at most `BATCH` messages; zero when there are none.
    fn take_batch(&mut self) -> impl Future<Output = Result<u64>> + Send;

    /// Waits for one message and acks it; when it was in hand.
    fn receive(&mut self) -> impl Future<Output = Result<Instant>> + Send;

    /// Ends the connection once all acks are on their way.
    fn close(self) -> impl Future<Output = Result<()>> + Send;
}

/// Nobody may hand out less than was sent.
pub fn whole(body: &[u8]) -> Result<()> {
    if body.len() < BODY.len() {
        return Err("a body came back short".into());
    }
    Ok(())
}
