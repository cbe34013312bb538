//! What the tests of a queue's space have in common: servers with hurried rotation, queues of small
//! segments, what `mq.segments` says, and waits on it. The names of the surface are here alone.

use crate::conn::{Conn, Patience};
use crate::harness::Cx;
use crate::server::Server;
use crate::storage;
use std::collections::{HashMap, HashSet};
use std::fmt::{Debug, Formatter};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The least number of messages in a segment.
pub const LEAST: u64 = 64;

/// More segment tables than this no queue needs that nobody holds back.
pub const FEW: usize = 6;

/// Rows that were moved may go as soon as this, so that tests need not wait a minute.
const HURRIED: &str = "pg_broker.move_grace = '100ms'\n";
const AT_WORK: &str = "pg_broker.worker = on\npg_broker.workers = 40\nmax_worker_processes = 60\n\
                       pg_broker.maintenance_interval = '20ms'\n";

/// Who does the upkeep of a queue.
#[derive(Clone, Copy, PartialEq)]
pub enum Upkeep {
    Worker,
    /// Somebody calls `mq.maintain`.
    Calls,
    /// Nobody but those who read.
    Readers,
}

impl Upkeep {
    /// What a client does for it between two steps of its work.
    pub async fn step(self, c: &Conn, queue: &str) {
        match self {
            Upkeep::Worker => {}
            Upkeep::Calls => c.run(&format!("SELECT mq.maintain('{queue}')")).await,
            Upkeep::Readers => {}
        }
    }

    /// The settings of servers where it is done like this.
    pub fn settings(self) -> String {
        let worker = if self == Upkeep::Worker { AT_WORK } else { "" };
        format!("{HURRIED}{worker}")
    }
}

/// The test on a server without a worker, where rows that were moved soon go.
pub async fn quiet(cx: &Cx) -> Cx {
    static SERVER: OnceCell<Arc<Server>> = OnceCell::const_new();
    let settings = Upkeep::Calls.settings();
    let start = || async { Arc::new(Server::start("space", &settings).await) };
    cx.on(SERVER.get_or_init(start).await.clone())
}

/// The test on a server whose workers are in a hurry.
pub async fn working(cx: &Cx) -> Cx {
    static SERVER: OnceCell<Arc<Server>> = OnceCell::const_new();
    let settings = Upkeep::Worker.settings();
    let start = || async { Arc::new(Server::start("space-worker", &settings).await) };
    cx.on(SERVER.get_or_init(start).await.clone())
}

/// Makes a queue of such segments; `options` as in `", max_failures => 3"`.
pub async fn create(c: &Conn, queue: &str, segment: u64, options: &str) {
    c.run(&format!(
        "SELECT mq.create_queue('{queue}', segment_size => {segment}{options})"
    ))
    .await;
}

/// A table of a queue, as `mq.segments` tells of it.
#[derive(Clone, PartialEq)]
pub struct Part {
    pub storage: String,
    pub is_segment: bool,
    pub state: String,
    /// The range of ids that it holds, or held when it was closed.
    pub first: Option<i64>,
    pub last: Option<i64>,
    pub bytes: i64,
    /// Why it is not yet truncated.
    pub kept_by: Option<String>,
}

impl Debug for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Part {
            storage,
            state,
            bytes,
            ..
        } = self;
        let (first, last) = (self.first.unwrap_or(0), self.last.unwrap_or(0));
        let why = self.kept_by.as_deref().unwrap_or("nobody");
        write!(
            f,
            "{storage}: {state}, ids {first} to {last}, {bytes} bytes, kept by {why}"
        )
    }
}

impl Part {
    /// Its ids are used up, and it is not truncated yet.
    pub fn is_old(&self) -> bool {
        ["closed", "drained", "leaving"].contains(&&self.state[..])
    }

    pub fn covers(&self, id: i64) -> bool {
        self.state != "free"
            && self.first.is_some_and(|first| first <= id)
            && self.last.is_none_or(|last| id <= last)
    }
}

fn part(row: &[Option<String>]) -> Part {
    let number = |n: usize| row[n].as_deref().map(|cell| cell.parse().unwrap());
    let storage = row[0].clone().unwrap();
    Part {
        is_segment: is_segment(&storage),
        storage,
        state: row[1].clone().unwrap(),
        first: number(2),
        last: number(3),
        bytes: number(4).unwrap_or(0),
        kept_by: row[5].clone(),
    }
}

pub async fn parts(c: &Conn, queue: &str) -> Vec<Part> {
    let sql = format!(
        "SELECT storage, state, first_id, last_id, bytes, kept_by FROM mq.segments WHERE queue = '{queue}'"
    );
    let rows = c.rows(&sql).await;
    rows.iter().map(|row| part(row)).collect()
}

pub async fn segments(c: &Conn, queue: &str) -> Vec<Part> {
    let mut parts = parts(c, queue).await;
    parts.retain(|part| part.is_segment);
    parts
}

/// The segment that holds this id, if any does.
pub async fn covering(c: &Conn, queue: &str, id: i64) -> Option<Part> {
    let parts = segments(c, queue).await;
    parts.into_iter().find(|part| part.covers(id))
}

/// The size of everything that holds the queue's messages, with indexes and all.
pub async fn bytes(c: &Conn, queue: &str) -> i64 {
    let parent = storage::of(c, queue).await;
    let name = parent.split('.').next_back().unwrap();
    c.int(&format!(
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c \
         JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'mq_internal' \
         AND c.relkind = 'r' AND c.relname ~ '^{name}(_s[0-9]+|_p)?$'"
    ))
    .await
}

/// Ids as an argument of a call.
pub fn list(ids: &[i64]) -> String {
    let texts: Vec<String> = ids.iter().map(i64::to_string).collect();
    format!("ARRAY[{}]::bigint[]", texts.join(", "))
}

/// In which table each message lies, by id. A message that lies in two is a failure.
pub async fn places(c: &Conn, queue: &str) -> HashMap<i64, String> {
    let parent = storage::of(c, queue).await;
    let sql = format!("SELECT id, tableoid::regclass::text FROM {parent}");
    let mut places = HashMap::new();
    for row in c.rows(&sql).await {
        let id = row[0].as_deref().unwrap().parse().unwrap();
        let table = row[1].clone().unwrap();
        if let Some(other) = places.insert(id, table.clone()) {
            panic!("message {id} of {queue} lies in {other} and in {table}");
        }
    }
    places
}

/// Whether a table of `places` is a segment; otherwise it is one of the parked tables.
pub fn is_segment(table: &str) -> bool {
    let number = table.rsplit_once("_s").map(|(_, n)| n);
    number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()) && !n.is_empty())
}

/// Sees which messages are moved: those that lay in a segment once, and are parked now.
#[derive(Default)]
pub struct Moves {
    pub inside: HashSet<i64>,
    pub moved: HashSet<i64>,
}

impl Moves {
    pub async fn look(&mut self, c: &Conn, queue: &str) {
        for (id, table) in places(c, queue).await {
            if is_segment(&table) {
                self.inside.insert(id);
                assert!(
                    !self.moved.contains(&id),
                    "{id} was moved back into {table}"
                );
            } else if self.inside.contains(&id) {
                self.moved.insert(id);
            }
        }
    }
}

/// How many of the queue's segments have been truncated: those have another file than they were made with.
pub async fn truncated(c: &Conn, queue: &str) -> i64 {
    let parent = storage::of(c, queue).await;
    c.int(&format!(
        "SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid \
         WHERE inhparent = '{parent}'::regclass AND relname ~ '_s[0-9]+$' AND relfilenode <> c.oid"
    ))
    .await
}

/// Waits until the parts of the queue are as they should be; the upkeep goes on meanwhile.
pub async fn until(
    c: &Conn,
    queue: &str,
    upkeep: Upkeep,
    what: &'static str,
    is: impl Fn(&[Part]) -> bool,
) {
    let patience = Patience::new(what);
    loop {
        let parts = parts(c, queue).await;
        if is(&parts) {
            return;
        }
        if patience.is_over() {
            panic!("never so: {what}\n{parts:#?}");
        }
        upkeep.step(c, queue).await;
        if upkeep == Upkeep::Readers {
            // Who finds nothing does nothing.
            c.send(queue, 0).await;
            c.run(&format!("SELECT mq.pop('{queue}')")).await;
        }
        patience.wait().await;
    }
}

/// No range is used up and still takes space.
pub fn nothing_waits(parts: &[Part]) -> bool {
    !parts.iter().any(Part::is_old)
}

/// Waits until all ranges of the queue that are used up have been truncated.
pub async fn all_truncated(c: &Conn, queue: &str, upkeep: Upkeep) {
    until(c, queue, upkeep, "all used ranges truncated", nothing_waits).await;
}
