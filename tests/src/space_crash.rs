//! Killed with -9 around rotations, again and again: the ledger is exact after each start, the
//! ranges and the tables agree, and the queue goes on.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::ledger::{DB, Ledger, Load, reach};
use crate::rng::{Rng, seed};
use crate::server::Server;
use crate::space::{self, LEAST, Upkeep};
use crate::tests;
use crate::traffic::Traffic;
use std::sync::Arc;
use std::time::{Duration, Instant};

tests![with_a_worker, with_readers_alone, unlogged];

const KILLS: usize = 12;

async fn with_a_worker(_: Cx) {
    killed("space-killed", Upkeep::Worker).await;
}

async fn with_readers_alone(_: Cx) {
    killed("space-killed-readers", Upkeep::Readers).await;
}

async fn killed(name: &str, upkeep: Upkeep) {
    let common = "checkpoint_timeout = '30s'\nwal_writer_delay = '10ms'\n";
    let server = Server::start(name, &format!("{common}{}", upkeep.settings())).await;
    let load = Load::begin(&server).await;
    let c = server.connect(DB).await;
    c.run(&format!(
        "SELECT mq.alter_queue('work', segment_size => {LEAST})"
    ))
    .await;
    drop(c);
    let mut rng = Rng::new(seed());
    let mut rotated = 0;
    for _ in 0..KILLS {
        rotated += usize::from(rotates(&load.ledger).await);
        // Whatever rotation does next, some kill meets it.
        tokio::time::sleep(Duration::from_millis(rng.below(120))).await;
        let began = Instant::now();
        server.crash();
        server.up();
        let c = reach(&load.ledger).await.expect("a server");
        let window = (began, Instant::now());
        load.ledger.crashes.lock().unwrap().push(window);
        space::places(&c, "work").await;
    }
    assert!(rotated >= KILLS / 2, "{rotated} rotations were met");
    let c = server.connect(DB).await;
    load.end(KILLS).await;
    space::all_truncated(&c, "work", upkeep).await;
    let parts = space::parts(&c, "work").await;
    assert!(
        parts.len() < 3 * space::FEW,
        "tables are left behind: {parts:#?}"
    );
}

/// Waits until the queue begins a new range; not if that takes long.
async fn rotates(ledger: &Ledger) -> bool {
    let c = reach(ledger).await.expect("a server");
    let newest = async |c: &Conn| {
        let parts = space::segments(c, "work").await;
        parts.into_iter().filter_map(|part| part.first).max()
    };
    let (began, before) = (Instant::now(), newest(&c).await);
    while began.elapsed() < Duration::from_secs(3) {
        if newest(&c).await > before {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

/// An unlogged queue is empty after a crash, and works and rotates like a new one.
async fn unlogged(cx: Cx) {
    let settings = Upkeep::Calls.settings();
    let server = Arc::new(Server::start("space-unlogged", &settings).await);
    let cx = cx.on(server.clone());
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, ", durable => false").await;
    c.run("SELECT mq.create_queue('kept')").await;
    c.send("kept", 1).await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    traffic.turns(8).await;
    let logged = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                  WHERE nspname = 'mq_internal' AND relname ~ '^q_[0-9]+(_s[0-9]+|_p)$' AND relpersistence <> 'u'";
    assert_eq!(traffic.c.int(logged).await, 0, "a segment is logged");
    let left = traffic.send(3 * LEAST).await;
    traffic.c.run("SELECT mq.read('q', 10, '1 hour')").await;
    for _ in 0..3 {
        server.crash();
        server.up();
        let c = cx.connect().await;
        assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
        assert_eq!(c.hands("'q', 10").await, []);
        assert_eq!(c.int("SELECT count(*) FROM mq.kept").await, 1);
        traffic.c = c;
        let first = traffic.c.send("q", 1).await;
        assert!(first > *left.last().unwrap(), "{first} was used before");
        traffic.finish_with(&[first]).await;
        traffic.turns(8).await;
        traffic.finish().await;
        space::all_truncated(&traffic.c, "q", Upkeep::Calls).await;
        traffic.send(10).await;
    }
}
