//! Tenants that take turns, over restarts, crashes and dumps, and while their tables come and go.

use crate::conn::{Conn, Patience};
use crate::fair::{reads, send, send_many};
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::server::Server;
use crate::space::{self, LEAST, Upkeep};
use crate::tests;
use crate::world::{output, world};
use std::collections::HashSet;

tests![
    over_restarts_and_crashes,
    prepared_over_a_crash,
    dumped_and_restored,
    rotating_by_calls,
    rotating_with_a_worker,
    many_queues,
];

async fn connect(server: &Server) -> Conn {
    server.connect("mq_template").await
}

/// The turns go on from the rows: who has messages has turns, and nothing is lost.
async fn over_restarts_and_crashes(_: Cx) {
    let server = Server::start("fair", "").await;
    for stop in [Server::down, Server::crash] {
        let c = connect(&server).await;
        c.run("SELECT mq.create_queue('q', fair_by => 'tenant')")
            .await;
        send_many(&c, "a", 100).await;
        send(&c, "b1 b2 b3 c1").await;
        assert_eq!(reads(&c, 3).await, "a b1 c1");
        // A crash may undo leases that are not yet on disk.
        c.run("CHECKPOINT").await;
        // In the middle of one, too.
        let open = connect(&server).await;
        open.run("BEGIN").await;
        assert_eq!(reads(&open, 2).await, "a b2");
        send(&open, "d1").await;
        drop(c);
        stop(&server);
        server.up();
        let c = connect(&server).await;
        assert_eq!(reads(&c, 4).await, "a b2 a b3");
        send(&c, "d2 b4").await;
        let rest = reads(&c, 200).await;
        assert!(
            rest.starts_with("a d2 b4 a") || rest.starts_with("a b4 d2 a"),
            "{rest}"
        );
        assert_eq!(rest.split(' ').count(), 100 - 3 + 2);
        assert_eq!(reads(&c, 9).await, "");
        c.run("SELECT mq.drop_queue('q')").await;
    }
    server.down();
}

/// What a prepared transaction took, or sent, is nobody's over a crash, and somebody's then.
async fn prepared_over_a_crash(_: Cx) {
    let server = Server::start("fair-prepared", "").await;
    for (deed, committed, rolled_back) in [
        ("SELECT mq.pop('q', 2)", "a2 b2", "a1 b1 a2 b2"),
        (
            "SELECT mq.read('q', 2, '1 us')",
            "a1 b1 a2 b2",
            "a1 b1 a2 b2",
        ),
        (
            "SELECT mq.send('q', '\"c1\"', '{\"tenant\": \"c\"}')",
            "a1 b1 c1 a2 b2",
            "a1 b1 a2 b2",
        ),
    ] {
        for (end, wanted) in [("COMMIT", committed), ("ROLLBACK", rolled_back)] {
            let c = connect(&server).await;
            c.run("SELECT mq.create_queue('q', fair_by => 'tenant')")
                .await;
            send(&c, "a1 a2 b1 b2").await;
            c.run(&format!("BEGIN; {deed}; PREPARE TRANSACTION 'p'"))
                .await;
            drop(c);
            server.crash();
            server.up();
            let c = connect(&server).await;
            c.run("BEGIN").await;
            reads(&c, 9).await;
            c.run("ROLLBACK").await;
            c.run(&format!("{end} PREPARED 'p'")).await;
            let mut got: Vec<String> = reads(&c, 9).await.split(' ').map(str::to_string).collect();
            let mut all: Vec<&str> = wanted.split(' ').collect();
            got.sort();
            all.sort_unstable();
            assert_eq!(got, all, "{deed}: {end}");
            c.run("SELECT mq.drop_queue('q')").await;
        }
    }
    server.down();
}

/// A dump carries who has which messages, and for good.
async fn dumped_and_restored(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q', fair_by => 'tenant', segment_size => 64)")
        .await;
    send_many(&c, "a", 500).await;
    send(&c, "b1 b2 b3 c1").await;
    c.run("SELECT count(*) FROM mq.read('q', 4, '1 us')").await;
    let file = world().work.join(format!("{}.dump", cx.db));
    let mut command = cx.server.client("pg_dump");
    output(command.args(["-d", &cx.db, "-f"]).arg(&file));
    let goal = Server::start("fair-restored", "").await;
    let admin = goal.connect("postgres").await;
    admin.run("CREATE DATABASE there TEMPLATE template0").await;
    goal.psql("there", "postgres", &file);
    let there = goal.connect("there").await;
    assert_eq!(there.text("SELECT fair_by FROM mq.queues").await, "tenant");
    assert_eq!(reads(&there, 5).await, "a b1 c1 a b2");
    send(&there, "d1").await;
    assert_eq!(reads(&there, 3).await, "a b3 d1");
    assert_eq!(
        there.int("SELECT count(*) FROM mq.read('q', 1000)").await,
        497
    );
    drop((there, admin));
    goal.down();
}

/// Sends to tenants, takes, keeps some for long, gives some back, undoes some; the tables come and go
/// meanwhile. Gives what it has sent and what it has acked.
async fn work(c: Conn, seed: u64, upkeep: Upkeep) -> (HashSet<i64>, HashSet<i64>) {
    let mut rng = Rng::new(seed);
    let (mut sent, mut acked, mut kept) = (HashSet::new(), HashSet::new(), Vec::new());
    for step in 0..250 {
        let delay = *rng.pick(&["", "", ", delay => '5 ms'", ", delay => '300 ms'"]);
        let send = format!(
            "SELECT mq.send_batch('q', (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 16) n), headers => \
             (SELECT array_agg(jsonb_build_object('tenant', n * n % {})) FROM generate_series(1, 16) n){delay})",
            1 + rng.below(9)
        );
        if rng.one_in(8) {
            c.run("BEGIN").await;
            c.run(&send).await;
            c.hands("'q', 9, '1 hour'").await;
            c.run("ROLLBACK").await;
        }
        sent.extend(c.ints(&send).await);
        for (n, hand) in c.hands("'q', 18, '1 hour'").await.into_iter().enumerate() {
            if n == 0 && step % 4 == 0 {
                kept.push(hand);
            } else if rng.one_in(9) {
                let verb = *rng.pick(&["release", "nack"]);
                let (id, receipt) = (hand.id, hand.receipt);
                let back = format!("SELECT mq.{verb}('q', {id}, {receipt}, delay => '2 ms')");
                assert!(c.yes(&back).await, "{hand:?}");
            } else {
                assert!(c.settle("ack", "q", &hand).await, "{hand:?}");
                assert!(acked.insert(hand.id), "{hand:?} again");
            }
        }
        upkeep.step(&c, "q").await;
    }
    for hand in kept {
        assert!(c.settle("release", "q", &hand).await, "{hand:?}");
    }
    (sent, acked)
}

async fn rotating(cx: Cx, upkeep: Upkeep) {
    let seed = seed();
    println!("      tenants: SEED={seed}");
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, ", fair_by => 'tenant'").await;
    let mut workers = Vec::new();
    for n in 0..3 {
        workers.push(spawn(work(cx.connect().await, seed + n, upkeep)));
    }
    let (mut sent, mut acked) = (HashSet::new(), HashSet::new());
    for worker in workers {
        let (some, done) = worker.await.unwrap();
        sent.extend(some);
        for id in done {
            assert!(acked.insert(id), "{id} was acked twice");
        }
    }
    let patience = Patience::new("an empty queue");
    while c.int("SELECT count(*) FROM mq.q").await > 0 {
        for hand in c.hands("'q', 100, '1 hour'").await {
            assert!(c.settle("ack", "q", &hand).await);
            assert!(acked.insert(hand.id), "{hand:?} again");
        }
        if patience.is_over() {
            panic!(
                "{:?}",
                c.rows("SELECT id, state, headers, priority FROM mq.q LIMIT 9")
                    .await
            );
        }
        patience.wait().await;
    }
    assert_eq!(sent, acked);
    assert!(space::segments(&c, "q").await.len() > 1);
    space::all_truncated(&c, "q", upkeep).await;
}

async fn rotating_by_calls(cx: Cx) {
    rotating(space::quiet(&cx).await, Upkeep::Calls).await;
}

async fn rotating_with_a_worker(cx: Cx) {
    rotating(space::working(&cx).await, Upkeep::Worker).await;
}

/// More queues than shared memory has room for, made and dropped: those with a place take turns, in
/// the others nothing is lost.
async fn many_queues(_: Cx) {
    let server = Server::start("fair-many", "pg_broker.max_queues = 16\n").await;
    let c = connect(&server).await;
    for round in 0..3 {
        for n in 0..24 {
            c.run(&format!(
                "SELECT mq.create_queue('q{n}', fair_by => 'tenant')"
            ))
            .await;
            c.run(&format!(
                "SELECT count(mq.send('q{n}', to_jsonb(t || m), jsonb_build_object('tenant', t))) \
                 FROM unnest('{{a,b}}'::text[]) t, generate_series(1, 2) m"
            ))
            .await;
        }
        let mut in_turn = 0;
        for n in 0..24 {
            let mut got = Vec::new();
            for _ in 0..4 {
                got.push(c.hand(&format!("'q{n}', 1, '1 hour'")).await.body);
            }
            let got = got.join(" ").replace('"', "");
            in_turn += usize::from(got == "a1 b1 a2 b2");
            assert!(["a1 b1 a2 b2", "a1 a2 b1 b2"].contains(&&got[..]), "{got}");
            c.run(&format!("SELECT mq.drop_queue('q{n}')")).await;
        }
        assert!(in_turn >= 10, "{in_turn} in round {round}");
    }
    drop(c);
    server.down();
}
