//! What happens by itself when workers run: dead letters, retention, notifications, and what
//! `mq.status()` says of it.

use crate::conn::{Conn, Patience};
use crate::harness::Cx;
use crate::server::Server;
use crate::tests;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

tests![
    dead_letters,
    what_is_old_goes,
    status_is_true,
    trouble_is_told_once,
    trouble_shows_in_the_status,
    comes_back,
    failures_add_up,
    failures_of_savepoints,
    notifies_together,
    notifies_soon,
    notifies_when_due,
    notifies_of_a_prepared_send,
    woken_for_what_comes_due,
    without_preload,
    without_a_slot,
];

/// A server whose workers are at work; several tests share it.
pub async fn server() -> Arc<Server> {
    static SERVER: OnceCell<Arc<Server>> = OnceCell::const_new();
    let start = || async {
        let on = "pg_broker.worker = on\npg_broker.workers = 20\nmax_worker_processes = 30\n";
        Arc::new(Server::start("worker", on).await)
    };
    SERVER.get_or_init(start).await.clone()
}

/// A database of its own on that server.
pub async fn site(name: &str) -> (Arc<Server>, Conn) {
    let server = server().await;
    let admin = server.connect("postgres").await;
    admin
        .run(&format!("CREATE DATABASE {name} TEMPLATE mq_template"))
        .await;
    let c = server.connect(name).await;
    (server, c)
}

/// Whether a worker is connected to this database, and `mq.status()` says so.
pub const AT_WORK: &str = "SELECT EXISTS (SELECT FROM mq.status() s JOIN pg_stat_activity a \
     ON a.pid = s.worker_pid WHERE a.backend_type = 'pg_broker worker' \
     AND a.datname = current_database())";

async fn dead_letters(_: Cx) {
    let (_server, c) = site("dead_letters").await;
    c.run("SELECT mq.create_queue('q', max_failures => 2)")
        .await;
    c.until(AT_WORK).await;
    c.send("q", 1).await;
    // The last lease ends: nobody reads, and nobody calls for upkeep.
    for _ in 0..2 {
        c.until("SELECT count(*) = 1 FROM mq.read('q', 1, '300 ms')")
            .await;
    }
    let ends = "SELECT visible_at FROM mq.q";
    let at = c.text(ends).await;
    c.until("SELECT count(*) = 1 FROM mq.q_dead").await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
    let late = format!("SELECT enqueued_at - '{at}' < interval '1 s' FROM mq.q_dead");
    assert!(c.yes(&late).await, "a dead letter came late");
    // Leased by somebody whose session has ended, and by a transaction that read many.
    c.run("SELECT mq.send('q', '1') FROM generate_series(1, 500)")
        .await;
    for _ in 0..2 {
        c.until("SELECT count(*) > 0 FROM mq.read('q', 500, '100 ms')")
            .await;
    }
    c.until("SELECT count(*) = 501 FROM mq.q_dead").await;
}

async fn what_is_old_goes(_: Cx) {
    let (_server, c) = site("what_is_old_goes").await;
    c.run(
        "SELECT mq.create_queue('q', ttl => '200 ms', archive_retention => '200 ms', \
         dedup_window => '200 ms')",
    )
    .await;
    c.run("SELECT mq.send('q', '1', dedup_key => 'k'), mq.send('q', '2')")
        .await;
    c.run("SELECT mq.archive('q', (mq.read('q')).id)").await;
    c.until("SELECT count(*) = 0 FROM mq.q").await;
    c.until("SELECT count(*) = 0 FROM mq.q_archive").await;
    let keys = c
        .text("SELECT format('mq_internal.q_%s_keys', n) FROM mq_internal.queue")
        .await;
    c.until(&format!("SELECT count(*) = 0 FROM {keys}")).await;
}

async fn status_is_true(_: Cx) {
    let (server, c) = site("status_is_true").await;
    let launcher = "SELECT EXISTS (SELECT FROM mq.status() s JOIN pg_stat_activity a \
                    ON a.pid = s.worker_pid WHERE a.backend_type = 'pg_broker launcher')";
    // Without queues there may be no worker; then the launcher answers for it.
    c.until(&format!("SELECT ({launcher}) OR ({AT_WORK})"))
        .await;
    c.run("SELECT mq.create_queue('q')").await;
    assert_eq!(c.text("SELECT warnings FROM mq.status()").await, "{}");
    c.until(AT_WORK).await;
    let before = c.text("SELECT clock_timestamp()").await;
    c.until(&format!(
        "SELECT last_maintenance > '{before}' FROM mq.status()"
    ))
    .await;
    assert_eq!(c.text("SELECT warnings FROM mq.status()").await, "{}");
    let _ = server;
    // Switched off and on again while the server runs.
    let other = Server::start("worker-switch", "pg_broker.worker = on\n").await;
    let o = other.connect("mq_template").await;
    o.run("SELECT mq.create_queue('q')").await;
    o.until(AT_WORK).await;
    o.run("ALTER SYSTEM SET pg_broker.worker = off").await;
    o.run("SELECT pg_reload_conf()").await;
    o.until("SELECT worker_pid IS NULL FROM mq.status()").await;
    o.run("ALTER SYSTEM RESET pg_broker.worker").await;
    o.run("SELECT pg_reload_conf()").await;
    o.until(AT_WORK).await;
}

fn told(server: &Server, what: &[&str]) -> usize {
    let log = std::fs::read_to_string(server.dir.with_extension("log")).unwrap();
    log.lines()
        .filter(|line| what.iter().all(|part| line.contains(part)))
        .count()
}

async fn trouble_is_told_once(_: Cx) {
    let (server, c) = site("trouble_is_told_once").await;
    c.run("SELECT mq.create_queue('full_dead', max_length => 1)")
        .await;
    c.run("SELECT mq.send('full_dead', '0')").await;
    c.run("SELECT mq.create_queue('poison', max_failures => 1, dead_letter => 'full_dead')")
        .await;
    c.run("SELECT mq.create_queue('other', max_failures => 1)")
        .await;
    c.run("SELECT mq.send('poison', '1'), mq.send('poison', '2'), mq.send('poison', '3')")
        .await;
    for visibility in [100, 700, 1300] {
        c.run(&format!("SELECT mq.read('poison', 1, '{visibility} ms')"))
            .await;
    }
    let kept = "SELECT count(*) = 3 FROM mq.poison WHERE last_error LIKE '%not dead-lettered%'";
    c.until(kept).await;
    let said = ["WARNING", "queue \"poison\"", "kept"];
    assert_eq!(told(&server, &said), 1, "the log repeats itself");
    // It stops nothing else.
    c.run("SELECT mq.send('other', '1')").await;
    c.run("SELECT mq.read('other', 1, '100 ms')").await;
    c.until("SELECT count(*) = 1 FROM mq.other_dead").await;
    assert_eq!(
        c.int("SELECT count(*) FROM mq.status(), unnest(warnings) w WHERE w LIKE '%full_dead%'")
            .await,
        1
    );
}

async fn trouble_shows_in_the_status(_: Cx) {
    let (server, c) = site("trouble_shows").await;
    c.run("SELECT mq.create_queue('bad', max_failures => 1), mq.create_queue('good', max_failures => 1)")
        .await;
    c.until(AT_WORK).await;
    let n = c
        .int("SELECT n FROM mq_internal.queue WHERE view = 'mq.bad'::regclass")
        .await;
    c.run(&format!(
        "ALTER TABLE mq_internal.q_{n}_keys RENAME TO elsewhere"
    ))
    .await;
    // Where nothing happens there is nothing to do.
    c.run("SELECT mq.send('bad', '1')").await;
    let fails = "SELECT warnings::text LIKE '%worker of this database fails: queue \"\"bad\"\"%' \
                 OR warnings::text LIKE '%worker of this database fails: queue \\\\\"bad\\\\\"%' FROM mq.status()";
    c.until(fails).await;
    for _ in 0..20 {
        assert!(c.yes(fails).await, "told as long as it lasts");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    c.run("SELECT mq.send('good', '1')").await;
    c.run("SELECT mq.read('good', 1, '100 ms')").await;
    c.until("SELECT count(*) = 1 FROM mq.good_dead").await;
    assert_eq!(told(&server, &["queue \"bad\"", "WARNING"]), 1);
    c.run(&format!(
        "ALTER TABLE mq_internal.elsewhere RENAME TO q_{n}_keys"
    ))
    .await;
    c.until("SELECT warnings = '{}' FROM mq.status()").await;
}

async fn comes_back(_: Cx) {
    let server = Server::start("worker-killed", "pg_broker.worker = on\n").await;
    let c = server.connect("mq_template").await;
    c.run("SELECT mq.create_queue('q')").await;
    c.until(AT_WORK).await;
    for kind in ["worker", "launcher"] {
        let pid =
            format!("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_broker {kind}'");
        let before = c.int(&pid).await;
        c.run(&format!("SELECT pg_terminate_backend({before})"))
            .await;
        c.until(&format!(
            "SELECT count(*) = 1 FROM ({pid}) p WHERE pid <> {before}"
        ))
        .await;
        c.until(AT_WORK).await;
    }
    // A server that stops does so at once.
    let started = Instant::now();
    drop(c);
    server.down();
    assert!(started.elapsed() < Duration::from_secs(10));
}

async fn failures_add_up(_: Cx) {
    let (server, c) = site("failures_add_up").await;
    c.run("SELECT mq.create_queue('q', max_failures => 3)")
        .await;
    c.send("q", 1).await;
    for n in 0..3 {
        let other = server.connect("failures_add_up").await;
        other.run("BEGIN").await;
        assert_eq!(other.hand("'q'").await.failures, n);
        // What a reader was to write and did not is not lost with its transaction, whether it
        // rolls back or its session dies.
        if n == 1 {
            other.run("ROLLBACK").await;
            continue;
        }
        let gone = format!(
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {})",
            other.pid
        );
        drop(other);
        c.until(&gone).await;
    }
    assert_eq!(c.hands("'q'").await, [], "the third time was the last");
    c.until("SELECT count(*) = 1 FROM mq.q_dead").await;
}

/// A savepoint's end is enough, and a reader that takes nothing adds nothing.
async fn failures_of_savepoints(_: Cx) {
    let (server, c) = site("failures_of_savepoints").await;
    c.run("SELECT mq.create_queue('q', max_failures => 5)")
        .await;
    let id = c.send("q", 1).await;
    c.run("BEGIN; SELECT mq.read('q'); ROLLBACK").await;
    let other = server.connect("failures_of_savepoints").await;
    other
        .run("BEGIN; SAVEPOINT s; SELECT mq.read('q', 1, '1 hour'); ROLLBACK TO s; COMMIT")
        .await;
    let hand = other.hand("'q', 1, '1 hour'").await;
    assert_eq!((hand.id, hand.failures), (id, 2));
    c.run("SELECT mq.read('q')").await;
    assert!(
        other.settle("ack", "q", &hand).await,
        "counting takes nobody's hand-out away"
    );
}

/// Waits until the listener has heard something, and gives how often.
async fn heard(c: &Conn, what: &'static str) -> usize {
    let patience = Patience::new(what);
    loop {
        let n = c.notifications().len();
        if n > 0 {
            return n;
        }
        patience.wait().await;
    }
}

/// Lets go by whatever is still on its way.
async fn quiet(c: &Conn) {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if c.notifications().is_empty() {
            return;
        }
    }
}

async fn listener(server: &Server, db: &str) -> Conn {
    let c = server.connect(db).await;
    c.run("SELECT mq.create_queue('q', notify => true)").await;
    c.until(AT_WORK).await;
    // Known to the worker when it has told of something.
    c.run("LISTEN \"mq.q\"").await;
    c.send("q", 0).await;
    heard(&c, "the first notification").await;
    c.run("SELECT mq.pop('q')").await;
    quiet(&c).await;
    c
}

async fn notifies_together(_: Cx) {
    let (server, c) = site("notifies_together").await;
    let ears = listener(&server, "notifies_together").await;
    // A sender that holds its transaction open does not keep others from sending.
    c.run("BEGIN").await;
    c.send("q", 1).await;
    let other = server.connect("notifies_together").await;
    other
        .run("DO $$ BEGIN FOR i IN 1..500 LOOP PERFORM mq.send('q', '1'); COMMIT; END LOOP; END $$")
        .await;
    let mut n = heard(&ears, "a notification of 500 sends").await;
    quiet(&ears).await;
    c.run("COMMIT").await;
    n += heard(&ears, "a notification of the last commit").await;
    assert!(n < 400, "{n} notifications of 501 commits");
    quiet(&ears).await;
    c.run("BEGIN; SELECT mq.send('q', '1'); ROLLBACK").await;
    c.run("BEGIN; SAVEPOINT s; SELECT mq.send('q', '1'); ROLLBACK TO s; COMMIT")
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(ears.notifications().is_empty(), "told of what is not there");
}

/// How long it takes from a send to its notification, by way of the worker.
async fn notifies_soon(_: Cx) {
    let (server, c) = site("notifies_soon").await;
    let ears = listener(&server, "notifies_soon").await;
    let mut took = Vec::new();
    for n in 0..200 {
        let sent = Instant::now();
        c.send("q", n).await;
        while ears.notifications().is_empty() {
            assert!(sent.elapsed() < Duration::from_secs(10), "the {n}th");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        took.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    took.sort();
    println!("      notify: p50 {:?}, p99 {:?}", took[100], took[198]);
    assert!(took[100] < Duration::from_millis(100), "{:?}", took[100]);
}

async fn notifies_when_due(_: Cx) {
    let (server, c) = site("notifies_when_due").await;
    let ears = listener(&server, "notifies_when_due").await;
    let started = Instant::now();
    c.run("SELECT mq.send('q', '1', delay => '700 ms')").await;
    let first = started.elapsed();
    heard(&ears, "the notification of the send").await;
    quiet(&ears).await;
    assert!(first < Duration::from_millis(600));
    heard(&ears, "the notification of the delay's end").await;
    assert!(started.elapsed() >= Duration::from_millis(690));
    quiet(&ears).await;
    let hand = c.hand("'q', 1, '500 ms'").await;
    heard(&ears, "the notification of the lease's end").await;
    quiet(&ears).await;
    let again = c.hand("'q', 1, '1 hour'").await;
    assert_eq!(again.id, hand.id);
    assert!(c.settle("nack", "q", &again).await);
    heard(&ears, "the notification of a message given back").await;
    quiet(&ears).await;
    // What was settled in time is not told of.
    let hand = c.hand("'q', 1, '400 ms'").await;
    assert!(c.settle("ack", "q", &hand).await);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(ears.notifications().is_empty(), "told of what is gone");
}

async fn notifies_of_a_prepared_send(_: Cx) {
    let (server, c) = site("notifies_prepared").await;
    let ears = listener(&server, "notifies_prepared").await;
    c.run("BEGIN").await;
    c.send("q", 1).await;
    c.run("PREPARE TRANSACTION 'notifies_prepared'").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(ears.notifications().is_empty(), "told too early");
    let other = server.connect("notifies_prepared").await;
    other.run("COMMIT PREPARED 'notifies_prepared'").await;
    heard(&ears, "the notification of a prepared send").await;
}

/// A worker that would sleep for long is woken for what comes due before.
async fn woken_for_what_comes_due(_: Cx) {
    let slow = "pg_broker.worker = on\npg_broker.maintenance_interval = '60 s'\n";
    let server = Server::start("worker-slow", slow).await;
    let c = server.connect("mq_template").await;
    c.run("SELECT mq.create_queue('lease', max_failures => 1)")
        .await;
    let ears = listener(&server, "mq_template").await;
    let started = Instant::now();
    c.send("lease", 1).await;
    c.run("SELECT mq.read('lease', 1, '600 ms')").await;
    c.until("SELECT count(*) = 1 FROM mq.lease_dead").await;
    c.run("SELECT mq.send('q', '1', delay => '600 ms')").await;
    heard(&ears, "the notification of the send").await;
    quiet(&ears).await;
    heard(&ears, "the notification of the delay's end").await;
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "the worker slept on"
    );
}

async fn without_preload(_: Cx) {
    let server = Server::start(
        "worker-none",
        "shared_preload_libraries = ''\npg_broker.worker = on\n",
    )
    .await;
    let c = server.connect("mq_template").await;
    c.run("SELECT mq.create_queue('q', max_failures => 1, notify => true, archive_retention => '1 ms')")
        .await;
    let status =
        "SELECT concat_ws(' ', preloaded, worker_pid, cardinality(warnings)) FROM mq.status()";
    assert_eq!(c.text(status).await, "f 2");
    c.run("LISTEN \"mq.q\"").await;
    c.send("q", 1).await;
    assert_eq!(heard(&c, "the sender's own notification").await, 1);
    c.run("SELECT mq.read('q', 1, '50 ms')").await;
    c.until("SELECT bool_and(visible_at < clock_timestamp()) FROM mq.q")
        .await;
    assert_eq!(c.int("SELECT mq.maintain()").await, 1);
    assert_eq!(c.int("SELECT count(*) FROM mq.q_dead").await, 1);
    assert_eq!(c.text(status).await, "f 1");
}

/// The only slot is the launcher's: no worker can be started, again and again. The server lives, and
/// says what is wrong.
async fn without_a_slot(_: Cx) {
    let on = "pg_broker.worker = on\nmax_worker_processes = 1\n\
              max_logical_replication_workers = 0\n";
    let server = Server::start("worker-slots", on).await;
    let c = server.connect("mq_template").await;
    c.run("SELECT mq.create_queue('q', max_failures => 1, notify => true)")
        .await;
    c.until("SELECT array_to_string(warnings, ' ') LIKE '%max_worker_processes%' FROM mq.status()")
        .await;
    for n in 0..30 {
        c.run(&format!("SELECT mq.send('q', '{n}')")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The same session all the time: nothing has restarted the server.
    assert_eq!(c.hands("'q', 100").await.len(), 30);
    drop(c);
    server.down();
}
