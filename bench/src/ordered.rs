//! What ordered groups cost: the same cycle of send, read and ack by one client, in a queue without
//! groups, with a group for each message, behind a hundred thousand groups whose first message is in
//! somebody's hands, in one group with a long backlog, and in a queue in strict order; and what it costs
//! that tenants take turns.
//!
//! Commits do not wait for the flush here: what a look-up costs is processor time, and the flush
//! would hide it.

use pg_broker_bench_common::Result;
use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::floor::Floor;
use pg_broker_bench_common::pg::connect;

use crate::load::{Job, Times, drive};
use crate::run::{Bench, verify};
use crate::side::Side;
use crate::workload::{Front, ORDERED};

const RELAXED: &str = "SET synchronous_commit = off";

/// A cycle with groups is at least so fast as one without: the 1.5 times.
const AS_FAST: f64 = 1.0 / 1.5;

fn key(row: &str) -> String {
    format!("{ORDERED}-{row}")
}

pub fn floors() -> Vec<Floor> {
    [
        ("own", "none"),
        ("blocked", "none"),
        ("one", "backlog"),
        ("strict", "backlog"),
        ("turns", "none"),
        ("behind", "backlog"),
    ]
    .map(|(row, other)| Floor::row(&key(row), &key(other), AS_FAST))
    .into()
}

/// A queue, what is in it before, and how a message gets there.
struct Way {
    row: Row,
    queue: &'static str,
    send: &'static str,
    front: Front,
}

const EACH_ITS_OWN: &str =
    "SELECT mq.send('QUEUE', $1::jsonb, group_key => 'g' || nextval('ordered_group'))";
const ALL_IN_ONE: &str = "SELECT mq.send('QUEUE', $1::jsonb, group_key => 'one')";

/// A message for each of a hundred thousand groups: twice, and the first is handed out for hours.
const FILL_GROUPS: &str = "SELECT mq.send_batch('QUEUE', array_agg(to_jsonb(repeat('x', 118))), \
     group_keys => array_agg('b' || n)) FROM generate_series(1, 100000) n";
const LEASE: &str = "SELECT count(*) FROM mq.read('QUEUE', 200, '10 hours')";
const FILL_ONE: &str = "SELECT mq.send_batch('QUEUE', array_agg(to_jsonb(repeat('x', 118))), \
     group_keys => array_agg('one'::text)) FROM generate_series(1, 100000) n";
const FILL: &str = "SELECT mq.send_batch('QUEUE', array_agg(to_jsonb(repeat('x', 118)))) \
     FROM generate_series(1, 100000) n";
const NOTHING: &str = "SELECT";

/// Row, title, queue, its option, how a message is sent, what fills the queue, and with how many.
type Kind = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    i64,
);

const PLAIN: &str = "SELECT mq.send('QUEUE', $1::jsonb)";

const GROUPS: &str = ", ordering => 'group'";
const STRICT: &str = ", ordering => 'strict'";
const FAIR: &str = ", fair_by => 'tenant'";

const OF_MANY: &str = "SELECT mq.send('QUEUE', $1::jsonb, \
     headers => jsonb_build_object('tenant', nextval('ordered_group') % 50))";
const OF_ANOTHER: &str =
    "SELECT mq.send('QUEUE', $1::jsonb, headers => '{\"tenant\": \"small\"}'::jsonb)";

const KINDS: [Kind; 8] = [
    ("none", "no groups", "o_none", "", PLAIN, NOTHING, 0),
    (
        "own",
        "a group for each message",
        "o_own",
        GROUPS,
        EACH_ITS_OWN,
        NOTHING,
        0,
    ),
    (
        "blocked",
        "the same, behind 100,000 blocked groups",
        "o_blocked",
        GROUPS,
        EACH_ITS_OWN,
        FILL_GROUPS,
        200_000,
    ),
    (
        "backlog",
        "no groups, 100,000 waiting",
        "o_backlog",
        "",
        PLAIN,
        FILL,
        100_000,
    ),
    (
        "one",
        "one group, 100,000 waiting",
        "o_one",
        GROUPS,
        ALL_IN_ONE,
        FILL_ONE,
        100_000,
    ),
    (
        "strict",
        "strict order, 100,000 waiting",
        "o_strict",
        STRICT,
        PLAIN,
        FILL,
        100_000,
    ),
    (
        "turns",
        "fifty tenants that take turns",
        "o_turns",
        FAIR,
        OF_MANY,
        NOTHING,
        0,
    ),
    (
        "behind",
        "turns; 100,000 of another tenant waiting",
        "o_behind",
        FAIR,
        OF_ANOTHER,
        FILL,
        100_000,
    ),
];

impl Bench<'_> {
    pub async fn ordered(&self) -> Result<Vec<Row>> {
        let Some(side) = self.sides.iter().find(|side| side.fenced) else {
            return Ok(Vec::new());
        };
        let url = self.server.url(&side.database());
        let owner = connect(&url).await?;
        owner.batch_execute(RELAXED).await?;
        owner
            .batch_execute("CREATE SEQUENCE ordered_group CACHE 100")
            .await?;
        let mut ways = Vec::new();
        for (row, title, queue, option, send, fill, before) in KINDS {
            owner
                .batch_execute(&format!("SELECT mq.create_queue('{queue}'{option})"))
                .await?;
            let fill = fill.replace("QUEUE", queue);
            owner.batch_execute(&fill).await?;
            if before == 200_000 {
                let lease = LEASE.replace("QUEUE", queue);
                while owner.query_one(&lease, &[]).await?.try_get::<_, i64>(0)? > 0 {}
                owner.batch_execute(&fill).await?;
            }
            let title = format!("cycle; {title}; 1 client");
            ways.push(Way {
                row: Row::new(&key(row), &title, "cycles/s", true),
                queue,
                send,
                front: match before {
                    0 => Front::Nothing,
                    n => Front::Ready(n),
                },
            });
        }
        let times = Times::of_a_round(self.args);
        for round in 0..2 * self.args.rounds + 1 {
            for turn in 0..ways.len() {
                let number = (round + turn) % ways.len();
                let way = &mut ways[number];
                let cycles = Side {
                    session: RELAXED,
                    send: way.send,
                    ..*side
                };
                let load = drive(&owner, &url, cycles, way.queue, Job::Cycle, 1, &times).await?;
                verify(&owner, side, way.queue, way.front, &load.tally).await?;
                way.row.add(side.name, load.rate, &[]);
            }
        }
        for way in &ways {
            let median = way.row.median(side.name).unwrap_or(0.0);
            eprintln!(
                "  {ORDERED:<12} {:<50} {median:>10.0} cycles/s",
                way.row.title
            );
        }
        for way in &ways {
            owner.batch_execute(&side.sql(side.drop, way.queue)).await?;
        }
        owner.batch_execute("DROP SEQUENCE ordered_group").await?;
        Ok(ways.into_iter().map(|way| way.row).collect())
    }
}
