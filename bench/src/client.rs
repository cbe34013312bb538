//! One worker's connection: the statements of its side, prepared, and calls that cost the client
//! as little as possible and the same on every side.

use pg_broker_bench_common::pg::{Json, MESSAGE, connect};
use pg_broker_bench_common::{BATCH, BODY, Result};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::side::{Reply, Side};

/// What a read gave: enough to settle it.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub id: i64,
    pub receipt: i64,
}

pub struct Worker {
    client: Client,
    side: Side,
    send: Statement,
    send_batch: Statement,
    read_one: Statement,
    read_many: Statement,
    ack: Statement,
    ack_batch: Statement,
    bodies: Vec<Json<'static>>,
}

impl Worker {
    pub async fn open(url: &str, side: Side, queue: &str) -> Result<Worker> {
        let client = connect(url).await?;
        client
            .batch_execute("SET statement_timeout = '120s'")
            .await?;
        client.batch_execute(side.session).await?;
        Ok(Worker {
            send: client.prepare(&side.sql(side.send, queue)).await?,
            send_batch: client.prepare(&side.sql(side.send_batch, queue)).await?,
            read_one: client.prepare(&side.read(queue, 1)).await?,
            read_many: client.prepare(&side.read(queue, BATCH)).await?,
            ack: client.prepare(&side.sql(side.ack, queue)).await?,
            ack_batch: client.prepare(&side.sql(side.ack_batch, queue)).await?,
            bodies: vec![MESSAGE; BATCH],
            client,
            side,
        })
    }

    pub fn side(&self) -> Side {
        self.side
    }

    pub async fn send(&self) -> Result<i64> {
        Ok(self
            .client
            .query_one(&self.send, &[&MESSAGE])
            .await?
            .try_get(0)?)
    }

    /// How many were sent, by the command tag.
    pub async fn send_batch(&self) -> Result<u64> {
        Ok(self
            .client
            .execute(&self.send_batch, &[&self.bodies])
            .await?)
    }

    pub async fn read_one(&self) -> Result<Option<Claim>> {
        let row = self.client.query_opt(&self.read_one, &[]).await?;
        row.as_ref().map(|row| self.claim(row)).transpose()
    }

    pub async fn read_many(&self, into: &mut Vec<Claim>) -> Result<()> {
        into.clear();
        for row in self.client.query(&self.read_many, &[]).await? {
            into.push(self.claim(&row)?);
        }
        Ok(())
    }

    fn claim(&self, row: &tokio_postgres::Row) -> Result<Claim> {
        let Json(body) = row.try_get(1)?;
        if body.len() < BODY.len() {
            return Err(format!("{}: a body came back short", self.side.name).into());
        }
        let receipt = if self.side.fenced { row.try_get(2)? } else { 0 };
        Ok(Claim {
            id: row.try_get(0)?,
            receipt,
        })
    }

    pub async fn ack(&self, claim: Claim) -> Result<bool> {
        let fenced: [&(dyn ToSql + Sync); 2] = [&claim.id, &claim.receipt];
        let values = if self.side.fenced {
            &fenced[..]
        } else {
            &fenced[..1]
        };
        match self.side.reply {
            Reply::Flag => Ok(self.client.query_one(&self.ack, values).await?.try_get(0)?),
            Reply::Tag => Ok(self.client.execute(&self.ack, values).await? == 1),
        }
    }

    /// How many of them were settled.
    pub async fn ack_batch(&self, claims: &[Claim]) -> Result<u64> {
        let ids: Vec<i64> = claims.iter().map(|claim| claim.id).collect();
        let receipts: Vec<i64> = claims.iter().map(|claim| claim.receipt).collect();
        let fenced: [&(dyn ToSql + Sync); 2] = [&ids, &receipts];
        let values = if self.side.fenced {
            &fenced[..]
        } else {
            &fenced[..1]
        };
        Ok(self.client.execute(&self.ack_batch, values).await?)
    }
}
