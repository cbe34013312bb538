//! The floors: what `ours` must reach, workload by workload. `--check` fails when one is missed.

use pg_broker_bench_common::floor::Floor;

use crate::args::Args;
use crate::workload::{DELAYED, IDLE, PARKED, SPACE, WAL};
use crate::{before, idle, ordered, routes, snapshot, space, thousand, wake};

pub fn floors(args: &Args) -> Vec<Floor> {
    let mut floors = vec![
        Floor::side("cycle-8", "pgmq", 3.2),
        Floor::side("cycle-1", "pgmq", 2.8),
        Floor::side("cycle-8", "sql", 1.7),
        Floor::row("cycle-64", "cycle-8", 1.0),
        Floor::side("send-8", "plain", 1.0),
        Floor::side("send-batch", "plain", 1.2),
        Floor::side("drain-batch", "pgmq", 3.5),
        Floor::row("read-ready", "read", 0.8),
        Floor::row("read-delayed", "read", 0.8),
        Floor::row("read-leased", "read", 0.8),
        Floor::side("empty", "plain", 0.7),
        Floor::side(WAL, "pgmq", 0.7),
        Floor::value(wake::P50, 0.3),
        Floor::value(wake::P99, 2.0),
        Floor::value(IDLE, idle::MEASURABLE),
    ];
    let key = |workload: &str, row: &str| format!("{workload}-{row}");
    for stream in [SPACE, DELAYED] {
        floors.extend([
            Floor::value(&key(stream, "above"), space::SEGMENTS),
            Floor::value(&key(stream, "catalogs"), space::CATALOG_GROWTH),
            Floor::row(&key(stream, "dead"), &key(stream, "allowed"), 1.0),
            Floor::value(&key(stream, "autovacuum"), 0.0),
        ]);
    }
    let steady = |last: &str, first: &str| Floor::row(last, first, space::STEADY);
    floors.push(steady(
        &key(SPACE, "last-beside"),
        &key(SPACE, "first-beside"),
    ));
    floors.push(steady(&key(DELAYED, "last"), &key(DELAYED, "first")));
    floors.push(Floor::value(&key(PARKED, "end"), space::SEGMENTS));
    floors.push(Floor::value(&key(PARKED, "autovacuum"), 0.0));
    floors.extend(thousand::floors());
    floors.extend(before::floors());
    floors.extend(routes::floors());
    floors.extend(ordered::floors());
    if args.minutes > 1 {
        floors.push(Floor::row(
            &snapshot::key(args.minutes),
            &snapshot::key(1),
            0.9,
        ));
    }
    floors
}
