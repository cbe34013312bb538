//! What each way of settling does to the message.

use crate::harness::Cx;
use crate::settle::pair;
use crate::tests;

tests![
    nack_backs_off,
    release_blames_nobody,
    reject_and_archive,
    extend_the_lease,
    delete_and_get
];

async fn nack_backs_off(cx: Cx) {
    let (a, _) = pair(&cx).await;
    a.run("SELECT mq.alter_queue('q', backoff => ARRAY['400 ms', '800 ms']::interval[])")
        .await;
    a.send("q", 1).await;
    for (n, wait) in [(1, 400), (2, 800), (3, 800)] {
        let hand = a.hand("'q', 1, '1 hour'").await;
        let before = a.text("SELECT clock_timestamp()").await;
        let nack = format!(
            "SELECT mq.nack('q', {}, {}, NULL, 'no {n}')",
            hand.id, hand.receipt
        );
        assert!(a.yes(&nack).await);
        let facts = "SELECT failures || last_error FROM mq.q";
        assert_eq!(a.text(facts).await, format!("{n}no {n}"));
        let jittered = format!(
            "SELECT visible_at >= '{before}'::timestamptz + {wait} * 0.89 * interval '1 ms' AND \
             visible_at <= clock_timestamp() + {wait} * 1.11 * interval '1 ms' FROM mq.q"
        );
        assert!(
            a.yes(&jittered).await,
            "backoff {n} is not {wait} ms ± 10 %"
        );
        a.until("SELECT state = 'ready' FROM mq.q").await;
    }
    let hand = a.hand("'q'").await;
    assert!(
        a.yes(&format!(
            "SELECT mq.nack('q', {}, {}, '1 hour')",
            hand.id, hand.receipt
        ))
        .await
    );
    assert!(
        a.yes("SELECT visible_at > clock_timestamp() + '59 min' FROM mq.q")
            .await
    );
    assert!(
        a.yes("SELECT state = 'delayed' AND failures = 4 FROM mq.q")
            .await
    );
}

async fn release_blames_nobody(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.send("q", 1).await;
    let hand = a.hand("'q', 1, '1 hour'").await;
    assert!(a.settle("release", "q", &hand).await);
    let again = b.hand("'q', 1, '1 hour'").await;
    assert_eq!((again.attempts, again.failures), (2, 0));
    let later = format!(
        "SELECT mq.release('q', {}, {}, '1 hour')",
        again.id, again.receipt
    );
    assert!(b.yes(&later).await);
    assert!(
        a.yes("SELECT state = 'delayed' AND failures = 0 FROM mq.q")
            .await
    );
    assert_eq!(a.hands("'q'").await, []);
}

async fn reject_and_archive(cx: Cx) {
    let (a, _) = pair(&cx).await;
    a.send("q", "{\"a\": 1}").await;
    let hand = a.hand("'q'").await;
    assert!(a.settle("reject", "q", &hand).await);
    assert_eq!(
        a.int("SELECT count(*) FROM mq.q").await,
        0,
        "without a dead-letter queue: removed"
    );
    let id = a.send("q", "{\"a\": 2}").await;
    let hand = a.hand("'q'").await;
    assert!(a.settle("archive", "q", &hand).await);
    assert_eq!(a.int("SELECT count(*) FROM mq.q").await, 0);
    let kept = "SELECT id || ' ' || body::text || ' ' || (archived_at <= clock_timestamp()) FROM mq.q_archive";
    assert_eq!(a.text(kept).await, format!("{id} {{\"a\": 2}} true"));
    a.run("SELECT mq.create_queue('d'); SELECT mq.alter_queue('q', dead_letter => 'd')")
        .await;
    a.run("SELECT mq.send('q', '{\"b\": 1}', '{\"h\": 2}', priority => 7)")
        .await;
    let hand = a.hand("'q'").await;
    assert!(
        a.yes(&format!(
            "SELECT mq.reject('q', {}, {}, 'bad')",
            hand.id, hand.receipt
        ))
        .await
    );
    let dead = a
        .text(
            "SELECT concat_ws(' ', body, priority, attempts, failures, headers->>'h', \
             headers->'x-death'->0->>'reason', headers->'x-death'->0->>'queue', \
             headers->'x-death'->0->>'id', headers->'x-death'->0->>'error') FROM mq.d",
        )
        .await;
    assert_eq!(
        dead,
        format!("{{\"b\": 1}} 7 0 0 2 rejected q {} bad", hand.id)
    );
}

async fn extend_the_lease(cx: Cx) {
    let (a, b) = pair(&cx).await;
    a.send("q", 1).await;
    let hand = a.hand("'q', 1, '200 ms'").await;
    let extend = format!(
        "SELECT mq.extend('q', {}, {}, '1 hour')",
        hand.id, hand.receipt
    );
    let until = a.text(&extend).await;
    assert!(
        a.yes(&format!(
            "SELECT visible_at = '{until}' AND state = 'leased' FROM mq.q"
        ))
        .await
    );
    assert!(
        a.yes(&format!("SELECT '{until}' > clock_timestamp() + '59 min'"))
            .await
    );
    assert_eq!(b.hands("'q'").await, []);
    a.refused(
        &format!("SELECT mq.extend('q', {}, NULL, '0')", hand.id),
        "22023",
    )
    .await;
    a.refused(
        &format!("SELECT mq.extend('q', {}, NULL, '-1 s')", hand.id),
        "22023",
    )
    .await;
    assert!(
        a.settle("extend", "q", &hand).await,
        "by the queue's visibility"
    );
    assert!(
        a.yes("SELECT visible_at < clock_timestamp() + '31 s' FROM mq.q")
            .await
    );
    assert!(a.settle("ack", "q", &hand).await);
    assert_eq!(a.text(&extend).await, "NULL");
}

async fn delete_and_get(cx: Cx) {
    let (a, b) = pair(&cx).await;
    let id = a.send("q", 1).await;
    assert_eq!(
        a.text(&format!("SELECT body FROM mq.get('q', {id})")).await,
        "1"
    );
    assert_eq!(
        a.text(&format!("SELECT (mq.get('q', {id})).receipt")).await,
        "NULL"
    );
    assert_eq!(a.text("SELECT (mq.get('q', 77)).id").await, "NULL");
    let hand = a.hand("'q'").await;
    assert!(
        b.yes(&format!("SELECT mq.delete('q', {id})")).await,
        "whoever holds it"
    );
    assert!(!a.settle("ack", "q", &hand).await);
    assert!(!b.yes(&format!("SELECT mq.delete('q', {id})")).await);
    let id = a.send("q", 2).await;
    a.run("BEGIN").await;
    a.hand("'q'").await;
    b.refused(&format!("SELECT mq.delete('q', {id})"), "55P03")
        .await;
    a.run("COMMIT").await;
    assert_eq!(
        b.text(&format!("DELETE FROM mq.q WHERE id = {id} RETURNING id"))
            .await,
        id.to_string()
    );
}
