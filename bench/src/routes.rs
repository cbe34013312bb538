//! What publishing costs beside sending, and that it does not grow with how many bindings there are
//! for other keys: the same message to the same queue, turn by turn, one client.
//!
//! Commits do not wait for the flush here: what a look-up costs is processor time, and the flush
//! would hide it.

use pg_broker_bench_common::Result;
use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::floor::Floor;
use pg_broker_bench_common::pg::connect;
use pg_broker_bench_common::text::grouped;

use crate::load::{Job, Times, drive};
use crate::run::{Bench, verify};
use crate::side::Side;
use crate::workload::{Front, ROUTES};

const QUEUE: &str = "routed";
const RELAXED: &str = "SET synchronous_commit = off";
const FEW: usize = 10;
const MANY: usize = 10_000;

/// As fast with many bindings as with few.
const AS_FAST: f64 = 0.95;

fn key(row: &str) -> String {
    format!("{ROUTES}-{row}")
}

pub fn floors() -> Vec<Floor> {
    ["topic", "headers"]
        .map(|kind| {
            let of = |n: usize| key(&format!("{kind}-{n}"));
            Floor::row(&of(MANY), &of(FEW), AS_FAST)
        })
        .into()
}

/// One way for a message to the queue.
struct Way {
    row: Row,
    send: String,
}

/// The bindings of an exchange, of which number 7 is the queue's: one in four with a `*`, one with a
/// `#`.
fn bindings(kind: &str, many: usize) -> String {
    let numbers = format!("generate_series(1, {many}) n");
    let target = format!("CASE WHEN n = 7 THEN '{QUEUE}' ELSE 'others' END");
    match kind {
        "topic" => format!(
            "SELECT mq.bind('topic-{many}', {target}, CASE n % 4 WHEN 0 THEN 'k' || n || '.*.z' \
             WHEN 1 THEN 'k' || n || '.#' ELSE 'k' || n || '.y.z' END) FROM {numbers}"
        ),
        _ => format!(
            "SELECT mq.bind('headers-{many}', {target}, \
             headers => jsonb_build_object('type', 'report', 'n', n)) FROM {numbers}"
        ),
    }
}

impl Bench<'_> {
    pub async fn routes(&self) -> Result<Vec<Row>> {
        let Some(side) = self.sides.iter().find(|side| side.fenced) else {
            return Ok(Vec::new());
        };
        let url = self.server.url(&side.database());
        let owner = connect(&url).await?;
        owner.batch_execute(RELAXED).await?;
        for queue in [QUEUE, "others"] {
            owner.batch_execute(&side.sql(side.create, queue)).await?;
        }
        let row = |name: &str, title: String| Row::new(&key(name), &title, "messages/s", true);
        let mut ways = vec![Way {
            row: row("send", "send to the queue itself; 1 client".into()),
            send: side.send.into(),
        }];
        for kind in ["topic", "headers"] {
            for many in [FEW, MANY] {
                let make = format!("SELECT mq.create_exchange('{kind}-{many}', '{kind}')");
                owner.batch_execute(&make).await?;
                owner.batch_execute(&bindings(kind, many)).await?;
                let bound = grouped(many as i64);
                let title = format!("publish to one of {bound} bindings, {kind}; 1 client");
                ways.push(Way {
                    row: row(&format!("{kind}-{many}"), title),
                    send: format!(
                        "SELECT mq.publish('{kind}-{many}', 'k7.y.z', $1::jsonb, \
                         headers => '{{\"type\": \"report\", \"n\": 7}}')::bigint"
                    ),
                });
            }
        }
        let times = Times::of_a_round(self.args);
        for round in 0..2 * self.args.rounds + 1 {
            for turn in 0..ways.len() {
                let number = (round + turn) % ways.len();
                let way = &mut ways[number];
                let purge = format!("SELECT mq.purge_queue('{QUEUE}')");
                owner.batch_execute(&purge).await?;
                let sends = Side {
                    session: RELAXED,
                    send: way.send.clone().leak(),
                    ..*side
                };
                let load = drive(&owner, &url, sends, QUEUE, Job::Send, 1, &times).await?;
                verify(&owner, side, QUEUE, Front::Nothing, &load.tally).await?;
                way.row.add(side.name, load.rate, &[]);
            }
        }
        for way in &ways {
            let median = way.row.median(side.name).unwrap_or(0.0);
            eprintln!(
                "  {ROUTES:<12} {:<50} {median:>10.0} messages/s",
                way.row.title
            );
        }
        for exchange in ["topic", "headers"] {
            for many in [FEW, MANY] {
                let drop = format!("SELECT mq.drop_exchange('{exchange}-{many}')");
                owner.batch_execute(&drop).await?;
            }
        }
        for queue in [QUEUE, "others"] {
            owner.batch_execute(&side.sql(side.drop, queue)).await?;
        }
        Ok(ways.into_iter().map(|way| way.row).collect())
    }
}
