//! Short waits inside reading, paused queues, and the NOTIFY of those who ask for it.

use crate::conn::Patience;
use crate::harness::Cx;
use crate::tests;
use crate::wake::{queue, waiting};
use std::time::{Duration, Instant};

tests![read_that_waits, pause_and_resume, notify_option];

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
