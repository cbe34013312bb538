//! What a session remembers outside its transactions, and the counters in shared memory. All of
//! it is only ever a hint or a figure: losing it loses no message.

pub mod bounds;
pub mod deliveries;
pub mod totals;

use crate::pg::xact::Endings;

struct Session;

impl Endings for Session {
    fn commit() {
        totals::commit();
        deliveries::commit();
    }
    fn abort(blame: bool) {
        totals::abort();
        deliveries::abort(blame);
    }
    fn savepoint_released(level: i32) {
        totals::savepoint_released(level);
        deliveries::savepoint_released(level);
    }
    fn savepoint_aborted(level: i32, blame: bool) {
        totals::savepoint_aborted(level);
        deliveries::savepoint_aborted(level, blame);
    }
}

pub fn register() {
    crate::pg::xact::register::<Session>();
}
