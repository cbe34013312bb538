//! Runs the workloads: the sides take turns, every round is checked to have lost nothing.

use std::time::{Duration, Instant};

use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::pg::{MESSAGE, connect};
use pg_broker_bench_common::{BATCH, Result};
use tokio_postgres::Client;

use crate::args::Args;
use crate::load::{Job, Load, Tally, Times, drive};
use crate::server::Server;
use crate::side::Side;
use crate::workload::{Front, WAL, WAL_FROM, Workload};

pub struct Bench<'a> {
    pub args: &'a Args,
    pub server: &'a Server,
    /// Connected to a database of no side: for marks, checkpoints and settings.
    pub admin: Client,
    pub sides: Vec<Side>,
}

/// How many messages are filled in by one statement.
const FILL: i64 = 10_000;

impl Bench<'_> {
    pub fn url(&self, side: &Side) -> String {
        self.server.url(&side.database())
    }

    /// The sides that are queues.
    pub fn queues(&self) -> Vec<Side> {
        let queues = self.sides.iter().filter(|side| side.is_queue());
        queues.copied().collect()
    }

    /// One database a side; says what each is.
    pub async fn install(&self) -> Result<Vec<String>> {
        let mut versions = Vec::new();
        for side in &self.sides {
            self.admin
                .batch_execute(&format!("CREATE DATABASE {}", side.database()))
                .await?;
            let owner = connect(&self.url(side)).await?;
            versions.push(side.install(&owner, &self.url(side)).await?);
        }
        Ok(versions)
    }

    fn sides_of(&self, workload: &Workload) -> Vec<Side> {
        match workload.job {
            Job::Send | Job::SendBatch | Job::Empty => self.sides.clone(),
            Job::Cycle if workload.front == Front::Nothing => self.sides.clone(),
            Job::Cycle | Job::Read | Job::Drain => self.queues(),
        }
    }

    /// All rounds of workloads that are compared. The rows of the table that come of it.
    pub async fn group(&self, group: &[Workload]) -> Result<Vec<Row>> {
        self.admin.batch_execute("CHECKPOINT").await?;
        for workload in group.iter().filter(|workload| workload.front.is_kept()) {
            for side in self.sides_of(workload) {
                let owner = connect(&self.url(&side)).await?;
                self.prepare(&owner, &side, workload).await?;
            }
        }
        let mut wal = Row::new(WAL, "WAL of one such cycle; 8 clients", "bytes", false);
        let mut rows: Vec<Row> = group
            .iter()
            .map(|workload| Row::new(workload.key, &workload.title, workload.unit, true))
            .collect();
        for round in 0..self.args.rounds {
            for (workload, row) in group.iter().zip(&mut rows) {
                let sides = self.sides_of(workload);
                for turn in 0..sides.len() {
                    let side = &sides[(round + turn) % sides.len()];
                    let load = self.round(side, workload).await?;
                    eprintln!(
                        "  {:<12} round {}  {:<17} {:>10.0} {}",
                        workload.key,
                        round + 1,
                        side.title,
                        load.rate,
                        workload.unit
                    );
                    row.add(side.name, load.rate, &load.tally.micros);
                    if workload.key == WAL_FROM {
                        wal.add(side.name, load.wal, &[]);
                    }
                }
            }
        }
        for workload in group.iter().filter(|workload| workload.front.is_kept()) {
            for side in self.sides_of(workload) {
                let owner = connect(&self.url(&side)).await?;
                owner
                    .batch_execute(&side.sql(side.drop, &workload.queue()))
                    .await?;
            }
        }
        if !wal.figures.is_empty() {
            rows.push(wal);
        }
        Ok(rows)
    }

    async fn round(&self, side: &Side, workload: &Workload) -> Result<Load> {
        let queue = workload.queue();
        let owner = connect(&self.url(side)).await?;
        if !workload.front.is_kept() {
            self.prepare(&owner, side, workload).await?;
        }
        owner.batch_execute("VACUUM (ANALYZE)").await?;
        let times = Times::of_a_round(self.args);
        let load = drive(
            &self.admin,
            &self.url(side),
            *side,
            &queue,
            workload.job,
            workload.clients,
            &times,
        )
        .await?;
        verify(&owner, side, &queue, workload.front, &load.tally).await?;
        if !workload.front.is_kept() {
            owner.batch_execute(&side.sql(side.drop, &queue)).await?;
        }
        Ok(load)
    }

    /// Makes the queue and puts in what is to be in front.
    async fn prepare(&self, owner: &Client, side: &Side, workload: &Workload) -> Result<()> {
        let queue = workload.queue();
        owner.batch_execute(&side.sql(side.create, &queue)).await?;
        let (fill, count) = match workload.front {
            Front::Nothing => return Ok(()),
            Front::Fill(count) | Front::Ready(count) | Front::Leased(count) => (side.fill, count),
            Front::Delayed(count) => (side.fill_delayed, count),
        };
        let began = Instant::now();
        put(owner, &side.sql(fill, &queue), count).await?;
        if matches!(workload.front, Front::Leased(_)) {
            let lease = owner.prepare(&side.sql(side.lease, &queue)).await?;
            for some in pieces(count) {
                let leased: i64 = owner.query_one(&lease, &[&some]).await?.try_get(0)?;
                if leased != i64::from(some) {
                    return Err(format!("{}: leased {leased}, not {some}", side.title).into());
                }
            }
        }
        if began.elapsed() > Duration::from_secs(2) {
            eprintln!(
                "  {queue}: filled for {} in {:.1?}",
                side.title,
                began.elapsed()
            );
        }
        Ok(())
    }
}

/// Puts in so many by a side's statement that fills.
pub async fn put(owner: &Client, fill: &str, count: i64) -> Result<()> {
    let fill = owner.prepare(fill).await?;
    for some in pieces(count) {
        owner.query_one(&fill, &[&MESSAGE, &some]).await?;
    }
    Ok(())
}

/// So many, in statements of at most `FILL`.
fn pieces(count: i64) -> impl Iterator<Item = i32> {
    let starts = (0..count).step_by(FILL as usize);
    starts.map(move |start| (count - start).min(FILL) as i32)
}

/// Makes the queue, with segments of so many messages where the side knows such; 0 leaves the size
/// to the side.
pub async fn create(owner: &Client, side: &Side, queue: &str, segment: i64) -> Result<()> {
    owner.batch_execute(&side.sql(side.create, queue)).await?;
    if segment > 0 && !side.resize.is_empty() {
        let resize = side
            .sql(side.resize, queue)
            .replace("SIZE", &segment.to_string());
        owner.batch_execute(&resize).await?;
    }
    Ok(())
}

/// Opens a snapshot as somebody does who has looked at something else and does not come back.
pub async fn hold_snapshot(owner: &Client) -> Result<()> {
    owner
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await?;
    owner
        .query_one("SELECT count(*) FROM pg_class", &[])
        .await?;
    Ok(())
}

/// Every message is accounted for: what was there and what was sent, less what was acked, is what
/// the queue still holds; and no ack was refused.
pub async fn verify(
    owner: &Client,
    side: &Side,
    queue: &str,
    front: Front,
    tally: &Tally,
) -> Result<()> {
    let before = match front {
        Front::Nothing => 0,
        Front::Fill(count) | Front::Ready(count) | Front::Delayed(count) | Front::Leased(count) => {
            count
        }
    };
    let expected = before + tally.sent as i64 - tally.acked as i64;
    let row = owner.query_one(&side.sql(side.count, queue), &[]).await?;
    let found: i64 = row.try_get(0)?;
    let drained = !matches!(front, Front::Fill(_)) || found == 0;
    if found != expected || tally.refused > 0 || !drained {
        return Err(format!(
            "{} lost its way in {queue}: {before} before, {} sent, {} acked, {} acks refused, \
             {found} left where {expected} were expected",
            side.title, tally.sent, tally.acked, tally.refused
        )
        .into());
    }
    Ok(())
}

const _: () = assert!(FILL as usize > BATCH);
