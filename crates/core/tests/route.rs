//! Tables of bindings against what each binding says by itself, over random bindings, keys and
//! headers of a small alphabet (of a fixed seed each), so that all of them often meet.

use pg_broker_core::route::{Binding, Kind, Table};

/// xorshift64*, good enough to be unforeseen.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20;
        (drawn % end as u64) as usize
    }

    fn words(&mut self, most: usize, of: &[&str]) -> String {
        let n = self.below(most + 1);
        let words: Vec<&str> = (0..n).map(|_| of[self.below(of.len())]).collect();
        words.join(".")
    }

    fn headers(&mut self, most: usize) -> Vec<(String, String)> {
        let n = self.below(most + 1);
        let mut headers = Vec::new();
        for name in ["a", "b", "c", "d"].into_iter().take(n) {
            if self.below(4) > 0 {
                headers.push((name.to_string(), self.below(3).to_string()));
            }
        }
        headers
    }

    fn bindings(&mut self, one: impl Fn(&mut Self) -> Binding) -> Vec<Binding> {
        (0..self.below(12)).map(|_| one(self)).collect()
    }
}

fn words(text: &str) -> Vec<&str> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split('.').collect()
}

fn fits(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], key) => key.is_empty(),
        (["#", rest @ ..], key) => (0..=key.len()).any(|n| fits(rest, &key[n..])),
        (_, []) => false,
        ([first, rest @ ..], [word, others @ ..]) => {
            (*first == "*" || first == word) && fits(rest, others)
        }
    }
}

fn all_that(bindings: &[Binding], fits: impl Fn(&Binding) -> bool) -> Vec<usize> {
    let places = bindings.iter().enumerate();
    places.filter(|(_, b)| fits(b)).map(|(n, _)| n).collect()
}

#[test]
fn topics() {
    let mut met = 0;
    for seed in 0..4_000 {
        let mut dice = Dice::new(seed);
        let bindings = dice.bindings(|dice| Binding {
            pattern: Some(dice.words(6, &["a", "b", "*", "#", "#", ""])),
            ..Binding::default()
        });
        let table = Table::new(Kind::Topic, &bindings);
        for _ in 0..20 {
            let key = dice.words(7, &["a", "b", "a", "b", "c", "", "*", "#"]);
            let expected = all_that(&bindings, |b| {
                b.pattern
                    .as_ref()
                    .is_some_and(|p| fits(&words(p), &words(&key)))
            });
            let found = table.matches(&key, &|_| None);
            assert_eq!(found, expected, "seed {seed}: {key:?} among {bindings:?}");
            met += found.len();
        }
    }
    assert!(met > 50_000, "{met} met");
}

#[test]
fn headers() {
    let mut met = [0, 0];
    for seed in 0..4_000 {
        let mut dice = Dice::new(seed);
        let bindings = dice.bindings(|dice| Binding {
            headers: dice.headers(3),
            any: dice.below(2) == 0,
            ..Binding::default()
        });
        let table = Table::new(Kind::Headers, &bindings);
        for _ in 0..20 {
            let message = dice.headers(4);
            let expected = all_that(&bindings, |b| {
                let mut wanted = b.headers.iter();
                if b.any {
                    wanted.any(|pair| message.contains(pair))
                } else {
                    wanted.all(|pair| message.contains(pair))
                }
            });
            let found = table.matches("", &|name| {
                let of_name = message.iter().find(|(n, _)| n == name);
                of_name.map(|(_, value)| value.clone())
            });
            assert_eq!(
                found, expected,
                "seed {seed}: {message:?} among {bindings:?}"
            );
            for place in found {
                met[usize::from(bindings[place].any)] += 1;
            }
        }
    }
    assert!(met.iter().all(|n| *n > 20_000), "{met:?} met");
}

#[test]
fn direct() {
    for seed in 0..500 {
        let mut dice = Dice::new(seed);
        let bindings = dice.bindings(|dice| Binding {
            pattern: Some(dice.words(2, &["a", "b", "*", "#"])),
            ..Binding::default()
        });
        let table = Table::new(Kind::Direct, &bindings);
        for _ in 0..20 {
            let key = dice.words(2, &["a", "b", "*", "#"]);
            let expected = all_that(&bindings, |b| b.pattern.as_ref() == Some(&key));
            assert_eq!(table.matches(&key, &|_| None), expected, "seed {seed}");
        }
    }
}

/// Whatever is bound, a key has one target, and that of the same label wherever it stands.
#[test]
fn hash() {
    for seed in 0..500 {
        let mut dice = Dice::new(seed);
        let mut bindings = dice.bindings(|dice| Binding {
            label: dice.words(1, &["a", "b", "c", "d", "e"]),
            ..Binding::default()
        });
        for b in &mut bindings {
            // By its label, so that it is the same for the first of a label in any order.
            b.weight = 1 + b.label.len() as u32;
        }
        let mut turned = bindings.clone();
        turned.reverse();
        let table = Table::new(Kind::Hash, &bindings);
        let turned_table = Table::new(Kind::Hash, &turned);
        for _ in 0..20 {
            let key = dice.words(4, &["a", "b", "c"]);
            let found = table.matches(&key, &|_| None);
            assert_eq!(
                found.len(),
                usize::from(!bindings.is_empty()),
                "seed {seed}"
            );
            let again = turned_table.matches(&key, &|_| None);
            let label = |of: &[Binding], places: &[usize]| {
                places.first().map(|place| of[*place].label.clone())
            };
            assert_eq!(
                label(&bindings, &found),
                label(&turned, &again),
                "seed {seed}"
            );
            let firsts = |place: &usize| {
                let before = &bindings[..*place];
                before.iter().all(|b| b.label != bindings[*place].label)
            };
            assert!(found.iter().all(firsts), "seed {seed}");
        }
    }
}
