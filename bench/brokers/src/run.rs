//! Runs the workloads: the sides take turns, every round is checked to have lost nothing.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pg_broker_bench_common::report::{Party, Report};
use pg_broker_bench_common::stats::percentile;
use pg_broker_bench_common::{BATCH, Result};

use crate::args::Args;
use crate::drive::{Job, Load, drive};
use crate::jetstream::Jetstream;
use crate::ours::Ours;
use crate::outcome::{command, conditions, write};
use crate::promise;
use crate::rabbitmq::Rabbitmq;
use crate::receipt::receipts;
use crate::side::{Session, Side};
use crate::workload::{Durability, WORKLOADS, Work, Workload};

/// One round's outcome: the values of the workload's rows, and the times of single calls.
struct Outcome {
    values: Vec<f64>,
    micros: Vec<u32>,
}

/// The servers, each in both durabilities where it has them.
pub struct Sides {
    pub ours: Ours,
    pub ours_relaxed: Ours,
    pub rabbitmq: Rabbitmq,
    pub jetstream: Jetstream,
    pub jetstream_relaxed: Jetstream,
}

const PARTIES: [Party; 3] = [Ours::PARTY, Rabbitmq::PARTY, Jetstream::PARTY];

impl Sides {
    async fn round(&self, workload: &Workload, party: &str, args: &Args) -> Result<Outcome> {
        let relaxed = workload.durability == Durability::Relaxed;
        match party {
            "ours" if relaxed => round(&self.ours_relaxed, workload, args).await,
            "ours" => round(&self.ours, workload, args).await,
            "rabbitmq" => round(&self.rabbitmq, workload, args).await,
            _ if workload.durability == Durability::Synced => {
                round(&self.jetstream, workload, args).await
            }
            _ => round(&self.jetstream_relaxed, workload, args).await,
        }
    }
}

async fn round<S: Side>(side: &S, workload: &Workload, args: &Args) -> Result<Outcome> {
    side.reset().await?;
    let outcome = match workload.work {
        Work::Job(job, workers) => {
            let mut before = 0;
            if job == Job::Consume {
                before = fill(side, args.backlog).await?;
            }
            let load = drive(side, job, workers, Duration::from_secs_f64(args.seconds)).await?;
            verify(side, before, &load).await?;
            Outcome {
                values: vec![load.rate],
                micros: load.micros,
            }
        }
        Work::Receipt => {
            let mut micros = receipts(side, args.samples).await?;
            let mut share = |share| f64::from(percentile(&mut micros, share).unwrap_or(0)) / 1000.0;
            Outcome {
                values: vec![share(0.5), share(0.99)],
                micros: Vec::new(),
            }
        }
    };
    side.remove().await?;
    Ok(outcome)
}

async fn fill<S: Side>(side: &S, count: u64) -> Result<u64> {
    let mut session = side.open().await?;
    let batches = count.div_ceil(BATCH as u64);
    for _ in 0..batches {
        session.publish_batch().await?;
    }
    session.close().await?;
    Ok(batches * BATCH as u64)
}

/// What was there and was published, less what was taken, is what is left. Acks that are not
/// answered, and sessions that just ended, get a moment.
async fn verify<S: Side>(side: &S, before: u64, load: &Load) -> Result<()> {
    let expected = before + load.published - load.taken.min(before + load.published);
    let began = Instant::now();
    loop {
        let found = side.count().await?;
        if found == expected {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(10) {
            return Err(format!(
                "{} lost its way: {before} before, {} published, {} taken, {found} left where \
                 {expected} were expected",
                S::PARTY.title,
                load.published,
                load.taken
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn run(args: &Args) -> Result<ExitCode> {
    let began = Instant::now();
    for (given, known) in [
        (
            &args.only,
            WORKLOADS.iter().map(|w| w.key).collect::<Vec<_>>(),
        ),
        (&args.sides, PARTIES.iter().map(|p| p.name).collect()),
    ] {
        if let Some(name) = given.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("no {name}; there are {}", known.join(", ")).into());
        }
    }
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|l| l == name);
    let parties: Vec<Party> = PARTIES
        .into_iter()
        .filter(|party| wanted(&args.sides, party.name))
        .collect();
    let sides = Sides {
        ours: Ours::new(&args.postgres, true),
        ours_relaxed: Ours::new(&args.postgres, false),
        rabbitmq: Rabbitmq::new(&args.rabbitmq, &args.rabbitmq_version),
        jetstream: Jetstream::synced(&args.nats_synced, &args.synced_by),
        jetstream_relaxed: Jetstream::with_defaults(&args.nats),
    };
    let conditions = conditions(args, &sides).await?;

    let mut rows = Vec::new();
    for workload in WORKLOADS.iter().filter(|w| wanted(&args.only, w.key)) {
        eprintln!("bench: {} ({:.0?} so far)", workload.title, began.elapsed());
        let parties: Vec<&Party> = parties.iter().filter(|p| workload.takes(p.name)).collect();
        let mut new = workload.rows();
        for number in 0..args.rounds {
            for turn in 0..parties.len() {
                let party = parties[(number + turn) % parties.len()];
                let outcome = sides.round(workload, party.name, args).await?;
                for (row, value) in new.iter_mut().zip(&outcome.values) {
                    eprintln!(
                        "  {:<20} round {}  {:<15} {value:>10.2} {}",
                        row.key,
                        number + 1,
                        party.title,
                        row.unit
                    );
                    row.add(party.name, *value, &outcome.micros);
                }
            }
        }
        rows.extend(new);
    }

    let mut report = Report {
        title: "pg_broker beside RabbitMQ and NATS JetStream, in one run",
        conditions,
        command: command(args),
        parties,
        rows,
        floors: promise::floors(),
    };
    report
        .conditions
        .push(("took", format!("{:.0?}", began.elapsed())));
    let text = report.text();
    println!("{text}");
    write(args, &report, &text)?;
    let missed = report.verdicts().iter().any(|verdict| !verdict.is_met());
    Ok(if args.check && missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
