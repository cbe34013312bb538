//! Where transactions and savepoints end, told to the rest once for a session.

use super::{calm, report, savepoint};
use crate::error::Result;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::OnceLock;

/// What the rest of the product wants to know of an ending.
pub trait Endings {
    /// The transaction is about to commit; it may still fail.
    fn before_commit();
    /// Asked just before a commit.
    fn may_commit_without_waiting() -> bool;
    fn commit();
    /// After the commit, when all sessions have been told which relations to look up anew, and the
    /// locks are gone.
    fn told();
    /// The transaction has ended, one way or the other, and its locks are gone.
    fn unlocked();
    /// The same of a savepoint, or of a part of a statement.
    fn part_unlocked();
    fn prepare();
    /// A transaction of this database that was prepared has been committed or rolled back, by this
    /// session, and others can see that.
    fn prepared_ended();
    /// `blame`: whether the message, not the server, may be the cause.
    fn abort(blame: bool);
    fn savepoint_released(level: i32);
    fn savepoint_aborted(level: i32, blame: bool);
}

/// What `synchronous_commit` was before one commit was spared the wait. Whatever comes after that,
/// the commit or an error, puts it back.
struct Patience(Cell<Option<i32>>);

impl Patience {
    /// `most`: what is waited for in any case.
    fn spare(&self, most: pg_sys::SyncCommitLevel::Type) {
        // SAFETY: a plain variable of this backend, set as its setting would.
        unsafe {
            let most = most as i32;
            if pg_sys::synchronous_commit > most {
                self.0
                    .set(self.0.get().or(Some(pg_sys::synchronous_commit)));
                pg_sys::synchronous_commit = most;
            }
        }
    }

    fn restore(&self) {
        if let Some(before) = self.0.take() {
            // SAFETY: as in `spare`.
            unsafe { pg_sys::synchronous_commit = before }
        }
    }
}

/// The transaction in progress commits without waiting for standbys: it holds a lock that others
/// should not wait for so long.
pub fn commit_here() {
    let local = pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
    PATIENCE.with(|p| p.spare(local));
}

/// Where the log of the transaction in progress ends; 0 when it has written none.
pub fn last_record() -> u64 {
    // SAFETY: reads a variable of this backend.
    unsafe { pg_sys::XactLastRecEnd }
}

thread_local! {
    static PATIENCE: Patience = const { Patience(Cell::new(None)) };
    static LAST_ERROR: Cell<i32> = const { Cell::new(0) };
}
/// Who wants to hear of the end of prepared transactions.
static PREPARED_ENDED: OnceLock<fn()> = OnceLock::new();
static mut PREVIOUS_LOG_HOOK: pg_sys::emit_log_hook_type = None;

/// Class 40 (transaction rollback) and 57 (operator intervention) are nobody's fault.
fn is_blame(sqlstate: i32) -> bool {
    // An SQLSTATE is packed six bits a character, the first lowest.
    let class = |i: i32| (((sqlstate >> (6 * i)) & 0x3f) as u8 + b'0') as char;
    !matches!((class(0), class(1)), ('4', '0') | ('5', '7'))
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_log(edata: *mut pg_sys::ErrorData) {
    // SAFETY: called by PostgreSQL with a live ErrorData; the former hook is called after.
    unsafe {
        if (*edata).elevel >= pgrx::PgLogLevel::ERROR as i32 {
            LAST_ERROR.with(|e| e.set((*edata).sqlerrcode));
        }
        if let Some(previous) = PREVIOUS_LOG_HOOK {
            previous(edata);
        }
    }
}

fn take_blame() -> bool {
    is_blame(LAST_ERROR.with(|e| e.replace(0)))
}

/// Something to be done at the end of a transaction that commits.
type Task = Box<dyn FnOnce() -> Result<()>>;

thread_local! {
    static TASKS: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
    /// What to do if the transaction in progress comes to nothing.
    static REGRETS: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
    static IS_TIED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the transaction in progress will wait for standbys because of what it did before the
/// tasks at its end, and so should hold no lock that others want.
pub fn is_tied() -> bool {
    IS_TIED.get()
}

fn waits_for_standbys() -> bool {
    // SAFETY: reads variables of this backend; the name of a setting's value is a string.
    unsafe {
        let local = pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_LOCAL_FLUSH as i32;
        let names = pg_sys::SyncRepStandbyNames;
        let has_written = pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId;
        has_written && pg_sys::synchronous_commit > local && !names.is_null() && *names != 0
    }
}

/// Has something done just before the transaction in progress commits, if it does. Not if it is
/// prepared. What goes wrong is undone, and a warning.
pub fn before_commit(task: impl FnOnce() -> Result<()> + 'static) {
    TASKS.with(|t| t.borrow_mut().push(Box::new(task)));
}

/// Has `forget` called if the transaction in progress is rolled back, or is prepared, and so may yet
/// be: what was seen in it may not be so.
pub fn if_undone(forget: fn()) {
    REGRETS.with(|r| r.borrow_mut().push(forget));
}

fn regret() {
    let regrets = REGRETS.with(|r| std::mem::take(&mut *r.borrow_mut()));
    regrets.into_iter().for_each(|forget| forget());
}

fn do_tasks() {
    let tasks = TASKS.with(|t| std::mem::take(&mut *t.borrow_mut()));
    if tasks.is_empty() {
        return;
    }
    IS_TIED.set(waits_for_standbys());
    // SAFETY: a snapshot for what is done, gone before the commit goes on.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
    for task in tasks {
        if let Err(message) = savepoint::within(task) {
            regret();
            report::warn(&message, "It is tried again.");
        }
    }
    // SAFETY: as above.
    unsafe { pg_sys::PopActiveSnapshot() };
    IS_TIED.set(false);
}

/// Apart from the other callback: this one may raise errors.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_pre_commit(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => do_tasks(),
        pg_sys::XactEvent::XACT_EVENT_COMMIT => REGRETS.with(|r| r.borrow_mut().clear()),
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            TASKS.with(|t| t.borrow_mut().clear());
            IS_TIED.set(false);
            regret();
        }
        _ => {}
    }
}

unsafe extern "C-unwind" fn on_xact<E: Endings>(
    event: pg_sys::XactEvent::Type,
    _arg: *mut std::ffi::c_void,
) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => {
            E::before_commit();
            if E::may_commit_without_waiting() {
                PATIENCE.with(|p| p.spare(pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF));
            }
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT => {
            PATIENCE.with(Patience::restore);
            LAST_ERROR.with(|e| e.set(0));
            E::commit();
        }
        pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            PATIENCE.with(Patience::restore);
            LAST_ERROR.with(|e| e.set(0));
            E::prepare();
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT => {
            PATIENCE.with(Patience::restore);
            E::abort(take_blame());
        }
        _ => {}
    }
}

unsafe extern "C-unwind" fn on_subxact<E: Endings>(
    event: pg_sys::SubXactEvent::Type,
    _mine: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => E::savepoint_released(level()),
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => E::savepoint_aborted(level(), true),
        _ => {}
    }
}

/// Comes for every owner of resources, in three phases; after the last of a committed transaction
/// its invalidations are on their way.
unsafe extern "C-unwind" fn on_release<E: Endings>(
    phase: pg_sys::ResourceReleasePhase::Type,
    is_commit: bool,
    is_top_level: bool,
    _arg: *mut std::ffi::c_void,
) {
    let is_last = phase == pg_sys::ResourceReleasePhase::RESOURCE_RELEASE_AFTER_LOCKS;
    match (is_last, is_top_level) {
        (true, true) => {
            if is_commit {
                E::told();
            }
            E::unlocked();
        }
        (true, false) => E::part_unlocked(),
        (false, _) => {}
    }
}

/// How many savepoints deep the session is.
pub fn level() -> i32 {
    calm::nest_level()
}

/// A prepared transaction was ended by this session.
pub(in crate::pg) fn prepared_ended() {
    if let Some(tell) = PREPARED_ENDED.get() {
        tell();
    }
}

/// Registers the callbacks, once, when the library is loaded.
pub fn register<E: Endings>() {
    PREPARED_ENDED.get_or_init(|| E::prepared_ended);
    // SAFETY: the callbacks live as long as the library, which is never unloaded. They allocate
    // only ordinary heap memory and raise nothing.
    unsafe {
        pg_sys::RegisterXactCallback(Some(on_xact::<E>), std::ptr::null_mut());
        // The newest is called first: how the commit waits is decided after this one.
        pg_sys::RegisterXactCallback(Some(on_pre_commit), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subxact::<E>), std::ptr::null_mut());
        pg_sys::RegisterResourceReleaseCallback(Some(on_release::<E>), std::ptr::null_mut());
        PREVIOUS_LOG_HOOK = pg_sys::emit_log_hook;
        pg_sys::emit_log_hook = Some(on_log);
    }
}

/// Who wants to know that a relation must be looked up anew.
pub trait Invalidations {
    /// `relation` 0 means all of them.
    fn changed(relation: u32);
}

unsafe extern "C-unwind" fn on_relcache<I: Invalidations>(_arg: pg_sys::Datum, rel: pg_sys::Oid) {
    I::changed(u32::from(rel));
}

/// Registers the callback, once, when the library is loaded.
pub fn register_invalidations<I: Invalidations>() {
    // SAFETY: as in `register`.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(on_relcache::<I>), pg_sys::Datum::null()) }
}
