//! Messages that are parked for sure: a queue whose new messages lie in segments goes on without
//! anybody reading it, until what is to be parked has been moved.

use crate::conn::{Conn, Patience};
use crate::space::{self, Moves};

/// So many come and go in one step, a quarter of a segment.
pub const STEP: u64 = 16;

pub struct Going<'a> {
    c: &'a Conn,
    queue: &'a str,
    moves: Moves,
}

impl<'a> Going<'a> {
    /// From here on new messages lie in segments.
    pub async fn new(c: &'a Conn, queue: &'a str) -> Going<'a> {
        let moves = Moves::default();
        let mut going = Going { c, queue, moves };
        let patience = Patience::new("new messages in a segment");
        while !going.step().await {
            patience.wait().await;
        }
        going
    }

    /// Others come, which nobody may read, and leave. Gives whether they lay in segments.
    pub async fn step(&mut self) -> bool {
        let (c, queue) = (self.c, self.queue);
        let ids = c
            .ints(&format!(
                "SELECT mq.send_batch('{queue}', array_fill('0'::jsonb, ARRAY[{STEP}]), \
                 delay => '1 day')"
            ))
            .await;
        self.moves.look(c, queue).await;
        let list = space::list(&ids);
        c.run(&format!(
            "SELECT mq.delete_batch('{queue}', {list}); SELECT mq.maintain('{queue}')"
        ))
        .await;
        ids.iter().all(|id| self.moves.inside.contains(id))
    }

    /// Whether these lay in segments, and have been moved.
    pub fn has_parked(&self, ids: &[i64]) -> bool {
        ids.iter().all(|id| self.moves.moved.contains(id))
    }

    pub async fn until_parked(&mut self, ids: &[i64]) {
        let patience = Patience::new("messages that are parked");
        while !self.has_parked(ids) {
            if patience.is_over() {
                panic!("{ids:?}: {:#?}", space::parts(self.c, self.queue).await);
            }
            self.step().await;
        }
    }
}
