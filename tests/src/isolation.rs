//! Every isolation level, savepoints, prepared transactions and cursors: a send is part of its
//! transaction, and a read sees the present whatever the caller's snapshot.

use crate::conn::{Conn, Refusal};
use crate::harness::{Cx, spawn};
use crate::tests;

tests![
    snapshots_see_the_present,
    changed_since_the_snapshot,
    serializable_workers,
    savepoints,
    prepared_transactions,
    prepared_rolled_back
];

pub async fn pair(cx: &Cx) -> (Conn, Conn) {
    let (a, b) = (cx.connect().await, cx.connect().await);
    a.run("SELECT mq.create_queue('q')").await;
    a.never_wait().await;
    b.never_wait().await;
    (a, b)
}

async fn snapshots_see_the_present(cx: Cx) {
    let (a, b) = pair(&cx).await;
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        a.run(&format!(
            "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM mq.q"
        ))
        .await;
        let theirs = b.send("q", 1).await;
        let own = a.send("q", 2).await;
        let hands = a.hands("'q', 5, '1 hour'").await;
        let ids: Vec<i64> = hands.iter().map(|hand| hand.id).collect();
        assert_eq!(ids, [theirs, own], "{level}");
        assert!(a.settle("extend", "q", &hands[0]).await && a.settle("ack", "q", &hands[0]).await);
        assert!(a.settle("archive", "q", &hands[1]).await);
        b.send("q", 3).await;
        assert_eq!(
            a.try_hands("pop", "'q', 5").await.unwrap().len(),
            1,
            "{level}"
        );
        a.run("COMMIT").await;
        assert_eq!(b.int("SELECT count(*) FROM mq.q").await, 0, "{level}");
    }
}

async fn changed_since_the_snapshot(cx: Cx) {
    let (a, b) = pair(&cx).await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let ids: Vec<i64> = vec![
            a.send("q", 1).await,
            a.send("q", 2).await,
            a.send("q", 3).await,
        ];
        a.run(&format!(
            "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM mq.q"
        ))
        .await;
        // Everything is handed out, failed and given back by others behind the snapshot's back.
        for hand in b.hands("'q', 3").await {
            assert!(b.settle("nack", "q", &hand).await);
        }
        let hands = a.hands("'q', 3, '1 hour'").await;
        assert_eq!(
            hands.iter().map(|h| h.id).collect::<Vec<_>>(),
            ids,
            "{level}"
        );
        assert!(
            hands
                .iter()
                .all(|hand| hand.failures == 1 && hand.attempts == 2),
            "{hands:?}"
        );
        assert!(a.settle("ack", "q", &hands[0]).await);
        assert!(a.settle("nack", "q", &hands[1]).await);
        assert!(a.yes(&format!("SELECT mq.delete('q', {})", ids[2])).await);
        a.run("COMMIT").await;
        assert_eq!(b.ints("SELECT id FROM mq.q").await, [ids[1]]);
        b.run("SELECT mq.purge_queue('q')").await;
        // A message that another has settled since is no longer there to settle.
        let (one, two) = (a.send("q", 4).await, a.send("q", 5).await);
        let hands = b.hands("'q', 2, '1 hour'").await;
        a.run(&format!(
            "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM mq.q"
        ))
        .await;
        assert!(b.settle("ack", "q", &hands[0]).await && b.settle("release", "q", &hands[1]).await);
        for id in [one, two] {
            assert!(
                !a.yes(&format!("SELECT mq.ack('q', {id})")).await,
                "{level}"
            );
        }
        assert_eq!(a.hand("'q'").await.id, two);
        a.run("COMMIT; SELECT mq.purge_queue('q')").await;
    }
}

async fn serializable_workers(cx: Cx) {
    let (a, _) = pair(&cx).await;
    a.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 120) n")
        .await;
    a.run("CREATE TABLE done (n int PRIMARY KEY)").await;
    let mut workers = Vec::new();
    for level in [
        "SERIALIZABLE",
        "SERIALIZABLE",
        "REPEATABLE READ",
        "READ COMMITTED",
    ] {
        let cx = cx.clone();
        workers.push(spawn(async move {
            let c = cx.connect().await;
            let mut retries = 0;
            loop {
                match work(&c, level).await {
                    Ok(0) => return,
                    Ok(_) => {}
                    // Their own tables may make serializable transactions fail: they try again.
                    Err(no) if no.code == "40001" && level == "SERIALIZABLE" => retries += 1,
                    Err(no) => panic!("{level}: {no:?}"),
                }
                assert!(retries < 2000, "{level}: never done");
                let _ = c.cells("ROLLBACK").await;
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(a.int("SELECT count(*) FROM done").await, 120);
}

/// Pops two messages and does the work in one transaction; tells how many there were.
async fn work(c: &Conn, level: &str) -> Result<usize, Refusal> {
    c.cells(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
    let hands = c.try_hands("pop", "'q', 2").await?;
    for hand in &hands {
        c.cells(&format!("INSERT INTO done VALUES ({})", hand.body))
            .await?;
    }
    c.cells("COMMIT").await?;
    Ok(hands.len())
}

async fn savepoints(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.run("BEGIN").await;
    let kept = a.send("q", "\"kept\"").await;
    a.run("SAVEPOINT s").await;
    a.send("q", "\"lost\"").await;
    a.run("ROLLBACK TO s").await;
    let kept_too = a.send("q", "\"kept too\"").await;
    a.run("RELEASE s; COMMIT").await;
    assert_eq!(
        b.ints("SELECT id FROM mq.q ORDER BY id").await,
        [kept, kept_too]
    );

    a.run("BEGIN").await;
    let hand = a.hand("'q', 1, '1 hour'").await;
    a.run("SAVEPOINT s").await;
    assert!(a.settle("ack", "q", &hand).await);
    assert!(!a.settle("ack", "q", &hand).await);
    a.run("ROLLBACK TO s").await;
    assert!(a.settle("nack", "q", &hand).await);
    a.run("ROLLBACK TO s").await;
    assert_eq!(
        a.int(&format!("SELECT failures FROM mq.q WHERE id = {}", hand.id))
            .await,
        0
    );
    assert!(a.settle("archive", "q", &hand).await);
    a.run("SAVEPOINT t; SELECT mq.read('q'); ROLLBACK TO t; RELEASE t; COMMIT")
        .await;
    assert_eq!(b.ints("SELECT id FROM mq.q_archive").await, [hand.id]);
    assert_eq!(b.hand("'q'").await.id, kept_too);
    // An error caught in PL/pgSQL is a savepoint, too.
    a.run(
        "DO $$BEGIN PERFORM mq.send('q', '\"before\"'); \
         BEGIN PERFORM mq.send('q', '\"inside\"'); RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN NULL; END; \
         BEGIN PERFORM mq.send('nowhere', '1'); EXCEPTION WHEN undefined_table THEN PERFORM mq.send('q', '\"instead\"'); END; \
         END$$",
    )
    .await;
    let bodies =
        "SELECT string_agg(body #>> '{}', ',' ORDER BY id) FROM mq.q WHERE state = 'ready'";
    assert_eq!(a.text(bodies).await, "before,instead");
}

async fn prepared_transactions(cx: Cx) {
    let (a, b) = pair(&cx).await;
    let name = |n: &str| format!("'{}_{n}'", cx.db);
    a.run(&format!(
        "BEGIN; SELECT mq.send('q', '1', dedup_key => 'k'); PREPARE TRANSACTION {}",
        name("send")
    ))
    .await;
    assert_eq!(b.hands("'q'").await, []);
    b.run(&format!("COMMIT PREPARED {}", name("send"))).await;
    let hand = b.hand("'q', 1, '1 ms'").await;
    assert_eq!(
        a.int("SELECT mq.send('q', '1', dedup_key => 'k')").await,
        hand.id
    );
    b.until("SELECT state = 'ready' FROM mq.q").await;

    a.run(&format!(
        "BEGIN; SELECT mq.read('q', 1, '1 hour'); PREPARE TRANSACTION {}",
        name("read")
    ))
    .await;
    assert_eq!(b.hands("'q'").await, []);
    assert!(
        !b.settle("ack", "q", &hand).await,
        "the prepared reader has it"
    );
    b.run(&format!("COMMIT PREPARED {}", name("read"))).await;
    assert!(
        b.yes("SELECT state = 'leased' AND attempts = 2 FROM mq.q")
            .await
    );

    a.run(&format!(
        "BEGIN; SELECT mq.ack('q', {}); PREPARE TRANSACTION {}",
        hand.id,
        name("ack")
    ))
    .await;
    assert!(!b.yes(&format!("SELECT mq.ack('q', {})", hand.id)).await);
    b.run(&format!("COMMIT PREPARED {}", name("ack"))).await;
    assert_eq!(b.int("SELECT count(*) FROM mq.q").await, 0);

    b.send("q", 5).await;
    a.run(&format!(
        "BEGIN; SELECT mq.pop('q'); PREPARE TRANSACTION {}",
        name("pop")
    ))
    .await;
    assert_eq!(b.hands("'q'").await, []);
    b.run(&format!("COMMIT PREPARED {}", name("pop"))).await;
    assert_eq!(b.int("SELECT count(*) FROM mq.q").await, 0);
}

async fn prepared_rolled_back(cx: Cx) {
    let (a, b) = pair(&cx).await;
    let id = a.send("q", 1).await;
    for call in [
        "mq.send('q', '2')",
        "mq.read('q')",
        "mq.pop('q')",
        "mq.nack('q', 1)",
    ] {
        let gid = format!("'{}_{}'", cx.db, call.len());
        a.run(&format!("BEGIN; SELECT {call}; PREPARE TRANSACTION {gid}"))
            .await;
        b.run(&format!("ROLLBACK PREPARED {gid}")).await;
        let all = b.rows("SELECT id, state, attempts FROM mq.q").await;
        assert_eq!(all.len(), 1, "{call}: {all:?}");
        let hand = b.hand("'q', 1, '1 hour'").await;
        assert_eq!(hand.id, id, "{call}");
        assert!(b.settle("release", "q", &hand).await, "{call}");
    }
    let hand = b.hand("'q', 1, '1 hour'").await;
    a.run(&format!(
        "BEGIN; SELECT mq.ack('q', {id}); PREPARE TRANSACTION '{}_ack'",
        cx.db
    ))
    .await;
    b.run(&format!("ROLLBACK PREPARED '{}_ack'", cx.db)).await;
    assert!(
        b.settle("ack", "q", &hand).await,
        "the hand-out is as before"
    );
}
