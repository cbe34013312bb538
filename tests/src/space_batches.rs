//! Calls with many ids, while some of the messages are on the move.

use crate::conn::{Conn, Hand};
use crate::harness::{Cx, spawn};
use crate::space::{self, LEAST};
use crate::tests;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

tests![batches_over_moves];

const WORK: Duration = Duration::from_secs(8);

/// A call with many ids sees one snapshot: what is moved after that is found all the same, and what
/// is on the move is waited for.
async fn batches_over_moves(cx: Cx) {
    let cx = space::working(&cx).await;
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let held: Arc<Mutex<Vec<Hand>>> = Arc::default();
    let over = Arc::new(AtomicBool::new(false));
    let holder = {
        let (c, held, over) = (cx.connect().await, held.clone(), over.clone());
        spawn(async move {
            let mut calls = 0;
            while !over.load(Ordering::SeqCst) {
                let hands = held.lock().unwrap().clone();
                all_by(&c, "extend_batch", &hands).await;
                calls += 1;
            }
            calls
        })
    };
    let began = Instant::now();
    while began.elapsed() < WORK / 2 && !holder.is_finished() {
        c.run(&format!(
            "SELECT mq.send_batch('q', (SELECT array_agg('1'::jsonb) FROM generate_series(1, {LEAST})))"
        ))
        .await;
        let mut hands = c.hands(&format!("'q', {LEAST}, '1 hour'")).await;
        let kept = hands.split_off(hands.len() - hands.len() / 6);
        all_by(&c, "ack_batch", &hands).await;
        held.lock().unwrap().extend(kept);
    }
    over.store(true, Ordering::SeqCst);
    let calls = holder.await.expect("the holder");
    let hands = held.lock().unwrap().clone();
    println!("      parking: {} held, {calls} batches", hands.len());
    assert!(
        hands.len() > 300 && calls > 20,
        "{} held, {calls} batches",
        hands.len()
    );
    all_by(&c, "ack_batch", &hands).await;
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0);
}

/// Settles all at once, or the test fails.
async fn all_by(c: &Conn, verb: &str, hands: &[Hand]) {
    if hands.is_empty() {
        return;
    }
    let list = |of: fn(&Hand) -> i64| {
        let texts: Vec<String> = hands.iter().map(|hand| of(hand).to_string()).collect();
        texts.join(", ")
    };
    let (ids, receipts) = (list(|hand| hand.id), list(|hand| hand.receipt));
    let call =
        format!("SELECT mq.{verb}('q', ARRAY[{ids}]::bigint[], ARRAY[{receipts}]::bigint[])");
    let mut missed: Vec<i64> = hands.iter().map(|hand| hand.id).collect();
    let done: HashSet<i64> = c.ints(&call).await.into_iter().collect();
    missed.retain(|id| !done.contains(id));
    assert!(
        missed.is_empty(),
        "{verb} of {}: not {missed:?}",
        hands.len()
    );
}
