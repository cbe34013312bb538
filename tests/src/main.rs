//! `pg_broker_tests [filter…]`: what clients may rely on, tested with real servers.
//!
//! Environment: `PG` (18 or 15), `PGB_ROOT` (the repository), `SEED` (of the random histories),
//! `LEDGER_SECONDS`. With filters only tests whose name contains one of them run.

mod conn;
mod contract;
mod crash;
mod ddl;
mod dedup;
mod drivers;
mod dump;
mod fence;
mod follow;
mod grants;
mod harness;
mod isolation;
mod ledger;
mod limits;
mod memory;
mod model;
mod plans;
mod planted;
mod pooler;
mod property;
mod readers;
mod rng;
mod rollbacks;
mod server;
mod settle;
mod standby;
mod storage;
mod upgrade;
mod wake;

use std::process::ExitCode;
use std::time::Instant;

fn all() -> Vec<harness::Test> {
    [
        ledger::tests(),
        dump::tests(),
        upgrade::tests(),
        standby::tests(),
        memory::tests(),
        crash::tests(),
        fence::tests(),
        property::tests(),
        plans::tests(),
        readers::tests(),
        settle::tests(),
        isolation::tests(),
        dedup::tests(),
        limits::tests(),
        rollbacks::tests(),
        wake::tests(),
        ddl::tests(),
        contract::tests(),
        drivers::tests(),
        grants::tests(),
        planted::tests(),
        follow::tests(),
        pooler::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 8)]
async fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).collect();
    if filters.iter().any(|f| f == "--list") {
        all().iter().for_each(|test| println!("{}", test.name));
        return ExitCode::SUCCESS;
    }
    let total = all().len();
    let mut chosen = all();
    chosen.retain(|t| filters.is_empty() || filters.iter().any(|f| t.name.contains(f.as_str())));
    let skipped = total - chosen.len();
    tokio::spawn(async {
        let _ = tokio::signal::ctrl_c().await;
        server::stop_all();
        std::process::exit(130);
    });
    let started = Instant::now();
    let shared = server::shared().await;
    let (passed, failed) = harness::run(chosen, shared.clone()).await;
    drop(shared);
    server::stop_all();
    let work = &server::world().work;
    if failed == 0 {
        let _ = std::fs::remove_dir_all(work);
    } else {
        println!("logs of the servers: {}", work.display());
    }
    println!("{:.0} seconds", started.elapsed().as_secs_f64());
    let version = server::world().version;
    println!("SUITE client pg{version}: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
