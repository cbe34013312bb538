//! Queues with one active consumer: who it is, and who comes after it.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::server::Server;
use crate::tests;
use crate::wake::waiting;
use std::sync::Arc;
use std::time::{Duration, Instant};

tests![
    first_reader_has_it,
    takeover_when_it_ends,
    one_of_many_takes_over,
    given_up,
    switched_on_and_off,
    rights,
    waits_for_its_turn,
    prepared_transactions,
    rolled_back,
    wakes_the_active_one,
    #[solo]
    after_a_crash,
    #[solo]
    without_preload
];

async fn queue(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q', single_active => true)")
        .await;
    c.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 20) n")
        .await;
    c
}

const ACTIVE: &str = "SELECT coalesce(active_pid, 0) FROM mq.queues WHERE queue = 'q'";
const READ: &str = "SELECT coalesce(min(id), 0) FROM mq.read('q', 1, '1 hour')";
const POP: &str = "SELECT coalesce(min(id), 0) FROM mq.pop('q', filter => '$.body > 0')";
const WAIT: &str = "SELECT id FROM mq.read('q', 1, '1 hour', '20 s')";

async fn ended(c: &Conn, pid: i32) {
    c.run(&format!("SELECT pg_terminate_backend({pid}, 20000)"))
        .await;
}

async fn first_reader_has_it(cx: Cx) {
    let (c, a, b) = (queue(&cx).await, cx.connect().await, cx.connect().await);
    assert_eq!(c.int(ACTIVE).await, 0);
    assert_eq!(a.int(READ).await, 1);
    assert_eq!(c.int(ACTIVE).await, i64::from(a.pid));
    for read in [
        READ,
        POP,
        "SELECT count(*) FROM mq.read('q', wait => '50 ms')",
    ] {
        assert_eq!(b.int(read).await, 0, "{read}");
    }
    assert_eq!((a.int(READ).await, a.int(POP).await), (2, 3));
    // Anybody settles, browses and looks after it.
    assert!(b.yes("SELECT mq.ack('q', 1)").await);
    b.run("SELECT mq.maintain('q')").await;
    assert_eq!(b.int("SELECT count(*) FROM mq.q").await, 18);
    // It is shown among the locks, once.
    let lock = format!(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 'mq.q'::regclass \
         AND pid = {} AND mode = 'ExclusiveLock'",
        a.pid
    );
    assert_eq!(c.int(&lock).await, 1);
    // Another queue is another matter.
    c.run("SELECT mq.create_queue('r', single_active => true), mq.send('r', '1')")
        .await;
    assert_eq!(b.int("SELECT count(*) FROM mq.pop('r')").await, 1);
    let both = "SELECT string_agg(active_pid::text, ' ' ORDER BY queue) FROM mq.queues";
    assert_eq!(c.text(both).await, format!("{} {}", a.pid, b.pid));
    // A rename changes nothing.
    c.run("SELECT mq.rename_queue('q', 'p')").await;
    assert_eq!(b.int("SELECT count(*) FROM mq.read('p')").await, 0);
    assert_eq!(a.int("SELECT count(*) FROM mq.read('p')").await, 1);
}

async fn takeover_when_it_ends(cx: Cx) {
    let c = queue(&cx).await;
    for n in 0..6 {
        let active = cx.connect().await;
        active.run("BEGIN").await;
        let id = active.int(READ).await;
        assert!(id > 0);
        if n % 3 != 2 {
            active.run("COMMIT").await;
        }
        let (pid, task) = waiting(&cx, WAIT).await;
        let started = Instant::now();
        if n % 2 == 0 {
            ended(&c, active.pid).await;
        }
        drop(active);
        let next: i64 = task.await.unwrap().unwrap().parse().unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
        // What it had not committed is the first that the next one gets.
        assert_eq!(next, if n % 3 == 2 { id } else { id + 1 });
        ended(&c, pid).await;
        c.until("SELECT active_pid IS NULL FROM mq.queues").await;
        c.run(&format!("SELECT mq.ack('q', {next})")).await;
    }
}

async fn one_of_many_takes_over(cx: Cx) {
    let (c, active) = (queue(&cx).await, cx.connect().await);
    assert_eq!(active.int(READ).await, 1);
    let got = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut standbys = Vec::new();
    for _ in 0..4 {
        let (s, got) = (cx.connect().await, got.clone());
        let pid = s.pid;
        let task = spawn(async move {
            loop {
                match s.cells(WAIT).await {
                    Ok(rows) => got
                        .lock()
                        .unwrap()
                        .extend(rows.into_iter().map(|row| (s.pid, row[0].clone().unwrap()))),
                    Err(_) => return,
                }
            }
        });
        standbys.push((pid, task));
    }
    assert_eq!(got.lock().unwrap().len(), 0);
    drop(active);
    c.until("SELECT count(*) = 0 FROM mq.q WHERE state = 'ready'")
        .await;
    let first = c.int(ACTIVE).await;
    let took: Vec<_> = got.lock().unwrap().clone();
    assert!(
        took.iter().all(|(pid, _)| i64::from(*pid) == first),
        "{took:?}"
    );
    let ids: Vec<_> = took
        .into_iter()
        .map(|(_, id)| id.parse::<i64>().unwrap())
        .collect();
    assert_eq!(ids, (2..=20).collect::<Vec<_>>());
    ended(&c, first as i32).await;
    c.until(&format!(
        "SELECT active_pid NOT IN (0, {first}) FROM mq.queues"
    ))
    .await;
    for (pid, task) in standbys {
        ended(&c, pid).await;
        task.await.unwrap();
    }
}

async fn given_up(cx: Cx) {
    let (c, a) = (queue(&cx).await, cx.connect().await);
    assert!(!a.yes("SELECT mq.step_down('q')").await, "it was not");
    for (how, at_once) in [
        ("SELECT mq.step_down('q')", true),
        ("DISCARD ALL", false),
        ("SELECT pg_advisory_unlock_all()", false),
        ("BEGIN; SELECT mq.step_down('q'); ROLLBACK", true),
    ] {
        assert!(a.int(READ).await > 0, "{how}");
        let (pid, task) = waiting(&cx, WAIT).await;
        let started = Instant::now();
        a.run(how).await;
        assert!(task.await.unwrap().unwrap().parse::<i64>().unwrap() > 0);
        let bound = if at_once { 900 } else { 3000 };
        assert!(
            started.elapsed() < Duration::from_millis(bound),
            "{how} {:?}",
            started.elapsed()
        );
        assert!(!a.yes("SELECT mq.step_down('q')").await);
        ended(&c, pid).await;
        c.until("SELECT active_pid IS NULL FROM mq.queues").await;
    }
    assert!(a.int(READ).await > 0);
    assert!(a.yes("SELECT mq.step_down('q')").await);
}

async fn switched_on_and_off(cx: Cx) {
    let (c, a, b) = (queue(&cx).await, cx.connect().await, cx.connect().await);
    assert_eq!(a.int(READ).await, 1);
    let (_, task) = waiting(&cx, WAIT).await;
    let started = Instant::now();
    c.run("SELECT mq.alter_queue('q', single_active => false)")
        .await;
    assert_eq!(task.await.unwrap().unwrap(), "2");
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(
        (
            b.int(READ).await,
            c.text("SELECT active_pid FROM mq.queues").await.as_str()
        ),
        (3, "NULL")
    );
    // On again: who had it and has not read since still has it.
    c.run("SELECT mq.alter_queue('q', single_active => true)")
        .await;
    assert_eq!((b.int(READ).await, a.int(READ).await), (0, 4));
    c.run("SELECT mq.alter_queue('q', reset => '{single_active}')")
        .await;
    assert_eq!((a.int(READ).await, b.int(READ).await), (5, 6));
    c.run("SELECT mq.alter_queue('q', single_active => true)")
        .await;
    assert_eq!((b.int(READ).await, a.int(READ).await), (7, 0));
    // A paused queue is nobody's to take.
    c.run("SELECT mq.create_queue('r', single_active => true), mq.pause('r')")
        .await;
    assert_eq!(a.int("SELECT count(*) FROM mq.read('r')").await, 0);
    assert_eq!(
        c.int("SELECT count(active_pid) FROM mq.queues WHERE queue = 'r'")
            .await,
        0
    );
    // One that is dropped takes nothing with it.
    c.run("SELECT mq.drop_queue('q')").await;
    drop(b);
    c.run("SELECT mq.create_queue('q', single_active => true), mq.send('q', '1')")
        .await;
    assert_eq!(a.int(READ).await, 1);
}

async fn rights(cx: Cx) {
    let (c, role) = (queue(&cx).await, cx.role("stranger").await);
    let s = cx.connect_as(&role).await;
    for sql in [
        READ,
        POP,
        WAIT,
        "SELECT mq.step_down('q')",
        "CALL mq.wait('q', '1 ms', NULL)",
    ] {
        s.refused(sql, "42501").await;
    }
    assert_eq!(c.int(ACTIVE).await, 0, "it has not become the active one");
    assert_eq!(c.int(READ).await, 1);
    s.refused("SELECT mq.step_down('q')", "42501").await;
    c.refused("SELECT mq.step_down(NULL)", "22023").await;
    c.refused("SELECT mq.step_down('nowhere')", "42P01").await;
}

/// Who waits with `mq.wait` is told when he would get something, and then is the one who does.
async fn waits_for_its_turn(cx: Cx) {
    let (c, a, b) = (queue(&cx).await, cx.connect().await, cx.connect().await);
    assert_eq!(a.int(READ).await, 1);
    assert!(!b.yes("CALL mq.wait('q', '100 ms', NULL)").await);
    let task = spawn(async move {
        let ready = b.yes("CALL mq.wait_any(ARRAY['q'], '20 s', NULL)").await;
        (ready, b.int(READ).await, b)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    ended(&c, a.pid).await;
    let (ready, id, b) = task.await.unwrap();
    assert!(ready && started.elapsed() < Duration::from_secs(1));
    assert_eq!((id, c.int(ACTIVE).await), (2, i64::from(b.pid)));
}

async fn prepared_transactions(cx: Cx) {
    let (c, a) = (queue(&cx).await, cx.connect().await);
    a.run("BEGIN").await;
    let id = a.int(READ).await;
    a.run(&format!("PREPARE TRANSACTION '{}'", cx.db)).await;
    assert_eq!(c.int(READ).await, 0, "still the session's");
    a.run("BEGIN").await;
    assert_eq!(a.int(READ).await, id + 1);
    a.run("COMMIT").await;
    a.run(&format!("COMMIT PREPARED '{}'", cx.db)).await;
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q WHERE state = 'leased'")
            .await,
        2
    );
}

/// Rolling back a read gives the message back, and nothing else.
async fn rolled_back(cx: Cx) {
    let (c, a) = (queue(&cx).await, cx.connect().await);
    a.run("BEGIN; SAVEPOINT a").await;
    let id = a.int(READ).await;
    a.run("ROLLBACK TO a").await;
    assert_eq!(c.int(READ).await, 0);
    a.run("ROLLBACK").await;
    assert_eq!(c.int(READ).await, 0);
    assert_eq!(a.int(READ).await, id);
}

/// A message wakes the active one, also where others waited before it.
async fn wakes_the_active_one(cx: Cx) {
    let (c, a) = (queue(&cx).await, cx.connect().await);
    c.run("SELECT mq.purge_queue('q')").await;
    assert_eq!(a.int(READ).await, 0);
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(
            waiting(
                &cx,
                "SELECT id FROM mq.read('q', wait => '20 s', filter => '$.body > 0')",
            )
            .await,
        );
    }
    let pid = a.pid;
    let mut a = Some(a);
    let mut took = Duration::ZERO;
    for _ in 0..10 {
        let reader = a.take().unwrap();
        let task = spawn(async move {
            let id = reader.int(WAIT).await;
            (id, reader)
        });
        c.until(&format!(
            "SELECT wait_event IS NOT NULL AND state = 'active' FROM pg_stat_activity WHERE pid = {pid}"
        ))
        .await;
        let started = Instant::now();
        let id = c.send("q", 1).await;
        let (got, reader) = task.await.unwrap();
        assert_eq!(got, id);
        took += started.elapsed();
        a = Some(reader);
    }
    assert!(took < Duration::from_millis(600), "{took:?}");
    for (pid, _) in others {
        ended(&c, pid).await;
    }
}

/// The server restarts, nobody is the active one, and the next reader is.
async fn after_a_crash(cx: Cx) {
    let server = Arc::new(Server::start("active", "").await);
    let own = cx.on(server.clone());
    let (c, a) = (queue(&own).await, own.connect().await);
    assert_eq!(a.int(READ).await, 1);
    drop(c);
    server.kill_backend(a.pid);
    let started = Instant::now();
    let c = loop {
        assert!(started.elapsed() < Duration::from_secs(30));
        if let Ok(c) = Conn::try_open(server.port, &own.db, "postgres").await
            && c.cells("SELECT 1").await.is_ok()
        {
            break c;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    c.until("SELECT active_pid IS NULL FROM mq.queues").await;
    assert!(c.int(READ).await > 0);
    assert_eq!(c.int(ACTIVE).await, i64::from(c.pid));
}

/// Where nobody can be told, who waits asks again at least every second.
async fn without_preload(cx: Cx) {
    let server = Arc::new(Server::start("active_plain", "shared_preload_libraries = ''\n").await);
    let own = cx.on(server.clone());
    let (c, a) = (queue(&own).await, own.connect().await);
    assert_eq!((a.int(READ).await, c.int(READ).await), (1, 0));
    let (_, task) = waiting(&own, WAIT).await;
    let started = Instant::now();
    drop(a);
    assert!(task.await.unwrap().unwrap().parse::<i64>().unwrap() > 1);
    assert!(started.elapsed() < Duration::from_secs(2));
    // Nor without hints.
    c.until("SELECT active_pid IS NULL FROM mq.queues").await;
    c.run("SET pg_broker.hints = off").await;
    let b = own.connect().await;
    assert!(b.int(READ).await > 1);
    assert_eq!(c.int(READ).await, 0);
    drop(b);
    assert!(c.int(WAIT).await > 1);
}
