//! The segments of a queue take turns: a few tables serve any number of messages, under a snapshot
//! that somebody holds open all the time; with a worker, with calls of `mq.maintain`, with readers
//! alone, and on a server that does not preload the library.

use crate::harness::Cx;
use crate::server::Server;
use crate::space::{self, FEW, Upkeep};
use crate::tests;
use crate::traffic::Traffic;
use std::sync::Arc;

tests![
    with_a_worker,
    with_calls,
    with_readers_alone,
    without_preload,
    without_preload_with_readers_alone,
    an_idle_queue_has_one_table,
    nothing_to_do_is_said,
    too_small_is_said,
];

const SEGMENT: u64 = 256;
const TURNS: usize = 20;

/// The size of a queue's tables when nothing is in them: pages of metadata, and what is young.
const EMPTY: i64 = 1 << 20;

async fn with_a_worker(cx: Cx) {
    rotates(space::working(&cx).await, Upkeep::Worker, TURNS).await;
}

async fn with_calls(cx: Cx) {
    rotates(space::quiet(&cx).await, Upkeep::Calls, TURNS).await;
}

async fn with_readers_alone(cx: Cx) {
    rotates(space::quiet(&cx).await, Upkeep::Readers, TURNS / 2).await;
}

async fn without_preload(cx: Cx) {
    let settings = format!(
        "shared_preload_libraries = ''\n{}",
        Upkeep::Calls.settings()
    );
    let server = Arc::new(Server::start("space-plain", &settings).await);
    rotates(cx.on(server), Upkeep::Calls, TURNS).await;
}

async fn without_preload_with_readers_alone(cx: Cx) {
    let settings = format!(
        "shared_preload_libraries = ''\n{}",
        Upkeep::Readers.settings()
    );
    let server = Arc::new(Server::start("space-plain-readers", &settings).await);
    rotates(cx.on(server), Upkeep::Readers, TURNS / 2).await;
}

async fn rotates(cx: Cx, upkeep: Upkeep, turns: usize) {
    let c = cx.connect().await;
    space::create(&c, "q", SEGMENT, "").await;
    let browser = cx.connect().await;
    browser
        .run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        .await;
    let mut traffic = Traffic::new(cx.connect().await, "q", upkeep).await;
    traffic.weight = 500;
    traffic.turns(2).await;
    // What a queue is before it has segments says nothing of the time after it.
    traffic.most = 0;
    traffic.turns(turns).await;
    traffic.finish().await;
    // Without the library in place each call takes a block of ids for itself.
    let sent = traffic.sent.len() as u64;
    assert!(sent >= turns as u64 * SEGMENT / 3, "only {sent} were sent");
    // Readers make room by reading, which takes new ids: something is always on its way.
    let few = if upkeep == Upkeep::Readers { 2 } else { 0 };
    space::until(&c, "q", upkeep, "used ranges truncated", |parts| {
        parts.iter().filter(|part| part.is_old()).count() <= few
    })
    .await;
    let parts = space::parts(&c, "q").await;
    assert!(traffic.used.len() <= FEW, "too many tables: {parts:#?}");
    // Every message of the rotations is dead, and nobody may have cleaned a page.
    let (most, largest) = (traffic.most, traffic.largest);
    assert!(largest > 0, "{parts:#?}");
    // Readers look after a queue now and then; what is sent meanwhile lies beside the segments.
    let many = if upkeep == Upkeep::Readers { 32 } else { 6 };
    assert!(
        most < many * largest + EMPTY,
        "{most} bytes once, {largest} a segment"
    );
    let upper = 2 * largest + EMPTY;
    space::until(&c, "q", upkeep, "the space is back", |parts| {
        parts.iter().map(|part| part.bytes).sum::<i64>() < upper
    })
    .await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
    browser.run("COMMIT").await;
}

/// Most queues of most people hardly ever have a message in them.
async fn an_idle_queue_has_one_table(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", 1000, "").await;
    for n in 0..30 {
        c.send("q", n).await;
        c.run("SELECT mq.pop('q'); SELECT mq.maintain('q')").await;
    }
    let parts = space::parts(&c, "q").await;
    assert_eq!(parts.len(), 1, "{parts:#?}");
    assert!(!parts[0].is_segment, "{parts:#?}");
}

/// `mq.maintain` comes to an end: what it counts does not grow by rotation that never rests.
async fn nothing_to_do_is_said(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", space::LEAST, "").await;
    let mut traffic = Traffic::new(cx.connect().await, "q", Upkeep::Calls).await;
    traffic.turns(3).await;
    traffic.finish().await;
    c.until("SELECT mq.maintain('q') = 0").await;
    space::all_truncated(&c, "q", Upkeep::Calls).await;
    let before = space::parts(&c, "q").await;
    for _ in 0..3 {
        assert_eq!(c.int("SELECT mq.maintain('q')").await, 0);
    }
    assert_eq!(space::parts(&c, "q").await, before);
}

/// Whoever has made segments too small for what is sent is told so.
async fn too_small_is_said(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", space::LEAST, "").await;
    let says = "SELECT w FROM mq.status(), unnest(warnings) w WHERE w LIKE '%segment%'";
    assert_eq!(c.text(says).await, "-");
    let mut traffic = Traffic::new(cx.connect().await, "q", Upkeep::Calls).await;
    traffic.turns(3).await;
    let said = c.text(says).await;
    let rest = said.strip_prefix("queue \"q\" begins a new segment every ");
    let (seconds, advice) = rest.and_then(|rest| rest.split_once(' ')).expect(&said);
    assert!(seconds.parse::<f64>().unwrap() < 5.0, "{said}");
    assert_eq!(
        advice,
        "seconds, and standbys replay the end of each with an exclusive lock: raise its segment_size, \
         or leave it to pg_broker.rotation_interval"
    );
    c.run("SELECT mq.alter_queue('q', segment_size => 0)").await;
    assert_eq!(c.text(says).await, "-");
}
