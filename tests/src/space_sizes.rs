//! How large segments are where nobody says: as many ids as come within `pg_broker.rotation_interval`, so
//! that each queue begins about as many in a minute, whatever its rate.

use crate::conn::Conn;
use crate::harness::{Cx, spawn};
use crate::server::Server;
use crate::space::{self, Upkeep};
use crate::tests;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

tests![
    #[solo]
    follow_the_rate
];

const INTERVAL: Duration = Duration::from_secs(1);
/// Time to find the size, which changes by steps, and time to be looked at.
const FINDS: Duration = Duration::from_secs(4);
const KEEPS: Duration = Duration::from_secs(8);
/// It follows the segment before, and the machine may be busy with other things.
const ABOUT: f64 = 2.5;
const BATCH: u32 = 1000;

/// What a queue did while it was looked at.
#[derive(Debug)]
struct Told {
    /// Ids a second.
    rate: f64,
    /// The size of each segment that began, in ids.
    sizes: Vec<i64>,
    took: Duration,
}

/// Sends and takes a batch, and once more when so much time has passed.
async fn goes_on(c: Conn, queue: &'static str, pause: Duration) -> Told {
    c.run(&format!("SELECT mq.create_queue('{queue}')")).await;
    let (began, mut next) = (Instant::now(), Instant::now());
    let mut sizes: BTreeMap<i64, i64> = BTreeMap::new();
    let (mut found, mut sent) = (None, 0);
    loop {
        c.run(&format!(
            "SELECT count(*) FROM mq.send_batch('{queue}', array_fill('1'::jsonb, ARRAY[{BATCH}])); \
             SELECT count(*) FROM mq.pop('{queue}', {BATCH})"
        ))
        .await;
        sent += BATCH;
        for part in space::segments(&c, queue).await {
            if let (Some(first), Some(last)) = (part.first, part.last) {
                sizes.insert(first, last - first + 1);
            }
        }
        match found {
            None if began.elapsed() > FINDS => {
                let (newest, _) = sizes.last_key_value().expect("a segment");
                found = Some((*newest, Instant::now()));
                sent = 0;
            }
            Some((before, since)) if since.elapsed() > KEEPS => {
                let took = since.elapsed();
                return Told {
                    rate: f64::from(sent) / took.as_secs_f64(),
                    sizes: sizes.split_off(&(before + 1)).into_values().collect(),
                    took,
                };
            }
            _ => {}
        }
        next = Instant::now().max(next + pause);
        tokio::time::sleep_until(next.into()).await;
    }
}

async fn follow_the_rate(_: Cx) {
    let settings = format!(
        "{}pg_broker.rotation_interval = '{} ms'\n",
        Upkeep::Worker.settings(),
        INTERVAL.as_millis()
    );
    let server = Server::start("space-sizes", &settings).await;
    let mut tasks = Vec::new();
    for (queue, pause) in [("slow", 80), ("fast", 0)] {
        let c = server.connect("mq_template").await;
        tasks.push(spawn(goes_on(c, queue, Duration::from_millis(pause))));
    }
    let mut sizes = Vec::new();
    for task in tasks {
        let mut told = task.await.unwrap();
        println!("      sizes: {told:?}");
        let about = |n: f64, wanted: f64| n < wanted * ABOUT && n > wanted / ABOUT;
        let turns = told.took.as_secs_f64() / INTERVAL.as_secs_f64();
        assert!(
            about(told.sizes.len() as f64, turns),
            "{turns} turns: {told:?}"
        );
        told.sizes.sort_unstable();
        let size = told.sizes[told.sizes.len() / 2] as f64;
        let wanted = told.rate * INTERVAL.as_secs_f64();
        assert!(about(size, wanted), "{wanted} ids a turn: {told:?}");
        sizes.push(size);
    }
    assert!(sizes[1] > 2.0 * sizes[0], "{sizes:?}");
    server.down();
}
