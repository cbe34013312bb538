//! Names of queues, and how they are written into SQL.

pub mod pgmq;

/// The priority of a message that names none.
pub const DEFAULT_PRIORITY: i16 = 4;

/// The longest name of a queue, in bytes. Leaves room for the suffixes of its companions.
pub const LONGEST: usize = 48;

/// Relations of schema mq, now and to come, that no queue may be called after.
pub const RESERVED: [&str; 17] = [
    "queues",
    "segments",
    "metrics",
    "status",
    "message",
    "exchanges",
    "bindings",
    "schedules",
    "streams",
    "subscriptions",
    "consumers",
    "captures",
    "handlers",
    "traces",
    "settings",
    "topics",
    "events",
];

/// Why `name` cannot be a queue's.
pub fn refuse(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > LONGEST {
        Some("it is longer than 48 bytes")
    } else if RESERVED.contains(&name) {
        Some("it is reserved")
    } else if name.starts_with("mq_") || name.starts_with("pg_") {
        Some("it starts with a reserved prefix")
    } else {
        None
    }
}

pub fn archive_of(queue: &str) -> String {
    format!("{queue}_archive")
}

pub fn dead_letter_of(queue: &str) -> String {
    format!("{queue}_dead")
}

const REPLY: &str = "mq_reply_";

/// The private reply queue with this number.
pub fn reply_queue(n: i32) -> String {
    format!("{REPLY}{n}")
}

/// Whether a queue of that name is a private reply queue: nobody else's begins so.
pub fn is_reply_queue(name: &str) -> bool {
    name.strip_prefix(REPLY)
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// An SQL identifier, always quoted.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string literal, whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_in_bytes() {
        assert_eq!(refuse(&"x".repeat(48)), None);
        assert!(refuse(&"x".repeat(49)).is_some());
        assert_eq!(refuse(&"é".repeat(24)), None);
        assert!(refuse(&"é".repeat(25)).is_some());
        assert!(refuse("").is_some());
    }

    #[test]
    fn own_names_are_kept_free() {
        for name in RESERVED {
            assert!(refuse(name).is_some(), "{name}");
        }
        assert!(refuse("mq_x").is_some() && refuse("pg_x").is_some());
        assert_eq!(refuse("Queues"), None);
        assert_eq!(refuse("mq"), None);
    }

    #[test]
    fn reply_queues_are_known_by_name() {
        assert!(is_reply_queue(&reply_queue(7)) && refuse(&reply_queue(7)).is_some());
        for other in ["mq_reply_", "mq_reply_7_archive", "mq_reply_x", "reply_7"] {
            assert!(!is_reply_queue(other), "{other}");
        }
    }

    #[test]
    fn quoting_survives_hostile_text() {
        assert_eq!(quote_ident("a\"; drop--"), "\"a\"\"; drop--\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
    }
}
