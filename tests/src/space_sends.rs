//! Sends that do not commit, and those that commit long after their segment is used up: what they
//! sent arrives, and what they did not leaves no space taken.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::server::Server;
use crate::space::{self, LEAST, Upkeep, nothing_waits};
use crate::tests;
use crate::traffic::Traffic;
use std::sync::Arc;

tests![
    aborted,
    nothing_but_aborted,
    very_long,
    very_long_with_a_worker,
    very_long_and_aborted,
    savepoints_far_apart,
    prepared,
    prepared_over_a_restart,
    delayed_from_long_ago,
    one_larger_than_segments,
];

async fn begin(cx: &Cx, upkeep: Upkeep) -> Traffic {
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", upkeep).await;
    traffic.turns(3).await;
    traffic
}

async fn end(mut traffic: Traffic, upkeep: Upkeep) {
    traffic.finish().await;
    space::all_truncated(&traffic.c, "q", upkeep).await;
    traffic.turns(3).await;
    traffic.finish().await;
    space::all_truncated(&traffic.c, "q", upkeep).await;
}

/// Three of four batches roll back.
async fn aborted(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let mut traffic = begin(&cx, Upkeep::Calls).await;
    for _ in 0..20 {
        traffic.c.run("BEGIN").await;
        traffic.send(3 * 32).await;
        traffic.c.run("ROLLBACK").await;
        traffic.step().await;
    }
    end(traffic, Upkeep::Calls).await;
}

/// A segment that nothing was ever committed to is used up, too.
async fn nothing_but_aborted(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let mut traffic = begin(&cx, Upkeep::Calls).await;
    traffic.finish().await;
    for _ in 0..20 {
        traffic.c.run("BEGIN").await;
        traffic.send(LEAST).await;
        traffic.c.run("SAVEPOINT s").await;
        traffic.send(LEAST).await;
        traffic.c.run("ROLLBACK TO s; ROLLBACK").await;
        Upkeep::Calls.step(&traffic.c, "q").await;
    }
    assert_eq!(traffic.take().await, 0);
    end(traffic, Upkeep::Calls).await;
}

/// Sends two messages with five rotations between them, and ends the transaction after five more.
async fn late(traffic: &mut Traffic, sender: &Conn, end: &[&str]) -> [i64; 2] {
    let first = sender.int("BEGIN; SELECT mq.send('q', '1')").await;
    traffic.turns(5).await;
    let second = sender.int("SELECT mq.send('q', '2', priority => 7)").await;
    traffic.turns(5).await;
    for statement in end {
        sender.run(statement).await;
    }
    [first, second]
}

async fn very_long(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let mut traffic = begin(&cx, Upkeep::Calls).await;
    traffic.finish().await;
    let sender = cx.connect().await;
    let [first, second] = late(&mut traffic, &sender, &["COMMIT"]).await;
    traffic.finish_with(&[first, second]).await;
    // In order: the priority comes first.
    let [first, second] = late(&mut traffic, &sender, &[]).await;
    traffic.drain().await;
    sender.run("COMMIT").await;
    let hands = sender.hands("'q', 5, '1 us'").await;
    let ids: Vec<i64> = hands.iter().map(|hand| hand.id).collect();
    assert_eq!(ids, [second, first]);
    traffic.finish_with(&ids).await;
    end(traffic, Upkeep::Calls).await;
}

async fn very_long_with_a_worker(cx: Cx) {
    let cx = space::working(&cx).await;
    let mut traffic = begin(&cx, Upkeep::Worker).await;
    let sender = cx.connect().await;
    let ids = late(&mut traffic, &sender, &["COMMIT"]).await;
    traffic.finish_with(&ids).await;
    end(traffic, Upkeep::Worker).await;
}

async fn very_long_and_aborted(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let mut traffic = begin(&cx, Upkeep::Calls).await;
    let sender = cx.connect().await;
    late(&mut traffic, &sender, &["ROLLBACK"]).await;
    end(traffic, Upkeep::Calls).await;
}

/// Levels that end apart, their rows in tables apart.
async fn savepoints_far_apart(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let mut traffic = begin(&cx, Upkeep::Calls).await;
    let sender = cx.connect().await;
    let kept = sender.int("BEGIN; SELECT mq.send('q', '1')").await;
    sender.run("SAVEPOINT a").await;
    traffic.turns(3).await;
    sender.run("SELECT mq.send('q', '2')").await;
    traffic.turns(3).await;
    sender.run("ROLLBACK TO a; SAVEPOINT b").await;
    let released = sender.int("SELECT mq.send('q', '3')").await;
    traffic.turns(3).await;
    sender.run("RELEASE b").await;
    traffic.turns(1).await;
    sender.run("COMMIT").await;
    traffic.finish_with(&[kept, released]).await;
    end(traffic, Upkeep::Calls).await;
}

async fn prepared(cx: Cx) {
    let server = Server::start("space-sends", &Upkeep::Calls.settings()).await;
    let cx = cx.on(Arc::new(server));
    let mut traffic = begin(&cx, Upkeep::Calls).await;
    let sender = cx.connect().await;
    let ids = late(&mut traffic, &sender, &["PREPARE TRANSACTION 'a'"]).await;
    late(&mut traffic, &sender, &["PREPARE TRANSACTION 'b'"]).await;
    traffic.turns(5).await;
    sender.run("COMMIT PREPARED 'a'").await;
    traffic.finish_with(&ids).await;
    traffic.turns(2).await;
    sender.run("ROLLBACK PREPARED 'b'").await;
    end(traffic, Upkeep::Calls).await;
}

async fn prepared_over_a_restart(cx: Cx) {
    let server = Arc::new(Server::start("space-restart", &Upkeep::Calls.settings()).await);
    let cx = cx.on(server.clone());
    let mut traffic = begin(&cx, Upkeep::Calls).await;
    let sender = cx.connect().await;
    let ids = late(&mut traffic, &sender, &["PREPARE TRANSACTION 'a'"]).await;
    traffic.drain().await;
    for stop in [Server::down, Server::crash] {
        stop(&server);
        server.up();
        traffic.c = cx.connect().await;
        traffic.turns(3).await;
    }
    traffic.c.run("COMMIT PREPARED 'a'").await;
    traffic.finish_with(&ids).await;
    end(traffic, Upkeep::Calls).await;
}

/// Delays of every length beside a segment's life; the short ones come due where they lie.
async fn delayed_from_long_ago(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let mut traffic = begin(&cx, Upkeep::Calls).await;
    let mut waiting = Vec::new();
    for delay in ["1 ms", "100 ms", "700 ms", "1 hour", "2 days"]
        .iter()
        .cycle()
        .take(60)
    {
        let send = format!("SELECT mq.send('q', '1', delay => '{delay}')");
        waiting.push((traffic.c.int(&send).await, delay.ends_with("ms")));
        traffic.step().await;
    }
    traffic.turns(4).await;
    let (short, long): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, short)| *short);
    traffic.sent.extend(short.iter().map(|(id, _)| id));
    traffic.drain().await;
    traffic.turns(4).await;
    let c = &traffic.c;
    space::until(
        c,
        "q",
        Upkeep::Calls,
        "distant delays hold back nothing",
        nothing_waits,
    )
    .await;
    let sum = long.iter().map(|(id, _)| id).sum::<i64>();
    let delayed = "SELECT concat_ws(' ', count(*), sum(id)) FROM mq.q WHERE visible_at > clock_timestamp() + interval '10 min'";
    assert_eq!(c.text(delayed).await, format!("{} {sum}", long.len()));
    c.run("UPDATE mq.q SET priority = 9 WHERE state = 'delayed'")
        .await;
    for (id, _) in &long {
        assert!(c.yes(&format!("SELECT mq.delete('q', {id})")).await, "{id}");
    }
    end(traffic, Upkeep::Calls).await;
}

/// A batch that no segment has room for.
async fn one_larger_than_segments(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let mut traffic = begin(&cx, Upkeep::Calls).await;
    traffic.finish().await;
    for many in [LEAST, LEAST + 1, 3 * LEAST, 20 * LEAST] {
        let ids = traffic.send(many).await;
        assert!(ids.is_sorted() && ids.len() as u64 == many);
        traffic.c.run("SELECT mq.maintain('q')").await;
        let hands = traffic.c.hands(&format!("'q', {}, '1 us'", many + 5)).await;
        let read: Vec<i64> = hands.iter().map(|hand| hand.id).collect();
        assert_eq!(read, ids);
        traffic.finish_with(&ids).await;
        traffic.turns(1).await;
    }
    end(traffic, Upkeep::Calls).await;
}
