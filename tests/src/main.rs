//! `pg_broker_tests [filter…]`: what clients may rely on, tested with real servers.
//!
//! Environment: `PG` (18 or 15), `PGB_ROOT` (the repository), `SEED` (of the random histories),
//! `LEDGER_SECONDS`. With filters only tests whose name contains one of them run.

mod account;
mod callers;
mod conn;
mod content;
mod contract;
mod crash;
mod ddl;
mod dead;
mod dedup;
mod drivers;
mod dump;
mod fence;
mod fence_crash;
mod follow;
mod grants;
mod harness;
mod isolation;
mod ledger;
mod lifecycle;
mod limits;
mod memory;
mod message;
mod model;
mod moves;
mod names;
mod pauses;
mod plans;
mod planted;
mod pooler;
mod pops;
mod processes;
mod property;
mod readers;
mod rng;
mod roles;
mod rollbacks;
mod server;
mod settle;
mod standby;
mod storage;
mod upgrade;
mod values;
mod verbs;
mod wake;
mod worker;
mod worker_moves;
mod world;

use std::process::ExitCode;
use std::time::Instant;
use tokio::signal::unix::SignalKind;

fn all() -> Vec<harness::Test> {
    [
        ledger::tests(),
        dump::tests(),
        upgrade::tests(),
        standby::tests(),
        memory::tests(),
        crash::tests(),
        fence::tests(),
        fence_crash::tests(),
        property::tests(),
        plans::tests(),
        readers::tests(),
        pops::tests(),
        settle::tests(),
        verbs::tests(),
        isolation::tests(),
        callers::tests(),
        dedup::tests(),
        limits::tests(),
        dead::tests(),
        rollbacks::tests(),
        wake::tests(),
        worker::tests(),
        worker_moves::tests(),
        pauses::tests(),
        ddl::tests(),
        contract::tests(),
        drivers::tests(),
        values::tests(),
        grants::tests(),
        roles::tests(),
        planted::tests(),
        names::tests(),
        follow::tests(),
        lifecycle::tests(),
        pooler::tests(),
    ]
    .into_iter()
    .flatten()
    // The upgrade ends at 18: it is one of the tests of 18.
    .filter(|test| world::version() >= 18 || !test.name.starts_with("upgrade::"))
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
        let mut ended = tokio::signal::unix::signal(SignalKind::terminate()).expect("a handler");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = ended.recv() => {}
        }
        server::stop_all();
        std::process::exit(130);
    });
    let started = Instant::now();
    let shared = server::shared().await;
    let (passed, failed) = harness::run(chosen, shared.clone()).await;
    drop(shared);
    server::stop_all();
    let work = &world::world().work;
    if failed == 0 {
        let _ = std::fs::remove_dir_all(work);
    } else {
        println!("logs of the servers: {}", work.display());
    }
    println!("{:.0} seconds", started.elapsed().as_secs_f64());
    let version = world::world().version;
    println!("SUITE client pg{version}: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
