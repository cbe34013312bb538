//! Background workers: registering and starting them, their signals, their sleep, and their
//! transactions, of which an error ends only that one.

use super::roster::{self, Entry};
use super::savepoint;
use crate::error::Result;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder};
use std::ffi::{CStr, c_char, c_int};
use std::panic::AssertUnwindSafe;

unsafe extern "C-unwind" {
    fn die(signal: c_int);
    #[link_name = "SignalHandlerForConfigReload"]
    fn reload(signal: c_int);
}

/// The launcher comes back after so many seconds.
const RESTART: c_int = 5;

fn copy(text: &CStr, to: &mut [c_char]) {
    let room = to.len().saturating_sub(1);
    for (to, from) in to.iter_mut().zip(text.to_bytes().iter().take(room)) {
        *to = *from as c_char;
    }
}

fn describe(name: &CStr, function: &CStr) -> pg_sys::BackgroundWorker {
    let mut worker = pg_sys::BackgroundWorker {
        bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION)
            as c_int,
        bgw_start_time: pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished,
        ..Default::default()
    };
    copy(name, &mut worker.bgw_name);
    copy(name, &mut worker.bgw_type);
    copy(c"pg_broker", &mut worker.bgw_library_name);
    copy(function, &mut worker.bgw_function_name);
    worker
}

/// Registers the launcher; while the server starts, and not for pg_upgrade.
pub fn register_launcher(function: &CStr) {
    let mut worker = describe(c"pg_broker launcher", function);
    worker.bgw_restart_time = RESTART;
    // SAFETY: called while shared_preload_libraries are loaded.
    unsafe {
        if !pg_sys::IsBinaryUpgrade {
            pg_sys::RegisterBackgroundWorker(&mut worker);
        }
    }
}

/// A worker that was started.
pub struct Started(*mut pg_sys::BackgroundWorkerHandle);

impl Started {
    /// Whether it is about to run, or runs.
    pub fn is_running(&self) -> bool {
        let mut pid = 0;
        // SAFETY: the handle came from RegisterDynamicBackgroundWorker and is freed on drop only.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) };
        matches!(
            status,
            pg_sys::BgwHandleStatus::BGWH_NOT_YET_STARTED | pg_sys::BgwHandleStatus::BGWH_STARTED
        )
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: palloc'd by RegisterDynamicBackgroundWorker in a context that outlives this.
        unsafe { pg_sys::pfree(self.0.cast()) }
    }
}

/// Starts the worker of a database; none when there is no slot.
pub fn start(function: &CStr, database: u32) -> Option<Started> {
    let mut worker = describe(c"pg_broker worker", function);
    worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
    worker.bgw_main_arg = pg_sys::Datum::from(database);
    let mut handle = std::ptr::null_mut();
    // SAFETY: plain calls; the handle is allocated where it lives as long as this process.
    unsafe {
        worker.bgw_notify_pid = pg_sys::MyProcPid;
        let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let started = pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle);
        pg_sys::MemoryContextSwitchTo(before);
        // Not made before it is known to be one: it would be freed.
        (started && !handle.is_null()).then(|| Started(handle))
    }
}

#[cfg(not(feature = "pg18"))]
use pg_sys::pqsignal as set_handler;
#[cfg(feature = "pg18")]
use pg_sys::pqsignal_be as set_handler;

fn take_signals() {
    // SAFETY: the handlers are PostgreSQL's own, for use in any backend.
    unsafe {
        set_handler(pg_sys::SIGTERM as c_int, Some(die));
        set_handler(pg_sys::SIGHUP as c_int, Some(reload));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Makes this process the launcher: it reads shared catalogs, and is connected to no database.
pub fn become_launcher() {
    take_signals();
    // SAFETY: the first thing that a background worker does.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    roster::become_launcher();
}

fn own_entry() -> Option<&'static Entry> {
    roster::entry(roster::own_database())
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn sign_off(_code: c_int, _arg: pg_sys::Datum) {
    if let Some(entry) = own_entry() {
        entry.sign_off();
    }
}

/// What holds for everything that a worker does: it never waits long for a lock, and what a crash
/// of the server could undo of its work is done again.
const SETTINGS: [(&CStr, &CStr); 7] = [
    (c"search_path", c""),
    (c"synchronous_commit", c"off"),
    (c"lock_timeout", c"100ms"),
    (c"statement_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
];

/// Makes this process the worker of a database, with the rights of the extension; none when the
/// launcher does not know of it.
pub fn become_worker(arg: &Argument) -> Option<&'static Entry> {
    let database = pg_sys::Oid::from(arg.0.value() as u32);
    take_signals();
    // SAFETY: the first things that a background worker does; settings of its own session.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        for (name, value) in SETTINGS {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
        pg_sys::on_shmem_exit(Some(sign_off), pg_sys::Datum::null());
    }
    let entry = own_entry()?;
    entry.sign_on();
    Some(entry)
}

/// Ends the launcher, so that it is started again unless the server stops.
pub fn end_launcher() {
    // SAFETY: outside of any transaction. After 0 it would never be started again.
    unsafe { pg_sys::proc_exit(1) };
}

/// Sleeps up to so many milliseconds, or until somebody sets the latch, and takes in changed
/// settings. True when this process was told to end.
#[must_use]
pub fn idle(millis: i64) -> bool {
    // SAFETY: the latch is this process's own, and there is no transaction.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as c_int,
            millis.max(0),
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        if pg_sys::ProcDiePending != 0 {
            return true;
        }
        pgrx::check_for_interrupts!();
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
    false
}

/// Sleeps for so many microseconds, whatever happens: not for long.
pub fn pause(micros: i64) {
    std::thread::sleep(std::time::Duration::from_micros(micros.unsigned_abs()));
}

/// Why a transaction of a worker failed.
pub struct Failure {
    pub message: String,
    /// Somebody else had what was needed: to be tried again, and not worth a word.
    pub is_busy: bool,
}

fn failure(e: &CaughtError) -> Failure {
    Failure {
        message: savepoint::message(e),
        is_busy: matches!(
            savepoint::code(e),
            Some(
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
                    | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
                    | PgSqlErrorCode::ERRCODE_QUERY_CANCELED
            )
        ),
    }
}

/// Runs `f` in a transaction of its own; an error rolls it back and is the result.
pub fn transaction<R>(f: impl FnOnce() -> Result<R>) -> std::result::Result<R, Failure> {
    // SAFETY: begins and ends a transaction as a backend's main loop does; `f` has a snapshot.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        let body = || {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            let result = f().map_err(|e| Failure {
                message: e.to_string(),
                is_busy: false,
            })?;
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
            Ok(result)
        };
        let result = PgTryBuilder::new(AssertUnwindSafe(body))
            .catch_others(|e| Err(failure(&e)))
            .catch_rust_panic(|e| Err(failure(&e)))
            .execute();
        if result.is_err() {
            pg_sys::AbortCurrentTransaction();
        }
        pg_sys::pgstat_report_stat(false);
        result
    }
}

/// The databases that anybody may connect to and that are no templates.
pub fn databases() -> Vec<u32> {
    let mut list = Vec::new();
    // SAFETY: as autovacuum's launcher does it: a scan of a shared catalog in a transaction.
    unsafe {
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let relation =
            pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            let Some(tuple) = tuple.as_mut() else { break };
            let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            // A limit below -1 marks one that was dropped half.
            if (*row).datallowconn && !(*row).datistemplate && (*row).datconnlimit >= -1 {
                list.push(u32::from((*row).oid));
            }
        }
        pg_sys::table_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
    }
    list
}

/// Declares the C symbol that a background worker starts at, for a Rust function `fn(Datum)`.
#[macro_export]
macro_rules! background_main {
    ($symbol:ident, $f:path) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub extern "C-unwind" fn $symbol(arg: pgrx::pg_sys::Datum) {
            $f($crate::pg::worker::Argument(arg))
        }
    };
}

/// What a background worker was started with.
pub struct Argument(pub pg_sys::Datum);
