//! A standby while its primary rotates: whoever browses there sees every message that stays, or is
//! cancelled and told why; so does who looks late, within the grace; and a standby that takes over goes
//! on rotating, with unlogged queues, too.

use crate::conn::{Conn, Patience, Refusal};
use crate::harness::{Cx, spawn};
use crate::ledger::{DB, Load, reach};
use crate::server::Server;
use crate::space::{self, LEAST, Upkeep, is_segment};
use crate::tests;
use crate::traffic::Traffic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

tests![
    browsed_with_feedback,
    browsed_without_feedback,
    a_late_look,
    promoted_under_load,
    unlogged_with_calls,
    unlogged_with_a_worker,
];

/// Messages that stay all the time.
const KEPT: i64 = 30;
const WORK: Duration = Duration::from_secs(6);

#[derive(Default)]
struct Looks {
    good: AtomicUsize,
    cancelled: AtomicUsize,
    over: AtomicBool,
}

/// Looks once, as one statement or as a transaction of two.
async fn look(c: &Conn, n: usize) -> Result<(), Refusal> {
    let kept = "SELECT concat_ws(' ', count(*), count(DISTINCT id), sum((body #>> '{kept}')::int)) \
                FROM mq.q WHERE body ? 'kept'";
    let wanted = format!("{KEPT} {KEPT} {}", KEPT * (KEPT + 1) / 2);
    let begin = match n % 4 {
        0 => "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1",
        1 => "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM mq.q",
        2 => "BEGIN; SELECT count(*) FROM mq.q",
        _ => "SELECT 1",
    };
    c.cells(begin).await?;
    for _ in 0..3 {
        let rows = c.cells(kept).await?;
        assert_eq!(rows[0][0].as_deref(), Some(&wanted[..]), "{begin}");
        // Time for the replay to come past.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let states = c
        .cells("SELECT count(*) FROM mq.segments WHERE queue = 'q' AND state IS NULL")
        .await?;
    assert_eq!(states[0][0].as_deref(), Some("0"));
    if n % 4 < 3 {
        c.cells("COMMIT").await?;
    }
    Ok(())
}

async fn browse(server: Arc<Server>, looks: Arc<Looks>) {
    let (mut c, mut n) = (server.connect(DB).await, 0);
    while !looks.over.load(Ordering::SeqCst) {
        n += 1;
        match look(&c, n).await {
            Ok(()) => {
                looks.good.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            // A conflict with recovery cancels the statement, or ends an idle session.
            Err(no) if ["40001", "57014", "57P01", "08006"].contains(&no.code.as_str()) => {
                looks.cancelled.fetch_add(1, Ordering::SeqCst);
            }
            Err(no) => panic!("{no:?}"),
        }
        // A conflict may end a session that has hardly begun, too.
        let patience = Patience::new("a connection to the standby");
        c = loop {
            match Conn::try_open(server.port, DB, "postgres").await {
                Ok(c) => break c,
                Err(_) => patience.wait().await,
            }
        };
    }
}

async fn browsed(feedback: &str, delay: &str) {
    let name = format!("space-primary-{feedback}");
    let primary = Server::start(&name, &Upkeep::Worker.settings()).await;
    let c = primary.connect(DB).await;
    space::create(&c, "q", LEAST, "").await;
    let standby = Arc::new(primary.standby(&format!("space-standby-{feedback}")));
    let s = standby.connect(DB).await;
    for (setting, value) in [
        ("hot_standby_feedback", feedback),
        ("max_standby_streaming_delay", delay),
    ] {
        s.run(&format!("ALTER SYSTEM SET {setting} = '{value}'"))
            .await;
    }
    s.run("SELECT pg_reload_conf()").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Worker).await;
    for n in 1..=KEPT {
        let send = format!("SELECT mq.send('q', '{{\"kept\": {n}}}', delay => '1 hour')");
        traffic.c.run(&send).await;
        traffic.step().await;
    }
    let here = traffic.c.text("SELECT pg_current_wal_lsn()").await;
    s.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"))
        .await;
    let looks = Arc::new(Looks::default());
    let browsers: Vec<_> = (0..3)
        .map(|_| spawn(browse(standby.clone(), looks.clone())))
        .collect();
    let began = Instant::now();
    let mut turns = 0;
    while began.elapsed() < WORK && !browsers.iter().any(|browser| browser.is_finished()) {
        traffic.turns(1).await;
        turns += 1;
    }
    looks.over.store(true, Ordering::SeqCst);
    for browser in browsers {
        browser.await.expect("a browser");
    }
    let (good, cancelled) = (
        looks.good.load(Ordering::SeqCst),
        looks.cancelled.load(Ordering::SeqCst),
    );
    println!(
        "      standby, feedback {feedback}: {turns} turns, {good} looks, {cancelled} cancelled"
    );
    assert!(
        turns >= 5 && good > 0,
        "{turns} turns, {good} looks, {cancelled} cancelled"
    );
    traffic.drain().await;
    // The replay was held up for a while at most, and has all.
    let here = traffic.c.text("SELECT pg_current_wal_lsn()").await;
    s.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"))
        .await;
    let (there, here) = (
        space::places(&s, "q").await,
        space::places(&traffic.c, "q").await,
    );
    assert_eq!(there.len(), here.len());
    assert_eq!(there.len() as i64, KEPT);
}

async fn browsed_with_feedback(_: Cx) {
    browsed("on", "30s").await;
}

async fn browsed_without_feedback(_: Cx) {
    browsed("off", "50ms").await;
}

/// The primary is killed in the middle of its rotations; the ledger of all is exact, and the
/// successor's segments take turns like those of the primary.
async fn promoted_under_load(_: Cx) {
    let primary = Server::start("space-promoted", &Upkeep::Worker.settings()).await;
    let load = Load::begin(&primary).await;
    let ledger = load.ledger.clone();
    let p = primary.connect(DB).await;
    p.run(&format!(
        "SELECT mq.alter_queue('work', segment_size => {LEAST})"
    ))
    .await;
    let standby = primary.standby("space-successor");
    p.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        .await;
    p.run("SELECT pg_reload_conf()").await;
    p.until("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        .await;
    p.until("SELECT current_setting('synchronous_standby_names') = '*'")
        .await;
    turned(&p, 4).await;
    drop(p);
    let began = Instant::now();
    primary.crash();
    standby.promote();
    ledger.port.store(standby.port, Ordering::SeqCst);
    let s = reach(&ledger).await.expect("the successor");
    s.until("SELECT NOT pg_is_in_recovery()").await;
    ledger.crashes.lock().unwrap().push((began, Instant::now()));
    turned(&s, 4).await;
    load.end(1).await;
    space::all_truncated(&s, "work", Upkeep::Worker).await;
}

/// Waits until others' work has begun so many new ranges.
async fn turned(c: &Conn, many: usize) {
    let newest = "SELECT coalesce(max(first_id), 0) FROM mq.segments WHERE queue = 'work'";
    for _ in 0..many {
        let before = c.int(newest).await;
        c.until(&format!("SELECT ({newest}) > {before}")).await;
    }
}

/// Who has a snapshot there, of which the primary hears nothing, and looks at the queue only after messages
/// were moved or have left, misses none of them: within the grace.
async fn a_late_look(_: Cx) {
    let settings = format!(
        "{}pg_broker.move_grace = '20s'\n",
        Upkeep::Worker.settings()
    );
    let primary = Server::start("space-primary-late", &settings).await;
    let c = primary.connect(DB).await;
    space::create(&c, "q", LEAST, "").await;
    let standby = primary.standby("space-standby-late");
    let mut traffic = Traffic::new(c, "q", Upkeep::Worker).await;
    let sql = "SELECT mq.send_batch('q', array_fill('{\"kept\": 1}'::jsonb, ARRAY[8]), delay => '1 hour')";
    traffic.c.run(sql).await;
    // The first ids of a queue are in no segment.
    let mut later = Vec::new();
    while later.len() < 8 {
        traffic.step().await;
        let one = "SELECT mq.send('q', '{\"kept\": 1}', delay => '1 hour')";
        let id = traffic.c.int(one).await;
        match space::is_segment(&space::places(&traffic.c, "q").await[&id]) {
            true => later.push(id),
            false => assert!(traffic.c.yes(&format!("SELECT mq.delete('q', {id})")).await),
        }
    }
    let here = traffic.c.text("SELECT pg_current_wal_lsn()").await;
    let s = standby.connect(DB).await;
    s.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"))
        .await;
    s.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .await;
    let began = Instant::now();
    for id in &later[..3] {
        assert!(traffic.c.yes(&format!("SELECT mq.delete('q', {id})")).await);
    }
    let patience = Patience::new("a segment that messages have left, and that a standby keeps");
    loop {
        let parts = space::parts(&traffic.c, "q").await;
        let why = |part: &space::Part| part.kept_by.clone().unwrap_or_default();
        let is_kept = |p: &space::Part| p.is_old() && why(p).contains("a standby");
        let places = space::places(&traffic.c, "q").await;
        let has_moved = |id: &i64| !space::is_segment(&places[id]);
        if parts.iter().any(is_kept) && later[3..].iter().any(has_moved) {
            break;
        }
        traffic.step().await;
        patience.wait().await;
    }
    // Long enough for the worker to truncate what could be, and for the replay.
    traffic.turns(2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let here = traffic.c.text("SELECT pg_current_wal_lsn()").await;
    let seen = s.int("SELECT count(*) FROM mq.q WHERE body ? 'kept'").await;
    assert!(began.elapsed() < Duration::from_secs(20), "too late");
    assert_eq!(seen, 16);
    s.run("COMMIT").await;
    s.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"))
        .await;
    assert_eq!(
        s.int("SELECT count(*) FROM mq.q WHERE body ? 'kept'").await,
        13
    );
}

async fn unlogged_with_calls(_: Cx) {
    unlogged(Upkeep::Calls, "calls").await;
}

async fn unlogged_with_a_worker(_: Cx) {
    unlogged(Upkeep::Worker, "worker").await;
}

/// An unlogged queue is empty on a standby that takes over, whatever lay in segments and was parked,
/// and works and rotates like a new one.
async fn unlogged(upkeep: Upkeep, name: &str) {
    let name = format!("space-unlogged-{name}");
    let primary = Server::start(&name, &upkeep.settings()).await;
    let p = primary.connect(DB).await;
    space::create(&p, "q", LEAST, ", durable => false").await;
    p.run("SELECT mq.create_queue('kept')").await;
    p.send("kept", 1).await;
    let mut traffic = Traffic::new(p, "q", upkeep).await;
    parks(&mut traffic).await;
    let left = traffic.send(3 * LEAST).await;
    let lie = space::places(&traffic.c, "q").await;
    assert!(lie.values().any(|table| is_segment(table)), "{lie:?}");
    traffic.c.run("SELECT mq.read('q', 10, '1 hour')").await;
    let standby = primary.standby(&format!("{name}-standby"));
    let s = standby.connect(DB).await;
    let here = traffic.c.text("SELECT pg_current_wal_lsn()").await;
    s.until(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"))
        .await;
    assert!(space::segments(&s, "q").await.len() > 1);
    primary.crash();
    standby.promote();
    s.until("SELECT NOT pg_is_in_recovery()").await;
    traffic.c = s;
    assert_eq!(traffic.c.int("SELECT count(*) FROM mq.q").await, 0);
    assert_eq!(traffic.c.hands("'q', 10").await, []);
    assert_eq!(traffic.c.int("SELECT count(*) FROM mq.kept").await, 1);
    let first = traffic.c.send("q", 1).await;
    assert!(first > *left.last().unwrap(), "{first} was used before");
    traffic.finish_with(&[first]).await;
    let parked = parks(&mut traffic).await;
    let logged = "SELECT count(*) FROM pg_class WHERE relnamespace = 'mq_internal'::regnamespace \
                  AND relname ~ '^q_1(_s[0-9]+|_p)?$' AND relpersistence <> 'u'";
    assert_eq!(traffic.c.int(logged).await, 0, "a table is logged");
    let delete = format!("SELECT mq.delete('q', {parked})");
    assert!(traffic.c.yes(&delete).await);
    traffic.finish().await;
    space::all_truncated(&traffic.c, "q", upkeep).await;
}

/// Goes on until a message that was in a segment is parked, which it returns.
async fn parks(traffic: &mut Traffic) -> i64 {
    traffic.turns(2).await;
    let send = "SELECT mq.send('q', '1', delay => '1 hour')";
    let id = traffic.c.int(send).await;
    let place = space::places(&traffic.c, "q").await[&id].clone();
    assert!(is_segment(&place), "{place}");
    let patience = Patience::new("a message that is parked");
    while is_segment(&space::places(&traffic.c, "q").await[&id]) {
        traffic.turns(1).await;
        patience.wait().await;
    }
    id
}
