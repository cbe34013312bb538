//! Every reason to wake a waiter, each without the help of the others: these waiters look by
//! themselves only after an hour, and no worker is about. They have a server of their own, where no
//! database is dropped: that rouses every session.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::processes::{alive, halt, kill_9, postmaster};
use crate::server::Server;
use crate::tests;
use crate::wake::{patient, queue};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

tests![
    commits,
    rollbacks,
    moments_known_before,
    moments_told_later,
    moments_over_at_the_commit,
    moments_found_by_another,
    a_keeper_is_succeeded,
    passed_on_at_once,
    not_kept_by_one_who_never_looks,
    woken_for_nothing,
    while_looking,
    while_looking_elsewhere,
    queue_dropped,
    server_stopped,
];

pub const WAIT: &str = "CALL mq.wait('q', '5 min', NULL)";
pub const ANY: &str = "CALL mq.wait_any(ARRAY['other', 'q'], '5 min', NULL)";
pub const READ: &str = "SELECT 't' FROM mq.read('q', 1, '1 hour', '19 s')";
/// More than a slow machine needs, and less than ten seconds: so long after its last statement a
/// session is roused once to hand in its statistics.
const SOON: Duration = Duration::from_secs(5);

/// One that waits.
pub struct Sleeper {
    pub pid: i32,
    task: JoinHandle<Result<bool, String>>,
}

impl Sleeper {
    /// Sleeps in this statement when this returns.
    pub async fn new(cx: &Cx, statement: &'static str) -> Sleeper {
        let c = patient(cx).await;
        let sleeper = Sleeper::of(c, statement);
        sleeper.until_asleep(&cx.connect().await).await;
        sleeper
    }

    pub fn of(c: Conn, statement: &'static str) -> Sleeper {
        let pid = c.pid;
        let task = spawn(async move {
            let said = c.cells(statement).await.map_err(|no| no.code)?;
            Ok(said.iter().any(|row| row[0].as_deref() == Some("t")))
        });
        Sleeper { pid, task }
    }

    pub async fn until_asleep(&self, c: &Conn) {
        c.until(&format!(
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' \
             AND wait_event_type = 'Extension' AND pid = {}",
            self.pid
        ))
        .await;
    }

    /// How it was woken: whether there is a message, or why it failed.
    pub async fn said(self, what: &str) -> Result<bool, String> {
        match tokio::time::timeout(SOON, self.task).await {
            Ok(said) => said.unwrap(),
            Err(_) => panic!("{what}: nobody woke the waiter"),
        }
    }

    pub async fn finds(self, what: &str) {
        assert_eq!(self.said(what).await, Ok(true), "{what}");
    }
}

/// The test on the quiet server.
pub async fn quiet(cx: Cx) -> Cx {
    static SERVER: OnceCell<Arc<Server>> = OnceCell::const_new();
    let start = || async { Arc::new(Server::start("alarms", "").await) };
    cx.on(SERVER.get_or_init(start).await.clone())
}

pub async fn purge(c: &Conn) {
    c.until("SELECT mq.purge_queue('q') >= 0 AND NOT EXISTS (SELECT FROM mq.q)")
        .await;
}

async fn commits(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    c.run("SELECT mq.create_queue('other')").await;
    let held = "SELECT mq.send('q', '1'); SELECT mq.read('q', 1, '1 hour')";
    let paused = "SELECT mq.pause('q'), mq.send('q', '1')";
    for (before, deed) in [
        ("SELECT 1", "SELECT mq.send('q', '1')"),
        ("SELECT 1", "SELECT mq.send('q', '1', priority => 9)"),
        (
            "SELECT 1",
            "SELECT mq.send_batch('q', ARRAY['1']::jsonb[], priority => 0)",
        ),
        ("SELECT 1", "INSERT INTO mq.q (body) VALUES ('1')"),
        (
            "SELECT 1",
            "BEGIN; SAVEPOINT s; SELECT mq.send('q', '1'); RELEASE s; COMMIT",
        ),
        (held, "SELECT mq.nack('q', id) FROM mq.q"),
        (
            held,
            "SELECT mq.release_batch('q', array_agg(id)) FROM mq.q",
        ),
        (paused, "SELECT mq.resume('q')"),
    ] {
        for statement in [WAIT, ANY, READ] {
            c.run(before).await;
            let sleeper = Sleeper::new(&cx, statement).await;
            c.run(deed).await;
            sleeper.finds(&format!("{statement}: {deed}")).await;
            purge(&c).await;
        }
    }
}

async fn rollbacks(cx: Cx) {
    let cx = quiet(cx).await;
    let (c, holder) = (queue(&cx).await, cx.connect().await);
    for (take, back) in [
        ("SELECT mq.read('q', 9, '1 hour')", "ROLLBACK"),
        ("SELECT mq.pop('q', 9)", "ROLLBACK"),
        (
            "SAVEPOINT s; SELECT mq.pop('q', 9)",
            "ROLLBACK TO s; SELECT 1",
        ),
        (
            "SELECT mq.nack('q', id, delay => '1 hour') FROM mq.read('q', 9)",
            "ROLLBACK",
        ),
        ("SELECT mq.delete('q', id) FROM mq.q", "ROLLBACK"),
    ] {
        c.send("q", 1).await;
        holder.run(&format!("BEGIN; {take}")).await;
        // Has been past what the other one holds.
        assert_eq!(c.hands("'q', 9").await, []);
        let sleeper = Sleeper::new(&cx, WAIT).await;
        holder.run(back).await;
        sleeper.finds(&format!("{take}; {back}")).await;
        holder.run("COMMIT").await;
        purge(&c).await;
    }
}

async fn moments_known_before(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    c.run("SELECT mq.create_queue('other')").await;
    for before in [
        "SELECT mq.send('q', '1', delay => '400 ms')",
        "SELECT mq.send('q', '1', delay => '400 ms', priority => 9)",
        "SELECT mq.send('q', '1'); SELECT mq.read('q', 1, '400 ms')",
        "SELECT mq.send('q', '1'); SELECT mq.nack('q', id, delay => '400 ms') FROM mq.read('q')",
    ] {
        for statement in [WAIT, ANY, READ] {
            let sleeper = patient(&cx).await;
            c.run(before).await;
            // Asleep before that, unless the machine is slow.
            let sleeper = Sleeper::of(sleeper, statement);
            sleeper.finds(&format!("{statement}: {before}")).await;
            purge(&c).await;
        }
    }
}

async fn moments_told_later(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    let held = "SELECT mq.send('q', '1'); SELECT mq.read('q', 1, '1 hour')";
    for (before, deed) in [
        ("SELECT 1", "SELECT mq.send('q', '1', delay => '400 ms')"),
        (
            "SELECT 1",
            "SELECT mq.send_batch('q', ARRAY['1', '2']::jsonb[], delay => '400 ms')",
        ),
        (
            "SELECT mq.send('q', '2', delay => '1 hour')",
            "SELECT mq.send('q', '1', delay => '400 ms')",
        ),
        (held, "SELECT mq.nack('q', id, delay => '400 ms') FROM mq.q"),
        (
            held,
            "SELECT mq.release('q', id, delay => '400 ms') FROM mq.q",
        ),
        (
            held,
            "SELECT mq.extend('q', id, visibility => '400 ms') FROM mq.q",
        ),
    ] {
        c.run(before).await;
        // Two: the one that looks after the moments leaves, and the other one takes over.
        let sleepers = [Sleeper::new(&cx, WAIT).await, Sleeper::new(&cx, WAIT).await];
        c.run(deed).await;
        for sleeper in sleepers {
            sleeper.finds(deed).await;
        }
        purge(&c).await;
    }
    // One look at what has come due, and enough for both.
    let sleepers = [Sleeper::new(&cx, READ).await, Sleeper::new(&cx, READ).await];
    c.run("SELECT mq.send_batch('q', ARRAY['1', '2']::jsonb[], delay => '400 ms')")
        .await;
    for sleeper in sleepers {
        sleeper.finds("two together").await;
    }
}

/// What was to wait is ready when its transaction commits.
async fn moments_over_at_the_commit(cx: Cx) {
    let cx = quiet(cx).await;
    let (c, other) = (queue(&cx).await, cx.connect().await);
    for deed in [
        "SELECT mq.send('q', '1', delay => '1 us')",
        "SELECT mq.send('q', '1'); SELECT mq.read('q', 1, '1 us')",
        "SELECT mq.send_batch('q', ARRAY['1', '2']::jsonb[], delay => '1 us')",
    ] {
        let sleepers = [Sleeper::new(&cx, WAIT).await, Sleeper::new(&cx, WAIT).await];
        other.run(&format!("BEGIN; {deed}")).await;
        c.run("SELECT pg_sleep(0.01)").await;
        other.run("COMMIT").await;
        for sleeper in sleepers {
            sleeper.finds(deed).await;
        }
        purge(&c).await;
    }
}

/// Somebody looks at the very moment, and takes nothing.
async fn moments_found_by_another(cx: Cx) {
    let cx = quiet(cx).await;
    let (c, other) = (queue(&cx).await, cx.connect().await);
    for n in 0..6 {
        let sleeper = patient(&cx).await;
        c.run("SELECT mq.send('q', '1', delay => '300 ms')").await;
        let sleeper = Sleeper::of(sleeper, WAIT);
        while !other.yes("CALL mq.wait('q', '0', NULL)").await {}
        sleeper.finds(&format!("the {n}th time")).await;
        purge(&c).await;
    }
}

async fn a_keeper_is_succeeded(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    for end in ["pg_cancel_backend", "pg_terminate_backend"] {
        c.run("SELECT mq.send('q', '1', delay => '1500 ms')").await;
        let (first, second) = (Sleeper::new(&cx, WAIT).await, Sleeper::new(&cx, WAIT).await);
        c.run(&format!("SELECT {end}({})", first.pid)).await;
        assert!(first.said(end).await.is_err());
        second.finds(end).await;
        purge(&c).await;
    }
}

/// Who was woken and is ended before it looks has the next one woken: at once, and not when
/// somebody sees that nothing became of it.
async fn passed_on_at_once(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    for end in ["pg_cancel_backend", "pg_terminate_backend"] {
        let mut fastest = Duration::MAX;
        for _ in 0..8 {
            // The second one is woken first.
            let (first, second) = (Sleeper::new(&cx, WAIT).await, Sleeper::new(&cx, WAIT).await);
            let halted = halt(second.pid);
            c.run(&format!("SELECT {end}({})", second.pid)).await;
            let sent = Instant::now();
            c.send("q", 1).await;
            drop(halted);
            first.finds(end).await;
            fastest = fastest.min(sent.elapsed());
            assert!(second.said(end).await.is_err());
            purge(&c).await;
        }
        assert!(
            fastest < Duration::from_millis(80),
            "{end}: {fastest:?} at best"
        );
    }
}

async fn not_kept_by_one_who_never_looks(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    let (first, second) = (Sleeper::new(&cx, WAIT).await, Sleeper::new(&cx, WAIT).await);
    let halted = halt(second.pid);
    c.send("q", 1).await;
    first.finds("the other one stands still").await;
    drop(halted);
    second.finds("late").await;
}

/// Somebody else was faster: it sleeps again, and is woken again.
async fn woken_for_nothing(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    c.run("SELECT mq.create_queue('other')").await;
    for statement in [WAIT, ANY, READ] {
        let sleeper = Sleeper::new(&cx, statement).await;
        for _ in 0..3 {
            let halted = halt(sleeper.pid);
            c.send("q", 1).await;
            assert_eq!(c.ints("SELECT id FROM mq.pop('q', 9)").await.len(), 1);
            drop(halted);
            sleeper.until_asleep(&c).await;
        }
        c.send("q", 1).await;
        sleeper.finds(statement).await;
        purge(&c).await;
    }
}

/// What comes while the waiter looks, which takes long here: it is too late for that look.
async fn while_looking(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    c.run("SELECT mq.send_batch('q', array_agg(to_jsonb(n)), delay => '1 hour') FROM generate_series(1, 20000) n")
        .await;
    for n in 0..20 {
        let waiter = patient(&cx).await;
        waiter.run("SET pg_broker.hints = off").await;
        let sleeper = Sleeper::of(waiter, WAIT);
        tokio::time::sleep(Duration::from_millis(1 + n % 7)).await;
        let id = c.send("q", n).await;
        sleeper.finds(&format!("the {n}th time")).await;
        assert!(c.yes(&format!("SELECT mq.delete('q', {id})")).await);
    }
}

/// What comes to the first queue after the look at it, while the second one is not to be had.
async fn while_looking_elsewhere(cx: Cx) {
    let cx = quiet(cx).await;
    let (c, gate) = (queue(&cx).await, cx.connect().await);
    c.run("SELECT mq.create_queue('other')").await;
    gate.run("BEGIN; LOCK TABLE mq.other IN ACCESS EXCLUSIVE MODE")
        .await;
    let statement = "CALL mq.wait_any(ARRAY['q', 'other'], '5 min', NULL)";
    let sleeper = Sleeper::of(patient(&cx).await, statement);
    c.until_blocked(sleeper.pid).await;
    c.send("q", 1).await;
    gate.run("COMMIT").await;
    sleeper.finds(statement).await;
}

async fn queue_dropped(cx: Cx) {
    let cx = quiet(cx).await;
    let c = queue(&cx).await;
    c.run("SELECT mq.create_queue('other')").await;
    for statement in [WAIT, ANY] {
        let sleepers = [
            Sleeper::new(&cx, statement).await,
            Sleeper::new(&cx, statement).await,
        ];
        // Not by one that is rolled back.
        c.run("BEGIN; SELECT mq.drop_queue('q'); ROLLBACK").await;
        c.run("SELECT mq.drop_queue('q')").await;
        for sleeper in sleepers {
            let said = sleeper.said(statement).await;
            assert!(said == Ok(false) || said == Err("42P01".into()), "{said:?}");
        }
        c.run("SELECT mq.create_queue('q')").await;
    }
}

/// Whether it is asked to stop, or its first process is killed.
async fn server_stopped(_: Cx) {
    let server = Server::start("alarms-stopped", "").await;
    let stops: [fn(&Server); 2] = [Server::down, |server| {
        kill_9(postmaster(&server.dir).expect("a server"));
    }];
    for (n, stop) in stops.iter().enumerate() {
        if n > 0 {
            server.up();
        }
        let (c, waiter) = (
            server.connect("mq_template").await,
            server.connect("mq_template").await,
        );
        c.run("SELECT mq.create_queue('q', if_not_exists => true)")
            .await;
        waiter.run("SET pg_broker.recheck = '1 h'").await;
        let sleeper = Sleeper::of(waiter, WAIT);
        sleeper.until_asleep(&c).await;
        let (pid, started) = (sleeper.pid as u32, Instant::now());
        stop(&server);
        assert!(sleeper.said("the server stops").await.is_err());
        while alive(pid) {
            assert!(started.elapsed() < SOON, "a waiter outlives its server");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(started.elapsed() < SOON, "a waiter keeps the server");
    }
}
