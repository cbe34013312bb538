//! One worker's connection: the statements of its side, prepared, and calls that cost the client
//! as little as possible and the same on every side.

use std::error::Error as StdError;

use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut};
use tokio_postgres::{Client, NoTls, Statement};

use crate::Result;
use crate::side::{Reply, Side};

/// How many messages a batch has.
pub const BATCH: usize = 100;

/// 120 bytes of JSON, as an order's event might look.
pub const BODY: &str = "{\"order\": 4711, \"event\": \"paid\", \"customer\": \"c-0123\", \
                        \"amount\": 129.95, \"currency\": \"EUR\", \"note\": \"leave at the door\"}";

const _: () = assert!(BODY.len() == 120);

/// A `jsonb` that goes out and comes in as its bytes: nobody measures a JSON parser here.
#[derive(Debug, Clone, Copy)]
pub struct Json<'a>(pub &'a [u8]);

impl ToSql for Json<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&[1]);
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'a> FromSql<'a> for Json<'a> {
    fn from_sql(
        _: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Json(raw.get(1..).unwrap_or_default()))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

pub const MESSAGE: Json<'static> = Json(BODY.as_bytes());

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

/// A connection, served by a task of its own.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("bench: connection lost: {error}");
        }
    });
    Ok(client)
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

    pub async fn send(&self) -> Result<i64> {
        Ok(self
            .client
            .query_one(&self.send, &[&MESSAGE])
            .await?
            .try_get(0)?)
    }

    /// How many ids came back.
    pub async fn send_batch(&self) -> Result<u64> {
        Ok(self
            .client
            .query(&self.send_batch, &[&self.bodies])
            .await?
            .len() as u64)
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
