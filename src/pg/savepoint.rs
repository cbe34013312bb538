//! Work that may fail without taking the transaction along.

use crate::error::Result;
use pgrx::pg_sys::{self, panic::CaughtError};
use pgrx::{PgSqlErrorCode, PgTryBuilder};
use std::panic::AssertUnwindSafe;

/// What the caller goes on with after a savepoint has ended.
struct Place {
    memory: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Place {
    fn here() -> Self {
        // SAFETY: variables of this backend.
        unsafe {
            Place {
                memory: pg_sys::CurrentMemoryContext,
                owner: pg_sys::CurrentResourceOwner,
            }
        }
    }

    /// Ends the savepoint, which is the innermost.
    fn end(self, is_done: bool) {
        // SAFETY: as the procedural languages do it; both outlive the savepoint.
        unsafe {
            match is_done {
                true => pg_sys::ReleaseCurrentSubTransaction(),
                false => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
            }
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}

/// Why something failed.
enum Why {
    Error(String),
    Raised(Box<CaughtError>),
}

/// What was raised; none for a failure of our own.
pub(super) fn code(e: &CaughtError) -> Option<PgSqlErrorCode> {
    match e {
        CaughtError::PostgresError(e) | CaughtError::ErrorReport(e) => Some(e.sql_error_code()),
        CaughtError::RustPanic { .. } => None,
    }
}

pub(super) fn message(e: &CaughtError) -> String {
    match e {
        CaughtError::PostgresError(e) | CaughtError::ErrorReport(e) => e.message().to_owned(),
        CaughtError::RustPanic { ereport, .. } => ereport.message().to_owned(),
    }
}

fn goes_on(e: &CaughtError) -> bool {
    matches!(
        code(e),
        None | Some(
            PgSqlErrorCode::ERRCODE_QUERY_CANCELED | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
        )
    )
}

/// Runs `f` in a savepoint. What fails is undone, and is the result; a cancel or a termination goes on.
pub fn within<R>(f: impl FnOnce() -> Result<R>) -> std::result::Result<R, String> {
    let place = Place::here();
    // SAFETY: in a transaction; the caller's memory is the one that `f` goes on with.
    unsafe {
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(place.memory);
    }
    let done = PgTryBuilder::new(AssertUnwindSafe(|| {
        f().map_err(|e| Why::Error(e.to_string()))
    }))
    .catch_others(|e| Err(Why::Raised(Box::new(e))))
    .catch_rust_panic(|e| Err(Why::Raised(Box::new(e))))
    .execute();
    place.end(done.is_ok());
    done.map_err(|why| match why {
        Why::Error(message) => message,
        Why::Raised(e) if goes_on(&e) => e.rethrow(),
        Why::Raised(e) => message(&e),
    })
}
