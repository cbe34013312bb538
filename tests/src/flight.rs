//! `max_in_flight`: never are more messages leased at one time, and no place is lost, whatever readers
//! do and however it ends.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::server::Server;
use crate::tests;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

tests![
    eight_readers,
    places_come_back,
    savepoints,
    who_waits_is_called,
    leases_that_ended,
    prolonged_leases,
    prepared,
    after_a_restart,
    without_hints
];

const MOST: i64 = 5;

async fn queue(c: &Conn, most: i64, messages: i64) {
    c.run(&format!(
        "SELECT mq.create_queue('q', max_in_flight => {most})"
    ))
    .await;
    c.run(&format!(
        "SELECT mq.send_batch('q', array_agg(to_jsonb(n))) FROM generate_series(1, {messages}) n"
    ))
    .await;
}

/// How many can be had at one time now: that many are, for a while.
async fn all_can_be_had(c: &Conn, most: i64) {
    let had = "WITH r AS (SELECT id, receipt FROM mq.read('q', 100)) \
               SELECT count(*) FROM r WHERE mq.release('q', id, receipt)";
    c.until("SELECT count(*) = 0 FROM mq.q WHERE state = 'leased'")
        .await;
    assert!(
        c.int("SELECT count(*) FROM mq.q WHERE state = 'ready'")
            .await
            > most
    );
    for _ in 0..2 {
        assert_eq!(c.int(had).await, most, "some places were lost");
    }
}

/// One thing that a consumer may do.
async fn deed(c: &Conn, rng: &mut Rng) -> Result<(), crate::conn::Refusal> {
    let qty = 1 + rng.below(3);
    let short = rng.below(400) + 1;
    let in_hand = |lease: String| format!("FROM mq.read('q', {qty}, '{lease}') m");
    let deeds = match rng.below(13) {
        0 => format!("SELECT mq.ack('q', m.id, m.receipt) {}", in_hand("1 min".into())),
        1 => format!("SELECT mq.nack('q', m.id, m.receipt) {}", in_hand("1 min".into())),
        2 => format!("SELECT mq.release('q', m.id, m.receipt, '20 ms') {}", in_hand("1 min".into())),
        3 | 4 => format!("SELECT m.id {}", in_hand(format!("{short} ms"))),
        5 => format!("SELECT m.id {}", in_hand(format!("{} ms", short * 8))),
        6 => format!("SELECT id FROM mq.pop('q', {qty})"),
        7 => format!("BEGIN; SELECT m.id {}; SELECT pg_sleep(0.02); ROLLBACK", in_hand("1 min".into())),
        8 => format!(
            "BEGIN; SELECT m.id {}; SELECT pg_sleep(0.05); COMMIT",
            in_hand(format!("{} ms", rng.below(90) + 1))
        ),
        9 => format!(
            "BEGIN; SAVEPOINT s; SELECT m.id {0}; ROLLBACK TO s; SELECT m.id {0}; COMMIT",
            in_hand(format!("{short} ms"))
        ),
        10 => format!(
            "SELECT mq.extend('q', m.id, m.receipt, '{short} ms') {}",
            in_hand("30 ms".into())
        ),
        11 => "SELECT mq.extend('q', id, NULL, '200 ms') FROM mq.q WHERE state IN ('leased', 'ready') LIMIT 3".into(),
        _ => "BEGIN; SELECT mq.extend('q', id, NULL, '100 ms') FROM mq.q WHERE state = 'leased' LIMIT 2; \
              SELECT pg_sleep(0.03); COMMIT"
            .to_string(),
    };
    for statement in deeds.split("; ") {
        c.cells(statement).await?;
    }
    Ok(())
}

async fn eight_readers(cx: Cx) {
    let c = cx.connect().await;
    queue(&c, MOST, 4000).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let seed = seed();
    let mut readers = Vec::new();
    for n in 0..8 {
        let (cx, is_over) = (cx.clone(), is_over.clone());
        readers.push(spawn(async move {
            let c = cx.connect().await;
            let mut rng = Rng::new(seed + n);
            let mut deeds = 0;
            while !is_over.load(Ordering::Relaxed) {
                deed(&c, &mut rng)
                    .await
                    .unwrap_or_else(|no| panic!("seed {seed}: {no:?}"));
                deeds += 1;
            }
            deeds
        }));
    }
    let (mut looks, mut full) = (0, 0);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(8) {
        let leased = c
            .int("SELECT count(*) FROM mq.q WHERE state = 'leased'")
            .await;
        assert!(leased <= MOST, "seed {seed}: {leased} leased at one time");
        looks += 1;
        full += i64::from(leased == MOST);
    }
    is_over.store(true, Ordering::Relaxed);
    let mut deeds = 0;
    for reader in readers {
        deeds += reader.await.unwrap();
    }
    assert!(
        looks > 50 && full > 5 && deeds > 100,
        "{looks} looks, {full} full, {deeds} deeds"
    );
    all_can_be_had(&c, MOST).await;
}

async fn places_come_back(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    queue(&c, 3, 20).await;
    for give_back in ["ack", "nack", "release", "archive", "reject", "delete"] {
        let hands = c.hands("'q', 2, '1 hour'").await;
        assert_eq!(hands.len(), 2, "{give_back}");
        assert_eq!(other.hands("'q', 5, '1 hour'").await.len(), 1);
        assert_eq!(other.hands("'q', 5").await.len(), 0);
        assert_eq!(other.try_hands("pop", "'q', 5").await.unwrap().len(), 0);
        let id = hands[0].id;
        c.run(&format!("SELECT mq.{give_back}('q', {id})")).await;
        assert_eq!(
            other.try_hands("pop", "'q', 5").await.unwrap().len(),
            1,
            "{give_back}"
        );
        assert_eq!(
            other.hands("'q', 5, '1 hour'").await.len(),
            1,
            "a pop holds no place"
        );
        c.run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
            .await;
    }
    all_can_be_had(&c, 3).await;
    // A change counts at once.
    c.run("SELECT mq.alter_queue('q', max_in_flight => 1)")
        .await;
    all_can_be_had(&other, 1).await;
    c.run("SELECT mq.alter_queue('q', reset => '{max_in_flight}')")
        .await;
    assert!(other.hands("'q', 5").await.len() > 1);
}

/// Places of a transaction are held until its end, those of a savepoint until that is rolled back.
async fn savepoints(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    queue(&c, 3, 20).await;
    c.run("BEGIN; SELECT mq.read('q'); SAVEPOINT a; SELECT mq.read('q')")
        .await;
    assert_eq!(other.hands("'q', 9, '1 hour'").await.len(), 1);
    c.run("SAVEPOINT b; RELEASE b; ROLLBACK TO a").await;
    assert_eq!(other.hands("'q', 9, '1 hour'").await.len(), 1);
    assert_eq!(other.hands("'q', 9, '1 hour'").await.len(), 0);
    c.run("SAVEPOINT b; RELEASE b; ROLLBACK").await;
    assert_eq!(other.hands("'q', 9, '1 hour'").await.len(), 1);
    // Also when the session is gone.
    c.run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
        .await;
    let third = cx.connect().await;
    third.run("BEGIN; SELECT mq.read('q', 3)").await;
    assert_eq!(other.hands("'q', 9").await.len(), 0);
    c.run(&format!("SELECT pg_terminate_backend({})", third.pid))
        .await;
    c.until("SELECT 3 = (SELECT count(*) FROM mq.read('q', 9, '1 hour'))")
        .await;
    c.run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
        .await;
    // What fails within a read gives back what was promised.
    c.run("BEGIN; SAVEPOINT a").await;
    c.refused("SELECT 1 / (count(*) - 3) FROM mq.read('q', 3)", "22012")
        .await;
    assert_eq!(other.hands("'q', 9, '1 hour'").await.len(), 3);
    c.run("ROLLBACK").await;
}

async fn who_waits_is_called(cx: Cx) {
    let c = cx.connect().await;
    queue(&c, 1, 50).await;
    for frees in [
        "SELECT mq.ack('q', id) FROM mq.q WHERE state = 'leased'",
        "SELECT mq.nack('q', id, delay => '1 hour') FROM mq.q WHERE state = 'leased'",
        "SELECT mq.delete('q', id) FROM mq.q WHERE state = 'leased'",
        "SELECT mq.alter_queue('q', max_in_flight => 2)",
    ] {
        assert_eq!(c.hands("'q', 5, '1 hour'").await.len(), 1);
        let waiter = cx.connect().await;
        let waits = spawn(async move { waiter.hands("'q', 5, wait => '20 s'").await.len() });
        c.until("SELECT waiters = 1 FROM mq.metrics WHERE queue = 'q'")
            .await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let started = Instant::now();
        c.run(frees).await;
        assert_eq!(waits.await.unwrap(), 1, "{frees}");
        let took = started.elapsed();
        assert!(took < Duration::from_millis(500), "{frees}: {took:?}");
        c.run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
            .await;
    }
    // A transaction that ends, and a lease.
    c.run("SELECT mq.alter_queue('q', max_in_flight => 1); BEGIN; SELECT mq.read('q')")
        .await;
    for ends in ["ROLLBACK", "SELECT mq.read('q', visibility => '700 ms')"] {
        let waiter = cx.connect().await;
        if ends != "ROLLBACK" {
            c.run(ends).await;
        }
        let waits = spawn(async move { waiter.hands("'q', 5, '1 ms', '20 s'").await.len() });
        c.until("SELECT waiters = 1 FROM mq.metrics WHERE queue = 'q'")
            .await;
        let started = Instant::now();
        if ends == "ROLLBACK" {
            c.run(ends).await;
        }
        assert_eq!(waits.await.unwrap(), 1, "{ends}");
        let took = started.elapsed();
        assert!(took < Duration::from_millis(1000), "{ends}: {took:?}");
        c.until("SELECT count(*) = 0 FROM mq.q WHERE state = 'leased'")
            .await;
    }
    // Several who wait go through one place one after the other.
    let mut readers = Vec::new();
    for _ in 0..4 {
        let r = cx.connect().await;
        readers.push(spawn(async move {
            let hand = r.hand("'q', wait => '20 s'").await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(r.settle("ack", "q", &hand).await);
        }));
    }
    let started = Instant::now();
    for reader in readers {
        reader.await.unwrap();
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// A place is free as soon as the lease has ended, also where other leases ended in another second.
async fn leases_that_ended(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    queue(&c, 6, 200).await;
    for lease in ["1 ms", "300 ms", "2 s", "5.5 s", "6 s", "1 hour"] {
        assert_eq!(c.hands(&format!("'q', 1, '{lease}'")).await.len(), 1);
    }
    let mut had = 0;
    let started = Instant::now();
    while had < 5 {
        had += other.hands("'q', 1, '1 hour'").await.len();
        let leased = c
            .int("SELECT count(*) FROM mq.q WHERE state = 'leased'")
            .await;
        assert!(leased <= 6, "{leased}");
        let ended = [1, 300, 2000, 5500, 6000];
        let now = started.elapsed().as_millis() as u64;
        let must = ended.iter().filter(|e| **e + 150 < now).count();
        assert!(had >= must, "{had} of {must} after {now} ms");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(other.hands("'q', 1, '1 hour'").await.len(), 0);
}

/// A lease that ended may not be prolonged once another message has its place.
async fn prolonged_leases(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    queue(&c, 1, 5).await;
    let hand = c.hand("'q', 1, '50 ms'").await;
    assert!(c.settle("extend", "q", &hand).await, "while it lasts");
    assert!(other.hands("'q'").await.is_empty());
    c.run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
        .await;
    let hand = c.hand("'q', 1, '1 ms'").await;
    c.until("SELECT count(*) = 0 FROM mq.q WHERE state = 'leased'")
        .await;
    assert!(c.settle("extend", "q", &hand).await, "its place is free");
    c.run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
        .await;
    let hand = c.hand("'q', 1, '1 ms'").await;
    c.until("SELECT count(*) = 0 FROM mq.q WHERE state = 'leased'")
        .await;
    other.run("BEGIN; SELECT mq.pop('q')").await;
    assert!(!c.settle("extend", "q", &hand).await);
    other.run("ROLLBACK").await;
    // A lease that ends while the transaction that prolongs it is open keeps its place.
    c.run("SELECT mq.delete('q', id) FROM mq.q WHERE attempts > 0")
        .await;
    let hand = c.hand("'q', 1, '100 ms'").await;
    c.run("BEGIN").await;
    assert!(c.settle("extend", "q", &hand).await);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(other.hands("'q'").await.is_empty());
    c.run("COMMIT").await;
    assert!(other.hands("'q'").await.is_empty());
}

async fn prepared(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    queue(&c, 2, 9).await;
    for (end, freed) in [("COMMIT", 0), ("ROLLBACK", 1)] {
        c.run("BEGIN; SELECT mq.read('q', 1, '1 hour'); PREPARE TRANSACTION 'flight'")
            .await;
        assert_eq!(other.hands("'q', 9, '1 hour'").await.len(), 1);
        assert_eq!(c.hands("'q', 9").await.len(), 0);
        c.run(&format!("{end} PREPARED 'flight'")).await;
        assert_eq!(other.hands("'q', 9, '1 hour'").await.len(), freed, "{end}");
        c.run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
            .await;
    }
    c.run("BEGIN; SELECT mq.pop('q', 2); PREPARE TRANSACTION 'flight'")
        .await;
    let waiter = cx.connect().await;
    let waits = spawn(async move { waiter.hands("'q', 1, wait => '20 s'").await.len() });
    c.until("SELECT waiters = 1 FROM mq.metrics WHERE queue = 'q'")
        .await;
    let started = Instant::now();
    c.run("COMMIT PREPARED 'flight'").await;
    assert_eq!(waits.await.unwrap(), 1);
    assert!(started.elapsed() < Duration::from_secs(1));
    c.run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
        .await;
    all_can_be_had(&c, 2).await;
}

async fn after_a_restart(_: Cx) {
    let server = Server::start("flight", "").await;
    for stop in [Server::down, Server::crash] {
        let c = server.connect("mq_template").await;
        c.run("SET pg_broker.lease_commit = 'sync'").await;
        queue(&c, 4, 50).await;
        assert_eq!(c.hands("'q', 2, '1 hour'").await.len(), 2);
        c.run("BEGIN; SELECT mq.read('q'); PREPARE TRANSACTION 'flight'")
            .await;
        drop(c);
        stop(&server);
        server.up();
        let c = server.connect("mq_template").await;
        // How many a transaction prepared before it has taken, nobody knows.
        assert_eq!(c.hands("'q', 9").await.len(), 0);
        c.run("COMMIT PREPARED 'flight'").await;
        assert_eq!(c.hands("'q', 9").await.len(), 1);
        assert_eq!(c.hands("'q', 9").await.len(), 0);
        c.run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
            .await;
        all_can_be_had(&c, 4).await;
        c.run("SELECT mq.drop_queue('q')").await;
    }
    server.down();
}

async fn without_hints(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    queue(&c, 2, 50).await;
    for session in [&c, &other] {
        session.run("SET pg_broker.hints = off").await;
    }
    assert_eq!(c.hands("'q', 1, '300 ms'").await.len(), 1);
    assert_eq!(other.hands("'q', 9, '1 hour'").await.len(), 1);
    assert_eq!(other.hands("'q', 9").await.len(), 0);
    let started = Instant::now();
    assert_eq!(other.hands("'q', 9, wait => '20 s'").await.len(), 1);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}
