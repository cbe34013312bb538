//! The stage: connection, schema `shop`, queue `orders`. What an earlier run left is replaced,
//! what somebody else made is left alone: the comment on an object tells whose it is.

use crate::trouble::{Result, Trouble};
use tokio_postgres::{Client, NoTls, Transaction};

const MARK: &str = "Made by pg_broker_demo, which replaces it at its next run";

pub fn dsn() -> Result<String> {
    std::env::var("PGB_DSN")
        .ok()
        .filter(|dsn| !dsn.is_empty())
        .ok_or_else(|| {
            Trouble::new(
                "PGB_DSN is not set: it names a database that has pg_broker, for example\n  \
             PGB_DSN=postgresql://postgres@127.0.0.1:5432/mq pg_broker_demo\n\
             or let `make demo` prepare everything",
            )
        })
}

pub async fn connect(name: &str) -> Result<Client> {
    let mut config: tokio_postgres::Config = dsn()?
        .parse()
        .map_err(|error| Trouble::new(format!("PGB_DSN: {error}")))?;
    config.application_name(format!("pg_broker demo: {name}"));
    let (client, connection) = config
        .connect(NoTls)
        .await
        .map_err(|error| Trouble::new(format!("cannot connect: {}", Trouble::from(error))))?;
    // A connection that breaks shows as the error of the next call on its client.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Options of the queue that set the story's pace, as SQL intervals.
pub struct Pace {
    pub visibility: &'static str,
    pub backoff: &'static str,
}

pub async fn prepare(client: &mut Client, pace: &Pace) -> Result<()> {
    require_extension(client).await?;
    // Held by the session, so it goes when the demo does, however it ends.
    let sql = "SELECT pg_try_advisory_lock(hashtext('pg_broker_demo'))";
    if !client.query_one(sql, &[]).await?.get::<_, bool>(0) {
        return Err(Trouble::new(
            "another pg_broker_demo is running in this database",
        ));
    }
    let transaction = client.transaction().await?;
    clear(&transaction).await?;
    build(&transaction, pace).await?;
    Ok(transaction.commit().await?)
}

async fn require_extension(client: &Client) -> Result<()> {
    let sql = "SELECT 1 FROM pg_extension WHERE extname = 'pg_broker'";
    match client.query_opt(sql, &[]).await? {
        Some(_) => Ok(()),
        None => Err(Trouble::new(
            "this database does not have pg_broker yet: run\n  CREATE EXTENSION pg_broker;",
        )),
    }
}

async fn clear(transaction: &Transaction<'_>) -> Result<()> {
    let sql = "SELECT obj_description(oid, 'pg_namespace') IS NOT DISTINCT FROM $1
               FROM pg_namespace WHERE nspname = 'shop'";
    match transaction
        .query_opt(sql, &[&MARK])
        .await?
        .map(|row| row.get::<_, bool>(0))
    {
        None => {}
        Some(true) => {
            transaction
                .batch_execute("DROP SCHEMA shop CASCADE")
                .await?
        }
        Some(false) => return Err(not_ours("a schema `shop`", "")),
    }
    // In this order: a queue is not dropped while it is another's dead-letter queue.
    for queue in ["orders", "orders_dead"] {
        let sql = "SELECT obj_description(c.oid, 'pg_class') IS NOT DISTINCT FROM $1
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = 'mq' AND c.relname = $2";
        match transaction
            .query_opt(sql, &[&MARK, &queue])
            .await?
            .map(|row| row.get::<_, bool>(0))
        {
            None => {}
            Some(true) => {
                transaction
                    .execute("SELECT mq.drop_queue($1)", &[&queue])
                    .await?;
            }
            Some(false) => {
                let advice = format!(
                    "\nIf it may go:  SELECT mq.drop_queue('{queue}');   \
                     to keep it:  SELECT mq.rename_queue('{queue}', 'new_name');"
                );
                return Err(not_ours(&format!("a queue `{queue}`"), &advice));
            }
        }
    }
    Ok(())
}

fn not_ours(what: &str, advice: &str) -> Trouble {
    Trouble::new(format!(
        "this database has {what} that is not this demo's, so it is left alone; \
         the demo needs that name: please point PGB_DSN at another database{advice}"
    ))
}

async fn build(transaction: &Transaction<'_>, pace: &Pace) -> Result<()> {
    // No unique constraint on shipments: a duplicate must show, not be prevented here.
    let sql = format!(
        "CREATE SCHEMA shop;
         COMMENT ON SCHEMA shop IS '{MARK}';
         CREATE TABLE shop.orders (
             id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             item      text NOT NULL,
             amount    numeric(8, 2) NOT NULL,
             placed_at timestamptz NOT NULL DEFAULT now());
         CREATE TABLE shop.shipments (
             order_id   bigint NOT NULL,
             worker     text NOT NULL,
             style      text NOT NULL,
             shipped_at timestamptz NOT NULL DEFAULT now());
         SELECT mq.create_queue('orders', visibility => '{}', max_failures => 3, backoff => '{}');
         COMMENT ON VIEW mq.orders IS '{MARK}';
         COMMENT ON VIEW mq.orders_dead IS '{MARK}';",
        pace.visibility, pace.backoff
    );
    Ok(transaction.batch_execute(&sql).await?)
}
