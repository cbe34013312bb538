//! Deduplication: one send of a key wins, the others get its id, whoever comes when.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::tests;

tests![
    winner_and_loser,
    rolled_back_winner_frees_the_key,
    callers_with_old_snapshots,
    many_at_once,
    window,
    infinite_window,
    in_batches,
    within_one_transaction,
    no_wait_for_other_keys,
];

async fn pair(cx: &Cx, options: &str) -> (Conn, Conn) {
    let (a, b) = (cx.connect().await, cx.connect().await);
    a.run(&format!("SELECT mq.create_queue('q'{options})"))
        .await;
    (a, b)
}

const SEND: &str = "SELECT mq.send('q', '1', dedup_key => 'k')";

async fn winner_and_loser(cx: Cx) {
    let (a, b) = pair(&cx, "").await;
    a.run("BEGIN").await;
    let winner = a.int(SEND).await;
    let pid = b.pid;
    let loser = spawn(async move { b.int(SEND).await });
    cx.connect().await.until_blocked(pid).await;
    a.run("COMMIT").await;
    assert_eq!(loser.await.unwrap(), winner);
    assert_eq!(a.ints("SELECT id FROM mq.q").await, [winner]);
    a.run("SELECT mq.pop('q')").await;
    assert_eq!(
        a.int(SEND).await,
        winner,
        "within the window, also after it is done"
    );
    assert_eq!(a.int("SELECT count(*) FROM mq.q").await, 0);
}

async fn rolled_back_winner_frees_the_key(cx: Cx) {
    let (a, b) = pair(&cx, "").await;
    for end in ["ROLLBACK", "ROLLBACK TO s"] {
        a.run("BEGIN; SAVEPOINT s").await;
        let lost = a.int(SEND).await;
        let (pid, c) = (b.pid, cx.connect().await);
        let other = async {
            c.until_blocked(pid).await;
            a.run(end).await;
        };
        let (won, ()) = tokio::join!(b.int(SEND), other);
        assert_ne!(won, lost);
        a.run("COMMIT").await;
        assert_eq!(a.int(SEND).await, won);
        assert_eq!(a.ints("SELECT id FROM mq.q").await, [won]);
        a.run("SELECT mq.drop_queue('q'); SELECT mq.create_queue('q')")
            .await;
    }
}

async fn callers_with_old_snapshots(cx: Cx) {
    let (a, b) = pair(&cx, "").await;
    for (n, level) in ["REPEATABLE READ", "SERIALIZABLE"].iter().enumerate() {
        let send = format!("SELECT mq.send('q', '1', dedup_key => 'rr {n}')");
        a.run(&format!(
            "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM mq.q"
        ))
        .await;
        let winner = b.int(&send).await;
        assert_eq!(
            a.int(&send).await,
            winner,
            "{level}: the winner is newer than the snapshot"
        );
        a.run("COMMIT").await;
        // The winner commits while the caller waits.
        let send = format!("SELECT mq.send('q', '1', dedup_key => 'wait {n}')");
        b.run("BEGIN").await;
        let winner = b.int(&send).await;
        a.run(&format!(
            "BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM mq.q"
        ))
        .await;
        let (pid, c) = (a.pid, cx.connect().await);
        let commit = async {
            c.until_blocked(pid).await;
            b.run("COMMIT").await;
        };
        let (id, ()) = tokio::join!(a.int(&send), commit);
        assert_eq!(id, winner, "{level}");
        a.run("COMMIT").await;
    }
}

async fn many_at_once(cx: Cx) {
    let (a, _) = pair(&cx, "").await;
    let mut senders = Vec::new();
    for _ in 0..6 {
        let cx = cx.clone();
        senders.push(spawn(async move {
            let c = cx.connect().await;
            let mut ids = Vec::new();
            for key in 0..60 {
                ids.push(
                    c.int(&format!(
                        "SELECT mq.send('q', '1', dedup_key => 'key {key}')"
                    ))
                    .await,
                );
            }
            ids
        }));
    }
    let mut all = Vec::new();
    for sender in senders {
        all.push(sender.await.unwrap());
    }
    assert!(
        all.iter().all(|ids| *ids == all[0]),
        "senders disagree about the winners"
    );
    assert_eq!(a.int("SELECT count(*) FROM mq.q").await, 60);
    assert_eq!(
        a.int("SELECT count(DISTINCT dedup_key) FROM mq.q").await,
        60
    );
}

async fn window(cx: Cx) {
    let (a, b) = pair(&cx, ", dedup_window => '300 ms'").await;
    let first = a.int(SEND).await;
    let again = b.int(SEND).await;
    a.until(
        "SELECT clock_timestamp() > enqueued_at + interval '350 ms' FROM mq.q ORDER BY id LIMIT 1",
    )
    .await;
    let later = b.int(SEND).await;
    assert!(again == first, "within the window");
    assert_ne!(later, first, "after the window");
    assert_eq!(a.int("SELECT count(*) FROM mq.q").await, 2);
    a.run("SELECT mq.alter_queue('q', dedup_window => '1 hour')")
        .await;
    let id = a
        .int("SELECT mq.send('q', '1', dedup_key => 'other')")
        .await;
    a.run("SELECT mq.pop('q', 10); SELECT mq.maintain('q')")
        .await;
    assert_eq!(
        b.int("SELECT mq.send('q', '1', dedup_key => 'other')")
            .await,
        id
    );
    assert_ne!(b.int("SELECT mq.send('q', '1', dedup_key => '')").await, id);
    a.run("SELECT mq.send('q', '1'), mq.send('q', '1')").await;
    assert_eq!(
        a.int("SELECT count(*) FROM mq.q").await,
        3,
        "no key, no deduplication"
    );
}

async fn infinite_window(cx: Cx) {
    let forever = if crate::world::world().version >= 17 {
        "infinity"
    } else {
        "1000 years"
    };
    let (a, b) = pair(&cx, &format!(", dedup_window => '{forever}'")).await;
    for end in ["ack", "archive", "reject", "delete"] {
        let id = a.int(SEND).await;
        let hand = b.hand("'q', 1, '1 hour'").await;
        assert_eq!(
            a.int(SEND).await,
            id,
            "while it is in the queue, in whatever state"
        );
        if end == "delete" {
            a.run(&format!("SELECT mq.delete('q', {id})")).await;
        } else {
            assert!(b.settle(end, "q", &hand).await);
        }
        let next = a.int(SEND).await;
        assert!(next > id, "free again after {end}");
        a.run("SELECT mq.pop('q')").await;
    }
    a.run("BEGIN").await;
    let id = a.int(SEND).await;
    a.run("SELECT mq.pop('q'); ROLLBACK").await;
    assert!(b.int(SEND).await != id);
}

async fn in_batches(cx: Cx) {
    let (a, b) = pair(&cx, "").await;
    let ids = a
        .ints("SELECT mq.send_batch('q', ARRAY['1','2','3','4']::jsonb[], dedup_keys => ARRAY['x', NULL, 'x', 'y'])")
        .await;
    assert_eq!(ids.len(), 4);
    assert_eq!(
        ids[0], ids[2],
        "a duplicate gets the winner's id in its place"
    );
    assert_eq!(a.int("SELECT count(*) FROM mq.q").await, 3);
    let more = b
        .ints("SELECT mq.send_batch('q', ARRAY['5','6','7']::jsonb[], dedup_keys => ARRAY['y', 'z', 'x'])")
        .await;
    assert_eq!((more[0], more[2]), (ids[3], ids[0]));
    assert_eq!(
        b.text("SELECT string_agg(body::text, ',' ORDER BY id) FROM mq.q")
            .await,
        "1,2,4,6"
    );
    b.run("INSERT INTO mq.q (body, dedup_key) VALUES ('8', 'x')")
        .await;
    assert_eq!(
        b.int("SELECT count(*) FROM mq.q").await,
        4,
        "the view deduplicates as well"
    );
}

async fn within_one_transaction(cx: Cx) {
    let (a, b) = pair(&cx, "").await;
    a.run("BEGIN").await;
    let id = a.int(SEND).await;
    assert_eq!(a.int(SEND).await, id);
    a.run("SELECT mq.ack('q', id) FROM mq.read('q')").await;
    assert_eq!(a.int(SEND).await, id);
    a.run("COMMIT").await;
    assert_eq!(b.int(SEND).await, id);
    assert_eq!(b.int("SELECT count(*) FROM mq.q").await, 0);
}

async fn no_wait_for_other_keys(cx: Cx) {
    let (a, b) = pair(&cx, "").await;
    b.never_wait().await;
    a.run("BEGIN").await;
    a.run(SEND).await;
    for key in 0..50 {
        b.run(&format!(
            "SELECT mq.send('q', '1', dedup_key => 'another {key}')"
        ))
        .await;
    }
    b.run("SELECT mq.send('q', '1'); SELECT mq.read('q', 10); SELECT mq.maintain('q')")
        .await;
    b.refused(SEND, "55P03").await;
    a.run("COMMIT").await;
}
