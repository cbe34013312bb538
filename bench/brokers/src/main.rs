//! pg_broker beside RabbitMQ and NATS JetStream: the same work, on one machine, in one run.
//!
//! `scripts/bench-brokers` starts the servers and says where they are. The sides take turns at
//! each workload; after each round the program checks that nothing got lost. See
//! `bench/README.md`.

mod args;
mod drive;
mod jetstream;
mod ours;
mod outcome;
mod promise;
mod rabbitmq;
mod receipt;
mod run;
mod side;
mod workload;

use std::process::ExitCode;

use pg_broker_bench_common::{Result, block_on, ended};

use args::Args;

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
        for workload in workload::WORKLOADS {
            println!("{:<16} {}", workload.key, workload.title);
        }
        return Ok(ExitCode::SUCCESS);
    }
    block_on(args.threads, run::run(&args))
}
