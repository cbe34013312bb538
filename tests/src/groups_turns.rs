//! Ordered groups between sessions: what is held in transactions still open, and that whoever waits
//! for the next message of a group hears of it.

use crate::conn::{Conn, Patience, Refusal};
use crate::harness::{Cx, spawn};
use crate::tests;
use crate::wake::patient;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

tests![
    nobody_is_forgotten,
    leased_before,
    waits_and_takes,
    the_session_ends,
    a_run_is_settled_together,
    leases_that_end,
    a_bury_makes_way,
    more_groups_than_fit,
    strict_is_one_group,
];

/// A queue with groups, and sessions that never wait for a lock.
pub async fn sessions<const N: usize>(cx: &Cx) -> [Conn; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(cx.connect().await);
        all[all.len() - 1].never_wait().await;
    }
    all[0]
        .run("SELECT mq.create_queue('q', ordering => 'group')")
        .await;
    match all.try_into() {
        Ok(all) => all,
        Err(_) => unreachable!(),
    }
}

/// Sends to group g.
pub async fn send(c: &Conn, body: &str) {
    let send = format!("SELECT mq.send_text('q', '{body}', group_key => 'g')");
    c.run(&send).await;
}

/// What a read gives, leased for long: the bodies.
pub async fn reads(c: &Conn, qty: i32) -> String {
    c.text(&format!(
        "SELECT coalesce(string_agg(body #>> '{{}}', ' '), '') FROM mq.read('q', {qty}, '1 hour')"
    ))
    .await
}

/// Settles the message with this body, whoever holds it.
pub async fn settle(c: &Conn, verb: &str, body: &str) {
    let settle = format!("SELECT mq.{verb}('q', id) FROM mq.q WHERE body #>> '{{}}' = '{body}'");
    assert!(c.yes(&settle).await, "{verb} {body}");
}

/// A session that waits for the next message of the queue.
pub struct Waiter {
    task: JoinHandle<Result<String, Refusal>>,
}

impl Waiter {
    /// Where commits wake, nothing else wakes this one.
    pub async fn start(cx: &Cx) -> Waiter {
        let c = match hears(&cx.connect().await).await {
            true => patient(cx).await,
            false => cx.connect().await,
        };
        let pid = c.pid;
        let read = "SELECT body #>> '{}' FROM mq.read('q', 1, '1 hour', '20 s')";
        let task = spawn(async move {
            let rows = c.cells(read).await?;
            Ok(rows
                .first()
                .and_then(|row| row[0].clone())
                .unwrap_or_default())
        });
        let waits = "SELECT count(*) = 1 FROM pg_stat_activity \
                     WHERE state = 'active' AND wait_event IS NOT NULL AND pid = ";
        // What it waits for may have come already.
        let (looks, patience) = (cx.connect().await, Patience::new("it waits"));
        while !task.is_finished() && !looks.yes(&format!("{waits}{pid}")).await {
            patience.wait().await;
        }
        Waiter { task }
    }

    /// What it gets, soon.
    pub async fn gets(self) -> String {
        let began = Instant::now();
        let got = self.task.await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "late: {got:?}");
        got
    }
}

/// Whether sessions hear of each other's commits.
async fn hears(c: &Conn) -> bool {
    c.yes(
        "SELECT current_setting('shared_preload_libraries') LIKE '%pg_broker%' \
         AND current_setting('pg_broker.hints', true)::boolean",
    )
    .await
}

/// How a transaction in session `c` ends: what is run there, and then elsewhere.
pub struct End {
    pub here: &'static str,
    elsewhere: &'static str,
    pub commits: bool,
}

pub const ENDS: [End; 5] = [
    End {
        here: "COMMIT",
        elsewhere: "",
        commits: true,
    },
    End {
        here: "ROLLBACK",
        elsewhere: "",
        commits: false,
    },
    End {
        here: "ROLLBACK TO s; COMMIT",
        elsewhere: "",
        commits: false,
    },
    End {
        here: "PREPARE TRANSACTION '$gid'",
        elsewhere: "COMMIT PREPARED '$gid'",
        commits: true,
    },
    End {
        here: "PREPARE TRANSACTION '$gid'",
        elsewhere: "ROLLBACK PREPARED '$gid'",
        commits: false,
    },
];

impl End {
    fn gid(cx: &Cx, sql: &str) -> String {
        sql.replace("$gid", &cx.db)
    }

    /// What happens before others see anything of the end.
    pub async fn begin(&self, cx: &Cx, c: &Conn) {
        if !self.elsewhere.is_empty() {
            c.run(&End::gid(cx, self.here)).await;
        }
    }

    pub async fn finish(&self, cx: &Cx, c: &Conn, other: &Conn) {
        match self.elsewhere {
            "" => {
                // The savepoint's end must be seen by itself.
                for part in self.here.split("; ") {
                    c.run(part).await;
                }
            }
            end => other.run(&End::gid(cx, end)).await,
        }
    }
}

/// What a consumer does to the head of its group in a transaction of its own, and who is next when it
/// has committed.
const DEEDS: [(&str, &str); 7] = [
    ("mq.pop('q')", "m2"),
    ("mq.read('q') m, mq.ack('q', m.id, m.receipt)", "m2"),
    ("mq.read('q') m, mq.archive('q', m.id, m.receipt)", "m2"),
    ("mq.read('q') m, mq.reject('q', m.id, m.receipt)", "m2"),
    ("mq.read('q') m, mq.delete('q', m.id)", "m2"),
    ("mq.read('q') m, mq.release('q', m.id, m.receipt)", "m1"),
    (
        "mq.read('q') m, mq.nack('q', m.id, m.receipt, delay => '0')",
        "m1",
    ),
];

/// Each deed, ended in each way, while somebody waits for the group, somebody asks, and the next
/// message is sent.
async fn nobody_is_forgotten(cx: Cx) {
    let [c, b, x] = sessions(&cx).await;
    for (deed, next) in DEEDS {
        for end in &ENDS {
            let told = format!("{deed}: {} {}", end.here, end.elsewhere);
            send(&b, "m1").await;
            c.run("BEGIN").await;
            c.run("SAVEPOINT s").await;
            c.run(&format!("SELECT * FROM {deed}")).await;
            assert_eq!(reads(&x, 9).await, "", "{told}");
            send(&b, "m2").await;
            let waiter = Waiter::start(&cx).await;
            assert_eq!(reads(&x, 9).await, "", "{told}: held");
            end.begin(&cx, &c).await;
            assert_eq!(reads(&x, 9).await, "", "{told}: still held");
            end.finish(&cx, &c, &b).await;
            let head = if end.commits { next } else { "m1" };
            assert_eq!(waiter.gets().await, head, "{told}");
            assert_eq!(reads(&x, 9).await, "", "{told}: one at a time");
            settle(&x, "ack", head).await;
            let rest = if head == "m1" { "m2" } else { "" };
            assert_eq!(reads(&x, 9).await, rest, "{told}");
            x.run("SELECT mq.purge_queue('q')").await;
        }
    }
}

/// The head was leased before, and is settled in a transaction: its end alone makes way.
async fn leased_before(cx: Cx) {
    let [c, b, x] = sessions(&cx).await;
    for verb in ["ack", "archive", "reject", "delete", "release", "nack"] {
        for end in &ENDS {
            let told = format!("{verb}: {} {}", end.here, end.elsewhere);
            for body in ["m1", "m2", "m3"] {
                send(&b, body).await;
            }
            assert_eq!(reads(&c, 1).await, "m1");
            assert_eq!(reads(&x, 9).await, "", "{told}: passed");
            c.run("BEGIN").await;
            c.run("SAVEPOINT s").await;
            settle(&c, verb, "m1").await;
            assert_eq!(reads(&x, 9).await, "", "{told}: passed again");
            let waiter = Waiter::start(&cx).await;
            end.begin(&cx, &c).await;
            assert_eq!(reads(&x, 9).await, "", "{told}: still held");
            end.finish(&cx, &c, &b).await;
            let again = matches!(verb, "release" | "nack") || !end.commits;
            if !end.commits {
                // The lease is as it was.
                assert_eq!(reads(&x, 9).await, "", "{told}");
                settle(&c, "release", "m1").await;
            }
            let head = if again { "m1" } else { "m2" };
            assert_eq!(waiter.gets().await, head, "{told}");
            assert_eq!(reads(&x, 9).await, "", "{told}: one at a time");
            x.run("SELECT mq.purge_queue('q')").await;
        }
    }
}

/// `mq.wait` says that there is something when the group has become free, and not before.
async fn waits_and_takes(cx: Cx) {
    let [c, b, x] = sessions(&cx).await;
    for body in ["m1", "m2", "m3"] {
        send(&b, body).await;
    }
    for (head, next) in [("m1", "m2"), ("m2", "m3")] {
        assert_eq!(reads(&c, 1).await, head);
        assert!(!x.yes("CALL mq.wait('q', '50 ms', NULL)").await);
        let w = match hears(&x).await {
            true => patient(&cx).await,
            false => cx.connect().await,
        };
        let (pid, began) = (w.pid, Instant::now());
        let task = spawn(async move { w.yes("CALL mq.wait('q', '20 s', NULL)").await });
        x.until(&format!(
            "SELECT wait_event IS NOT NULL FROM pg_stat_activity WHERE state = 'active' AND pid = {pid}"
        ))
        .await;
        assert_eq!(reads(&x, 1).await, "");
        settle(&c, "ack", head).await;
        assert!(task.await.unwrap(), "{next} is ready");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(reads(&c, 1).await, "m3");
}

/// The consumer's session is terminated in the middle.
async fn the_session_ends(cx: Cx) {
    let [b, x] = sessions(&cx).await;
    for (deed, _) in DEEDS {
        let c = cx.connect().await;
        send(&b, "m1").await;
        c.run("BEGIN").await;
        c.run(&format!("SELECT * FROM {deed}")).await;
        send(&b, "m2").await;
        assert_eq!(reads(&x, 9).await, "", "{deed}");
        let waiter = Waiter::start(&cx).await;
        x.run(&format!("SELECT pg_terminate_backend({})", c.pid))
            .await;
        assert_eq!(waiter.gets().await, "m1", "{deed}");
        assert_eq!(reads(&x, 9).await, "", "{deed}");
        x.run("SELECT mq.purge_queue('q')").await;
    }
}

/// Several of a group in one read: what is given back of them waits for the others.
async fn a_run_is_settled_together(cx: Cx) {
    let [c, b, x] = sessions(&cx).await;
    for is_open in [false, true] {
        for body in ["m1", "m2", "m3", "m4"] {
            send(&b, body).await;
        }
        assert_eq!(reads(&c, 3).await, "m1 m2 m3");
        assert_eq!(reads(&x, 9).await, "");
        c.run("SELECT mq.nack('q', id, delay => '0') FROM mq.q WHERE body = '\"m1\"'")
            .await;
        assert_eq!(reads(&x, 9).await, "", "m2 and m3 are held");
        let waiter = Waiter::start(&cx).await;
        if is_open {
            c.run("BEGIN").await;
        }
        settle(&c, "ack", "m3").await;
        assert_eq!(reads(&x, 9).await, "", "m2 is held");
        settle(&c, "ack", "m2").await;
        if is_open {
            assert_eq!(reads(&x, 9).await, "", "not committed");
            c.run("COMMIT").await;
        }
        assert_eq!(waiter.gets().await, "m1");
        settle(&c, "ack", "m1").await;
        assert_eq!(reads(&x, 9).await, "m4");
        x.run("SELECT mq.purge_queue('q')").await;
    }
}

/// A lease that ends by itself: the group goes on from its first message, and a run when the last of
/// its leases has ended.
async fn leases_that_end(cx: Cx) {
    let [c, b, x] = sessions(&cx).await;
    for body in ["m1", "m2", "m3"] {
        send(&b, body).await;
    }
    let read = "SELECT string_agg(body #>> '{}', ' ') FROM mq.read('q', 2, '1500 ms')";
    assert_eq!(c.text(read).await, "m1 m2");
    assert_eq!(reads(&x, 9).await, "");
    let waiter = Waiter::start(&cx).await;
    assert_eq!(waiter.gets().await, "m1");
    assert_eq!(reads(&x, 9).await, "");
    settle(&x, "ack", "m1").await;
    assert_eq!(reads(&x, 9).await, "m2 m3");
    x.run("SELECT mq.purge_queue('q')").await;
    // The first of a run ends before the second.
    for body in ["m1", "m2", "m3"] {
        send(&b, body).await;
    }
    assert_eq!(reads(&c, 2).await, "m1 m2");
    c.run("SELECT mq.extend('q', id, visibility => '1 us') FROM mq.q WHERE body = '\"m1\"'")
        .await;
    assert_eq!(reads(&x, 9).await, "", "m2 is held");
    c.run("SELECT mq.extend('q', id, visibility => '200 ms') FROM mq.q WHERE body = '\"m2\"'")
        .await;
    let waiter = Waiter::start(&cx).await;
    assert_eq!(waiter.gets().await, "m1");
}

/// A head that is buried, by a reader or by maintenance, makes way for those who wait.
async fn a_bury_makes_way(cx: Cx) {
    let [c, b, x] = sessions(&cx).await;
    let expiring = "SELECT mq.send_text('q', 'm1', group_key => 'g', ttl => '200 ms')";
    for maintains in [false, true] {
        b.run(expiring).await;
        send(&b, "m2").await;
        assert_eq!(reads(&c, 1).await, "m1");
        assert_eq!(reads(&x, 9).await, "");
        c.until("SELECT expires_at < clock_timestamp() FROM mq.q WHERE body = '\"m1\"'")
            .await;
        assert_eq!(reads(&x, 9).await, "", "it is held, though expired");
        let waiter = Waiter::start(&cx).await;
        if maintains {
            c.run("SELECT mq.maintain('q')").await;
        }
        settle(&c, "release", "m1").await;
        assert_eq!(waiter.gets().await, "m2");
        assert_eq!(x.int("SELECT count(*) FROM mq.q").await, 1);
        x.run("SELECT mq.purge_queue('q')").await;
    }
}

/// One transaction takes as many groups as may be, and is told when there are more; those that it left
/// are there for others at once.
async fn more_groups_than_fit(cx: Cx) {
    let [c, b, x] = sessions(&cx).await;
    let most = c
        .int(
            "SELECT current_setting('max_connections')::int \
             * current_setting('max_locks_per_transaction')::int / 4",
        )
        .await as usize;
    b.run(&format!(
        "SELECT mq.send_batch('q', (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, {0}) n), \
         group_keys => (SELECT array_agg('g' || n) FROM generate_series(1, {0}) n))",
        most + 44
    ))
    .await;
    let all = format!("'q', {}", most + 100);
    c.run("BEGIN").await;
    assert_eq!(c.hands(&all).await.len(), most);
    c.run("SAVEPOINT s").await;
    c.refused(&format!("SELECT mq.read({all})"), "53400").await;
    c.run("ROLLBACK TO s").await;
    assert_eq!(x.hands("'q', 20").await.len(), 20);
    c.run("COMMIT").await;
    assert_eq!(c.hands(&all).await.len(), 24);
    assert_eq!(c.hands(&all).await.len(), 0);
}

/// All messages of a strict queue are one group, whatever their priority.
async fn strict_is_one_group(cx: Cx) {
    let [c, b, x] = sessions(&cx).await;
    c.run("SELECT mq.drop_queue('q')").await;
    c.run("SELECT mq.create_queue('q', ordering => 'strict')")
        .await;
    for (body, priority) in [("m1", 1), ("m2", 9), ("m3", 4)] {
        b.run(&format!(
            "SELECT mq.send_text('q', '{body}', priority => {priority})"
        ))
        .await;
    }
    assert_eq!(reads(&c, 1).await, "m1");
    for (head, next) in [("m1", "m2"), ("m2", "m3"), ("m3", "")] {
        c.run("BEGIN").await;
        settle(&c, "ack", head).await;
        assert_eq!(reads(&x, 9).await, "");
        if next.is_empty() {
            c.run("COMMIT").await;
        } else {
            let waiter = Waiter::start(&cx).await;
            c.run("COMMIT").await;
            assert_eq!(waiter.gets().await, next);
        }
        assert_eq!(reads(&x, 9).await, "");
    }
}
