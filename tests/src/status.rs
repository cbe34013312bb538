//! `mq.status()` and `mq.metrics` say what is missing, at once and whoever holds which lock.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::server::Server;
use crate::tests;
use crate::worker::AT_WORK;
use std::collections::HashMap;
use std::time::{Duration, Instant};

tests![
    without_a_slot,
    without_a_place,
    beside_locks,
    beside_changes,
];

/// The server had no slot for the launcher: that is said at once, not when upkeep is overdue.
async fn without_a_slot(_: Cx) {
    for slots in [0, 1] {
        let server = Server::start(
            &format!("status-slots-{slots}"),
            &format!("pg_broker.worker = on\nmax_worker_processes = {slots}\n"),
        )
        .await;
        let c = server.connect("mq_template").await;
        let says = |not: &str| {
            format!("SELECT warnings::text {not} LIKE '%max_worker_processes%' FROM mq.status()")
        };
        let started = Instant::now();
        c.until(&says("")).await;
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(c.yes("SELECT worker_pid IS NULL FROM mq.status()").await);
        // Where nobody is to come, nobody is missed.
        c.run("ALTER SYSTEM SET pg_broker.worker = off").await;
        c.run("SELECT pg_reload_conf()").await;
        c.until(&says("NOT")).await;
    }
}

/// Waits for so long, and gives how often each channel was heard.
async fn heard(c: &Conn, seconds: f32) -> HashMap<String, usize> {
    tokio::time::sleep(Duration::from_secs_f32(seconds)).await;
    let mut times = HashMap::new();
    for channel in c.notifications() {
        *times.entry(channel).or_default() += 1;
    }
    times
}

/// More queues than shared memory has room for: the status says how many, and who sends to one of
/// them is told of there, and nowhere else.
async fn without_a_place(_: Cx) {
    let settings = "pg_broker.worker = on\npg_broker.max_queues = 16\n";
    let server = Server::start("status-full", settings).await;
    let (c, ears) = (
        server.connect("mq_template").await,
        server.connect("mq_template").await,
    );
    let says = |what: &str| {
        format!("SELECT warnings::text LIKE '%no room for {what} of the queues%' FROM mq.status()")
    };
    for n in 0..16 {
        c.run(&format!("SELECT mq.create_queue('q{n}', notify => true)"))
            .await;
    }
    assert_eq!(c.text("SELECT warnings FROM mq.status()").await, "{}");
    for n in 16..30 {
        let limited = if n % 2 == 0 {
            ", max_failures => 3"
        } else {
            ""
        };
        c.run(&format!(
            "SELECT mq.create_queue('q{n}', notify => true, dead_letter => 'q0'{limited})"
        ))
        .await;
    }
    assert!(c.yes(&says("14")).await);
    c.until(AT_WORK).await;
    for n in 0..30 {
        ears.run(&format!("LISTEN \"mq.q{n}\"")).await;
    }
    // The worker knows of all of them when it has told of all.
    for n in 0..30 {
        c.send(&format!("q{n}"), 0).await;
    }
    c.until("SELECT count(*) = 30 FROM mq.metrics WHERE ready = 1")
        .await;
    let mut first = HashMap::new();
    while first.len() < 30 {
        first.extend(heard(&ears, 0.5).await);
    }
    assert_eq!(heard(&ears, 2.5).await, HashMap::new(), "nothing happened");
    for n in 0..30 {
        c.send(&format!("q{n}"), 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = heard(&ears, 2.5).await;
    assert_eq!(told.len(), 30, "{told:?}");
    assert!(told.values().all(|n| *n == 1), "{told:?}");
    // What comes due is looked for, and told of once.
    for n in [20, 21] {
        c.run(&format!("SELECT mq.send('q{n}', '1', delay => '1 s')"))
            .await;
        c.hand(&format!("'q{n}', 1, '1500 ms'")).await;
    }
    let told = heard(&ears, 5.0).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.values().all(|n| (2..=3).contains(n)), "{told:?}");
    // Room that is given up is others'.
    c.run("SELECT mq.drop_queue('q' || n, cascade => true) FROM generate_series(1, 12) n")
        .await;
    assert!(c.yes(&says("2")).await);
    c.run("SELECT mq.drop_queue('q13'), mq.drop_queue('q14')")
        .await;
    assert_eq!(c.text("SELECT warnings FROM mq.status()").await, "{}");
}

const FIGURES: &str = "SELECT concat_ws(' ', queue, ready, leased, estimated, sent, waiters) \
                       FROM mq.metrics WHERE queue = 'q'";

/// Neither the status nor the figures wait for who has the storage for himself.
async fn beside_locks(cx: Cx) {
    let (a, b) = (cx.connect().await, cx.connect().await);
    a.run("SELECT mq.create_queue('q', max_failures => 2); SELECT mq.create_queue('other')")
        .await;
    a.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 3) n")
        .await;
    a.hand("'q', 1, '1 hour'").await;
    b.never_wait().await;
    assert_eq!(b.text(FIGURES).await, "q 2 1 f 3 0");
    for part in ["q_%s", "q_%s_pkey", "q_%s_expiry"] {
        let name = format!(
            "SELECT format('mq_internal.{part}', n) FROM mq_internal.queue WHERE view = 'mq.q'::regclass"
        );
        let table = a.text(&name).await;
        a.run("BEGIN").await;
        match part {
            "q_%s" => a.run(&format!("LOCK TABLE {table}")).await,
            _ => a.run(&format!("REINDEX INDEX {table}")).await,
        }
        for c in [&b, &cx.connect().await] {
            c.never_wait().await;
            assert_eq!(c.text(FIGURES).await, "q 2 1 t 3 0", "{part}");
            assert_eq!(c.int("SELECT count(*) FROM mq.metrics").await, 3);
            c.run("SELECT * FROM mq.status()").await;
        }
        a.run("ROLLBACK").await;
        assert_eq!(b.text(FIGURES).await, "q 2 1 f 3 0");
    }
}

/// Nor for who changes or drops a queue, or waits to.
async fn beside_changes(cx: Cx) {
    let (mut a, b, reader) = (cx.connect().await, cx.connect().await, cx.connect().await);
    a.run("SELECT mq.create_queue('grave', max_length => 5)")
        .await;
    b.never_wait().await;
    for change in [
        "SELECT mq.drop_queue('q')",
        "SELECT mq.rename_queue('q', 'p')",
        "DROP VIEW mq.q",
        "SELECT mq.alter_queue('q', max_length => 7)",
        "SELECT mq.alter_queue('grave', reset => '{max_length}')",
    ] {
        a.run("SELECT mq.create_queue('q', max_failures => 2, dead_letter => 'grave')")
            .await;
        a.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 3) n")
            .await;
        // Waiting behind a reader.
        reader.run("BEGIN; SELECT mq.read('q', 1, '1 hour')").await;
        let (pid, queue) = (a.pid, change);
        let waiter = spawn(async move {
            a.run(&format!("BEGIN; {queue}")).await;
            a
        });
        if !change.contains("grave") {
            b.until_blocked(pid).await;
        }
        for c in [&b, &cx.connect().await] {
            c.never_wait().await;
            c.run("SELECT * FROM mq.status()").await;
            assert!(c.text(FIGURES).await.starts_with("q 3 0"), "{change}");
        }
        reader.run("ROLLBACK").await;
        // Under way.
        a = waiter.await.unwrap();
        for c in [&b, &cx.connect().await] {
            c.never_wait().await;
            c.run("SELECT * FROM mq.status()").await;
            assert!(c.text(FIGURES).await.starts_with("q 3 0"), "{change}");
        }
        a.run("ROLLBACK; SELECT mq.drop_queue('q')").await;
    }
}
