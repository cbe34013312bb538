//! From our errors to PostgreSQL's.

use crate::error::{Error, State};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use std::cell::RefCell;

fn code(state: State) -> PgSqlErrorCode {
    match state {
        State::UndefinedTable => PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        State::DuplicateTable => PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
        State::InvalidName => PgSqlErrorCode::ERRCODE_INVALID_NAME,
        State::InvalidParameter => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        State::GeneratedAlways => PgSqlErrorCode::ERRCODE_GENERATED_ALWAYS,
        State::ProgramLimitExceeded => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        State::ConfigurationLimitExceeded => PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        State::InsufficientPrivilege => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        State::DependentObjects => PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
        State::ActiveTransaction => PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
        State::ReadOnly => PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
        State::ObjectInUse => PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
        State::NotNull => PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
        State::NullNotAllowed => PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
        State::NegativeLimit => PgSqlErrorCode::ERRCODE_INVALID_ROW_COUNT_IN_LIMIT_CLAUSE,
        State::Raised => PgSqlErrorCode::ERRCODE_RAISE_EXCEPTION,
        State::Broken => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        State::FeatureNotSupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        State::NoData => PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
        State::Internal => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
    }
}

impl From<Error> for ErrorReport {
    fn from(e: Error) -> Self {
        let mut report = ErrorReport::new(code(e.state()), e.to_string(), "pg_broker");
        if let Some(detail) = e.detail() {
            report = report.set_detail(detail);
        }
        if let Some(hint) = e.hint() {
            report = report.set_hint(hint);
        }
        report
    }
}

/// Raises `e` as an SQL error. Does not return.
pub fn raise(e: Error) -> ! {
    ErrorReport::from(e).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

thread_local! {
    static COLLECTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// As long as it lives, warnings are kept instead of told.
pub struct Collector(());

impl Collector {
    pub fn begin() -> Self {
        COLLECTED.with(|c| *c.borrow_mut() = Some(Vec::new()));
        Collector(())
    }

    pub fn take(&self) -> Vec<String> {
        COLLECTED.with(|c| {
            c.borrow_mut()
                .as_mut()
                .map(std::mem::take)
                .unwrap_or_default()
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        COLLECTED.with(|c| *c.borrow_mut() = None);
    }
}

fn is_collected(message: &str) -> bool {
    COLLECTED.with(|c| {
        let mut collected = c.borrow_mut();
        let list = collected.as_mut();
        list.map(|l| l.push(message.to_owned())).is_some()
    })
}

/// Tells the client and the log what went wrong without ending the call.
pub fn warn(message: &str, hint: &str) {
    if is_collected(message) {
        return;
    }
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        message.to_owned(),
        "pg_broker",
    )
    .set_hint(hint)
    .report(PgLogLevel::WARNING);
}

/// Tells the client something it may want to know.
pub fn notice(message: &str) {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        message.to_owned(),
        "pg_broker",
    )
    .report(PgLogLevel::NOTICE);
}

/// Keeps Rust backtraces out of the errors that clients see, also where the server was started
/// with RUST_BACKTRACE set.
pub fn keep_backtraces_out() {
    // SAFETY: called while the library is loaded; a backend has one thread.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") }
}
