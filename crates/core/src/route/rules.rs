//! What there is to bind, and what cannot be bound or published.

use super::topic::words;

/// The longest key and the longest pattern, in bytes: what AMQP allows.
pub const LONGEST: usize = 255;
/// The most that one binding of a hash exchange weighs.
pub const HEAVIEST: u32 = 100;

/// By what an exchange chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Topic,
    Direct,
    Fanout,
    Headers,
    Hash,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Topic,
        Kind::Direct,
        Kind::Fanout,
        Kind::Headers,
        Kind::Hash,
    ];

    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Topic => "topic",
            Kind::Direct => "direct",
            Kind::Fanout => "fanout",
            Kind::Headers => "headers",
            Kind::Hash => "hash",
        }
    }

    fn has_pattern(self) -> bool {
        matches!(self, Kind::Topic | Kind::Direct)
    }

    fn has_key(self) -> bool {
        self.has_pattern() || self == Kind::Hash
    }
}

/// What one binding wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    pub pattern: Option<String>,
    /// Header names with their values as canonical JSON text; empty unless Headers.
    pub headers: Vec<(String, String)>,
    /// Headers: one of them is enough.
    pub any: bool,
    /// Hash: its part among the others. Elsewhere 0 or 1, which say nothing.
    pub weight: u32,
    /// Hash: what the target is known by on the ring (its name when it was bound).
    pub label: String,
}

/// Why `b` cannot be bound to an exchange of this kind: the argument, and what is wrong with it.
pub fn refuse(kind: Kind, b: &Binding) -> Option<(&'static str, &'static str)> {
    let pattern = b.pattern.as_deref();
    let about_pattern = match pattern {
        None if kind.has_pattern() => Some("must be given"),
        Some(_) if !kind.has_pattern() => Some("is for exchanges of kind topic and direct only"),
        Some(p) if p.len() > LONGEST => Some("is longer than 255 bytes"),
        // A direct key may be empty, but as a pattern of words it is a value that went missing,
        // as is a word of it. (In a key both are accepted: who publishes may not know better.)
        Some("") if kind == Kind::Topic => Some("is empty"),
        Some(p) if kind == Kind::Topic && words(p).any(str::is_empty) => Some("has an empty word"),
        _ => None,
    };
    let only_headers = "is for exchanges of kind headers only";
    if let Some(why) = about_pattern {
        Some(("pattern", why))
    } else if kind != Kind::Headers && !b.headers.is_empty() {
        Some(("headers", only_headers))
    } else if kind != Kind::Headers && b.any {
        Some(("match", only_headers))
    } else if kind != Kind::Hash && b.weight > 1 {
        Some(("weight", "is for exchanges of kind hash only"))
    } else if kind == Kind::Hash && !(1..=HEAVIEST).contains(&b.weight) {
        Some(("weight", "must be from 1 to 100"))
    } else {
        None
    }
}

/// Why nothing can be published with `key` to an exchange of this kind.
pub fn refuse_key(kind: Kind, key: Option<&str>) -> Option<&'static str> {
    match key {
        None if kind.has_key() => Some("must be given"),
        Some(key) if key.len() > LONGEST => Some("is longer than 255 bytes"),
        _ => None,
    }
}

/// Whether a jsonpath, as PostgreSQL writes it, has a variable: `$"name"`, outside of a string.
pub fn has_variable(path: &str) -> bool {
    let (mut last, mut is_inside) = (' ', false);
    for c in path.chars() {
        let is_escaped = is_inside && last == '\\';
        if c == '"' && !is_escaped {
            if !is_inside && last == '$' {
                return true;
            }
            is_inside = !is_inside;
        }
        // A backslash that is escaped itself escapes nothing.
        last = if is_escaped && c == '\\' { ' ' } else { c };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(pattern: &str) -> Binding {
        Binding {
            pattern: Some(pattern.into()),
            ..Binding::default()
        }
    }

    #[test]
    fn kinds_have_names() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::named("Topic"), None);
        assert_eq!(Kind::named(""), None);
    }

    #[test]
    fn a_pattern_where_it_belongs() {
        let long = "x".repeat(LONGEST + 1);
        let why = |kind, p: &str| refuse(kind, &pattern(p)).map(|(of, why)| format!("{of} {why}"));
        for kind in [Kind::Topic, Kind::Direct] {
            let none = refuse(kind, &Binding::default());
            assert_eq!(none, Some(("pattern", "must be given")));
            assert_eq!(why(kind, "a.*.#"), None);
            assert_eq!(why(kind, &long[1..]), None);
            let refused = why(kind, &long);
            assert_eq!(refused.as_deref(), Some("pattern is longer than 255 bytes"));
        }
        for empty in ["a..b", ".a", "a.", "."] {
            let refused = why(Kind::Topic, empty);
            assert_eq!(refused.as_deref(), Some("pattern has an empty word"));
            assert_eq!(why(Kind::Direct, empty), None);
        }
        assert_eq!(why(Kind::Topic, "").as_deref(), Some("pattern is empty"));
        assert_eq!(why(Kind::Direct, ""), None);
        for kind in [Kind::Fanout, Kind::Headers, Kind::Hash] {
            assert!(why(kind, "a").is_some_and(|w| w.starts_with("pattern is for")));
        }
    }

    #[test]
    fn every_argument_where_it_belongs() {
        for kind in Kind::ALL {
            let plain = Binding {
                pattern: kind.has_pattern().then(|| "a".into()),
                weight: 1,
                ..Binding::default()
            };
            let of = |b: Binding| refuse(kind, &b).map(|(argument, _)| argument);
            let weighing = |weight| {
                of(Binding {
                    weight,
                    ..plain.clone()
                })
            };
            let is_hash = kind == Kind::Hash;
            assert_eq!(of(plain.clone()), None);
            assert_eq!(weighing(0), is_hash.then_some("weight"));
            assert_eq!(weighing(100), (!is_hash).then_some("weight"));
            assert_eq!(weighing(101), Some("weight"));

            let headers = vec![("a".into(), "1".into())];
            let is_other = kind != Kind::Headers;
            let with_headers = Binding {
                headers,
                ..plain.clone()
            };
            assert_eq!(of(with_headers), is_other.then_some("headers"));
            let with_any = Binding { any: true, ..plain };
            assert_eq!(of(with_any), is_other.then_some("match"));
        }
    }

    #[test]
    fn keys() {
        let long = "é".repeat(128);
        for kind in Kind::ALL {
            let needed = !matches!(kind, Kind::Fanout | Kind::Headers);
            assert_eq!(refuse_key(kind, None), needed.then_some("must be given"));
            assert_eq!(
                refuse_key(kind, Some(&long)),
                Some("is longer than 255 bytes")
            );
            for key in ["", ".", "a..b", "*.#", &long[2..]] {
                assert_eq!(refuse_key(kind, Some(key)), None);
            }
        }
    }

    #[test]
    fn variables_are_seen() {
        for path in [
            r#"($"x" == 1)"#,
            r#"$."a"?(@ > $"y")"#,
            r#"("a\\" == $"x")"#,
        ] {
            assert!(has_variable(path), "{path}");
        }
        for path in [
            r#"($."headers"."a" == "$")"#,
            r#"($."a$" == "x$\"y")"#,
            r#"$[*]?(@ like_regex "^$")"#,
            "$",
            "",
        ] {
            assert!(!has_variable(path), "{path}");
        }
    }
}
