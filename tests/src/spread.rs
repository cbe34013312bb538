//! A queue whose messages lie everywhere at once: in a parked table, moved there out of segments
//! that have long been used up, and in several segments.

use crate::conn::{Conn, Hand, Patience};
use crate::space::{self, Upkeep, is_segment};
use std::collections::HashSet;

/// Messages by place, by id. All are ready, handed out at most once, and their body is their number.
pub struct Spread {
    pub moved: Vec<i64>,
    pub segments: Vec<Vec<i64>>,
    /// All of them as readers have them: by priority, then by id.
    pub order: Vec<i64>,
}

impl Spread {
    /// One message of each place.
    pub fn samples(&self) -> Vec<i64> {
        let firsts = self.segments.iter().map(|ids| ids[0]);
        self.moved.iter().take(2).copied().chain(firsts).collect()
    }
}

const LEASED: &str = "1 hour";

/// Fills a queue that has been made with segments of `space::LEAST` messages.
pub async fn spread(c: &Conn, queue: &str) -> Spread {
    let kept = moved(c, queue).await;
    for hand in &kept {
        assert!(c.settle("release", queue, hand).await, "{hand:?}");
    }
    let patience = Patience::new("messages in three segments");
    let (mut moved, mut segments);
    loop {
        (moved, segments) = (Vec::new(), std::collections::BTreeMap::<_, Vec<i64>>::new());
        for (id, table) in space::places(c, queue).await {
            let is_kept = kept.iter().any(|hand| hand.id == id);
            if is_segment(&table) {
                segments.entry(table).or_default().push(id);
            } else if is_kept {
                moved.push(id);
            }
        }
        if segments.len() >= 3 {
            break;
        }
        send(c, queue, 16).await;
        c.run(&format!("SELECT mq.maintain('{queue}')")).await;
        patience.wait().await;
    }
    let mut segments: Vec<Vec<i64>> = segments.into_values().collect();
    segments
        .iter_mut()
        .chain([&mut moved])
        .for_each(|ids| ids.sort());
    segments.sort();
    assert!(moved.len() >= 4, "{moved:?}");
    let parent = crate::storage::of(c, queue).await;
    let order = format!("SELECT id FROM {parent} ORDER BY rank, id");
    let order = c.ints(&order).await;
    Spread {
        moved,
        segments,
        order,
    }
}

/// Sends, takes and acks, but keeps one message of each round, until some of those have been moved.
async fn moved(c: &Conn, queue: &str) -> Vec<Hand> {
    let (mut kept, mut were) = (Vec::new(), HashSet::new());
    let patience = Patience::new("messages moved out of their segments");
    loop {
        send(c, queue, 16).await;
        let hands = c.hands(&format!("'{queue}', 16, '{LEASED}'")).await;
        for hand in &hands[1..] {
            assert!(c.settle("ack", queue, hand).await);
        }
        kept.extend(hands.into_iter().take(1));
        c.run(&format!("SELECT mq.maintain('{queue}')")).await;
        let places = space::places(c, queue).await;
        let (inside, outside): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(_, table)| is_segment(table));
        were.extend(inside.into_iter().map(|(id, _)| id));
        let moved = outside.iter().filter(|(id, _)| were.contains(id)).count();
        if moved >= 4 {
            return kept;
        }
        if patience.is_over() {
            panic!("nothing is moved: {:#?}", space::parts(c, queue).await);
        }
        patience.wait().await;
    }
}

/// Of every priority some.
async fn send(c: &Conn, queue: &str, many: u64) {
    c.run(&format!(
        "SELECT mq.send('{queue}', to_jsonb(n), priority => n % 10) FROM generate_series(1, {many}) n"
    ))
    .await;
}

/// Everything is taken and acked, and all that was used up is truncated.
pub async fn drained(c: &Conn, queue: &str) {
    let patience = Patience::new("an empty queue");
    loop {
        let hands = c.hands(&format!("'{queue}', 100, '{LEASED}'")).await;
        for hand in &hands {
            assert!(c.settle("ack", queue, hand).await);
        }
        if hands.is_empty() && c.int(&format!("SELECT count(*) FROM mq.{queue}")).await == 0 {
            break;
        }
        patience.wait().await;
    }
    space::until(
        c,
        queue,
        Upkeep::Calls,
        "all used ranges truncated",
        space::nothing_waits,
    )
    .await;
}
