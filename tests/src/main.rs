//! `pg_broker_tests [filter…]`: what clients may rely on, tested with real servers.
//!
//! Environment: `PG` (18 or 15), `PGB_ROOT` (the repository), `SEED` (of the random histories),
//! `LEDGER_SECONDS`, `SOAK_SECONDS`, `MEMORY_TIMES`, `TEST_SECONDS`. With filters only tests whose name contains one of them run.

mod account;
mod active;
mod actor;
mod alarms;
mod alarms_unheard;
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
mod exchanges;
mod fair;
mod fair_ends;
mod fair_limits;
mod fair_space;
mod fence;
mod fence_crash;
mod figures;
mod filters;
mod flight;
mod follow;
mod grants;
mod groups;
mod groups_late;
mod groups_turns;
mod harness;
mod isolation;
mod ledger;
mod lifecycle;
mod limits;
mod memory;
mod message;
mod metrics;
mod model;
mod moves;
mod names;
mod native;
mod oracle;
mod parked;
mod pauses;
#[path = "../clients/rust.rs"]
mod pgmq_client;
mod pgmq_import;
mod pgmq_queues;
mod pgmq_same;
mod plans;
mod planted;
mod pooler;
mod pops;
mod prepared;
mod processes;
mod promotion;
mod property;
mod rates;
mod readers;
mod reference;
mod reply_queues;
mod requests;
mod rng;
mod roles;
mod rollbacks;
mod server;
mod settle;
mod space;
mod space_batches;
mod space_callers;
mod space_catalogs;
mod space_crash;
mod space_deadlocks;
mod space_dump;
mod space_limits;
mod space_middle;
mod space_order;
mod space_parking;
mod space_pgmq;
mod space_pinned;
mod space_rotation;
mod space_sends;
mod space_sizes;
mod space_standby;
mod space_undone;
mod space_upkeep;
mod space_verbs;
mod space_young;
mod spread;
mod standby;
mod status;
mod storage;
mod stress;
mod tables;
mod traffic;
#[path = "../tutorials/mod.rs"]
mod tutorials;
mod upgrade;
mod values;
mod verbs;
mod wake;
mod worker;
mod worker_moves;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use tokio::signal::unix::SignalKind;

fn all() -> Vec<harness::Test> {
    [
        ledger::tests(),
        dump::tests(),
        upgrade::tests(),
        standby::tests(),
        promotion::tests(),
        memory::tests(),
        crash::tests(),
        fence::tests(),
        fence_crash::tests(),
        property::tests(),
        stress::tests(),
        groups::tests(),
        oracle::tests(),
        prepared::tests(),
        metrics::tests(),
        plans::tests(),
        rates::tests(),
        flight::tests(),
        readers::tests(),
        filters::tests(),
        active::tests(),
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
        requests::tests(),
        reply_queues::tests(),
        alarms::tests(),
        alarms_unheard::tests(),
        worker::tests(),
        worker_moves::tests(),
        pauses::tests(),
        pgmq_client::tests(),
        pgmq_import::tests(),
        pgmq_queues::tests(),
        pgmq_same::tests(),
        status::tests(),
        ddl::tests(),
        contract::tests(),
        drivers::tests(),
        exchanges::tests(),
        values::tests(),
        grants::tests(),
        groups_late::tests(),
        groups_turns::tests(),
        fair::tests(),
        fair_ends::tests(),
        fair_limits::tests(),
        fair_space::tests(),
        roles::tests(),
        planted::tests(),
        names::tests(),
        native::tests(),
        tables::tests(),
        follow::tests(),
        lifecycle::tests(),
        pooler::tests(),
        space_crash::tests(),
        space_deadlocks::tests(),
        space_dump::tests(),
        space_middle::tests(),
        space_standby::tests(),
        space_catalogs::tests(),
        space_callers::tests(),
        space_limits::tests(),
        space_order::tests(),
        space_parking::tests(),
        space_pgmq::tests(),
        space_batches::tests(),
        space_rotation::tests(),
        space_pinned::tests(),
        space_sends::tests(),
        space_sizes::tests(),
        space_undone::tests(),
        space_upkeep::tests(),
        space_verbs::tests(),
        space_young::tests(),
        tutorials::tests(),
    ]
    .into_iter()
    .flatten()
    // The upgrade ends at 18: it is one of the tests of 18.
    .filter(|test| world::version() >= 18 || !test.name.starts_with("upgrade::"))
    .collect()
}

/// The contract does not depend on what makes it fast, nor on where messages lie: these run once more
/// on a server whose readers do without hints, on one that does not preload the library, and on one
/// where every few messages have a segment of their own.
const AGAIN: [&str; 10] = [
    "verbs::",
    "readers::",
    "pops::",
    "fence::",
    "dead::",
    "pauses::",
    "isolation::",
    "oracle::",
    "native::",
    "groups_",
];
const MODES: [(&str, &str); 3] = [
    ("unhinted", "pg_broker.hints = off\n"),
    ("plain", "shared_preload_libraries = ''\n"),
    (
        "segmented",
        "pg_broker.segment_size = 64\npg_broker.move_grace = '100ms'\n",
    ),
];

fn again(mode: &str) -> Vec<harness::Test> {
    let is_chosen = |t: &harness::Test| AGAIN.iter().any(|part| t.name.starts_with(part));
    let chosen = all().into_iter().filter(is_chosen);
    chosen.map(|t| t.in_mode(mode)).collect()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 8)]
async fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).collect();
    let mut runs = vec![("shared", "", all())];
    runs.extend(MODES.map(|(mode, settings)| (mode, settings, again(mode))));
    if filters.iter().any(|f| f == "--list") {
        let tests = runs.iter().flat_map(|(_, _, tests)| tests);
        tests.for_each(|test| println!("{}", test.name));
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
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
    for (name, settings, mut tests) in runs {
        let total = tests.len();
        tests.retain(|t| filters.is_empty() || filters.iter().any(|f| t.name.contains(f.as_str())));
        skipped += total - tests.len();
        if !tests.is_empty() {
            let server = Arc::new(server::Server::start(name, settings).await);
            let (good, bad) = harness::run(tests, server).await;
            passed += good;
            failed += bad;
        }
    }
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
