//! Requests and replies between sessions.

use crate::conn::{Conn, Refusal};
use crate::harness::{Cx, spawn};
use crate::tests;
use crate::wake::waiting;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

tests![
    in_order,
    fibonacci,
    times_out_and_expires,
    two_at_once,
    late_reply,
    strangers_may_only_send,
    readers_expected,
    without_preload,
    without_hints,
    cancelled_and_terminated,
    large_reply
];

/// Replies until told to stop: one message at a time, as a worker does.
pub struct Server {
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Server {
    /// `answer` is SQL over the message `m`.
    pub async fn start(cx: &Cx, queue: &str, answer: &str) -> Server {
        let (over, c) = (Arc::new(AtomicBool::new(false)), cx.connect().await);
        let wait = format!("CALL mq.wait('{queue}', '300 ms', NULL)");
        let work = format!(
            "SELECT mq.reply(m, {answer}), mq.ack(m.queue, m.id, m.receipt) FROM mq.read('{queue}') m"
        );
        let stop = over.clone();
        let task = spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                c.run(&wait).await;
                c.run(&work).await;
            }
        });
        Server { over, task }
    }

    pub async fn stop(self) {
        self.over.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

pub async fn queue(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    c
}

pub fn ask(body: impl std::fmt::Display) -> String {
    format!("CALL mq.request('q', '{body}', '20 s')")
}

/// Sends a request in a session of its own; returns its pid once it is there to be read.
pub async fn asking(cx: &Cx, sql: &str) -> (i32, JoinHandle<Result<String, Refusal>>) {
    let c = cx.connect().await;
    let there = c.int("SELECT count(*) FROM mq.q").await + 1;
    let (pid, task) = waiting(cx, sql).await;
    c.until(&format!("SELECT count(*) = {there} FROM mq.q"))
        .await;
    (pid, task)
}

/// The private queues, and how many of them some session has.
pub const POOL: &str = "SELECT count(*) || ' ' || count(pid) FROM mq_internal.reply_queue";

async fn in_order(cx: Cx) {
    let c = queue(&cx).await;
    let server = Server::start(&cx, "q", "jsonb_build_object('you said', m.body)").await;
    for n in 1..=10 {
        let said = c.text(&ask(n)).await;
        assert_eq!(said, format!("{{\"you said\": {n}}}"));
    }
    server.stop().await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
    assert_eq!(c.text(POOL).await, "1 1");
}

async fn fibonacci(cx: Cx) {
    let c = queue(&cx).await;
    c.run(
        "CREATE FUNCTION fib(n int) RETURNS bigint LANGUAGE sql AS $$ \
         WITH RECURSIVE f(i, a, b) AS (VALUES (0, 0::bigint, 1::bigint) \
         UNION ALL SELECT i + 1, b, a + b FROM f WHERE i < n) SELECT a FROM f WHERE i = n $$",
    )
    .await;
    let server = Server::start(&cx, "q", "to_jsonb(fib((m.body #>> '{}')::int))").await;
    assert_eq!(c.text(&ask(30)).await, "832040");
    assert_eq!(c.text(&ask(0)).await, "0");
    server.stop().await;
}

async fn times_out_and_expires(cx: Cx) {
    let c = queue(&cx).await;
    let started = Instant::now();
    assert_eq!(c.text("CALL mq.request('q', '1', '300 ms')").await, "NULL");
    let took = started.elapsed();
    assert!(took > Duration::from_millis(250) && took < Duration::from_secs(10));
    assert!(c.hands("'q'").await.is_empty(), "the request has expired");
    c.run("SELECT mq.maintain()").await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
    // Nothing is held meanwhile.
    let (pid, task) = asking(&cx, "CALL mq.request('q', '2', '5 min')").await;
    c.until(&format!(
        "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = {pid}"
    ))
    .await;
    c.run("SELECT mq.reply(m, '3') FROM mq.pop('q') m").await;
    assert_eq!(task.await.unwrap().unwrap(), "3");
}

async fn two_at_once(cx: Cx) {
    let c = queue(&cx).await;
    let mut tasks = Vec::new();
    for n in [1, 2] {
        tasks.push(asking(&cx, &ask(n)).await.1);
    }
    c.run("SELECT mq.reply(m, to_jsonb((m.body #>> '{}')::int + 10)) FROM mq.pop('q', 2) m")
        .await;
    for (n, task) in [11, 12].into_iter().zip(tasks) {
        assert_eq!(task.await.unwrap().unwrap(), n.to_string());
    }
    assert_eq!(c.text(POOL).await, "2 2");
}

async fn late_reply(cx: Cx) {
    let c = queue(&cx).await;
    let asker = cx.connect().await;
    // Taken in time, answered too late.
    let slow = cx.connect().await;
    let first = spawn(async move {
        let said = asker.text("CALL mq.request('q', '1', '400 ms')").await;
        (asker, said)
    });
    slow.until("SELECT count(*) = 1 FROM mq.q").await;
    slow.run("CREATE TEMP TABLE held AS SELECT * FROM mq.pop('q')")
        .await;
    let (asker, said) = first.await.unwrap();
    assert_eq!(said, "NULL");
    let answer = "SELECT mq.reply(ROW(h.*)::mq.message, '\"late\"') FROM held h";
    slow.run(answer).await;
    let second = spawn(async move {
        let said = asker.text(&ask(2)).await;
        (asker, said)
    });
    slow.until("SELECT count(*) = 1 FROM mq.q").await;
    // And once more, while the second is waited for.
    slow.run(answer).await;
    slow.run("SELECT mq.reply(m, '\"right\"') FROM mq.pop('q') m")
        .await;
    let (asker, said) = second.await.unwrap();
    assert_eq!(said, "\"right\"");
    let mine = asker.text("SELECT mq.reply_queue()").await;
    assert_eq!(
        c.text(&format!("SELECT count(*) FROM mq.{mine}")).await,
        "0"
    );
}

/// Ends a session for certain.
pub async fn ended(c: &Conn, pid: i32) {
    c.run(&format!("SELECT pg_terminate_backend({pid}, 20000)"))
        .await;
}

async fn strangers_may_only_send(cx: Cx) {
    let c = queue(&cx).await;
    let (asker, server) = (cx.role("asker").await, cx.role("server").await);
    c.run(&format!(
        "GRANT INSERT ON mq.q TO {asker}; GRANT UPDATE ON mq.q TO {server}"
    ))
    .await;
    let (a, s) = (cx.connect_as(&asker).await, cx.connect_as(&server).await);
    let mine = a.text("SELECT mq.reply_queue()").await;
    let task = spawn(async move { (a.text(&ask(1)).await, a) });
    s.until("SELECT count(*) > 0 FROM (SELECT mq.reply(m, '2') FROM mq.pop('q') m) x")
        .await;
    let (said, a) = task.await.unwrap();
    assert_eq!(said, "2");
    s.run(&format!("SELECT mq.send('{mine}', '7')")).await;
    for sql in [
        format!("SELECT * FROM mq.read('{mine}')"),
        format!("SELECT * FROM mq.{mine}"),
        format!("CALL mq.wait('{mine}', '1 ms', NULL)"),
        format!("SELECT mq.purge_queue('{mine}')"),
        format!("SELECT mq.drop_queue('{mine}')"),
        "CALL mq.request('q', '1')".to_string(),
    ] {
        s.refused(&sql, "42501").await;
    }
    // Its queue would be made, were the request not refused.
    assert_eq!(c.text(POOL).await, "1 1");
    // Where the server may not send, it does not reply.
    a.run("SELECT mq.send('q', '1', headers => '{\"reply_to\": \"q\"}')")
        .await;
    s.refused("SELECT mq.reply(m, '2') FROM mq.read('q') m", "42501")
        .await;
}

async fn readers_expected(cx: Cx) {
    let c = queue(&cx).await;
    let expects = "CALL mq.request('q', '1', '20 s', expect_reader => true)";
    let started = Instant::now();
    let no = c.refused(expects, "55000").await;
    assert!(started.elapsed() < Duration::from_millis(900), "{no:?}");
    assert!(no.message.contains('q') && !no.hint.is_empty(), "{no:?}");
    // Nothing was sent, nor is there a reply queue for it.
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
    assert_eq!(c.text(POOL).await, "0 0");
    let server = Server::start(&cx, "q", "m.body").await;
    c.until("SELECT waiters > 0 FROM mq.metrics WHERE queue = 'q'")
        .await;
    // The moments between its waits are no reason to fail.
    for n in 0..200 {
        let call = format!("CALL mq.request('q', '{n}', '20 s', expect_reader => true)");
        assert_eq!(c.text(&call).await, n.to_string());
    }
    server.stop().await;
    // Who holds a message is a reader; so is a waiting read.
    c.send("q", 1).await;
    c.hand("'q', 1, '1 h'").await;
    let quick = "CALL mq.request('q', '1', '1 ms', expect_reader => true)";
    assert_eq!(c.text(quick).await, "NULL");
    c.run("SELECT mq.purge_queue('q')").await;
    c.refused(quick, "55000").await;
    let (_, reader) = waiting(&cx, "SELECT body FROM mq.read('q', wait => '19 s')").await;
    c.until("SELECT waiters > 0 FROM mq.metrics WHERE queue = 'q'")
        .await;
    assert_eq!(c.text(quick).await, "NULL");
    reader.await.unwrap().unwrap();
}

async fn without_preload(cx: Cx) {
    let plain = crate::server::Server::start("requests-plain", "shared_preload_libraries = ''\n");
    let cx = cx.on(Arc::new(plain.await));
    let c = queue(&cx).await;
    let no = c
        .refused("CALL mq.request('q', '1', expect_reader => true)", "55000")
        .await;
    assert!(no.message.contains("shared_preload_libraries"), "{no:?}");
    let server = Server::start(&cx, "q", "m.body").await;
    for n in 1..=10 {
        assert_eq!(c.text(&ask(n)).await, n.to_string());
    }
    server.stop().await;
    assert_eq!(c.text("CALL mq.request('q', '1', '100 ms')").await, "NULL");
    let asker = cx.connect().await;
    asker.run("SELECT mq.reply_queue()").await;
    ended(&c, asker.pid).await;
    c.run("SELECT mq.maintain()").await;
    assert_eq!(c.text(POOL).await, "2 1");
}

async fn without_hints(cx: Cx) {
    let unhinted = crate::server::Server::start("requests-unhinted", "pg_broker.hints = off\n");
    let cx = cx.on(Arc::new(unhinted.await));
    let c = queue(&cx).await;
    let call = "CALL mq.request('q', '1', '20 s', expect_reader => true)";
    c.refused(call, "55000").await;
    let server = Server::start(&cx, "q", "m.body").await;
    c.until("SELECT waiters > 0 FROM mq.metrics WHERE queue = 'q'")
        .await;
    for _ in 0..10 {
        assert_eq!(c.text(call).await, "1");
    }
    server.stop().await;
    let mine = c.text("SELECT mq.reply_queue()").await;
    c.run(&format!("SELECT mq.send('{mine}', to_jsonb(n), jsonb_build_object('correlation_id', n)) FROM generate_series(1, 50) n")).await;
    assert_eq!(c.text("SELECT body FROM mq.read_reply('50')").await, "50");
    assert_eq!(c.text("SELECT body FROM mq.read_reply('1')").await, "1");
    assert_eq!(c.int(&format!("SELECT count(*) FROM mq.{mine}")).await, 48);
}

async fn cancelled_and_terminated(cx: Cx) {
    let c = queue(&cx).await;
    let ends = |task: JoinHandle<Result<String, Refusal>>| async move {
        let done = tokio::time::timeout(Duration::from_secs(20), task).await;
        done.expect("it goes on").unwrap().unwrap_err().code
    };
    let (pid, task) = asking(&cx, "CALL mq.request('q', '1', '5 min')").await;
    c.run(&format!("SELECT pg_cancel_backend({pid})")).await;
    assert_eq!(ends(task).await, "57014");
    let (pid, task) = asking(&cx, "CALL mq.request('q', '1', '5 min')").await;
    c.run(&format!("SELECT pg_terminate_backend({pid})")).await;
    assert_eq!(ends(task).await, "57P01");
    // A session goes on after a cancel, with the same queue.
    c.run("SET statement_timeout = '200 ms'").await;
    let mine = c.text("SELECT mq.reply_queue()").await;
    c.refused("CALL mq.request('q', '1', '5 min')", "57014")
        .await;
    c.run("RESET statement_timeout; SELECT mq.purge_queue('q')")
        .await;
    assert_eq!(c.text("SELECT mq.reply_queue()").await, mine);
    let server = Server::start(&cx, "q", "m.body").await;
    assert_eq!(c.text(&ask(5)).await, "5");
    server.stop().await;
}

/// Bodies outlive the transaction that took them, compressed or out of line.
async fn large_reply(cx: Cx) {
    let c = queue(&cx).await;
    let answer = "jsonb_build_object('a', repeat('x', 500000), 'b', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 10000) n))";
    let server = Server::start(&cx, "q", answer).await;
    let sum = "SELECT length(a->>'a') || ' ' || md5(a->>'b') FROM (SELECT ";
    let wanted = c.text(&format!("{sum}{answer} AS a) x")).await;
    c.run("CREATE TABLE got (a jsonb)").await;
    c.run("DO $$ DECLARE r jsonb; BEGIN CALL mq.request('q', '1', '20 s', reply => r); INSERT INTO got VALUES (r); END $$").await;
    assert_eq!(c.text(&format!("{sum}a FROM got) x")).await, wanted);
    server.stop().await;
}
