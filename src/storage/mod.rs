//! Where a queue's rows live, and every statement that touches them.
//!
//! Queue n has the tables q_<n> (its messages), q_<n>_archive, q_<n>_keys (deduplication), and,
//! when its length is limited, q_<n>_length, in schema mq_internal; all belong to the owner of its
//! view. A row of q_<n> is
//! - ready, when `due` is null: only these are in the hand-out index (priority, id);
//! - leased, when it has a receipt and `due`, the end of the lease, is to come;
//! - delayed, when it has no receipt and `due` is to come;
//! - due, when `due` has come: to be handed out again, or never, when it has failed too often.
//!
//! Rows are claimed and settled with skip-locked semantics, so that no call waits for a consumer.

pub mod claim;
pub mod count;
pub mod insert;
pub mod keys;
pub mod length;
pub mod lookup;
pub mod place;
mod plans;
pub mod settle;
pub mod tables;
pub mod upkeep;

use crate::catalog::Queue;

/// Name of the table of messages, for use in a statement.
fn table(q: &Queue) -> String {
    format!("mq_internal.q_{}", q.n)
}

/// The columns of `mq.message`, from a row `m` of storage. `$2` is the time, `$3` the queue's name.
fn message_columns(receipt: &str, attempts: &str, state: &str) -> String {
    format!(
        "m.id, {receipt} AS receipt, $3::pg_catalog.text AS queue, m.body, m.data, m.headers, \
         {attempts} AS attempts, m.failures + {ended} AS failures, \
         CASE WHEN {ended} = 1 THEN '{LEASE_ENDED}'::pg_catalog.text ELSE m.last_error END, \
         m.priority, m.group_key, m.dedup_key, m.enqueued_at, \
         COALESCE(m.due, m.enqueued_at) AS visible_at, m.read_at, m.expires_at, {state} AS state",
        ended = ended_lease("m", "$2"),
    )
}

/// What `last_error` says of a hand-out that was never settled.
pub const LEASE_ENDED: &str = "lease ended";

/// 1 for a row whose lease ended unsettled, otherwise 0: a failure that is not yet counted.
fn ended_lease(m: &str, now: &str) -> String {
    format!("(CASE WHEN {m}.receipt IS NOT NULL AND {m}.due <= {now} THEN 1 ELSE 0 END)")
}

/// The state of a row, as of `now`.
fn state(now: &str) -> String {
    format!(
        "(CASE WHEN m.receipt IS NOT NULL AND m.due > {now} THEN 'leased' \
         WHEN m.expires_at <= {now} THEN 'expired' WHEN m.due > {now} THEN 'delayed' \
         ELSE 'ready' END)::pg_catalog.text"
    )
}
