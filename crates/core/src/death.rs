//! The header `x-death`: where and why a message died, newest first. One entry per queue and
//! reason, which counts repeats, so that going round and round does not grow it.

use serde_json::{Map, Value, json};

pub const HEADER: &str = "x-death";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Failures,
    Rejected,
    Expired,
    MaxLength,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Failures => "failures",
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "max_length",
        }
    }
}

pub struct Death<'a> {
    pub reason: Reason,
    pub queue: &'a str,
    pub id: i64,
    pub failures: i32,
    pub error: Option<&'a str>,
    /// The time of death, as text.
    pub at: &'a str,
}

fn is_same(entry: &Value, death: &Death) -> bool {
    entry.get("queue").and_then(Value::as_str) == Some(death.queue)
        && entry.get("reason").and_then(Value::as_str) == Some(death.reason.as_str())
}

/// The headers of the dead letter, from the headers of the message (an object, or nothing).
pub fn record(headers: Option<&str>, death: &Death) -> Value {
    let mut object = match headers.and_then(|h| serde_json::from_str(h).ok()) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let mut entries = match object.remove(HEADER) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let former = entries
        .iter()
        .position(|e| is_same(e, death))
        .map(|i| entries.remove(i));
    let count = former
        .as_ref()
        .and_then(|f| f.get("count")?.as_i64())
        .unwrap_or(0);
    let first_at = former
        .as_ref()
        .and_then(|f| f.get("first_at")?.as_str())
        .unwrap_or(death.at)
        .to_owned();
    entries.insert(
        0,
        json!({
            "reason": death.reason.as_str(),
            "queue": death.queue,
            "id": death.id,
            "failures": death.failures,
            "count": count.saturating_add(1),
            "first_at": first_at,
            "last_at": death.at,
            "error": death.error,
        }),
    );
    object.insert(HEADER.into(), Value::Array(entries));
    Value::Object(object)
}

/// The queue that a dead letter came from: the newest entry's.
pub fn origin(headers: &str) -> Option<String> {
    let value: Value = serde_json::from_str(headers).ok()?;
    Some(
        value
            .get(HEADER)?
            .get(0)?
            .get("queue")?
            .as_str()?
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(reason: Reason, queue: &str, id: i64) -> Death<'_> {
        Death {
            reason,
            queue,
            id,
            failures: 3,
            error: Some("boom"),
            at: "2026-01-02T03:04:05Z",
        }
    }

    #[test]
    fn keeps_other_headers_to_the_digit() {
        let h = record(
            Some(r#"{"n": 12345678901234567890.12345678901234567890}"#),
            &death(Reason::Failures, "q", 7),
        );
        assert!(
            h.to_string()
                .contains("12345678901234567890.12345678901234567890")
        );
        assert_eq!(h["x-death"][0]["reason"], "failures");
        assert_eq!(origin(&h.to_string()).as_deref(), Some("q"));
    }

    #[test]
    fn counts_repeats_and_puts_the_newest_first() {
        let mut h = record(None, &death(Reason::Failures, "a", 1)).to_string();
        h = record(Some(&h), &death(Reason::Expired, "b", 2)).to_string();
        let again = Death {
            at: "2027-01-01T00:00:00Z",
            ..death(Reason::Failures, "a", 3)
        };
        let v = record(Some(&h), &again);
        let list = v["x-death"].as_array().map(Vec::len);
        assert_eq!(list, Some(2));
        assert_eq!(v["x-death"][0]["count"], 2);
        assert_eq!(v["x-death"][0]["id"], 3);
        assert_eq!(v["x-death"][0]["first_at"], "2026-01-02T03:04:05Z");
        assert_eq!(v["x-death"][0]["last_at"], "2027-01-01T00:00:00Z");
        assert_eq!(v["x-death"][1]["queue"], "b");
    }

    #[test]
    fn survives_a_forged_header() {
        for forged in [
            r#"{"x-death": 7}"#,
            r#"{"x-death": [1, "x", null]}"#,
            r#"{"x-death": {}}"#,
        ] {
            let v = record(Some(forged), &death(Reason::Rejected, "q", 1));
            assert_eq!(v["x-death"][0]["queue"], "q");
        }
        assert_eq!(origin("{}"), None);
        assert_eq!(origin(r#"{"x-death": []}"#), None);
    }
}
