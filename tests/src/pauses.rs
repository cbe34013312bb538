//! Short waits inside reading, paused queues, and the NOTIFY of those who ask for it.

use crate::conn::Patience;
use crate::harness::Cx;
use crate::tests;
use crate::wake::{queue, waiting};
use std::time::{Duration, Instant};

tests![
    read_that_waits,
    read_that_gives_way,
    pause_and_resume,
    notify_option
];

async fn read_that_waits(cx: Cx) {
    let c = queue(&cx).await;
    let (_, task) = waiting(&cx, "SELECT body FROM mq.read('q', 1, NULL, '20 s')").await;
    c.send("q", 7).await;
    assert_eq!(task.await.unwrap().unwrap(), "7");
    let (_, task) = waiting(
        &cx,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT body FROM mq.read('q', 1, NULL, '20 s')",
    )
    .await;
    c.send("q", 8).await;
    assert_eq!(
        task.await.unwrap().unwrap(),
        "8",
        "in a transaction block, too"
    );
    c.until("SELECT mq.purge_queue('q') >= 0 AND NOT EXISTS (SELECT FROM mq.q)")
        .await;
    let started = Instant::now();
    assert_eq!(c.hands("'q', 1, NULL, '250 ms'").await.len(), 0);
    assert!(started.elapsed() > Duration::from_millis(200));
    c.refused("SELECT mq.read('q', wait => '21 s')", "22023")
        .await;
    c.refused("SELECT mq.read('q', wait => '-1 s')", "22023")
        .await;
}

/// Who drops or renames a queue does not wait for the whole wait of others' reads.
async fn read_that_gives_way(cx: Cx) {
    let c = cx.connect().await;
    for change in [
        "SELECT mq.drop_queue('q')",
        "SELECT mq.rename_queue('q', 'p'); SELECT mq.drop_queue('p')",
        "DROP VIEW mq.q",
        "ALTER VIEW mq.q RENAME TO p; SELECT mq.drop_queue('p')",
        "SELECT mq.alter_queue('q', max_length => 9); SELECT mq.drop_queue('q')",
    ] {
        c.run("SELECT mq.create_queue('q')").await;
        let read = "SELECT count(*) FROM mq.read('q', wait => '20 s')";
        let (_, one) = waiting(&cx, read).await;
        let (_, other) = waiting(&cx, read).await;
        let started = Instant::now();
        c.run(change).await;
        let took = started.elapsed();
        assert!(took < Duration::from_secs(2), "{change}: {took:?}");
        for task in [one, other] {
            assert_eq!(task.await.unwrap().unwrap(), "0", "{change}");
        }
    }
    // What does not have to wait for it, or would have to in any case, does not end it.
    c.run("SELECT mq.create_queue('q')").await;
    let read = "SELECT count(*) FROM mq.read('q', wait => '2 s')";
    for begin in ["", "BEGIN; "] {
        let started = Instant::now();
        let (pid, task) = waiting(&cx, &format!("{begin}{read}")).await;
        c.run("SELECT mq.alter_queue('q', visibility => '9 s'); GRANT SELECT ON mq.q TO PUBLIC")
            .await;
        if !begin.is_empty() {
            c.run("SET lock_timeout = '1 s'").await;
            c.refused("SELECT mq.drop_queue('q')", "55P03").await;
        }
        assert_eq!(task.await.unwrap().unwrap(), "0");
        let took = started.elapsed();
        assert!(took > Duration::from_millis(1900), "{pid}: {took:?}");
    }
}

async fn pause_and_resume(cx: Cx) {
    let (a, b) = (queue(&cx).await, cx.connect().await);
    a.send("q", 1).await;
    assert_eq!(b.hands("'q', 1, '1 ms'").await.len(), 1);
    b.until("SELECT state = 'ready' FROM mq.q").await;
    a.run("SELECT mq.pause('q')").await;
    assert_eq!(b.hands("'q', 5").await, []);
    assert_eq!(b.try_hands("pop", "'q', 5").await.unwrap(), []);
    assert!(
        !b.yes("CALL mq.wait('q', '200 ms', NULL)").await,
        "a paused queue is not ready"
    );
    b.send("q", 2).await;
    assert!(
        b.yes("SELECT paused AND paused_until IS NULL FROM mq.queues")
            .await
    );
    a.run("SELECT mq.resume('q')").await;
    let hand = b.hand("'q'").await;
    a.run("SELECT mq.pause('q')").await;
    assert!(
        b.settle("ack", "q", &hand).await,
        "what is in hand is settled while it is paused"
    );
    a.run("SELECT mq.pause('q', until => clock_timestamp() + interval '300 ms')")
        .await;
    assert_eq!(b.hands("'q', 5").await, []);
    b.until("SELECT 1 = (SELECT count(*) FROM mq.read('q', 5))")
        .await;
    assert!(b.yes("SELECT NOT paused FROM mq.queues").await);
    a.run("BEGIN; SELECT mq.pause('q'); ROLLBACK").await;
    b.send("q", 3).await;
    b.hand("'q'").await;
}

async fn notify_option(cx: Cx) {
    let c = queue(&cx).await;
    c.run("SELECT mq.alter_queue('q', notify => true)").await;
    let ear = cx.connect().await;
    ear.run("LISTEN \"mq.q\"").await;
    c.run("BEGIN; SELECT mq.send('q', '1'); ROLLBACK").await;
    c.send("q", 1).await;
    let patience = Patience::new("the notification");
    loop {
        ear.run("SELECT 1").await;
        let heard = ear.notifications();
        if !heard.is_empty() {
            assert_eq!(heard, ["mq.q"]);
            return;
        }
        patience.wait().await;
    }
}
