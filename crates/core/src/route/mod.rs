//! Whom a message is for: the bindings of one exchange, compiled into a table that is asked with
//! each message's key and headers.
//!
//! What a question costs grows with the message and with what it matches, never with the number
//! of bindings as such. Each kind has its own index, and each index counts its steps in tests,
//! which hold it to that.
//!
//! A table knows places in the list that it was made of and nothing else: which queue a binding
//! leads to, and its filter, are the caller's. Nothing here panics, whatever the bindings say; one
//! that `refuse` would turn away matches nothing it could not be meant for.

mod headers;
mod ring;
mod rules;
mod topic;

use headers::Headers;
use ring::Ring;
use std::collections::HashMap;
use topic::Topics;

pub use rules::{Binding, HEAVIEST, Kind, LONGEST, has_variable, refuse, refuse_key};

/// The bindings of one exchange.
#[derive(Debug)]
pub struct Table(Index);

#[derive(Debug)]
enum Index {
    Topic(Topics),
    Direct(HashMap<String, Vec<usize>>),
    /// How many there are.
    Fanout(usize),
    Headers(Headers),
    Hash(Ring),
}

impl Table {
    pub fn new(kind: Kind, bindings: &[Binding]) -> Table {
        let patterns = || {
            let patterns = bindings.iter().map(|b| b.pattern.as_deref());
            patterns
                .enumerate()
                .filter_map(|(place, p)| Some((place, p?)))
        };
        Table(match kind {
            Kind::Topic => Index::Topic(Topics::new(patterns())),
            Kind::Direct => {
                let mut places: HashMap<String, Vec<usize>> = HashMap::new();
                for (place, pattern) in patterns() {
                    places.entry(pattern.into()).or_default().push(place);
                }
                Index::Direct(places)
            }
            Kind::Fanout => Index::Fanout(bindings.len()),
            Kind::Headers => Index::Headers(Headers::new(bindings)),
            Kind::Hash => Index::Hash(Ring::new(
                bindings.iter().map(|b| (b.label.as_str(), b.weight)),
            )),
        })
    }

    /// Which bindings (their places in the list, rising, each once) a message matches. `header`
    /// gives the canonical JSON text of a header of the message.
    pub fn matches(&self, key: &str, header: &dyn Fn(&str) -> Option<String>) -> Vec<usize> {
        match &self.0 {
            Index::Topic(topics) => topics.matches(key),
            Index::Direct(places) => places.get(key).cloned().unwrap_or_default(),
            Index::Fanout(n) => (0..*n).collect(),
            Index::Headers(headers) => headers.matches(header),
            Index::Hash(ring) => ring.at(key).into_iter().collect(),
        }
    }
}

/// How many steps the indexes have taken, in this thread.
#[cfg(test)]
mod effort {
    use std::cell::Cell;

    thread_local!(static STEPS: Cell<usize> = const { Cell::new(0) });

    pub fn add(steps: usize) {
        STEPS.set(STEPS.get() + steps);
    }

    pub fn of<T>(work: impl FnOnce() -> T) -> (usize, T) {
        let before = STEPS.get();
        let done = work();
        (STEPS.get() - before, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn pattern(pattern: &str) -> Binding {
        Binding {
            pattern: Some(pattern.into()),
            ..Binding::default()
        }
    }

    #[test]
    fn direct_and_fanout() {
        let bindings = ["a", "b", "a", "", "#"].map(pattern);
        let direct = Table::new(Kind::Direct, &bindings);
        let reached = |key| direct.matches(key, &|_| None);
        assert_eq!(reached("a"), [0, 2]);
        assert_eq!(reached("#"), [4]);
        assert_eq!(reached(""), [3]);
        assert_eq!(reached("c"), NONE);
        let fanout = Table::new(Kind::Fanout, &bindings);
        assert_eq!(fanout.matches("c", &|_| None), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn no_bindings_and_unfit_ones_match_nothing() {
        for kind in Kind::ALL {
            let none = Table::new(kind, &[]);
            assert_eq!(none.matches("a", &|_| Some("1".into())), NONE);
        }
        for kind in [Kind::Topic, Kind::Direct, Kind::Hash] {
            let unfit = Table::new(kind, &[Binding::default()]);
            assert_eq!(unfit.matches("", &|_| Some("1".into())), NONE);
        }
    }
}
