//! A server killed with -9: `pg_test/crash/before.sql`, the crash, `pg_test/crash/after.sql`.

use crate::harness::Cx;
use crate::server::Server;
use crate::tests;
use crate::world::world;

tests![killed_and_started, killed_while_standing_by];

async fn killed_and_started(_: Cx) {
    let scripts = world().root.join("pg_test/crash");
    let server = Server::start("killed", "").await;
    server.psql("mq_template", "postgres", &scripts.join("before.sql"));
    // In the middle of a statement, too: its transaction leaves nothing.
    let c = server.connect("mq_template").await;
    c.run("BEGIN").await;
    c.run("SELECT mq.send('kept', '\"open\"'), mq.read('kept', 2), mq.ack('kept', 10)")
        .await;
    server.crash();
    server.up();
    server.psql("mq_template", "postgres", &scripts.join("after.sql"));
}

async fn killed_while_standing_by(_: Cx) {
    let scripts = world().root.join("pg_test/crash");
    let primary = Server::start("killed-primary", "").await;
    let standby = primary.standby("killed-standby");
    primary.psql("mq_template", "postgres", &scripts.join("before.sql"));
    let p = primary.connect("mq_template").await;
    let s = standby.connect("mq_template").await;
    let here = p.text("SELECT pg_current_wal_lsn()").await;
    s.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"))
        .await;
    primary.crash();
    standby.crash();
    standby.up();
    standby.promote();
    let c = standby.connect("mq_template").await;
    c.until("SELECT NOT pg_is_in_recovery()").await;
    standby.psql("mq_template", "postgres", &scripts.join("after.sql"));
}
