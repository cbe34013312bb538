//! Kept plans, run with a snapshot of the present, whatever the caller's isolation level.
//!
//! Invariants:
//! - A statement is parsed and planned with the machinery's rights (it names tables in a schema
//!   that nobody else may enter) and executed with the queue owner's: the owner's own triggers
//!   never run with more.
//! - While connected, the search_path is pg_catalog alone: nothing that anybody planted elsewhere
//!   is ever called, and plans need no second look when callers' paths differ.
//! - Plans are generic, and made with sequential, bitmap, sort-free and hash paths out of the way,
//!   so that statistics cannot flip them.
//! - No statement of ours assigns a transaction id unless it writes a row.

use super::role::ActingAs;
use super::value::{Oid, Ty, Value};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;

/// A prepared, kept statement of this session.
#[derive(Clone, Copy)]
pub struct Plan(pg_sys::SPIPlanPtr);

impl Plan {
    /// Gives the statement's memory back. The plan must not be used again.
    pub fn forget(self) {
        // SAFETY: `self` came from SPI_keepplan and is not used after.
        unsafe {
            pg_sys::SPI_freeplan(self.0);
        }
    }
}

/// How a statement reaches its rows; everything else is out of the planner's question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Index,
    Place,
}

/// Kept plans that are given back together. Whoever runs one of them holds what this belongs to,
/// so that none is given back while it runs.
#[derive(Default)]
pub struct Plans(RefCell<HashMap<u8, Plan>>);

impl Plans {
    /// The plan of that number, prepared when asked for the first time.
    pub fn get_or_prepare(
        &self,
        spi: &Spi,
        number: u8,
        types: &[Ty],
        sql: impl FnOnce() -> String,
    ) -> Result<Plan> {
        if let Some(plan) = self.0.borrow().get(&number) {
            return Ok(*plan);
        }
        let plan = spi.prepare(&sql(), types)?;
        self.0.borrow_mut().insert(number, plan);
        Ok(plan)
    }
}

impl Drop for Plans {
    fn drop(&mut self) {
        self.0
            .borrow_mut()
            .drain()
            .for_each(|(_, plan)| plan.forget());
    }
}

/// An open connection to the executor.
pub struct Spi(());

/// The rows that a statement returned.
pub struct Rows {
    table: *mut pg_sys::SPITupleTable,
    len: usize,
    /// How many rows the statement touched, returned or not.
    pub processed: u64,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Column `col` (from 0) of row `row`.
    pub fn get(&self, row: usize, col: usize) -> Value {
        if row >= self.len {
            return Value::NULL;
        }
        let mut null = false;
        // SAFETY: `table` lives until the connection ends and holds `len` tuples.
        let datum = unsafe {
            let tuple = *(*self.table).vals.add(row);
            pg_sys::SPI_getbinval(tuple, (*self.table).tupdesc, col as i32 + 1, &mut null)
        };
        Value::raw(datum, null)
    }
}

/// Settings of the planner and the transaction that hold while one of our statements runs.
struct Present {
    isolation: i32,
    seqscan: bool,
    bitmapscan: bool,
    hashjoin: bool,
    mergejoin: bool,
    sort: bool,
    tidscan: bool,
    indexscan: bool,
    indexonlyscan: bool,
    jit: bool,
}

impl Present {
    fn enter(path: Path) -> Self {
        // SAFETY: plain variables of this backend. The transaction snapshot of a REPEATABLE READ
        // caller is taken before the level is touched, so it stays the caller's.
        unsafe {
            let old = Present {
                isolation: pg_sys::XactIsoLevel,
                seqscan: pg_sys::enable_seqscan,
                bitmapscan: pg_sys::enable_bitmapscan,
                hashjoin: pg_sys::enable_hashjoin,
                mergejoin: pg_sys::enable_mergejoin,
                sort: pg_sys::enable_sort,
                tidscan: pg_sys::enable_tidscan,
                indexscan: pg_sys::enable_indexscan,
                indexonlyscan: pg_sys::enable_indexonlyscan,
                jit: pg_sys::jit_enabled,
            };
            if old.isolation >= pg_sys::XACT_REPEATABLE_READ as i32 {
                pg_sys::GetTransactionSnapshot();
                pg_sys::XactIsoLevel = pg_sys::XACT_READ_COMMITTED as i32;
            }
            pg_sys::enable_seqscan = false;
            pg_sys::enable_bitmapscan = false;
            pg_sys::enable_hashjoin = false;
            pg_sys::enable_mergejoin = false;
            pg_sys::enable_sort = false;
            pg_sys::enable_tidscan = true;
            pg_sys::enable_indexscan = path == Path::Index;
            pg_sys::enable_indexonlyscan = path == Path::Index;
            // Before 18, paths that cannot be avoided count as very costly: worth compiling.
            pg_sys::jit_enabled = false;
            old
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        // SAFETY: restores what `enter` found.
        unsafe {
            pg_sys::XactIsoLevel = self.isolation;
            pg_sys::enable_seqscan = self.seqscan;
            pg_sys::enable_bitmapscan = self.bitmapscan;
            pg_sys::enable_hashjoin = self.hashjoin;
            pg_sys::enable_mergejoin = self.mergejoin;
            pg_sys::enable_sort = self.sort;
            pg_sys::enable_tidscan = self.tidscan;
            pg_sys::enable_indexscan = self.indexscan;
            pg_sys::enable_indexonlyscan = self.indexonlyscan;
            pg_sys::jit_enabled = self.jit;
        }
    }
}

fn c_string(sql: String) -> Result<CString> {
    CString::new(sql).map_err(|_| Error::Internal("a statement holds a zero byte".into()))
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The search_path of our own, from the outermost connection to its end.
struct OwnPath {
    level: Option<i32>,
}

impl OwnPath {
    fn enter() -> Self {
        let outermost = DEPTH.with(|d| d.replace(d.get() + 1)) == 0;
        // SAFETY: a setting that lasts until the nest level ends: below, or by the abort of the
        // (sub)transaction after an error.
        let level = outermost.then(|| unsafe {
            let level = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                c"pg_catalog, pg_temp".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
            level
        });
        OwnPath { level }
    }
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        DEPTH.with(|d| d.set(d.get().saturating_sub(1)));
        if let Some(level) = self.level
            && !std::thread::panicking()
        {
            // SAFETY: ends the level begun in `enter`.
            unsafe { pg_sys::AtEOXact_GUC(true, level) }
        }
    }
}

/// Runs `f` with a connection to the executor and the machinery's rights.
pub fn connect<R>(f: impl FnOnce(&Spi) -> Result<R>) -> Result<R> {
    let _path = OwnPath::enter();
    let _rights = ActingAs::machinery();
    // SAFETY: connected and finished in pairs; an error in between is cleaned up by PostgreSQL
    // at the end of the (sub)transaction.
    unsafe { pg_sys::SPI_connect() };
    let result = f(&Spi(()));
    // SAFETY: see above.
    unsafe { pg_sys::SPI_finish() };
    result
}

impl Spi {
    /// Parses a statement and keeps it for the session.
    pub fn prepare(&self, sql: &str, types: &[Ty]) -> Result<Plan> {
        let text = c_string(sql.to_owned())?;
        let mut oids: Vec<Oid> = types.iter().map(|t| t.oid()).collect();
        // SAFETY: text and types outlive the call; the plan is kept, so it outlives the connection.
        unsafe {
            let plan = pg_sys::SPI_prepare_cursor(
                text.as_ptr(),
                oids.len() as i32,
                oids.as_mut_ptr(),
                pg_sys::CURSOR_OPT_GENERIC_PLAN as i32,
            );
            if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                return Err(Error::Internal(format!("cannot prepare: {sql}")));
            }
            Ok(Plan(plan))
        }
    }

    /// Runs a kept statement at *now* with the rights of `role`.
    pub fn execute(&self, role: Oid, plan: Plan, path: Path, args: &[Value]) -> Result<Rows> {
        let mut values: Vec<pg_sys::Datum> = args.iter().map(|v| v.datum).collect();
        let nulls: Vec<std::ffi::c_char> = args
            .iter()
            .map(|v| if v.null { b'n' } else { b' ' } as std::ffi::c_char)
            .collect();
        let _present = Present::enter(path);
        // SAFETY: the plan takes as many arguments of these types as its `prepare` said. Getting
        // the cached plan first makes any re-analysis happen with the machinery's rights; the
        // locks it takes keep the plan valid until the execution below.
        unsafe {
            let cached = pg_sys::SPI_plan_get_cached_plan(plan.0);
            if !cached.is_null() {
                pg_sys::ReleaseCachedPlan(cached, pg_sys::CurrentResourceOwner);
            }
            let _rights = ActingAs::owner(role);
            let code = pg_sys::SPI_execute_snapshot(
                plan.0,
                values.as_mut_ptr(),
                nulls.as_ptr(),
                pg_sys::GetLatestSnapshot(),
                std::ptr::null_mut(),
                false,
                true,
                0,
            );
            Self::collect(code)
        }
    }

    /// Runs a query of the machinery's own, once.
    pub fn query(&self, sql: &str, types: &[Ty], args: &[Value]) -> Result<Rows> {
        let plan = self.prepare(sql, types)?;
        let rows = self.execute(super::role::machinery(), plan, Path::Index, args);
        plan.forget();
        rows
    }

    /// Runs a utility statement (DDL) with the current rights.
    pub fn utility(&self, sql: &str) -> Result<()> {
        let text = c_string(sql.to_owned())?;
        // SAFETY: the text outlives the call.
        let code = unsafe { pg_sys::SPI_execute(text.as_ptr(), false, 0) };
        Self::collect(code).map(|_| ())
    }

    fn collect(code: i32) -> Result<Rows> {
        if code < 0 {
            return Err(Error::Internal(format!(
                "a statement failed with SPI code {code}"
            )));
        }
        // SAFETY: set by the SPI call just made.
        unsafe {
            let table = pg_sys::SPI_tuptable;
            let processed = pg_sys::SPI_processed;
            let len = if table.is_null() {
                0
            } else {
                (*table).numvals as usize
            };
            Ok(Rows {
                table,
                len,
                processed,
            })
        }
    }
}
