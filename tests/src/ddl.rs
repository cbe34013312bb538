//! Queues made, changed and dropped while others use them.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::tests;

tests![
    create_race,
    drop_against_read,
    alter_is_seen_at_once,
    rename_under_use,
    churn,
    options_round_trip,
    purge_beside_open_transactions,
    metrics_and_status,
];

async fn pair(cx: &Cx) -> (Conn, Conn) {
    let (a, b) = (cx.connect().await, cx.connect().await);
    a.run("SELECT mq.create_queue('q'); SELECT mq.send('q', '1')")
        .await;
    (a, b)
}

async fn create_race(cx: Cx) {
    let (a, b) = pair(&cx).await;
    for (end, options, expected) in [
        ("COMMIT", "", Err("42P07")),
        ("COMMIT", ", if_not_exists => true", Ok("f")),
        ("ROLLBACK", "", Ok("t")),
        ("ROLLBACK", ", if_not_exists => true", Ok("t")),
    ] {
        a.run("BEGIN; SELECT mq.create_queue('new')").await;
        let (pid, watcher) = (b.pid, cx.connect().await);
        let other = async {
            watcher.until_blocked(pid).await;
            a.run(end).await;
        };
        let call = format!("SELECT mq.create_queue('new'{options})");
        let (said, ()) = tokio::join!(b.cells(&call), other);
        match (said, expected) {
            (Ok(rows), Ok(value)) => {
                assert_eq!(rows[0][0].as_deref(), Some(value), "{end}{options}")
            }
            (Err(no), Err(code)) => assert_eq!(no.code, code, "{no:?}"),
            (said, _) => panic!("{end}{options}: {said:?}"),
        }
        a.run("SELECT mq.drop_queue('new')").await;
    }
    let mut makers = Vec::new();
    for _ in 0..6 {
        let cx = cx.clone();
        makers.push(spawn(async move {
            cx.connect()
                .await
                .cells("SELECT mq.create_queue('many', max_failures => 1)")
                .await
        }));
    }
    let mut made = 0;
    for maker in makers {
        match maker.await.unwrap() {
            Ok(_) => made += 1,
            Err(no) => assert_eq!(no.code, "42P07", "{no:?}"),
        }
    }
    assert_eq!(made, 1);
}

async fn drop_against_read(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.run("BEGIN").await;
    let hand = a.hand("'q'").await;
    b.run("SET lock_timeout = '200 ms'").await;
    b.refused("SELECT mq.drop_queue('q')", "55P03").await;
    assert!(a.settle("release", "q", &hand).await);
    a.run("COMMIT").await;
    b.run("RESET lock_timeout; BEGIN; SELECT mq.drop_queue('q')")
        .await;
    let watcher = cx.connect().await;
    let pid = a.pid;
    for (end, code) in [("ROLLBACK", ""), ("COMMIT", "42P01")] {
        let finish = async {
            watcher.until_blocked(pid).await;
            b.run(end).await;
        };
        let (said, ()) = tokio::join!(a.try_hands("read", "'q', 1, '1 ms'"), finish);
        match said {
            Ok(hands) => assert!(code.is_empty() && hands.len() == 1, "{end}: {hands:?}"),
            Err(no) => assert_eq!(no.code, code, "{end}: {no:?}"),
        }
        if end == "ROLLBACK" {
            b.run("BEGIN; SELECT mq.drop_queue('q')").await;
        }
    }
    for call in [
        "mq.send('q', '1')",
        "mq.ack('q', 1)",
        "mq.pop('q')",
        "mq.get('q', 1)",
    ] {
        a.refused(&format!("SELECT {call}"), "42P01").await;
    }
}

async fn alter_is_seen_at_once(cx: Cx) {
    let (a, b) = pair(&cx).await;
    b.run("SELECT mq.send('q', '1'); SELECT mq.read('q', 1, '1 ms'); SELECT mq.ack('q', 99)")
        .await;
    a.run("SELECT mq.alter_queue('q', max_bytes => 100)").await;
    b.refused("SELECT mq.send_text('q', repeat('x', 200))", "54000")
        .await;
    a.run("SELECT mq.alter_queue('q', max_length => 1)").await;
    b.refused("SELECT mq.send('q', '1')", "53400").await;
    a.run("SELECT mq.alter_queue('q', reset => ARRAY['max_length', 'max_bytes'], visibility => '3 hours', ttl => '5 hours')").await;
    b.run("SELECT mq.purge_queue('q'); SELECT mq.send('q', '1')")
        .await;
    b.hand("'q'").await;
    let lease = "SELECT visible_at - read_at > '2 hours' AND expires_at - enqueued_at = '5 hours' FROM mq.q";
    assert!(b.yes(lease).await);
    // Within the transaction that changes it, and gone when it rolls back.
    a.run("BEGIN; SELECT mq.alter_queue('q', max_bytes => 10)")
        .await;
    a.refused("SELECT mq.send_text('q', repeat('x', 50))", "54000")
        .await;
    a.run("ROLLBACK; SELECT mq.send_text('q', repeat('x', 50))")
        .await;
    for bad in [
        "visibility => '0'",
        "visibility => '-1 s'",
        "max_failures => 0",
        "max_failures => -1",
        "backoff => ARRAY['-1 s']::interval[]",
        "ttl => '0'",
        "dedup_window => '-1 s'",
        "max_length => 0",
        "overflow => 'nonsense'",
        "max_bytes => 0",
        "archive_retention => '-1 s'",
        "reset => ARRAY['nonsense']",
    ] {
        a.refused(&format!("SELECT mq.alter_queue('q', {bad})"), "22023")
            .await;
    }
    a.refused(
        "SELECT mq.alter_queue('nowhere', visibility => '1 s')",
        "42P01",
    )
    .await;
}

async fn rename_under_use(cx: Cx) {
    let (a, b) = pair(&cx).await;
    let prepared = b.prepare("SELECT mq.send($1, $2)").await.unwrap();
    let one = serde_json::json!(1);
    for _ in 0..7 {
        b.query_one(&prepared, &[&"q", &one]).await.unwrap();
    }
    a.run("SELECT mq.rename_queue('q', 'p')").await;
    let no = b.query_one(&prepared, &[&"q", &one]).await.unwrap_err();
    assert_eq!(no.code().unwrap().code(), "42P01");
    b.query_one(&prepared, &[&"p", &one]).await.unwrap();
    assert_eq!(b.int("SELECT count(*) FROM mq.p").await, 9);
    // The old name may be another queue's now.
    a.run("SELECT mq.create_queue('q')").await;
    b.query_one(&prepared, &[&"q", &one]).await.unwrap();
    assert_eq!(b.int("SELECT count(*) FROM mq.p").await, 9);
    assert_eq!(b.text("SELECT queue FROM mq.read('q')").await, "q");
    a.run("SELECT mq.drop_queue('q'); SELECT mq.create_queue('q', max_length => 1)")
        .await;
    b.query_one(&prepared, &[&"q", &one]).await.unwrap();
    assert!(b.query_one(&prepared, &[&"q", &one]).await.is_err());
}

/// Queues come and go under senders and readers: only clean refusals.
async fn churn(cx: Cx) {
    let c = cx.connect().await;
    let mut users = Vec::new();
    for n in 0..3 {
        let cx = cx.clone();
        users.push(spawn(async move {
            let c = cx.connect().await;
            for round in 0..150 {
                let call = [
                    "mq.send('q', '1')",
                    "mq.read('q', 2)",
                    "mq.ack('q', 1)",
                    "mq.pop('q')",
                ][(n + round) % 4];
                if let Err(no) = c.cells(&format!("SELECT {call}")).await {
                    assert_eq!(no.code, "42P01", "{call}: {no:?}");
                }
            }
        }));
    }
    for round in 0..25 {
        c.run(&format!(
            "SELECT mq.create_queue('q', max_failures => {})",
            1 + round % 3
        ))
        .await;
        c.run("SELECT mq.send('q', '1'); SELECT mq.alter_queue('q', visibility => '2 s'); SELECT mq.rename_queue('q', 'other')").await;
        c.run("SELECT mq.rename_queue('other', 'q'); SELECT mq.drop_queue('q'), mq.drop_queue('q_dead')").await;
    }
    for user in users {
        user.await.unwrap();
    }
}

async fn options_round_trip(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_queue('grave'); SELECT mq.create_queue('q', durable => false, visibility => '1 month', \
         max_failures => 7, dead_letter => 'grave', backoff => ARRAY['1 s', '1 day']::interval[], ttl => '2 days', \
         dedup_window => '1 h', max_length => 9, overflow => 'drop_oldest', max_bytes => 77, \
         archive_retention => '1 year', notify => true)",
    )
    .await;
    let row = "SELECT concat_ws('|', durable, visibility, max_failures, dead_letter, backoff, ttl, dedup_window, \
               max_length, overflow, max_bytes, archive_retention, notify, paused) FROM mq.queues WHERE queue = 'q'";
    let full = "f|1 mon|7|grave|{00:00:01,\"1 day\"}|2 days|01:00:00|9|drop_oldest|77|1 year|t|f";
    assert_eq!(c.text(row).await, full);
    c.run("SELECT mq.alter_queue('q')").await;
    assert_eq!(c.text(row).await, full, "NULL leaves as is");
    let all = "visibility, max_failures, dead_letter, backoff, ttl, dedup_window, max_length, overflow, max_bytes, archive_retention, notify";
    c.run(&format!(
        "SELECT mq.alter_queue('q', reset => string_to_array('{all}', ', '))"
    ))
    .await;
    assert_eq!(
        c.text(row).await,
        "f|00:00:30|00:05:00|reject|1048576|f|f",
        "reset restores the defaults"
    );
    c.run("SELECT mq.send('q', '1'); SELECT mq.drop_queue('grave')")
        .await;
    assert!(
        !c.yes("SELECT mq.create_queue('q', if_not_exists => true)")
            .await
    );
    let plain = c.text("SELECT concat_ws('|', durable, visibility, max_failures, dead_letter, backoff, ttl, dedup_window, max_length, overflow, max_bytes, archive_retention, notify, paused) FROM mq.queues, mq.create_queue('plain') WHERE queue = 'q'").await;
    assert!(plain.starts_with("f|"));
}

async fn purge_beside_open_transactions(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.never_wait().await;
    b.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 9) n; BEGIN")
        .await;
    let hands = b.hands("'q', 3, '1 hour'").await;
    assert_eq!(
        a.int("SELECT mq.purge_queue('q')").await,
        7,
        "skips what another holds open"
    );
    b.run("COMMIT").await;
    assert!(b.settle("ack", "q", &hands[0]).await);
    assert_eq!(
        a.int("SELECT mq.purge_queue('q')").await,
        2,
        "leased ones, too"
    );
}

async fn metrics_and_status(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.run("SELECT mq.send('q', '1', delay => '1 hour'); SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 4) n").await;
    let hands = a.hands("'q', 3, '1 hour'").await;
    assert!(a.settle("ack", "q", &hands[0]).await);
    let row = "SELECT concat_ws(' ', ready, delayed, leased, estimated, oldest_ready_age < '1 min') FROM mq.metrics WHERE queue = 'q'";
    assert_eq!(b.text(row).await, "2 1 2 f t");
    a.run("SELECT mq.nack('q', id) FROM mq.q WHERE state = 'leased' LIMIT 1")
        .await;
    a.run("BEGIN; SELECT mq.send('q', '1'); ROLLBACK").await;
    b.until("SELECT (sent, delivered, acked, failed, dead, expired) = (6, 3, 1, 1, 0, 0) FROM mq.metrics WHERE queue = 'q'").await;
    assert!(
        b.yes("SELECT since <= clock_timestamp() FROM mq.metrics WHERE queue = 'q'")
            .await
    );
    assert!(
        b.yes("SELECT preloaded AND version = mq.version() FROM mq.status()")
            .await
    );
    assert_eq!(
        b.rows(
            "SELECT version, preloaded, worker_pid, last_maintenance, warnings FROM mq.status()"
        )
        .await
        .len(),
        1
    );
}
