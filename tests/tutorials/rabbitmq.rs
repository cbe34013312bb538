//! RabbitMQ's six tutorials: hello world, work queues, publish/subscribe, routing, topics, RPC.

use super::{drain, next, send_home, texts, together, work, workers};
use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::tests;
use crate::wake::waiting;

tests![
    hello,
    work_queues,
    dropped_connection,
    publish_subscribe,
    routing,
    topics,
    rpc
];

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

/// Publishes with a key; returns how many queues it reached.
async fn publish(c: &Conn, exchange: &str, key: &str, text: &str) -> i64 {
    c.int(&format!(
        "SELECT mq.publish_text('{exchange}', '{key}', '{text}')"
    ))
    .await
}

/// Tutorial 3: a log exchange, and two receivers with a queue of their own each. Both get every line
/// from the moment on when they began to listen; lines that nobody listens to are lost.
async fn publish_subscribe(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_exchange('logs', 'fanout')").await;
    assert_eq!(publish(&c, "logs", "", "info: nobody hears this").await, 0);
    for (n, receiver) in ["screen", "disk"].into_iter().enumerate() {
        c.run(&format!(
            "SELECT mq.create_queue('{receiver}', durable => false), mq.bind('logs', '{receiver}')"
        ))
        .await;
        let line = format!("info: line {n}");
        assert_eq!(publish(&c, "logs", "", &line).await, n as i64 + 1);
    }
    let insert = "INSERT INTO mq.logs (body) VALUES ('\"info: line 2\"') RETURNING queues";
    assert_eq!(c.int(insert).await, 2, "INSERT publishes as well");
    assert_eq!(
        drain(&c, "screen").await,
        ["info: line 0", "info: line 1", "info: line 2"]
    );
    assert_eq!(drain(&c, "disk").await, ["info: line 1", "info: line 2"]);
}

/// Tutorial 4: lines by severity. One queue takes only errors, the other everything from info on;
/// nobody takes what is below, and who must know of that says `mandatory`.
async fn routing(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_exchange('direct_logs', 'direct'), mq.create_queue('disk'), \
         mq.create_queue('screen'); SELECT mq.bind('direct_logs', 'disk', 'error'); \
         SELECT mq.bind('direct_logs', 'screen', s) FROM unnest('{info, warning, error}'::text[]) s",
    )
    .await;
    for (severity, reached) in [("info", 1), ("warning", 1), ("error", 2), ("debug", 0)] {
        assert_eq!(
            publish(&c, "direct_logs", severity, severity).await,
            reached
        );
    }
    assert_eq!(drain(&c, "disk").await, ["error"]);
    assert_eq!(drain(&c, "screen").await, ["info", "warning", "error"]);
    let mandatory = "SELECT mq.publish_text('direct_logs', 'debug', 'x', mandatory => true)";
    c.refused(mandatory, "P0002").await;
}

/// Tutorial 5: animals as `speed.colour.species`. Q1 wants the orange ones; Q2 everything about
/// rabbits, and everything about lazy animals. Who matches twice is delivered once.
async fn topics(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_exchange('animals', 'topic'), mq.create_queue('Q1'), \
         mq.create_queue('Q2'); SELECT mq.bind('animals', 'Q1', '*.orange.*'), \
         mq.bind('animals', 'Q2', '*.*.rabbit'), mq.bind('animals', 'Q2', 'lazy.#')",
    )
    .await;
    for (key, reached) in [
        ("quick.orange.rabbit", "Q1 Q2"),
        ("lazy.orange.elephant", "Q1 Q2"),
        ("quick.orange.fox", "Q1"),
        ("lazy.brown.fox", "Q2"),
        ("lazy.pink.rabbit", "Q2"),
        ("quick.brown.fox", ""),
        ("orange", ""),
        ("quick.orange.new.rabbit", ""),
        ("lazy.orange.new.rabbit", "Q2"),
    ] {
        let queues: Vec<_> = reached.split_whitespace().collect();
        assert_eq!(publish(&c, "animals", key, key).await, queues.len() as i64);
        for queue in ["Q1", "Q2"] {
            let got = texts(
                &c,
                &format!("SELECT headers->>'x-key' FROM mq.pop('{queue}', 10)"),
            )
            .await;
            let expected = vec![key; usize::from(queues.contains(&queue))];
            assert_eq!(got, expected, "{key} in {queue}");
        }
    }
}

/// Tutorial 6: a server computes Fibonacci numbers; clients call it, and each gets the answer to its
/// own question.
async fn rpc(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "CREATE FUNCTION fib(n int) RETURNS bigint LANGUAGE sql AS $$ \
         WITH RECURSIVE f(i, a, b) AS (SELECT 0, 0::bigint, 1::bigint UNION ALL \
         SELECT i + 1, b, a + b FROM f WHERE i < n) SELECT a FROM f WHERE i = n $$; \
         SELECT mq.create_queue('rpc_queue')",
    )
    .await;
    let answer = "mq.reply(m, to_jsonb(fib(m.body::int)))";
    let server = workers(&cx, 1, &work("rpc_queue", answer));
    let call = |n: u32| format!("CALL mq.request('rpc_queue', '{n}', timeout => '20 s')");
    assert_eq!(c.int(&call(30)).await, 832_040);
    let mut clients = Vec::new();
    for (n, fib) in [(1, 1), (10, 55), (20, 6765), (30, 832_040)] {
        let (cx, call) = (cx.clone(), call(n));
        clients.push(spawn(async move {
            let c = cx.connect().await;
            for _ in 0..5 {
                assert_eq!(c.int(&call).await, fib);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(together(send_home(&c, "rpc_queue", server).await).len(), 21);
}
