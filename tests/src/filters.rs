//! Reading through filters: nothing that passes is missed, nothing that does not is looked at again and
//! again, and nobody's wake-up is taken.

use crate::conn::{BOUND, Conn};
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::tests;
use crate::wake::{queue, waiting};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

tests![
    #[solo]
    looks_once,
    sees_what_changes,
    sees_what_others_leave,
    filters_beside_each_other,
    many_filters,
    nobody_is_missed,
    nobody_is_missed_in_groups,
    nobody_is_starved,
    rests_beside_a_backlog
];

const BACKLOG: i64 = 100_000;

/// Runs a statement in a transaction of its own; gives how many messages it returned, and how many rows
/// of the queue's tables it looked at.
async fn looked_at(c: &Conn, sql: &str) -> (i64, i64) {
    const FETCHED: &str = "SELECT coalesce(sum(idx_tup_fetch), 0) FROM pg_stat_xact_all_tables \
         WHERE schemaname = 'mq_internal' AND relname ~ '^q_\\d+(_s\\d+|_p)?$'";
    c.run("BEGIN").await;
    let before = c.int(FETCHED).await;
    let n = c.int(&format!("SELECT count(*) FROM {sql}")).await;
    let rows = c.int(FETCHED).await - before;
    c.run("COMMIT").await;
    (n, rows)
}

/// A backlog of what is not wanted is looked at once; from then on a read that finds nothing costs
/// hardly more than that of an empty queue, and a new message is found at once.
async fn looks_once(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.create_queue('empty')").await;
    c.run(&format!(
        "SELECT count(*) FROM mq.send_batch('q', array_fill('{{\"type\": \"truck\"}}'::jsonb, ARRAY[{BACKLOG}]))"
    ))
    .await;
    let read = "mq.read('q', filter => '$.body.type == \"car\"')";
    let started = Instant::now();
    assert_eq!(looked_at(&c, read).await, (0, BACKLOG), "the first time");
    println!("      first look: {:?}", started.elapsed());
    assert_eq!(looked_at(&c, read).await, (0, 0), "from then on");
    let mut took = [Duration::ZERO; 2];
    for _ in 0..5 {
        for (n, queue) in ["empty", "q"].iter().enumerate() {
            let sql = format!(
                "SELECT count(*) FROM generate_series(1, 200) n LEFT JOIN LATERAL \
                 (SELECT * FROM mq.read('{queue}', 1 + n * 0, filter => '$.body.type == \"car\"')) m ON true"
            );
            let started = Instant::now();
            c.run(&sql).await;
            took[n] += started.elapsed();
        }
    }
    println!(
        "      a thousand reads: empty {:?}, with a backlog {:?}",
        took[0], took[1]
    );
    assert!(took[1] < took[0] * 8, "{took:?}");
    // Whoever has no position begins at the beginning.
    let other = cx.connect().await;
    assert_eq!(looked_at(&other, read).await.1, BACKLOG);
    for n in 0..20 {
        c.send("q", "{\"type\": \"truck\"}").await;
        let id = other.send("q", "{\"type\": \"car\"}").await;
        let (found, rows) = looked_at(&c, read).await;
        assert_eq!(found, 1, "message {id}");
        assert!(rows < 10 + n * 4, "looked at {rows}");
    }
    // One long ago that becomes another.
    c.run(
        "UPDATE mq.q SET body = '{\"type\": \"car\"}' WHERE id = (SELECT min(id) + 50000 FROM mq.q)",
    )
    .await;
    let (found, rows) = looked_at(&other, read).await;
    assert!(found == 1 && rows < 300, "{found}, {rows}");
    assert_eq!(looked_at(&c, read).await.0, 0);
    // The others are there for those who want them, in order.
    assert_eq!(
        c.int("SELECT count(*) FROM mq.pop('q', 200000)").await,
        BACKLOG + 19
    );
}

const CAR: &str = "'q', 10, '1 hour', filter => '$.body == \"car\"'";

/// Whatever makes a message ready that passes, a reader who was there before finds it.
async fn sees_what_changes(cx: Cx) {
    let (c, other) = (queue(&cx).await, cx.connect().await);
    c.run("SELECT mq.send('q', '\"truck\"') FROM generate_series(1, 300)")
        .await;
    assert_eq!(c.hands(CAR).await, []);
    let one = || async {
        let hand = c.hand(CAR).await;
        assert_eq!(c.hands(CAR).await, []);
        hand
    };
    other.send("q", "\"car\"").await;
    let mut hand = one().await;
    for how in [
        "SELECT mq.nack('q', {id})",
        "SELECT mq.release('q', {id})",
        "SELECT mq.release('q', {id}, delay => '50 ms')",
        "SELECT mq.extend('q', {id}, visibility => '50 ms')",
        "SELECT mq.nack('q', {id}, delay => '300 ms')",
    ] {
        other.run(&how.replace("{id}", &hand.id.to_string())).await;
        let read = format!("SELECT id FROM mq.read({CAR}, wait => '20 s')");
        assert_eq!(c.ints(&read).await, [hand.id], "{how}");
        assert_eq!(c.hands(CAR).await, []);
    }
    // Looked at while it waited, by one who did not know of it.
    other
        .run(&format!(
            "SELECT mq.release('q', {}, delay => '200 ms')",
            hand.id
        ))
        .await;
    let late = cx.connect().await;
    assert_eq!(late.hands(CAR).await, []);
    let id = late
        .int(&format!("SELECT id FROM mq.read({CAR}, wait => '20 s')"))
        .await;
    assert_eq!(id, hand.id);
    // Mended so that it passes, and so that it does not.
    for (body, n) in [("car", 1), ("truck", 0), ("car", 1)] {
        c.run(&format!("SELECT mq.release('q', {id})")).await;
        other
            .run(&format!(
                "UPDATE mq.q SET body = '\"{body}\"' WHERE id = {id}"
            ))
            .await;
        assert_eq!(c.hands(CAR).await.len(), n, "{body}");
        assert_eq!(c.hands(CAR).await, []);
        if n == 0 {
            c.run(&format!(
                "SELECT mq.get('q', id) FROM mq.read('q', 1000) WHERE id = {id}"
            ))
            .await;
        }
    }
    // Of another priority, and from another queue.
    other
        .run("SELECT mq.send('q', '\"car\"', priority => 9)")
        .await;
    hand = one().await;
    other
        .run(&format!(
            "SELECT mq.create_queue('d'); SELECT mq.alter_queue('q', dead_letter => 'd'); \
             SELECT mq.reject('q', {}); SELECT mq.redrive('d')",
            hand.id
        ))
        .await;
    hand = one().await;
    // Prepared, and then committed or rolled back.
    let prepared = cx.connect().await;
    for (end, n) in [("ROLLBACK", 0), ("COMMIT", 1)] {
        prepared.run("BEGIN").await;
        prepared.send("q", "\"car\"").await;
        prepared
            .run(&format!("PREPARE TRANSACTION '{}'", cx.db))
            .await;
        assert_eq!(c.hands(CAR).await, []);
        prepared.run(&format!("{end} PREPARED '{}'", cx.db)).await;
        assert_eq!(c.hands(CAR).await.len(), n, "{end}");
    }
    assert!(c.settle("ack", "q", &hand).await);
}

/// Read or settled in a transaction that is rolled back, wholly or to a savepoint; own sends; a lease
/// that ends.
async fn sees_what_others_leave(cx: Cx) {
    let (c, other) = (queue(&cx).await, cx.connect().await);
    c.run("SELECT mq.send('q', '\"truck\"') FROM generate_series(1, 300)")
        .await;
    c.send("q", "\"car\"").await;
    other.run("BEGIN").await;
    let hand = other.hand(CAR).await;
    assert_eq!(c.hands(CAR).await, [], "it is locked");
    other.run("ROLLBACK").await;
    assert_eq!(c.hand(CAR).await.id, hand.id);
    c.run(&format!("SELECT mq.release('q', {})", hand.id)).await;
    other.run("BEGIN; SAVEPOINT a").await;
    other
        .run("SELECT mq.pop('q', filter => '$.body == \"car\"')")
        .await;
    assert_eq!(c.hands(CAR).await, []);
    other.run("ROLLBACK TO a").await;
    assert_eq!(c.hand(CAR).await.id, hand.id);
    other.run("COMMIT").await;
    // Its own rolled back read, too, and what it sends itself.
    c.run(&format!("SELECT mq.release('q', {})", hand.id)).await;
    c.run("BEGIN; SAVEPOINT a").await;
    assert_eq!(c.hands(CAR).await.len(), 1);
    c.run("ROLLBACK TO a").await;
    assert_eq!(c.hands(CAR).await.len(), 1);
    let own = c.send("q", "\"car\"").await;
    assert_eq!(c.hand(CAR).await.id, own);
    let own = c.send("q", "\"truck\"").await;
    assert_eq!(c.hands(CAR).await, []);
    c.run(&format!(
        "UPDATE mq.q SET body = '\"car\"' WHERE id = {own}"
    ))
    .await;
    assert_eq!(c.hand(CAR).await.id, own);
    c.run("ROLLBACK").await;
    assert_eq!(c.hand(CAR).await.id, hand.id);
    // A truck that is a car only in a transaction that is rolled back.
    let truck = c.int("SELECT min(id) FROM mq.q").await;
    c.run("BEGIN").await;
    c.run(&format!(
        "UPDATE mq.q SET body = '\"car\"' WHERE id = {truck}"
    ))
    .await;
    assert_eq!(c.hand(CAR).await.id, truck);
    c.run("ROLLBACK").await;
    assert_eq!(c.hands(CAR).await, []);
    assert_eq!(c.int("SELECT count(*) FROM mq.read('q', 1000)").await, 300);
}

async fn filters_beside_each_other(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.create_queue('r')").await;
    for queue in ["q", "r"] {
        c.run(&format!(
            "SELECT mq.send('{queue}', to_jsonb(n)) FROM generate_series(0, 99) n"
        ))
        .await;
    }
    // The same text is the same filter, but not of another queue.
    for n in 0..10 {
        for queue in ["q", "r"] {
            let read = format!(
                "SELECT count(*), min((body #>> '{{}}')::int % 10) FROM mq.pop('{queue}', 7, '$.body % 10 == {n}')"
            );
            assert_eq!(
                c.rows(&read).await[0],
                [Some("7".into()), Some(n.to_string())]
            );
            assert_eq!(
                c.rows(&read).await[0],
                [Some("3".into()), Some(n.to_string())]
            );
            assert_eq!(c.rows(&read).await[0][0], Some("0".into()));
        }
    }
    // A queue of the same name is another queue.
    c.run("SELECT mq.drop_queue('q')").await;
    c.run("SELECT mq.create_queue('q')").await;
    c.send("q", 20).await;
    assert_eq!(
        c.int("SELECT count(*) FROM mq.pop('q', 7, '$.body % 10 == 0')")
            .await,
        1
    );
    // Times are those of the session's zone.
    c.run("SELECT mq.send('q', '\"2026-01-01 00:30:00\"')")
        .await;
    let read = "SELECT count(*) FROM mq.read('q', filter => '$.body.datetime() < \"2025-12-31 23:45:00+00\".datetime()')";
    for (zone, n) in [("UTC", 0), ("Europe/Vienna", 1)] {
        c.run(&format!("SET timezone = '{zone}'")).await;
        assert_eq!(c.int(read).await, n, "{zone}");
    }
}

/// More filters than are remembered: each is right all the same.
async fn many_filters(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(0, 199) n")
        .await;
    for round in 0..2 {
        for n in 0..200 {
            let read = format!(
                "SELECT count(*) FROM mq.read('q', 5, '1 hour', filter => '$.body == {n}')"
            );
            assert_eq!(c.int(&read).await, i64::from(round == 0), "{n}");
        }
    }
}

#[derive(Default)]
struct Floor {
    producing: AtomicBool,
    sent: Mutex<HashSet<i64>>,
    got: Mutex<HashSet<i64>>,
}

/// Some read through one of three filters, some through none, and acknowledge, give back or roll back;
/// each message has only its filter's readers in the end.
async fn nobody_is_missed(cx: Cx) {
    let c = queue(&cx).await;
    all_are_read(cx, c, "NULL").await;
}

/// The same where what does not pass holds up its group.
async fn nobody_is_missed_in_groups(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q', ordering => 'group')")
        .await;
    all_are_read(cx, c, "'g' || (n + id) % 7").await;
}

async fn all_are_read(cx: Cx, c: Conn, group: &'static str) {
    c.run("SELECT mq.send('q', '99') FROM generate_series(1, 2000)")
        .await;
    let floor = Arc::new(Floor::default());
    floor.producing.store(true, Ordering::SeqCst);
    let seed = seed();
    println!("      SEED={seed}");
    let mut tasks = Vec::new();
    for reader in 0..7u64 {
        let (c, floor) = (cx.connect().await, floor.clone());
        if reader == 6 {
            c.run("SET pg_broker.hints = off").await;
        }
        let mut rng = Rng::new(seed.wrapping_mul(31).wrapping_add(reader));
        tasks.push(spawn(async move {
            let started = Instant::now();
            let kind = reader % 3;
            loop {
                assert!(started.elapsed() < BOUND * 3, "reader {reader} is not done");
                let is_last = !floor.producing.load(Ordering::SeqCst);
                let is_picky = is_last || !rng.one_in(4);
                let filter = match is_picky {
                    true => format!(", filter => '$.body == {kind}'"),
                    false => String::new(),
                };
                let wait = if rng.one_in(3) {
                    ", wait => '20 ms'"
                } else {
                    ""
                };
                c.run("BEGIN").await;
                let arguments = format!("'q', {}, '1 hour'{wait}{filter}", 1 + rng.below(4));
                let hands = c.hands(&arguments).await;
                let mut done = Vec::new();
                for hand in &hands {
                    assert!(!is_picky || hand.body == kind.to_string(), "{hand:?}");
                    let verb = match rng.below(6) {
                        _ if !is_picky => *rng.pick(&["nack", "release"]),
                        0 => "nack",
                        1 => "release",
                        _ => "ack",
                    };
                    assert!(c.settle(verb, "q", hand).await);
                    if verb == "ack" {
                        done.push(hand.id);
                    }
                }
                if rng.one_in(4) {
                    c.run("ROLLBACK").await;
                } else {
                    c.run("COMMIT").await;
                    let mut got = floor.got.lock().unwrap();
                    for id in done {
                        assert!(got.insert(id), "{id} twice");
                    }
                }
                if hands.is_empty()
                    && is_last
                    && floor.got.lock().unwrap().len() == floor.sent.lock().unwrap().len()
                {
                    return;
                }
            }
        }));
    }
    for sender in 0..2u64 {
        let (c, floor) = (cx.connect().await, floor.clone());
        let mut rng = Rng::new(seed.wrapping_add(100 + sender));
        tasks.push(spawn(async move {
            for step in 0..300 {
                c.run("BEGIN").await;
                let sql = format!(
                    "SELECT mq.send('q', to_jsonb(n % 3), delay => {}, priority => {}, group_key => {group}) \
                     FROM generate_series(1, {}) n, (SELECT {step}) s(id)",
                    rng.pick(&["NULL", "NULL", "'20 ms'"]),
                    rng.pick(&["NULL", "NULL", "7"]),
                    1 + rng.below(6)
                );
                let ids = c.ints(&sql).await;
                if rng.one_in(5) {
                    c.run("ROLLBACK").await;
                } else {
                    floor.sent.lock().unwrap().extend(&ids);
                    c.run("COMMIT").await;
                }
            }
        }));
    }
    for sender in tasks.split_off(7) {
        sender.await.unwrap();
    }
    floor.producing.store(false, Ordering::SeqCst);
    for reader in tasks {
        reader.await.unwrap();
    }
    assert_eq!(*floor.sent.lock().unwrap(), *floor.got.lock().unwrap());
    let left = "SELECT count(*) FROM mq.q WHERE body <> '99'";
    assert_eq!(c.int(left).await, 0);
}

/// Who waits without a filter, or with another, is woken though others who do not want the message
/// waited before.
async fn nobody_is_starved(cx: Cx) {
    let c = queue(&cx).await;
    let mut choosy = Vec::new();
    for n in 0..4 {
        let sql =
            format!("SELECT id FROM mq.read('q', wait => '20 s', filter => '$.body == \"{n}\"')");
        choosy.push(waiting(&cx, &sql).await.1);
    }
    let mut took = Duration::ZERO;
    const TIMES: u32 = 20;
    for n in 0..TIMES {
        let filter = ["", ", filter => '$.body > 5'"][n as usize % 2];
        let sql = format!("SELECT id FROM mq.pop('q'{filter})");
        let wait = sql.replace("mq.pop('q'", "mq.read('q', 1, '1 hour', '20 s'");
        let (_, last) = waiting(&cx, &wait).await;
        let started = Instant::now();
        let id = c.send("q", 7).await;
        assert_eq!(last.await.unwrap().unwrap(), id.to_string());
        took += started.elapsed();
    }
    println!("      woken after {:?} on average", took / TIMES);
    // What is left to the keeper takes a tenth of a second.
    assert!(took / TIMES < Duration::from_millis(60), "{took:?}");
    for (n, task) in choosy.into_iter().enumerate() {
        let id = c.send("q", format!("\"{n}\"")).await;
        assert_eq!(task.await.unwrap().unwrap(), id.to_string());
    }
}

/// Waiting for what does not come, beside a backlog and messages that come and are not wanted, takes no
/// processor.
async fn rests_beside_a_backlog(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.send('q', '1') FROM generate_series(1, 20000)")
        .await;
    let mut pids = Vec::new();
    for n in 0..3 {
        let sql =
            format!("SELECT id FROM mq.read('q', wait => '20 s', filter => '$.body == \"{n}\"')");
        pids.push(waiting(&cx, &sql).await);
    }
    let ticks = |pid: i32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before: Vec<_> = pids.iter().map(|(pid, _)| ticks(*pid)).collect();
    for _ in 0..30 {
        c.send("q", 1).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    for ((pid, _), before) in pids.iter().zip(before) {
        let spent = ticks(*pid) - before;
        assert!(spent < 40, "{spent} hundredths of a second in two seconds");
    }
    for (n, (_, task)) in pids.into_iter().enumerate() {
        let id = c.send("q", format!("\"{n}\"")).await;
        assert_eq!(task.await.unwrap().unwrap(), id.to_string());
    }
}
