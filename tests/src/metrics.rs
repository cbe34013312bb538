//! `mq.metrics` says what is in the table, exactly, whatever was done to the queue and however
//! long it is: after rollbacks, restarts, and as time passes.

use crate::conn::Conn;
use crate::figures::{agree, until_exact};
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::server::Server;
use crate::tests;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

tests![
    mixed_load,
    prepared_under_load,
    after_a_restart,
    after_a_crash,
    with_workers,
    ended_elsewhere,
    as_time_passes,
    failures_and_expiry,
    another_limit,
    own_changes,
    plain_sql,
    waiters,
    counting_is_interrupted,
];

/// Longer than what anybody counts at a look.
const LONG: u32 = 15_000;

async fn make(c: &Conn, options: &str) {
    c.run(&format!("SELECT mq.create_queue('q'{options})"))
        .await;
}

async fn fill(c: &Conn, rest: &str, n: u32) {
    c.run(&format!(
        "SELECT mq.send_batch('q', array_agg(to_jsonb(n)){rest}) FROM generate_series(1, {n}) n"
    ))
    .await;
}

/// Something that a client might do.
fn deed(rng: &mut Rng) -> String {
    let n = 1 + rng.below(12);
    let lease = ["1 ms", "300 ms", "2 s", "20 s", "5 min", "2 h", "400 days"];
    let (lease, wait) = (rng.pick(&lease), rng.pick(&lease));
    let priority = 2 + rng.below(4);
    let some = format!(
        "(SELECT coalesce(array_agg(id), '{{}}') FROM (SELECT id FROM mq.q WHERE id % 7 = {} AND state = 'leased' LIMIT {n}) s)",
        rng.below(7)
    );
    match rng.below(16) {
        0 => format!("SELECT mq.send('q', '1', priority => {priority})"),
        1 => format!("SELECT mq.send('q', '1', delay => '{wait}')"),
        2 => format!("SELECT mq.send('q', '1', ttl => '{wait}')"),
        3 => format!(
            "SELECT mq.send_batch('q', array_agg('2'::jsonb), delay => '{wait}') FROM generate_series(1, {n})"
        ),
        4..7 => format!("SELECT count(*) FROM mq.read('q', {n}, '{lease}')"),
        7 => format!("SELECT count(*) FROM mq.pop('q', {n})"),
        8 => format!("SELECT mq.ack('q', id, receipt) FROM mq.read('q', {n})"),
        9 => format!("SELECT mq.ack_batch('q', {some})"),
        10 => format!("SELECT mq.nack_batch('q', {some}, delay => '{wait}')"),
        11 => format!("SELECT mq.release_batch('q', {some})"),
        12 => format!("SELECT mq.extend_batch('q', {some}, visibility => '{wait}')"),
        13 => "SELECT mq.delete('q', max(id)) FROM mq.q".into(),
        14 => format!(
            "UPDATE mq.q SET priority = {priority} WHERE id = (SELECT max(id) FROM mq.q WHERE state = 'ready')"
        ),
        _ => format!("SELECT mq.nack('q', id, receipt) FROM mq.read('q', {n})"),
    }
}

/// A session that does things at random until it is told to end, alone or in transactions with
/// savepoints, of which some are rolled back, and, with a name, some prepared and ended later.
async fn play(c: Conn, seed: u64, name: Option<String>, over: Arc<AtomicBool>) {
    let mut rng = Rng::new(seed);
    c.never_wait().await;
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        let single = rng.one_in(2);
        // One to be prepared does little: a queue remembers only so much of each.
        let prepares = !single && name.is_some() && rng.one_in(3);
        let mut script = Vec::new();
        if !single {
            script.push("BEGIN".into());
            for _ in 0..rng.below(if prepares { 2 } else { 4 }) {
                script.push(deed(&mut rng));
                if rng.one_in(2) {
                    script.push("SAVEPOINT s".into());
                    script.push(deed(&mut rng));
                    let end = ["ROLLBACK TO s", "RELEASE s"];
                    script.push(rng.pick(&end).to_string());
                }
            }
        }
        script.push(deed(&mut rng));
        let mut gid = None;
        if !single {
            n += 1;
            let end = match &name {
                Some(name) if prepares => {
                    gid = Some(format!("{name}_{n}"));
                    format!("PREPARE TRANSACTION '{name}_{n}'")
                }
                _ if rng.one_in(3) => "ROLLBACK".into(),
                _ => "COMMIT".into(),
            };
            script.push(end);
        }
        for statement in script {
            // What others have locked, or a full dead-letter queue: part of the game.
            if let Err(no) = c.cells(&statement).await {
                let expected = ["55P03", "40P01", "55006"].contains(&no.code.as_str());
                assert!(expected, "{statement}\n{no:?}");
                c.run("ROLLBACK").await;
                gid = None;
                break;
            }
        }
        if let Some(gid) = gid {
            let end = if rng.one_in(2) { "COMMIT" } else { "ROLLBACK" };
            c.run(&format!("{end} PREPARED '{gid}'")).await;
        }
    }
}

struct Players {
    over: Arc<AtomicBool>,
    all: Vec<tokio::task::JoinHandle<()>>,
}

impl Players {
    async fn start(server: &Server, db: &str, prepare: bool) -> Players {
        let seed = seed();
        println!("      metrics: SEED={seed}");
        let over = Arc::new(AtomicBool::new(false));
        let mut all = Vec::new();
        for n in 0..5 {
            let c = server.connect(db).await;
            let name = (prepare && n == 0).then(|| format!("{db}_{n}"));
            all.push(spawn(play(c, seed + n, name, over.clone())));
        }
        Players { over, all }
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for player in self.all {
            player.await.expect("a player");
        }
    }
}

const SOME_TIME: Duration = Duration::from_millis(2500);

async fn mixed_load(cx: Cx) {
    let c = cx.connect().await;
    make(&c, ", max_failures => 3").await;
    fill(&c, "", LONG).await;
    agree(&c, "q", "filled").await;
    for round in 0..3 {
        let players = Players::start(&cx.server, &cx.db, false).await;
        tokio::time::sleep(SOME_TIME).await;
        players.end().await;
        agree(&c, "q", &format!("round {round}")).await;
    }
    c.run("SELECT mq.purge_queue('q')").await;
    agree(&c, "q", "purged").await;
}

/// Each prepared transaction that ends means to count anew, here while everybody goes on.
async fn prepared_under_load(cx: Cx) {
    let c = cx.connect().await;
    make(&c, ", max_failures => 3").await;
    fill(&c, "", LONG).await;
    for round in 0..3 {
        let players = Players::start(&cx.server, &cx.db, true).await;
        let began = std::time::Instant::now();
        while began.elapsed() < SOME_TIME {
            c.run("SELECT mq.maintain('q')").await;
            c.run("SELECT * FROM mq.metrics").await;
        }
        players.end().await;
        c.run("SELECT mq.maintain('q')").await;
        c.run("SELECT mq.maintain('q')").await;
        agree(&c, "q", &format!("round {round}")).await;
    }
}

async fn after_a_restart(_: Cx) {
    let server = Server::start("metrics-restart", "").await;
    restarted(&server, Server::down, |c| {
        Box::pin(async move { c.run("SELECT mq.maintain('q')").await })
    })
    .await;
    server.down();
}

async fn after_a_crash(_: Cx) {
    let server = Server::start("metrics-crash", "").await;
    restarted(&server, Server::crash, |c| {
        Box::pin(async move { c.run("SELECT mq.maintain('q')").await })
    })
    .await;
    server.down();
}

/// The workers count by themselves.
async fn with_workers(_: Cx) {
    let on = "pg_broker.worker = on\npg_broker.maintenance_interval = '50ms'\n";
    let server = Server::start("metrics-workers", on).await;
    restarted(&server, Server::down, |c| {
        Box::pin(async move { until_exact(c, "q").await })
    })
    .await;
    server.down();
}

type Recount = for<'a> fn(&'a Conn) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Down and up, and counted anew while the load goes on.
async fn restarted(server: &Server, stop: fn(&Server), recount: Recount) {
    let c = server.connect("mq_template").await;
    make(&c, "").await;
    fill(&c, "", LONG).await;
    fill(&c, ", delay => '1 hour'", 3000).await;
    c.run("SELECT count(*) FROM mq.read('q', 500, '1 hour')")
        .await;
    agree(&c, "q", "before").await;
    for round in 0..3 {
        stop(server);
        server.up();
        let c = server.connect("mq_template").await;
        if round == 0 {
            recount(&c).await;
            agree(&c, "q", "nobody about").await;
            continue;
        }
        let players = Players::start(server, "mq_template", false).await;
        recount(&c).await;
        until_exact(&c, "q").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        players.end().await;
        agree(&c, "q", &format!("restart {round}")).await;
    }
}

/// A prepared transaction takes along what it did, and is ended by somebody else.
async fn ended_elsewhere(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    make(&c, "").await;
    fill(&c, "", 50).await;
    c.run("SELECT mq.send('q', '1', delay => '1 hour')").await;
    let deeds = [
        "SELECT mq.send('q', '1')",
        "SELECT mq.send('q', '1', delay => '1 hour')",
        "SELECT count(*) FROM mq.read('q', 5, '1 hour')",
        "SELECT count(*) FROM mq.pop('q', 5)",
        "SELECT mq.ack('q', id) FROM mq.q WHERE state = 'leased'",
        "SELECT mq.delete('q', max(id)) FROM mq.q",
        "SELECT mq.purge_queue('q')",
    ];
    for deed in deeds {
        for end in ["ROLLBACK", "COMMIT"] {
            c.run(&format!("BEGIN; {deed}; PREPARE TRANSACTION '{}'", cx.db))
                .await;
            agree(&other, "q", &format!("{deed}: prepared")).await;
            other.run(&format!("{end} PREPARED '{}'", cx.db)).await;
            agree(&other, "q", &format!("{deed}: {end}")).await;
            other.run("SELECT count(*) FROM mq.read('q', 1)").await;
            agree(&c, "q", &format!("{deed}: {end}, and later")).await;
        }
    }
}

/// Nobody touches anything: leases and delays of all lengths end.
async fn as_time_passes(cx: Cx) {
    let c = cx.connect().await;
    make(&c, "").await;
    for length in ["700 ms", "1500 ms", "2 s", "3 s", "4 s", "1 min", "1 day"] {
        fill(&c, &format!(", delay => '{length}'"), 3000).await;
    }
    fill(&c, "", 12_000).await;
    for length in ["900 ms", "2100 ms", "3500 ms", "1 hour"] {
        c.run(&format!(
            "SELECT count(*) FROM mq.read('q', 300, '{length}')"
        ))
        .await;
    }
    c.run("SELECT mq.extend('q', id, visibility => '2500 ms') FROM mq.q WHERE state = 'leased' AND id % 3 = 0")
        .await;
    for _ in 0..40 {
        agree(&c, "q", "in between").await;
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    let left = "SELECT concat_ws(' ', delayed, leased) FROM mq.metrics";
    assert_eq!(c.text(left).await, "6000 200");
}

/// A message that will not be handed out again is not ready.
async fn failures_and_expiry(cx: Cx) {
    let c = cx.connect().await;
    make(&c, ", max_failures => 2").await;
    fill(&c, "", 100).await;
    c.run("SELECT count(*) FROM mq.read('q', 30, '1 ms')").await;
    c.run("SELECT pg_sleep(0.01)").await;
    agree(&c, "q", "failed once").await;
    c.run("SELECT count(*) FROM mq.read('q', 20, '1 s')").await;
    agree(&c, "q", "the last lease").await;
    c.until("SELECT ready = 80 AND leased = 0 FROM mq.metrics")
        .await;
    agree(&c, "q", "failed twice").await;
    fill(&c, ", ttl => '200 ms'", 40).await;
    c.run("INSERT INTO mq.q (body, visible_at, expires_at) VALUES ('1', now() + '1 h', now() + '300 ms')")
        .await;
    agree(&c, "q", "before they expire").await;
    c.until("SELECT ready = 80 AND delayed = 0 FROM mq.metrics")
        .await;
    agree(&c, "q", "expired").await;
    c.run("SELECT mq.maintain('q')").await;
    agree(&c, "q", "buried").await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 80);
}

async fn another_limit(cx: Cx) {
    let c = cx.connect().await;
    make(&c, ", max_failures => 5").await;
    fill(&c, "", 10).await;
    c.run("SELECT mq.nack('q', id, receipt, delay => '1 us') FROM mq.read('q', 4)")
        .await;
    agree(&c, "q", "5").await;
    for limit in ["1", "2", "NULL", "3"] {
        c.run(&format!(
            "SELECT mq.alter_queue('q', max_failures => {limit})"
        ))
        .await;
        agree(&c, "q", limit).await;
    }
}

/// Who has changed something sees it, before and after others do.
async fn own_changes(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    make(&c, "").await;
    fill(&c, "", LONG).await;
    c.run("BEGIN").await;
    c.run("SELECT count(*) FROM mq.pop('q', 10)").await;
    agree(&c, "q", "own").await;
    c.run("SAVEPOINT s").await;
    c.run("SELECT count(*) FROM mq.read('q', 10, '1 s')").await;
    fill(&c, ", delay => '1 s'", 100).await;
    agree(&c, "q", "own, in a savepoint").await;
    agree(&other, "q", "another's").await;
    c.run("ROLLBACK TO s").await;
    agree(&c, "q", "own, rolled back").await;
    c.run("COMMIT").await;
    agree(&c, "q", "committed").await;
    agree(&other, "q", "another's, committed").await;
}

/// What nobody tells of is found by upkeep.
async fn plain_sql(cx: Cx) {
    let c = cx.connect().await;
    make(&c, "").await;
    fill(&c, "", 20).await;
    c.run("SELECT count(*) FROM mq.read('q', 100, '1 hour')")
        .await;
    let table = crate::storage::of(&c, "q").await;
    c.run(&format!(
        "INSERT INTO {table} (id, enqueued_at, attempts, failures, rank, body) \
         SELECT nextval('{table}_id'), now(), 0, 0, 5, '1' FROM generate_series(1, 7)"
    ))
    .await;
    c.run("SELECT mq.maintain('q')").await;
    agree(&c, "q", "inserted").await;
    c.run(&format!("DELETE FROM {table} WHERE id % 4 = 0"))
        .await;
    c.run("SELECT mq.maintain('q')").await;
    agree(&c, "q", "deleted").await;
    c.run(&format!("TRUNCATE {table}")).await;
    c.run("SELECT mq.maintain('q')").await;
    agree(&c, "q", "truncated").await;
}

async fn waiters(cx: Cx) {
    let c = cx.connect().await;
    make(&c, "").await;
    c.run("SELECT mq.create_queue('r')").await;
    let told = |n: i32, m: i32| {
        format!("SELECT string_agg(waiters::text, ' ' ORDER BY queue) = '{n} {m}' FROM mq.metrics")
    };
    c.until(&told(0, 0)).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let w = cx.connect().await;
        let pid = w.pid;
        let waits = spawn(async move { w.cells("CALL mq.wait('q', '1 min')").await.is_ok() });
        all.push((pid, waits));
    }
    let both = cx.connect().await;
    let both = spawn(async move { both.run("CALL mq.wait_any(ARRAY['q', 'r'], '1 min')").await });
    c.until(&told(4, 1)).await;
    c.run("SELECT mq.send('r', '1')").await;
    both.await.expect("woken");
    c.until(&told(3, 0)).await;
    c.run(&format!("SELECT pg_cancel_backend({})", all[0].0))
        .await;
    c.until(&told(2, 0)).await;
    c.run(&format!("SELECT pg_terminate_backend({})", all[1].0))
        .await;
    c.until(&told(1, 0)).await;
    c.run("SELECT mq.send('q', '1')").await;
    c.until(&told(0, 0)).await;
    let ended: Vec<bool> = futures_util::future::join_all(all.into_iter().map(|(_, w)| w))
        .await
        .into_iter()
        .map(|done| done.expect("a waiter"))
        .collect();
    assert_eq!(ended, [false, false, true]);
}

/// Whoever counts is cancelled, or ended: the next one can.
async fn counting_is_interrupted(cx: Cx) {
    let (c, other) = (cx.connect().await, cx.connect().await);
    make(&c, "").await;
    fill(&c, "", 60_000).await;
    for how in ["cancel", "terminate", "cancel"] {
        // Unknown: a prepared transaction has ended.
        let gid = &cx.db;
        other
            .run(&format!(
                "BEGIN; SELECT mq.send('q', '1'); PREPARE TRANSACTION '{gid}'"
            ))
            .await;
        other.run(&format!("COMMIT PREPARED '{gid}'")).await;
        assert!(other.yes("SELECT estimated FROM mq.metrics").await);
        let w = cx.connect().await;
        let pid = w.pid;
        let counts = spawn(async move { w.cells("SELECT mq.maintain('q')").await.is_ok() });
        for _ in 0..20 {
            c.run(&format!("SELECT pg_{how}_backend({pid})")).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let _ = counts.await;
        c.run("SELECT mq.maintain('q')").await;
        agree(&c, "q", how).await;
    }
}
