//! pg_broker beside pgmq and hand-written SQL: the same work, on one server, in one run.
//!
//! The program starts a private server, gives every side a database of its own, lets the sides
//! take turns at each workload, checks that nothing got lost, and writes a table, JSON and a
//! chart. See `bench/README.md`.

mod args;
mod chart;
mod client;
mod load;
mod report;
mod run;
mod server;
mod side;
mod stats;
mod workload;

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use args::Args;
use report::Report;
use run::Bench;
use server::Server;
use side::{SIDES, Side};

pub type Error = Box<dyn StdError + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode> {
    let args = Args::parse(std::env::args().skip(1))?;
    if args.help {
        print!("{}", args::HELP);
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        for workload in workload::all(&args) {
            println!("{:<12} {}", workload.key, workload.title);
        }
        println!(
            "{:<12} cycles under an open snapshot, minute by minute",
            workload::SNAPSHOT
        );
        return Ok(ExitCode::SUCCESS);
    }
    // One thread serves all clients best where the server shares its cores with them.
    let mut runtime = match args.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime
        .worker_threads(args.threads)
        .enable_all()
        .build()?
        .block_on(async {
            tokio::select! {
                done = bench(&args) => done,
                _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = terminated() => Err("terminated".into()),
            }
        })
}

/// Being asked to end must not leave the server behind.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut asked) => drop(asked.recv().await),
        Err(_) => std::future::pending().await,
    }
}

async fn bench(args: &Args) -> Result<ExitCode> {
    let began = Instant::now();
    let root = match std::env::var_os("PGB_ROOT") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
    }
    .canonicalize()?;
    let sides = chosen(&args.sides)?;
    let keys: Vec<&str> = workload::all(args)
        .iter()
        .map(|workload| workload.key)
        .collect();
    for key in &args.only {
        if !keys.contains(&key.as_str()) && key != workload::SNAPSHOT {
            return Err(format!("no workload {key}; there are {keys:?}, snapshot").into());
        }
    }
    let wanted = |key: &str| args.only.is_empty() || args.only.iter().any(|only| only == key);

    let load_before = first_line("/proc/loadavg");
    let preload = sides.iter().any(|side| side.name == "ours");
    eprintln!("bench: starting a private PostgreSQL {}", args.pg);
    let server = Server::start(
        &root,
        &args.pg,
        args.pgbin.as_deref(),
        preload,
        &args.set,
        args.keep,
    )?;
    let admin = client::connect(&server.url("postgres")).await?;
    let bench = Bench {
        args,
        server: &server,
        admin,
        sides,
    };
    let versions = bench.install().await?;

    let mut rows = Vec::new();
    let mut points = Vec::new();
    for workload in workload::all(args) {
        if wanted(workload.key) {
            eprintln!("bench: {} ({:.0?} so far)", workload.title, began.elapsed());
            rows.extend(bench.workload(&workload).await?);
        }
    }
    if wanted(workload::SNAPSHOT) && args.minutes > 0 {
        eprintln!(
            "bench: under an open snapshot ({:.0?} so far)",
            began.elapsed()
        );
        let (minutes, series) = bench.snapshot().await?;
        rows.extend(minutes);
        points = series;
    }

    let mut conditions = conditions(&bench, &versions).await?;
    conditions.push((
        "load before",
        load_before.split(' ').take(3).collect::<Vec<_>>().join(" "),
    ));
    conditions.push(("took", format!("{:.0?}", began.elapsed())));
    let command = command(args);
    let report = Report {
        conditions,
        command,
        sides: bench.sides.clone(),
        rows,
        points,
    };
    let text = report.text();
    println!("{text}");
    write(&root, args, &report, &text)?;

    let shortfalls = report.shortfalls();
    for shortfall in &shortfalls {
        println!("BELOW: {shortfall}");
    }
    Ok(if args.check && !shortfalls.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
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
    match kept.is_empty() {
        true => format!("make bench PG={}", args.pg),
        false => format!("make bench PG={} ARGS='{}'", args.pg, kept.join(" ")),
    }
}

fn write(root: &Path, args: &Args, report: &Report, text: &str) -> Result<()> {
    let dir = match &args.out {
        Some(dir) => dir.clone(),
        None if args.is_full() => root.join("bench/results"),
        None => root.join(".run/bench-results"),
    };
    std::fs::create_dir_all(&dir)?;
    let file = |ending: &str| dir.join(format!("pg{}.{ending}", args.pg));
    std::fs::write(file("txt"), text)?;
    std::fs::write(file("json"), format!("{:#}\n", report.json()))?;
    std::fs::write(file("svg"), chart::svg(report))?;
    println!("written: {} (and .json, .svg)", file("txt").display());
    Ok(())
}

async fn conditions(bench: &Bench<'_>, versions: &[String]) -> Result<Vec<(&'static str, String)>> {
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
            "clients",
            format!(
                "tokio-postgres on {} thread(s), prepared statements, a connection a client, \
                 every statement a transaction, {}-byte JSON bodies, same machine as the server",
                args.threads,
                client::BODY.len()
            ),
        ),
    ];
    let git = server::output(
        Command::new("git")
            .arg("-C")
            .arg(env!("CARGO_MANIFEST_DIR"))
            .args(["describe", "--always", "--dirty"]),
    );
    if let Ok(commit) = git {
        conditions.push(("commit", commit));
    }
    Ok(conditions)
}

fn machine() -> String {
    let cores = std::thread::available_parallelism()
        .map(|cores| cores.get())
        .unwrap_or(0);
    let field = |file: &str, name: &str| {
        std::fs::read_to_string(file)
            .unwrap_or_default()
            .lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_string())
    };
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let kib: f64 = field("/proc/meminfo", "MemTotal")
        .and_then(|value| value.split(' ').next().and_then(|kib| kib.parse().ok()))
        .unwrap_or(0.0);
    let release = first_line("/proc/sys/kernel/osrelease");
    let kernel: Vec<&str> = release.split(['.', '-']).take(2).collect();
    let gib = kib / 1024.0 / 1024.0;
    format!(
        "{cores} cores ({model}), {gib:.0} GiB, Linux {}",
        kernel.join(".")
    )
}

fn first_line(file: &str) -> String {
    std::fs::read_to_string(file)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .into()
}

/// Those that are named, or all; in the order of the list.
fn chosen(names: &[String]) -> Result<Vec<Side>> {
    for name in names {
        if !SIDES.iter().any(|side| side.name == name) {
            return Err(format!("no side {name}; there are ours, pgmq, sql").into());
        }
    }
    let wanted = |side: &&Side| names.is_empty() || names.iter().any(|name| name == side.name);
    Ok(SIDES.iter().filter(wanted).copied().collect())
}
