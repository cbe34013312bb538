//! What the command line says. Defaults make a full run; `--quick` makes a short one.

use std::path::PathBuf;

use pg_broker_bench_common::Result;

pub const HELP: &str = "\
usage: make bench [PG=18|15] [ARGS='…']   or   cargo run --release -p pg_broker_bench -- …

  --pg 18|15         version of the server (default: $PG, or 18)
  --seconds N        measured seconds of each round (2.5)
  --rounds N         rounds of each workload, sides taking turns (3)
  --minutes N        minutes under the open snapshot (5)
  --minute SECONDS   how long such a minute is (60)
  --backlog N        messages waiting in the workloads backlog and read-ready (1000000)
  --delayed N        messages in front in the workload read-delayed (1000000)
  --leased N         messages in front in the workload read-leased (100000)
  --samples N        messages of each round of the wake workload (100)
  --waiters N        sessions in the idle workload (500)
  --space N          messages through the queue in the workload space (3000000)
  --segment N        messages a segment there and in the workload delayed (20000; 0: automatic)
  --parked N         messages of the stream in the workload parked (300000)
  --delayed-seconds S  how long the workload delayed goes on (60)
  --queues N         queues in the workload thousand (1000)
  --before NAME=DIR  the bin directory of a PostgreSQL with an earlier build of the extension
  --only A,B         only these workloads (see --list)
  --sides A,B        only these sides: ours, dropin, pgmq, sql, plain
  --quick            one-second rounds, a small backlog, five-second minutes: does it work?
  --check            fail when a figure misses its floor
  --threads N        threads of the client program (1)
  --out DIR          where the results go (bench/results; .run/bench-results unless a full run)
  --pgbin DIR        the server's bin directory (default: what scripts/pgbin says)
  --set NAME=VALUE   a server setting more, may be repeated
  --keep             leave the server's data directory behind
  --list             list the workloads
";

#[derive(Debug, Clone)]
pub struct Args {
    pub pg: String,
    pub seconds: f64,
    pub warm: f64,
    pub rounds: usize,
    pub minutes: usize,
    pub minute: f64,
    pub backlog: i64,
    pub delayed: i64,
    pub leased: i64,
    pub samples: usize,
    pub waiters: usize,
    pub space: u64,
    pub segment: i64,
    pub parked: u64,
    pub delayed_seconds: f64,
    pub queues: usize,
    pub before: Option<Before>,
    pub only: Vec<String>,
    pub sides: Vec<String>,
    pub check: bool,
    pub quick: bool,
    pub threads: usize,
    pub out: Option<PathBuf>,
    pub pgbin: Option<PathBuf>,
    pub set: Vec<String>,
    pub keep: bool,
    pub list: bool,
    pub help: bool,
}

/// Another build of the extension: what to call it, and where its server's programs are.
#[derive(Debug, Clone)]
pub struct Before {
    pub name: String,
    pub bin: PathBuf,
}

impl Before {
    fn parse(text: &str) -> Result<Before> {
        match text.split_once('=') {
            Some((name, bin)) if !name.is_empty() => Ok(Before {
                name: name.into(),
                bin: bin.into(),
            }),
            _ => Err(format!("--before {text}: NAME=DIR").into()),
        }
    }

    /// As it was given.
    pub fn words(&self) -> String {
        format!("{}={}", self.name, self.bin.display())
    }
}

impl Default for Args {
    fn default() -> Self {
        Args {
            pg: std::env::var("PG")
                .ok()
                .filter(|v| !v.is_empty())
                .unwrap_or_else(|| "18".into()),
            seconds: 2.5,
            warm: 0.5,
            rounds: 3,
            minutes: 5,
            minute: 60.0,
            backlog: 1_000_000,
            delayed: 1_000_000,
            leased: 100_000,
            samples: 100,
            waiters: 500,
            space: 3_000_000,
            segment: 20_000,
            parked: 300_000,
            delayed_seconds: 60.0,
            queues: 1000,
            before: None,
            only: Vec::new(),
            sides: Vec::new(),
            check: false,
            quick: false,
            threads: 1,
            out: None,
            pgbin: None,
            set: Vec::new(),
            keep: false,
            list: false,
            help: false,
        }
    }
}

impl Args {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Args> {
        let mut args = Args::default();
        while let Some(word) = words.next() {
            let (flag, mut inline) = match word.split_once('=') {
                Some((flag, value)) => (flag.to_string(), Some(value.to_string())),
                None => (word, None),
            };
            let mut value = || {
                inline
                    .take()
                    .or_else(|| words.next())
                    .ok_or_else(|| format!("{flag} needs a value"))
            };
            match flag.as_str() {
                "--pg" => args.pg = value()?,
                "--seconds" => args.seconds = number(&flag, &value()?)?,
                "--rounds" => args.rounds = number(&flag, &value()?)?,
                "--minutes" => args.minutes = number(&flag, &value()?)?,
                "--minute" => args.minute = number(&flag, &value()?)?,
                "--backlog" => args.backlog = number(&flag, &value()?)?,
                "--delayed" => args.delayed = number(&flag, &value()?)?,
                "--leased" => args.leased = number(&flag, &value()?)?,
                "--samples" => args.samples = number(&flag, &value()?)?,
                "--waiters" => args.waiters = number(&flag, &value()?)?,
                "--space" => args.space = number(&flag, &value()?)?,
                "--segment" => args.segment = number(&flag, &value()?)?,
                "--parked" => args.parked = number(&flag, &value()?)?,
                "--delayed-seconds" => args.delayed_seconds = number(&flag, &value()?)?,
                "--before" => args.before = Some(Before::parse(&value()?)?),
                "--queues" => args.queues = number(&flag, &value()?)?,
                "--threads" => args.threads = number(&flag, &value()?)?,
                "--only" => args.only = list(&value()?),
                "--sides" => args.sides = list(&value()?),
                "--out" => args.out = Some(value()?.into()),
                "--pgbin" => args.pgbin = Some(value()?.into()),
                "--set" => args.set.push(value()?),
                "--quick" => {
                    args.quick = true;
                    args.seconds = 1.0;
                    args.warm = 0.2;
                    args.minutes = 2;
                    args.minute = 5.0;
                    args.backlog = 100_000;
                    args.delayed = 20_000;
                    args.leased = 20_000;
                    args.samples = 20;
                    args.waiters = 50;
                    args.space = 200_000;
                    args.segment = 10_000;
                    args.parked = 50_000;
                    args.delayed_seconds = 12.0;
                    args.queues = 50;
                }
                "--check" => args.check = true,
                "--keep" => args.keep = true,
                "--list" => args.list = true,
                "--help" | "-h" => args.help = true,
                other => return Err(format!("unknown option {other}\n\n{HELP}").into()),
            }
        }
        if args.rounds == 0
            || args.threads == 0
            || args.samples == 0
            || args.seconds <= 0.0
            || args.minute <= 0.0
        {
            return Err("rounds, threads, samples and times must be above zero".into());
        }
        Ok(args)
    }

    /// Only a run of everything, at full length, may replace the committed results.
    pub fn is_full(&self) -> bool {
        let full = Args::default();
        !self.quick
            && self.only.is_empty()
            && self.sides.is_empty()
            && self.set.is_empty()
            && self.seconds >= full.seconds
            && self.rounds >= full.rounds
            && self.minutes >= full.minutes
            && self.minute >= full.minute
            && self.backlog == full.backlog
            && self.delayed == full.delayed
            && self.leased == full.leased
            && self.samples >= full.samples
            && self.waiters >= full.waiters
            && self.space >= full.space
            && self.segment == full.segment
            && self.parked >= full.parked
            && self.delayed_seconds >= full.delayed_seconds
            && self.queues >= full.queues
    }
}

fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| format!("{flag}: not a number: {text}").into())
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(|word| word.trim().to_string())
        .filter(|word| !word.is_empty())
        .collect()
}
