//! What says whose turn it is, and how much at a time, does so for messages that are parked, too: tenants
//! take turns with them, they wait for tokens, and their leases count.

use crate::conn::{Conn, Patience};
use crate::fair;
use crate::harness::Cx;
use crate::parked::Going;
use crate::rates::{Rate, take};
use crate::server::Server;
use crate::space::{self, LEAST, Upkeep, is_segment};
use crate::tests;
use std::collections::BTreeSet;

tests![
    tenants_take_turns,
    a_rate_for_each,
    a_rate_over_time,
    places_in_flight,
    so_many_of_a_group,
];

async fn queue(cx: &Cx, options: &str) -> Conn {
    let c = space::quiet(cx).await.connect().await;
    space::create(&c, "q", LEAST, options).await;
    c
}

async fn ids(c: &Conn) -> Vec<i64> {
    c.ints("SELECT id FROM mq.q ORDER BY id").await
}

/// Now messages lie in a parked table and in segments, so many of each.
async fn lie(c: &Conn, parked: usize, inside: usize) {
    let places = space::places(c, "q").await;
    let in_segments = places.values().filter(|table| is_segment(table)).count();
    assert_eq!((places.len() - in_segments, in_segments), (parked, inside));
}

/// Some tenants have messages that are parked, one has fresh ones only, and one has both.
async fn tenants_take_turns(cx: Cx) {
    let c = queue(&cx, ", fair_by => 'tenant'").await;
    for quantity in [1, 12] {
        let mut going = Going::new(&c, "q").await;
        fair::send(&c, "a1 a2 a3 b1 b2 b3 c1").await;
        assert_eq!(c.hands("'q', 9, '1 hour'").await.len(), 7);
        going.until_parked(&ids(&c).await).await;
        fair::send(&c, "c2 c3 d1 d2 d3").await;
        lie(&c, 7, 5).await;
        c.run("SELECT mq.release_batch('q', array_agg(id)) FROM mq.q WHERE state = 'leased'")
            .await;
        let mut got = Vec::new();
        while got.len() < 12 {
            let some = fair::reads(&c, quantity).await;
            assert!(!some.is_empty(), "after {got:?}");
            got.extend(some.split(' ').map(str::to_string));
        }
        for (n, round) in got.chunks(4).enumerate() {
            let round: BTreeSet<String> = round.iter().cloned().collect();
            let wanted = ["a", "b", "c", "d"].map(|tenant| format!("{tenant}{}", n + 1));
            assert_eq!(round, wanted.into(), "{got:?}");
        }
        c.run("SELECT mq.purge_queue('q')").await;
    }
}

/// A token is spent by the hand-out of a message that was parked, and not given back by a move.
async fn a_rate_for_each(cx: Cx) {
    let rate = "rate_limit => 1, rate_interval => '1 hour', rate_burst => 2, rate_key => 'tenant'";
    let c = queue(&cx, &format!(", {rate}")).await;
    let mut going = Going::new(&c, "q").await;
    fair::send(&c, "a1 a2 a3 b1 b2 b3").await;
    let hand = c.hand("'q', 1, '1 hour'").await;
    going.until_parked(&ids(&c).await).await;
    fair::send(&c, "a4 b4 c1 c2 c3").await;
    lie(&c, 6, 5).await;
    assert!(c.settle("release", "q", &hand).await);
    assert_eq!(fair::reads(&c, 9).await, "a1 b1 b2 c1 c2");
    assert_eq!(fair::reads(&c, 9).await, "");
    c.run("SELECT mq.alter_queue('q', reset => '{rate_limit,rate_interval,rate_burst,rate_key}')")
        .await;
    assert_eq!(fair::reads(&c, 9).await, "a2 a3 b3 a4 b4 c3");
}

async fn a_rate_over_time(cx: Cx) {
    let c = queue(&cx, ", rate_limit => 20, rate_burst => 2, rate_key => 'k'").await;
    let send = |many: usize| {
        format!("SELECT mq.send('q', '1', '{{\"k\": 1}}') FROM generate_series(1, {many})")
    };
    let mut going = Going::new(&c, "q").await;
    let parked = c.ints(&send(12)).await;
    going.until_parked(&parked).await;
    c.run(&send(20)).await;
    lie(&c, 12, 20).await;
    let (mut taken, patience) = (Vec::new(), Patience::new("all of them"));
    while taken.len() < 32 {
        taken.extend(take(&c, "mq.read('q', 7, '1 hour', wait => '1 s')").await);
        patience.wait().await;
    }
    let rate = Rate {
        a_second: 20,
        burst: 2,
    };
    let took = rate.check(taken.into_iter().map(|t| t.0).collect());
    let allowed = rate.allowed(took);
    assert!(32 * 10 >= allowed * 9, "32 of {allowed}");
}

/// Leases that were parked count, also where nobody knows of them but their rows.
async fn places_in_flight(_: Cx) {
    let server = Server::start("space-flight", &Upkeep::Calls.settings()).await;
    let nothing = async |c: &Conn| assert_eq!(fair::reads(c, 9).await, "");
    for stop in [Server::down, Server::crash] {
        let c = server.connect("mq_template").await;
        space::create(&c, "q", LEAST, ", max_in_flight => 3").await;
        let mut going = Going::new(&c, "q").await;
        fair::send(&c, "a1 a2 a3").await;
        let hands = c.hands("'q', 9, '1 hour'").await;
        going.until_parked(&ids(&c).await).await;
        fair::send(&c, "b1 b2 b3 b4").await;
        lie(&c, 3, 4).await;
        nothing(&c).await;
        // A crash may undo leases that are not yet on disk.
        c.run("CHECKPOINT").await;
        drop(c);
        stop(&server);
        server.up();
        let c = server.connect("mq_template").await;
        nothing(&c).await;
        lie(&c, 3, 4).await;
        // Each place is one other's, however it is left.
        assert!(c.settle("ack", "q", &hands[0]).await);
        assert_eq!(fair::reads(&c, 9).await, "b1");
        let (id, receipt) = (hands[1].id, hands[1].receipt);
        let nack = format!("SELECT mq.nack('q', {id}, {receipt}, '1 hour')");
        assert!(c.yes(&nack).await);
        assert_eq!(fair::reads(&c, 9).await, "b2");
        let (id, receipt) = (hands[2].id, hands[2].receipt);
        let shorter = format!("SELECT mq.extend('q', {id}, {receipt}, '100 ms') IS NOT NULL");
        assert!(c.yes(&shorter).await);
        let waits = "SELECT string_agg(body #>> '{}', ' ') = 'a3' \
                     FROM mq.read('q', 9, '1 hour', wait => '20 s')";
        assert!(c.yes(waits).await);
        nothing(&c).await;
        c.run("SELECT mq.drop_queue('q')").await;
    }
    server.down();
}

async fn so_many_of_a_group(cx: Cx) {
    let c = queue(&cx, ", ordering => 'group', group_max_in_flight => 2").await;
    let send = async |names: &str| {
        for name in names.split(' ') {
            let group = &name[..1];
            c.run(&format!(
                "SELECT mq.send('q', '\"{name}\"', group_key => '{group}')"
            ))
            .await;
        }
    };
    let mut going = Going::new(&c, "q").await;
    send("a1 a2 a3 b1").await;
    going.until_parked(&ids(&c).await).await;
    send("a4 a5 b2 b3").await;
    lie(&c, 4, 4).await;
    for wanted in ["a1 a2 b1 b2", "a3 a4 b3", "a5"] {
        assert_eq!(fair::reads(&c, 9).await, wanted);
        assert_eq!(fair::reads(&c, 9).await, "");
        c.run("SELECT mq.ack('q', id) FROM mq.q WHERE state = 'leased'")
            .await;
    }
}
