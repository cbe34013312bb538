//! What many sessions that wait on an idle queue cost the server: nothing, or it is polling.
//!
//! Measured is the time on the CPU of all processes of the server, by the kernel's account in
//! nanoseconds, less what it was with the same sessions connected and not waiting.

use std::time::{Duration, Instant};

use pg_broker_bench_common::Result;
use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::pg::connect;
use tokio_postgres::{Client, NoTls};

use crate::process::{family, parent, spent, times};
use crate::run::Bench;
use crate::side::{Side, Wait};
use crate::workload::IDLE;

/// Milliseconds of CPU a second that count as none: what a server does without being asked to
/// varies by about as much.
pub const MEASURABLE: f64 = 5.0;

impl Bench<'_> {
    pub async fn idle(&self) -> Result<Row> {
        let title = format!("CPU of {} waiters on an idle queue", self.args.waiters);
        let mut row = Row::new(IDLE, &title, "ms/s", false);
        let sides = self.queues();
        for round in 0..self.args.rounds {
            for turn in 0..sides.len() {
                let side = &sides[(round + turn) % sides.len()];
                let cost = self.idle_round(side).await?;
                eprintln!(
                    "  {IDLE:<12} round {}  {:<17} {cost:>10.2} ms of CPU a second",
                    round + 1,
                    side.title,
                );
                row.add(side.name, cost, &[]);
            }
        }
        Ok(row)
    }

    async fn idle_round(&self, side: &Side) -> Result<f64> {
        let (queue, url) = (IDLE, self.url(side));
        let owner = connect(&url).await?;
        owner.batch_execute(&side.sql(side.create, queue)).await?;
        drop(owner);
        let mut waiters = Vec::with_capacity(self.args.waiters);
        for _ in 0..self.args.waiters {
            // These end by being terminated, which is no news.
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
            tokio::spawn(async move { drop(connection.await) });
            waiters.push(client);
        }
        let before = self.cpu_rate().await?;
        let (wait, listens) = match side.wait {
            Wait::Call(sql) | Wait::Read(sql) => (side.sql(sql, queue), false),
            Wait::Listen => (format!("LISTEN \"{queue}\""), true),
        };
        let waiting: Vec<_> = waiters
            .into_iter()
            .map(|client| tokio::spawn(wait_on(client, wait.clone(), listens)))
            .collect();
        let during = self.cpu_rate().await?;
        self.admin
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = $1 AND backend_type = 'client backend'",
                &[&side.database()],
            )
            .await?;
        for waiter in waiting {
            waiter.abort();
        }
        let owner = connect(&url).await?;
        owner.batch_execute(&side.sql(side.drop, queue)).await?;
        Ok((during - before).max(0.0))
    }

    /// Milliseconds on the CPU a second of all processes of the server.
    async fn cpu_rate(&self) -> Result<f64> {
        // Connecting, or beginning to wait, is not what is measured.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let row = self.admin.query_one("SELECT pg_backend_pid()", &[]).await?;
        let server = parent(row.try_get(0)?).ok_or("the server's processes cannot be seen")?;
        let (first, began) = (times(&family(server)?)?, Instant::now());
        tokio::time::sleep(Duration::from_secs_f64(self.args.seconds * 2.0)).await;
        let (last, took) = (times(&family(server)?)?, began.elapsed());
        let nanos = spent(&first, &last);
        Ok(nanos as f64 / 1e6 / took.as_secs_f64())
    }
}

/// Waits, and waits again when the time was over, until the session is ended. A listener only
/// says so once, and keeps its connection.
async fn wait_on(client: Client, wait: String, listens: bool) {
    while client.simple_query(&wait).await.is_ok() {
        if listens {
            std::future::pending::<()>().await;
        }
    }
}
