//! RabbitMQ's six tutorials: hello world, work queues, publish/subscribe, routing, topics, RPC.

use super::{next, work};
use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;
use crate::wake::waiting;

tests![hello, work_queues, dropped_connection];

/// Tutorial 1: one program sends "Hello World!" to a queue, another prints what comes; it does not
/// matter which is started first.
async fn hello(cx: Cx) {
    let (sender, receiver) = (cx.connect().await, cx.connect().await);
    sender.run("SELECT mq.create_queue('hello')").await;
    let send = "SELECT mq.send_text('hello', 'Hello World!')";
    sender.run(send).await;
    assert_eq!(next(&receiver, "hello").await, "Hello World!");
    let receive = "SELECT body #>> '{}' FROM mq.read('hello', wait => '20 s')";
    let (_, received) = waiting(&cx, receive).await;
    sender.run(send).await;
    assert_eq!(received.await.unwrap().unwrap(), "Hello World!");
}

const TASKS: [&str; 5] = [
    "First message.",
    "Second message..",
    "Third message...",
    "Fourth message....",
    "Fifth message.....",
];

async fn task_queue(cx: &Cx) -> (Conn, Conn, Conn) {
    let boss = cx.connect().await;
    boss.run("SELECT mq.create_queue('task_queue', visibility => '1 hour')")
        .await;
    for task in TASKS {
        boss.run(&format!("SELECT mq.send_text('task_queue', '{task}')"))
            .await;
    }
    (boss, cx.connect().await, cx.connect().await)
}

/// Takes the next task in a transaction that stays open.
async fn begin(worker: &Conn) -> String {
    worker.run("BEGIN").await;
    next(worker, "task_queue").await
}

/// Tutorial 2: two workers take turns over five tasks, one at a time each. One is killed in the middle
/// of the fourth: the other, who was waiting for work, is given it at once, and nothing is lost.
async fn work_queues(cx: Cx) {
    let (boss, one, two) = task_queue(&cx).await;
    assert_eq!(begin(&one).await, TASKS[0]);
    assert_eq!(begin(&two).await, TASKS[1]);
    one.run("COMMIT").await;
    assert_eq!(begin(&one).await, TASKS[2]);
    two.run("COMMIT").await;
    assert_eq!(begin(&two).await, TASKS[3]);
    one.run("COMMIT").await;
    assert_eq!(begin(&one).await, TASKS[4]);
    one.run("COMMIT").await;
    let (_, survivor) = waiting(&cx, &work("task_queue", "true")).await;
    boss.run(&format!("SELECT pg_terminate_backend({})", two.pid))
        .await;
    assert_eq!(survivor.await.unwrap().unwrap(), TASKS[3]);
    assert_eq!(boss.int("SELECT count(*) FROM mq.task_queue").await, 0);
}

/// Tutorial 2: who keeps no transaction open while it works has a lease. When its connection is
/// dropped, the task comes back when the lease ends (not at once, as with RabbitMQ), marked as handed
/// out before.
async fn dropped_connection(cx: Cx) {
    let (boss, one, two) = task_queue(&cx).await;
    let lost = two.hand("'task_queue', visibility => '300 ms'").await;
    drop(two);
    let mut done = Vec::new();
    while done.len() < TASKS.len() {
        let hand = one.hand("'task_queue', wait => '20 s'").await;
        assert_eq!(hand.attempts, if hand.id == lost.id { 2 } else { 1 });
        assert!(one.settle("ack", "task_queue", &hand).await);
        done.push(hand.id);
    }
    assert_eq!(done.iter().filter(|id| **id == lost.id).count(), 1);
    assert_eq!(boss.int("SELECT count(*) FROM mq.task_queue").await, 0);
}
