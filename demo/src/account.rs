//! The account at the end: what the shop committed against what the consumers did, and every
//! redelivery with its reason. Nothing is taken on trust: the effects are counted in the database.

use crate::book::{Book, Cause};
use crate::trouble::Result;
use crate::voice::{BOLD, GREEN, RED, Voice};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

pub struct Ledger<'a> {
    pub committed: &'a [i64],
    pub rolled_back: &'a [i64],
    pub lease: &'a str,
}

/// What the database says.
pub struct Facts {
    orders: Vec<i64>,
    shipments: Vec<i64>,
    left: i64,
    dead: i64,
}

pub fn check(facts: &Facts, book: &Book, ledger: &Ledger, voice: &Voice) -> bool {
    voice.heading("The account");
    let mut sum = Sum { voice, wrong: 0 };
    the_orders(facts, book, ledger, &mut sum);
    the_redeliveries(book, ledger, &mut sum);
    voice.line("");
    let wrong = sum.wrong;
    voice.line(&match wrong {
        0 => voice.paint(GREEN, "Everything adds up."),
        1 => voice.paint(RED, "One thing does not add up."),
        n => voice.paint(RED, &format!("{n} things do not add up.")),
    });
    wrong == 0
}

pub async fn facts(client: &Client) -> Result<Facts> {
    // One snapshot for all of it.
    let sql = "SELECT (SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM shop.orders),
                      (SELECT coalesce(array_agg(order_id), '{}') FROM shop.shipments),
                      (SELECT count(*) FROM mq.orders),
                      (SELECT count(*) FROM mq.orders_dead)";
    let row = client.query_one(sql, &[]).await?;
    Ok(Facts {
        orders: row.get(0),
        shipments: row.get(1),
        left: row.get(2),
        dead: row.get(3),
    })
}

struct Sum<'a> {
    voice: &'a Voice,
    wrong: usize,
}

impl Sum<'_> {
    fn entry(&mut self, right: bool, text: &str) {
        let mark = if right {
            self.voice.paint(GREEN, "ok ")
        } else {
            self.wrong += 1;
            self.voice.paint(RED, "BAD")
        };
        self.voice.line(&format!("  {mark} {text}"));
    }
}

fn the_orders(facts: &Facts, book: &Book, ledger: &Ledger, sum: &mut Sum) {
    let committed: BTreeSet<i64> = ledger.committed.iter().copied().collect();
    let rolled_back: BTreeSet<i64> = ledger.rolled_back.iter().copied().collect();
    sum.entry(
        facts.orders.iter().copied().eq(committed.iter().copied()),
        &format!(
            "{} orders committed, {} rolled back",
            committed.len(),
            rolled_back.len()
        ),
    );

    let mut shipped: BTreeMap<i64, usize> = BTreeMap::new();
    for order in &facts.shipments {
        *shipped.entry(*order).or_default() += 1;
    }
    let missing: Vec<_> = committed
        .iter()
        .filter(|o| !shipped.contains_key(o))
        .collect();
    sum.entry(
        missing.is_empty(),
        &match missing.len() {
            0 => "every one of them shipped".to_owned(),
            n => format!("{n} never shipped: {missing:?}"),
        },
    );
    let twice: Vec<_> = shipped
        .iter()
        .filter(|(_, n)| **n > 1)
        .map(|(o, _)| o)
        .collect();
    sum.entry(
        twice.is_empty(),
        &match twice.len() {
            0 => "and shipped exactly once".to_owned(),
            n => format!("{n} shipped more than once: {twice:?}"),
        },
    );

    let seen: BTreeSet<i64> = book
        .handouts
        .iter()
        .map(|h| h.order)
        .chain(facts.shipments.iter().copied())
        .collect();
    let ghosts: Vec<_> = seen.difference(&committed).collect();
    sum.entry(
        ghosts.is_empty(),
        &match ghosts.len() {
            0 => "none from a rolled-back transaction was ever handed out".to_owned(),
            n => format!("{n} handed out or shipped that were never committed: {ghosts:?}"),
        },
    );
    sum.entry(
        facts.left == 0 && facts.dead == 0,
        &format!(
            "left in mq.orders: {}, in mq.orders_dead: {}",
            facts.left, facts.dead
        ),
    );
    if !book.noise.is_empty() {
        sum.entry(
            false,
            &format!(
                "the consumers said what nobody understood: {:?}",
                book.noise
            ),
        );
    }
}

fn the_redeliveries(book: &Book, ledger: &Ledger, sum: &mut Sum) {
    let mut causes: BTreeMap<&Cause, Vec<i64>> = BTreeMap::new();
    for handout in &book.handouts {
        if let Some(cause) = &handout.cause {
            causes.entry(cause).or_default().push(handout.order);
        }
    }
    let again: usize = causes.values().map(Vec::len).sum();
    let text = format!(
        "{} hand-outs: {} first ones and {again} redeliveries, because", //
        book.handouts.len(),
        book.handouts.len() - again
    );
    sum.voice
        .line(&format!("      {}", sum.voice.paint(BOLD, &text)));
    for (cause, orders) in &causes {
        let text = format!("{}: {}", count(orders), cause.at_length(ledger.lease));
        sum.entry(**cause != Cause::Unexplained, &text);
    }
    // What the story set out to show must have happened.
    let expected = [
        (
            causes.keys().any(|c| matches!(c, Cause::KilledHolding(_))),
            "killed while leasing",
        ),
        (
            causes
                .keys()
                .any(|c| matches!(c, Cause::KilledInTransaction(_))),
            "killed while popping",
        ),
        (
            causes.contains_key(&Cause::Failed),
            "a retry after a failure",
        ),
        (
            causes.contains_key(&Cause::Redriven),
            "a return from the dead-letter queue",
        ),
    ];
    for (_, what) in expected.iter().filter(|(happened, _)| !happened) {
        sum.entry(false, &format!("no redelivery at all for: {what}"));
    }
}

/// `3 (orders 4, 5, 6)`
fn count(orders: &[i64]) -> String {
    let different: BTreeSet<i64> = orders.iter().copied().collect();
    let names: Vec<String> = different.iter().map(i64::to_string).collect();
    let noun = if names.len() == 1 { "order" } else { "orders" };
    format!("{} ({noun} {})", orders.len(), names.join(", "))
}

impl Cause {
    fn at_length(&self, lease: &str) -> String {
        match self {
            Cause::KilledHolding(who) => {
                format!("{who} was killed holding them; back when the lease of {lease} ended")
            }
            Cause::KilledInTransaction(who) => {
                format!("{who} was killed inside the transaction that popped it; back at once")
            }
            Cause::Failed => "failed, and tried again after the backoff".to_owned(),
            Cause::Redriven => "repaired in the dead-letter queue and redriven".to_owned(),
            Cause::LeaseEnded(who) => {
                format!("{who} was slower than the lease of {lease}; the late ack was refused")
            }
            Cause::Unexplained => "nothing that happened explains it".to_owned(),
        }
    }
}
