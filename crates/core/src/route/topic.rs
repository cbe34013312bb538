//! Patterns of words, in a trie: patterns that begin alike are one path until they part.
//!
//! A key is walked by its words with the set of nodes that the words so far lead to. A node is in
//! the set at most once:
//! - one that takes a word is reached by its one parent alone, which is in the set once;
//! - one that takes any number of words, once reached, stays, and is not entered again.
//!
//! So a key costs at most its words times the beginnings of patterns that it fits, however often
//! they say `#`, and each node on the way looks up the next word among all that follow it.

use std::collections::{HashMap, HashSet};

/// The words of a key or a pattern. As in RabbitMQ, the empty key has no words, so that `#` takes
/// it and `*` does not, while dots always part words: `a..b` has an empty one, which `*` takes.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('.').filter(|_| !text.is_empty())
}

#[derive(Debug)]
pub struct Topics {
    /// The first is where every pattern begins.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    words: HashMap<String, usize>,
    /// What follows by `*`.
    one: Option<usize>,
    /// What follows by `#`: a node that only words follow, see `steps`.
    many: Option<usize>,
    /// The patterns that end here.
    ends: Vec<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Word(&'a str),
    One,
    Many,
}

/// A pattern, with every `#` moved behind the `*` that follow it and merged with the next `#`:
/// the same keys fit, and fewer paths lead to them.
fn steps(pattern: &str) -> Vec<Step<'_>> {
    let (mut steps, mut many) = (Vec::new(), false);
    for word in words(pattern) {
        match word {
            "#" => many = true,
            "*" => steps.push(Step::One),
            word => {
                if std::mem::take(&mut many) {
                    steps.push(Step::Many);
                }
                steps.push(Step::Word(word));
            }
        }
    }
    if many {
        steps.push(Step::Many);
    }
    steps
}

impl Topics {
    pub fn new<'a>(patterns: impl Iterator<Item = (usize, &'a str)>) -> Self {
        let mut nodes = vec![Node::default()];
        for (place, pattern) in patterns {
            let mut at = 0;
            for step in steps(pattern) {
                let fresh = nodes.len();
                let node = &mut nodes[at];
                at = match step {
                    Step::Word(word) => *node.words.entry(word.into()).or_insert(fresh),
                    Step::One => *node.one.get_or_insert(fresh),
                    Step::Many => *node.many.get_or_insert(fresh),
                };
                if at == fresh {
                    nodes.push(Node::default());
                }
            }
            nodes[at].ends.push(place);
        }
        Topics { nodes }
    }

    pub fn matches(&self, key: &str) -> Vec<usize> {
        let mut walk = Walk {
            nodes: &self.nodes,
            live: Vec::new(),
            staying: Vec::new(),
            entered: HashSet::new(),
            found: Vec::new(),
        };
        walk.enter(0);
        for word in words(key) {
            walk.step(word);
        }
        walk.end()
    }
}

struct Walk<'a> {
    nodes: &'a [Node],
    /// The nodes that the last word led to.
    live: Vec<usize>,
    /// The nodes that take any word and lead on by some.
    staying: Vec<usize>,
    /// All nodes reached that take any number of words.
    entered: HashSet<usize>,
    found: Vec<usize>,
}

impl Walk<'_> {
    fn enter(&mut self, at: usize) {
        self.live.push(at);
        if let Some(many) = self.nodes[at].many
            && self.entered.insert(many)
        {
            let node = &self.nodes[many];
            // Whatever follows, it fits.
            self.found.extend(&node.ends);
            if !node.words.is_empty() {
                self.staying.push(many);
            }
        }
    }

    fn step(&mut self, word: &str) {
        let live = std::mem::take(&mut self.live);
        // What is entered from now on begins after this word.
        let staying = self.staying.len();
        #[cfg(test)]
        super::effort::add(live.len() + staying);
        for i in 0..staying {
            self.follow(self.staying[i], word);
        }
        for at in live {
            self.follow(at, word);
        }
    }

    fn follow(&mut self, at: usize, word: &str) {
        let node = &self.nodes[at];
        let next = node.words.get(word).copied();
        for at in next.into_iter().chain(node.one) {
            self.enter(at);
        }
    }

    fn end(mut self) -> Vec<usize> {
        for at in self.live {
            self.found.extend(&self.nodes[at].ends);
        }
        self.found.sort_unstable();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::super::effort;
    use super::*;

    const NONE: [usize; 0] = [];

    fn topics<S: AsRef<str>>(patterns: &[S]) -> Topics {
        Topics::new(patterns.iter().map(AsRef::as_ref).enumerate())
    }

    fn fits(pattern: &str, key: &str) -> bool {
        !topics(&[pattern]).matches(key).is_empty()
    }

    #[test]
    fn rabbits() {
        // RabbitMQ's fifth tutorial: the first binding is of one queue, the others of another.
        let topics = topics(&["*.orange.*", "*.*.rabbit", "lazy.#"]);
        let expected: [(&str, &[usize]); 9] = [
            ("quick.orange.rabbit", &[0, 1]),
            ("lazy.orange.elephant", &[0, 2]),
            ("quick.orange.fox", &[0]),
            ("lazy.brown.fox", &[2]),
            ("lazy.pink.rabbit", &[1, 2]),
            ("quick.brown.fox", &[]),
            ("orange", &[]),
            ("quick.orange.new.rabbit", &[]),
            ("lazy.orange.new.rabbit", &[2]),
        ];
        for (key, places) in expected {
            assert_eq!(topics.matches(key), places, "{key}");
        }
    }

    #[test]
    fn one_or_more_words_after() {
        // NATS' `time.us.>`.
        assert!(!fits("time.us.*.#", "time.us"));
        assert!(fits("time.us.*.#", "time.us.east"));
        assert!(fits("time.us.#.*", "time.us.east.atlanta"));
        assert!(!fits("time.us.#.*", "time.us"));
        assert!(fits("time.*.east", "time.us.east"));
    }

    #[test]
    fn empty_words() {
        assert!(fits("#", "") && !fits("*", "") && !fits("#.*", ""));
        assert!(fits("*.*", ".") && !fits("*", "."));
        assert!(fits("a.*.b", "a..b") && !fits("a.b", "a..b"));
        assert!(fits("a.*", "a.") && !fits("a", "a."));
    }

    #[test]
    fn signs_are_words_of_their_own() {
        assert!(fits("a#.*b", "a#.*b") && !fits("a#", "a") && !fits("*b", "ab"));
        // In a key they are words like others.
        assert!(fits("*", "#") && fits("*.a", "*.a"));
        assert!(!fits("a", "*") && !fits("a", "#"));
    }

    #[test]
    fn patterns_that_say_the_same_are_one() {
        use Step::{Many, One, Word};
        assert_eq!(steps("#.*.#.#.*"), [One, One, Many]);
        assert_eq!(steps("a.#.#.b"), [Word("a"), Many, Word("b")]);
        assert_eq!(steps("#.*.a"), [One, Many, Word("a")]);
        let same = topics(&["#.*", "*.#", "*", "#.*.#"]);
        assert_eq!(same.matches("a"), [0, 1, 2, 3]);
        assert_eq!(same.nodes.len(), 3);
    }

    #[test]
    fn many_hashes_are_no_explosion() {
        let often = |n: usize| format!("#.{}z", "a.#.".repeat(n));
        let patterns: Vec<String> = (0..40).map(often).collect();
        let topics = topics(&patterns);
        let key = ["a"; 127].join(".");
        let (steps, found) = effort::of(|| topics.matches(&key));
        assert_eq!(found, NONE);
        // Per word, each `#` once, and what follows it.
        assert!(steps <= 127 * 2 * 41, "{steps} steps");
        assert_eq!(topics.matches(&format!("{key}.z")).len(), 40);
    }

    #[test]
    fn ten_thousand_cost_like_ten() {
        let some = |n: usize| {
            let pattern = |i: usize| match i % 6 {
                0 => format!("w{i}.*.up"),
                1 => format!("*.w{i}.#"),
                2 => format!("#.w{i}.#"),
                3 => format!("lazy.w{i}"),
                4 => format!("#.w{i}.a.#.b"),
                _ => format!("*.*.w{i}.down"),
            };
            topics(&(0..n).map(pattern).collect::<Vec<_>>())
        };
        let (ten, many) = (some(10), some(10_000));
        for key in [
            "w6.w7.w8.up.b",
            "lazy.w9",
            "w4.a.w4.a.b.w2",
            "x.y.w5.down",
            "",
            "w1",
        ] {
            let (few_steps, few) = effort::of(|| ten.matches(key));
            let (steps, found) = effort::of(|| many.matches(key));
            assert_eq!(few, found, "{key}");
            assert!(steps <= 2 * few_steps, "{key}: {steps}, not {few_steps}");
        }
        let (steps, found) = effort::of(|| many.matches("w600.w601.w602.w604.a.b"));
        assert_eq!(found, [601, 602, 604]);
        assert!(steps < 60, "{steps} steps");
    }
}
