//! Waiting for messages: woken by the commit, holding nothing, ended at once by a cancel.

use crate::conn::{Conn, Refusal};
use crate::harness::{Cx, spawn};
use crate::tests;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

tests![
    wakes_on_commit,
    holds_no_snapshot,
    ends_at_the_timeout,
    wakes_when_a_delay_ends,
    wakes_when_a_lease_ends,
    cancel_and_terminate,
    refused_in_a_transaction,
    any_of_several,
    many_waiters,
    queue_dropped_while_waiting,
    no_wake_up_is_lost,
    none_is_lost_to_the_cancelled
];

/// Longer than any test may take to notice.
const LONG: &str = "5 min";

pub async fn queue(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    c
}

/// Starts a statement in a session of its own; returns its pid once it waits in it.
pub async fn waiting(cx: &Cx, sql: &str) -> (i32, JoinHandle<Result<String, Refusal>>) {
    let waiter = cx.connect().await;
    let pid = waiter.pid;
    let sql = sql.to_string();
    let task = spawn(async move {
        let rows = waiter.cells(&sql).await?;
        Ok(rows
            .first()
            .and_then(|row| row[0].clone())
            .unwrap_or_default())
    });
    let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND wait_event IS NOT NULL AND pid = ";
    cx.connect().await.until(&format!("{waits}{pid}")).await;
    (pid, task)
}

async fn ready(task: JoinHandle<Result<String, Refusal>>) -> bool {
    let done = tokio::time::timeout(Duration::from_secs(20), task).await;
    let said = done
        .expect("the waiter was not woken")
        .unwrap()
        .expect("the wait failed");
    said == "t"
}

async fn wakes_on_commit(cx: Cx) {
    let c = queue(&cx).await;
    for send in [
        "SELECT mq.send('q', '1')",
        "SELECT mq.send_batch('q', ARRAY['1']::jsonb[])",
        "INSERT INTO mq.q (body) VALUES ('1')",
        "BEGIN; SELECT mq.send('q', '1'); COMMIT",
    ] {
        let (_, task) = waiting(&cx, &format!("CALL mq.wait('q', '{LONG}', NULL)")).await;
        c.run(send).await;
        assert!(ready(task).await, "{send}");
        c.run("SELECT mq.pop('q')").await;
    }
    // Not before the commit, and not by a rollback.
    let (pid, task) = waiting(&cx, &format!("CALL mq.wait('q', '{LONG}', NULL)")).await;
    c.run("BEGIN; SELECT mq.send('q', '1'); ROLLBACK; BEGIN; SELECT mq.send('q', '2')")
        .await;
    let still =
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'");
    for _ in 0..20 {
        assert_eq!(
            cx.connect().await.int(&still).await,
            1,
            "woken by what is not committed"
        );
    }
    c.run("COMMIT").await;
    assert!(ready(task).await);
    // A message that is there already ends the wait at once; so does one given back.
    let started = Instant::now();
    assert!(c.yes(&format!("CALL mq.wait('q', '{LONG}', NULL)")).await);
    assert!(started.elapsed() < Duration::from_secs(20));
    let hand = c.hand("'q', 1, '1 hour'").await;
    let (_, task) = waiting(&cx, &format!("CALL mq.wait('q', '{LONG}', NULL)")).await;
    assert!(c.settle("nack", "q", &hand).await);
    assert!(ready(task).await, "woken by a nack");
}

async fn holds_no_snapshot(cx: Cx) {
    let c = queue(&cx).await;
    let (pid, task) = waiting(&cx, &format!("CALL mq.wait('q', '{LONG}', NULL)")).await;
    let holds = format!(
        "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = {pid}"
    );
    for _ in 0..30 {
        c.until(&holds).await;
    }
    let locks = format!(
        "SELECT count(*) FROM pg_locks WHERE pid = {pid} AND locktype = 'relation' AND mode <> 'AccessShareLock'"
    );
    assert_eq!(c.int(&locks).await, 0);
    // Nobody waits for the waiter, not even a change of the queue.
    c.never_wait().await;
    c.run("SELECT mq.alter_queue('q', visibility => '7 s'); SELECT mq.rename_queue('q', 'p'); SELECT mq.rename_queue('p', 'q')").await;
    c.send("q", 1).await;
    assert!(ready(task).await);
}

async fn ends_at_the_timeout(cx: Cx) {
    let c = queue(&cx).await;
    for timeout in ["0", "1 ms", "300 ms"] {
        let started = Instant::now();
        assert!(
            !c.yes(&format!("CALL mq.wait('q', '{timeout}', NULL)"))
                .await,
            "{timeout}"
        );
        assert!(started.elapsed() < Duration::from_secs(10));
        if timeout == "300 ms" {
            assert!(started.elapsed() > Duration::from_millis(250), "too early");
        }
    }
    c.refused("CALL mq.wait('q', '-1 s', NULL)", "22023").await;
    c.refused("CALL mq.wait('nowhere', '1 s', NULL)", "42P01")
        .await;
    c.refused("CALL mq.wait(NULL, '1 s', NULL)", "22023").await;
    c.run("CALL mq.wait('q', timeout => '1 ms', ready => NULL)")
        .await;
}

async fn wakes_when_a_delay_ends(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.send('q', '1', delay => '400 ms')").await;
    let (_, task) = waiting(&cx, &format!("CALL mq.wait('q', '{LONG}', NULL)")).await;
    assert!(ready(task).await);
    c.hand("'q'").await;
    // A later send with an earlier deadline moves the alarm forward.
    c.run("SELECT mq.purge_queue('q'); SELECT mq.send('q', '1', delay => '1 hour')")
        .await;
    let (_, task) = waiting(&cx, &format!("CALL mq.wait('q', '{LONG}', NULL)")).await;
    c.run("SELECT mq.send('q', '1', delay => '300 ms')").await;
    assert!(ready(task).await);
    c.hand("'q'").await;
}

async fn wakes_when_a_lease_ends(cx: Cx) {
    let c = queue(&cx).await;
    c.send("q", 1).await;
    let (hand, waiter) = (c.hand("'q', 1, '500 ms'").await, cx.connect().await);
    let call = format!("CALL mq.wait('q', '{LONG}', NULL)");
    let done = tokio::time::timeout(Duration::from_secs(20), waiter.yes(&call)).await;
    assert!(done.expect("not woken when the lease ended"));
    assert_eq!(waiter.hand("'q'").await.id, hand.id);
}

async fn cancel_and_terminate(cx: Cx) {
    let c = queue(&cx).await;
    for wait in [
        "CALL mq.wait('q', '5 min', NULL)",
        "SELECT mq.read('q', 1, NULL, '19 s')",
    ] {
        for (end, code) in [
            ("pg_cancel_backend", "57014"),
            ("pg_terminate_backend", "57P01"),
        ] {
            let (pid, task) = waiting(&cx, wait).await;
            let started = Instant::now();
            c.run(&format!("SELECT {end}({pid})")).await;
            let no = task.await.unwrap().unwrap_err();
            assert_eq!(no.code, code, "{wait}: {no:?}");
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{end} took its time"
            );
        }
    }
    let timed = cx.connect().await;
    timed.run("SET statement_timeout = '300 ms'").await;
    timed
        .refused("CALL mq.wait('q', '5 min', NULL)", "57014")
        .await;
}

async fn refused_in_a_transaction(cx: Cx) {
    let c = queue(&cx).await;
    c.run("BEGIN").await;
    let no = c.refused("CALL mq.wait('q', '1 s', NULL)", "25001").await;
    assert!(!no.hint.is_empty(), "{no:?}");
    c.run("ROLLBACK; CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$DECLARE r bool; BEGIN CALL mq.wait('q', '1 s', r); END$$").await;
    c.refused("SELECT f()", "25001").await;
    c.refused("BEGIN; CALL mq.wait_any(ARRAY['q'], '1 s', NULL)", "25001")
        .await;
    c.run("ROLLBACK").await;
}

async fn any_of_several(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.create_queue('r'), mq.create_queue('s')")
        .await;
    for queue in ["q", "r", "s"] {
        let (_, task) = waiting(
            &cx,
            &format!("CALL mq.wait_any(ARRAY['q', 'r', 's'], '{LONG}', NULL)"),
        )
        .await;
        c.send(queue, 1).await;
        let row = tokio::time::timeout(Duration::from_secs(20), task)
            .await
            .expect("not woken");
        assert!(row.unwrap().is_ok());
        c.run(&format!("SELECT mq.pop('{queue}')")).await;
    }
    c.refused(
        "CALL mq.wait_any(ARRAY['q', 'nowhere'], '1 s', NULL)",
        "42P01",
    )
    .await;
    c.refused("CALL mq.wait_any(NULL, '1 s', NULL)", "22023")
        .await;
}

async fn many_waiters(cx: Cx) {
    let c = queue(&cx).await;
    let mut waiters = Vec::new();
    for _ in 0..8 {
        let cx = cx.clone();
        waiters.push(spawn(async move {
            let (c, mut got) = (cx.connect().await, 0);
            loop {
                let hands = c.try_hands("pop", "'q'").await.unwrap();
                if hands.iter().any(|hand| hand.body == "\"end\"") {
                    return got;
                }
                got += hands.len();
                if hands.is_empty() {
                    c.run("CALL mq.wait('q', '20 s', NULL)").await;
                }
            }
        }));
    }
    for n in 0..150 {
        c.send("q", n).await;
    }
    for _ in 0..8 {
        c.send("q", "\"end\"").await;
    }
    let mut got = 0;
    for waiter in waiters {
        got += waiter.await.unwrap();
    }
    assert_eq!(got, 150);
}

async fn queue_dropped_while_waiting(cx: Cx) {
    let c = queue(&cx).await;
    c.never_wait().await;
    let (_, task) = waiting(&cx, "CALL mq.wait('q', '2 s', NULL)").await;
    c.run("SELECT mq.drop_queue('q')").await;
    match task.await.unwrap() {
        Ok(said) => assert_eq!(said, "f"),
        Err(no) => assert_eq!(no.code, "42P01", "{no:?}"),
    }
}

/// A session that looks by itself only after an hour: whatever wakes it, is a commit.
pub async fn patient(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SET pg_broker.recheck = '1 h'").await;
    c
}

/// Waits for the next message as a worker does, by one call or by two, and takes it. None when the
/// wait ran out.
async fn next(c: &Conn, queue: &str, at_once: bool) -> Option<i64> {
    if at_once {
        let read = format!("SELECT id FROM mq.read('{queue}', 1, '1 hour', '20 s')");
        return c.ints(&read).await.first().copied();
    }
    loop {
        let taken = c.ints(&format!("SELECT id FROM mq.pop('{queue}')")).await;
        if let Some(id) = taken.first() {
            return Some(*id);
        }
        if !c
            .yes(&format!("CALL mq.wait('{queue}', '30 s', NULL)"))
            .await
        {
            return None;
        }
    }
}

/// Pairs that send to and fro, thousands of times: one lost wake-up would last 30 seconds.
async fn no_wake_up_is_lost(cx: Cx) {
    const ROUNDS: usize = 1000;
    let c = cx.connect().await;
    let mut players = Vec::new();
    for pair in 0..3 {
        let (ping, pong) = (format!("ping{pair}"), format!("pong{pair}"));
        c.run(&format!(
            "SELECT mq.create_queue('{ping}'), mq.create_queue('{pong}')"
        ))
        .await;
        for (from, to, serves) in [(&ping, &pong, false), (&pong, &ping, true)] {
            let (cx, from, to) = (cx.clone(), from.clone(), to.clone());
            players.push(spawn(async move {
                let c = patient(&cx).await;
                for round in 0..ROUNDS {
                    if serves {
                        c.send(&to, round).await;
                    }
                    assert!(
                        next(&c, &from, pair == 0).await.is_some(),
                        "round {round}: nobody woke who waits for {from}"
                    );
                    if !serves {
                        c.send(&to, round).await;
                    }
                }
            }));
        }
    }
    for player in players {
        player.await.unwrap();
    }
}

/// Many waiters of one queue, some of which are cancelled or terminated at any moment, also just
/// after they were woken: the others get every message, in time.
async fn none_is_lost_to_the_cancelled(cx: Cx) {
    const MESSAGES: usize = 400;
    let c = queue(&cx).await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        let cx = cx.clone();
        workers.push(spawn(async move {
            let (c, mut got) = (patient(&cx).await, 0);
            loop {
                let hands = c.try_hands("pop", "'q'").await.unwrap();
                if hands.iter().any(|hand| hand.body == "\"end\"") {
                    return got;
                }
                got += hands.len();
                if hands.is_empty() {
                    let woken = c.yes("CALL mq.wait('q', '30 s', NULL)").await;
                    assert!(woken, "a worker was not woken");
                }
            }
        }));
    }
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut victims = Vec::new();
    for _ in 0..3 {
        let (cx, stop) = (cx.clone(), stop.clone());
        victims.push(spawn(async move {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let c = patient(&cx).await;
                // Waits, and never takes anything.
                while c.cells("CALL mq.wait('q', '1 s', NULL)").await.is_ok() {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                }
            }
        }));
    }
    let hunter = cx.connect().await;
    for n in 0..MESSAGES {
        c.send("q", n).await;
        let end = if n % 2 == 0 {
            "pg_cancel_backend"
        } else {
            "pg_terminate_backend"
        };
        hunter
            .run(&format!(
                "SELECT {end}(pid) FROM pg_stat_activity WHERE query LIKE 'CALL mq.wait(''q'', ''1 s''%' \
                 AND state = 'active' AND datname = current_database() ORDER BY random() LIMIT 1"
            ))
            .await;
    }
    for _ in 0..3 {
        c.send("q", "\"end\"").await;
    }
    let mut got = 0;
    for worker in workers {
        got += worker.await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for victim in victims {
        victim.await.unwrap();
    }
    assert_eq!(got, MESSAGES);
}
