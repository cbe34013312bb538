//! Cycles under an open snapshot: no dead row can be removed, minute after minute.

use std::time::Duration;

use pg_broker_bench_common::Result;
use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::pg::connect;

use serde_json::{Value, json};

use crate::load::{Job, Tally, Times, drive};
use crate::run::{Bench, hold_snapshot, verify};
use crate::workload::{Front, SNAPSHOT};

const CLIENTS: usize = 8;

/// A point of the series.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub side: &'static str,
    pub minute: f64,
    pub rate: f64,
}

impl Point {
    pub fn json(&self) -> Value {
        json!({
            "side": self.side,
            "minute": (self.minute * 1000.0).round() / 1e3,
            "rate": (self.rate * 10.0).round() / 10.0,
        })
    }
}

/// The key of a minute's row, counted from one.
pub fn key(minute: usize) -> String {
    format!("{SNAPSHOT}-{minute}")
}

impl Bench<'_> {
    /// Cycles of 8 clients while another session of the same database holds a snapshot open,
    /// minute by minute, the sides taking turns.
    pub async fn snapshot(&self) -> Result<(Vec<Row>, Vec<Point>)> {
        let queue = "under_snapshot";
        let sides = self.queues();
        let mut points = Vec::new();
        let mut rows: Vec<Row> = (1..=self.args.minutes)
            .map(|minute| {
                let title = format!("cycle under an open snapshot, minute {minute}; 8 clients");
                Row::new(&key(minute), &title, "cycles/s", true)
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
        let mut tallies = vec![Tally::default(); sides.len()];
        for side in &sides {
            let owner = connect(&self.url(side)).await?;
            owner.batch_execute(&side.sql(side.create, queue)).await?;
            owner.batch_execute("VACUUM (ANALYZE)").await?;
            hold_snapshot(&owner).await?;
            holders.push(owner);
        }
        self.autovacuum(true).await?;
        for (minute, row) in rows.iter_mut().enumerate() {
            for turn in 0..sides.len() {
                let number = (minute + turn) % sides.len();
                let side = &sides[number];
                let load = drive(
                    &self.admin,
                    &self.url(side),
                    *side,
                    queue,
                    Job::Cycle,
                    CLIENTS,
                    &times,
                )
                .await?;
                eprintln!(
                    "  {SNAPSHOT:<12} minute {} {:<17} {:>10.0} cycles/s",
                    minute + 1,
                    side.title,
                    load.rate
                );
                // A minute's figure is the median of its slices, so that one stall is not all.
                for (slice, rate) in load.slices.iter().enumerate() {
                    let micros: &[u32] = if slice == 0 { &load.tally.micros } else { &[] };
                    row.add(side.name, *rate, micros);
                }
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
        for ((side, holder), tally) in sides.iter().zip(&holders).zip(&tallies) {
            holder.batch_execute("COMMIT").await?;
            verify(holder, side, queue, Front::Nothing, tally).await?;
            holder.batch_execute(&side.sql(side.drop, queue)).await?;
        }
        Ok((rows, points))
    }

    pub async fn autovacuum(&self, on: bool) -> Result<()> {
        let value = if on { "on" } else { "off" };
        self.admin
            .batch_execute(&format!("ALTER SYSTEM SET autovacuum = {value}"))
            .await?;
        self.admin.batch_execute("SELECT pg_reload_conf()").await?;
        Ok(())
    }
}
