//! The account of the ledger: every order handled, none out of nothing, every duplicate explained.

use crate::conn::Conn;
use crate::ledger::{End, Entry, LEASE, Ledger};
use std::collections::HashSet;
use std::time::{Duration, Instant};

pub async fn account(admin: &Conn, ledger: &Ledger, least_crashes: usize) {
    let orders: HashSet<u64> = admin
        .ints("SELECT id FROM orders")
        .await
        .into_iter()
        .map(|id| id as u64)
        .collect();
    let done: HashSet<u64> = admin
        .ints("SELECT id FROM done")
        .await
        .into_iter()
        .map(|id| id as u64)
        .collect();
    let entries = ledger.entries.lock().unwrap();
    let crashes = ledger.crashes.lock().unwrap();
    assert!(
        orders.len() > 100 && crashes.len() >= least_crashes,
        "{} orders, {} crashes",
        orders.len(),
        crashes.len()
    );
    for key in &orders {
        let of = entries.get(key).map_or(&[][..], |of| of.as_slice());
        let handled = done.contains(key)
            || of
                .iter()
                .any(|e| matches!(e.end, End::Acked | End::Unknown));
        assert!(
            handled,
            "order {key} was committed and never handled: {of:?}"
        );
    }
    let rolled_back = ledger.rolled_back.lock().unwrap();
    let mut again = 0;
    for (key, of) in entries.iter() {
        assert!(
            !rolled_back.contains(key),
            "{key} was rolled back, and handed out: {of:?}"
        );
        assert!(
            orders.contains(key),
            "{key} was never committed, and handed out: {of:?}"
        );
        let receipts: Vec<i64> = of
            .iter()
            .map(|e| e.hand.receipt)
            .filter(|r| *r != 0)
            .collect();
        let different: HashSet<&i64> = receipts.iter().collect();
        assert_eq!(
            different.len(),
            receipts.len(),
            "{key}: a receipt was given twice"
        );
        let acked = of.iter().filter(|e| e.end == End::Acked).count();
        assert!(acked <= 1, "{key} was acked {acked} times: {of:?}");
        let mut of: Vec<&Entry> = of.iter().collect();
        of.sort_by_key(|e| e.at);
        for pair in of.windows(2) {
            again += 1;
            explained(*key, pair[0], pair[1], &crashes);
        }
    }
    println!(
        "      ledger: {} orders, {} hand-outs, {again} redeliveries, {} crashes",
        orders.len(),
        entries.values().map(Vec::len).sum::<usize>(),
        crashes.len()
    );
}

/// A message is handed out again only after a nack, an ended lease, or a crash in between.
fn explained(key: u64, first: &Entry, second: &Entry, crashes: &[(Instant, Instant)]) {
    // Reading a hand-out off the wire takes a moment on both sides.
    let slack = Duration::from_millis(400);
    let crashed = crashes
        .iter()
        .any(|(from, to)| *to + slack > first.at && *from < second.at + slack);
    let lease_over = second.at + slack > first.at + LEASE;
    match first.end {
        End::Acked => panic!("{key} was acked, and handed out again: {first:?} {second:?}"),
        End::Nacked => {}
        End::Silent | End::TooLate => {
            assert!(
                lease_over || crashed,
                "{key} was handed out twice: {first:?} {second:?}"
            );
        }
        End::Unknown => {
            let gave_up = second.at + slack > first.over;
            assert!(
                lease_over || crashed || gave_up,
                "{key} without a reason: {first:?} {second:?}"
            );
        }
    }
}
