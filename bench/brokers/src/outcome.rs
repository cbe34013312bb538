//! What a reader of the results should know, and where they are written.

use std::path::Path;

use pg_broker_bench_common::machine::{commit, load, machine, root};
use pg_broker_bench_common::pg::connect;
use pg_broker_bench_common::report::Report;
use pg_broker_bench_common::{BODY, Result};

use crate::args::Args;
use crate::run::Sides;
use crate::side::Side;

pub async fn conditions(args: &Args, sides: &Sides) -> Result<Vec<(&'static str, String)>> {
    let mut conditions = vec![
        ("date", pg_date(&args.postgres).await?),
        ("ours", sides.ours.about().await?),
        ("rabbitmq", sides.rabbitmq.about().await?),
        ("jetstream", sides.jetstream.about().await?),
        ("", sides.jetstream_relaxed.about().await?),
        (
            "durability",
            "synced: ours with synchronous_commit=on, persistent and confirmed in RabbitMQ, \
             JetStream syncing each message and answering acks; not synced: ours with synchronous_commit=off, \
             JetStream's default"
                .into(),
        ),
        ("machine", machine()),
        (
            "rounds",
            format!(
                "{} of {} s each, the sides taking turns; consume from a backlog of {}; receipt \
                 of {} messages",
                args.rounds, args.seconds, args.backlog, args.samples
            ),
        ),
        (
            "clients",
            format!(
                "one program on {} thread(s), a connection a worker: tokio-postgres with prepared \
                 statements, lapin, async-nats; {}-byte bodies; same machine as the servers",
                args.threads,
                BODY.len()
            ),
        ),
        ("load before", load()),
    ];
    if let Some(commit) = commit(&root()?) {
        conditions.push(("commit", commit));
    }
    Ok(conditions)
}

async fn pg_date(url: &str) -> Result<String> {
    let sql = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')";
    let client = connect(url).await?;
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// The command that makes this run again; where the servers were is of no interest.
pub fn command(args: &Args) -> String {
    let mut words = std::env::args().skip(1);
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--pg" | "--postgres" | "--rabbitmq" | "--rabbitmq-version" | "--nats"
            | "--nats-synced" | "--synced-by" | "--out" => drop(words.next()),
            _ => kept.push(word),
        }
    }
    match kept.is_empty() {
        true => format!("make bench-brokers PG={}", args.pg),
        false => format!(
            "make bench-brokers PG={} ARGS='{}'",
            args.pg,
            kept.join(" ")
        ),
    }
}

pub fn write(args: &Args, report: &Report, text: &str) -> Result<()> {
    let dir = match &args.out {
        Some(dir) => dir.clone(),
        None if args.is_full() => root()?.join("bench/results"),
        None => root()?.join(".run/bench-results"),
    };
    std::fs::create_dir_all(&dir)?;
    write_file(&dir.join("brokers.txt"), text)?;
    let json = serde_json::Value::from(report.json());
    write_file(&dir.join("brokers.json"), &format!("{json:#}\n"))?;
    println!("written: {} (and .json)", dir.join("brokers.txt").display());
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}
