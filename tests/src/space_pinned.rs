//! Whoever has an open transaction in a segment postpones its truncation, and nothing else: nobody
//! waits for them, the other segments go on taking turns, and afterwards their space comes back.

use crate::conn::Conn;
use crate::harness::Cx;
use crate::server::Server;
use crate::space::{self, FEW, LEAST, Part, Upkeep, nothing_waits};
use crate::tests;
use crate::traffic::Traffic;
use std::slice::from_ref;
use std::sync::Arc;

tests![
    open_sender,
    open_reader,
    open_settler,
    browser_read_committed,
    browser_repeatable_read,
    prepared_sender,
    prepared_reader,
    with_a_worker,
    with_readers_alone,
    nobody_is_made_to_wait,
];

const SEND: &str = "SELECT mq.send('q', '\"held\"')";

/// A queue past its youth, with a client at work and a session that will hold something.
struct Held {
    /// Holds the server, too.
    cx: Cx,
    upkeep: Upkeep,
    traffic: Traffic,
    holder: Conn,
}

impl Held {
    async fn new(cx: &Cx, upkeep: Upkeep) -> Held {
        let c = cx.connect().await;
        space::create(&c, "q", LEAST, "").await;
        let mut traffic = Traffic::new(c, "q", upkeep).await;
        traffic.turns(3).await;
        let holder = cx.connect().await;
        Held {
            cx: cx.clone(),
            upkeep,
            traffic,
            holder,
        }
    }

    /// Does this, after somebody else did what comes before it, until the id that it gives lies in
    /// a segment.
    async fn inside(&mut self, before: &str, deed: &str) -> (i64, Part) {
        for _ in 0..20 {
            self.traffic.c.run(before).await;
            let id = self.holder.int(deed).await;
            if let Some(part) = space::covering(&self.traffic.c, "q", id).await
                && self.is_in(id, &part).await
            {
                return (id, part);
            }
            self.holder.run("ROLLBACK").await;
            self.traffic.take().await;
            self.traffic.acked.remove(&id);
            self.traffic.turns(1).await;
        }
        let parts = space::parts(&self.traffic.c, "q").await;
        panic!("new ids never lie in a segment: {parts:#?}");
    }

    /// Whether the message lies there, or the holder has something else there: one that was sent before
    /// there was a range for it is parked.
    async fn is_in(&self, id: i64, part: &Part) -> bool {
        let table = format!("mq_internal.{}", part.storage);
        let holds = format!(
            "SELECT count(*) > 0 FROM pg_locks WHERE pid = {} AND relation = '{table}'::regclass",
            self.holder.pid
        );
        let c = &self.traffic.c;
        c.yes(&holds).await || space::places(c, "q").await.get(&id) == Some(&table)
    }

    /// The segments go round while this one stands still, and say why.
    async fn stays(&mut self, kept: &[Part]) {
        self.traffic.used.clear();
        self.traffic.turns(6).await;
        let c = &self.traffic.c;
        let parts = space::segments(c, "q").await;
        for old in kept {
            let now = parts.iter().find(|part| part.storage == old.storage);
            let now = now.unwrap_or_else(|| panic!("{old:?} has gone: {parts:#?}"));
            assert!(
                now.is_old() && now.first == old.first,
                "{now:?}, and was {old:?}"
            );
            assert!(now.bytes > 0, "{now:?}");
            let why = now.kept_by.as_deref().unwrap_or_default();
            assert!(!why.is_empty(), "nobody knows what keeps {now:?}");
        }
        // Readers look after a queue now and then only; and a step truncates one table. A browser has
        // the free tables locked, too, which are given ranges while he looks.
        let slack = if self.upkeep == Upkeep::Readers { 8 } else { 4 };
        let others = parts.iter().filter(|part| part.is_old()).count();
        assert!(
            others <= kept.len() + slack,
            "others are held back, too: {parts:#?}"
        );
        assert!(
            self.traffic.used.len() <= FEW + slack + kept.len(),
            "{parts:#?}"
        );
    }

    /// Now they have their turn, too, and everything was had once.
    async fn comes_back(&mut self, kept: &[Part]) {
        self.traffic.finish().await;
        let old: Vec<Part> = kept.to_vec();
        let c = &self.traffic.c;
        space::until(c, "q", self.upkeep, "its space comes back", |parts| {
            let is_old = |part: &&Part| {
                let mut those = old.iter();
                those.any(|old| part.storage == old.storage && part.first == old.first)
            };
            nothing_waits(parts) && parts.iter().filter(is_old).all(|part| part.state == "free")
        })
        .await;
        self.traffic.turns(3).await;
        self.traffic.finish().await;
    }
}

async fn quiet(cx: &Cx) -> Held {
    Held::new(&space::quiet(cx).await, Upkeep::Calls).await
}

async fn sender(mut held: Held) {
    let (id, part) = held
        .inside("", "BEGIN; SELECT mq.send('q', '\"late\"')")
        .await;
    held.stays(from_ref(&part)).await;
    assert!(!held.traffic.acked.contains(&id));
    held.holder.run("COMMIT").await;
    held.traffic.sent.insert(id);
    held.comes_back(from_ref(&part)).await;
}

async fn open_sender(cx: Cx) {
    sender(quiet(&cx).await).await;
}

async fn with_a_worker(cx: Cx) {
    let cx = space::working(&cx).await;
    sender(Held::new(&cx, Upkeep::Worker).await).await;
}

async fn with_readers_alone(cx: Cx) {
    let cx = space::quiet(&cx).await;
    sender(Held::new(&cx, Upkeep::Readers).await).await;
}

async fn open_reader(cx: Cx) {
    let mut held = quiet(&cx).await;
    let (id, part) = held
        .inside(SEND, "BEGIN; SELECT id FROM mq.read('q', 1, '1 hour')")
        .await;
    held.stays(from_ref(&part)).await;
    held.holder.run("ROLLBACK").await;
    held.traffic.sent.insert(id);
    held.comes_back(from_ref(&part)).await;
}

async fn open_settler(cx: Cx) {
    let mut held = quiet(&cx).await;
    let (id, part) = held
        .inside(SEND, "SELECT id FROM mq.read('q', 1, '1 hour')")
        .await;
    let ack = format!("SELECT mq.ack('q', {id})");
    assert!(held.holder.yes(&format!("BEGIN; {ack}")).await);
    held.stays(from_ref(&part)).await;
    held.holder.run("ROLLBACK").await;
    assert!(held.holder.yes(&ack).await, "its lease goes on");
    held.comes_back(from_ref(&part)).await;
}

async fn browser(cx: Cx, level: &str) {
    let mut held = quiet(&cx).await;
    held.traffic.turns(1).await;
    let look = "SELECT count(*) FROM mq.q";
    let begin = format!("BEGIN ISOLATION LEVEL {level}; {look}");
    assert_eq!(held.holder.int(&begin).await, 0);
    let mut present = space::segments(&held.traffic.c, "q").await;
    present.retain(|part| part.state == "open");
    assert!(!present.is_empty());
    // So long it might still be about to look at something for the first time (`move_grace`).
    let is_old = format!(
        "SELECT now() - xact_start > '150 ms' FROM pg_stat_activity WHERE pid = {}",
        held.holder.pid
    );
    held.traffic.c.until(&is_old).await;
    held.stays(&present).await;
    held.holder.run(look).await;
    held.holder.run("COMMIT").await;
    held.comes_back(&present).await;
}

async fn browser_read_committed(cx: Cx) {
    browser(cx, "READ COMMITTED").await;
}

async fn browser_repeatable_read(cx: Cx) {
    browser(cx, "REPEATABLE READ").await;
}

/// Prepared transactions hold back other tests' prepared ones on a server; these have their own.
async fn alone(cx: &Cx, name: &str) -> Held {
    let server = Server::start(name, &Upkeep::Calls.settings()).await;
    Held::new(&cx.on(Arc::new(server)), Upkeep::Calls).await
}

async fn prepared_sender(cx: Cx) {
    let mut held = alone(&cx, "space-prepared").await;
    let (id, part) = held
        .inside("", "BEGIN; SELECT mq.send('q', '\"late\"')")
        .await;
    held.holder.run("PREPARE TRANSACTION 'late'").await;
    held.stays(from_ref(&part)).await;
    held.holder.run("COMMIT PREPARED 'late'").await;
    held.traffic.sent.insert(id);
    held.comes_back(from_ref(&part)).await;
}

async fn prepared_reader(cx: Cx) {
    let mut held = alone(&cx, "space-prepared-reader").await;
    let (id, part) = held.inside(SEND, "BEGIN; SELECT id FROM mq.pop('q')").await;
    held.holder.run("PREPARE TRANSACTION 'taken'").await;
    held.stays(from_ref(&part)).await;
    held.holder.run("ROLLBACK PREPARED 'taken'").await;
    held.traffic.sent.insert(id);
    held.comes_back(from_ref(&part)).await;
}

/// Those who hold everything at once do not even delay others by a moment: `Traffic` bounds each
/// statement, and here each may not wait for any lock at all.
async fn nobody_is_made_to_wait(cx: Cx) {
    let cx = space::quiet(&cx).await;
    let mut held = Held::new(&cx, Upkeep::Calls).await;
    held.traffic.c.run("SET lock_timeout = '20ms'").await;
    let (sender, browser) = (held.cx.connect().await, held.cx.connect().await);
    browser.run("BEGIN; SELECT count(*) FROM mq.q").await;
    let late = sender.int("BEGIN; SELECT mq.send('q', '\"late\"')").await;
    held.traffic.turns(4).await;
    held.holder
        .run("BEGIN; SELECT mq.read('q', 5, '1 hour'), mq.get('q', 1)")
        .await;
    held.traffic.turns(4).await;
    sender.run("COMMIT").await;
    browser.run("COMMIT").await;
    held.holder.run("COMMIT").await;
    held.traffic.sent.insert(late);
    held.comes_back(&[]).await;
}
