//! pgmq's views and functions know messages wherever they lie: each test has some that are parked and
//! others in several segments, while segments go on taking turns.

use crate::conn::{Conn, NONE};
use crate::harness::{Cx, spawn};
use crate::parked::{Going, STEP};
use crate::space::{self, LEAST, is_segment, list};
use crate::tests;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::task::JoinHandle;

tests![seen_and_counted, settled_by_id, read_in_groups];

/// Messages of groups a and b in turn, by id.
const PARKED: usize = 6;
const FRESH: usize = 3;
/// So many segments are used up meanwhile.
const TURNS: u64 = 5;

async fn send(c: &Conn, many: usize) -> Vec<i64> {
    c.ints(&format!(
        "SELECT pgmq.send('q', to_jsonb(n), jsonb_build_object('x-pgmq-group', chr(97 + n % 2))) \
         FROM generate_series(0, {}) n",
        many - 1
    ))
    .await
}

/// A queue of pgmq's with messages that were parked, and some in each of two segments.
async fn queue(c: &Conn) -> Vec<i64> {
    c.run("CREATE EXTENSION pgmq").await;
    c.run(&format!(
        "SELECT pgmq.create('q'), mq.alter_queue('q', segment_size => {LEAST})"
    ))
    .await;
    c.never_wait().await;
    let mut going = Going::new(c, "q").await;
    let mut ids = send(c, PARKED).await;
    going.until_parked(&ids).await;
    ids.extend(send(c, FRESH).await);
    for _ in 0..LEAST / STEP {
        going.step().await;
    }
    ids.extend(send(c, FRESH).await);
    let places = space::places(c, "q").await;
    let tables: HashSet<&String> = ids.iter().map(|id| &places[id]).collect();
    let segments = tables.iter().filter(|table| is_segment(table)).count();
    assert!(segments >= 2, "{places:?}");
    ids
}

/// Somebody else uses up segments, until told to end.
#[derive(Default)]
struct Traffic {
    steps: AtomicU64,
    over: AtomicBool,
}

impl Traffic {
    async fn begin(cx: &Cx) -> (Arc<Traffic>, JoinHandle<()>) {
        let (c, traffic) = (cx.connect().await, Arc::new(Traffic::default()));
        let same = traffic.clone();
        let task = spawn(async move {
            let mut going = Going::new(&c, "q").await;
            while !same.over.load(Ordering::SeqCst) {
                going.step().await;
                same.steps.fetch_add(1, Ordering::SeqCst);
            }
        });
        (traffic, task)
    }

    /// So many segments have been used up.
    fn turns(&self) -> u64 {
        self.steps.load(Ordering::SeqCst) * STEP / LEAST
    }
}

async fn seen_and_counted(cx: Cx) {
    let c = space::quiet(&cx).await.connect().await;
    let ids = queue(&c).await;
    let mut going = Going::new(&c, "q").await;
    let all = ids.len();
    let seen = "SELECT msg_id FROM pgmq.q_q ORDER BY msg_id";
    let rows = "SELECT string_agg(concat_ws(' ', message, headers->>'x-pgmq-group'), ', ' ORDER BY msg_id) FROM pgmq.q_q";
    let one = |n: usize| format!("{n} {}", ["a", "b"][n % 2]);
    let bodies = [PARKED, FRESH, FRESH].map(|many| (0..many).map(one).collect::<Vec<_>>());
    let counts = format!(
        "SELECT concat_ws(' ', queue_length, queue_visible_length, total_messages >= {}) \
         FROM pgmq.metrics('q')",
        ids[all - 1]
    );
    let mut had = Vec::new();
    for taken in [1, 4, all - 1, all] {
        let qty = taken - had.len();
        had.extend(
            c.ints(&format!("SELECT msg_id FROM pgmq.read('q', 3600, {qty})"))
                .await,
        );
        assert_eq!(had, ids[..taken]);
        for _ in 0..9 {
            going.step().await;
            assert_eq!(c.ints(seen).await, ids);
            assert_eq!(c.text(rows).await, bodies.concat().join(", "));
            assert_eq!(c.text(&counts).await, format!("{all} {} t", all - taken));
            let read = "SELECT msg_id FROM pgmq.q_q WHERE read_ct = 1 AND vt > now() ORDER BY 1";
            assert_eq!(c.ints(read).await, had);
        }
    }
    assert_eq!(c.int("SELECT pgmq.purge_queue('q')").await, all as i64);
    assert_eq!(c.text(&counts).await, "0 0 t");
}

async fn settled_by_id(cx: Cx) {
    let cx = space::working(&cx).await;
    let c = cx.connect().await;
    let mut ids = queue(&c).await;
    let (traffic, task) = Traffic::begin(&cx).await;
    let mut round = 0;
    while traffic.turns() < TURNS {
        round += 1;
        let put_off = format!(
            "SELECT count(*) FROM pgmq.set_vt('q', {}, 3600)",
            list(&ids)
        );
        assert_eq!(c.int(&put_off).await as usize, ids.len(), "round {round}");
        assert!(c.rows("SELECT pgmq.read('q', 60, 99)").await.is_empty());
        for id in &ids {
            let due = format!(
                "SELECT count(*) = 1 AND bool_and(vt <= clock_timestamp()) FROM pgmq.set_vt('q', {id}, 0)"
            );
            assert!(c.yes(&due).await, "{id} in round {round}");
        }
        let read = c.ints("SELECT msg_id FROM pgmq.read('q', 60, 99)").await;
        assert_eq!(read, ids, "round {round}");
    }
    // One of the parked, one of the segments; and several of all.
    for verb in ["delete", "archive"] {
        let gone = [ids.remove(ids.len() - 1), ids.remove(0)];
        for id in gone {
            let call = format!("SELECT pgmq.{verb}('q', {id})");
            assert!(c.yes(&call).await && !c.yes(&call).await, "{verb} {id}");
        }
        let (mut some, left): (Vec<_>, Vec<_>) = ids.iter().partition(|id| *id % 2 == 0);
        some.truncate(2);
        let call = format!("SELECT pgmq.{verb}('q', {})", list(&some));
        assert_eq!(c.ints(&call).await, some, "{verb}");
        assert_eq!(c.ints(&call).await, NONE, "{verb}");
        ids.retain(|id| left.contains(id) || !some.contains(id));
        let left = format!(
            "SELECT msg_id FROM pgmq.q_q WHERE msg_id <= {} ORDER BY 1",
            ids[ids.len() - 1]
        );
        assert_eq!(c.ints(&left).await, ids, "{verb}");
    }
    assert_eq!(c.int("SELECT count(*) FROM pgmq.a_q").await, 4);
    traffic.over.store(true, Ordering::SeqCst);
    task.await.unwrap();
}

async fn read_in_groups(cx: Cx) {
    let cx = space::working(&cx).await;
    let c = cx.connect().await;
    let ids = queue(&c).await;
    let (traffic, task) = Traffic::begin(&cx).await;
    let mut round = 0;
    let group = c
        .ints("SELECT msg_id FROM pgmq.q_q WHERE headers->>'x-pgmq-group' = 'a' ORDER BY 1")
        .await;
    let (a, b): (Vec<i64>, Vec<i64>) = ids.iter().partition(|id| group.contains(id));
    let mut in_turn = Vec::new();
    for n in 0..a.len().max(b.len()) {
        in_turn.extend([a.get(n), b.get(n)].into_iter().flatten());
    }
    while traffic.turns() < TURNS {
        round += 1;
        for (verb, wanted) in [
            ("read_grouped", [&a[..], &b[..]].concat()),
            ("read_grouped_rr", in_turn.clone()),
            ("read_grouped_head", vec![a[0], b[0]]),
        ] {
            let read = format!("SELECT msg_id FROM pgmq.{verb}('q', 3600, 99)");
            assert_eq!(c.ints(&read).await, wanted, "{verb}, round {round}");
            // Their firsts are with somebody.
            for verb in ["read_grouped", "read_grouped_rr", "read_grouped_head"] {
                let read = format!("SELECT msg_id FROM pgmq.{verb}('q', 3600, 99)");
                assert_eq!(c.ints(&read).await, NONE, "{verb}, round {round}");
            }
            c.run(&format!("SELECT pgmq.set_vt('q', {}, 0)", list(&ids)))
                .await;
        }
    }
    traffic.over.store(true, Ordering::SeqCst);
    task.await.unwrap();
}
