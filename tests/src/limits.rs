//! What a queue limits: its length, the age of messages, their failures, their size.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::tests;

tests![
    reject_at_max_length,
    reject_under_concurrency,
    drop_oldest,
    drop_oldest_under_concurrency,
    open_sends_are_the_bound,
    sizes
];

pub async fn queue(cx: &Cx, options: &str) -> Conn {
    let c = cx.connect().await;
    c.run(&format!("SELECT mq.create_queue('q'{options})"))
        .await;
    c.never_wait().await;
    c
}

async fn reject_at_max_length(cx: Cx) {
    let c = queue(&cx, ", max_length => 3").await;
    c.run("SELECT mq.send('q', '1'); SELECT mq.send('q', '2', delay => '1 hour')")
        .await;
    c.send("q", 3).await;
    let hand = c.hand("'q', 1, '1 hour'").await;
    let no = c.refused("SELECT mq.send('q', '4')", "53400").await;
    assert!(no.message.contains('q') && !no.hint.is_empty(), "{no:?}");
    c.refused("INSERT INTO mq.q (body) VALUES ('4')", "53400")
        .await;
    c.refused("SELECT mq.send_batch('q', ARRAY['4']::jsonb[])", "53400")
        .await;
    assert!(c.settle("ack", "q", &hand).await);
    c.refused(
        "SELECT mq.send_batch('q', ARRAY['4', '5']::jsonb[])",
        "53400",
    )
    .await;
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q").await,
        2,
        "a batch is sent whole or not"
    );
    c.send("q", 4).await;
    c.run("SELECT mq.alter_queue('q', max_length => 5); BEGIN")
        .await;
    c.send("q", 5).await;
    c.send("q", 6).await;
    c.refused("SELECT mq.send('q', '7')", "53400").await;
    c.run("ROLLBACK; SELECT mq.alter_queue('q', reset => ARRAY['max_length'])")
        .await;
    c.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 10) n")
        .await;
}

/// Several sessions send until each has tried this often; returns how many were refused.
async fn crowd(cx: &Cx, sessions: usize, sends: usize) -> usize {
    let mut senders = Vec::new();
    for _ in 0..sessions {
        let cx = cx.clone();
        senders.push(spawn(async move {
            let (c, mut refused) = (cx.connect().await, 0);
            c.never_wait().await;
            for n in 0..sends {
                match c.cells(&format!("SELECT mq.send('q', '{n}')")).await {
                    Ok(_) => {}
                    Err(no) if no.code == "53400" => refused += 1,
                    Err(no) => panic!("{no:?}"),
                }
            }
            refused
        }));
    }
    let mut refused = 0;
    for sender in senders {
        refused += sender.await.unwrap();
    }
    refused
}

async fn reject_under_concurrency(cx: Cx) {
    let c = queue(&cx, ", max_length => 50").await;
    let refused = crowd(&cx, 6, 30).await as i64;
    let kept = c.int("SELECT count(*) FROM mq.q").await;
    assert_eq!(kept + refused, 180);
    assert!(
        (50..=55).contains(&kept),
        "{kept}: at most one more for each other open sender"
    );
    c.refused("SELECT mq.send('q', '1')", "53400").await;
}

async fn drop_oldest(cx: Cx) {
    let c = queue(&cx, ", max_length => 4, overflow => 'drop_oldest'").await;
    let ids = c
        .ints("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 7) n")
        .await;
    assert_eq!(c.ints("SELECT id FROM mq.q ORDER BY id").await, ids[3..]);
    let hands = c.hands("'q', 2, '1 hour'").await;
    let new = [c.send("q", 8).await, c.send("q", 9).await];
    let kept = c.ints("SELECT id FROM mq.q ORDER BY id").await;
    assert_eq!(
        kept,
        [hands[0].id, hands[1].id, new[0], new[1]],
        "what is leased stays"
    );
    c.run("SELECT mq.create_queue('grave'); SELECT mq.alter_queue('q', dead_letter => 'grave')")
        .await;
    let last = c.send("q", 10).await;
    assert_eq!(
        c.ints("SELECT id FROM mq.q ORDER BY id").await,
        [hands[0].id, hands[1].id, new[1], last]
    );
    let why = "SELECT (headers->'x-death'->0->>'reason') || ' ' || body FROM mq.grave";
    assert_eq!(c.text(why).await, "max_length 8");
}

async fn drop_oldest_under_concurrency(cx: Cx) {
    let c = queue(&cx, ", max_length => 20, overflow => 'drop_oldest'").await;
    assert_eq!(crowd(&cx, 5, 40).await, 0);
    let kept = c.int("SELECT count(*) FROM mq.q").await;
    assert!(
        (20..=24).contains(&kept),
        "{kept}: at most one more for each other open sender"
    );
    c.send("q", 1).await;
    assert!(c.int("SELECT count(*) FROM mq.q").await <= kept);
    assert_eq!(
        c.hands("'q', 1000").await.len() as i64,
        c.int("SELECT count(*) FROM mq.q").await
    );
}

/// What other open transactions have sent is not seen: that is the bound, and nobody waits.
async fn open_sends_are_the_bound(cx: Cx) {
    let a = queue(&cx, ", max_length => 5").await;
    let b = cx.connect().await;
    b.never_wait().await;
    a.run("BEGIN; SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 4) n")
        .await;
    b.run("BEGIN; SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 5) n")
        .await;
    b.refused("SELECT mq.send('q', '6')", "53400").await;
    b.run("ROLLBACK; BEGIN; SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 5) n; COMMIT")
        .await;
    a.refused("SELECT mq.send('q', '5')", "53400").await;
    a.run("ROLLBACK; SELECT mq.purge_queue('q')").await;
    a.run("SELECT mq.alter_queue('q', overflow => 'drop_oldest')")
        .await;
    b.run("SELECT mq.send('q', to_jsonb(n)) FROM generate_series(1, 5) n")
        .await;
    a.run("BEGIN").await;
    a.send("q", 6).await;
    b.send("q", 7).await;
    b.send("q", 8).await;
    a.run("COMMIT").await;
    let kept = b.int("SELECT count(*) FROM mq.q").await;
    assert!((5..=6).contains(&kept), "{kept}");
}

async fn sizes(cx: Cx) {
    let c = queue(&cx, ", max_bytes => 1000").await;
    c.run("SELECT mq.send_text('q', repeat('x', 900)), mq.send_bytes('q', decode(repeat('00', 1000), 'hex'))").await;
    let no = c
        .refused(
            "SELECT mq.send_bytes('q', decode(repeat('00', 1001), 'hex'))",
            "54000",
        )
        .await;
    assert!(no.message.contains('q') && !no.hint.is_empty(), "{no:?}");
    c.refused("SELECT mq.send_text('q', repeat('x', 2000))", "54000")
        .await;
    c.refused(
        "SELECT mq.send('q', '1', jsonb_build_object('h', repeat('x', 2000)))",
        "54000",
    )
    .await;
    c.run("SELECT mq.alter_queue('q', reset => ARRAY['max_bytes'])")
        .await;
    c.run("SELECT mq.send_bytes('q', decode(repeat('00', 1048576), 'hex'))")
        .await;
    c.refused(
        "SELECT mq.send_bytes('q', decode(repeat('00', 1048577), 'hex'))",
        "54000",
    )
    .await;
    c.run("SELECT mq.send('q', (repeat('[', 2000) || repeat(']', 2000))::jsonb)")
        .await;
    let sizes = c
        .ints("SELECT coalesce(octet_length(data), octet_length(body::text)) FROM mq.read('q', 10)")
        .await;
    assert_eq!(sizes, [902, 1000, 1048576, 4000]);
}
