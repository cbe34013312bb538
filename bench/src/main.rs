//! pg_broker beside pgmq and hand-written SQL: the same work, on one server, in one run.
//!
//! The program starts a private server, gives every side a database of its own, lets the sides
//! take turns at each workload, checks that nothing got lost, and writes a table, JSON and a
//! chart. See `bench/README.md`.

mod args;
mod before;
mod chart;
mod client;
mod idle;
mod load;
mod ordered;
mod pair;
mod plot;
mod process;
mod promise;
mod routes;
mod run;
mod server;
mod side;
mod snapshot;
mod space;
mod thousand;
mod wake;
mod workload;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use args::Args;
use pg_broker_bench_common::machine::{commit, load, machine, root};
use pg_broker_bench_common::pg::connect;
use pg_broker_bench_common::report::Report;
use pg_broker_bench_common::text::grouped;
use pg_broker_bench_common::{BODY, Result, block_on, ended};
use run::Bench;
use server::Server;
use side::{SIDES, Side};
use workload::{BEFORE, DELAYED, IDLE, ORDERED, PARKED, ROUTES, SNAPSHOT, SPACE, THOUSAND, WAKE};

fn main() -> ExitCode {
    ended(start())
}

fn start() -> Result<ExitCode> {
    let args = Args::parse(std::env::args().skip(1))?;
    if args.help {
        print!("{}", args::HELP);
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        for (key, title) in workload::names(&args) {
            println!("{key:<12} {title}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    block_on(args.threads, bench(&args))
}

async fn bench(args: &Args) -> Result<ExitCode> {
    let began = Instant::now();
    let root = root()?;
    let sides = chosen(&args.sides)?;
    let names = workload::names(args);
    for key in &args.only {
        if !names.iter().any(|(name, _)| name == key) {
            let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            return Err(format!("no workload {key}; there are {}", names.join(", ")).into());
        }
    }
    let wanted = |key: &str| args.only.is_empty() || args.only.iter().any(|only| only == key);

    let load_before = load();
    let preload = sides
        .iter()
        .any(|side| ["ours", "dropin"].contains(&side.name));
    eprintln!("bench: starting a private PostgreSQL {}", args.pg);
    let server = Server::start(
        &root,
        &args.pg,
        args.pgbin.as_deref(),
        preload,
        &args.set,
        args.keep,
    )?;
    let admin = connect(&server.url("postgres")).await?;
    let bench = Bench {
        args,
        server: &server,
        admin,
        sides,
    };
    let versions = bench.install().await?;

    let mut rows = Vec::new();
    let mut series = Series::default();
    for mut group in workload::groups(args) {
        group.retain(|workload| wanted(workload.key));
        if let Some(first) = group.first() {
            say(&first.title, began);
            rows.extend(bench.group(&group).await?);
        }
    }
    if wanted(ROUTES) {
        say("publishing", began);
        rows.extend(bench.routes().await?);
    }
    if wanted(ORDERED) {
        say("ordered groups", began);
        rows.extend(bench.ordered().await?);
    }
    if wanted(WAKE) {
        say("from a commit to the waiter", began);
        rows.extend(bench.wake().await?);
    }
    if wanted(IDLE) && args.waiters > 0 {
        say("waiters on an idle queue", began);
        rows.push(bench.idle().await?);
    }
    if wanted(SNAPSHOT) && args.minutes > 0 {
        say("under an open snapshot", began);
        let (minutes, points) = bench.snapshot().await?;
        rows.extend(minutes);
        series.snapshot = points;
    }
    if wanted(SPACE) && args.space > 0 {
        say("size under an open snapshot", began);
        let (sizes, points) = bench.space().await?;
        rows.extend(sizes);
        series.space = points;
    }
    if wanted(PARKED) && args.parked > 0 {
        say("messages that stay", began);
        rows.extend(bench.parked().await?);
    }
    if wanted(DELAYED) && args.delayed_seconds > 0.0 {
        say("delayed messages under an open snapshot", began);
        rows.extend(bench.delayed().await?);
    }
    if wanted(THOUSAND) && args.queues > 0 {
        say("many queues", began);
        rows.extend(bench.thousand().await?);
    }

    if wanted(BEFORE) && args.before.is_some() {
        say("beside an earlier build", began);
        rows.extend(bench.before().await?);
    }

    let mut conditions = conditions(&root, &bench, &versions).await?;
    conditions.push(("load before", load_before));
    conditions.push(("took", format!("{:.0?}", began.elapsed())));
    let report = Report {
        title: "pg_broker beside pgmq and hand-written SQL, in one run",
        conditions,
        command: command(args),
        parties: bench.sides.iter().map(Side::party).collect(),
        rows,
        floors: promise::floors(args),
    };
    let text = report.text();
    println!("{text}");
    write(&root, args, &report, &series, &text)?;

    let missed = report.verdicts().iter().any(|verdict| !verdict.is_met());
    Ok(if args.check && missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What is drawn over time.
#[derive(Default)]
struct Series {
    snapshot: Vec<snapshot::Point>,
    space: Vec<space::Point>,
}

fn say(what: &str, began: Instant) {
    eprintln!("bench: {what} ({:.0?} so far)", began.elapsed());
}

/// The command that makes this run again.
fn command(args: &Args) -> String {
    let mut words = std::env::args().skip(1);
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--pg" | "--out" | "--pgbin" => drop(words.next()),
            _ => kept.push(word),
        }
    }
    // Where an earlier build stands is of no interest to anybody else.
    let kept = match &args.before {
        Some(before) => kept
            .join(" ")
            .replace(&before.words(), &format!("{}=DIR", before.name)),
        None => kept.join(" "),
    };
    match kept.is_empty() {
        true => format!("make bench PG={}", args.pg),
        false => format!("make bench PG={} ARGS='{kept}'", args.pg),
    }
}

fn write(root: &Path, args: &Args, report: &Report, series: &Series, text: &str) -> Result<()> {
    let dir = match &args.out {
        Some(dir) => dir.clone(),
        None if args.is_full() => root.join("bench/results"),
        None => root.join(".run/bench-results"),
    };
    std::fs::create_dir_all(&dir)?;
    let file = |ending: &str| dir.join(format!("pg{}{ending}", args.pg));
    let mut json = report.json();
    let minutes = series.snapshot.iter().map(snapshot::Point::json);
    let seconds = series.space.iter().map(space::Point::json);
    json.insert("snapshot".into(), minutes.collect());
    json.insert("space".into(), seconds.collect());
    std::fs::write(file(".txt"), text)?;
    std::fs::write(
        file(".json"),
        format!("{:#}\n", serde_json::Value::from(json)),
    )?;
    std::fs::write(file(".svg"), chart::svg(report, &series.snapshot))?;
    let mut kinds = ".json, .svg".to_string();
    if !series.space.is_empty() {
        std::fs::write(file("-space.svg"), space::svg(report, &series.space))?;
        kinds.push_str(", -space.svg");
    }
    println!("written: {} (and {kinds})", file(".txt").display());
    Ok(())
}

async fn conditions(
    root: &Path,
    bench: &Bench<'_>,
    versions: &[String],
) -> Result<Vec<(&'static str, String)>> {
    let row = bench
        .admin
        .query_one(
            "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"'), \
                    current_setting('server_version'), current_setting('data_checksums')",
            &[],
        )
        .await?;
    let (date, version, checksums): (String, String, String) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let settings: Vec<String> = bench
        .server
        .settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let args = bench.args;
    let mut conditions = vec![
        ("date", date),
        ("server", format!("PostgreSQL {version}")),
        ("sides", versions.join(", ")),
        ("machine", machine()),
        (
            "settings",
            format!("{} data_checksums={checksums}", settings.join(" ")),
        ),
        (
            "rounds",
            format!(
                "{} of {} s each after {} s of warming up, the sides taking turns; \
                 under the snapshot {} minutes of {} s",
                args.rounds, args.seconds, args.warm, args.minutes, args.minute
            ),
        ),
        (
            "space",
            format!(
                "{} messages through a queue, and for {} s messages delayed by 5 s, 100 a call, \
                 under one snapshot for each side, one side after the other; {}; \
                 autovacuum looks every second",
                grouped(args.space as i64),
                args.delayed_seconds,
                match args.segment {
                    0 => "automatic segments".to_string(),
                    size => format!("segments of {} messages", grouped(size)),
                }
            ),
        ),
        (
            "clients",
            format!(
                "tokio-postgres on {} thread(s), prepared statements, a connection a client, \
                 every statement a transaction, {}-byte JSON bodies, same machine as the server",
                args.threads,
                BODY.len()
            ),
        ),
    ];
    if let Some(commit) = commit(root) {
        conditions.push(("commit", commit));
    }
    Ok(conditions)
}

/// Those that are named, or all; in the order of the list.
fn chosen(names: &[String]) -> Result<Vec<Side>> {
    for name in names {
        if !SIDES.iter().any(|side| side.name == name) {
            return Err(format!("no side {name}; there are ours, pgmq, sql, plain").into());
        }
    }
    let wanted = |side: &&Side| names.is_empty() || names.iter().any(|name| name == side.name);
    Ok(SIDES.iter().filter(wanted).copied().collect())
}
