//! How SQL calls Rust: arguments in, a value or rows out, errors raised with their SQLSTATE.

use super::report;
use super::value::Value;
use crate::error::Result;
use pgrx::pg_sys;

/// One call of one of our SQL functions.
pub struct Call {
    fcinfo: pg_sys::FunctionCallInfo,
}

impl Call {
    /// Argument `n`, from 0.
    pub fn arg(&self, n: usize) -> Value {
        // SAFETY: the SQL declaration fixes how many arguments there are; asking for more is
        // answered with null.
        unsafe {
            let info = &*self.fcinfo;
            if n >= info.nargs as usize {
                return Value::NULL;
            }
            let args = info.args.as_slice(info.nargs as usize);
            Value::raw(args[n].value, args[n].isnull)
        }
    }

    /// Begins a result of many rows.
    pub fn rows(&self) -> Sink {
        // SAFETY: the function is declared as returning a set; InitMaterializedSRF raises an error
        // when the caller cannot take one.
        unsafe {
            pg_sys::InitMaterializedSRF(self.fcinfo, 0);
            let info = (*self.fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            Sink {
                store: (*info).setResult,
                desc: (*info).setDesc,
            }
        }
    }

    /// Begins a result of many rows of one column.
    pub fn column(&self) -> Sink {
        // SAFETY: as in `rows`; the flag says that the declared result is a scalar type.
        unsafe {
            pg_sys::InitMaterializedSRF(self.fcinfo, pg_sys::MAT_SRF_USE_EXPECTED_DESC);
            let info = (*self.fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            Sink {
                store: (*info).setResult,
                desc: (*info).setDesc,
            }
        }
    }

    /// One row of this function's composite result type.
    pub fn row(&self, values: &[Value]) -> Value {
        let mut datums: Vec<pg_sys::Datum> = values.iter().map(|v| v.datum).collect();
        let mut nulls: Vec<bool> = values.iter().map(|v| v.null).collect();
        // SAFETY: callers pass as many values as the declared type has columns, which is checked
        // against the descriptor.
        unsafe {
            let mut desc = std::ptr::null_mut();
            pg_sys::get_call_result_type(self.fcinfo, std::ptr::null_mut(), &mut desc);
            if desc.is_null() || (*desc).natts as usize != values.len() {
                report::raise(crate::error::Error::Internal("result type mismatch".into()));
            }
            let blessed = pg_sys::BlessTupleDesc(desc);
            let tuple = pg_sys::heap_form_tuple(blessed, datums.as_mut_ptr(), nulls.as_mut_ptr());
            Value::raw(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data), false)
        }
    }

    /// Whether this procedure was called where it may not commit.
    pub fn is_atomic(&self) -> bool {
        // SAFETY: a procedure's context is a CallContext, or null.
        unsafe {
            let context = (*self.fcinfo).context;
            context.is_null()
                || (*context).type_ != pg_sys::NodeTag::T_CallContext
                || (*context.cast::<pg_sys::CallContext>()).atomic
        }
    }

    pub(in crate::pg) fn fcinfo(&self) -> pg_sys::FunctionCallInfo {
        self.fcinfo
    }
}

/// Where the rows of a set-returning function go.
pub struct Sink {
    store: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
}

/// More columns no result has.
const COLUMNS: usize = 32;

impl Sink {
    pub fn values(&self, values: &[Value]) {
        let mut datums = [pg_sys::Datum::null(); COLUMNS];
        let mut nulls = [true; COLUMNS];
        for (i, value) in values.iter().take(COLUMNS).enumerate() {
            datums[i] = value.datum;
            nulls[i] = value.null;
        }
        // SAFETY: callers pass as many values as the declared result has columns.
        unsafe {
            if (*self.desc).natts as usize != values.len() || values.len() > COLUMNS {
                report::raise(crate::error::Error::Internal("result type mismatch".into()));
            }
            pg_sys::tuplestore_putvalues(
                self.store,
                self.desc,
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
    }
}

/// Runs one call; an error of ours is raised as an SQL error.
pub fn run(fcinfo: pg_sys::FunctionCallInfo, f: fn(&Call) -> Result<Value>) -> pg_sys::Datum {
    match f(&Call { fcinfo }) {
        Ok(value) => {
            // SAFETY: sets the null flag of the call in progress.
            unsafe { (*fcinfo).isnull = value.null };
            value.datum
        }
        Err(e) => report::raise(e),
    }
}

pub static FINFO: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

/// Declares the C symbol that an SQL function names, for a Rust function
/// `fn(&Call) -> Result<Value>`.
#[macro_export]
macro_rules! sql_function {
    ($symbol:ident, $finfo:ident, $f:path) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $finfo() -> &'static pgrx::pg_sys::Pg_finfo_record {
            &$crate::pg::entry::FINFO
        }
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub extern "C-unwind" fn $symbol(
            fcinfo: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            $crate::pg::entry::run(fcinfo, $f)
        }
    };
}
