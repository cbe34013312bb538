//! Where a queue's rows live, and everything that touches them.
//!
//! Queue n has the tables q_<n> (its messages), q_<n>_archive, q_<n>_keys (deduplication), and,
//! when its length is limited, q_<n>_length, in schema mq_internal; all belong to the owner of its
//! view. What a row of q_<n> says is in `row`. Its primary key (rank, id) is the order of handing
//! out; no index has a column that a claim writes, so that claims stay heap-only updates.
//!
//! Rows are claimed and settled with skip-locked semantics, so that no call waits for a consumer.

pub mod archive;
pub mod claim;
pub mod count;
pub mod exchanges;
pub mod fair;
mod find;
pub mod flight;
pub mod grouped;
pub mod groups;
pub mod idle;
pub mod insert;
pub mod keys;
pub mod length;
pub mod lookup;
pub mod over;
mod plans;
pub mod rotate;
pub mod row;
pub mod seize;
pub mod settle;
mod space;
pub mod tables;
pub mod tally;
pub mod upkeep;

use crate::catalog::Queue;
use crate::pg::time::Micros;
use crate::pg::value::Value;
use row::Facts;

/// Name of the table of messages, for use in a statement.
fn table(q: &Queue) -> String {
    format!("mq_internal.q_{}", q.n)
}

/// What `last_error` says of a hand-out that was never settled.
pub const LEASE_ENDED: &str = "lease ended";

/// 1 for a row whose lease ended unsettled, otherwise 0: `Facts::lease_ended`, in SQL.
fn ended_lease(m: &str, now: &str) -> String {
    format!("(CASE WHEN {m}.receipt IS NOT NULL AND {m}.due <= {now} THEN 1 ELSE 0 END)")
}

/// The state of a row as its queue's view shows it, as of `now`: `state_of`, in SQL.
fn state(now: &str) -> String {
    format!(
        "(CASE WHEN m.receipt IS NOT NULL AND m.due > {now} THEN 'leased' \
         WHEN m.expires_at <= {now} THEN 'expired' WHEN m.due > {now} THEN 'delayed' ELSE 'ready' END)::pg_catalog.text"
    )
}

fn state_of(row: &Facts, now: Micros) -> &'static str {
    match row.due {
        _ if row.is_leased(now) => "leased",
        _ if row.has_expired(now) => "expired",
        Some(at) if at > now => "delayed",
        _ => "ready",
    }
}

/// What the columns of `mq.message` say that is not simply a row's.
struct Shown {
    receipt: Value,
    queue: Value,
    state: Value,
}

/// The columns of `mq.message`, from a row of storage.
fn message(row: &[Value], failures: Value, last_error: Value, shown: &Shown) -> [Value; 17] {
    let at = |n: usize| row.get(n).copied().unwrap_or(Value::NULL);
    let priority = at(row::RANK)
        .as_int2()
        .map(|r| Value::int2(row::RANKS - 1 - r));
    let visible_at = match at(row::DUE) {
        due if due.is_null() => at(row::ENQUEUED_AT),
        due => due,
    };
    [
        at(row::ID),
        shown.receipt,
        shown.queue,
        at(row::BODY),
        at(row::DATA),
        at(row::HEADERS),
        at(row::ATTEMPTS),
        failures,
        last_error,
        priority.unwrap_or(Value::NULL),
        at(row::GROUP_KEY),
        at(row::DEDUP_KEY),
        at(row::ENQUEUED_AT),
        visible_at,
        at(row::READ_AT),
        at(row::EXPIRES_AT),
        shown.state,
    ]
}
