//! Private reply queues: whose they are, and what becomes of them.

use crate::harness::{Cx, spawn};
use crate::requests::{POOL, Server, ask, asking, ended, queue};
use crate::tests;
use std::sync::Arc;
use std::time::Duration;

tests![
    freed_when_the_session_ends,
    reply_queue_dropped,
    undone_and_prepared,
    copied_database,
    many_sessions,
    the_worker_frees,
    after_a_crash,
];

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
