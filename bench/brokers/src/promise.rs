//! The floors: what ours must reach beside the brokers. `--check` fails when one is missed.

use pg_broker_bench_common::floor::Floor;

pub fn floors() -> Vec<Floor> {
    let mut floors = vec![
        Floor::side("cycle-1", "rabbitmq", 1.7),
        Floor::side("cycle-8", "rabbitmq", 1.8),
        Floor::side("cycle-16", "rabbitmq", 1.4),
        Floor::side("cycle-1", "jetstream", 2.0),
        Floor::side("cycle-8", "jetstream", 1.6),
        Floor::side("cycle-16", "jetstream", 1.8),
        Floor::side("relaxed-1", "jetstream", 1.4),
        Floor::side("relaxed-8", "jetstream", 1.0),
        Floor::side("relaxed-16", "jetstream", 1.0),
        Floor::side("publish", "rabbitmq", 10.0),
        Floor::side("publish", "jetstream", 1.0),
        Floor::side("consume", "rabbitmq", 3.0),
        Floor::side("consume", "jetstream", 1.1),
    ];
    for share in ["p50", "p99"] {
        for other in ["rabbitmq", "jetstream"] {
            floors.push(Floor::side(&format!("receipt-{share}"), other, 1.0));
        }
        let relaxed = format!("relaxed-receipt-{share}");
        floors.push(Floor::side(&relaxed, "jetstream", 1.0));
    }
    floors
}
