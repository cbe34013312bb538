//! A step of a rotation that has done its work, and is killed with -9 before its transaction commits:
//! everything is as it was before the step, and the queue goes on.
//!
//! What stops the step there is the lock that whoever notifies takes when all else is done, just
//! before the commit: somebody else has it, who waits for a standby that does not exist.

use crate::conn::{Conn, Patience};
use crate::harness::{Cx, spawn};
use crate::server::Server;
use crate::space::{self, LEAST, Upkeep};
use crate::tests;
use crate::traffic::Traffic;
use std::sync::Arc;
use tokio::task::JoinHandle;

tests![moved, truncated];

const NO_STANDBY: &str = "synchronous_standby_names = 'nobody'\nsynchronous_commit = local\n";

/// What a step has done that is not committed yet: seen by the row that is to go with it, of the
/// message or of the table.
#[derive(Debug, PartialEq)]
enum Deed {
    Moved,
    Truncated,
}

/// Which processes are killed, and what has been written by then.
const KILLS: [(bool, &str); 4] = [
    (true, "SELECT pg_logical_emit_message(true, '', '')"),
    (true, "CHECKPOINT"),
    (false, "SELECT pg_logical_emit_message(true, '', '')"),
    (false, "CHECKPOINT"),
];

async fn moved(cx: Cx) {
    killed_after(cx, "space-moved", Deed::Moved).await;
}

async fn truncated(cx: Cx) {
    killed_after(cx, "space-truncated", Deed::Truncated).await;
}

async fn killed_after(cx: Cx, name: &str, deed: Deed) {
    let settings = format!("{NO_STANDBY}{}", Upkeep::Calls.settings());
    let server = Arc::new(Server::start(name, &settings).await);
    let cx = cx.on(server.clone());
    let c = cx.connect().await;
    space::create(&c, "q", LEAST, "").await;
    let mut traffic = Traffic::new(c, "q", Upkeep::Calls).await;
    traffic.turns(3).await;
    let mut kept = Vec::new();
    for (is_all, written) in KILLS {
        let step = stopped_after(&cx, &mut traffic, &mut kept, &deed).await;
        let c = cx.connect().await;
        c.run(written).await;
        if is_all {
            server.crash();
            server.up();
        } else {
            server.kill_backend(step.pid);
            // The server is down when it has ended the others, too.
            while c.cells("SELECT 1").await.is_ok() {}
        }
        let committed = step.ended.await.expect("the step").1;
        assert!(!committed, "the step was over before it was killed");
        traffic.c = reach(&cx).await;
        let places = space::places(&traffic.c, "q").await;
        assert_eq!(places, step.before, "{deed:?}, killed: {is_all}, {written}");
        traffic.drain().await;
        traffic.turns(2).await;
    }
    for id in &kept {
        let body = format!("SELECT body = '\"kept\"' FROM mq.q WHERE id = {id}");
        assert!(traffic.c.yes(&body).await, "{id}");
        assert!(traffic.c.yes(&format!("SELECT mq.delete('q', {id})")).await);
    }
    traffic.finish().await;
    space::all_truncated(&traffic.c, "q", Upkeep::Calls).await;
}

/// A step on its way, and where the messages lay before it.
struct Step {
    pid: i32,
    before: std::collections::HashMap<i64, String>,
    /// Its session, and whether it committed.
    ended: JoinHandle<(Conn, bool)>,
}

/// Goes on until a step has done just that, and stands still.
async fn stopped_after(cx: &Cx, traffic: &mut Traffic, kept: &mut Vec<i64>, deed: &Deed) -> Step {
    let patience = Patience::new("a step that does it");
    let mut session = cx.connect().await;
    loop {
        patience.wait().await;
        let send = "SELECT mq.send('q', '\"kept\"', delay => '1 hour')";
        let id = traffic.c.int(send).await;
        kept.push(id);
        // Nobody moves what somebody is at: that is left for a step of ours.
        let busy = cx.connect().await;
        busy.run(&format!("BEGIN; SELECT mq.delete('q', {id})"))
            .await;
        traffic.turns(3).await;
        busy.run("ROLLBACK").await;
        for _ in 0..8 {
            let before = space::places(&traffic.c, "q").await;
            let (holder, held) = hold(cx, &traffic.c).await;
            let pid = session.pid;
            let ended = spawn(async move {
                let step = "BEGIN; NOTIFY step; SELECT mq.maintain('q'); COMMIT";
                let committed = session.cells(step).await.is_ok();
                (session, committed)
            });
            traffic.c.until_blocked(pid).await;
            let going = "xmax <> '0' AND pg_xact_status(xmax::text::xid8) = 'in progress'";
            let rows = match deed {
                Deed::Moved => format!("ONLY {} WHERE id = {id} AND {going}", before[&id]),
                Deed::Truncated => format!("pg_class WHERE relname ~ '^q_.*_s[0-9]+$' AND {going}"),
            };
            if traffic.c.int(&format!("SELECT count(*) FROM {rows}")).await > 0 {
                return Step { pid, before, ended };
            }
            let go_on = format!("SELECT pg_cancel_backend({holder})");
            assert!(traffic.c.yes(&go_on).await);
            held.await.expect("who held it");
            session = ended.await.expect("a step").0;
        }
    }
}

/// A session that has the lock of those who notify until it is cancelled.
async fn hold(cx: &Cx, c: &Conn) -> (i32, JoinHandle<()>) {
    let holder = cx.connect().await;
    holder.run("SET synchronous_commit = on").await;
    let pid = holder.pid;
    let held = spawn(async move {
        let commit = "BEGIN; NOTIFY held; SELECT pg_logical_emit_message(true, '', ''); COMMIT";
        // It may be killed with the server.
        let _ = holder.cells(commit).await;
    });
    let waits = "wait_event = 'SyncRep' FROM pg_stat_activity";
    c.until(&format!("SELECT {waits} WHERE pid = {pid}")).await;
    (pid, held)
}

/// A session, as soon as the server has come up again.
async fn reach(cx: &Cx) -> Conn {
    let patience = Patience::new("a server that is up again");
    loop {
        match Conn::try_open(cx.server.port, &cx.db, "postgres").await {
            Ok(c) => return c,
            Err(_) => patience.wait().await,
        }
    }
}
