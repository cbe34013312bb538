//! The fence holds across a crash of the server, of a backend, and a promotion.

use crate::conn::{Conn, Hand, Patience};
use crate::fence::settles_nothing;
use crate::harness::Cx;
use crate::server::Server;
use crate::tests;

tests![crash, crash_of_one_backend, promotion];

/// A server of our own, and hand-outs that a crash may forget or keep.
async fn handed_out(name: &str) -> (Server, Conn, Vec<Hand>) {
    let server = Server::start(name, "").await;
    let conn = server.connect("mq_template").await;
    conn.run("SELECT mq.create_queue('q')").await;
    conn.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 30) n")
        .await;
    let mut old = conn.hands("'q', 10, '1 s'").await;
    conn.run("SET synchronous_commit = off").await;
    old.extend(conn.hands("'q', 10, '1 s'").await);
    (server, conn, old)
}

/// Either way the old receipts settle nothing once the messages are handed out again.
async fn fenced(server: &Server, old: &[Hand]) {
    let after = server.connect("mq_template").await;
    assert_eq!(
        after.int("SELECT count(*) FROM mq.q").await,
        30,
        "a committed send is never lost"
    );
    after
        .until("SELECT bool_and(state = 'ready') FROM mq.q")
        .await;
    let new = after.hands("'q', 30, '1 hour'").await;
    assert_eq!(new.len(), 30);
    for hand in old {
        settles_nothing(&after, "q", hand).await;
    }
    for hand in &new {
        assert!(after.settle("ack", "q", hand).await);
    }
    let next = after.send("q", 1).await;
    assert!(
        new.iter().all(|hand| hand.id < next),
        "an id was used again"
    );
}

async fn crash(_: Cx) {
    let (server, _conn, old) = handed_out("crash").await;
    server.crash();
    server.up();
    fenced(&server, &old).await;
}

async fn crash_of_one_backend(_: Cx) {
    let (server, conn, old) = handed_out("backend-crash").await;
    server.kill_backend(conn.pid);
    let patience = Patience::new("the server is back");
    while !conn.is_closed()
        || Conn::try_open(server.port, "mq_template", "postgres")
            .await
            .is_err()
    {
        patience.wait().await;
    }
    fenced(&server, &old).await;
}

async fn promotion(_: Cx) {
    let primary = Server::start("fence-primary", "").await;
    let a = primary.connect("mq_template").await;
    a.run("SELECT mq.create_queue('q')").await;
    a.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 20) n")
        .await;
    let standby = primary.standby("fence-standby");
    let b = standby.connect("mq_template").await;
    let seen = a.hands("'q', 5, '1 s'").await;
    let here = a.text("SELECT pg_current_wal_lsn()").await;
    b.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"))
        .await;
    // These hand-outs never reach the standby.
    b.run("ALTER SYSTEM SET primary_conninfo = ''").await;
    b.run("SELECT pg_reload_conf()").await;
    b.until("SELECT count(*) = 0 FROM pg_stat_wal_receiver")
        .await;
    let unseen = a.hands("'q', 10, '1 hour'").await;
    assert_eq!(unseen.len(), 10);
    primary.crash();
    standby.promote();
    b.until("SELECT NOT pg_is_in_recovery()").await;
    b.until("SELECT bool_and(state = 'ready') FROM mq.q").await;
    let new = b.hands("'q', 20, '1 hour'").await;
    assert_eq!(new.len(), 20);
    for hand in seen.iter().chain(&unseen) {
        settles_nothing(&b, "q", hand).await;
    }
    for hand in &new {
        assert!(b.settle("ack", "q", hand).await);
    }
    let next = b.send("q", 1).await;
    assert!(next > new[19].id);
}
