//! ActiveMQ's hello world and features: many producers and consumers, virtual topics, selectors,
//! scheduled delivery, redelivery and its dead-letter queue.

use super::{drain, next, together};
use crate::harness::{Cx, spawn};
use crate::tests;

tests![
    hello_world,
    scheduled_delivery,
    redelivery,
    redelivery_of_rollbacks
];

/// Twelve producers with one message each and twelve consumers that take one, all started in no
/// order, as threads: each consumer gets one, and no two get the same.
async fn hello_world(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('TEST.FOO')").await;
    let (mut producers, mut consumers) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let (producer, consumer) = (cx.clone(), cx.clone());
        consumers.push(spawn(async move {
            vec![next(&consumer.connect().await, "TEST.FOO").await]
        }));
        producers.push(spawn(async move {
            let send = format!("SELECT mq.send_text('TEST.FOO', 'Hello world! From: {n:02}')");
            producer.connect().await.run(&send).await;
        }));
    }
    let mut got = Vec::new();
    for (producer, consumer) in producers.into_iter().zip(consumers) {
        producer.await.unwrap();
        got.push(consumer.await.unwrap());
    }
    let sent: Vec<_> = (0..12)
        .map(|n| format!("Hello world! From: {n:02}"))
        .collect();
    assert_eq!(together(got), sent);
    assert_eq!(drain(&c, "TEST.FOO").await, [""; 0]);
}

/// A message with `AMQ_SCHEDULED_DELAY` is handed out when its time has come, not before, and holds
/// up none that were sent after it.
async fn scheduled_delivery(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('TEST.FOO')").await;
    let send = "SELECT mq.send_text('TEST.FOO', 'test msg', delay => '700 ms')";
    let id = c.int(send).await;
    let due = c.text("SELECT visible_at FROM mq.\"TEST.FOO\"").await;
    c.run("SELECT mq.send_text('TEST.FOO', 'now')").await;
    assert_eq!(next(&c, "TEST.FOO").await, "now");
    let read =
        format!("SELECT id = {id} AND read_at >= '{due}' FROM mq.read('TEST.FOO', wait => '20 s')");
    assert!(c.yes(&read).await);
    c.run("SELECT mq.send_text('TEST.FOO', 'never mind', delay => '1 hour')")
        .await;
    let cancel = "DELETE FROM mq.\"TEST.FOO\" WHERE body = '\"never mind\"' RETURNING state";
    assert_eq!(
        c.text(cancel).await,
        "delayed",
        "a scheduled one can be removed"
    );
}

/// ActiveMQ redelivers six times, then moves the message to `ActiveMQ.DLQ`, which queues may share.
/// Here all failures are counted, the first delivery's too: that is `max_failures => 7`.
const POLICY: &str = "SELECT mq.create_queue('ActiveMQ.DLQ'); \
     SELECT mq.create_queue('TEST.FOO', max_failures => 7, dead_letter => 'ActiveMQ.DLQ', \
                            backoff => '{5 ms, 10 ms, 20 ms, 40 ms}')";
const REDELIVERIES: i64 = 6;

const DEAD: &str = "SELECT concat_ws(' ', body #>> '{}', headers->'x-death'->0->>'reason', \
     headers->'x-death'->0->>'queue', headers->'x-death'->0->>'failures') FROM mq.\"ActiveMQ.DLQ\"";

/// A consumer gives a message back as failed, with a growing delay between the redeliveries.
async fn redelivery(cx: Cx) {
    let c = cx.connect().await;
    c.run(POLICY).await;
    c.run("SELECT mq.send_text('TEST.FOO', 'poison')").await;
    for redelivered in 0..=REDELIVERIES {
        let hand = c.hand("'TEST.FOO', wait => '20 s'").await;
        assert_eq!(
            (hand.attempts, hand.failures),
            (redelivered + 1, redelivered)
        );
        assert!(c.settle("nack", "TEST.FOO", &hand).await);
    }
    assert_eq!(c.text(DEAD).await, "poison failures TEST.FOO 7");
    assert_eq!(drain(&c, "TEST.FOO").await, [""; 0]);
}

/// The same with a transacted session that is rolled back.
async fn redelivery_of_rollbacks(cx: Cx) {
    let c = cx.connect().await;
    c.run(POLICY).await;
    c.run("SELECT mq.send_text('TEST.FOO', 'poison')").await;
    for redelivered in 0..=REDELIVERIES {
        c.run("BEGIN").await;
        let hand = c.hand("'TEST.FOO', wait => '20 s'").await;
        assert_eq!(hand.failures, redelivered);
        c.run("ROLLBACK").await;
    }
    assert_eq!(c.hands("'TEST.FOO'").await, []);
    c.run("SELECT mq.maintain('TEST.FOO')").await;
    assert_eq!(c.text(DEAD).await, "poison failures TEST.FOO 7");
}
