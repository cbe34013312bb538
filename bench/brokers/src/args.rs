//! What the command line says. The addresses come from `scripts/bench-brokers`.

use std::path::PathBuf;

use pg_broker_bench_common::Result;

pub const HELP: &str = "\
usage: make bench-brokers [PG=18|15] [ARGS='…']

  --seconds N        measured seconds of each round (3)
  --rounds N         rounds of each workload, sides taking turns (3)
  --backlog N        messages of the workload consume (200000)
  --samples N        messages of each round of the workloads receipt (500)
  --only A,B         only these workloads (see --list)
  --sides A,B        only these sides: ours, rabbitmq, jetstream
  --quick            half-second rounds and a small backlog: does it work?
  --check            fail when a figure misses its floor
  --threads N        threads of the client program (1)
  --out DIR          where the results go (bench/results; .run/bench-results unless a full run)
  --list             list the workloads
";

#[derive(Debug, Clone)]
pub struct Args {
    pub pg: String,
    pub postgres: String,
    pub rabbitmq: String,
    pub nats: String,
    pub nats_synced: String,
    pub synced_by: String,
    pub rabbitmq_version: String,
    pub seconds: f64,
    pub rounds: usize,
    pub backlog: u64,
    pub samples: usize,
    pub only: Vec<String>,
    pub sides: Vec<String>,
    pub quick: bool,
    pub check: bool,
    pub threads: usize,
    pub out: Option<PathBuf>,
    pub list: bool,
    pub help: bool,
}

impl Default for Args {
    fn default() -> Self {
        Args {
            pg: "18".into(),
            postgres: String::new(),
            rabbitmq: String::new(),
            nats: String::new(),
            nats_synced: String::new(),
            synced_by: String::new(),
            rabbitmq_version: "of unknown version".into(),
            seconds: 3.0,
            rounds: 3,
            backlog: 200_000,
            samples: 500,
            only: Vec::new(),
            sides: Vec::new(),
            quick: false,
            check: false,
            threads: 1,
            out: None,
            list: false,
            help: false,
        }
    }
}

impl Args {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Args> {
        let mut args = Args::default();
        while let Some(flag) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--pg" => args.pg = value()?,
                "--postgres" => args.postgres = value()?,
                "--rabbitmq" => args.rabbitmq = value()?,
                "--nats" => args.nats = value()?,
                "--nats-synced" => args.nats_synced = value()?,
                "--synced-by" => args.synced_by = value()?,
                "--rabbitmq-version" => args.rabbitmq_version = value()?,
                "--seconds" => args.seconds = number(&flag, &value()?)?,
                "--rounds" => args.rounds = number(&flag, &value()?)?,
                "--backlog" => args.backlog = number(&flag, &value()?)?,
                "--samples" => args.samples = number(&flag, &value()?)?,
                "--threads" => args.threads = number(&flag, &value()?)?,
                "--only" => args.only = list(&value()?),
                "--sides" => args.sides = list(&value()?),
                "--out" => args.out = Some(value()?.into()),
                "--quick" => {
                    args.quick = true;
                    args.seconds = 0.5;
                    args.backlog = 10_000;
                    args.samples = 50;
                }
                "--check" => args.check = true,
                "--list" => args.list = true,
                "--help" | "-h" => args.help = true,
                other => return Err(format!("unknown option {other}\n\n{HELP}").into()),
            }
        }
        if args.rounds == 0 || args.threads == 0 || args.samples == 0 || args.seconds <= 0.0 {
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
            && self.seconds >= full.seconds
            && self.rounds >= full.rounds
            && self.backlog >= full.backlog
            && self.samples >= full.samples
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
