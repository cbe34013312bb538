//! Filters: a `jsonpath` over the object of a message's headers and body.

use super::json::Kept;
use super::value::Value;
use pgrx::pg_sys::{self, Datum, JsonbIteratorToken, JsonbValue};

/// A filter that outlives its transaction.
pub struct Filter(Kept);

impl Filter {
    /// None for null.
    pub fn new(path: Value) -> Option<Self> {
        (!path.is_null()).then(|| Filter(path.kept()))
    }

    /// What tells it from others.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// As PostgreSQL writes it.
    pub fn text(&self) -> String {
        // SAFETY: jsonpath_out takes one jsonpath and returns a C string.
        unsafe {
            let function = pg_sys::Oid::from(pg_sys::F_JSONPATH_OUT);
            let out = pg_sys::OidOutputFunctionCall(function, self.0.value().datum);
            let text = std::ffi::CStr::from_ptr(out).to_string_lossy().into_owned();
            pg_sys::pfree(out.cast());
            text
        }
    }

    /// Whether what it finds first in a message is neither false nor null.
    pub fn passes(&self, headers: Value, body: Value) -> bool {
        // SAFETY: what is allocated meanwhile is of no use after: a context of its own goes with it,
        // also when an error ends the one around it.
        unsafe {
            let around = pg_sys::CurrentMemoryContext;
            let passing = pg_sys::AllocSetContextCreateInternal(
                around,
                c"pg_broker filter".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            );
            pg_sys::CurrentMemoryContext = passing;
            let passes = first(message(headers, body), self.0.value()).is_some_and(|found| {
                let found = pg_sys::pg_detoast_datum(found.cast_mut_ptr());
                let mut scalar = JsonbValue::default();
                let root = &raw mut (*found.cast::<pg_sys::Jsonb>()).root;
                !pg_sys::JsonbExtractScalar(root, &raw mut scalar)
                    || match scalar.type_ {
                        pg_sys::jbvType::jbvNull => false,
                        pg_sys::jbvType::jbvBool => scalar.val.boolean,
                        _ => true,
                    }
            });
            pg_sys::CurrentMemoryContext = around;
            pg_sys::MemoryContextDelete(passing);
            passes
        }
    }
}

/// The first item that a path finds in a `jsonb`, without an error where there can be none.
///
/// # Safety
/// `message` is a jsonb, `path` a jsonpath without variables.
unsafe fn first(message: Datum, path: Value) -> Option<Datum> {
    let arguments = [
        Some(message),
        Some(path.datum),
        Some(Value::jsonb("{}").datum),
        Some(Datum::from(true)),
    ];
    // SAFETY: the function takes these four, and needs nothing of who calls it.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::jsonb_path_query_first_tz, &arguments) }
}

/// The `jsonb` that a filter looks at.
///
/// # Safety
/// Both are jsonb or null.
unsafe fn message(headers: Value, body: Value) -> Datum {
    let mut state = std::ptr::null_mut();
    // SAFETY: the order of pushes makes an object of two members; each value is copied by the last.
    unsafe {
        let mut push =
            |token, value: *mut JsonbValue| pg_sys::pushJsonbValue(&raw mut state, token, value);
        push(JsonbIteratorToken::WJB_BEGIN_OBJECT, std::ptr::null_mut());
        for (name, value) in [(c"headers", headers), (c"body", body)] {
            let mut key = JsonbValue {
                type_: pg_sys::jbvType::jbvString,
                ..JsonbValue::default()
            };
            key.val.string.val = name.as_ptr().cast_mut();
            key.val.string.len = name.count_bytes() as i32;
            push(JsonbIteratorToken::WJB_KEY, &raw mut key);
            let mut member = JsonbValue {
                type_: pg_sys::jbvType::jbvNull,
                ..JsonbValue::default()
            };
            if !value.is_null() {
                let plain = pg_sys::pg_detoast_datum(value.datum.cast_mut_ptr());
                pg_sys::JsonbToJsonbValue(plain.cast(), &raw mut member);
            }
            push(JsonbIteratorToken::WJB_VALUE, &raw mut member);
        }
        let object = push(JsonbIteratorToken::WJB_END_OBJECT, std::ptr::null_mut());
        Datum::from(pg_sys::JsonbValueToJsonb(object))
    }
}
