//! Every way to look at a queue and to change it does the same wherever its messages lie: each test
//! has some in a parked table, moved there, and others in three segments or more.

use crate::conn::{Conn, NONE};
use crate::harness::Cx;
use crate::space::{self, LEAST, Upkeep, list};
use crate::spread::{Spread, drained, spread};
use crate::tests;
use crate::traffic::Traffic;

tests![
    read_in_order,
    looked_at,
    counted,
    deleted,
    changed_through_the_view,
    deleted_through_the_view,
    purged,
    settled_in_every_way,
    archived,
    renamed,
    paused,
    redriven,
    dead_lettered,
    deduplicated,
    full,
    dropped_oldest,
    expired,
];

async fn queue(cx: &Cx, options: &str) -> (Conn, Spread) {
    let c = space::quiet(cx).await.connect().await;
    space::create(&c, "q", LEAST, options).await;
    c.never_wait().await;
    let spread = spread(&c, "q").await;
    (c, spread)
}

fn without(ids: &[i64], those: &[i64]) -> Vec<i64> {
    let kept = ids.iter().filter(|id| !those.contains(id));
    kept.copied().collect()
}

async fn order(c: &Conn) -> Vec<i64> {
    c.ints("SELECT id FROM mq.q ORDER BY priority DESC, id")
        .await
}

async fn read_in_order(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    let mut read = Vec::new();
    // By different numbers, so that batches end in the middle of tables and priorities.
    for quantity in [1, 2, 7, 30, 1, 5].into_iter().cycle() {
        let hands = c.hands(&format!("'q', {quantity}, '1 hour'")).await;
        if hands.is_empty() {
            break;
        }
        read.extend(hands.iter().map(|hand| hand.id));
    }
    assert_eq!(read, spread.order);
    let bare = "SELECT string_agg(DISTINCT attempts::text, ' ' ORDER BY attempts::text) FROM mq.q";
    assert_eq!(c.text(bare).await, "1 2");
}

async fn looked_at(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    assert_eq!(order(&c).await, spread.order);
    for id in spread.samples() {
        let got = c.text(&format!("SELECT (mq.get('q', {id})).id")).await;
        assert_eq!(got, id.to_string());
        let same =
            "SELECT to_jsonb(mq.get('q', id)) - 'receipt' = to_jsonb(v) - 'receipt' FROM mq.q v";
        assert!(c.yes(&format!("{same} WHERE id = {id}")).await, "{id}");
    }
    let last = spread.order.iter().max().unwrap();
    let gone =
        format!("SELECT n FROM generate_series(1, {last}) n WHERE (mq.get('q', n)).id IS NULL");
    let gone = c.ints(&gone).await;
    assert!(!gone.is_empty() && gone.iter().all(|id| !spread.order.contains(id)));
    // Joins, aggregates, and conditions on the payload.
    let twice = "SELECT count(*) FROM mq.q a JOIN mq.q b USING (id)";
    assert_eq!(c.int(twice).await as usize, spread.order.len());
    let by_body = "SELECT count(*) FROM mq.q WHERE (body #>> '{}')::int BETWEEN 1 AND 16";
    assert_eq!(c.int(by_body).await as usize, spread.order.len());
}

async fn counted(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    let all = spread.order.len();
    let told = "SELECT concat_ws(' ', ready, delayed, leased) FROM mq.metrics WHERE queue = 'q'";
    assert_eq!(c.text(told).await, format!("{all} 0 0"));
    let hands = c.hands("'q', 30, '1 hour'").await;
    assert_eq!(c.text(told).await, format!("{} 0 30", all - 30));
    for hand in &hands[..10] {
        let call = format!(
            "SELECT mq.nack('q', {}, {}, '1 hour')",
            hand.id, hand.receipt
        );
        assert!(c.yes(&call).await);
    }
    assert_eq!(c.text(told).await, format!("{} 10 20", all - 30));
    let age = "SELECT abs(extract(epoch FROM oldest_ready_age - (clock_timestamp() - \
               (SELECT min(enqueued_at) FROM mq.q WHERE state = 'ready')))) < 1 FROM mq.metrics WHERE queue = 'q'";
    assert!(c.yes(age).await);
    let rest = c.hands("'q', 100000, '1 hour'").await;
    assert_eq!(c.text(told).await, format!("0 10 {}", all - 10));
    for hand in &rest {
        assert!(c.settle("ack", "q", hand).await);
    }
    c.run("SELECT mq.maintain('q')").await;
    assert_eq!(c.text(told).await, "0 10 20");
}

async fn deleted(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    let some = spread.samples();
    for id in &some {
        assert!(c.yes(&format!("SELECT mq.delete('q', {id})")).await);
        assert!(!c.yes(&format!("SELECT mq.delete('q', {id})")).await);
    }
    assert_eq!(order(&c).await, without(&spread.order, &some));
    let rest = without(&spread.order, &some);
    let call = format!("SELECT mq.delete_batch('q', {})", list(&rest));
    assert_eq!(c.ints(&call).await, rest);
    assert_eq!(order(&c).await, NONE);
    drained(&c, "q").await;
}

async fn changed_through_the_view(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    let some = spread.samples();
    let change = format!(
        "UPDATE mq.q SET body = '\"new\"' WHERE id = ANY ({}) RETURNING id",
        list(&some)
    );
    let mut changed = c.ints(&change).await;
    changed.sort();
    let mut wanted = some.clone();
    wanted.sort();
    assert_eq!(changed, wanted);
    let now = c
        .ints("SELECT id FROM mq.q WHERE body = '\"new\"' ORDER BY id")
        .await;
    assert_eq!(now, wanted);
    assert_eq!(order(&c).await, spread.order);
    let all = format!(
        "UPDATE mq.q SET priority = 3 WHERE id = ANY ({}) RETURNING id",
        list(&some)
    );
    assert_eq!(c.ints(&all).await.len(), some.len());
    let mut threes = c.ints("SELECT id FROM mq.q WHERE priority = 3").await;
    threes.sort();
    assert!(some.iter().all(|id| threes.contains(id)));
    // A leased one is nobody's to change.
    c.run("SELECT mq.read('q', 1, '1 hour')").await;
    c.refused("UPDATE mq.q SET body = '0' WHERE state = 'leased'", "55006")
        .await;
}

async fn deleted_through_the_view(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    let some = spread.samples();
    let mut gone = c
        .ints(&format!(
            "DELETE FROM mq.q WHERE id = ANY ({}) RETURNING id",
            list(&some)
        ))
        .await;
    gone.sort();
    let mut wanted = some.clone();
    wanted.sort();
    assert_eq!(gone, wanted);
    assert_eq!(order(&c).await, without(&spread.order, &some));
    c.run("BEGIN; DELETE FROM mq.q").await;
    assert_eq!(order(&c).await, NONE);
    c.run("ROLLBACK").await;
    assert_eq!(order(&c).await, without(&spread.order, &some));
    c.run("DELETE FROM mq.q").await;
    drained(&c, "q").await;
}

async fn purged(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    assert_eq!(
        c.int("SELECT mq.purge_queue('q')").await as usize,
        spread.order.len()
    );
    assert_eq!(order(&c).await, NONE);
    assert_eq!(c.hands("'q', 100").await, []);
    drained(&c, "q").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    traffic.turns(3).await;
    traffic.finish().await;
}

/// Each verb on a message of each place.
async fn settled_in_every_way(cx: Cx) {
    let (c, spread) = queue(&cx, ", max_failures => 50").await;
    let some = spread.samples();
    let taken = c.hands("'q', 100000, '1 hour'").await;
    assert_eq!(taken.len(), spread.order.len());
    let hand = |id: i64| taken.iter().find(|hand| hand.id == id).unwrap();
    for hand in some.iter().map(|id| hand(*id)) {
        let (id, receipt) = (hand.id, hand.receipt);
        let state =
            format!("SELECT concat_ws(' ', state, attempts, failures) FROM mq.q WHERE id = {id}");
        let attempts = hand.attempts;
        let call = format!(
            "SELECT mq.extend('q', {id}, {receipt}, '2 hours') > clock_timestamp() + interval '119 min'"
        );
        assert!(c.yes(&call).await);
        assert!(
            !c.yes(&format!("SELECT mq.ack('q', {id}, {})", receipt + 1))
                .await,
            "the fence"
        );
        assert!(
            c.yes(&format!("SELECT mq.nack('q', {id}, {receipt}, '1 hour')"))
                .await
        );
        assert_eq!(c.text(&state).await, format!("delayed {attempts} 1"));
        assert!(!c.settle("ack", "q", hand).await, "an old receipt");
    }
    let rest: Vec<_> = taken
        .iter()
        .filter(|hand| !some.contains(&hand.id))
        .collect();
    for (n, hand) in rest.iter().enumerate() {
        let verb = ["ack", "release", "reject", "archive"][n % 4];
        assert!(c.settle(verb, "q", hand).await, "{verb} {hand:?}");
        assert!(!c.settle(verb, "q", hand).await, "{verb} twice {hand:?}");
    }
    let has = |verb: usize| (0..rest.len()).filter(|n| n % 4 == verb).count() as i64;
    assert_eq!(c.int("SELECT count(*) FROM mq.q_dead").await, has(2));
    assert_eq!(c.int("SELECT count(*) FROM mq.q_archive").await, has(3));
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q WHERE state = 'ready'")
            .await,
        has(1)
    );
}

async fn archived(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    let some = spread.samples();
    let before = "SELECT string_agg(id || ' ' || body || ' ' || priority, ', ' ORDER BY id)";
    let rows = c.text(&format!("{before} FROM mq.q")).await;
    let taken = c.hands("'q', 100000, '1 hour'").await;
    let ids: Vec<i64> = taken.iter().map(|hand| hand.id).collect();
    let receipts: Vec<i64> = taken.iter().map(|hand| hand.receipt).collect();
    let call = format!(
        "SELECT mq.archive_batch('q', {}, {})",
        list(&ids),
        list(&receipts)
    );
    assert_eq!(c.ints(&call).await, ids);
    assert_eq!(c.text(&format!("{before} FROM mq.q_archive")).await, rows);
    assert!(ids.len() > some.len());
    drained(&c, "q").await;
    assert_eq!(c.text(&format!("{before} FROM mq.q_archive")).await, rows);
}

async fn renamed(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    c.run("SELECT mq.rename_queue('q', 'r')").await;
    let ids = c
        .ints("SELECT id FROM mq.r ORDER BY priority DESC, id")
        .await;
    assert_eq!(ids, spread.order);
    assert_eq!(space::parts(&c, "q").await, []);
    assert!(space::segments(&c, "r").await.len() >= 3);
    let hands = c.hands("'r', 3, '1 us'").await;
    assert_eq!(
        hands.iter().map(|hand| hand.id).collect::<Vec<_>>(),
        spread.order[..3]
    );
    drained(&c, "r").await;
    let mut traffic = Traffic::new(c, "r", Upkeep::Calls).await;
    traffic.turns(5).await;
    traffic.finish().await;
}

async fn paused(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    c.run("SELECT mq.pause('q')").await;
    assert_eq!(c.hands("'q', 10").await, []);
    // A pause does not hold back space, nor does upkeep hand anything out.
    c.run("SELECT mq.maintain('q')").await;
    assert_eq!(c.hands("'q', 10").await, []);
    assert_eq!(order(&c).await, spread.order);
    c.run("SELECT mq.resume('q')").await;
    let hands = c.hands("'q', 100000, '1 hour'").await;
    assert_eq!(
        hands.iter().map(|hand| hand.id).collect::<Vec<_>>(),
        spread.order
    );
}

async fn redriven(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    space::create(&c, "other", LEAST, "").await;
    let some = spread.samples();
    let call = format!("SELECT mq.redrive('q', 'other', {})", list(&some));
    assert_eq!(c.int(&call).await as usize, some.len());
    assert_eq!(order(&c).await, without(&spread.order, &some));
    let rest = (spread.order.len() - some.len()) as i64;
    assert_eq!(
        c.int("SELECT mq.redrive('q', 'other', max => 10)").await,
        10
    );
    assert_eq!(c.int("SELECT mq.redrive('q', 'other')").await, rest - 10);
    assert_eq!(order(&c).await, NONE);
    let there = c.int("SELECT count(*) FROM mq.other").await;
    assert_eq!(there as usize, spread.order.len());
    drained(&c, "q").await;
}

/// The last failure takes a message out of wherever it lies, and back.
async fn dead_lettered(cx: Cx) {
    let (c, spread) = queue(&cx, ", max_failures => 1").await;
    c.run(&format!(
        "SELECT mq.alter_queue('q_dead', segment_size => {LEAST})"
    ))
    .await;
    for hand in c.hands("'q', 100000, '1 hour'").await {
        assert!(c.settle("nack", "q", &hand).await);
    }
    assert_eq!(order(&c).await, NONE);
    let dead = "SELECT count(*) FROM mq.q_dead";
    assert_eq!(c.int(dead).await as usize, spread.order.len());
    c.run("SELECT mq.maintain()").await;
    assert_eq!(
        c.int("SELECT mq.redrive('q_dead')").await as usize,
        spread.order.len()
    );
    assert_eq!(c.int(dead).await, 0);
    assert_eq!(order(&c).await.len(), spread.order.len());
    drained(&c, "q").await;
    drained(&c, "q_dead").await;
}

/// The winner is found though it was moved, and a key is free when the message is gone.
async fn deduplicated(cx: Cx) {
    let c = space::quiet(&cx).await.connect().await;
    space::create(&c, "q", LEAST, ", dedup_window => '1000 years'").await;
    let parked = c
        .int("SELECT mq.send('q', '0', dedup_key => 'early', delay => '1 hour')")
        .await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    traffic.turns(3).await;
    let c = &traffic.c;
    let late = c
        .int("SELECT mq.send('q', '0', dedup_key => 'middle', delay => '1 hour')")
        .await;
    traffic.turns(6).await;
    let c = &traffic.c;
    for (key, id) in [("early", parked), ("middle", late)] {
        let place = &space::places(c, "q").await[&id];
        assert!(!space::is_segment(place), "{key} is still in {place}");
        let again = format!("SELECT mq.send('q', '1', dedup_key => '{key}')");
        assert_eq!(c.int(&again).await, id, "{key}");
        let batch = format!(
            "SELECT mq.send_batch('q', ARRAY['1', '2']::jsonb[], dedup_keys => ARRAY['{key}', '{key}'])"
        );
        assert_eq!(c.ints(&batch).await, [id, id], "{key}");
        assert!(c.yes(&format!("SELECT mq.delete('q', {id})")).await);
        let new = c.int(&again).await;
        assert!(new > id, "{key}: {new}");
        traffic.sent.insert(new);
    }
    traffic.finish().await;
}

async fn full(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    let all = spread.order.len();
    c.run(&format!("SELECT mq.alter_queue('q', max_length => {all})"))
        .await;
    c.refused("SELECT mq.send('q', '1')", "53400").await;
    for id in spread.samples() {
        assert!(c.yes(&format!("SELECT mq.delete('q', {id})")).await);
        c.send("q", 1).await;
        c.refused("SELECT mq.send('q', '1')", "53400").await;
    }
    assert_eq!(order(&c).await.len(), all);
}

async fn dropped_oldest(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    let all = spread.order.len();
    c.run(&format!(
        "SELECT mq.alter_queue('q', max_length => {all}, overflow => 'drop_oldest')"
    ))
    .await;
    let mut by_age = spread.order.clone();
    by_age.sort();
    for n in 0..spread.moved.len() + 3 {
        let new = c.send("q", n).await;
        assert!(
            !c.yes(&format!(
                "SELECT count(*) > 0 FROM mq.q WHERE id = {}",
                by_age[n]
            ))
            .await,
            "{n}"
        );
        by_age.push(new);
    }
    assert_eq!(order(&c).await.len(), all);
    let left = c.ints("SELECT id FROM mq.q ORDER BY id").await;
    assert_eq!(left, by_age[spread.moved.len() + 3..]);
}

async fn expired(cx: Cx) {
    let (c, spread) = queue(&cx, "").await;
    let some = spread.samples();
    let over = format!(
        "UPDATE mq.q SET expires_at = clock_timestamp() WHERE id = ANY ({})",
        list(&some)
    );
    c.run(&over).await;
    let states = format!(
        "SELECT string_agg(DISTINCT state, ' ') FROM mq.q WHERE id = ANY ({})",
        list(&some)
    );
    assert!(["expired", "NULL"].contains(&c.text(&states).await.as_str()));
    let hands = c.hands("'q', 100000, '1 hour'").await;
    let ids: Vec<i64> = hands.iter().map(|hand| hand.id).collect();
    assert_eq!(ids, without(&spread.order, &some));
    c.until(&format!(
        "SELECT mq.maintain('q') = 0 AND count(*) = 0 FROM mq.q WHERE id = ANY ({})",
        list(&some)
    ))
    .await;
    let told = "SELECT expired FROM mq.metrics WHERE queue = 'q'";
    assert_eq!(c.int(told).await as usize, some.len());
}
