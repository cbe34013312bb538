//! Two servers that take turns at the same work on one queue each, so that what differs between
//! them is seen through a machine's noise: each turn is held against the one beside it, and the
//! median of these ratios counts.

use std::time::Duration;

use pg_broker_bench_common::Result;
use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::floor::Floor;
use pg_broker_bench_common::pg::connect;
use tokio_postgres::Client;

use crate::args::Args;
use crate::load::{Job, Load, Times, drive};
use crate::run::{put, verify};
use crate::server::Server;
use crate::side::Side;
use crate::workload::Front;

pub const QUEUE: &str = "busy";

/// Rounds are so much shorter than elsewhere, and so many more: a difference of three percent is to
/// be seen, through noise that is ten times that and comes and goes over seconds.
const SHORTER: u32 = 4;
const MORE: usize = 8;

/// As fast as the other: what is less cannot be told from noise.
const AS_FAST: f64 = 0.97;

/// Work that is done by turns.
pub struct Task {
    pub name: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub job: Job,
    pub clients: usize,
    /// How many messages are in the queue before for each second of work, where that is to be drained.
    pub fill: i64,
}

/// A server with the extension in a database of its own.
pub struct Place {
    pub server: Server,
    pub owner: Client,
    /// What it is, for titles: `with 1 queue`.
    pub what: String,
    side: Side,
}

impl Place {
    /// Everybody's session begins with `session`.
    pub async fn open(
        server: Server,
        side: &Side,
        session: &'static str,
        what: String,
    ) -> Result<Place> {
        let admin = connect(&server.url("postgres")).await?;
        admin
            .batch_execute(&format!("CREATE DATABASE {}", side.database()))
            .await?;
        let url = server.url(&side.database());
        let owner = connect(&url).await?;
        side.install(&owner, &url).await?;
        owner.batch_execute(session).await?;
        Ok(Place {
            server,
            owner,
            what,
            side: Side { session, ..*side },
        })
    }

    /// One round of a task, in a queue that was emptied before.
    async fn round(&self, task: &Task, times: &Times) -> Result<Load> {
        let side = &self.side;
        let purge = format!("SELECT mq.purge_queue('{QUEUE}')");
        self.owner.batch_execute(&purge).await?;
        let front = match (task.fill as f64 * times.slice.as_secs_f64()) as i64 {
            0 => Front::Nothing,
            count => Front::Fill(count),
        };
        if let Front::Fill(count) = front {
            put(&self.owner, &side.sql(side.fill, QUEUE), count).await?;
        }
        let tables = format!(
            "SELECT string_agg(oid::regclass::text, ', ') FROM ({}) AS tables",
            side.sql(side.tables, QUEUE)
        );
        let tables: String = self.owner.query_one(&tables, &[]).await?.try_get(0)?;
        self.owner
            .batch_execute(&format!("VACUUM (ANALYZE) {tables}"))
            .await?;
        let url = self.server.url(&side.database());
        let load = drive(
            &self.owner,
            &url,
            *side,
            QUEUE,
            task.job,
            task.clients,
            times,
        )
        .await?;
        verify(&self.owner, side, QUEUE, front, &load.tally).await?;
        Ok(load)
    }

    /// Without the news that its connections are lost.
    pub async fn close(self) {
        drop(self.owner);
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(self.server);
    }
}

/// What is promised of all tasks.
pub fn floors(workload: &str, tasks: &[Task]) -> Vec<Floor> {
    let ratio = |task: &Task| Floor::value(&Pair::ratio_key(workload, task.name), AS_FAST);
    tasks.iter().map(ratio).collect()
}

/// What is asked for: rates of the first place beside those of the second.
pub struct Pair<'a> {
    pub workload: &'static str,
    pub places: [&'a Place; 2],
}

impl Pair<'_> {
    /// The key of a row of the first place; that of the second ends in `-one` besides.
    pub fn key(workload: &str, row: &str) -> String {
        format!("{workload}-{row}")
    }

    fn ratio_key(workload: &str, row: &str) -> String {
        format!("{workload}-{row}-ratio")
    }

    /// Two rows of the same figure, one for either place.
    pub fn rows(&self, name: &str, what: &str, unit: &'static str, more: bool) -> [Row; 2] {
        let keys = ["", "-one"].map(|end| Pair::key(self.workload, name) + end);
        let row = |number: usize| {
            let title = format!("{what}, {}", self.places[number].what);
            Row::new(&keys[number], &title, unit, more)
        };
        [row(0), row(1)]
    }

    /// All turns of all tasks.
    pub async fn all(&self, tasks: &[Task], args: &Args) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for task in tasks {
            rows.extend(self.turns(task, args).await?);
        }
        Ok(rows)
    }

    /// All turns of a task: the rates of both, their ratio, the ratio of the processor's time and of
    /// the WAL that an operation costs the server.
    async fn turns(&self, task: &Task, args: &Args) -> Result<Vec<Row>> {
        let side = &self.places[0].side;
        let of = Times::of_a_round(args);
        let times = Times {
            slice: of.slice / SHORTER,
            warm: of.warm / 2,
            ..of
        };
        let mut rates = self.rows(task.name, task.title, task.unit, true);
        let ratio = |what: &str, key: String, more| {
            let [first, second] = self.places.map(|place| place.what.as_str());
            let title = format!("{}: {what}{first} beside {second}", task.title);
            Row::new(&key, &title, "×", more)
        };
        let key = |name: &str| Pair::key(self.workload, &format!("{}-{name}", task.name));
        let mut of_rates = ratio("", Pair::ratio_key(self.workload, task.name), true);
        let mut of_cpu = ratio("the server's CPU, ", key("cpu"), false);
        let mut of_wal = ratio("WAL, ", key("wal"), false);
        for round in 0..MORE * args.rounds + 1 {
            let mut loads = [Load::default(), Load::default()];
            for turn in 0..2 {
                let number = (round + turn) % 2;
                let load = self.places[number].round(task, &times).await?;
                rates[number].add(side.name, load.rate, &[]);
                loads[number] = load;
            }
            // The first turns of all fill caches that the others find full.
            if round > 0 {
                let [first, second] = &loads;
                let of = |value: fn(&Load) -> f64| value(first) / value(second).max(1e-9);
                of_rates.add(side.name, of(|load| load.rate), &[]);
                of_wal.add(side.name, of(|load| load.wal), &[]);
                if let (Some(first), Some(second)) = (first.cpu, second.cpu) {
                    of_cpu.add(side.name, first / second.max(1e-9), &[]);
                }
            }
        }
        let rows = rates.into_iter().chain([of_rates, of_cpu, of_wal]);
        let rows: Vec<Row> = rows.filter(|row| !row.figures.is_empty()).collect();
        for row in &rows {
            let median = row.median(side.name).unwrap_or(0.0);
            eprintln!(
                "  {:<12} {:<60} {median:>10.3} {}",
                self.workload, row.title, row.unit
            );
        }
        Ok(rows)
    }
}
