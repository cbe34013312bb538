//! pg_broker, over tokio-postgres with prepared statements.

use std::time::Instant;

use pg_broker_bench_common::pg::{Json, MESSAGE, connect};
use pg_broker_bench_common::report::Party;
use pg_broker_bench_common::{BATCH, Result};
use tokio_postgres::{Client, Row, Statement};

use crate::side::{QUEUE, Session, Side, whole};

pub struct Ours {
    url: String,
    /// Whether a commit waits for the disk.
    synced: bool,
}

pub struct Worker {
    client: Client,
    bodies: Vec<Json<'static>>,
    send: Statement,
    send_batch: Statement,
    read: Statement,
    read_batch: Statement,
    ack: Statement,
    ack_batch: Statement,
    read_waiting: Statement,
}

impl Ours {
    pub fn new(url: &str, synced: bool) -> Ours {
        Ours {
            url: url.into(),
            synced,
        }
    }
}

impl Side for Ours {
    type Session = Worker;

    const PARTY: Party = Party {
        name: "ours",
        title: "pg_broker",
    };

    async fn about(&self) -> Result<String> {
        let row = connect(&self.url)
            .await?
            .query_one(
                "SELECT mq.version()::text, current_setting('server_version'), \
                        current_setting('fsync'), current_setting('shared_buffers')",
                &[],
            )
            .await?;
        Ok(format!(
            "pg_broker {} on PostgreSQL {}, fsync={}, shared_buffers={}",
            row.try_get::<_, &str>(0)?,
            row.try_get::<_, &str>(1)?,
            row.try_get::<_, &str>(2)?,
            row.try_get::<_, &str>(3)?
        ))
    }

    async fn reset(&self) -> Result<()> {
        self.remove().await?;
        let client = connect(&self.url).await?;
        client
            .execute("SELECT mq.create_queue($1)", &[&QUEUE])
            .await?;
        // What one round leaves must not be another's to clean up.
        client.batch_execute("CHECKPOINT").await?;
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        connect(&self.url)
            .await?
            .execute("SELECT mq.drop_queue($1, if_exists => true)", &[&QUEUE])
            .await?;
        Ok(())
    }

    async fn count(&self) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM mq.{QUEUE}");
        let row = connect(&self.url).await?.query_one(&sql, &[]).await?;
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }

    async fn open(&self) -> Result<Worker> {
        let client = connect(&self.url).await?;
        let setting = if self.synced { "on" } else { "off" };
        client
            .batch_execute(&format!("SET synchronous_commit = {setting}"))
            .await?;
        let read = |how: &str| format!("SELECT id, body, receipt FROM mq.read('{QUEUE}', {how})");
        let call = |name, arguments| format!("SELECT mq.{name}('{QUEUE}', {arguments})");
        Ok(Worker {
            send: client.prepare(&call("send", "$1::jsonb")).await?,
            send_batch: client.prepare(&call("send_batch", "$1::jsonb[]")).await?,
            read: client.prepare(&read("1")).await?,
            read_batch: client.prepare(&read(&BATCH.to_string())).await?,
            ack: client
                .prepare(&call("ack", "$1::bigint, $2::bigint"))
                .await?,
            ack_batch: client
                .prepare(&call("ack_batch", "$1::bigint[], $2::bigint[]"))
                .await?,
            read_waiting: client.prepare(&read("1, wait => interval '10 s'")).await?,
            bodies: vec![MESSAGE; BATCH],
            client,
        })
    }
}

fn claim(row: &Row) -> Result<(i64, i64)> {
    let Json(body) = row.try_get(1)?;
    whole(body)?;
    Ok((row.try_get(0)?, row.try_get(2)?))
}

impl Worker {
    async fn settle(&self, row: &Row) -> Result<()> {
        let (id, receipt) = claim(row)?;
        let acked = self.client.query_one(&self.ack, &[&id, &receipt]).await?;
        match acked.try_get(0)? {
            true => Ok(()),
            false => Err(format!("the ack of message {id} was refused").into()),
        }
    }
}

impl Session for Worker {
    async fn publish(&mut self) -> Result<()> {
        self.client.execute(&self.send, &[&MESSAGE]).await?;
        Ok(())
    }

    async fn publish_batch(&mut self) -> Result<()> {
        self.client
            .execute(&self.send_batch, &[&self.bodies])
            .await?;
        Ok(())
    }

    async fn take(&mut self) -> Result<bool> {
        match self.client.query_opt(&self.read, &[]).await? {
            Some(row) => self.settle(&row).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn take_batch(&mut self) -> Result<u64> {
        let rows = self.client.query(&self.read_batch, &[]).await?;
        let claims: Vec<(i64, i64)> = rows.iter().map(claim).collect::<Result<_>>()?;
        if claims.is_empty() {
            return Ok(0);
        }
        let (ids, receipts): (Vec<i64>, Vec<i64>) = claims.into_iter().unzip();
        Ok(self
            .client
            .execute(&self.ack_batch, &[&ids, &receipts])
            .await?)
    }

    async fn receive(&mut self) -> Result<Instant> {
        loop {
            if let Some(row) = self.client.query_opt(&self.read_waiting, &[]).await? {
                let seen = Instant::now();
                self.settle(&row).await?;
                return Ok(seen);
            }
        }
    }

    async fn close(self) -> Result<()> {
        Ok(())
    }
}
