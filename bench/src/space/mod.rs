//! What becomes of the space: how large a queue gets under an open snapshot, and how fast it stays;
//! with messages that flow through at once, and with messages that all wait for five seconds.
//!
//! The sides cannot take turns here: each starts with nothing and goes on under one snapshot. The
//! first side says how long that is, the others do as much as they manage in the same time.

mod chart;
mod flow;
mod gauge;
mod judge;
mod parked;

use std::sync::Arc;
use std::time::Duration;

use pg_broker_bench_common::Result;
use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::pg::connect;
use pg_broker_bench_common::text::grouped;
use serde_json::{Value, json};

pub use self::chart::svg;
pub use self::gauge::CATALOGS;

use self::flow::{Flow, Goal, TENTHS, Watched, Yardstick, batches, watch};
use self::gauge::Gauge;
use crate::client::Worker;
use crate::run::{Bench, create, hold_snapshot, verify};
use crate::side::Side;
use crate::workload::{DELAYED, Front, SPACE};

/// How many segments a queue may take beside its live messages.
pub const SEGMENTS: f64 = 4.0;
/// By how many megabytes the catalogs may grow.
pub const CATALOG_GROWTH: f64 = 5.0;
/// How fast the last tenth must be, beside the first.
pub const STEADY: f64 = 0.95;

/// Clients that send, read and ack.
const CLIENTS: usize = 4;
const DELAYED_CLIENTS: usize = 2;
/// Seconds between two points of the chart, at least.
const APART: f64 = 0.5;
/// When the first of the delayed messages have come: `Side::send_batch_later` delays by 5 s.
const LEAD: Duration = Duration::from_secs(6);

/// While a transaction is younger than this (`pg_broker.move_grace`), ours keeps what it may still look
/// for: what is measured is a snapshot that has been open for longer.
const YOUNG: Duration = Duration::from_secs(61);

/// One sample of the series.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub side: &'static str,
    pub second: f64,
    pub megabytes: f64,
    pub live: u64,
    /// Messages a second since the sample before.
    pub rate: f64,
}

impl Point {
    pub fn json(&self) -> Value {
        json!({
            "side": self.side,
            "second": (self.second * 10.0).round() / 10.0,
            "megabytes": (self.megabytes * 10.0).round() / 10.0,
            "live": self.live,
            "rate": self.rate.round(),
        })
    }
}

/// What flows, until when, by how many clients.
struct Stream {
    key: &'static str,
    clients: usize,
    is_delayed: bool,
    goal: Goal,
    lead: Duration,
}

impl Bench<'_> {
    pub async fn space(&self) -> Result<(Vec<Row>, Vec<Point>)> {
        let mut table = Table::new(SPACE, "under a snapshot");
        let mut points = Vec::new();
        let mut stream = Stream {
            key: SPACE,
            clients: CLIENTS,
            is_delayed: false,
            goal: Goal::Messages(self.args.space),
            lead: Duration::ZERO,
        };
        for side in self.queues() {
            let watched = self.under_snapshot(&side, &stream, &mut table).await?;
            points.extend(series(&side, &watched));
            if let Goal::Messages(_) = stream.goal {
                stream.goal = Goal::Time(Duration::from_secs_f64(watched.seconds()));
            }
        }
        Ok((table.rows(), points))
    }

    pub async fn delayed(&self) -> Result<Vec<Row>> {
        let mut table = Table::new(DELAYED, "delayed, under a snapshot");
        let stream = Stream {
            key: DELAYED,
            clients: DELAYED_CLIENTS,
            is_delayed: true,
            goal: Goal::Time(LEAD + Duration::from_secs_f64(self.args.delayed_seconds)),
            lead: LEAD,
        };
        for side in self.queues() {
            self.under_snapshot(&side, &stream, &mut table).await?;
        }
        Ok(table.rows())
    }

    /// One side's stream under a snapshot of its own.
    async fn under_snapshot(
        &self,
        side: &Side,
        stream: &Stream,
        table: &mut Table,
    ) -> Result<Watched> {
        let (queue, url) = (stream.key, self.url(side));
        let owner = connect(&url).await?;
        create(&owner, side, queue, self.args.segment).await?;
        let gauge = Gauge::open(&url, side, queue).await?;
        owner.batch_execute("VACUUM (ANALYZE)").await?;
        self.admin.batch_execute("CHECKPOINT").await?;
        hold_snapshot(&owner).await?;
        if !side.resize.is_empty() {
            tokio::time::sleep(YOUNG).await;
        }
        self.keen_autovacuum(true).await?;

        let sends = match stream.is_delayed {
            true => Side {
                send_batch: side.send_batch_later,
                ..*side
            },
            false => *side,
        };
        let yardstick = match side.resize.is_empty() || stream.is_delayed {
            true => None,
            false => Some(self.yardstick(side, stream).await?),
        };
        let flow = Arc::new(Flow::default());
        let mut workers = Vec::new();
        for _ in 0..stream.clients {
            let worker = Worker::open(&url, sends, queue).await?;
            workers.push(tokio::spawn(batches(worker, flow.clone())));
        }
        let watched = watch(&flow, workers, yardstick, &gauge, stream.goal, stream.lead).await?;
        table.add(side, &watched, gauge.autovacuums().await?);

        self.keen_autovacuum(false).await?;
        owner.batch_execute("COMMIT").await?;
        verify(&owner, side, queue, Front::Nothing, &watched.tally).await?;
        owner.batch_execute(&side.sql(side.drop, queue)).await?;
        let above = match side.resize.is_empty() {
            true => String::new(),
            false => format!(", {:.1} segments above live", watched.above_live()),
        };
        eprintln!(
            "  {:<12} {:<17} {:>10} messages in {:.0} s, at most {:.0} MB{above}",
            stream.key,
            side.title,
            grouped(watched.acked() as i64),
            watched.seconds(),
            watched.largest(),
        );
        let beside = (1..=TENTHS).filter_map(|tenth| watched.beside(tenth));
        let beside: Vec<String> = beside.map(|ratio| format!("{ratio:.2}")).collect();
        if !beside.is_empty() {
            eprintln!(
                "  {:<12} beside one without a snapshot, by tenths: {}",
                stream.key,
                beside.join(" ")
            );
        }
        Ok(watched)
    }

    /// The same stream where nobody keeps a snapshot: one of another database does not count.
    async fn yardstick(&self, side: &Side, stream: &Stream) -> Result<Yardstick> {
        let database = format!("{}_yardstick", side.database());
        let url = self.server.url(&database);
        self.admin
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .await?;
        side.install(&connect(&url).await?, &url).await?;
        let queue = (stream.key, self.args.segment);
        Yardstick::start(&url, *side, queue, stream.clients).await
    }

    /// Autovacuum that looks every second, so that what it would do, it does within the run.
    async fn keen_autovacuum(&self, on: bool) -> Result<()> {
        let nap = if on {
            "SET autovacuum_naptime = '1s'"
        } else {
            "RESET autovacuum_naptime"
        };
        self.admin
            .batch_execute(&format!("ALTER SYSTEM {nap}"))
            .await?;
        self.autovacuum(on).await
    }
}

/// The rows of one stream.
struct Table {
    done: Row,
    first: Row,
    last: Row,
    first_beside: Row,
    last_beside: Row,
    size: Row,
    above: Row,
    catalogs: Row,
    dead: Row,
    allowed: Row,
    autovacuum: Row,
}

impl Table {
    fn new(key: &str, title: &str) -> Table {
        let row = |name: &str, what: &str, unit, more| {
            Row::new(
                &format!("{key}-{name}"),
                &format!("{title}: {what}"),
                unit,
                more,
            )
        };
        Table {
            done: row("done", "done in the same time", "messages", true),
            first: row("first", "the first tenth", "messages/s", true),
            last: row("last", "the last tenth", "messages/s", true),
            first_beside: row("first-beside", "the first tenth, beside without", "×", true),
            last_beside: row("last-beside", "the last tenth, beside without", "×", true),
            size: row("size", "the queue's largest size", "MB", false),
            above: row("above", "most above live", "segments", false),
            catalogs: row("catalogs", "growth of the catalogs", "MB", false),
            dead: row("dead", "dead rows after a later tenth", "rows", false),
            allowed: row(
                "allowed",
                "dead rows allowed by the first tenth",
                "rows",
                false,
            ),
            autovacuum: row("autovacuum", "autovacuums of segments", "times", false),
        }
    }

    fn add(&mut self, side: &Side, watched: &Watched, autovacuums: Option<i64>) {
        let name = side.name;
        let (dead, allowed) = watched.dead();
        self.done.add(name, watched.acked() as f64, &[]);
        self.first.add(name, watched.rate(1), &[]);
        self.last.add(name, watched.rate(TENTHS), &[]);
        let beside = [(&mut self.first_beside, 1), (&mut self.last_beside, TENTHS)];
        for (row, tenth) in beside {
            if let Some(beside) = watched.beside(tenth) {
                row.add(name, beside, &[]);
            }
        }
        self.size.add(name, watched.largest(), &[]);
        self.catalogs.add(name, watched.catalogs(), &[]);
        self.dead.add(name, dead, &[]);
        self.allowed.add(name, allowed, &[]);
        if !side.resize.is_empty() {
            self.above.add(name, watched.above_live(), &[]);
        }
        if let Some(times) = autovacuums {
            self.autovacuum.add(name, times as f64, &[]);
        }
    }

    fn rows(self) -> Vec<Row> {
        let rows = [
            self.done,
            self.first,
            self.last,
            self.first_beside,
            self.last_beside,
            self.size,
            self.above,
            self.catalogs,
            self.dead,
            self.allowed,
            self.autovacuum,
        ];
        rows.into_iter()
            .filter(|row| !row.figures.is_empty())
            .collect()
    }
}

/// What the chart shows. Samples that follow each other at once, where a tenth ends, say nothing of
/// a rate and are left out.
fn series(side: &Side, watched: &Watched) -> Vec<Point> {
    let mut samples = watched.samples.iter();
    let Some(mut before) = samples.next() else {
        return Vec::new();
    };
    let mut points = Vec::new();
    for sample in samples {
        let passed = sample.at - before.at;
        if passed < APART {
            continue;
        }
        points.push(Point {
            side: side.name,
            second: sample.at,
            megabytes: sample.sizes.queue as f64 / 1e6,
            live: sample.live,
            rate: (sample.acked - before.acked) as f64 / passed,
        });
        before = sample;
    }
    points
}
