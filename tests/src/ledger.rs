//! Nothing committed is ever lost, nothing rolled back is ever seen, and every duplicate has a
//! reason, while the server is killed with -9 again and again for `LEDGER_SECONDS` (default 40).
//!
//! Producers write an order and send its number in one transaction. Consumers ack, fail, vanish,
//! dawdle past their lease, or do the work in the transaction that pops. Every hand-out goes into
//! a ledger on this side of the connection; the account is made at the end. The same load is on a
//! server whose standby takes over: see `promotion`.

use crate::account::account;
use crate::conn::{Conn, Hand, Refusal};
use crate::harness::{Cx, spawn};
use crate::rng::{Rng, seed};
use crate::server::Server;
use crate::tests;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

tests![killed_again_and_again, killed_without_hints];

pub const LEASE: Duration = Duration::from_millis(1500);

pub const DB: &str = "mq_template";

/// What ended a hand-out, as far as this side knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// Still in hand, or the client let go without a word: only the end of its lease gives it back.
    Silent,
    Acked,
    Nacked,
    /// An answer that never came, or a transaction that did not commit.
    Unknown,
    /// The settling call said that the hand-out was over.
    TooLate,
}

#[derive(Debug)]
pub struct Entry {
    pub hand: Hand,
    pub at: Instant,
    pub over: Instant,
    pub end: End,
}

#[derive(Default)]
pub struct Ledger {
    pub entries: Mutex<HashMap<u64, Vec<Entry>>>,
    pub rolled_back: Mutex<HashSet<u64>>,
    pub crashes: Mutex<Vec<(Instant, Instant)>>,
    /// Where the server is that clients turn to.
    pub port: AtomicU16,
    next: AtomicU64,
    producing: AtomicBool,
    over: AtomicBool,
}

impl Ledger {
    fn key(hand: &Hand) -> u64 {
        hand.body.parse().expect("a number")
    }

    /// A number that no order had yet.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// Writes hand-outs down; returns the place of each.
    pub fn handed(&self, hands: &[Hand]) -> Vec<Place> {
        let mut entries = self.entries.lock().unwrap();
        let now = Instant::now();
        let mut note = |hand: &Hand| {
            let of = entries.entry(Ledger::key(hand)).or_default();
            of.push(Entry {
                hand: hand.clone(),
                at: now,
                over: now,
                end: End::Silent,
            });
            (Ledger::key(hand), of.len() - 1)
        };
        hands.iter().map(&mut note).collect()
    }

    pub fn ended(&self, (key, n): Place, end: End) {
        let mut entries = self.entries.lock().unwrap();
        let entry = &mut entries.get_mut(&key).expect("a hand-out")[n];
        entry.end = end;
        entry.over = Instant::now();
    }
}

/// Where an entry is: the order's number, and which of its hand-outs.
pub type Place = (u64, usize);

/// A connection to a server that is often down; `None` when the test is over.
pub async fn reach(ledger: &Ledger) -> Option<Conn> {
    while !ledger.over.load(Ordering::SeqCst) {
        let port = ledger.port.load(Ordering::SeqCst);
        let attempt = Conn::try_open(port, DB, "postgres");
        if let Ok(Ok(conn)) = tokio::time::timeout(Duration::from_secs(5), attempt).await {
            return Some(conn);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

async fn produce(ledger: Arc<Ledger>, n: u64) {
    let mut rng = Rng::new(n);
    while ledger.producing.load(Ordering::SeqCst) {
        let Some(conn) = reach(&ledger).await else {
            return;
        };
        while ledger.producing.load(Ordering::SeqCst) {
            let key = ledger.number();
            let rollback = rng.one_in(4);
            if rollback {
                ledger.rolled_back.lock().unwrap().insert(key);
            }
            if order(&conn, key, &mut rng, rollback).await.is_err() {
                break;
            }
            // Orders come at a rate that the consumers can follow.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn order(conn: &Conn, key: u64, rng: &mut Rng, rollback: bool) -> Result<(), Refusal> {
    conn.cells(&format!("BEGIN; INSERT INTO orders VALUES ({key})"))
        .await?;
    let how = *rng.pick(&[
        "",
        "",
        "",
        ", priority => 9",
        ", priority => 0",
        ", delay => '1 ms'",
        ", delay => '300 ms'",
    ]);
    conn.cells(&format!("SELECT mq.send('work', '{key}'{how})"))
        .await?;
    conn.cells(if rollback { "ROLLBACK" } else { "COMMIT" })
        .await?;
    Ok(())
}

async fn consume(ledger: Arc<Ledger>, n: u64) {
    let mut rng = Rng::new(1000 + n);
    while let Some(conn) = reach(&ledger).await {
        while !ledger.over.load(Ordering::SeqCst) {
            let worked = if rng.one_in(3) {
                in_one_transaction(&conn, &ledger, &mut rng).await
            } else {
                hand_by_hand(&conn, &ledger, &mut rng).await
            };
            match worked {
                Ok(true) => {}
                Ok(false) => break,
                Err(no) if no.code.starts_with("08") || no.code.starts_with("57P") => break,
                Err(no) => panic!("{no:?}"),
            }
        }
    }
}

/// Reads, then does something with each; `false` when this client vanishes.
async fn hand_by_hand(conn: &Conn, ledger: &Ledger, rng: &mut Rng) -> Result<bool, Refusal> {
    let lease = LEASE.as_millis();
    let quantity = 1 + rng.below(4);
    let hands = conn
        .try_hands("read", &format!("'work', {quantity}, '{lease} ms'"))
        .await?;
    let places = ledger.handed(&hands);
    if hands.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (hand, place) in hands.iter().zip(places) {
        let choice = rng.below(400);
        let (verb, how, end) = match choice {
            0..=3 => return Ok(false),
            4..=7 => continue,
            8..=20 => ("nack", ", delay => '100 ms'", End::Nacked),
            21..=30 => ("nack", "", End::Nacked),
            _ => ("ack", "", End::Acked),
        };
        if choice == 31 {
            tokio::time::sleep(LEASE + Duration::from_millis(rng.below(500))).await;
        }
        ledger.ended(place, End::Unknown);
        let call = format!(
            "SELECT mq.{verb}('work', {}, {}{how})",
            hand.id, hand.receipt
        );
        let said = conn.cells(&call).await?;
        let done = said[0][0].as_deref() == Some("t");
        ledger.ended(place, if done { end } else { End::TooLate });
    }
    Ok(true)
}

/// Exactly once: the work and the pop commit together, or neither.
async fn in_one_transaction(conn: &Conn, ledger: &Ledger, rng: &mut Rng) -> Result<bool, Refusal> {
    conn.cells("BEGIN").await?;
    let hands = conn.try_hands("pop", "'work', 2").await?;
    let places = ledger.handed(&hands);
    places
        .iter()
        .for_each(|place| ledger.ended(*place, End::Unknown));
    for hand in &hands {
        conn.cells(&format!("INSERT INTO done VALUES ({})", hand.body))
            .await?;
    }
    let rollback = rng.one_in(8);
    conn.cells(if rollback { "ROLLBACK" } else { "COMMIT" })
        .await?;
    let end = if rollback { End::Nacked } else { End::Acked };
    places.iter().for_each(|place| ledger.ended(*place, end));
    Ok(true)
}

async fn kill(server: &Server, ledger: &Ledger, until: Instant) {
    let mut rng = Rng::new(seed());
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1500 + rng.below(2500))).await;
        let began = Instant::now();
        if rng.one_in(3) {
            // One backend of a consumer: the postmaster takes the others down and recovers.
            let Some(conn) = reach(ledger).await else {
                return;
            };
            let victim = format!(
                "SELECT pid FROM pg_stat_activity WHERE datname = '{DB}' AND pid <> pg_backend_pid() LIMIT 1"
            );
            if let Ok(rows) = conn.cells(&victim).await
                && let Some(pid) = rows.first().and_then(|row| row[0].as_deref()?.parse().ok())
            {
                server.kill_backend(pid);
                while !conn.is_closed() && began.elapsed() < Duration::from_secs(10) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        } else {
            server.crash();
            server.up();
        }
        drop(reach(ledger).await);
        ledger.crashes.lock().unwrap().push((began, Instant::now()));
    }
}

/// Clients at work, and what they have seen.
pub struct Load {
    pub ledger: Arc<Ledger>,
    producers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
}

impl Load {
    pub async fn begin(server: &Server) -> Load {
        let admin = server.connect(DB).await;
        admin.run("CREATE TABLE orders (id bigint PRIMARY KEY); CREATE TABLE done (id bigint PRIMARY KEY)").await;
        admin
            .run("SELECT mq.create_queue('work', dedup_window => '1 s')")
            .await;
        let ledger = Arc::new(Ledger::default());
        ledger.port.store(server.port, Ordering::SeqCst);
        ledger.producing.store(true, Ordering::SeqCst);
        let producer = |n| spawn(produce(ledger.clone(), n));
        let consumer = |n| spawn(consume(ledger.clone(), n));
        Load {
            producers: (0..3).map(producer).collect(),
            consumers: (0..5).map(consumer).collect(),
            ledger,
        }
    }

    /// Lets the consumers take what there is, and makes the account.
    pub async fn end(self, least_crashes: usize) {
        self.ledger.producing.store(false, Ordering::SeqCst);
        for producer in self.producers {
            producer.await.unwrap();
        }
        let admin = reach(&self.ledger).await.expect("a server");
        admin.until("SELECT count(*) = 0 FROM mq.work").await;
        self.ledger.over.store(true, Ordering::SeqCst);
        for consumer in self.consumers {
            consumer.await.unwrap();
        }
        account(&admin, &self.ledger, least_crashes).await;
    }
}

async fn killed(name: &str, settings: &str, seconds: u64) {
    let common = "checkpoint_timeout = '30s'\nwal_writer_delay = '10ms'\n";
    let server = Server::start(name, &format!("{common}{settings}")).await;
    let load = Load::begin(&server).await;
    let until = Instant::now() + Duration::from_secs(seconds);
    kill(&server, &load.ledger, until).await;
    load.end(3).await;
}

fn seconds() -> Option<u64> {
    std::env::var("LEDGER_SECONDS").ok()?.parse().ok()
}

async fn killed_again_and_again(_: Cx) {
    killed("ledger", "", seconds().unwrap_or(40)).await;
}

/// Rows alone keep the promise: without hints the same holds.
async fn killed_without_hints(_: Cx) {
    let settings = "pg_broker.hints = off\n";
    killed("ledger-unhinted", settings, seconds().unwrap_or(15)).await;
}
