//! NATS by example, and JetStream's: subjects, queue groups, requests, message ids, the ways to
//! acknowledge, pausing.

use super::{drain, send_home, together, until_waiting, work, workers};
use crate::harness::Cx;
use crate::tests;
use crate::wake::waiting;
use std::time::{Duration, Instant};

tests![
    deduplication,
    nack_with_delay,
    in_progress,
    terminate,
    pause_and_resume,
    wildcards,
    queue_group,
    no_responders
];

/// Four publishes with one message id: the first is kept, and each of the others is told its number.
async fn deduplication(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('orders', dedup_window => '2 min')")
        .await;
    let publish =
        |n: i32, key: &str| format!("SELECT mq.send('orders', '{n}', dedup_key => '{key}')");
    let first = c.int(&publish(1, "msg-1")).await;
    for n in 2..=4 {
        assert_eq!(c.int(&publish(n, "msg-1")).await, first);
    }
    assert_ne!(c.int(&publish(5, "msg-2")).await, first);
    assert_eq!(drain(&c, "orders").await, ["1", "5"]);
    assert_eq!(
        c.int(&publish(6, "msg-1")).await,
        first,
        "within the window, also when it has been consumed"
    );
    assert_eq!(drain(&c, "orders").await, [""; 0]);
}

/// `NakWithDelay`: the message comes again, but not before the delay is over.
async fn nack_with_delay(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('orders')").await;
    c.send("orders", 1).await;
    let hand = c.hand("'orders'").await;
    let nack = format!(
        "SELECT mq.nack('orders', {}, {}, delay => '500 ms')",
        hand.id, hand.receipt
    );
    assert!(c.yes(&nack).await);
    let due = c.text("SELECT visible_at FROM mq.orders").await;
    let again = format!(
        "SELECT id = {} AND attempts = 2 AND read_at >= '{due}' \
         FROM mq.read('orders', wait => '20 s')",
        hand.id
    );
    assert!(c.yes(&again).await);
}

/// `InProgress`: who works for longer than the lease says so in time, and keeps the message; an ack
/// is confirmed once, and again it is none (`AckSync`).
async fn in_progress(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    c.run("SELECT mq.create_queue('orders')").await;
    c.send("orders", 1).await;
    let hand = c.hand("'orders', visibility => '2 s'").await;
    let due = c.text("SELECT visible_at FROM mq.orders").await;
    let extend = format!(
        "SELECT mq.extend('orders', {}, {}, '1 hour') > '{due}'",
        hand.id, hand.receipt
    );
    assert!(c.yes(&extend).await);
    other
        .until(&format!("SELECT clock_timestamp() > '{due}'"))
        .await;
    assert_eq!(other.hands("'orders'").await, []);
    assert!(c.settle("ack", "orders", &hand).await);
    assert!(!c.settle("ack", "orders", &hand).await);
}

/// `Term`: this message is never to come again, however many tries are left; with a dead-letter
/// queue it is kept there, with the reason.
async fn terminate(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('orders', max_failures => 5)")
        .await;
    c.send("orders", 1).await;
    let hand = c.hand("'orders'").await;
    let reject = format!(
        "SELECT mq.reject('orders', {}, {}, 'no such customer')",
        hand.id, hand.receipt
    );
    assert!(c.yes(&reject).await);
    assert_eq!(drain(&c, "orders").await, [""; 0]);
    let dead = "SELECT concat_ws(' ', body, headers->'x-death'->0->>'reason', \
                headers->'x-death'->0->>'error') FROM mq.orders_dead";
    assert_eq!(c.text(dead).await, "1 rejected no such customer");
}

/// A consumer is paused, for good or until a moment: publishing goes on, what is in hand can be
/// acknowledged, nothing is handed out; then everything is, in order.
async fn pause_and_resume(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('orders')").await;
    c.send("orders", 1).await;
    let hand = c.hand("'orders'").await;
    c.run("SELECT mq.pause('orders')").await;
    c.send("orders", 2).await;
    assert_eq!(c.hands("'orders', 5").await, []);
    assert!(c.settle("ack", "orders", &hand).await);
    c.run("SELECT mq.resume('orders')").await;
    assert_eq!(drain(&c, "orders").await, ["2"]);
    c.run("SELECT mq.pause('orders', until => clock_timestamp() + interval '500 ms')")
        .await;
    c.send("orders", 3).await;
    c.send("orders", 4).await;
    let until = "SELECT paused_until FROM mq.queues WHERE queue = 'orders' AND paused";
    let until = c.text(until).await;
    let read = format!(
        "SELECT count(*) = 2 AND min(read_at) >= '{until}' \
         FROM mq.read('orders', 5, wait => '20 s')"
    );
    assert!(c.yes(&read).await);
}

/// Subjects with wildcards: `time.*.east` has exactly one word in the middle; what NATS writes
/// `time.us.>`, one or more words after `time.us`, is `time.us.*.#` here, since `#` alone is also none.
async fn wildcards(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_exchange('subjects', 'topic')")
        .await;
    let subscriptions = [
        ("east", "time.*.east"),
        ("us", "time.us.*.#"),
        ("us_too", "time.us.#"),
    ];
    for (queue, pattern) in subscriptions {
        c.run(&format!(
            "SELECT mq.create_queue('{queue}'), mq.bind('subjects', '{queue}', '{pattern}')"
        ))
        .await;
    }
    for subject in [
        "time.us",
        "time.us.east",
        "time.us.east.atlanta",
        "time.eu.east",
        "time.eu.warsaw",
        "time.east",
    ] {
        c.run(&format!(
            "SELECT mq.publish_text('subjects', '{subject}', '{subject}')"
        ))
        .await;
    }
    assert_eq!(drain(&c, "east").await, ["time.us.east", "time.eu.east"]);
    let us = ["time.us", "time.us.east", "time.us.east.atlanta"];
    assert_eq!(drain(&c, "us").await, us[1..]);
    assert_eq!(drain(&c, "us_too").await, us);
}

/// Three responders in a queue group answer ten requests: each request is answered by one of them,
/// once. That one of them is busy is no reason to say that nobody is there.
async fn queue_group(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('greet')").await;
    let answer = "mq.reply(m, jsonb_build_object('hello', m.body, 'by', pg_backend_pid()))";
    let group = workers(&cx, 3, &work("greet", answer));
    until_waiting(&c, 3).await;
    for n in 0..10 {
        let request =
            format!("CALL mq.request('greet', '{n}', timeout => '20 s', expect_reader => true)");
        let reply = c.text(&request).await;
        assert!(reply.contains(&format!("\"hello\": {n}}}")), "{reply}");
    }
    let handled: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(together(send_home(&c, "greet", group).await), handled);
    let left = "SELECT sum(ready + leased) FROM mq.metrics WHERE queue LIKE 'mq_reply%'";
    let left = c.text(left).await;
    assert!(left == "0" || left == "NULL", "a second reply: {left}");
}

/// A request that nobody is there to answer fails at once instead of after its timeout, for those who
/// ask for that; with somebody there it is answered.
async fn no_responders(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('greet')").await;
    let request = "CALL mq.request('greet', '\"joe\"', timeout => '15 s', expect_reader => true)";
    let started = Instant::now();
    c.refused(request, "55000").await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(drain(&c, "greet").await, [""; 0], "and nothing was sent");
    let run = work(
        "greet",
        "mq.reply(m, to_jsonb('hello ' || (m.body #>> '{}')))",
    );
    let (_, responder) = waiting(&cx, &run).await;
    assert_eq!(c.text(request).await, "\"hello joe\"");
    assert_eq!(responder.await.unwrap().unwrap(), "joe");
    let patient = "CALL mq.request('greet', '1', timeout => '300 ms')";
    assert_eq!(c.text(patient).await, "NULL", "no answer in time");
}
