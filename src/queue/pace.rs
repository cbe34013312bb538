//! How a step of a rotation is gone about, by who does it, and what it came to.

use crate::pg::time::Micros;
use crate::pg::wait;
use std::cell::Cell;
use std::rc::Rc;

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Something was done; there may be more.
    Done,
    /// There is something to do that cannot be done yet.
    Waits,
    /// There will be something to do then.
    Later(Micros),
    Idle,
}

/// How a step is gone about.
pub struct Pace {
    /// Who goes it comes back, and remembers what was seen. Whoever may not leaves word in the map.
    pub comes_back: bool,
    /// How many tables it may truncate.
    pub tables: usize,
    /// How often it may wait a moment for somebody, together with others.
    moments: Rc<Cell<usize>>,
}

impl Pace {
    /// Of a worker, which looks at everything again and again.
    pub fn of_a_worker() -> Self {
        Pace {
            comes_back: true,
            tables: 1,
            moments: Rc::default(),
        }
    }

    /// Of a session that has other things to do.
    pub fn of_a_session() -> Self {
        Pace {
            comes_back: false,
            ..Pace::of_a_worker()
        }
    }

    /// Of one that is there for that, but perhaps not soon again.
    pub fn of_upkeep(moments: &Rc<Cell<usize>>) -> Self {
        Pace {
            tables: 16,
            moments: moments.clone(),
            ..Pace::of_a_session()
        }
    }

    /// Waits a moment, if it may.
    pub fn wait(&self) -> bool {
        let left = self.moments.get();
        if left > 0 {
            self.moments.set(left - 1);
            wait::moment();
        }
        left > 0
    }
}
