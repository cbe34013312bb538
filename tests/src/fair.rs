//! Tenants take turns: whoever reads, however many, and however long the backlog of one of them.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::tests;
use std::collections::HashMap;

tests![
    behind_a_backlog,
    reads_stay_cheap,
    each_has_its_share,
    one_read_of_many_tenants,
    who_waits_has_not_read,
    reads_that_end_within_a_round,
    more_tenants_than_places,
    long_backlogs_in_all_places,
];

/// A queue by tenant, and sessions that never wait for a lock.
pub async fn sessions<const N: usize>(cx: &Cx, options: &str) -> [Conn; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(cx.connect().await);
        all[all.len() - 1].never_wait().await;
    }
    all[0]
        .run(&format!(
            "SELECT mq.create_queue('q', fair_by => 'tenant'{options})"
        ))
        .await;
    match all.try_into() {
        Ok(all) => all,
        Err(_) => unreachable!(),
    }
}

/// Sends one message for each, whose tenant is its first letter.
pub async fn send(c: &Conn, bodies: &str) {
    for body in bodies.split(' ') {
        send_with(c, body, "").await;
    }
}

pub async fn send_with(c: &Conn, body: &str, options: &str) {
    let tenant = &body[..1];
    c.run(&format!(
        "SELECT mq.send('q', '\"{body}\"', '{{\"tenant\": \"{tenant}\"}}'{options})"
    ))
    .await;
}

/// Sends so many of a tenant at once.
pub async fn send_many(c: &Conn, tenant: &str, many: usize) {
    c.run(&format!(
        "SELECT count(*) FROM mq.send_batch('q', array_fill('\"{tenant}\"'::jsonb, ARRAY[{many}]), \
         headers => array_fill('{{\"tenant\": \"{tenant}\"}}'::jsonb, ARRAY[{many}]))"
    ))
    .await;
}

/// What a call gives: the bodies.
async fn bodies(c: &Conn, call: &str) -> Vec<String> {
    let rows = c.rows(&format!("SELECT body #>> '{{}}' FROM {call}")).await;
    rows.into_iter()
        .map(|row| row[0].clone().unwrap_or_default())
        .collect()
}

/// What a read gives, leased for long.
pub async fn reads(c: &Conn, qty: usize) -> String {
    bodies(c, &format!("mq.read('q', {qty}, '1 hour')"))
        .await
        .join(" ")
}

/// So many reads of one message each, in one statement.
async fn one_by_one(c: &Conn, reads: usize) -> Vec<String> {
    bodies(
        c,
        &format!("generate_series(1, {reads}) n, LATERAL mq.read('q', 1 + n * 0, '1 hour') m"),
    )
    .await
}

const LONG: usize = 30_000;

/// One message among a backlog is met after few reads, wherever it lies.
async fn behind_a_backlog(cx: Cx) {
    let [c, late] = sessions(&cx, "").await;
    for (name, is_before, is_late) in [
        ("before", true, false),
        ("after", false, false),
        ("late", true, true),
    ] {
        late.run("BEGIN").await;
        if is_before {
            send(&late, "small").await;
        }
        if !is_late {
            late.run("COMMIT; BEGIN").await;
        }
        send_many(&c, "big", LONG).await;
        if !is_before {
            send(&late, "small").await;
            late.run("COMMIT; BEGIN").await;
        }
        if is_late {
            for _ in 0..10 {
                assert_eq!(reads(&c, 1).await, "big");
            }
            late.run("COMMIT; BEGIN").await;
        }
        late.run("COMMIT").await;
        let mut reads_of_one = 1;
        while reads(&c, 1).await != "small" {
            reads_of_one += 1;
            assert!(reads_of_one <= 5, "{name}");
        }
        c.run("SELECT mq.purge_queue('q')").await;
    }
}

/// How many blocks a statement looked at.
pub async fn blocks(c: &Conn, statement: &str) -> u64 {
    let plan = c
        .text(&format!(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        ))
        .await;
    let (_, hits) = plan.split_once("\"Shared Hit Blocks\": ").unwrap();
    hits.split(',').next().unwrap().trim().parse().unwrap()
}

/// What a read costs does not grow with what waits, once it was met.
async fn reads_stay_cheap(cx: Cx) {
    let [c, x] = sessions(&cx, "").await;
    c.run("SELECT mq.create_queue('plain')").await;
    c.run(&format!(
        "SELECT count(*) FROM mq.send_batch('plain', array_fill('1'::jsonb, ARRAY[{LONG}]))"
    ))
    .await;
    send_many(&c, "big", LONG).await;
    send_many(&c, "other", 300).await;
    for _ in 0..5 {
        assert_ne!(reads(&x, 1).await, "");
    }
    let mut cost = [0; 2];
    for (n, queue) in ["plain", "q"].into_iter().enumerate() {
        for _ in 0..200 {
            let read = format!("SELECT id FROM mq.read('{queue}', 1, '1 hour')");
            cost[n] += blocks(if n == 0 { &c } else { &x }, &read).await;
        }
    }
    println!(
        "      200 reads: plain {} blocks, by tenant {}",
        cost[0], cost[1]
    );
    assert!(cost[1] < cost[0] * 4 + 2000, "{cost:?}");
}

/// Four readers, and tenants with backlogs of very different lengths: as long as somebody has
/// messages he has as many turns as anybody else.
async fn each_has_its_share(cx: Cx) {
    let [c] = sessions(&cx, "").await;
    let backlogs = [("a", 2000), ("b", 60), ("c", 700), ("d", 250)];
    for (tenant, many) in backlogs {
        send_many(&c, tenant, many).await;
    }
    let mut readers = Vec::new();
    for _ in 0..4 {
        let cx = cx.clone();
        readers.push(spawn(async move {
            let r = cx.connect().await;
            let mut taken = Vec::new();
            loop {
                let rows = r
                    .rows("SELECT (extract(epoch FROM read_at) * 1000000)::bigint, body #>> '{}' FROM mq.read('q', 1, '1 hour')")
                    .await;
                match rows.into_iter().next() {
                    Some(row) => taken.push((
                        row[0].clone().unwrap().parse::<i64>().unwrap(),
                        row[1].clone().unwrap(),
                    )),
                    None => return taken,
                }
            }
        }));
    }
    let mut taken = Vec::new();
    for reader in readers {
        taken.extend(reader.await.unwrap());
    }
    taken.sort();
    assert_eq!(taken.len(), 3010);
    let mut had: HashMap<&str, i64> = HashMap::new();
    for (_, tenant) in &taken {
        *had.entry(tenant).or_default() += 1;
        let least = backlogs
            .iter()
            .filter(|(t, many)| had.get(t).copied().unwrap_or(0) < *many as i64)
            .map(|(t, _)| had.get(t).copied().unwrap_or(0))
            .min();
        let mine = had[&tenant[..]];
        assert!(least.is_none_or(|least| mine - least <= 8), "{had:?}");
    }
}

/// In one read of more messages than there are tenants, too.
async fn one_read_of_many_tenants(cx: Cx) {
    let [c] = sessions(&cx, "").await;
    c.run(
        "SELECT count(mq.send('q', to_jsonb(t), jsonb_build_object('tenant', t))) \
         FROM generate_series(1, 150) t, generate_series(1, 20)",
    )
    .await;
    let shares = "SELECT min(n) || ' ' || max(n) || ' ' || count(*) FROM \
                  (SELECT count(*) AS n FROM mq.read('q', $n, '1 hour') GROUP BY body) s";
    for (qty, wanted) in [
        ("1000", "6 7 150"),
        ("50", "1 1 50"),
        ("300", "2 2 150"),
        ("1650", "11 11 150"),
    ] {
        let got = c.text(&shares.replace("$n", qty)).await;
        assert_eq!(got, wanted, "a read of {qty}");
    }
    assert_eq!(c.int("SELECT count(*) FROM mq.read('q', 9)").await, 0);
}

/// A tenant with nothing left leaves his turn to the next, not to those who had theirs.
async fn who_waits_has_not_read(cx: Cx) {
    let [c, x] = sessions(&cx, "").await;
    for tenant in ["a", "b", "c", "d", "e"] {
        send_many(&c, tenant, 4).await;
    }
    assert_eq!(reads(&c, 5).await, "a b c d e");
    x.run(
        "SELECT mq.delete('q', id) FROM mq.q WHERE state = 'ready' AND body IN ('\"b\"', '\"c\"')",
    )
    .await;
    assert_eq!(reads(&c, 4).await, "a d e a");
    assert_eq!(reads(&c, 1).await, "d");
    assert_eq!(reads(&c, 9).await, "e a d e");
}

/// Where more messages are read at a time than there are tenants, nobody has the odd one each time.
async fn reads_that_end_within_a_round(cx: Cx) {
    let [c] = sessions(&cx, "").await;
    send_many(&c, "a", 40).await;
    send_many(&c, "b", 40).await;
    let (mut a, mut b) = (0i32, 0i32);
    for qty in [3, 3, 3, 1, 5, 2, 7, 3, 3, 3, 9] {
        let got = reads(&c, qty).await;
        a += got.matches('a').count() as i32;
        b += got.matches('b').count() as i32;
        assert!((a - b).abs() <= 1, "{a} and {b} after {got}");
    }
}

/// Those who find no place are handed out none the less.
async fn more_tenants_than_places(cx: Cx) {
    let [c, x] = sessions(&cx, "").await;
    for (qty, readers) in [(10, [&c, &x]), (1, [&c, &c]), (1000, [&x, &c])] {
        c.run(
            "SELECT count(mq.send('q', to_jsonb(t), jsonb_build_object('tenant', t))) \
             FROM generate_series(1, 2), generate_series(1, 2300) t",
        )
        .await;
        let mut n = 0;
        let mut empty = 0;
        while n < 4600 {
            let mut got = 0;
            for reader in readers {
                got += reads(reader, qty).await.split_whitespace().count();
            }
            n += got;
            empty = if got == 0 { empty + 1 } else { 0 };
            assert!(empty < 3, "only {n} by {qty}");
        }
        assert_eq!(reads(&x, 9).await, "");
        c.run("SELECT mq.purge_queue('q')").await;
    }
}

/// All places are taken, for long: the others have a turn of theirs.
async fn long_backlogs_in_all_places(cx: Cx) {
    let [c] = sessions(&cx, "").await;
    c.run(
        "SELECT count(mq.send('q', '\"long\"', jsonb_build_object('tenant', t))) \
         FROM generate_series(1, 3), generate_series(1, 2048) t",
    )
    .await;
    let have = one_by_one(&c, 20).await;
    assert_eq!(have.len(), 20);
    c.run(
        "SELECT count(mq.send('q', '\"more\"', jsonb_build_object('tenant', t))) \
         FROM generate_series(10001, 10050) t",
    )
    .await;
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(
            one_by_one(&c, 160)
                .await
                .iter()
                .filter(|b| *b == "more")
                .count(),
        );
    }
    assert!(got.iter().all(|n| (8..=12).contains(n)), "{got:?}");
    let rest: usize = c
        .int("SELECT count(*) FROM mq.read('q', 10000, '1 hour')")
        .await as usize;
    assert_eq!(rest, 2048 * 3 + 50 - 20 - 3 * 160);
}
