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
    freed_when_the_session_ends,
    strangers_may_only_send,
    readers_expected,
    without_preload,
    without_hints,
    cancelled_and_terminated,
    reply_queue_dropped,
    undone_and_prepared,
    copied_database,
    many_sessions,
    the_worker_frees,
    after_a_crash,
    large_reply
];

/// Replies until told to stop: one message at a time, as a worker does.
struct Server {
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Server {
    /// `answer` is SQL over the message `m`.
    async fn start(cx: &Cx, queue: &str, answer: &str) -> Server {
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

    async fn stop(self) {
        self.over.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

async fn queue(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    c
}

fn ask(body: impl std::fmt::Display) -> String {
    format!("CALL mq.request('q', '{body}', '20 s')")
}

/// Sends a request in a session of its own; returns its pid once it is there to be read.
async fn asking(cx: &Cx, sql: &str) -> (i32, JoinHandle<Result<String, Refusal>>) {
    let c = cx.connect().await;
    let there = c.int("SELECT count(*) FROM mq.q").await + 1;
    let (pid, task) = waiting(cx, sql).await;
    c.until(&format!("SELECT count(*) = {there} FROM mq.q"))
        .await;
    (pid, task)
}

/// The private queues, and how many of them some session has.
const POOL: &str = "SELECT count(*) || ' ' || count(pid) FROM mq_internal.reply_queue";

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
async fn ended(c: &Conn, pid: i32) {
    c.run(&format!("SELECT pg_terminate_backend({pid}, 20000)"))
        .await;
}

async fn freed_when_the_session_ends(cx: Cx) {
    let c = queue(&cx).await;
    let mut names = Vec::new();
    for by_maintain in [true, false, true] {
        let asker = cx.connect().await;
        let name = asker.text("SELECT mq.reply_queue()").await;
        c.send(&name, 1).await;
        names.push(name.clone());
        // Not as long as it lives.
        c.run("SELECT mq.maintain()").await;
        assert_eq!(c.text(POOL).await, "1 1");
        assert_eq!(c.int(&format!("SELECT count(*) FROM mq.{name}")).await, 1);
        ended(&c, asker.pid).await;
        if by_maintain {
            c.run("SELECT mq.maintain()").await;
            assert_eq!(c.text(POOL).await, "1 0");
            assert_eq!(c.int(&format!("SELECT count(*) FROM mq.{name}")).await, 0);
            // What comes after that is gone when it is taken.
            c.send(&name, 2).await;
        }
    }
    let next = cx.connect().await;
    names.push(next.text("SELECT mq.reply_queue()").await);
    names.dedup();
    assert_eq!(names.len(), 1, "reused: {names:?}");
    assert_eq!(
        c.int(&format!("SELECT count(*) FROM mq.{}", names[0]))
            .await,
        0
    );
    // Another role's is not taken.
    let role = cx.role("other").await;
    let other = cx.connect_as(&role).await;
    ended(&c, next.pid).await;
    assert_ne!(other.text("SELECT mq.reply_queue()").await, names[0]);
    // An hour later it is dropped, the other's is not.
    c.run("SELECT mq.maintain(); UPDATE mq_internal.reply_queue SET since = now() - interval '2 h'; SELECT mq.maintain()").await;
    assert_eq!(c.text(POOL).await, "1 1");
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

async fn reply_queue_dropped(cx: Cx) {
    let c = queue(&cx).await;
    let (_, task) = asking(&cx, "CALL mq.request('q', '1', '5 min')").await;
    let name = c
        .text("SELECT view::text FROM mq_internal.reply_queue")
        .await;
    c.run(&format!("DROP VIEW {name}")).await;
    let done = tokio::time::timeout(Duration::from_secs(20), task).await;
    assert_eq!(
        done.expect("it goes on").unwrap().unwrap_err().code,
        "55000"
    );
    assert_eq!(c.text(POOL).await, "0 0");
    // The request's queue may go: there will be no reply.
    let (_, task) = asking(&cx, "CALL mq.request('q', '1', '1 s')").await;
    c.run("SELECT mq.drop_queue('q')").await;
    assert_eq!(task.await.unwrap().unwrap(), "");
}

async fn undone_and_prepared(cx: Cx) {
    let c = queue(&cx).await;
    for _ in 0..3 {
        c.run("BEGIN; SELECT mq.reply_queue(); ROLLBACK").await;
    }
    assert_eq!(c.text(POOL).await, "0 0");
    for end in ["ROLLBACK", "COMMIT"] {
        c.run("BEGIN; SELECT mq.reply_queue(); PREPARE TRANSACTION 'asks'")
            .await;
        c.run(&format!("{end} PREPARED 'asks'")).await;
        c.run("SELECT mq.drop_queue(queue) FROM mq.queues WHERE queue LIKE 'mq%'")
            .await;
    }
    assert_eq!(c.text(POOL).await, "0 0");
    c.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT mq.reply_queue(); COMMIT")
        .await;
    assert_eq!(c.text(POOL).await, "1 1");
    // One that is free, taken and given back.
    ended(&cx.connect().await, c.pid).await;
    let d = cx.connect().await;
    d.run("BEGIN; SELECT mq.reply_queue(); ROLLBACK").await;
    let e = cx.connect().await;
    e.run("BEGIN; SELECT mq.reply_queue()").await;
    // It is e's to be: d does not wait for it.
    d.never_wait().await;
    d.run("SELECT mq.reply_queue()").await;
    e.run("COMMIT").await;
    assert_eq!(d.text(POOL).await, "2 2");
    let same = "SELECT count(*) FROM (SELECT mq.reply_queue()) x WHERE reply_queue = ";
    for c in [&d, &e] {
        let mine = c.text("SELECT mq.reply_queue()").await;
        assert_eq!(c.int(&format!("{same}'{mine}'")).await, 1);
    }
}

/// Sessions of one database are not those of its copy.
async fn copied_database(cx: Cx) {
    let c = queue(&cx).await;
    let name = c.text("SELECT mq.reply_queue()").await;
    let copy = format!("{}_copy", cx.db);
    let dump = crate::world::world().work.join(format!("{copy}.sql"));
    crate::world::output(
        cx.server
            .client("pg_dump")
            .args(["-U", "postgres", "-d", &cx.db, "-f"])
            .arg(&dump),
    );
    c.run(&format!("CREATE DATABASE {copy} TEMPLATE template0"))
        .await;
    cx.server.psql(&copy, "postgres", &dump);
    let there = cx.server.connect(&copy).await;
    assert_eq!(there.text(POOL).await, "1 1");
    assert_eq!(there.text("SELECT mq.reply_queue()").await, name);
    there.run("SELECT mq.maintain()").await;
    assert_eq!(there.text(POOL).await, "1 1");
    let server = {
        let there = cx.server.connect(&copy).await;
        spawn(async move {
            there
                .until("SELECT count(*) > 0 FROM (SELECT mq.reply(m, '2') FROM mq.pop('q') m) x")
                .await;
        })
    };
    assert_eq!(there.text(&ask(1)).await, "2");
    server.await.unwrap();
    assert_eq!(c.text("SELECT mq.reply_queue()").await, name);
    drop(there);
    c.run(&format!("DROP DATABASE {copy} WITH (FORCE)")).await;
}

async fn many_sessions(cx: Cx) {
    let c = queue(&cx).await;
    let server = Server::start(&cx, "q", "m.body").await;
    let second = Server::start(&cx, "q", "m.body").await;
    for round in 0..3 {
        let mut tasks = Vec::new();
        for n in 0..8 {
            let asker = cx.connect().await;
            tasks.push(spawn(async move {
                for i in 0..5 {
                    let what = round * 1000 + n * 10 + i;
                    assert_eq!(asker.text(&ask(what)).await, what.to_string());
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    }
    server.stop().await;
    second.stop().await;
    let pool = c.text("SELECT count(*) FROM mq_internal.reply_queue").await;
    let n: i64 = pool.parse().unwrap();
    assert!(n < 24, "the pool grew to {n}");
}

async fn the_worker_frees(cx: Cx) {
    let busy = crate::server::Server::start(
        "requests-worker",
        "pg_broker.worker = on\npg_broker.maintenance_interval = '20ms'\n",
    );
    let cx = cx.on(Arc::new(busy.await));
    let c = queue(&cx).await;
    let asker = cx.connect().await;
    let name = asker.text("SELECT mq.reply_queue()").await;
    c.send(&name, 1).await;
    ended(&c, asker.pid).await;
    c.until(&format!(
        "SELECT pid IS NULL AND NOT EXISTS (SELECT FROM mq.{name}) FROM mq_internal.reply_queue"
    ))
    .await;
    c.run("UPDATE mq_internal.reply_queue SET since = now() - interval '2 h'")
        .await;
    c.until("SELECT count(*) = 0 FROM mq_internal.reply_queue")
        .await;
    c.until("SELECT count(*) = 1 FROM mq.queues").await;
    assert_eq!(
        c.text("SELECT warnings FROM mq.status()").await,
        "{}",
        "nothing went wrong"
    );
}

async fn after_a_crash(cx: Cx) {
    let server = crate::server::Server::start("requests-crash", "").await;
    let cx = cx.on(Arc::new(server));
    let c = queue(&cx).await;
    let name = c.text("SELECT mq.reply_queue()").await;
    c.send(&name, 1).await;
    cx.server.crash();
    cx.server.up();
    // It is not durable, and its session is gone.
    let c = cx.connect().await;
    assert_eq!(c.text("SELECT mq.reply_queue()").await, name);
    let server = Server::start(&cx, "q", "m.body").await;
    assert_eq!(c.text(&ask(5)).await, "5");
    server.stop().await;
    assert_eq!(c.text(POOL).await, "1 1");
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
