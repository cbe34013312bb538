//! Tenants that take turns in a queue that holds its readers back, and readers that wait for a turn.

use crate::conn::{Conn, Patience};
use crate::fair::{reads, send, send_many, sessions};
use crate::harness::{Cx, spawn};
use crate::processes::jiffies;
use crate::rates::three_wait;
use crate::server::Server;
use crate::tests;
use std::time::{Duration, Instant};

tests![
    a_rate_for_each,
    who_has_no_token_calls_nobody,
    a_rate_by_another_header,
    no_read_is_lost_to_the_unwanted,
    places_in_flight,
    one_active,
    whom_others_have_passed,
    unwanted_for_one_who_waits,
    maintenance_leaves_them,
];

const HOURLY: &str = ", rate_limit => 1, rate_interval => '1 hour', rate_key => 'tenant'";

/// A tenant without tokens is passed over, and is not passed by.
async fn a_rate_for_each(cx: Cx) {
    let [c, x] = sessions(&cx, &format!("{HOURLY}, rate_burst => 2")).await;
    send(&c, "a1 a2 a3 b1 c1 c2 c3").await;
    assert_eq!(reads(&c, 3).await, "a1 b1 c1");
    assert_eq!(reads(&x, 9).await, "a2 c2");
    assert_eq!(reads(&x, 9).await, "");
    send(&c, "a4 b2 d1 d2").await;
    assert_eq!(reads(&x, 1).await, "b2");
    assert_eq!(reads(&x, 9).await, "d1 d2");
    assert_eq!(reads(&x, 9).await, "");
    c.run("SELECT mq.alter_queue('q', reset => '{rate_limit,rate_interval,rate_burst,rate_key}')")
        .await;
    assert_eq!(reads(&x, 9).await, "a3 c3 a4");
}

/// Who waits for messages of tenants without a token sleeps until there is one, and is there then.
async fn who_has_no_token_calls_nobody(cx: Cx) {
    let options = ", rate_limit => 2, rate_burst => 1, rate_key => 'tenant'";
    let [c, x] = sessions(&cx, options).await;
    send_many(&c, "a", 50).await;
    send_many(&c, "b", 50).await;
    assert_eq!(reads(&c, 9).await, "a b");
    assert!(!x.yes("CALL mq.wait('q', '50 ms', NULL)").await, "no token");
    let all = three_wait(&cx, "'q', 5, '1 hour', wait => '600 ms'").await;
    assert!((12..=18).contains(&all), "{all} in four seconds");
    // Both are without a token now; mq.wait returns when one has another, and not before.
    while !reads(&c, 9).await.is_empty() {}
    let (started, mut looks) = (Instant::now(), 0);
    loop {
        assert!(x.yes("CALL mq.wait('q', '10 s', NULL)").await);
        looks += 1;
        if !reads(&x, 1).await.is_empty() {
            break;
        }
    }
    let took = started.elapsed();
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert!(looks < 6, "{looks} looks at nothing");
}

/// Within a tenant those whose key has a token go on, and the others come when they have one.
async fn a_rate_by_another_header(cx: Cx) {
    let options = ", rate_limit => 1, rate_interval => '500 ms', rate_key => 'k'";
    let [c, x] = sessions(&cx, options).await;
    for (body, key) in [("a1", 1), ("a2", 1), ("b1", 1), ("b2", 2), ("a3", 3)] {
        c.run(&format!(
            "SELECT mq.send('q', '\"{body}\"', '{{\"tenant\": \"{}\", \"k\": {key}}}')",
            &body[..1]
        ))
        .await;
    }
    assert_eq!(reads(&c, 9).await, "a1 b2 a3");
    let mut got = Vec::new();
    for _ in 0..2 {
        let started = Instant::now();
        got.extend(
            x.hands("'q', 9, '1 hour', wait => '20 s'")
                .await
                .into_iter()
                .map(|hand| hand.body),
        );
        assert!(started.elapsed() < Duration::from_secs(2));
    }
    got.sort();
    assert_eq!(got, ["\"a2\"", "\"b1\""]);
}

/// As long as there are messages that a reader wants, each of his reads has one, whoever else reads; what
/// he does not want takes nobody's turn.
async fn no_read_is_lost_to_the_unwanted(cx: Cx) {
    let [c] = sessions(&cx, "").await;
    send(&c, "a1 a2 c1").await;
    send_many(&c, "b", 900).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let r = cx.connect().await;
        readers.push(spawn(async move {
            for n in 0..290 {
                let read = "'q', 1, '1 hour', filter => '$.body ? (@ == \"b\")'";
                assert_eq!(r.hands(read).await.len(), 1, "the {n}th read");
            }
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

async fn places_in_flight(cx: Cx) {
    let [c, x] = sessions(&cx, ", max_in_flight => 3").await;
    send(&c, "a1 a2 a3 b1 b2").await;
    assert_eq!(reads(&c, 9).await, "a1 b1 a2");
    assert_eq!(reads(&x, 9).await, "");
    assert!(!x.yes("CALL mq.wait('q', '50 ms', NULL)").await);
    let waiter = cx.connect().await;
    let waits = spawn(async move { waiter.hands("'q', 9, '1 hour', wait => '20 s'").await });
    c.until("SELECT waiters = 1 FROM mq.metrics WHERE queue = 'q'")
        .await;
    c.run("SELECT mq.ack('q', id) FROM mq.q WHERE body = '\"a1\"'")
        .await;
    let hands = waits.await.unwrap();
    assert_eq!(hands.len(), 1);
    assert_eq!(hands[0].body, "\"b2\"");
    c.run("SELECT mq.release('q', id) FROM mq.q WHERE body = '\"a2\"'")
        .await;
    assert_eq!(reads(&x, 9).await, "a2");
    c.run("SELECT mq.alter_queue('q', reset => '{max_in_flight}')")
        .await;
    assert_eq!(reads(&x, 9).await, "a3");
}

async fn one_active(cx: Cx) {
    let [c, x] = sessions(&cx, ", single_active => true").await;
    send(&c, "a1 a2 b1 b2").await;
    assert_eq!(reads(&c, 1).await, "a1");
    assert_eq!(reads(&x, 9).await, "");
    let waits = spawn(async move { x.hands("'q', 9, '1 hour', wait => '20 s'").await });
    assert_eq!(reads(&c, 1).await, "b1");
    drop(c);
    let bodies: Vec<String> = waits.await.unwrap().into_iter().map(|h| h.body).collect();
    assert_eq!(bodies, ["\"a2\"", "\"b2\""]);
}

/// Messages that others have met and left are there for who waits.
async fn whom_others_have_passed(cx: Cx) {
    let [c, x] = sessions(&cx, "").await;
    send(&c, "a1 a2 b1").await;
    assert_eq!(reads(&c, 1).await, "a1");
    let started = Instant::now();
    assert!(x.yes("CALL mq.wait('q', '20 s', NULL)").await);
    let read =
        "SELECT string_agg(body #>> '{}', ' ') FROM mq.read('q', 1, '1 hour', wait => '20 s')";
    assert_eq!(x.text(read).await, "b1");
    assert!(x.yes("CALL mq.wait('q', '20 s', NULL)").await);
    assert_eq!(x.text(read).await, "a2");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(!x.yes("CALL mq.wait('q', '50 ms', NULL)").await);
    assert_eq!(x.text(&read.replace("20 s", "50 ms")).await, "NULL");
    // Each waiter gets one of what comes at once.
    let mut waiters = Vec::new();
    for _ in 0..4 {
        let r = cx.connect().await;
        waiters.push(spawn(async move {
            r.hands("'q', 1, '1 hour', wait => '20 s'").await.len()
        }));
    }
    c.until("SELECT waiters = 4 FROM mq.metrics WHERE queue = 'q'")
        .await;
    let started = Instant::now();
    send_many(&c, "a", 4).await;
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), 1);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Who waits for messages that a filter passes sleeps while there are only others.
async fn unwanted_for_one_who_waits(cx: Cx) {
    let [c, r] = sessions(&cx, "").await;
    send(&c, "a1 a2 b1").await;
    let (before, pid) = (jiffies(r.pid), r.pid);
    let waits = spawn(async move {
        let read = "'q', 9, '1 hour', wait => '20 s', filter => '$.body ? (@ == \"b2\")'";
        let started = Instant::now();
        let hands = r.hands(read).await;
        (hands, started.elapsed())
    });
    c.until("SELECT waiters = 1 FROM mq.metrics WHERE queue = 'q'")
        .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let used = jiffies(pid) - before;
    assert!(used < 50, "who waits used {used} jiffies");
    send(&c, "b2").await;
    let (hands, took) = waits.await.unwrap();
    assert_eq!(hands.len(), 1);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(reads(&c, 9).await, "a1 b1 a2");
}

/// Who goes through all messages for what nobody told of does not have readers go through them again;
/// and what waits for a turn is not told of without end.
async fn maintenance_leaves_them(_: Cx) {
    let settings = "pg_broker.worker = on\npg_broker.maintenance_interval = '20ms'\n";
    let server = Server::start("fair-worker", settings).await;
    let c = server.connect("mq_template").await;
    c.run("SELECT mq.create_queue('q', fair_by => 'tenant')")
        .await;
    send_many(&c, "a", 5000).await;
    send_many(&c, "b", 10).await;
    assert_eq!(reads(&c, 1).await, "a");
    assert_eq!(reads(&c, 1).await, "b");
    let patience = Patience::new("a few sweeps");
    let mut sweeps = 0;
    while sweeps < 20 {
        c.run("SELECT mq.maintain('q')").await;
        sweeps += 1;
        let cost = crate::fair::blocks(&c, "SELECT id FROM mq.read('q', 1, '1 hour')").await;
        assert!(cost < 100, "{cost} blocks after a sweep");
        patience.wait().await;
    }
    // Nothing but leases: nobody has anything to do.
    c.run("SELECT count(*) FROM mq.read('q', 10000, '1 hour')")
        .await;
    assert_eq!(reads(&c, 9).await, "");
    let pids = "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pg_broker%'";
    let workers: Vec<i32> = c
        .ints(pids)
        .await
        .into_iter()
        .map(|pid| pid as i32)
        .collect();
    let waiter = server.connect("mq_template").await;
    let pid = waiter.pid;
    let waits = spawn(async move { wait_for(&waiter).await });
    let used = || -> u64 { workers.iter().chain([&pid]).map(|pid| jiffies(*pid)).sum() };
    c.until("SELECT waiters = 1 FROM mq.metrics WHERE queue = 'q'")
        .await;
    let before = used();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = used() - before;
    assert!(
        !workers.is_empty() && idle < 60,
        "{idle} jiffies for nothing"
    );
    send(&c, "b2").await;
    assert_eq!(waits.await.unwrap(), 1);
    drop(c);
    server.down();
}

async fn wait_for(c: &Conn) -> usize {
    c.hands("'q', 9, '1 hour', wait => '20 s'").await.len()
}
