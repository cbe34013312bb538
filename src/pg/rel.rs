//! Relations of schema mq and mq_internal: names, locks, owners, privileges, sequences.

use super::role::ActingAs;
use super::value::Oid;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use std::ffi::{CStr, CString};

/// How a relation is locked until the end of the transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// As a `SELECT`.
    Read,
    /// As an `INSERT` or `UPDATE`.
    Write,
    /// One change of options at a time, beside readers and writers.
    Alter,
    /// Against writers.
    Freeze,
    /// Alone.
    Exclusive,
}

impl Lock {
    pub(in crate::pg) fn mode(self) -> i32 {
        (match self {
            Lock::Read => pg_sys::AccessShareLock,
            Lock::Write => pg_sys::RowExclusiveLock,
            Lock::Alter => pg_sys::ShareUpdateExclusiveLock,
            Lock::Freeze => pg_sys::ShareRowExclusiveLock,
            Lock::Exclusive => pg_sys::AccessExclusiveLock,
        }) as i32
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    Insert,
    Select,
    Update,
    Delete,
}

impl Privilege {
    pub fn as_str(self) -> &'static str {
        match self {
            Privilege::Insert => "INSERT",
            Privilege::Select => "SELECT",
            Privilege::Update => "UPDATE",
            Privilege::Delete => "DELETE",
        }
    }

    fn bit(self) -> pg_sys::AclMode {
        (match self {
            Privilege::Insert => pg_sys::ACL_INSERT,
            Privilege::Select => pg_sys::ACL_SELECT,
            Privilege::Update => pg_sys::ACL_UPDATE,
            Privilege::Delete => pg_sys::ACL_DELETE,
        }) as pg_sys::AclMode
    }
}

fn namespace(name: &CStr) -> Oid {
    // SAFETY: a catalog look-up by name.
    unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) }
}

fn named(schema: &CStr, name: &str) -> Option<Oid> {
    let c = CString::new(name).ok()?;
    if c.as_bytes().len() >= pg_sys::NAMEDATALEN as usize {
        return None;
    }
    // SAFETY: a catalog look-up by name.
    let oid = unsafe { pg_sys::get_relname_relid(c.as_ptr(), namespace(schema)) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// The relation of that name in schema mq.
pub fn public(name: &str) -> Option<Oid> {
    named(c"mq", name)
}

/// The relation of that name in schema mq_internal.
pub fn internal(name: &str) -> Option<Oid> {
    named(c"mq_internal", name)
}

/// The relation of that name in schema pgmq.
pub fn of_pgmq(name: &str) -> Option<Oid> {
    named(c"pgmq", name)
}

/// Whether `role` may create relations in schema pgmq.
pub fn may_create_in_pgmq(role: Oid) -> bool {
    // SAFETY: a catalog look-up; the answer is a boolean.
    unsafe {
        let schema = namespace(c"pgmq");
        schema != pg_sys::InvalidOid
            && pg_sys::OidFunctionCall3Coll(
                pg_sys::Oid::from(pg_sys::F_HAS_SCHEMA_PRIVILEGE_OID_OID_TEXT),
                pg_sys::InvalidOid,
                pg_sys::Datum::from(role),
                pg_sys::Datum::from(schema),
                super::value::Value::text("CREATE").datum,
            )
            .value()
                != 0
    }
}

/// Takes an advisory lock until the end of the transaction, unless somebody else has it.
pub fn try_advisory(key: i64) -> bool {
    // SAFETY: the function takes a bigint and returns a boolean.
    let taken = unsafe {
        pg_sys::OidFunctionCall1Coll(
            pg_sys::Oid::from(pg_sys::F_PG_TRY_ADVISORY_XACT_LOCK_INT8),
            pg_sys::InvalidOid,
            pg_sys::Datum::from(key),
        )
    };
    taken.value() != 0
}

/// The relation of that name in schema mq, locked; looked up again after the lock was waited for.
pub fn lock_public(name: &str, lock: Lock) -> Option<Oid> {
    loop {
        let oid = public(name)?;
        hold_anew(oid, lock);
        if public(name) == Some(oid) {
            return Some(oid);
        }
        let_go(oid, lock);
    }
}

/// Locks what may not be there any more. What was changed of anything before is known afterwards,
/// also when the lock was held already.
pub fn hold_anew(oid: Oid, lock: Lock) {
    hold(oid, lock);
    // SAFETY: hears of changes, as every lock taken anew does.
    unsafe { pg_sys::AcceptInvalidationMessages() }
}

/// Gives back a lock just taken on what turned out to be something else.
pub fn let_go(oid: Oid, lock: Lock) {
    // SAFETY: the caller has taken the lock.
    unsafe { pg_sys::UnlockRelationOid(oid, lock.mode()) }
}

/// Locks a relation; false when it is gone.
pub fn lock(oid: Oid, lock: Lock) -> bool {
    hold(oid, lock);
    exists(oid)
}

/// Locks what may not be there any more. What was changed of it before is known afterwards.
pub fn hold(oid: Oid, lock: Lock) {
    // SAFETY: locks by OID.
    unsafe { pg_sys::LockRelationOid(oid, lock.mode()) }
}

/// The same, if that needs no waiting.
pub fn try_hold(oid: Oid, lock: Lock) -> bool {
    // SAFETY: locks by OID until the end of the transaction.
    unsafe { pg_sys::ConditionalLockRelationOid(oid, lock.mode()) }
}

/// Whether a relation could be locked now without waiting. The lock is not kept: who looks at many
/// queues would hold too many.
pub fn is_free(oid: Oid, lock: Lock) -> bool {
    let is_free = try_hold(oid, lock);
    if is_free {
        let_go(oid, lock);
    }
    is_free
}

pub fn exists(oid: Oid) -> bool {
    name(oid).is_some()
}

pub fn name(oid: Oid) -> Option<String> {
    // SAFETY: returns null or a palloc'd string.
    unsafe {
        let p = pg_sys::get_rel_name(oid);
        (!p.is_null()).then(|| CStr::from_ptr(p).to_string_lossy().into_owned())
    }
}

/// Whether a relation lies in schema mq.
pub fn is_public(oid: Oid) -> bool {
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::get_rel_namespace(oid) == namespace(c"mq") }
}

/// What pg_class says of a relation that exists.
#[derive(Clone, Copy)]
pub struct Facts {
    pub owner: Oid,
    pub unlogged: bool,
}

pub fn facts(oid: Oid) -> Option<Facts> {
    // SAFETY: the syscache tuple is a pg_class row, released after its fields were copied.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            pg_sys::Datum::from(oid),
        );
        if tuple.is_null() {
            return None;
        }
        let class = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let facts = Facts {
            owner: (*class).relowner,
            unlogged: (*class).relpersistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED,
        };
        pg_sys::ReleaseSysCache(tuple);
        Some(facts)
    }
}

/// Whether `role` has `privilege` on a relation, as PostgreSQL sees it (pg_write_all_data and the
/// like included).
pub fn allows(oid: Oid, role: Oid, privilege: Privilege) -> bool {
    // SAFETY: a catalog look-up.
    unsafe {
        pg_sys::pg_class_aclcheck(oid, role, privilege.bit()) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Refuses, in PostgreSQL's words, when `role` lacks `privilege` on the view `oid`.
pub fn require(oid: Oid, name: &str, privilege: Privilege, role: Oid) -> Result<()> {
    if allows(oid, role, privilege) {
        return Ok(());
    }
    Err(Error::Denied {
        name: name.into(),
        privilege: privilege.as_str(),
    })
}

/// Tells every session to look the relation up anew, once this transaction commits.
pub fn invalidate(oid: Oid) {
    // SAFETY: queues an invalidation message; the relation exists and is locked.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(oid) }
}

unsafe extern "C-unwind" {
    fn nextval_internal(relid: Oid, check_permissions: bool) -> i64;
    fn Async_Notify(channel: *const std::ffi::c_char, payload: *const std::ffi::c_char);
}

/// Waits until nobody else is about to give a relation of schema mq the name of this hash, until
/// the end of the transaction.
pub fn lock_name(hash: u32) {
    if let Some(catalog) = internal("queue") {
        // SAFETY: a lock on an object that only we name: no catalog has our table's OID.
        unsafe {
            pg_sys::LockDatabaseObject(
                catalog,
                Oid::from(hash.max(1)),
                0,
                pg_sys::ExclusiveLock as i32,
            )
        }
    }
}

/// Makes what this statement has written so far visible to what follows in it.
pub fn see_own_changes() {
    // SAFETY: advances the command counter, which also takes in own invalidations.
    unsafe { pg_sys::CommandCounterIncrement() }
}

/// The next value of a sequence of ours.
pub fn nextval(sequence: Oid) -> i64 {
    let _rights = ActingAs::machinery();
    // SAFETY: `sequence` is the OID of a sequence, which nextval_internal checks.
    unsafe { pg_guard_ffi_boundary(|| nextval_internal(sequence, false)) }
}

/// `NOTIFY` on a channel, without payload, when this transaction commits.
pub fn notify(channel: &str) {
    if let Ok(c) = CString::new(channel) {
        // SAFETY: both strings outlive the call.
        unsafe { pg_guard_ffi_boundary(|| Async_Notify(c.as_ptr(), c"".as_ptr())) }
    }
}

/// Refuses in a read-only transaction or on a standby, in PostgreSQL's words.
pub fn require_writable(what: &'static str) -> Result<()> {
    // SAFETY: reads backend state.
    if unsafe { pg_sys::XactReadOnly } {
        Err(Error::ReadOnly(what))
    } else {
        Ok(())
    }
}

/// Whether this server is a standby (or still recovering).
pub fn in_recovery() -> bool {
    // SAFETY: reads shared state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// How many live rows the statistics system believes the table has, if it knows.
pub fn live_rows(oid: Oid) -> i64 {
    // SAFETY: returns null or a statistics entry.
    unsafe {
        let entry = pg_sys::pgstat_fetch_stat_tabentry(oid);
        if entry.is_null() { 0 } else { live_of(entry) }
    }
}

fn live_of(entry: *mut pg_sys::PgStat_StatTabEntry) -> i64 {
    // SAFETY: the caller checked for null.
    unsafe {
        #[cfg(feature = "pg15")]
        let n = (*entry).n_live_tuples;
        #[cfg(not(feature = "pg15"))]
        let n = (*entry).live_tuples;
        n
    }
}

thread_local! {
    /// Random bytes drawn in advance: how many of them are left, at the front.
    static DRAWN: std::cell::RefCell<(usize, [u64; 64])> =
        const { std::cell::RefCell::new((0, [0; 64])) };
}

fn random_word() -> u64 {
    DRAWN.with(|d| {
        let (left, words) = &mut *d.borrow_mut();
        if *left == 0 {
            // SAFETY: fills the array. Drawn by the backend that uses it: it is never inherited.
            let ok =
                unsafe { pg_sys::pg_strong_random(words.as_mut_ptr().cast(), size_of_val(words)) };
            if !ok {
                super::report::raise(Error::Internal("could not draw a random number".into()));
            }
            *left = words.len();
        }
        *left -= 1;
        words.get(*left).copied().unwrap_or_default()
    })
}

/// A fresh random receipt: 53 bits, never zero, exact in a double.
pub fn random_receipt() -> i64 {
    ((random_word() >> 11) as i64).max(1)
}

/// A fresh random UUID (version 4), as text.
pub fn random_uuid() -> String {
    let (high, low) = (random_word(), random_word());
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// Whether a table that nobody has locked has no page, going by what this session has heard of it.
/// Who hears nothing new after this knows that it was not emptied meanwhile, because a truncation is
/// told before the pages are gone: no snapshot taken before shows a row there.
pub fn is_bare(table: Oid) -> bool {
    // SAFETY: the entry is held while it is looked at. It is that of the file in which a snapshot of
    // now sees rows: another one would have been told of before anybody entered a row there.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(table);
        if relation.is_null() {
            return false;
        }
        let main = pg_sys::ForkNumber::MAIN_FORKNUM;
        let is_bare = pg_sys::RelationGetNumberOfBlocksInFork(relation, main) == 0;
        pg_sys::RelationClose(relation);
        is_bare
    }
}
