//! Many sessions do everything at random, and are cancelled and terminated at random; whenever all
//! is quiet, readers with hints have found everything that there is. `SEED` repeats the choices,
//! `SOAK_SECONDS` (20) says how long the soak lasts.
//!
//! `with_hints` is calm: a cancelled read, upkeep, and more prepared transactions than there is room
//! for all have readers look at everything again, and would hide a report that is missing.

use crate::actor::{Actor, Common, Kind};
use crate::conn::Conn;
use crate::figures::agree;
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::space::{self, Moves};
use crate::tests;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

tests![
    with_hints,
    without_hints,
    mixed,
    rotating,
    grouped,
    grouped_calm,
    fair,
    fair_calm,
    soak
];

struct Shape {
    /// Which sessions use hints.
    hints: fn(usize) -> bool,
    sessions: usize,
    rounds: u32,
    round: Duration,
    calm: bool,
    /// One disturbance in so many ends a session; the others cancel a statement.
    terminations: Option<u64>,
    /// Messages a segment; the least there may be, for those who want many rotations.
    segment: Option<u64>,
    kind: Kind,
}

const ROUND: Duration = Duration::from_millis(1500);

impl Shape {
    /// Everything at once, while tables change.
    fn wild(kind: Kind) -> Shape {
        Shape {
            hints: |n| n % 3 != 0,
            sessions: 8,
            rounds: 5,
            round: ROUND,
            calm: false,
            terminations: Some(10),
            segment: Some(space::LEAST),
            kind,
        }
    }

    fn calm(kind: Kind) -> Shape {
        Shape {
            hints: |_| true,
            calm: true,
            terminations: None,
            segment: None,
            ..Shape::wild(kind)
        }
    }
}

async fn with_hints(cx: Cx) {
    let calm = true;
    run(cx, |_| true, calm, None, 5).await;
}

async fn without_hints(cx: Cx) {
    let calm = false;
    run(cx, |_| false, calm, None, 3).await;
}

async fn mixed(cx: Cx) {
    let calm = false;
    run(cx, |n| n % 2 == 0, calm, Some(10), 5).await;
}

/// Beside a worker that rotates all the time.
async fn rotating(cx: Cx) {
    let shape = Shape {
        rounds: 4,
        ..Shape::wild(Kind::Plain)
    };
    stress(space::working(&cx).await, shape).await;
}

/// With messages that belong together.
async fn grouped(cx: Cx) {
    stress(space::working(&cx).await, Shape::wild(Kind::Grouped)).await;
}

async fn grouped_calm(cx: Cx) {
    stress(cx, Shape::calm(Kind::Grouped)).await;
}

/// With tenants that take turns.
async fn fair(cx: Cx) {
    stress(space::working(&cx).await, Shape::wild(Kind::Fair)).await;
}

async fn fair_calm(cx: Cx) {
    stress(cx, Shape::calm(Kind::Fair)).await;
}

async fn soak(cx: Cx) {
    let seconds = std::env::var("SOAK_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    let rounds = u32::div_ceil(seconds.unwrap_or(20), 5);
    let shape = Shape {
        hints: |n| n != 0,
        sessions: 12,
        rounds,
        round: Duration::from_secs(4),
        calm: false,
        terminations: Some(4),
        segment: None,
        kind: Kind::Plain,
    };
    stress(cx, shape).await;
}

async fn run(cx: Cx, hints: fn(usize) -> bool, calm: bool, terminations: Option<u64>, rounds: u32) {
    let shape = Shape {
        hints,
        sessions: 8,
        rounds,
        round: ROUND,
        calm,
        terminations,
        segment: None,
        kind: Kind::Plain,
    };
    stress(cx, shape).await;
}

async fn stress(cx: Cx, shape: Shape) {
    let seed = seed();
    println!("      stress: SEED={seed}");
    let c = cx.connect().await;
    let option = match shape.kind {
        Kind::Plain => "",
        Kind::Grouped => ", ordering => 'group'",
        Kind::Fair => ", fair_by => 'tenant'",
    };
    c.run(&format!(
        "SELECT mq.create_queue('q', max_failures => 4, backoff => ARRAY['3 ms', '20 ms']::interval[] \
         {option})"
    ))
    .await;
    if let Some(segment) = shape.segment {
        c.run(&format!(
            "SELECT mq.alter_queue('q', segment_size => {segment})"
        ))
        .await;
    }
    c.run("CREATE TABLE sent (n bigserial PRIMARY KEY); CREATE TABLE done (n bigint PRIMARY KEY)")
        .await;
    let common = Arc::new(Common {
        port: cx.server.port,
        db: cx.db.clone(),
        calm: shape.calm,
        kind: shape.kind,
        ..Common::default()
    });
    let mut moves = Moves::default();
    for round in 0..shape.rounds {
        let over = Arc::new(AtomicBool::new(false));
        let pids = Arc::new(std::sync::Mutex::new(vec![0; shape.sessions]));
        let mut actors = Vec::new();
        for n in 0..shape.sessions {
            let (common, over, pids) = (common.clone(), over.clone(), pids.clone());
            let hints = (shape.hints)(n);
            let seed = seed.wrapping_add(u64::from(round) * 100 + n as u64);
            actors.push(spawn(async move {
                let mut actor = Actor::new(&common, seed, hints).await;
                while !over.load(Ordering::Relaxed) {
                    actor.step().await;
                    pids.lock().unwrap()[n] = actor.conn.pid;
                }
                actor.rest().await;
            }));
        }
        let mut rng = Rng::new(seed ^ u64::from(round));
        let began = Instant::now();
        while began.elapsed() < shape.round && !actors.iter().any(|a| a.is_finished()) {
            if !shape.calm {
                let pid = *rng.pick(&pids.lock().unwrap());
                let ends = shape.terminations.is_some_and(|n| rng.one_in(n));
                let how = if ends { "terminate" } else { "cancel" };
                c.run(&format!("SELECT pg_{how}_backend({pid}) WHERE {pid} > 0"))
                    .await;
            }
            if shape.segment.is_some() {
                moves.look(&c, "q").await;
            }
            let two = c.rows(TWO_AT_A_TIME).await;
            if let Some(two) = two.first() {
                for row in c.rows(&format!("SELECT id, priority, state, attempts, failures, enqueued_at::time, visible_at::time, read_at::time, last_error FROM mq.q WHERE group_key = '{}' ORDER BY id LIMIT 40", two[0].as_deref().unwrap())).await {
                    println!("{}", row.iter().map(|c| c.clone().unwrap_or("-".into())).collect::<Vec<_>>().join(" "));
                }
            }
            assert!(two.is_empty(), "two at a time: {two:?}");
            tokio::time::sleep(Duration::from_millis(5 + rng.below(20))).await;
        }
        over.store(true, Ordering::Relaxed);
        for actor in actors {
            actor.await.expect("an actor");
        }
        let when = format!("round {round}");
        everything_is_found(&cx, &c, &common, &when).await;
    }
    nothing_is_lost(&cx, &c).await;
    println!(
        "      stress: {} calls",
        common.calls.load(Ordering::Relaxed)
    );
    if shape.segment.is_some() {
        let (moved, truncated) = (moves.moved.len(), space::truncated(&c, "q").await);
        println!("      stress: {moved} seen moved, {truncated} segments truncated");
        assert!(
            moved > 0 && truncated > 0,
            "{:#?}",
            space::parts(&c, "q").await
        );
    }
}

/// Groups of which two reads hold messages.
const TWO_AT_A_TIME: &str = "SELECT group_key, array_agg(id), array_agg(read_at) FROM mq.q \
     WHERE state = 'leased' AND group_key IS NOT NULL GROUP BY 1 HAVING count(DISTINCT read_at) > 1";

/// What a reader can have takes from groups that nobody holds a message of; and when all is given back,
/// everything.
async fn groups_go_on(cx: &Cx, c: &Conn, when: &str) {
    let hinted = cx.connect().await;
    let take = "INSERT INTO done SELECT (body#>>'{}')::bigint FROM mq.pop('q', 50) RETURNING n";
    for is_given_back in [false, true] {
        if is_given_back {
            c.run("SELECT mq.release_batch('q', (SELECT coalesce(array_agg(id), '{}') FROM mq.q))")
                .await;
        }
        let mut empty = 0;
        while empty < 3 {
            let is_empty = hinted.rows(take).await.is_empty();
            empty = if is_empty { empty + 1 } else { 0 };
        }
        let missed = c
            .rows(
                "SELECT id, priority, group_key, state, visible_at, attempts, failures FROM mq.q m \
                 WHERE state <> 'leased' AND NOT EXISTS (SELECT FROM mq.q b WHERE \
                 b.group_key = m.group_key AND b.state = 'leased')",
            )
            .await;
        assert!(
            missed.is_empty(),
            "{when}: not found with hints: {missed:?}"
        );
    }
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0, "{when}");
}

/// All is quiet now: ends the prepared transactions, lets every short wait pass, and expects that
/// a reader with hints leaves nothing that one without, or the table, has.
async fn everything_is_found(cx: &Cx, c: &Conn, common: &Common, when: &str) {
    let left = format!(
        "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE '{}%'",
        cx.db
    );
    for (n, row) in c.rows(&left).await.iter().enumerate() {
        let how = if n % 2 == 0 { "COMMIT" } else { "ROLLBACK" };
        let gid = row[0].as_deref().unwrap();
        c.run(&format!("{how} PREPARED '{gid}'")).await;
    }
    common.prepared.lock().unwrap().clear();
    c.until(
        "SELECT count(*) = 0 FROM mq.q WHERE state = 'delayed' OR \
         state = 'leased' AND visible_at < clock_timestamp() + '10 min'",
    )
    .await;
    if common.kind == Kind::Grouped {
        groups_go_on(cx, c, when).await;
        return;
    }
    let hinted = cx.connect().await;
    let (mut empty, mut token) = (0, u64::MAX / 2);
    while empty < 3 {
        let hands = hinted.hands("'q', 50, '1 hour'").await;
        empty = if hands.is_empty() { empty + 1 } else { 0 };
        for hand in hands {
            token += 1;
            common.holders.take(hand.id, token, true);
        }
    }
    let missed = c
        .rows("SELECT id, priority, state, visible_at, attempts, failures FROM mq.q WHERE state <> 'leased'")
        .await;
    assert!(
        missed.is_empty(),
        "{when}: not found with hints: {missed:?}"
    );
    // More than a look counts by itself, after a prepared transaction has ended; and nobody counts
    // while there were too many to remember, until a second has passed.
    c.until("SELECT NOT estimated OR mq.maintain('q') < 0 FROM mq.metrics WHERE queue = 'q'")
        .await;
    agree(c, "q", when).await;
    let unhinted = cx.connect().await;
    unhinted.run("SET pg_broker.hints = off").await;
    assert_eq!(unhinted.hands("'q', 100").await, [], "{when}");
}

/// Every message that was sent is done, or dead, or can still be had; and one of these only.
async fn nothing_is_lost(cx: &Cx, c: &Conn) {
    c.run("SELECT mq.release_batch('q', (SELECT coalesce(array_agg(id), '{}') FROM mq.q))")
        .await;
    let hinted = cx.connect().await;
    let drain = "INSERT INTO done SELECT (body#>>'{}')::bigint FROM mq.pop('q', 100) RETURNING n";
    while !hinted.rows(drain).await.is_empty() {}
    c.until("SELECT mq.maintain('q') = 0").await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0, "left over");
    let dead = "SELECT (body#>>'{}')::bigint AS n FROM mq.q_dead";
    let ended = format!("SELECT n FROM done UNION ALL {dead}");
    let differ = |a: &str, b: &str| {
        format!("SELECT string_agg(n::text, ' ') FROM (({a}) EXCEPT ALL ({b})) d")
    };
    let lost = c.text(&differ("SELECT n FROM sent", &ended)).await;
    assert_eq!(lost, "NULL", "lost");
    let twice = c.text(&differ(&ended, "SELECT n FROM sent")).await;
    assert_eq!(twice, "NULL", "ended twice, or never sent");
    assert!(c.int("SELECT count(*) FROM sent").await > 100);
}
