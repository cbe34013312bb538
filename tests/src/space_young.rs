//! A transaction that has its snapshot and has not looked at the queue yet, as a dump before it locks
//! its tables: nothing that it would see is truncated under it for a while.

use crate::harness::Cx;
use crate::server::Server;
use crate::space::{self, LEAST, Upkeep, nothing_waits};
use crate::tests;
use crate::traffic::Traffic;
use std::sync::Arc;

tests![acked_since, no_longer_than_the_grace];

/// What it would see: all that were there when it began. `grace`: for how long that is kept.
async fn late(cx: &Cx, name: &str, grace: &str) -> i64 {
    let settings = format!("pg_broker.move_grace = '{grace}'\n");
    let cx = cx.on(Arc::new(Server::start(name, &settings).await));
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    traffic.turns(2).await;
    let ids = traffic.send(3 * LEAST).await;
    let there = ids.len() as i64;
    traffic.sent.extend(ids);
    let late = cx.connect().await;
    late.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        .await;
    traffic.drain().await;
    // The segments of that time are used up, and all in them was acked.
    traffic.turns(6).await;
    if grace == "1s" {
        space::until(
            &traffic.c,
            "q",
            Upkeep::Calls,
            "the grace is over",
            nothing_waits,
        )
        .await;
    } else {
        let kept = space::segments(&traffic.c, "q").await;
        let says = kept.iter().filter_map(|part| part.kept_by.as_deref());
        let pid = format!("process {}", late.pid);
        assert!(says.clone().any(|why| why.starts_with(&pid)), "{kept:#?}");
    }
    let seen = late.int("SELECT count(*) FROM mq.q").await;
    late.run("COMMIT").await;
    if grace != "1s" {
        assert_eq!(seen, there, "what was there when it began");
    }
    // Nobody needs to wait for the grace any more.
    space::until(
        &traffic.c,
        "q",
        Upkeep::Calls,
        "all comes back",
        nothing_waits,
    )
    .await;
    seen
}

async fn acked_since(cx: Cx) {
    late(&cx, "space-young", "10min").await;
}

/// A transaction that is older than that holds nothing back that it has not locked.
async fn no_longer_than_the_grace(cx: Cx) {
    let seen = late(&cx, "space-old", "1s").await;
    assert!(seen < 2 * LEAST as i64, "{seen}: what is not in segments");
}
