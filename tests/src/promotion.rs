//! A standby that takes over while everybody is at work: the primary is killed with -9, and what
//! was acknowledged to anybody is true on the new one. Replication is synchronous, so that nothing
//! acknowledged may be lost; only leases commit without waiting, and may be.

use crate::conn::{Conn, Hand};
use crate::harness::{Cx, spawn};
use crate::ledger::{DB, End, Ledger, Load, Place, reach};
use crate::server::Server;
use crate::tests;
use crate::worker::AT_WORK;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

tests![under_load];

/// How long the load is on the primary, and then on its successor.
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(4);

async fn under_load(_: Cx) {
    let primary = Server::start("promoted-primary", "pg_broker.worker = on\n").await;
    let load = Load::begin(&primary).await;
    let ledger = load.ledger.clone();
    let p = primary.connect(DB).await;
    p.run("SELECT mq.create_queue('held', visibility => '1 hour'), mq.create_queue('calls')")
        .await;
    p.run("SELECT mq.send('held', to_jsonb(n)) FROM generate_series(1, 40) n")
        .await;
    let standby = primary.standby("promoted-standby");
    synchronous(&p).await;
    let waiter = waiting(&standby).await;
    tokio::time::sleep(BEFORE).await;
    let prepared = [
        prepare(&ledger, "commit").await,
        prepare(&ledger, "rollback").await,
    ];
    let held = hold(&p, &standby).await;
    drop(p);

    let began = Instant::now();
    primary.crash();
    standby.promote();
    ledger.port.store(standby.port, Ordering::SeqCst);
    let s = reach(&ledger).await.expect("the new primary");
    s.until("SELECT NOT pg_is_in_recovery()").await;
    let window = (began, Instant::now());
    ledger.crashes.lock().unwrap().push(window);
    // One that began to wait on the standby is woken by a commit, like any other.
    s.send("calls", 1).await;
    assert!(woken(waiter).await, "a waiter of before");
    s.run("SELECT mq.pop('calls')").await;
    let waiter = waiting(&standby).await;
    s.send("calls", 2).await;
    assert!(woken(waiter).await, "a waiter of after");
    old_receipts(&s, &held).await;
    tokio::time::sleep(AFTER).await;
    // Readers have long been past what these touched.
    for (how, end, p) in [("COMMIT", End::Acked, 0), ("ROLLBACK", End::Nacked, 1)] {
        let (name, places) = &prepared[p];
        s.run(&format!("{how} PREPARED '{name}'")).await;
        places.iter().for_each(|place| ledger.ended(*place, end));
    }
    s.until(AT_WORK).await;
    load.end(1).await;
    same_with_and_without_hints(&s).await;
}

/// From now on a commit waits for the standby.
async fn synchronous(p: &Conn) {
    p.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        .await;
    p.run("SELECT pg_reload_conf()").await;
    p.until("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        .await;
    // The sessions have heard of it, too.
    p.until("SELECT current_setting('synchronous_standby_names') = '*'")
        .await;
}

/// A session that waits, and looks by itself only after an hour.
async fn waiting(server: &Server) -> JoinHandle<bool> {
    let (c, s) = (server.connect(DB).await, server.connect(DB).await);
    c.run("SET pg_broker.recheck = '1 h'").await;
    let pid = c.pid;
    let task = spawn(async move { c.yes("CALL mq.wait('calls', '5 min', NULL)").await });
    s.until(&format!(
        "SELECT count(*) = 1 FROM pg_stat_activity \
         WHERE state = 'active' AND wait_event IS NOT NULL AND pid = {pid}"
    ))
    .await;
    task
}

async fn woken(waiter: JoinHandle<bool>) -> bool {
    let done = tokio::time::timeout(Duration::from_secs(10), waiter).await;
    done.expect("the waiter sleeps on").unwrap()
}

/// A transaction that sent and popped, and is prepared when the primary dies.
async fn prepare(ledger: &Ledger, name: &str) -> (String, Vec<Place>) {
    let c = reach(ledger).await.expect("the primary");
    let (first, last) = (ledger.number(), ledger.number());
    c.run("BEGIN").await;
    // Those that it will have taken are accounted for when it ends.
    let mut places = Vec::new();
    let patience = crate::conn::Patience::new("a message to pop");
    while places.is_empty() {
        let hands = c.try_hands("pop", "'work', 3").await.unwrap();
        places = ledger.handed(&hands);
        for hand in hands {
            c.run(&format!("INSERT INTO done VALUES ({})", hand.body))
                .await;
        }
        patience.wait().await;
    }
    places.iter().for_each(|p| ledger.ended(*p, End::Unknown));
    c.run(&format!(
        "INSERT INTO orders VALUES ({first}), ({last}); \
         SELECT mq.send('work', '{first}', priority => 8), mq.send('work', '{last}', delay => '50 ms')"
    ))
    .await;
    c.run(&format!("PREPARE TRANSACTION '{name}'")).await;
    (name.to_string(), places)
}

/// Takes leases for long: ten that the standby has, and twenty after it has lost touch. From then
/// on nobody's send or ack is acknowledged, while leases are still granted.
async fn hold(p: &Conn, standby: &Server) -> Vec<Hand> {
    p.run("BEGIN; CREATE TABLE known ()").await;
    let mut held = p.hands("'held', 10").await;
    p.run("COMMIT").await;
    let s = standby.connect(DB).await;
    s.run("ALTER SYSTEM SET primary_conninfo = ''").await;
    s.run("SELECT pg_reload_conf()").await;
    s.until("SELECT count(*) = 0 FROM pg_stat_wal_receiver")
        .await;
    for _ in 0..10 {
        held.extend(p.hands("'held', 2").await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    held
}

/// A hand-out of before is either remembered, and then it settles, or forgotten, and then not even
/// its receipt is of use.
async fn old_receipts(s: &Conn, held: &[Hand]) {
    let storage = crate::storage::of(s, "held").await;
    let known = s
        .rows(&format!(
            "SELECT id, receipt FROM {storage} WHERE due > clock_timestamp()"
        ))
        .await;
    let is_known = |hand: &Hand| {
        known.iter().any(|row| {
            row[0].as_deref() == Some(hand.id.to_string().as_str())
                && row[1].as_deref() == Some(hand.receipt.to_string().as_str())
        })
    };
    let (early, late) = held.split_at(10);
    assert!(early.iter().all(is_known), "the standby had these");
    assert!(
        !late.iter().any(is_known),
        "the standby had not heard of these"
    );
    // What is forgotten is for others to take: first, lest the old receipts be right by chance.
    let others = s.hands("'held', 100, '1 hour'").await;
    assert_eq!(others.len(), 30, "ready ones");
    for hand in held {
        assert_eq!(
            s.settle("ack", "held", hand).await,
            is_known(hand),
            "{hand:?}"
        );
    }
    for hand in &others {
        assert!(s.settle("ack", "held", hand).await, "{hand:?}");
    }
    assert_eq!(s.int("SELECT count(*) FROM mq.held").await, 0);
}

/// Readers with hints find what the table has, in its order, and so do those without.
async fn same_with_and_without_hints(s: &Conn) {
    s.run("SELECT mq.send('work', '0', priority => n % 10, delay => CASE WHEN n % 3 = 0 THEN interval '1 ms' END) FROM generate_series(1, 60) n")
        .await;
    s.until("SELECT count(*) = 60 FROM mq.work WHERE state = 'ready'")
        .await;
    let wanted = s
        .ints("SELECT id FROM mq.work ORDER BY priority DESC, id")
        .await;
    for hints in ["on", "off"] {
        s.run(&format!("SET pg_broker.hints = {hints}")).await;
        let hands = s.hands("'work', 100, '1 hour'").await;
        let ids: Vec<i64> = hands.iter().map(|hand| hand.id).collect();
        assert_eq!(ids, wanted, "hints {hints}");
        s.run("SELECT mq.release('work', id) FROM mq.work").await;
    }
}
