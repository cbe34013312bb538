//! What the queues of pgmq are called here. There, a queue's name is folded into that of its table; a
//! name that no queue may have here gets a `$` in front, which pgmq allows in none.

use super::refuse;

/// Whether pgmq allows the name at all.
pub fn is_allowed(name: &str) -> bool {
    !name.contains(['$', ';', '\'']) && !name.contains("--")
}

/// The name as it stands in that of pgmq's table.
pub fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// What a queue is called whose own name is not to be had.
pub fn instead(folded: &str) -> String {
    format!("${folded}")
}

/// What the queue that pgmq's callers mean may be called, the likeliest first: exactly so (for queues
/// that were not made by pgmq), folded, and with a `$` in front.
pub fn candidates(name: &str) -> impl Iterator<Item = String> {
    let folded = folded(name);
    let exact = (folded != name).then(|| name.to_owned());
    let instead = instead(&folded);
    exact.into_iter().chain([folded, instead])
}

/// What a new queue is to be called, if nothing else has that name.
pub fn for_new(name: &str) -> String {
    let folded = folded(name);
    match refuse(&folded) {
        Some(_) => instead(&folded),
        None => folded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded() {
        let all = |name| candidates(name).collect::<Vec<_>>();
        assert_eq!(all("Mail"), ["Mail", "mail", "$mail"]);
        assert_eq!(all("mail"), ["mail", "$mail"]);
    }

    #[test]
    fn reserved_names_get_another() {
        assert_eq!(for_new("Events"), "$events");
        assert_eq!(for_new("pg_jobs"), "$pg_jobs");
        assert_eq!(for_new("orders"), "orders");
        assert_eq!(for_new("_events"), "_events");
    }

    #[test]
    fn characters_of_sql_are_refused() {
        for name in ["a$b", "a;b", "a--b", "a'b"] {
            assert!(!is_allowed(name), "{name}");
        }
        assert!(is_allowed("a-b c\"d"));
    }
}
