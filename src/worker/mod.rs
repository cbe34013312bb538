//! What happens by itself: a launcher, which looks after the databases, and a worker for each that
//! has queues.
//!
//! - A worker stays connected as long as there are queues, and stands aside at once when somebody
//!   wants the database for himself (`pg::aside`). A database without queues is looked at when
//!   told to, and now and then.
//! - Every duty is done for one queue at a time, in a short transaction with the rights of the
//!   queue's owner. What goes wrong in one is told once, and stops no other.
//! - All that is remembered here may be lost at any time: the truth is in the tables.

mod duties;
mod journal;
mod launcher;
mod notify;
mod site;

use crate::background_main;
use crate::pg::aside;
use crate::pg::time::Micros;
use crate::pg::worker;
use crate::settings;

background_main!(pg_broker_launcher, launcher::run);
background_main!(pg_broker_worker, site::run);

const SECOND: Micros = 1_000_000;

/// Registers the launcher, while the server starts.
pub fn register() {
    aside::register();
    worker::register_launcher(c"pg_broker_launcher");
}

/// How long a worker sleeps when nothing else wakes it.
fn interval() -> Micros {
    Micros::from(settings::MAINTENANCE_INTERVAL.get()) * 1000
}
