//! A few messages that stay, delayed by hours or failing for ever, in a stream of others: they must
//! not hold back the space of those around them. Only for a side that has segments.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::pg::{MESSAGE, connect};
use pg_broker_bench_common::text::grouped;
use pg_broker_bench_common::{BATCH, Result};
use tokio_postgres::{Client, Statement};

use super::flow::{Flow, Goal, Watched, watch};
use super::gauge::Gauge;
use crate::run::{Bench, create, verify};
use crate::side::Side;
use crate::workload::{Front, PARKED};

const DELAYED: u64 = 1000;
const STUCK: u64 = 100;
const CLIENTS: usize = 2;
/// The stream goes through so many segments.
const SEGMENTS: u64 = 15;
/// How long the space may take to come back once the stream has ended.
const SETTLE: Duration = Duration::from_secs(5);

const SETUP: &str = "SELECT mq.alter_queue('parked', backoff => '{2 s, 1 min, 10 min}')";
const SEND: &str = "SELECT mq.send_batch('parked', $1::jsonb[])";
const SEND_DELAYED: &str = "SELECT mq.send('parked', $1::jsonb, delay => interval '10 hours')";
const SEND_STUCK: &str = "SELECT mq.send('parked', '{\"stuck\": true}')";
const READ: &str = "SELECT id, receipt, body ? 'stuck' FROM mq.read('parked', $1)";
const ACK: &str = "SELECT mq.ack_batch('parked', $1::bigint[], $2::bigint[])";
const NACK: &str = "SELECT mq.nack_batch('parked', $1::bigint[], $2::bigint[])";

impl Bench<'_> {
    pub async fn parked(&self) -> Result<Vec<Row>> {
        let Some(side) = self.sides.iter().find(|side| !side.resize.is_empty()) else {
            return Ok(Vec::new());
        };
        let url = self.url(side);
        let owner = connect(&url).await?;
        let segment = (self.args.parked / SEGMENTS).max(64);
        create(&owner, side, PARKED, segment as i64).await?;
        owner.batch_execute(SETUP).await?;
        let gauge = Gauge::open(&url, side, PARKED).await?;
        self.keen_autovacuum(true).await?;
        let (flow, batches) = (Arc::new(Flow::default()), Arc::new(AtomicU64::new(0)));
        let mut workers = Vec::new();
        for _ in 0..CLIENTS {
            let client = connect(&url).await?;
            let consumer = Consumer::open(client, self.args.parked).await?;
            workers.push(tokio::spawn(consumer.work(flow.clone(), batches.clone())));
        }
        let goal = Goal::Messages(self.args.parked);
        let mut watched = watch(&flow, workers, None, &gauge, goal, Duration::ZERO).await?;
        let during = watched.above_live();
        tokio::time::sleep(SETTLE).await;
        let left = self.settle(side, &gauge, &mut watched).await?;
        let autovacuums = gauge.autovacuums().await?;
        self.keen_autovacuum(false).await?;
        verify(&owner, side, PARKED, Front::Nothing, &watched.tally).await?;
        owner.batch_execute(&side.sql(side.drop, PARKED)).await?;

        let title = format!("{} that stay", grouped((DELAYED + STUCK) as i64));
        let row = |name: &str, what: &str, unit, value: f64| {
            let (key, title) = (format!("{PARKED}-{name}"), format!("{title}: {what}"));
            let mut row = Row::new(&key, &title, unit, false);
            row.add(side.name, value, &[]);
            row
        };
        eprintln!(
            "  {PARKED:<12} {:<17} {left:>10.1} segments above live at the end, {during:.1} before",
            side.title
        );
        let size = watched.samples.last().map_or(0, |last| last.sizes.queue);
        let mut rows = vec![
            row("end", "above live at the end", "segments", left),
            row("above", "most above live", "segments", during),
            row("size", "size at the end", "MB", size as f64 / 1e6),
        ];
        let times = autovacuums.map(|times| times as f64);
        rows.extend(
            times.map(|times| row("autovacuum", "autovacuums of segments", "times", times)),
        );
        Ok(rows)
    }

    /// What is held back once the stream has ended, in segments.
    async fn settle(&self, side: &Side, gauge: &Gauge, watched: &mut Watched) -> Result<f64> {
        let sizes = gauge.sizes().await?;
        let Some(mut last) = watched.samples.last().copied() else {
            return Err(format!("{}: no sample was taken", side.title).into());
        };
        last.sizes = sizes;
        last.live = watched.tally.sent - watched.tally.acked;
        watched.samples.push(last);
        Ok(watched.segments_above(&last))
    }
}

struct Consumer {
    client: Client,
    send: Statement,
    send_delayed: Statement,
    send_stuck: Statement,
    read: Statement,
    ack: Statement,
    nack: Statement,
    all: u64,
}

impl Consumer {
    async fn open(client: Client, all: u64) -> Result<Consumer> {
        Ok(Consumer {
            send: client.prepare(SEND).await?,
            send_delayed: client.prepare(SEND_DELAYED).await?,
            send_stuck: client.prepare(SEND_STUCK).await?,
            read: client.prepare(READ).await?,
            ack: client.prepare(ACK).await?,
            nack: client.prepare(NACK).await?,
            client,
            all,
        })
    }

    /// Batches go through; spread evenly among them, others are sent that stay.
    async fn work(self, flow: Arc<Flow>, batches: Arc<AtomicU64>) -> Result<()> {
        let bodies = vec![MESSAGE; BATCH];
        let whole = (self.all / BATCH as u64).max(1);
        let (mut acks, mut nacks) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        while let Some(_turn) = flow.next().await {
            let batch = batches.fetch_add(1, Relaxed);
            let before = |batch: u64, count: u64| count * batch.min(whole) / whole;
            let now = |count: u64| before(batch + 1, count) - before(batch, count);
            for _ in 0..now(DELAYED) {
                self.client.execute(&self.send_delayed, &[&MESSAGE]).await?;
                flow.sent.fetch_add(1, Relaxed);
            }
            for _ in 0..now(STUCK) {
                self.client.execute(&self.send_stuck, &[]).await?;
                flow.sent.fetch_add(1, Relaxed);
            }
            let sent = self.client.execute(&self.send, &[&bodies]).await?;
            flow.sent.fetch_add(sent, Relaxed);
            for row in self.client.query(&self.read, &[&(BATCH as i32)]).await? {
                let (ids, receipts): &mut (Vec<i64>, Vec<i64>) = match row.try_get(2)? {
                    true => &mut nacks,
                    false => &mut acks,
                };
                ids.push(row.try_get(0)?);
                receipts.push(row.try_get(1)?);
            }
            if !acks.0.is_empty() {
                let settled = self.client.execute(&self.ack, &[&acks.0, &acks.1]).await?;
                flow.settled(settled, acks.0.len());
            }
            if !nacks.0.is_empty() {
                self.client
                    .execute(&self.nack, &[&nacks.0, &nacks.1])
                    .await?;
            }
            for (ids, receipts) in [&mut acks, &mut nacks] {
                ids.clear();
                receipts.clear();
            }
        }
        Ok(())
    }
}
