//! Whether the transaction in progress has written nothing but leases. Such a transaction need not
//! wait for its log to reach the disk: what a crash can undo then is a lease, and a lost lease is
//! a redelivery under a new receipt.

use crate::pg::xact;
use crate::settings::{LEASE_COMMIT, LeaseCommit};
use std::cell::Cell;

thread_local! {
    /// Where the log of this transaction ended after its last lease, if nothing else came before.
    static END: Cell<u64> = const { Cell::new(0) };
}

/// Leases are about to be written. Gives whether nothing else was written so far.
pub fn begin() -> bool {
    END.with(|e| e.get()) == xact::last_record()
}

/// Leases were written, and nothing else since `begin`, which said `clean`.
pub fn end(clean: bool) {
    if clean {
        END.with(|e| e.set(xact::last_record()));
    }
}

/// Whether the transaction, which is about to commit, may do so without waiting.
pub(super) fn need_not_wait() -> bool {
    let end = END.with(|e| e.get());
    end != 0 && end == xact::last_record() && LEASE_COMMIT.get() == LeaseCommit::Async
}

pub(super) fn ended() {
    END.with(|e| e.set(0));
}
