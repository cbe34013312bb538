//! Runs the workloads: the sides take turns, every round is checked to have lost nothing.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::Result;
use crate::args::Args;
use crate::client::{BATCH, MESSAGE, connect};
use crate::load::{Job, Load, Tally, Times, drive};
use crate::report::{Point, Row};
use crate::server::Server;
use crate::side::Side;
use crate::workload::{Front, SNAPSHOT, SNAPSHOT_CLIENTS, WAL, WAL_FROM, Workload};

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
    fn url(&self, side: &Side) -> String {
        self.server.url(&side.database())
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

    /// All rounds of one workload. The rows of the table that come of it.
    pub async fn workload(&self, workload: &Workload) -> Result<Vec<Row>> {
        let mut row = Row::new(workload.key, &workload.title, workload.unit, true);
        let mut wal = Row::new(WAL, "WAL of one such cycle; 8 clients", "bytes", false);
        self.admin.batch_execute("CHECKPOINT").await?;

        let queue = workload.key.replace('-', "_");
        let kept = matches!(workload.front, Front::Ready(_) | Front::Delayed(_));
        if kept {
            for side in &self.sides {
                let owner = connect(&self.url(side)).await?;
                self.prepare(&owner, side, &queue, workload.front).await?;
            }
        }
        for round in 0..self.args.rounds {
            for turn in 0..self.sides.len() {
                let side = &self.sides[(round + turn) % self.sides.len()];
                let owner = connect(&self.url(side)).await?;
                if !kept {
                    self.prepare(&owner, side, &queue, workload.front).await?;
                }
                owner.batch_execute("VACUUM (ANALYZE)").await?;
                let load = self
                    .drive(side, &queue, workload.job, workload.clients)
                    .await?;
                verify(&owner, side, &queue, workload.front, &load.tally).await?;
                if !kept {
                    owner.batch_execute(&side.sql(side.drop, &queue)).await?;
                }
                eprintln!(
                    "  {:<12} round {}  {:<17} {:>10.0} {}",
                    workload.key,
                    round + 1,
                    side.title,
                    load.rate,
                    workload.unit
                );
                row.add(side.name, load.rate, &load.tally.micros);
                wal.add(side.name, load.wal, &[]);
            }
        }
        if kept {
            for side in &self.sides {
                let owner = connect(&self.url(side)).await?;
                owner.batch_execute(&side.sql(side.drop, &queue)).await?;
            }
        }
        Ok(if workload.key == WAL_FROM {
            vec![row, wal]
        } else {
            vec![row]
        })
    }

    async fn drive(&self, side: &Side, queue: &str, job: Job, clients: usize) -> Result<Load> {
        let times = Times {
            warm: Duration::from_secs_f64(self.args.warm),
            slice: Duration::from_secs_f64(self.args.seconds),
            slices: 1,
        };
        drive(
            &self.admin,
            &self.url(side),
            *side,
            queue,
            job,
            clients,
            &times,
        )
        .await
    }

    async fn prepare(&self, owner: &Client, side: &Side, queue: &str, front: Front) -> Result<()> {
        owner.batch_execute(&side.sql(side.create, queue)).await?;
        let (fill, mut left) = match front {
            Front::Nothing => return Ok(()),
            Front::Fill(count) | Front::Ready(count) => (side.fill, count),
            Front::Delayed(count) => (side.fill_delayed, count),
        };
        let began = Instant::now();
        let fill = owner.prepare(&side.sql(fill, queue)).await?;
        while left > 0 {
            let some = left.min(FILL) as i32;
            owner.query_one(&fill, &[&MESSAGE, &some]).await?;
            left -= some as i64;
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

    /// Cycles of 8 clients while another session of the same database holds a snapshot open,
    /// minute by minute, the sides taking turns.
    pub async fn snapshot(&self) -> Result<(Vec<Row>, Vec<Point>)> {
        let queue = "under_snapshot";
        let mut points = Vec::new();
        let mut rows: Vec<Row> = (1..=self.args.minutes)
            .map(|minute| {
                let title = format!("cycle under an open snapshot, minute {minute}; 8 clients");
                Row::new(&format!("{SNAPSHOT}-{minute}"), &title, "cycles/s", true)
            })
            .collect();
        let slices = 12;
        let times = Times {
            warm: Duration::from_millis(200),
            slice: Duration::from_secs_f64(self.args.minute / slices as f64),
            slices,
        };

        self.admin.batch_execute("CHECKPOINT").await?;
        let mut holders = Vec::new();
        let mut tallies = vec![Tally::default(); self.sides.len()];
        for side in &self.sides {
            let owner = connect(&self.url(side)).await?;
            owner.batch_execute(&side.sql(side.create, queue)).await?;
            owner.batch_execute("VACUUM (ANALYZE)").await?;
            owner
                .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                .await?;
            owner
                .query_one("SELECT count(*) FROM pg_class", &[])
                .await?;
            holders.push(owner);
        }
        self.autovacuum(true).await?;
        for (minute, row) in rows.iter_mut().enumerate() {
            for turn in 0..self.sides.len() {
                let number = (minute + turn) % self.sides.len();
                let side = &self.sides[number];
                let load = drive(
                    &self.admin,
                    &self.url(side),
                    *side,
                    queue,
                    Job::Cycle,
                    SNAPSHOT_CLIENTS,
                    &times,
                )
                .await?;
                eprintln!(
                    "  {SNAPSHOT:<12} minute {} {:<17} {:>10.0} cycles/s",
                    minute + 1,
                    side.title,
                    load.rate
                );
                row.add(side.name, load.rate, &load.tally.micros);
                tallies[number].sent += load.tally.sent;
                tallies[number].acked += load.tally.acked;
                tallies[number].refused += load.tally.refused;
                for (slice, rate) in load.slices.iter().enumerate() {
                    let at = minute as f64 + (slice as f64 + 0.5) / slices as f64;
                    points.push(Point {
                        side: side.name,
                        minute: at,
                        rate: *rate,
                    });
                }
            }
        }
        self.autovacuum(false).await?;
        for ((side, holder), tally) in self.sides.iter().zip(&holders).zip(&tallies) {
            holder.batch_execute("COMMIT").await?;
            verify(holder, side, queue, Front::Nothing, tally).await?;
            holder.batch_execute(&side.sql(side.drop, queue)).await?;
        }
        Ok((rows, points))
    }

    async fn autovacuum(&self, on: bool) -> Result<()> {
        let value = if on { "on" } else { "off" };
        self.admin
            .batch_execute(&format!("ALTER SYSTEM SET autovacuum = {value}"))
            .await?;
        self.admin.batch_execute("SELECT pg_reload_conf()").await?;
        Ok(())
    }
}

/// Every message is accounted for: what was there and what was sent, less what was acked, is what
/// the queue still holds; and no ack was refused.
async fn verify(
    owner: &Client,
    side: &Side,
    queue: &str,
    front: Front,
    tally: &Tally,
) -> Result<()> {
    let before = match front {
        Front::Nothing => 0,
        Front::Fill(count) | Front::Ready(count) | Front::Delayed(count) => count,
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
