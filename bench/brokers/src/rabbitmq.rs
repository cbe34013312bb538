//! RabbitMQ over lapin: a classic durable queue, persistent messages, publisher confirms.
//!
//! One message is fetched with `basic.get`. Batches, and a waiting consumer, use `basic.consume`
//! with a prefetch that always has the next batch on its way; a batch is acked by one `multiple`.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use pg_broker_bench_common::report::Party;
use pg_broker_bench_common::{BATCH, BODY, Result};
use tokio::time::timeout;

use crate::side::{QUEUE, Session, Side, whole};

/// Two batches: one in hand, one on its way.
const PREFETCH: u16 = 2 * BATCH as u16;
/// A queue that gives nothing for this long is taken for empty.
const DRY: Duration = Duration::from_millis(20);

pub struct Rabbitmq {
    url: String,
    version: String,
}

pub struct Worker {
    connection: Connection,
    channel: Channel,
    consumer: Option<Consumer>,
}

impl Rabbitmq {
    pub fn new(url: &str, version: &str) -> Rabbitmq {
        Rabbitmq {
            url: url.into(),
            version: version.into(),
        }
    }

    async fn declare(&self, passive: bool) -> Result<u32> {
        let worker = self.open().await?;
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("classic".into()),
        );
        let options = QueueDeclareOptions {
            passive,
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let queue = worker
            .channel
            .queue_declare(QUEUE.into(), options, arguments)
            .await?;
        worker.close().await?;
        Ok(queue.message_count())
    }
}

impl Side for Rabbitmq {
    type Session = Worker;

    const PARTY: Party = Party {
        name: "rabbitmq",
        title: "RabbitMQ",
    };

    async fn about(&self) -> Result<String> {
        Ok(format!(
            "RabbitMQ {}, classic durable queue, persistent messages, confirms",
            self.version
        ))
    }

    async fn reset(&self) -> Result<()> {
        self.remove().await?;
        self.declare(false).await?;
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        let worker = self.open().await?;
        worker
            .channel
            .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
            .await?;
        worker.close().await
    }

    /// Once the workers' connections are gone, what they held is ready again, and counted.
    async fn count(&self) -> Result<u64> {
        Ok(u64::from(self.declare(true).await?))
    }

    async fn open(&self) -> Result<Worker> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        Ok(Worker {
            connection,
            channel,
            consumer: None,
        })
    }
}

impl Worker {
    async fn send(&self) -> Result<lapin::PublisherConfirm> {
        // Delivery mode 2 is persistent.
        let properties = BasicProperties::default().with_delivery_mode(2);
        let sent = self.channel.basic_publish(
            "".into(),
            QUEUE.into(),
            BasicPublishOptions::default(),
            BODY.as_bytes(),
            properties,
        );
        Ok(sent.await?)
    }

    async fn ack(&self, tag: u64, multiple: bool) -> Result<()> {
        let options = BasicAckOptions { multiple };
        self.channel.basic_ack(tag, options).await?;
        Ok(())
    }

    async fn next(&mut self) -> Result<Delivery> {
        if self.consumer.is_none() {
            let consumer = self.channel.basic_consume(
                QUEUE.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            self.consumer = Some(consumer.await?);
        }
        match &mut self.consumer {
            Some(consumer) => {
                let delivery = consumer.next().await.ok_or("the consumer ended")??;
                whole(&delivery.data)?;
                Ok(delivery)
            }
            None => Err("no consumer".into()),
        }
    }
}

fn confirmed(confirmation: &lapin::Confirmation) -> Result<()> {
    match confirmation.is_ack() {
        true => Ok(()),
        false => Err("RabbitMQ did not confirm a message".into()),
    }
}

impl Session for Worker {
    async fn publish(&mut self) -> Result<()> {
        confirmed(&self.send().await?.await?)
    }

    async fn publish_batch(&mut self) -> Result<()> {
        let mut confirms = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            confirms.push(self.send().await?);
        }
        for confirm in confirms {
            confirmed(&confirm.await?)?;
        }
        Ok(())
    }

    async fn take(&mut self) -> Result<bool> {
        let got = self
            .channel
            .basic_get(QUEUE.into(), BasicGetOptions::default())
            .await?;
        let Some(message) = got else {
            return Ok(false);
        };
        whole(&message.delivery.data)?;
        self.ack(message.delivery.delivery_tag, false).await?;
        Ok(true)
    }

    async fn take_batch(&mut self) -> Result<u64> {
        let (mut taken, mut last) = (0, 0);
        while taken < BATCH as u64 {
            match timeout(DRY, self.next()).await {
                Ok(delivery) => last = delivery?.delivery_tag,
                Err(_) => break,
            }
            taken += 1;
        }
        if taken > 0 {
            self.ack(last, true).await?;
        }
        Ok(taken)
    }

    async fn receive(&mut self) -> Result<Instant> {
        let delivery = self.next().await?;
        let seen = Instant::now();
        self.ack(delivery.delivery_tag, false).await?;
        Ok(seen)
    }

    async fn close(self) -> Result<()> {
        // 200 is what AMQP calls a normal end.
        self.connection.close(200, "done".into()).await?;
        Ok(())
    }
}
