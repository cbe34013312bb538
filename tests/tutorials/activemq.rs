//! ActiveMQ's hello world and features: many producers and consumers, virtual topics, selectors,
//! scheduled delivery, redelivery and its dead-letter queue, message groups.

use super::{drain, next, send_home, texts, together, work, workers};
use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::tests;
use crate::wake::waiting;
use std::time::{Duration, Instant};

tests![
    hello_world,
    scheduled_delivery,
    redelivery,
    redelivery_of_rollbacks,
    virtual_topic,
    selector,
    selector_of_a_consumer,
    exclusive_consumer,
    message_groups,
    a_group_moves_on
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

/// A virtual topic with two applications: each has a queue of its own and gets all hundred messages;
/// A has two workers, who share them, and B has one.
async fn virtual_topic(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_exchange('VirtualTopic.Orders', 'fanout')")
        .await;
    let mut applications = Vec::new();
    for (name, how_many) in [("A", 2), ("B", 1)] {
        let queue = format!("Consumer.{name}.VirtualTopic.Orders");
        c.run(&format!(
            "SELECT mq.create_queue('{queue}'), mq.bind('VirtualTopic.Orders', '{queue}')"
        ))
        .await;
        let workers = workers(&cx, how_many, &work(&queue, "true"));
        applications.push((queue, workers));
    }
    let publish = "SELECT DISTINCT mq.publish('VirtualTopic.Orders', NULL, to_jsonb(n)) \
                   FROM generate_series(100, 199) n";
    assert_eq!(c.ints(publish).await, [2], "each message reaches both");
    let all: Vec<_> = (100..200).map(|n| n.to_string()).collect();
    for (queue, workers) in applications {
        let took = send_home(&c, &queue, workers).await;
        if let [single] = took.as_slice() {
            assert_eq!(*single, all, "one consumer has the order of the sends");
        }
        assert_eq!(together(took), all, "{queue}");
    }
}

/// A consumer with the selector `type = 'car' AND color = 'blue' AND weight > 2500`: as a condition
/// of the binding, over headers as with JMS, or over the body. What lacks a property is not selected.
async fn selector(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_exchange('vehicles', 'fanout'), mq.create_queue('all'), mq.bind('vehicles', 'all')")
        .await;
    for part in ["headers", "body"] {
        c.run(&format!(
            "SELECT mq.create_queue('by_{part}'), mq.bind('vehicles', 'by_{part}', filter => \
             '$.{part}.type == \"car\" && $.{part}.color == \"blue\" && $.{part}.weight > 2500')"
        ))
        .await;
    }
    let vehicles = "jsonb_build_object('type', type, 'color', color, 'weight', weight) AS vehicle \
                    FROM unnest('{car, truck}'::text[]) type, unnest('{blue, red}'::text[]) color, \
                    unnest('{2500, 2501, 3000}'::int[]) weight";
    let publish = |body: &str, headers: &str| {
        format!("SELECT mq.publish('vehicles', NULL, {body}, {headers}) FROM (SELECT {vehicles}) v")
    };
    c.run(&publish("'1'", "vehicle")).await;
    c.run(&publish("vehicle", "NULL")).await;
    c.run("SELECT mq.publish('vehicles', NULL, '2', '{\"type\": \"car\", \"color\": \"blue\"}')")
        .await;
    assert_eq!(drain(&c, "all").await.len(), 25);
    for part in ["headers", "body"] {
        let weights = format!(
            "SELECT concat_ws(' ', {part}->>'type', {part}->>'color', {part}->>'weight') \
             FROM mq.pop('by_{part}', 100) ORDER BY 1"
        );
        let selected = texts(&c, &weights).await;
        assert_eq!(selected, ["car blue 2501", "car blue 3000"], "{part}");
    }
}

/// The same selector on a consumer of a queue that others consume too: it gets what it selects, also
/// what comes while it waits, and leaves the rest to them.
async fn selector_of_a_consumer(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('VEHICLES')").await;
    let send = "SELECT mq.send('VEHICLES', to_jsonb(concat_ws(' ', type, color, weight)), \
                jsonb_build_object('type', type, 'color', color, 'weight', weight)) \
                FROM unnest('{car, truck}'::text[]) type, unnest('{blue, red}'::text[]) color, \
                unnest('{2500, 2501, 3000}'::int[]) weight";
    c.run(send).await;
    let selected = "SELECT body #>> '{}' FROM mq.read('VEHICLES', 10, wait => '20 s', filter => \
         '$.headers.type == \"car\" && $.headers.color == \"blue\" && $.headers.weight > 2500')";
    assert_eq!(
        texts(&c, selected).await,
        ["car blue 2501", "car blue 3000"]
    );
    let (_, consumer) = waiting(&cx, selected).await;
    for (color, weight) in [("red", 2600), ("blue", 2400), ("blue", 2600)] {
        c.run(&format!(
            "SELECT mq.send('VEHICLES', '\"car {color} {weight}\"', '{{\"type\": \"car\", \
             \"color\": \"{color}\", \"weight\": {weight}}}')"
        ))
        .await;
    }
    assert_eq!(consumer.await.unwrap().unwrap(), "car blue 2600");
    assert_eq!(drain(&c, "VEHICLES").await.len(), 12);
}

/// Of several consumers of `TEST.QUEUE?consumer.exclusive=true` one gets all messages, in order; when it
/// dies, the next takes over at once, with what was not acknowledged.
async fn exclusive_consumer(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('TEST.QUEUE', single_active => true)")
        .await;
    let first = cx.connect().await;
    let take = "SELECT body #>> '{}' FROM mq.read('TEST.QUEUE', wait => '20 s')";
    c.run("SELECT mq.send('TEST.QUEUE', to_jsonb(n)) FROM generate_series(1, 6) n")
        .await;
    let done = "SELECT body #>> '{}', mq.ack(queue, id, receipt) FROM mq.read('TEST.QUEUE')";
    for n in 1..=3 {
        assert_eq!(first.text(done).await, n.to_string());
    }
    let (_, mut second) = waiting(&cx, take).await;
    let (_, mut third) = waiting(&cx, take).await;
    assert_eq!(first.text(done).await, "4", "though others wait for it");
    first.run("BEGIN").await;
    assert_eq!(first.text(done).await, "5");
    let started = Instant::now();
    c.run(&format!("SELECT pg_terminate_backend({})", first.pid))
        .await;
    let (next, other) = tokio::select! {
        body = &mut second => (body, third),
        body = &mut third => (body, second),
    };
    assert_eq!(next.unwrap().unwrap(), "5");
    assert!(started.elapsed() < Duration::from_secs(1));
    // Its session ends as well, once it has got one.
    assert_eq!(other.await.unwrap().unwrap(), "6");
}

/// The messages of these groups, by turns.
async fn send_groups(c: &Conn, groups: &[&str], each: i32) {
    c.run("SELECT mq.create_queue('TEST.FOO', ordering => 'group')")
        .await;
    for n in 1..=each {
        for group in groups {
            c.run(&format!(
                "SELECT mq.send_text('TEST.FOO', '{group} {n}', group_key => '{group}')"
            ))
            .await;
        }
    }
}

/// Messages with a `JMSXGroupID`, and consumers that each take ten at a time: a group is with one
/// consumer for as long as that has any of its messages, in order, and other groups are with others.
/// ActiveMQ keeps a group with its consumer until that closes; here it stays while it has work, and
/// then goes to whoever asks first, so that nothing is to be balanced.
async fn message_groups(cx: Cx) {
    let (c, a, b) = (cx.connect().await, cx.connect().await, cx.connect().await);
    send_groups(&c, &["IBM_NASDAQ_20/4/05", "SUNW", "MSFT"], 4).await;
    let of = |group: &str, from: i32, to: i32| -> Vec<String> {
        (from..=to).map(|n| format!("{group} {n}")).collect()
    };
    let read = |n: i32| {
        format!("SELECT body #>> '{{}}' FROM mq.read('TEST.FOO', {n}, visibility => '1 hour')")
    };
    assert_eq!(texts(&a, &read(2)).await, of("IBM_NASDAQ_20/4/05", 1, 2));
    let mut others = of("SUNW", 1, 4);
    others.extend(of("MSFT", 1, 4));
    assert_eq!(texts(&b, &read(10)).await, others);
    // The first group stays with its consumer.
    assert_eq!(texts(&b, &read(10)).await, [""; 0]);
    let ack = "SELECT count(mq.ack('TEST.FOO', id)) FROM mq.\"TEST.FOO\" \
               WHERE state = 'leased' AND group_key LIKE 'IBM%'";
    assert_eq!(a.int(ack).await, 2);
    assert_eq!(texts(&a, &read(10)).await, of("IBM_NASDAQ_20/4/05", 3, 4));
    assert_eq!(texts(&b, &read(10)).await, [""; 0]);
}

/// A consumer dies: its groups go on with another, from the first message that it had not done.
async fn a_group_moves_on(cx: Cx) {
    let (c, a) = (cx.connect().await, cx.connect().await);
    send_groups(&c, &["g1", "g2"], 3).await;
    assert_eq!(next(&a, "TEST.FOO").await, "g1 1");
    a.run("BEGIN").await;
    assert_eq!(next(&a, "TEST.FOO").await, "g2 1");
    assert_eq!(next(&a, "TEST.FOO").await, "g1 2");
    let workers = workers(&cx, 1, &work("TEST.FOO", "true"));
    super::until_waiting(&c, 1).await;
    c.run(&format!("SELECT pg_terminate_backend({})", a.pid))
        .await;
    let gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ";
    c.until(&format!("{gone}{}", a.pid)).await;
    let took = together(send_home(&c, "TEST.FOO", workers).await);
    assert_eq!(took, ["g1 2", "g1 3", "g2 1", "g2 2", "g2 3"]);
}
