//! The roster in shared memory: which databases there are to look after, and how that goes. One
//! entry a database, made by the launcher alone; each field is an atomic, so that nobody waits.
//! Only there when the library was preloaded.

use super::shmem::zeroed;
use super::time::{self, Micros};
use pgrx::pg_sys;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering,
};

/// So many databases are looked after; more are not, and `mq.status()` there says so.
const DATABASES: usize = 256;
/// Of the last error, so many times eight bytes are kept.
const WORDS: usize = 32;

/// The launcher comes within so long after the server's start.
const GRACE: Micros = 3_000_000;

/// What a worker found, or did, when it left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It did not leave of its own accord: it is at work, or has failed.
    None,
    NoExtension,
    NoQueues,
    /// It was asked to leave.
    Aside,
}

#[repr(C)]
pub struct Entry {
    database: AtomicU32,
    worker: AtomicI32,
    /// The worker's latch: shared memory, so that setting one of a process that has ended is
    /// somebody else's idle wake-up.
    latch: AtomicU64,
    outcome: AtomicU32,
    /// A worker was asked for and has not signed on yet.
    summoned: AtomicBool,
    /// The worker shall leave.
    leave: AtomicBool,
    /// Something has changed: look here now, whatever was found before.
    news: AtomicBool,
    /// A process that wants the database for itself.
    holder: AtomicI32,
    /// When all duties were last looked at.
    seen: AtomicI64,
    /// When the worker will look again.
    alarm: AtomicI64,
    failed: AtomicI64,
    error: [AtomicU64; WORDS],
}

#[repr(C)]
struct Roster {
    /// When this memory was made: at the server's start, or after a crash.
    began: AtomicI64,
    launcher: AtomicI32,
    latch: AtomicU64,
    /// When there was last no slot for a worker.
    no_slot: AtomicI64,
    /// When there were last more databases than places here.
    full: AtomicI64,
    entries: [Entry; DATABASES],
}

static ROSTER: AtomicPtr<Roster> = AtomicPtr::new(std::ptr::null_mut());

/// Asks for the memory, in the hook for that.
pub(in crate::pg) fn request() {
    // SAFETY: called from shmem_request_hook.
    unsafe { pg_sys::RequestAddinShmemSpace(size_of::<Roster>()) }
}

/// Takes the memory in use, in the hook for that.
pub(in crate::pg) fn startup() {
    // SAFETY: called from shmem_startup_hook; all-zero is no launcher and free entries.
    let roster = unsafe { zeroed(c"pg_broker roster", size_of::<Roster>()) };
    ROSTER.store(roster, Ordering::Release);
    if let Some(r) = self::roster() {
        r.began.store(time::now(), Ordering::Release);
    }
}

fn roster() -> Option<&'static Roster> {
    // SAFETY: null, or memory that lives as long as the server and holds atomics only.
    unsafe { ROSTER.load(Ordering::Acquire).as_ref() }
}

fn own_latch() -> u64 {
    // SAFETY: reads backend state.
    unsafe { pg_sys::MyLatch as u64 }
}

fn own_pid() -> i32 {
    // SAFETY: reads backend state.
    unsafe { pg_sys::MyProcPid }
}

fn set(latch: &AtomicU64) {
    let latch = latch.load(Ordering::Acquire);
    if latch != 0 {
        // SAFETY: the latch of some process: shared memory that is never given back.
        unsafe { pg_sys::SetLatch(latch as *mut pg_sys::Latch) }
    }
}

/// The database that this process is connected to.
pub fn own_database() -> u32 {
    // SAFETY: reads backend state.
    u32::from(unsafe { pg_sys::MyDatabaseId })
}

/// Whether a process of this server, connected or about to be, has that id.
fn is_alive(pid: i32) -> bool {
    // SAFETY: looks the process up in shared memory.
    pid != 0 && unsafe { !pg_sys::BackendPidGetProc(pid).is_null() }
}

/// The entry of a database, if it has one.
pub fn entry(database: u32) -> Option<&'static Entry> {
    let find = |e: &&Entry| e.database.load(Ordering::Acquire) == database;
    roster()?.entries.iter().find(find)
}

/// The same; made if there is room. For the launcher alone.
pub fn enter(database: u32) -> Option<&'static Entry> {
    if let Some(found) = entry(database) {
        return Some(found);
    }
    let free = entry(0)?;
    free.database.store(database, Ordering::Release);
    Some(free)
}

/// Gives up the entries of databases that are gone. For the launcher alone.
pub fn retain(is_there: impl Fn(u32) -> bool) {
    for e in roster().map_or(&[][..], |r| &r.entries) {
        let database = e.database.load(Ordering::Acquire);
        if database != 0 && !is_there(database) && !is_alive(e.worker.load(Ordering::Acquire)) {
            e.clear();
            e.database.store(0, Ordering::Release);
        }
    }
}

/// This process is the launcher, until it ends.
pub fn become_launcher() {
    if let Some(r) = roster() {
        r.latch.store(own_latch(), Ordering::Release);
        r.launcher.store(own_pid(), Ordering::Release);
    }
}

pub fn launcher_pid() -> Option<i32> {
    let pid = roster()?.launcher.load(Ordering::Acquire);
    is_alive(pid).then_some(pid)
}

/// Whether there never was a launcher, though it has had the time to come: the server had no slot
/// for it.
pub fn lacks_launcher(now: Micros) -> bool {
    roster().is_some_and(|r| {
        let is_new = now - r.began.load(Ordering::Acquire) < GRACE;
        !is_new && r.launcher.load(Ordering::Acquire) == 0
    })
}

pub fn wake_launcher() {
    if let Some(r) = roster() {
        set(&r.latch);
    }
}

/// Notes that there was no slot for a worker, or no place for a database.
pub fn note_no_slot(now: Micros) {
    if let Some(r) = roster() {
        r.no_slot.store(now, Ordering::Release);
    }
}

pub fn note_full(now: Micros) {
    if let Some(r) = roster() {
        r.full.store(now, Ordering::Release);
    }
}

/// When there was last no slot; no place.
pub fn shortages() -> (Micros, Micros) {
    roster().map_or((0, 0), |r| {
        (
            r.no_slot.load(Ordering::Acquire),
            r.full.load(Ordering::Acquire),
        )
    })
}

/// Tells that something has changed in this database that its worker should know.
pub fn announce() {
    if let Some(e) = entry(own_database()) {
        e.news.store(true, Ordering::Release);
        set(&e.latch);
    }
    wake_launcher();
}

impl Entry {
    fn clear(&self) {
        self.worker.store(0, Ordering::Release);
        self.latch.store(0, Ordering::Release);
        self.outcome.store(0, Ordering::Release);
        self.summoned.store(false, Ordering::Release);
        self.leave.store(false, Ordering::Release);
        self.news.store(false, Ordering::Release);
        self.holder.store(0, Ordering::Release);
        self.seen.store(0, Ordering::Release);
        self.alarm.store(0, Ordering::Release);
        self.failed.store(0, Ordering::Release);
    }

    /// This process is the database's worker; `signed_off` at its end.
    pub(in crate::pg) fn sign_on(&self) {
        self.outcome.store(0, Ordering::Release);
        self.leave.store(false, Ordering::Release);
        self.alarm.store(0, Ordering::Release);
        self.latch.store(own_latch(), Ordering::Release);
        self.worker.store(own_pid(), Ordering::Release);
        self.summoned.store(false, Ordering::Release);
    }

    /// A worker is about to be started; false when somebody wants the database for himself. For the
    /// launcher alone.
    pub fn summon(&self) -> bool {
        self.summoned.store(true, Ordering::SeqCst);
        let may_come = !self.is_held();
        if !may_come {
            self.dismiss();
        }
        may_come
    }

    /// The worker that was asked for does not come, or has ended.
    pub fn dismiss(&self) {
        self.summoned.store(false, Ordering::SeqCst);
    }

    /// Whether a worker is here, or about to come.
    pub fn is_manned(&self) -> bool {
        self.summoned.load(Ordering::SeqCst) || self.worker_pid().is_some()
    }

    pub(in crate::pg) fn sign_off(&self) {
        let own = own_pid();
        if self
            .worker
            .compare_exchange(own, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.latch.store(0, Ordering::Release);
        }
    }

    pub fn worker_pid(&self) -> Option<i32> {
        let pid = self.worker.load(Ordering::Acquire);
        is_alive(pid).then_some(pid)
    }

    pub fn wake_worker(&self) {
        set(&self.latch);
    }

    /// Asks the worker to leave.
    pub fn ask_to_leave(&self) {
        self.leave.store(true, Ordering::Release);
        self.wake_worker();
    }

    /// Whether the worker has to leave, because it was asked to or somebody wants the database.
    pub fn must_leave(&self) -> bool {
        self.leave.load(Ordering::Acquire) || self.is_held()
    }

    /// Keeps workers out of the database until `give_back`, or until this process has ended.
    pub fn hold(&self) {
        self.holder.store(own_pid(), Ordering::SeqCst);
        self.wake_worker();
    }

    pub fn give_back(&self) {
        self.holder.store(0, Ordering::Release);
        wake_launcher();
    }

    pub fn is_held(&self) -> bool {
        is_alive(self.holder.load(Ordering::SeqCst))
    }

    pub fn set_outcome(&self, outcome: Outcome) {
        let n = match outcome {
            Outcome::None => 0,
            Outcome::NoExtension => 1,
            Outcome::NoQueues => 2,
            Outcome::Aside => 3,
        };
        self.outcome.store(n, Ordering::Release);
    }

    pub fn outcome(&self) -> Outcome {
        match self.outcome.load(Ordering::Acquire) {
            1 => Outcome::NoExtension,
            2 => Outcome::NoQueues,
            3 => Outcome::Aside,
            _ => Outcome::None,
        }
    }

    /// Whether there are news, which are no news any more.
    pub fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::AcqRel)
    }

    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    pub fn set_seen(&self, now: Micros) {
        self.seen.store(now, Ordering::Release);
    }

    /// When all duties were last looked at, if they were.
    pub fn seen(&self) -> Option<Micros> {
        Some(self.seen.load(Ordering::Acquire)).filter(|t| *t != 0)
    }

    /// Says when the worker will look again by itself.
    pub fn set_alarm(&self, at: Micros) {
        self.alarm.store(at, Ordering::Release);
    }

    /// Wakes the worker if it would sleep past `due`.
    pub fn wake_before(&self, due: Micros) {
        if due < self.alarm.load(Ordering::Acquire) {
            self.wake_worker();
        }
    }

    /// Notes what went wrong, or that nothing does any more.
    pub fn set_error(&self, error: Option<&str>, now: Micros) {
        self.failed.store(0, Ordering::Release);
        let Some(text) = error else { return };
        let mut bytes = [0u8; WORDS * 8];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        for (word, chunk) in self.error.iter().zip(bytes.chunks_exact(8)) {
            let part = chunk.try_into().map_or(0, u64::from_ne_bytes);
            word.store(part, Ordering::Release);
        }
        self.failed.store(now, Ordering::Release);
    }

    /// What went wrong last, if it still does.
    pub fn error(&self) -> Option<String> {
        if self.failed.load(Ordering::Acquire) == 0 {
            return None;
        }
        let bytes: Vec<u8> = self
            .error
            .iter()
            .flat_map(|w| w.load(Ordering::Acquire).to_ne_bytes())
            .take_while(|b| *b != 0)
            .collect();
        Some(
            String::from_utf8_lossy(&bytes)
                .trim_end_matches('\u{fffd}')
                .to_owned(),
        )
    }
}
