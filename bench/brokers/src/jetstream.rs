//! NATS JetStream over async-nats: a stream on file that forgets a message once it is acked, one
//! pull consumer shared by all workers, explicit acks.
//!
//! Where every message is synced, so is its ack, as ours is: the worker waits for the answer to
//! it. Where nothing is, it does what is ordinarily done, and waits for none.

use std::time::{Duration, Instant};

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::Context;
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use futures_util::StreamExt;
use pg_broker_bench_common::report::Party;
use pg_broker_bench_common::{BATCH, BODY, Result};

use crate::side::{QUEUE, Session, Side, whole};

const CONSUMER: &str = "workers";

pub struct Jetstream {
    url: String,
    /// How the server syncs every message; none when it does not.
    synced_by: Option<String>,
}

pub struct Worker {
    context: Context,
    consumer: PullConsumer,
    /// Messages that come without being asked for one by one.
    stream: Option<pull::Stream>,
    acks_answered: bool,
}

impl Jetstream {
    pub fn synced(url: &str, by: &str) -> Jetstream {
        Jetstream {
            url: url.into(),
            synced_by: Some(by.into()),
        }
    }

    pub fn with_defaults(url: &str) -> Jetstream {
        Jetstream {
            url: url.into(),
            synced_by: None,
        }
    }

    async fn context(&self) -> Result<Context> {
        Ok(async_nats::jetstream::new(
            async_nats::connect(&self.url).await?,
        ))
    }
}

impl Side for Jetstream {
    type Session = Worker;

    const PARTY: Party = Party {
        name: "jetstream",
        title: "NATS JetStream",
    };

    async fn about(&self) -> Result<String> {
        let client = async_nats::connect(&self.url).await?;
        let durability = match &self.synced_by {
            Some(by) => format!("every message synced ({by}), acks answered"),
            None => "its defaults: synced every two minutes, acks not answered".into(),
        };
        Ok(format!(
            "NATS JetStream {}, stream on file, {durability}",
            client.server_info().version
        ))
    }

    async fn reset(&self) -> Result<()> {
        self.remove().await?;
        let stream = self
            .context()
            .await?
            .create_stream(Config {
                name: QUEUE.into(),
                subjects: vec![QUEUE.into()],
                storage: StorageType::File,
                retention: RetentionPolicy::WorkQueue,
                num_replicas: 1,
                ..Config::default()
            })
            .await?;
        stream
            .create_consumer(pull::Config {
                durable_name: Some(CONSUMER.into()),
                ack_policy: AckPolicy::Explicit,
                ack_wait: Duration::from_secs(30),
                max_ack_pending: 20_000,
                ..pull::Config::default()
            })
            .await?;
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        let context = self.context().await?;
        if context.get_stream(QUEUE).await.is_ok() {
            context.delete_stream(QUEUE).await?;
        }
        Ok(())
    }

    async fn count(&self) -> Result<u64> {
        let stream = self.context().await?.get_stream(QUEUE).await?;
        Ok(stream.cached_info().state.messages)
    }

    async fn open(&self) -> Result<Worker> {
        let context = self.context().await?;
        let stream = context.get_stream(QUEUE).await?;
        Ok(Worker {
            consumer: stream.get_consumer(CONSUMER).await?,
            context,
            stream: None,
            acks_answered: self.synced_by.is_some(),
        })
    }
}

impl Worker {
    async fn settle(&self, message: &Message) -> Result<()> {
        match self.acks_answered {
            true => message.double_ack().await,
            false => message.ack().await,
        }
    }

    /// Those that are there, at most so many.
    async fn fetch(&self, most: usize) -> Result<u64> {
        let mut messages = self.consumer.fetch().max_messages(most).messages().await?;
        let mut taken = 0;
        while let Some(message) = messages.next().await {
            let message = message?;
            whole(&message.payload)?;
            self.settle(&message).await?;
            taken += 1;
        }
        Ok(taken)
    }
}

impl Session for Worker {
    async fn publish(&mut self) -> Result<()> {
        let sent = self.context.publish(QUEUE, BODY.into()).await?;
        sent.await?;
        Ok(())
    }

    async fn publish_batch(&mut self) -> Result<()> {
        let mut confirms = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            confirms.push(self.context.publish(QUEUE, BODY.into()).await?);
        }
        for confirm in confirms {
            confirm.await?;
        }
        Ok(())
    }

    async fn take(&mut self) -> Result<bool> {
        Ok(self.fetch(1).await? > 0)
    }

    async fn take_batch(&mut self) -> Result<u64> {
        self.fetch(BATCH).await
    }

    async fn receive(&mut self) -> Result<Instant> {
        if self.stream.is_none() {
            self.stream = Some(self.consumer.messages().await?);
        }
        let next = match &mut self.stream {
            Some(stream) => stream.next().await,
            None => None,
        };
        let message = next.ok_or("the consumer ended")??;
        let seen = Instant::now();
        whole(&message.payload)?;
        self.settle(&message).await?;
        Ok(seen)
    }

    async fn close(self) -> Result<()> {
        self.context.client().flush().await?;
        Ok(())
    }
}
