//! How messages end otherwise: expired, failed too often, dead-lettered, redriven, out of the
//! archive.

use crate::harness::Cx;
use crate::limits::queue;
use crate::tests;

tests![
    expiry,
    expired_to_the_dead,
    failures_by_nack,
    failures_by_ended_lease,
    dead_letter_full,
    dead_letter_gone,
    redrive,
    archive_retention
];

async fn expiry(cx: Cx) {
    let c = queue(&cx, ", ttl => '200 ms'").await;
    let (early, late) = (
        c.send("q", 1).await,
        c.int("SELECT mq.send('q', '2', ttl => '1 hour')").await,
    );
    let hand = c.hand("'q', 1, '1 hour'").await;
    assert_eq!(hand.id, early);
    assert!(c.settle("release", "q", &hand).await);
    c.until(&format!("SELECT clock_timestamp() > expires_at FROM mq.q WHERE id = {early} UNION ALL SELECT true LIMIT 1")).await;
    assert_ne!(
        c.text(&format!("SELECT state FROM mq.q WHERE id = {early}"))
            .await,
        "ready"
    );
    assert_eq!(
        c.hand("'q', 10").await.id,
        late,
        "what has expired is never handed out"
    );
    assert_eq!(c.try_hands("pop", "'q', 10").await.unwrap(), []);
    c.until("SELECT mq.maintain('q') = 0").await;
    assert_eq!(
        c.ints("SELECT id FROM mq.q").await,
        [late],
        "without a dead-letter queue: dropped"
    );
    assert!(c.int("SELECT coalesce(expired, 0) FROM mq.metrics").await >= 0);
    c.run("INSERT INTO mq.q (body, expires_at) VALUES ('3', '2001-01-01'); SELECT mq.read('q', 5)")
        .await;
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q WHERE state = 'leased' AND body = '3'")
            .await,
        0
    );
}

async fn expired_to_the_dead(cx: Cx) {
    let c = queue(&cx, ", max_failures => 3").await;
    let id = c
        .int("SELECT mq.send('q', '1', ttl => '50 ms', priority => 8)")
        .await;
    let other = c.send("q", 2).await;
    c.until(&format!(
        "SELECT state = 'expired' FROM mq.q WHERE id = {id}"
    ))
    .await;
    assert_eq!(c.hand("'q', 5").await.id, other);
    c.until("SELECT mq.maintain('q') = 0").await;
    let dead = "SELECT concat_ws(' ', headers->'x-death'->0->>'reason', headers->'x-death'->0->>'id', \
                attempts, failures, priority, expires_at IS NULL) FROM mq.q_dead";
    assert_eq!(c.text(dead).await, format!("expired {id} 0 0 8 t"));
}

async fn failures_by_nack(cx: Cx) {
    let c = queue(&cx, ", max_failures => 3").await;
    let id = c.send("q", 1).await;
    for failure in 1..=3 {
        let hand = c.hand("'q'").await;
        assert_eq!(hand.failures, failure - 1);
        let nack = format!(
            "SELECT mq.nack('q', {id}, {}, reason => 'no {failure}')",
            hand.receipt
        );
        assert!(c.yes(&nack).await);
    }
    assert_eq!(c.hands("'q'").await, []);
    let dead = "SELECT concat_ws(' ', headers->'x-death'->0->>'reason', headers->'x-death'->0->>'failures', \
                headers->'x-death'->0->>'error', attempts, failures, state) FROM mq.q_dead";
    assert_eq!(c.text(dead).await, "failures 3 no 3 0 0 ready");
}

async fn failures_by_ended_lease(cx: Cx) {
    let c = queue(&cx, ", max_failures => 2").await;
    let id = c.send("q", 1).await;
    let hand = c.hand("'q', 1, '30 ms'").await;
    c.until("SELECT state = 'ready' FROM mq.q").await;
    let last = c.hand("'q', 1, '30 ms'").await;
    assert_eq!((last.id, last.failures), (id, 1));
    c.until(&format!("SELECT clock_timestamp() > visible_at FROM mq.q WHERE id = {id} UNION ALL SELECT true LIMIT 1")).await;
    let other = c.send("q", 2).await;
    assert_eq!(
        c.hand("'q', 5").await.id,
        other,
        "never handed out after its last failure"
    );
    c.until("SELECT mq.maintain('q') = 0").await;
    let dead = "SELECT concat_ws(' ', headers->'x-death'->0->>'reason', headers->'x-death'->0->>'failures') FROM mq.q_dead";
    assert_eq!(c.text(dead).await, "failures 2");
    assert!(!c.settle("ack", "q", &hand).await && !c.settle("ack", "q", &last).await);
    assert_eq!(c.ints("SELECT id FROM mq.q").await, [other]);
}

async fn dead_letter_full(cx: Cx) {
    let c = queue(&cx, ", max_failures => 1").await;
    c.run("SELECT mq.alter_queue('q_dead', max_length => 1); SELECT mq.send('q_dead', '0')")
        .await;
    c.run("SELECT mq.send('q', '1'); SELECT mq.read('q', 1, '20 ms')")
        .await;
    c.until("SELECT clock_timestamp() > visible_at FROM mq.q")
        .await;
    let other = c.send("q", 2).await;
    c.warnings();
    assert_eq!(c.hand("'q', 5").await.id, other, "reading goes on");
    let reader = c.warnings();
    c.run("SELECT mq.maintain('q')").await;
    let warned = [reader, c.warnings()].concat();
    assert!(warned.iter().any(|w| w.contains("q_dead")), "{warned:?}");
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q").await,
        2,
        "nothing is lost"
    );
    // It stays as it is, tried again later, and nobody is given it meanwhile.
    assert_eq!(c.hands("'q', 5").await, []);
    let kept = "SELECT last_error LIKE '%q_dead%' FROM mq.q WHERE body = '1'";
    assert!(c.yes(kept).await);
}

async fn dead_letter_gone(cx: Cx) {
    let c = queue(&cx, ", max_failures => 1").await;
    c.refused("SELECT mq.drop_queue('q_dead')", "2BP01").await;
    c.run("DROP VIEW mq.q_dead").await;
    c.warnings();
    c.run("SELECT mq.send('q', '1'); SELECT mq.read('q', 1, '20 ms')")
        .await;
    c.until("SELECT clock_timestamp() > visible_at FROM mq.q")
        .await;
    let other = c.send("q", 2).await;
    assert_eq!(c.hand("'q', 5").await.id, other, "reading goes on");
    c.run("SELECT mq.maintain('q')").await;
    assert_eq!(c.hands("'q', 5").await, [], "and nobody is given the dead");
    let warned = c.warnings();
    assert!(warned.iter().any(|w| w.contains('q')), "{warned:?}");
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q").await,
        2,
        "nothing is lost"
    );
    let set = "SELECT mq.alter_queue('q', dead_letter => 'q')";
    let no = c.cells(set).await.unwrap_err();
    assert_eq!(no.code, "22023", "its own dead-letter queue: {no:?}");
    c.run("SELECT mq.create_queue('a', dead_letter => 'q')")
        .await;
    c.refused("SELECT mq.alter_queue('q', dead_letter => 'a')", "22023")
        .await;
    c.refused(
        "SELECT mq.create_queue('b', dead_letter => 'nowhere')",
        "42P01",
    )
    .await;
}

async fn redrive(cx: Cx) {
    let c = queue(&cx, ", max_failures => 1").await;
    c.run("SELECT mq.create_queue('r', dead_letter => 'q_dead'), mq.create_queue('away')")
        .await;
    for round in 1..=3 {
        if round == 1 {
            c.run("SELECT mq.send('q', '\"q\"', '{\"h\": 1}'), mq.send('r', '\"r\"')")
                .await;
        }
        c.run("SELECT mq.nack('q', id, receipt) FROM mq.read('q'); SELECT mq.reject('r', id, receipt) FROM mq.read('r')").await;
        let entries = "SELECT string_agg(jsonb_array_length(headers->'x-death') || ':' || (headers->'x-death'->0->>'count'), ' ') FROM mq.q_dead";
        assert_eq!(
            c.text(entries).await,
            format!("1:{round} 1:{round}"),
            "redriving does not grow it"
        );
        assert_eq!(c.int("SELECT mq.redrive('q_dead')").await, 2);
        assert_eq!(
            c.text("SELECT body->>0 || (headers->>'h') || failures || attempts FROM mq.q")
                .await,
            "q100"
        );
        assert_eq!(c.text("SELECT body->>0 FROM mq.r").await, "r");
    }
    c.run("SELECT mq.nack('q', id, receipt) FROM mq.read('q'); SELECT mq.reject('r', id, receipt) FROM mq.read('r')").await;
    let ids = c.ints("SELECT id FROM mq.q_dead ORDER BY id").await;
    assert_eq!(
        c.int(&format!(
            "SELECT mq.redrive('q_dead', ids => ARRAY[{}])",
            ids[1]
        ))
        .await,
        1
    );
    assert_eq!(c.ints("SELECT id FROM mq.q_dead").await, [ids[0]]);
    c.run("SELECT mq.send('q_dead', '\"foreign\"')").await;
    assert_eq!(
        c.int("SELECT mq.redrive('q_dead', \"to\" => 'away', max => 1)")
            .await,
        1
    );
    assert_eq!(c.int("SELECT count(*) FROM mq.away").await, 1);
    c.refused("SELECT mq.redrive('q_dead', \"to\" => 'nowhere')", "42P01")
        .await;
    c.refused("SELECT mq.redrive('q_dead', max => 0)", "22023")
        .await;
}

async fn archive_retention(cx: Cx) {
    let c = queue(&cx, ", archive_retention => '200 ms'").await;
    c.run("SELECT mq.send('q', '1'); SELECT mq.archive('q', id) FROM mq.read('q')")
        .await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q_archive").await, 1);
    c.until("SELECT clock_timestamp() > archived_at + interval '200 ms' FROM mq.q_archive")
        .await;
    assert!(c.int("SELECT mq.maintain('q')").await >= 1);
    assert_eq!(c.int("SELECT count(*) FROM mq.q_archive").await, 0);
    assert_eq!(c.int("SELECT mq.maintain('q')").await, 0);
}
