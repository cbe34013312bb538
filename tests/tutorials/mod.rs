//! What other systems' tutorials show, told in this one's SQL: one file for each system, one test
//! for each scenario, with the names, numbers and outcomes that its users know.
//!
//! The scenarios are retold, not copied. Where this system answers differently on purpose, the
//! test's comment says so. Here is what several of them share: workers, and what they run.

mod activemq;
mod nats;
mod rabbitmq;
mod rocketmq;
mod zeromq;

use crate::conn::Conn;
use crate::harness::{Cx, Test, spawn};
use tokio::task::JoinHandle;

pub fn tests() -> Vec<Test> {
    let systems = [
        rabbitmq::tests(),
        activemq::tests(),
        rocketmq::tests(),
        nats::tests(),
        zeromq::tests(),
    ];
    systems.into_iter().flatten().collect()
}

/// Tells a worker to go home.
const END: &str = "end";

/// What a worker runs for each message: waits for the next one, does `work` (an expression over the
/// message `m`) and acks it, all in one transaction. Says what it took. A worker that dies on the way
/// has done nothing of it, and the message is there for the next.
fn work(queue: &str, work: &str) -> String {
    format!(
        "SELECT m.body #>> '{{}}', CASE WHEN m.body <> '\"{END}\"' THEN ({work}) END, \
         mq.ack(m.queue, m.id, m.receipt) FROM mq.read('{queue}', wait => '20 s') m"
    )
}

type Worker = JoinHandle<Vec<String>>;

/// Starts workers that run this (see `work`) until they are sent home; each returns what it took.
fn workers(cx: &Cx, how_many: usize, run: &str) -> Vec<Worker> {
    let worker = |_| {
        let (cx, run) = (cx.clone(), run.to_string());
        spawn(async move {
            let (c, mut took) = (cx.connect().await, Vec::new());
            loop {
                for body in texts(&c, &run).await {
                    if body == END {
                        return took;
                    }
                    took.push(body);
                }
            }
        })
    };
    (0..how_many).map(worker).collect()
}

/// Waits until so many workers wait for something to do.
async fn until_waiting(c: &Conn, how_many: usize) {
    c.until(&format!(
        "SELECT count(*) = {how_many} FROM pg_stat_activity WHERE state = 'active' \
         AND wait_event IS NOT NULL AND query LIKE '%FROM mq.read(%' \
         AND datname = current_database() AND pid <> pg_backend_pid()"
    ))
    .await;
}

/// Sends workers home once they have done everything before, and returns what each took.
async fn send_home(c: &Conn, queue: &str, workers: Vec<Worker>) -> Vec<Vec<String>> {
    for _ in &workers {
        c.send(queue, format!("\"{END}\"")).await;
    }
    let mut took = Vec::new();
    for worker in workers {
        took.push(worker.await.unwrap());
    }
    took
}

/// The next message of a queue, for which it waits: its text.
async fn next(c: &Conn, queue: &str) -> String {
    c.text(&work(queue, "true")).await
}

/// Everything that is in a queue now, taken out: the texts, in order.
async fn drain(c: &Conn, queue: &str) -> Vec<String> {
    texts(
        c,
        &format!("SELECT body #>> '{{}}' FROM mq.pop('{queue}', 10000)"),
    )
    .await
}

/// The first column.
async fn texts(c: &Conn, sql: &str) -> Vec<String> {
    let text = |row: Vec<Option<String>>| row.into_iter().next().flatten().unwrap_or_default();
    c.rows(sql).await.into_iter().map(text).collect()
}

/// What several took, together and sorted.
fn together(took: Vec<Vec<String>>) -> Vec<String> {
    let mut all: Vec<_> = took.into_iter().flatten().collect();
    all.sort();
    all
}
