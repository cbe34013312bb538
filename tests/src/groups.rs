//! Messages of a group, and of a queue in strict order, are done one after the other, whatever their
//! consumers do: fail, give up, roll back, or let their lease end.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::{space, tests};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

tests![
    in_order,
    in_order_without_hints,
    in_order_across_segments,
    strict_order,
    by_the_first_of_each,
    given_back_and_found,
    acked_while_others_roll_back,
    behind_a_hundred_thousand
];

/// Of each group there is one sender: so the ids of its messages are in the order of their commits.
const SENDERS: u64 = 3;
const CONSUMERS: u64 = 6;
const SENT: usize = 1200;

/// So long it takes at most, on a very busy machine.
const MOST: Duration = Duration::from_secs(60);

struct Shape {
    ordering: &'static str,
    hints: fn(u64) -> bool,
    segment: Option<u64>,
}

async fn in_order(cx: Cx) {
    let hints = |_| true;
    done_in_order(&cx, "group", hints, None).await;
}

async fn in_order_without_hints(cx: Cx) {
    let hints = |n| n % 2 == 0;
    done_in_order(&cx, "group", hints, None).await;
}

async fn in_order_across_segments(cx: Cx) {
    let cx = space::working(&cx).await;
    let hints = |n| n != 1;
    done_in_order(&cx, "group", hints, Some(space::LEAST)).await;
}

async fn strict_order(cx: Cx) {
    let hints = |n| n != 1;
    done_in_order(&cx, "strict", hints, None).await;
}

async fn done_in_order(
    cx: &Cx,
    ordering: &'static str,
    hints: fn(u64) -> bool,
    segment: Option<u64>,
) {
    let shape = Arc::new(Shape {
        ordering,
        hints,
        segment,
    });
    let seed = seed();
    println!("      groups: SEED={seed}");
    let c = cx.connect().await;
    c.run(&format!(
        "SELECT mq.create_queue('q', ordering => '{}'); \
         CREATE TABLE done (at bigserial, grp text, n int)",
        shape.ordering
    ))
    .await;
    if let Some(segment) = shape.segment {
        c.run(&format!(
            "SELECT mq.alter_queue('q', segment_size => {segment})"
        ))
        .await;
    }
    let is_sent = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..if shape.ordering == "strict" {
        1
    } else {
        SENDERS
    })
        .map(|n| {
            let (cx, shape) = (cx.clone(), shape.clone());
            spawn(async move { send(&cx, &shape, n, Rng::new(seed ^ n)).await })
        })
        .collect();
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|n| {
            let (cx, shape, is_sent) = (cx.clone(), shape.clone(), is_sent.clone());
            let rng = Rng::new(seed.wrapping_add(100 + n));
            spawn(async move { consume(&cx, &shape, n, rng, &is_sent).await })
        })
        .collect();
    let mut sent = 0;
    for sender in senders {
        sent += sender.await.expect("a sender");
    }
    is_sent.store(true, Ordering::Relaxed);
    for consumer in consumers {
        consumer.await.expect("a consumer");
    }
    let out_of_order = c
        .rows(
            "SELECT grp, n, before FROM (SELECT grp, n, lag(n) OVER (PARTITION BY grp ORDER BY at) \
             AS before FROM done) d WHERE n <= before LIMIT 5",
        )
        .await;
    assert!(out_of_order.is_empty(), "out of order: {out_of_order:?}");
    assert_eq!(c.int("SELECT count(*) FROM done").await, sent as i64);
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
}

/// Sends numbered messages of this sender's groups, some in transactions that come to nothing.
async fn send(cx: &Cx, shape: &Shape, sender: u64, mut rng: Rng) -> usize {
    let c = cx.connect().await;
    let (mut next, mut sent) = (vec![0; 5], 0);
    while sent < SENT / 3 {
        let group = rng.below(5) as usize;
        let many = 1 + rng.below(4) as usize;
        let key = match shape.ordering {
            "strict" => "NULL".to_owned(),
            _ => format!("'{sender}-{group}'"),
        };
        // In strict order all messages are numbered through.
        let place = if shape.ordering == "strict" { 0 } else { group };
        let mut calls = Vec::new();
        for n in 0..many {
            let n = next[place] + n;
            let name = if shape.ordering == "strict" {
                "all".to_owned()
            } else {
                format!("{sender}-{group}")
            };
            calls.push(format!(
                "SELECT mq.send('q', '{{\"group\": \"{name}\", \"n\": {n}}}', group_key => {key})"
            ));
        }
        let is_kept = !rng.one_in(8);
        let end = if is_kept { "COMMIT" } else { "ROLLBACK" };
        c.run(&format!("BEGIN; {}; {end}", calls.join("; "))).await;
        if is_kept {
            next[place] += many;
            sent += many;
        }
        if rng.one_in(4) {
            tokio::time::sleep(Duration::from_millis(rng.below(4))).await;
        }
    }
    sent
}

/// Takes messages and does them in order, until all were sent and nothing is left.
async fn consume(cx: &Cx, shape: &Shape, n: u64, mut rng: Rng, is_sent: &AtomicBool) {
    let c = cx.connect().await;
    if !(shape.hints)(n) {
        c.run("SET pg_broker.hints = off").await;
    }
    let mut empty = 0;
    let began = Instant::now();
    loop {
        let is_over = is_sent.load(Ordering::Relaxed);
        let many = *rng.pick(&[1, 1, 2, 5, 20]);
        let lease = *rng.pick(&["1 hour", "1 hour", "1 hour", "15 ms"]);
        let is_open = rng.one_in(3);
        if is_open {
            c.run("BEGIN").await;
        }
        let wait = if rng.one_in(2) { ", '20 ms'" } else { "" };
        let rows = c
            .rows(&format!(
                "SELECT id, receipt, body->>'group', body->>'n' FROM mq.read('q', {many}, '{lease}'{wait})"
            ))
            .await;
        empty = match rows.is_empty() && is_over {
            true => empty + 1,
            false => 0,
        };
        let is_undone = is_open && rng.one_in(4);
        work(&c, &rows, &mut rng).await;
        if is_open {
            c.run(if is_undone { "ROLLBACK" } else { "COMMIT" }).await;
            if is_undone {
                // What was read is back; nobody holds it.
                continue;
            }
        }
        if rows.is_empty() {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        if empty >= 5 && c.int("SELECT count(*) FROM mq.q").await == 0 {
            return;
        }
        if began.elapsed() > MOST {
            let left = "SELECT id, group_key, state, attempts, failures, visible_at, read_at FROM mq.q \
                        ORDER BY group_key, id LIMIT 20";
            panic!("left over: {:#?}", c.rows(left).await);
        }
    }
}

/// Does messages one by one; at the first that fails, gives back all that follow of its group.
async fn work(c: &Conn, rows: &[Vec<Option<String>>], rng: &mut Rng) {
    let mut failed: Vec<String> = Vec::new();
    for row in rows {
        let cell = |n: usize| row[n].clone().unwrap_or_default();
        let (id, receipt, group, number) = (cell(0), cell(1), cell(2), cell(3));
        if failed.contains(&group) {
            c.run(&format!("SELECT mq.release('q', {id}, {receipt})"))
                .await;
            continue;
        }
        if rng.one_in(12) {
            tokio::time::sleep(Duration::from_millis(rng.below(20))).await;
        }
        let is_done = match rng.below(10) {
            0 => {
                c.run(&format!(
                    "SELECT mq.nack('q', {id}, {receipt}, delay => '{} ms')",
                    rng.below(8)
                ))
                .await;
                false
            }
            _ => {
                c.yes(&format!(
                    "WITH a AS MATERIALIZED (SELECT mq.ack('q', {id}, {receipt}) AS ok), \
                     i AS (INSERT INTO done (grp, n) SELECT '{group}', {number} FROM a WHERE ok) \
                     SELECT ok FROM a"
                ))
                .await
            }
        };
        if !is_done {
            failed.push(group);
        }
    }
}

/// A group's turn is that of its first message, by its priority, also where readers have passed the
/// others, and where they look at everything.
async fn by_the_first_of_each(cx: Cx) {
    let c = cx.connect().await;
    for hints in ["on", "off"] {
        c.run(&format!("SET pg_broker.hints = {hints}")).await;
        for ordering in ["group", "strict"] {
            c.run(&format!(
                "SELECT mq.create_queue('q', ordering => '{ordering}')"
            ))
            .await;
            let is_strict = ordering == "strict";
            for (body, priority, group) in [
                ("a1", 1, "'a'"),
                ("a2", 9, "'a'"),
                ("b", 5, "'b'"),
                ("free", 3, "NULL"),
            ] {
                let group = if is_strict { "NULL" } else { group };
                c.run(&format!(
                    "SELECT mq.send_text('q', '{body}', priority => {priority}, group_key => {group})"
                ))
                .await;
            }
            let next = "SELECT coalesce((SELECT body #>> '{}' FROM mq.read('q')), 'nothing')";
            let ack = "SELECT count(mq.ack('q', id)) FROM mq.q WHERE state = 'leased'";
            let mut got = Vec::new();
            for _ in 0..4 {
                got.push(c.text(next).await);
                if is_strict {
                    c.run(ack).await;
                }
            }
            if !is_strict {
                c.run(ack).await;
                got.push(c.text(next).await);
            }
            let expected: &[&str] = match is_strict {
                true => &["a1", "a2", "b", "free"],
                false => &["b", "free", "a1", "nothing", "a2"],
            };
            assert_eq!(got, expected, "hints {hints}, {ordering}");
            c.run("SELECT mq.drop_queue('q')").await;
        }
    }
}

/// A group is taken, and given back, by sessions that all want it: whoever finds it taken by one who is
/// about to leave is told when he has left.
async fn given_back_and_found(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_queue('q', ordering => 'group'); \
           SELECT mq.send('q', to_jsonb(n), group_key => 'a') FROM generate_series(1, 2) n",
    )
    .await;
    for round in 0..12 {
        let sessions: Vec<_> = (0..4)
            .map(|_| {
                let cx = cx.clone();
                spawn(async move {
                    let c = cx.connect().await;
                    for n in 0..120 {
                        c.run("BEGIN; SELECT mq.read('q'); ").await;
                        c.run(["ROLLBACK", "SELECT mq.release('q', id) FROM mq.q; COMMIT"][n % 2])
                            .await;
                    }
                })
            })
            .collect();
        for session in sessions {
            session.await.expect("a session");
        }
        c.run("SELECT mq.release('q', id) FROM mq.q").await;
        let found = c.rows("SELECT id FROM mq.read('q', 2)").await;
        assert_eq!(found.len(), 2, "round {round}");
        c.run("SELECT mq.release('q', id) FROM mq.q").await;
    }
}

/// Somebody's rollback is counted by whoever reads next, and not while another has the message: he can
/// settle it at any moment.
async fn acked_while_others_roll_back(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_queue('q'); \
           SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 4000) n",
    )
    .await;
    let sessions: Vec<_> = (0..5)
        .map(|n| {
            let cx = cx.clone();
            spawn(async move {
                let (c, mut rng) = (cx.connect().await, Rng::new(n));
                loop {
                    c.run("BEGIN").await;
                    let hands = c.hands("'q', 5, '1 hour'").await;
                    if rng.one_in(3) {
                        c.run("DO $$BEGIN RAISE division_by_zero; EXCEPTION WHEN OTHERS THEN NULL; END$$")
                            .await;
                        c.run("ROLLBACK").await;
                        continue;
                    }
                    c.run("COMMIT").await;
                    if hands.is_empty() {
                        return;
                    }
                    for hand in hands {
                        assert!(c.settle("ack", "q", &hand).await, "{hand:?}");
                    }
                }
            })
        })
        .collect();
    for session in sessions {
        session.await.expect("a session");
    }
}

/// What groups that wait for somebody cost the others: nothing that grows with them.
async fn behind_a_hundred_thousand(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SET synchronous_commit = off; SELECT mq.create_queue('plain'); \
           SELECT mq.create_queue('q', ordering => 'group')",
    )
    .await;
    let fill = "SELECT count(*) FROM mq.send_batch('q', (SELECT array_agg(to_jsonb(n)) FROM \
                generate_series(1, 100000) n), group_keys => (SELECT array_agg('g' || n) FROM \
                generate_series(1, 100000) n))";
    c.run(fill).await;
    while c
        .int("SELECT count(*) FROM mq.read('q', 250, '10 hours')")
        .await
        > 0
    {}
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q WHERE state = 'leased'")
            .await,
        100_000
    );
    c.run(fill).await;
    // Somebody passes them once.
    assert_eq!(c.int("SELECT count(*) FROM mq.read('q')").await, 0);
    let cycles = |queue: &'static str| {
        format!(
            "DO $$DECLARE m mq.message; t timestamptz; BEGIN FOR i IN 1..200 LOOP \
             PERFORM mq.send('{queue}', '1', group_key => {}); \
             SELECT * INTO m FROM mq.read('{queue}'); \
             IF m.id IS NULL OR NOT mq.ack('{queue}', m.id, m.receipt) THEN RAISE 'nothing'; END IF; \
             END LOOP; END$$",
            if queue == "q" { "'new' || i" } else { "NULL" }
        )
    };
    let mut ratios = Vec::new();
    for _ in 0..7 {
        let mut took = [0.0; 2];
        for (queue, took) in ["plain", "q"].into_iter().zip(&mut took) {
            let began = Instant::now();
            c.run(&cycles(queue)).await;
            *took = began.elapsed().as_secs_f64();
        }
        ratios.push(took[1] / took[0]);
    }
    ratios.sort_by(f64::total_cmp);
    println!("      groups: {ratios:.2?} times as long");
    // The bench measures it; here it must not be another order.
    assert!(ratios[3] < 4.0, "{ratios:?}");
}
