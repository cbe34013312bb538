//! Databases come, go, and change their names while workers are connected to them.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::server::Server;
use crate::tests;
use crate::worker::{AT_WORK, server, site};
use std::time::{Duration, Instant};

tests![
    copied_renamed_dropped,
    several_databases,
    they_take_turns,
    extension_comes_and_goes,
    nobody_is_left_outside,
];

/// A queue in which something comes due again and again.
async fn busy(c: &Conn) {
    c.run("SELECT mq.create_queue('q', max_failures => 100, notify => true)")
        .await;
    c.run("SELECT mq.send('q', '1', delay => i * interval '20 ms') FROM generate_series(1, 200) i")
        .await;
    c.until(AT_WORK).await;
}

async fn copied_renamed_dropped(_: Cx) {
    let (server, c) = site("moved").await;
    busy(&c).await;
    drop(c);
    let admin = server.connect("postgres").await;
    let away = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'moved' AND backend_type = 'client backend'";
    admin.until(away).await;
    for round in 0..12 {
        let started = Instant::now();
        admin.run("CREATE DATABASE moved_copy TEMPLATE moved").await;
        assert!(
            server
                .connect("moved_copy")
                .await
                .yes("SELECT count(*) > 0 FROM mq.q")
                .await
        );
        let gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname LIKE 'moved%' AND backend_type = 'client backend'";
        if round % 2 == 0 {
            // At other times they come while the worker is about to connect.
            let there = "SELECT count(*) = 2 FROM pg_stat_activity WHERE datname LIKE 'moved%' AND backend_type = 'pg_broker worker'";
            admin.until(there).await;
        }
        admin.until(gone).await;
        admin
            .run("ALTER DATABASE moved_copy RENAME TO moved_again")
            .await;
        admin.run("DROP DATABASE moved_again").await;
        admin
            .run("ALTER DATABASE moved RENAME TO moved_other")
            .await;
        admin
            .run("ALTER DATABASE moved_other RENAME TO moved")
            .await;
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "waited for the worker"
        );
    }
    server.connect("moved").await.until(AT_WORK).await;
    let log = std::fs::read_to_string(server.dir.with_extension("log")).unwrap();
    assert!(
        !log.contains("FATAL:  database"),
        "a worker was started for a database that was gone"
    );
    // A refused statement leaves nobody outside either.
    let guest = server.connect("moved").await;
    admin.refused("DROP DATABASE moved", "55006").await;
    guest.until(AT_WORK).await;
}

async fn several_databases(_: Cx) {
    let mut sessions = Vec::new();
    for n in 0..3 {
        let (server, c) = site(&format!("several_{n}")).await;
        c.run("SELECT mq.create_queue('q', max_failures => 1)")
            .await;
        c.send("q", n).await;
        c.run("SELECT mq.read('q', 1, '100 ms')").await;
        sessions.push((server, c));
    }
    for (n, (_, c)) in sessions.iter().enumerate() {
        c.until("SELECT count(*) = 1 FROM mq.q_dead").await;
        assert_eq!(c.text("SELECT body FROM mq.q_dead").await, n.to_string());
    }
}

async fn they_take_turns(_: Cx) {
    let server = Server::start(
        "worker-turns",
        "pg_broker.worker = on\npg_broker.workers = 1\n",
    )
    .await;
    let admin = server.connect("postgres").await;
    let mut sessions = Vec::new();
    for n in 0..2 {
        admin
            .run(&format!("CREATE DATABASE turn_{n} TEMPLATE mq_template"))
            .await;
        let c = server.connect(&format!("turn_{n}")).await;
        c.run("SELECT mq.create_queue('q', max_failures => 1)")
            .await;
        c.send("q", n).await;
        c.run("SELECT mq.read('q', 1, '100 ms')").await;
        sessions.push(c);
    }
    for c in &sessions {
        c.until("SELECT count(*) = 1 FROM mq.q_dead").await;
    }
}

async fn extension_comes_and_goes(_: Cx) {
    let server = server().await;
    let admin = server.connect("postgres").await;
    admin
        .run("CREATE DATABASE comes_and_goes TEMPLATE template0")
        .await;
    let c = server.connect("comes_and_goes").await;
    for _ in 0..3 {
        c.run("CREATE EXTENSION pg_broker").await;
        c.run("SELECT mq.create_queue('q', max_failures => 1)")
            .await;
        c.until(AT_WORK).await;
        c.send("q", 1).await;
        c.run("SELECT mq.read('q', 1, '100 ms')").await;
        c.until("SELECT count(*) = 1 FROM mq.q_dead").await;
        c.run("DROP EXTENSION pg_broker CASCADE").await;
    }
    let none = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'pg_broker worker'";
    c.until(none).await;
}

/// Somebody who wanted the database and was killed does not keep the worker out for ever.
async fn nobody_is_left_outside(_: Cx) {
    let (server, c) = site("outside").await;
    busy(&c).await;
    let admin = server.connect("postgres").await;
    let pid = admin.pid;
    // Waits for this session to leave, and is terminated meanwhile.
    let wait = tokio::spawn(async move { admin.cells("DROP DATABASE outside").await.is_err() });
    c.until(&format!(
        "SELECT state = 'active' FROM pg_stat_activity WHERE pid = {pid}"
    ))
    .await;
    c.run(&format!("SELECT pg_terminate_backend({pid})")).await;
    assert!(wait.await.unwrap());
    c.until(AT_WORK).await;
}
