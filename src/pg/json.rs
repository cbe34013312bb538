//! `jsonb` taken apart and put together, and values that outlive their transaction.

use super::value::Value;
use pgrx::pg_sys::{self, Datum};

impl Value {
    /// The member of a `jsonb` object with this key, as `jsonb`; none when it is no object or has no
    /// such member.
    pub fn member(self, key: &str) -> Option<Value> {
        if !self.jsonb_is_object() {
            return None;
        }
        let len = i32::try_from(key.len()).ok()?;
        // SAFETY: the value is a jsonb object; what is found may point into the detoasted copy, which
        // lives as long as the current memory context, and is copied into a jsonb of its own.
        unsafe {
            let jb = pg_sys::pg_detoast_datum(self.datum.cast_mut_ptr()).cast::<pg_sys::Jsonb>();
            let found = pg_sys::getKeyJsonValueFromContainer(
                &raw mut (*jb).root,
                key.as_ptr().cast(),
                len,
                std::ptr::null_mut(),
            );
            if found.is_null() {
                return None;
            }
            Some(Value::raw(
                Datum::from(pg_sys::JsonbValueToJsonb(found)),
                false,
            ))
        }
    }

    /// Whether a `jsonb` contains another, as `@>` says.
    pub fn contains(self, other: Value) -> bool {
        if self.is_null() || other.is_null() {
            return false;
        }
        // SAFETY: the function takes two jsonb and returns a boolean.
        let found = unsafe {
            pg_sys::OidFunctionCall2Coll(
                pg_sys::Oid::from(pg_sys::F_JSONB_CONTAINS),
                pg_sys::InvalidOid,
                self.datum,
                other.datum,
            )
        };
        found.value() != 0
    }

    /// The member with this key as text, a string without its quotes; none as for `member`. Leaves
    /// nothing behind, so that it can be asked of many rows.
    pub fn member_text(self, key: &str) -> Option<String> {
        if self.null {
            return None;
        }
        let len = i32::try_from(key.len()).ok()?;
        // SAFETY: the value is a jsonb; what is found points into the detoasted copy, and is copied out
        // of it before that is freed, which is only where it is not the value itself.
        unsafe {
            let whole = self.datum.cast_mut_ptr::<pg_sys::varlena>();
            let plain = pg_sys::pg_detoast_datum(whole);
            let jb = plain.cast::<pg_sys::Jsonb>();
            let mut text = None;
            if (*jb).root.header & pg_sys::JB_FOBJECT != 0 {
                let mut found = pg_sys::JsonbValue::default();
                let member = pg_sys::getKeyJsonValueFromContainer(
                    &raw mut (*jb).root,
                    key.as_ptr().cast(),
                    len,
                    &raw mut found,
                );
                if !member.is_null() && found.type_ != pg_sys::jbvType::jbvNull {
                    text = Some(text_of(&mut found));
                }
            }
            if plain != whole {
                pg_sys::pfree(plain.cast());
            }
            text
        }
    }

    /// The text of a `jsonb` string; none for anything else.
    pub fn jsonb_string_text(self) -> Option<String> {
        serde_json::from_str(&self.jsonb_text()?).ok()
    }

    /// This `jsonb` object (null: an empty one) with the members of another, which go before.
    pub fn with_members_of(self, other: Value) -> Value {
        if self.is_null() {
            return other;
        }
        // SAFETY: the function takes two jsonb and returns one.
        let datum = unsafe {
            pg_sys::OidFunctionCall2Coll(
                pg_sys::Oid::from(pg_sys::F_JSONB_CONCAT),
                pg_sys::InvalidOid,
                self.datum,
                other.datum,
            )
        };
        Value::raw(datum, false)
    }

    /// A copy that no end of a transaction takes away. Only of values of variable length.
    pub fn kept(self) -> Kept {
        if self.is_null() {
            return Kept(None);
        }
        // SAFETY: the value is a varlena; detoasted it is as long as its header says.
        unsafe {
            let plain = pg_sys::pg_detoast_datum(self.datum.cast_mut_ptr());
            let len = pgrx::varsize_any(plain);
            Kept(Some(
                std::slice::from_raw_parts(plain.cast::<u8>(), len).to_vec(),
            ))
        }
    }

    /// Column `n` (from 1) of a row, of a composite type that is not null.
    pub fn column(self, n: i16) -> Value {
        let mut null = false;
        // SAFETY: the value is of a composite type, by the SQL declaration; a column beyond its end is
        // PostgreSQL's error.
        let datum = unsafe {
            let row = pg_sys::pg_detoast_datum(self.datum.cast_mut_ptr());
            pg_sys::GetAttributeByNum(row.cast(), n, &mut null)
        };
        Value::raw(datum, null)
    }
}

/// A value found in a `jsonb` as text.
///
/// # Safety
/// It was found by PostgreSQL, and what it points into is still there.
unsafe fn text_of(found: &mut pg_sys::JsonbValue) -> String {
    // SAFETY: the type tells which of the union it is; the new jsonb is freed once it is text.
    unsafe {
        if found.type_ == pg_sys::jbvType::jbvString {
            let (at, len) = (found.val.string.val, found.val.string.len);
            let bytes =
                std::slice::from_raw_parts(at.cast::<u8>(), usize::try_from(len).unwrap_or(0));
            return String::from_utf8_lossy(bytes).into_owned();
        }
        let jsonb = pg_sys::JsonbValueToJsonb(found);
        let text = Value::raw(Datum::from(jsonb), false).jsonb_text();
        pg_sys::pfree(jsonb.cast());
        text.unwrap_or_default()
    }
}

/// A value of variable length, or null, kept outside of PostgreSQL's memory.
pub struct Kept(Option<Vec<u8>>);

impl Kept {
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    pub fn value(&self) -> Value {
        let Some(bytes) = &self.0 else {
            return Value::NULL;
        };
        // SAFETY: palloc gives memory of the size asked for, aligned for any type.
        unsafe {
            let copy = pg_sys::palloc(bytes.len()).cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
            Value::raw(Datum::from(copy), false)
        }
    }
}
