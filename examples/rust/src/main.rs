//! The outbox and its worker in Rust, with tokio-postgres.
//!
//! ```sh
//! PGB_DSN=postgresql://… cargo run -p pg_broker_example
//! ```
//!
//! Ends by itself when its messages are done; exits non-zero if something is wrong.

use serde_json::{Value, json};
use std::error::Error;
use tokio_postgres::{Client, NoTls, Row};

const QUEUE: &str = "example_rust";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let dsn = std::env::var("PGB_DSN")
        .or_else(|_| std::env::var("DATABASE_URL"))
        .map_err(|_| "set PGB_DSN to a database that has pg_broker")?;
    // One connection for the shop, one for the worker.
    let mut shop = connect(&dsn).await?;
    let mut worker = connect(&dsn).await?;
    set_up(&shop).await?;
    // Both at once: the worker wakes at each commit of the shop.
    tokio::try_join!(take_orders(&mut shop), work(&mut worker))?;
    check(&shop).await?;
    clean_up(&shop).await
}

async fn connect(dsn: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("connection: {error}");
        }
    });
    Ok(client)
}

async fn set_up(db: &Client) -> Result<()> {
    clean_up(db).await?;
    db.batch_execute(
        "CREATE SCHEMA example_rust;
         CREATE TABLE example_rust.orders
             (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text);
         CREATE TABLE example_rust.shipments (order_id bigint PRIMARY KEY, worker text)",
    )
    .await?;
    // tokio-postgres has no interval: give seconds to make_interval, or write one in the SQL. A
    // message that fails waits 0.3 s, then 1 s; the fifth failure moves it to example_rust_dead,
    // which is made along with the queue.
    let sql = "SELECT mq.create_queue($1, visibility => make_interval(secs => $2),
                                      max_failures => $3, backoff => '{0.3 s, 1 s}')";
    db.execute(sql, &[&QUEUE, &30.0, &5]).await?;
    Ok(())
}

async fn take_orders(db: &mut Client) -> Result<()> {
    order_something(db, "tea", None, None, true).await?;
    order_something(db, "honey", Some(json!({"fails": 1})), None, true).await?;
    order_something(db, "lemons", None, Some(0.5), true).await?;
    order_something(db, "a yacht", None, None, false).await
}

/// The outbox: the order and its event are one transaction. Both are there, or neither.
async fn order_something(
    db: &mut Client,
    item: &str,
    headers: Option<Value>,
    delay: Option<f64>,
    card_is_good: bool,
) -> Result<()> {
    let transaction = db.transaction().await?;
    let sql = "INSERT INTO example_rust.orders (item) VALUES ($1) RETURNING id";
    let order: i64 = transaction.query_one(sql, &[&item]).await?.get(0);
    // Parameters need no casts: no function of mq has a second one of the same name, so the
    // server knows each type. None is NULL, and NULL is the default.
    let sql = "SELECT mq.send($1, $2, headers => $3, delay => make_interval(secs => $4))";
    let message: i64 = transaction
        .query_one(sql, &[&QUEUE, &json!({"order": order}), &headers, &delay])
        .await?
        .get(0);
    if card_is_good {
        transaction.commit().await?;
        println!("order {order} is committed, its event is message {message}");
    } else {
        transaction.rollback().await?;
        println!("the card for {item} was declined: order and event are rolled back");
    }
    Ok(())
}

/// The worker loop. A real one would have no end; this one stops after 2 idle seconds.
async fn work(db: &mut Client) -> Result<()> {
    loop {
        // Up to 10 messages, each ours for 30 seconds (the queue's visibility).
        let messages = db
            .query("SELECT * FROM mq.read($1, qty => $2)", &[&QUEUE, &10])
            .await?;
        for message in &messages {
            handle(db, message).await?;
        }
        if messages.is_empty() {
            // Sleeps until a message may be ready: at a sender's commit, or at the end of a delay
            // or a backoff. Not inside a transaction, where it is refused.
            let sql = "CALL mq.wait($1, make_interval(secs => $2))";
            let ready: bool = db.query_one(sql, &[&QUEUE, &2.0]).await?.get("ready");
            if !ready {
                return Ok(());
            }
        }
    }
}

async fn handle(db: &mut Client, message: &Row) -> Result<()> {
    let (id, receipt): (i64, i64) = (message.get("id"), message.get("receipt"));
    let order = message.get::<_, Value>("body")["order"]
        .as_i64()
        .ok_or("no order in the body")?;
    match find_carrier(message) {
        Ok(carrier) => {
            // The effect and the ack are one transaction: the order ships exactly once. The
            // receipt names this hand-out; had our lease ended and another worker got the
            // message, the ack would be false: then roll back, it is the other's.
            let transaction = db.transaction().await?;
            let sql = "INSERT INTO example_rust.shipments VALUES ($1, $2)";
            transaction.execute(sql, &[&order, &carrier]).await?;
            let sql = "SELECT mq.ack($1, $2, $3)";
            if transaction
                .query_one(sql, &[&QUEUE, &id, &receipt])
                .await?
                .get(0)
            {
                transaction.commit().await?;
                println!("order {order} is shipped");
            } else {
                transaction.rollback().await?;
                println!("order {order} has gone to another worker");
            }
        }
        Err(reason) => {
            // Failed: back to the queue, to be tried again after its backoff. The reason stays
            // with the message, as last_error.
            let sql = "SELECT mq.nack($1, $2, $3, reason => $4)";
            db.execute(sql, &[&QUEUE, &id, &receipt, &reason]).await?;
            println!("order {order} failed, it will be tried again: {reason}");
        }
    }
    Ok(())
}

fn find_carrier(message: &Row) -> std::result::Result<&'static str, &'static str> {
    let headers: Option<Value> = message.get("headers");
    let fails = headers
        .and_then(|headers| headers["fails"].as_i64())
        .unwrap_or(0);
    let failures: i32 = message.get("failures");
    if i64::from(failures) < fails {
        Err("no carrier answers")
    } else {
        Ok("rust")
    }
}

async fn check(db: &Client) -> Result<()> {
    let sql = "SELECT ARRAY(SELECT id FROM example_rust.orders ORDER BY id),
                      ARRAY(SELECT order_id FROM example_rust.shipments ORDER BY order_id),
                      ARRAY(SELECT id FROM mq.example_rust
                            UNION ALL SELECT id FROM mq.example_rust_dead)";
    let row = db.query_one(sql, &[]).await?;
    let (orders, shipped, left): (Vec<i64>, Vec<i64>, Vec<i64>) =
        (row.get(0), row.get(1), row.get(2));
    if orders.len() != 3 || orders != shipped || !left.is_empty() {
        let text = format!("wrong: orders {orders:?}, shipped {shipped:?}, messages left {left:?}");
        return Err(text.into());
    }
    println!("every order is shipped, the queue is empty");
    Ok(())
}

async fn clean_up(db: &Client) -> Result<()> {
    db.batch_execute("DROP SCHEMA IF EXISTS example_rust CASCADE")
        .await?;
    // The dead-letter queue goes last: it cannot while a queue names it.
    for queue in [QUEUE, "example_rust_dead"] {
        db.execute("SELECT mq.drop_queue($1, if_exists => true)", &[&queue])
            .await?;
    }
    Ok(())
}
