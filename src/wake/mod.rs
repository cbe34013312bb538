//! What a session remembers outside its transactions, and the counters in shared memory. All of
//! it is only ever a hint or a figure: losing it loses no message.

pub mod counts;
pub mod deliveries;
pub mod fair;
pub mod flight;
pub mod frontier;
pub mod groups;
pub mod lease;
pub mod notify;
pub mod opened;
mod positions;
pub mod rate;
mod suspects;
pub mod totals;
pub mod touch;
pub mod waiting;

use crate::pg::xact::Endings;

/// What was done in a savepoint that is released belongs to what is around it.
fn released<'a>(levels: impl Iterator<Item = &'a mut i32>, level: i32) {
    for one in levels.filter(|one| **one >= level) {
        *one = level - 1;
    }
}

struct Session;

impl Endings for Session {
    fn before_commit() {
        groups::before_commit();
    }
    fn may_commit_without_waiting() -> bool {
        lease::need_not_wait()
    }
    fn commit() {
        lease::ended();
        touch::commit();
        flight::leave(i32::MIN);
        totals::commit();
        deliveries::commit();
        // After the board knows: who is woken looks there.
        notify::commit();
    }
    fn told() {
        opened::told();
    }
    fn unlocked() {
        groups::ended();
    }
    fn part_unlocked() {
        groups::part_unlocked();
    }
    fn prepare() {
        lease::ended();
        touch::prepare();
        groups::prepared();
        counts::abort();
        flight::leave(i32::MIN);
        // The board has them.
        totals::abort();
        deliveries::commit();
        notify::abort();
        opened::abort();
    }
    fn abort(blame: bool) {
        lease::ended();
        touch::abort();
        counts::abort();
        flight::leave(i32::MIN);
        waiting::abort();
        totals::abort();
        deliveries::abort(blame);
        notify::abort();
        opened::abort();
    }
    fn prepared_ended() {
        suspects::ended();
    }
    fn savepoint_released(level: i32) {
        touch::savepoint_released(level);
        groups::savepoint_released(level);
        counts::savepoint_released(level);
        flight::savepoint_released(level);
        totals::savepoint_released(level);
        deliveries::savepoint_released(level);
        notify::savepoint_released(level);
        opened::savepoint_released(level);
    }
    fn savepoint_aborted(level: i32, blame: bool) {
        touch::savepoint_aborted(level);
        groups::savepoint_aborted(level);
        counts::savepoint_aborted(level);
        flight::leave(level);
        totals::savepoint_aborted(level);
        deliveries::savepoint_aborted(level, blame);
        notify::savepoint_aborted(level);
        opened::savepoint_aborted(level);
    }
}

pub fn register() {
    crate::pg::xact::register::<Session>();
}
