//! Rate limits: in no stretch of time are more messages handed out than the burst and what the rate
//! gives for it, whoever reads; and so many are, where there are enough readers and messages.
//!
//! When a message was handed out says its `read_at`, so that no delay of a client counts.

use crate::conn::{Conn, Patience};
use crate::harness::{Cx, spawn};
use crate::processes::jiffies;
use crate::server::Server;
use crate::tests;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

tests![
    four_readers,
    each_key_apart,
    what_is_put_off,
    who_waits_sleeps,
    another_rate,
    a_restart_gives_no_burst,
    full_table,
    #[solo]
    many_of_one_key,
    needs_preloading
];

/// When a message was handed out, in microseconds, and of which key it was.
pub type Taken = (i64, String);

pub async fn take(c: &Conn, verb: &str) -> Vec<Taken> {
    let rows = c
        .rows(&format!(
            "SELECT (extract(epoch FROM read_at) * 1000000)::bigint, coalesce(headers->>'k', '') \
             FROM {verb}"
        ))
        .await;
    let one = |row: Vec<Option<String>>| {
        let text = |n: usize| row[n].clone().unwrap();
        (text(0).parse().unwrap(), text(1))
    };
    rows.into_iter().map(one).collect()
}

/// So many messages a second, at most so many at once.
pub struct Rate {
    pub a_second: i64,
    pub burst: i64,
}

impl Rate {
    pub fn allowed(&self, micros: i64) -> i64 {
        self.burst + micros * self.a_second / 1_000_000
    }

    /// Gives how long it took.
    pub fn check(&self, mut taken: Vec<i64>) -> i64 {
        taken.sort_unstable();
        for (i, from) in taken.iter().enumerate() {
            for (j, to) in taken.iter().enumerate().skip(i) {
                let n = (j - i + 1) as i64;
                let allowed = self.allowed(to - from);
                assert!(n <= allowed, "{n} within {} us, not {allowed}", to - from);
            }
        }
        taken.last().copied().unwrap_or(0) - taken.first().copied().unwrap_or(0)
    }
}

/// Four sessions take as fast as they can, in several ways, for so long.
async fn hammer(cx: &Cx, long: Duration) -> Vec<Taken> {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for n in 0..4 {
        let (cx, is_over) = (cx.clone(), is_over.clone());
        readers.push(spawn(async move {
            let c = cx.connect().await;
            let mut taken = Vec::new();
            let mut round = n;
            while !is_over.load(Ordering::Relaxed) {
                round += 1;
                // What is rolled back was seen, and its token is gone.
                let (verb, is_undone) = match round % 4 {
                    0 => ("mq.read('q', 3, '1 hour')", false),
                    1 => ("mq.read('q', 7, '1 hour')", false),
                    2 => ("mq.read('q', 2, wait => '20 ms')", true),
                    _ => ("mq.read('q', 1, '1 hour')", false),
                };
                if is_undone {
                    c.run("BEGIN").await;
                }
                taken.extend(take(&c, verb).await);
                if is_undone {
                    c.run("ROLLBACK").await;
                }
            }
            taken
        }));
    }
    tokio::time::sleep(long).await;
    is_over.store(true, Ordering::Relaxed);
    let mut taken = Vec::new();
    for reader in readers {
        taken.extend(reader.await.unwrap());
    }
    taken
}

async fn queue(cx: &Cx, options: &str, messages: &str) -> Conn {
    let c = cx.connect().await;
    c.run(&format!("SELECT mq.create_queue('q', {options})"))
        .await;
    c.run(messages).await;
    c
}

const PLAIN: &str =
    "SELECT mq.send_batch('q', array_agg(to_jsonb(n))) FROM generate_series(1, 5000) n";

async fn four_readers(cx: Cx) {
    queue(&cx, "rate_limit => 200, rate_burst => 20", PLAIN).await;
    let taken = hammer(&cx, Duration::from_secs(3)).await;
    let rate = Rate {
        a_second: 200,
        burst: 20,
    };
    let n = taken.len() as i64;
    let took = rate.check(taken.into_iter().map(|t| t.0).collect());
    assert!(took > 2_500_000);
    let allowed = rate.allowed(took);
    assert!(n * 10 >= allowed * 9, "only {n} of {allowed}");
}

async fn each_key_apart(cx: Cx) {
    let messages = "SELECT count(mq.send('q', to_jsonb(n), \
                    CASE n % 4 WHEN 0 THEN NULL ELSE jsonb_build_object('k', n % 4) END)) \
                    FROM generate_series(1, 4000) n";
    let options = "rate_limit => 5, rate_interval => '100 ms', rate_burst => 3, rate_key => 'k'";
    queue(&cx, options, messages).await;
    let taken = hammer(&cx, Duration::from_secs(3)).await;
    let rate = Rate {
        a_second: 50,
        burst: 3,
    };
    for key in ["", "1", "2", "3"] {
        let own: Vec<i64> = taken.iter().filter(|t| t.1 == key).map(|t| t.0).collect();
        let n = own.len() as i64;
        let took = rate.check(own);
        let allowed = rate.allowed(took);
        assert!(took > 2_500_000, "{key}: {took}");
        assert!(n * 10 >= allowed * 9, "{key}: only {n} of {allowed}");
    }
}

/// Nothing that is put off is lost, and keys that have tokens go on.
async fn what_is_put_off(cx: Cx) {
    let options = "rate_limit => 1, rate_interval => '1 hour', rate_key => 'k'";
    let c = queue(
        &cx,
        options,
        "SELECT count(mq.send('q', '1', '{\"k\": \"a\"}')) FROM generate_series(1, 50)",
    )
    .await;
    let other = cx.connect().await;
    assert_eq!(c.hands("'q', 10").await.len(), 1);
    assert_eq!(other.hands("'q', 10").await.len(), 0);
    other
        .run("SELECT mq.send('q', '2', '{\"k\": \"b\"}'), mq.send('q', '2', '{\"k\": \"b\"}')")
        .await;
    assert_eq!(c.hands("'q', 10").await.len(), 1, "one of b");
    other.run("SELECT mq.send('q', '3', '{\"k\": [1]}')").await;
    assert_eq!(c.hands("'q', 10").await.len(), 1);
    // Who waits is not told that there is anything.
    assert!(!c.yes("CALL mq.wait('q', '200 ms', NULL)").await);
    c.run("SELECT mq.alter_queue('q', reset => '{rate_limit}')")
        .await;
    assert_eq!(
        other.hands("'q', 100").await.len(),
        50,
        "the limit is gone at once"
    );
}

/// Who waits sleeps until the next token, is there at once then, and each token calls one of them.
async fn who_waits_sleeps(cx: Cx) {
    for (name, key) in [("the queue's", ""), ("a key's", ", rate_key => 'k'")] {
        let options = format!("rate_limit => 2, rate_burst => 1{key}");
        let c = queue(
            &cx,
            &options,
            "SELECT count(mq.send('q', '1')) FROM generate_series(1, 50)",
        )
        .await;
        assert_eq!(c.hands("'q', 5").await.len(), 1);
        let all = three_wait(&cx, "'q', 5, wait => '600 ms'").await;
        assert!((7..=9).contains(&all), "{name}: {all} in four seconds");
        // mq.wait, too.
        c.hands("'q'").await;
        let started = Instant::now();
        while !c.yes("CALL mq.wait('q', '10 s', NULL)").await || c.hands("'q'").await.is_empty() {}
        let took = started.elapsed();
        assert!(took < Duration::from_millis(800), "{name}: {took:?}");
        c.run("SELECT mq.drop_queue('q')").await;
    }
}

/// What was put off under one rate is had at once under a faster one, also by who waits already.
async fn another_rate(cx: Cx) {
    let options = "rate_limit => 1, rate_interval => '1 hour', rate_key => 'k'";
    let c = queue(
        &cx,
        options,
        "SELECT count(mq.send('q', '1')) FROM generate_series(1, 20)",
    )
    .await;
    assert_eq!(c.hands("'q', 30").await.len(), 1);
    let waiter = cx.connect().await;
    let waits = spawn(async move { waiter.hands("'q', 5, wait => '20 s'").await.len() });
    c.until("SELECT waiters = 1 FROM mq.metrics WHERE queue = 'q'")
        .await;
    let started = Instant::now();
    c.run("SELECT mq.alter_queue('q', rate_limit => 1000, rate_interval => '1 s')")
        .await;
    assert!(waits.await.unwrap() > 0);
    assert!(started.elapsed() < Duration::from_secs(1));
    c.until("SELECT count(*) > 0 FROM mq.pop('q', 30)").await;
}

/// What was handed out just before a restart is not known: the bucket begins empty.
async fn a_restart_gives_no_burst(_: Cx) {
    let server = Server::start("rates", "").await;
    for key in ["", ", rate_key => 'k'"] {
        let c = server.connect("mq_template").await;
        let options = format!("rate_limit => 2, rate_burst => 30{key}");
        c.run(&format!("SELECT mq.create_queue('q', {options})"))
            .await;
        c.run(PLAIN).await;
        let mut taken = Vec::new();
        for stop in [Server::down, Server::crash] {
            let c = server.connect("mq_template").await;
            for _ in 0..40 {
                taken.extend(take(&c, "mq.read('q', 1, '1 hour')").await);
            }
            drop(c);
            stop(&server);
            server.up();
        }
        let c = server.connect("mq_template").await;
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(1200) {
            taken.extend(take(&c, "mq.read('q', 1, '1 hour')").await);
        }
        let rate = Rate {
            a_second: 2,
            burst: 30,
        };
        assert!(taken.len() >= 32, "{}", taken.len());
        rate.check(taken.into_iter().map(|t| t.0).collect());
        c.run("SELECT mq.create_queue('new', rate_limit => 5)")
            .await;
        c.run("SELECT count(mq.send('new', '1')) FROM generate_series(1, 9)")
            .await;
        assert_eq!(
            c.hands("'new', 9").await.len(),
            5,
            "a new queue has its burst"
        );
        c.run("SELECT mq.drop_queue('q'), mq.drop_queue('new')")
            .await;
    }
    server.down();
}

/// Where more keys were handed out lately than there is room for, others wait; never is one given more.
async fn full_table(_: Cx) {
    let server = Server::start("rates-full", "pg_broker.max_rate_keys = 32\n").await;
    let c = server.connect("mq_template").await;
    c.run("SELECT mq.create_queue('q', rate_limit => 1, rate_interval => '2 s', rate_key => 'k')")
        .await;
    c.run("SELECT count(mq.send('q', '1', jsonb_build_object('k', n / 2))) FROM generate_series(0, 99) n")
        .await;
    let started = Instant::now();
    let mut taken = take(&c, "mq.read('q', 200, '1 hour')").await;
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(taken.len(), 32);
    let patience = Patience::new("the last message");
    while taken.len() < 100 {
        taken.extend(take(&c, "mq.read('q', 200, '1 hour')").await);
        patience.wait().await;
    }
    let rate = |of| Rate {
        a_second: 1,
        burst: of,
    };
    for key in 0..50 {
        let own: Vec<i64> = taken
            .iter()
            .filter(|t| t.1 == key.to_string())
            .map(|t| t.0)
            .collect();
        assert_eq!(own.len(), 2);
        assert!((own[0] - own[1]).abs() >= 2_000_000);
    }
    rate(100).check(taken.into_iter().map(|t| t.0).collect());
    server.down();
}

/// Messages of a key that has no token are passed once, not at each call.
async fn many_of_one_key(cx: Cx) {
    let messages = "SELECT count(*) FROM mq.send_batch('q', (SELECT array_agg('1'::jsonb) FROM generate_series(1, 100000)), \
                    (SELECT array_agg('{\"k\": \"a\"}'::jsonb) FROM generate_series(1, 100000)))";
    let c = queue(
        &cx,
        "rate_limit => 50, rate_burst => 1, rate_key => 'k'",
        messages,
    )
    .await;
    assert_eq!(c.hands("'q'").await.len(), 1);
    assert_eq!(c.hands("'q'").await.len(), 0, "this one passed them all");
    let (mut looked, mut calls, mut got) = (0, 0, 0);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        let plan = c
            .text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM mq.pop('q')")
            .await;
        let (_, hits) = plan.split_once("\"Shared Hit Blocks\": ").unwrap();
        looked += hits
            .split(',')
            .next()
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap();
        calls += 1;
        let (_, rows) = plan.split_once("\"Actual Rows\": ").unwrap();
        got += u64::from(rows.split(',').next().unwrap().trim().starts_with('1'));
    }
    assert!(
        calls > 100,
        "{calls} calls, {got} messages, {looked} blocks"
    );
    assert!(got > 60, "{got} messages");
    assert!(
        looked < got * 150,
        "{looked} blocks for {got} messages in {calls} calls"
    );
    // Others are not behind them.
    c.run("SELECT mq.send('q', '2', '{\"k\": \"b\"}')").await;
    let body = "SELECT string_agg(body::text, ' ') LIKE '%2%' FROM mq.pop('q', 3)";
    assert!(c.yes(body).await);
}

async fn needs_preloading(_: Cx) {
    let server = Server::start("rates-plain", "").await;
    let c = server.connect("mq_template").await;
    c.run("SELECT mq.create_queue('q', rate_limit => 5)").await;
    c.send("q", 1).await;
    drop(c);
    server.down();
    server.configure("shared_preload_libraries = ''\n");
    server.up();
    let c = server.connect("mq_template").await;
    for call in [
        "SELECT mq.read('q')",
        "SELECT mq.pop('q')",
        "CALL mq.wait('q', '1 s', NULL)",
        "SELECT mq.create_queue('p', rate_limit => 5)",
        "SELECT mq.create_queue('p', max_in_flight => 5)",
        "SELECT mq.alter_queue('q', max_in_flight => 5)",
    ] {
        let no = c.refused(call, "55000").await;
        assert!(no.hint.contains("shared_preload_libraries"), "{no:?}");
    }
    c.send("q", 2).await;
    c.run("SELECT mq.alter_queue('q', visibility => '9 s')")
        .await;
    c.run("SELECT mq.alter_queue('q', reset => '{rate_limit}')")
        .await;
    assert_eq!(c.hands("'q', 5").await.len(), 2);
    server.down();
}

/// Three sessions read so for four seconds, and sleep when there is nothing for them. Gives how many
/// messages they had.
pub async fn three_wait(cx: &Cx, arguments: &'static str) -> usize {
    let mut readers = Vec::new();
    let started = Instant::now();
    for _ in 0..3 {
        let r = cx.connect().await;
        readers.push(spawn(async move {
            let before = jiffies(r.pid);
            let mut n = 0;
            while started.elapsed() < Duration::from_millis(3900) {
                n += r.hands(arguments).await.len();
            }
            (n, jiffies(r.pid) - before)
        }));
    }
    let mut all = 0;
    for reader in readers {
        let (n, cpu) = reader.await.unwrap();
        all += n;
        assert!(cpu < 60, "{arguments}: who waits used {cpu} jiffies");
    }
    all
}
