//! A datum with its null flag, and the conversions that the product needs.
//!
//! A `Value` is only made by this module's typed constructors, from the arguments of an SQL
//! function, or from a column of a query, and is only read as the type that the SQL declaration
//! or the query text fixes. That agreement is what makes the reads below sound.

use pgrx::pg_sys::{self, Datum};
use pgrx::{FromDatum, IntoDatum};

pub use pgrx::pg_sys::Oid;

#[derive(Clone, Copy)]
pub struct Value {
    pub(in crate::pg) datum: Datum,
    pub(in crate::pg) null: bool,
}

/// The SQL types that parameters of our statements have.
#[derive(Clone, Copy, Debug)]
pub enum Ty {
    Bool,
    Int4,
    Int8,
    Text,
    Jsonb,
    Jsonpath,
    Oid,
    Timestamptz,
    Interval,
    IntervalArray,
    Tid,
    TidArray,
}

impl Ty {
    pub(in crate::pg) fn oid(self) -> Oid {
        match self {
            Ty::Bool => pg_sys::BOOLOID,
            Ty::Int4 => pg_sys::INT4OID,
            Ty::Int8 => pg_sys::INT8OID,
            Ty::Text => pg_sys::TEXTOID,
            Ty::Jsonb => pg_sys::JSONBOID,
            Ty::Jsonpath => pg_sys::JSONPATHOID,
            Ty::Oid => pg_sys::OIDOID,
            Ty::Timestamptz => pg_sys::TIMESTAMPTZOID,
            Ty::Interval => pg_sys::INTERVALOID,
            Ty::IntervalArray => pg_sys::INTERVALARRAYOID,
            Ty::Tid => pg_sys::TIDOID,
            Ty::TidArray => pg_sys::TIDARRAYOID,
        }
    }
}

impl Value {
    pub const NULL: Value = Value {
        datum: Datum::null(),
        null: true,
    };

    pub(in crate::pg) fn raw(datum: Datum, null: bool) -> Self {
        Value { datum, null }
    }

    fn from<T: IntoDatum>(v: T) -> Self {
        match v.into_datum() {
            Some(datum) => Value { datum, null: false },
            None => Value::NULL,
        }
    }

    fn read<T: FromDatum>(self) -> Option<T> {
        // SAFETY: the declared SQL type of every value that is read is fixed by our own SQL, see
        // the head of this file.
        unsafe { T::from_datum(self.datum, self.null) }
    }

    pub fn bool(v: bool) -> Self {
        Self::from(v)
    }
    pub fn int2(v: i16) -> Self {
        Self::from(v)
    }
    pub fn int4(v: i32) -> Self {
        Self::from(v)
    }
    pub fn int8(v: i64) -> Self {
        Self::from(v)
    }
    pub fn oid(v: Oid) -> Self {
        Self::from(v)
    }
    pub fn text(v: &str) -> Self {
        Self::from(v)
    }
    /// A `timestamptz`, in PostgreSQL's microseconds since 2000.
    pub fn timestamptz(v: i64) -> Self {
        Self::from(v)
    }
    pub fn opt<T>(v: Option<T>, f: impl FnOnce(T) -> Self) -> Self {
        v.map_or(Value::NULL, f)
    }

    pub fn is_null(self) -> bool {
        self.null
    }
    pub fn as_bool(self) -> Option<bool> {
        self.read()
    }
    pub fn as_int2(self) -> Option<i16> {
        self.read()
    }
    pub fn as_int4(self) -> Option<i32> {
        self.read()
    }
    pub fn as_int8(self) -> Option<i64> {
        self.read()
    }
    pub fn as_oid(self) -> Option<Oid> {
        self.read()
    }
    pub fn as_text(self) -> Option<String> {
        self.read()
    }
    pub fn as_timestamptz(self) -> Option<i64> {
        self.read()
    }

    /// The uncompressed size of a variable-length value, without its header.
    pub fn payload_size(self) -> i64 {
        if self.null {
            return 0;
        }
        // SAFETY: only called for jsonb, bytea and text, all of which are varlena.
        let raw = unsafe { pg_sys::toast_raw_datum_size(self.datum) };
        raw as i64 - pg_sys::VARHDRSZ as i64
    }

    /// A `jsonb` as text.
    pub fn jsonb_text(self) -> Option<String> {
        if self.null {
            return None;
        }
        // SAFETY: jsonb_out takes one jsonb and returns a C string.
        unsafe {
            let out =
                pg_sys::OidOutputFunctionCall(pg_sys::Oid::from(pg_sys::F_JSONB_OUT), self.datum);
            let s = std::ffi::CStr::from_ptr(out).to_string_lossy().into_owned();
            pg_sys::pfree(out.cast());
            Some(s)
        }
    }

    /// A `jsonb` made from JSON text.
    pub fn jsonb(json: &str) -> Self {
        let text: Vec<u8> = json.bytes().chain(std::iter::once(0)).collect();
        // SAFETY: jsonb_in takes a C string, which `text` is: JSON text has no zero byte.
        let datum = unsafe {
            pg_sys::OidInputFunctionCall(
                pg_sys::Oid::from(pg_sys::F_JSONB_IN),
                text.as_ptr() as *mut _,
                pg_sys::InvalidOid,
                -1,
            )
        };
        Value { datum, null: false }
    }

    /// A `jsonb` string holding `text`, whatever it looks like.
    pub fn jsonb_string(text: &str) -> Self {
        Self::jsonb(&serde_json::Value::String(text.into()).to_string())
    }

    /// Whether a `jsonb` is an object.
    pub fn jsonb_is_object(self) -> bool {
        if self.null {
            return false;
        }
        // SAFETY: the value is a jsonb; its root container's header word follows the varlena
        // header of the detoasted copy.
        unsafe {
            let detoasted = pg_sys::pg_detoast_datum(self.datum.cast_mut_ptr());
            let jb = detoasted.cast::<pg_sys::Jsonb>();
            let header = (*jb).root.header;
            let object = header & pg_sys::JB_FOBJECT != 0;
            if !std::ptr::eq(detoasted.cast::<u8>(), self.datum.cast_mut_ptr::<u8>()) {
                pg_sys::pfree(detoasted.cast());
            }
            object
        }
    }
}
