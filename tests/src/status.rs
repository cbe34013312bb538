//! `mq.status()` and `mq.metrics` say what is missing, at once and whoever holds which lock.

use crate::harness::Cx;
use crate::server::Server;
use crate::tests;
use std::time::{Duration, Instant};

tests![without_a_slot];

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
