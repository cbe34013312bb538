//! Snapshots never miss a live message because it was moved: pg_dump and browsers, at every moment
//! around parking and truncation; and whatever they hold, nothing stops.

use crate::conn::{Conn, Patience};
use crate::harness::{Cx, spawn};
use crate::server::Server;
use crate::space::{self, LEAST, Part, Upkeep, is_segment};
use crate::tests;
use crate::traffic::Traffic;
use crate::world::{output, world};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::task::JoinHandle;

tests![
    dumps_of_a_snapshot_under_load,
    restored_and_goes_on,
    a_browser_sees_the_same,
    a_late_look_misses_none,
    planned_before_a_move,
    planned_before_the_parked_tables_turn,
    everything_pinned_stops_nothing,
];

/// The life of a message as its client knows it.
#[derive(Clone, Copy, Debug)]
struct Life {
    asked: Instant,
    sent: Instant,
    /// When its ack was asked for, and when it was answered.
    acked: Option<(Instant, Option<Instant>)>,
}

#[derive(Default)]
struct Load {
    lives: Mutex<HashMap<i64, Life>>,
    over: AtomicBool,
}

impl Load {
    /// Sends some, acks most of them, keeps others for long, and goes back for the oldest of these.
    async fn work(self: Arc<Load>, c: Conn) {
        let mut kept = std::collections::VecDeque::new();
        while !self.over.load(Ordering::SeqCst) {
            let asked = Instant::now();
            let ids = c
                .ints("SELECT mq.send_batch('q', (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 16) n))")
                .await;
            let sent = Instant::now();
            for id in ids {
                let life = Life {
                    asked,
                    sent,
                    acked: None,
                };
                self.lives.lock().unwrap().insert(id, life);
            }
            for (n, hand) in c.hands("'q', 16, '1 hour'").await.into_iter().enumerate() {
                kept.push_back(hand);
                if n % 8 > 0 {
                    let last = kept.pop_back().unwrap();
                    self.ack(&c, &last).await;
                }
            }
            while kept.len() > 600 {
                let oldest = kept.pop_front().unwrap();
                self.ack(&c, &oldest).await;
            }
        }
    }

    async fn ack(&self, c: &Conn, hand: &crate::conn::Hand) {
        let asked = Instant::now();
        let note = |answered| {
            let mut lives = self.lives.lock().unwrap();
            let life = lives.get_mut(&hand.id);
            // Another client's send is noted in a moment.
            if let Some(life) = life {
                life.acked = Some((asked, answered));
            }
        };
        note(None);
        assert!(c.settle("ack", "q", hand).await, "{hand:?}");
        note(Some(Instant::now()));
    }
}

async fn begin(cx: &Cx) -> (Arc<Load>, JoinHandle<()>) {
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let load = Arc::new(Load::default());
    let work = spawn(load.clone().work(cx.connect().await));
    c.until(&format!(
        "SELECT sent > {} FROM mq.metrics WHERE queue = 'q'",
        20 * LEAST
    ))
    .await;
    (load, work)
}

/// Waits for so many new ranges, begun by the load of others.
async fn turned(c: &Conn, many: usize) {
    let newest = async || {
        let parts = space::segments(c, "q").await;
        parts.into_iter().filter_map(|part| part.first).max()
    };
    for _ in 0..many {
        let (before, patience) = (newest().await, Patience::new("a new range"));
        while newest().await <= before {
            patience.wait().await;
        }
    }
}

/// Exports a snapshot; the session keeps it, and has not looked at the queue.
async fn exported(cx: &Cx) -> (Conn, String) {
    let keeper = cx.connect().await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot()";
    let snapshot = keeper.text(begin).await;
    (keeper, snapshot)
}

/// Runs pg_dump; returns its file and when it had locked every table that it reads.
async fn dump(cx: &Cx, c: &Conn, name: &str, flags: &[&str]) -> (PathBuf, Instant) {
    let file = world().work.join(format!("{}-{name}.dump", cx.db));
    let mut command = cx.server.client("pg_dump");
    command.args(flags).args(["-d", &cx.db, "-f"]).arg(&file);
    let dumping = tokio::task::spawn_blocking(move || output(&mut command));
    let parent = crate::storage::of(c, "q").await;
    let locked = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity a JOIN pg_locks l USING (pid) \
         WHERE application_name = 'pg_dump' AND datname = current_database() \
         AND l.relation = '{parent}'::regclass AND query NOT LIKE 'LOCK%'"
    );
    while !dumping.is_finished() && !c.yes(&locked).await {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let at = Instant::now();
    dumping.await.expect("pg_dump");
    (file, at)
}

async fn restored(server: &Server, db: &str, file: &std::path::Path) -> Conn {
    let admin = server.connect("postgres").await;
    admin
        .run(&format!("CREATE DATABASE {db} TEMPLATE template0"))
        .await;
    server.psql(db, "postgres", file);
    server.connect(db).await
}

/// What was live from the snapshot until the dump had its locks is in it; what was not is not.
async fn dumps_of_a_snapshot_under_load(cx: Cx) {
    let settings = "pg_broker.worker = on\npg_broker.maintenance_interval = '10ms'\n";
    let server = Arc::new(Server::start("space-dump", settings).await);
    let cx = cx.on(server.clone());
    let c = cx.connect().await;
    let (load, work) = begin(&cx).await;
    for (round, turns) in [0, 1, 6].into_iter().enumerate() {
        let before = Instant::now();
        let (keeper, snapshot) = exported(&cx).await;
        let after = Instant::now();
        // The later it begins, the more has been moved away and truncated since its snapshot.
        turned(&c, turns).await;
        let name = format!("round{round}");
        let (file, locked) = dump(&cx, &c, &name, &[&format!("--snapshot={snapshot}")]).await;
        keeper.run("COMMIT").await;
        let there = restored(&server, &format!("{}_{name}", cx.db), &file).await;
        let found = there.ints("SELECT id FROM mq.q").await;
        let lives = load.lives.lock().unwrap().clone();
        let mut certain = 0;
        for (id, life) in &lives {
            let was_sent = life.sent < before;
            let is_live = life.acked.is_none_or(|(asked, _)| asked > locked);
            if was_sent && is_live {
                certain += 1;
                assert!(
                    found.contains(id),
                    "{turns} turns: {id} is missing: {life:?}"
                );
            }
            let was_over = life
                .acked
                .is_some_and(|(_, answered)| answered.is_some_and(|at| at < before));
            if was_over || life.asked > after {
                assert!(
                    !found.contains(id),
                    "{turns} turns: {id} is there: {life:?}"
                );
            }
        }
        assert!(certain > 40, "only {certain} messages could tell");
        assert!(found.iter().all(|id| lives.contains_key(id)));
    }
    load.over.store(true, Ordering::SeqCst);
    work.await.unwrap();
}

/// A plain pg_dump in the middle of it all: what is restored is whole, and rotates.
async fn restored_and_goes_on(cx: Cx) {
    let cx = space::working(&cx).await;
    let c = cx.connect().await;
    let (load, work) = begin(&cx).await;
    turned(&c, 4).await;
    let (file, _) = dump(&cx, &c, "plain", &[]).await;
    load.over.store(true, Ordering::SeqCst);
    work.await.unwrap();
    let there = restored(&cx.server, &format!("{}_restored", cx.db), &file).await;
    let places = space::places(&there, "q").await;
    let options = "SELECT segment_size FROM mq.queues WHERE queue = 'q'";
    assert_eq!(there.int(options).await, LEAST as i64);
    let top = places.keys().max().copied().unwrap();
    there
        .run("SELECT mq.release('q', id) FROM mq.q WHERE state = 'leased'")
        .await;
    let hands = there.hands("'q', 100000, '1 us'").await;
    assert_eq!(hands.len(), places.len());
    let mut traffic = Traffic::new(there, "q", Upkeep::Calls).await;
    traffic.sent.extend(places.keys());
    let ids = traffic.send(5).await;
    assert!(ids[0] > top, "{ids:?} were used before ({top})");
    traffic.finish_with(&ids).await;
    traffic.turns(6).await;
    traffic.finish().await;
    space::all_truncated(&traffic.c, "q", Upkeep::Calls).await;
}

/// A queue past its youth with messages that are kept; returns the ids of these.
async fn with_kept(traffic: &mut Traffic) -> Vec<i64> {
    traffic.turns(2).await;
    let mut kept = Vec::new();
    for _ in 0..12 {
        kept.push(
            traffic
                .c
                .int("SELECT mq.send('q', '1', delay => '1 hour')")
                .await,
        );
        traffic.step().await;
    }
    kept
}

/// Goes on until each of these has left the segments.
async fn until_moved(traffic: &mut Traffic, kept: &[i64]) {
    let patience = Patience::new("kept messages moved");
    loop {
        let places = space::places(&traffic.c, "q").await;
        if kept.iter().all(|id| !is_segment(&places[id])) {
            return;
        }
        if patience.is_over() {
            panic!("{:#?}", space::parts(&traffic.c, "q").await);
        }
        traffic.step().await;
    }
}

async fn a_browser_sees_the_same(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    let kept = with_kept(&mut traffic).await;
    let live = traffic.send(10).await;
    let browser = cx.connect().await;
    browser.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    let look = "SELECT string_agg(v::text, ' ' ORDER BY id) FROM mq.q v";
    let seen = browser
        .text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM mq.q")
        .await;
    let all: Vec<String> = kept.iter().chain(&live).map(i64::to_string).collect();
    assert_eq!(seen, all.join(" "));
    let whole = browser.text(look).await;
    traffic.sent.extend(live);
    until_moved(&mut traffic, &kept).await;
    assert_eq!(browser.text(look).await, whole, "after they were moved");
    traffic.turns(8).await;
    assert_eq!(browser.text(look).await, whole, "after more turns");
    for id in &kept[..6] {
        assert!(traffic.c.yes(&format!("SELECT mq.delete('q', {id})")).await);
    }
    traffic.turns(4).await;
    assert_eq!(browser.text(look).await, whole, "after some were deleted");
    browser.run("COMMIT").await;
    let left: Vec<String> = kept[6..].iter().map(i64::to_string).collect();
    traffic.drain().await;
    let now = browser
        .text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM mq.q")
        .await;
    assert_eq!(now, left.join(" "));
    space::all_truncated(&traffic.c, "q", Upkeep::Calls).await;
}

/// Who has a snapshot and looks at the queue only after messages were moved misses none of them:
/// within the grace, which here is longer than the test.
async fn a_late_look_misses_none(cx: Cx) {
    let server = Arc::new(Server::start("space-late", "pg_broker.move_grace = '10min'\n").await);
    let cx = cx.on(server);
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    let kept = with_kept(&mut traffic).await;
    let browser = cx.connect().await;
    browser
        .run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        .await;
    until_moved(&mut traffic, &kept).await;
    traffic.turns(6).await;
    // The empty segments of their time wait, and say for what.
    let old = |parts: &[Part]| {
        let of_before = parts
            .iter()
            .filter(|part| part.first.is_some_and(|first| first < kept[11]));
        of_before
            .filter(|part| part.is_old() && part.kept_by.is_some())
            .count()
    };
    let parts = space::segments(&traffic.c, "q").await;
    assert!(old(&parts) > 0, "{parts:#?}");
    let list: Vec<String> = kept.iter().map(i64::to_string).collect();
    let look = format!(
        "SELECT count(*) FROM mq.q WHERE id IN ({})",
        list.join(", ")
    );
    assert_eq!(browser.int(&look).await as usize, kept.len());
    assert_eq!(
        browser
            .int("SELECT count(*) FROM mq.q WHERE state = 'delayed'")
            .await as usize,
        kept.len()
    );
    browser.run("COMMIT").await;
    traffic.drain().await;
    // Now every snapshot is younger than the move: nobody waits for the grace to pass.
    space::all_truncated(&traffic.c, "q", Upkeep::Calls).await;
}

/// The planner asks this function what it says, after it has opened the tables.
const GATE: &str = "CREATE SCHEMA own; CREATE FUNCTION own.gate(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS \
                    $$BEGIN PERFORM pg_advisory_lock_shared($1); RETURN 0; END$$";

/// A statement whose plan is made, and which has not looked yet, while the queue gets tables that it
/// had not when the plan was made, and messages are moved there.
async fn planned_before_a_move(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    c.run(GATE).await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    let (gate, browser) = (cx.connect().await, cx.connect().await);
    for round in 0..6 {
        // From a young queue on: each round the queue has more tables.
        let kept = traffic
            .c
            .int("SELECT mq.send('q', '1', delay => '1 hour')")
            .await;
        traffic.step().await;
        gate.run(&format!("SELECT pg_advisory_lock({round})")).await;
        let pid = browser.pid;
        let look = async {
            browser
                .int(&format!(
                    "SELECT count(*) FROM mq.q WHERE state = 'delayed' AND id > own.gate({round})"
                ))
                .await
        };
        let meanwhile = async {
            gate.until_blocked(pid).await;
            traffic.turns(2).await;
            if round > 2 {
                // What pins its tables would hold up the wait; a few more steps are enough.
                for _ in 0..20 {
                    traffic.step().await;
                }
            }
            gate.run(&format!("SELECT pg_advisory_unlock({round})"))
                .await;
        };
        let (seen, ()) = tokio::join!(look, meanwhile);
        assert_eq!(seen, round + 1, "round {round}, the last one is {kept}");
    }
    traffic.drain().await;
}

/// The same while what is parked goes to a table that the plan cannot know.
async fn planned_before_the_parked_tables_turn(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    c.run(GATE).await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    let (gate, browser) = (cx.connect().await, cx.connect().await);
    let kept = traffic
        .c
        .int("SELECT mq.send('q', '1', delay => '1 hour')")
        .await;
    // Much is parked.
    for _ in 0..40 {
        traffic.c.run(
            "SELECT mq.send('q', to_jsonb(repeat('x', 1800)), delay => '1 hour') FROM generate_series(1, 8)",
        )
        .await;
        traffic.step().await;
    }
    traffic.turns(4).await;
    let parked = "SELECT sum(bytes) > 1000000 FROM mq.segments WHERE state = 'parked'";
    assert!(
        traffic.c.yes(parked).await,
        "{:#?}",
        space::parts(&traffic.c, "q").await
    );
    gate.run("SELECT pg_advisory_lock(1)").await;
    let pid = browser.pid;
    let look =
        browser.int("SELECT count(*) FROM mq.q WHERE state = 'delayed' AND id > own.gate(1)");
    let meanwhile = async {
        gate.until_blocked(pid).await;
        // Most of that goes, and the rest is worth moving.
        let rest =
            format!("SELECT mq.delete('q', id) FROM mq.q WHERE state = 'delayed' AND id <> {kept}");
        traffic.c.run(&rest).await;
        for _ in 0..30 {
            traffic.step().await;
        }
        gate.run("SELECT pg_advisory_unlock(1)").await;
    };
    let (seen, ()) = tokio::join!(look, meanwhile);
    assert_eq!(seen, 1, "a message that has been there all the time");
    let patience = Patience::new("a message in the second of the parked tables");
    while !space::places(&traffic.c, "q").await[&kept].ends_with("_p") {
        if patience.is_over() {
            panic!("{:#?}", space::parts(&traffic.c, "q").await);
        }
        traffic.step().await;
    }
}

/// What pg_dump holds while it runs: a snapshot, and a lock on every table there is.
async fn everything_pinned_stops_nothing(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    let kept = with_kept(&mut traffic).await;
    let parent = crate::storage::of(&traffic.c, "q").await;
    let dumper = cx.connect().await;
    dumper
        .run(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE {parent}, mq_internal.segment IN ACCESS SHARE MODE"
        ))
        .await;
    let pinned = space::segments(&traffic.c, "q").await;
    assert!(!pinned.is_empty());
    let before = dumper.text("SELECT sum(id) FROM mq.q").await;
    traffic.turns(8).await;
    until_moved(&mut traffic, &kept).await;
    assert_eq!(dumper.text("SELECT sum(id) FROM mq.q").await, before);
    let now = space::segments(&traffic.c, "q").await;
    let fresh = now
        .iter()
        .filter(|part| pinned.iter().all(|old| old.storage != part.storage));
    assert!(
        fresh.count() > 0,
        "no segment was made beside the pinned ones: {now:#?}"
    );
    assert!(now.len() <= pinned.len() + space::FEW, "{now:#?}");
    for old in &pinned {
        let part = now.iter().find(|part| part.storage == old.storage).unwrap();
        assert!(
            part.state != "free" || old.state == "free",
            "{old:?} {part:?}"
        );
    }
    dumper.run("COMMIT").await;
    space::all_truncated(&traffic.c, "q", Upkeep::Calls).await;
    for id in kept {
        assert!(traffic.c.yes(&format!("SELECT mq.delete('q', {id})")).await);
    }
    traffic.finish().await;
}
