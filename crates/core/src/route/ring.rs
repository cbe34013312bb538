//! Consistent hashing: the targets lie on a ring, each at as many points as its weight asks for,
//! and a key goes to the next point after its own.
//!
//! Where a target lies depends on its label and weight alone, so one that comes takes keys only
//! from the others, and one that goes gives its own away. And it is the same on every machine and
//! in every version: messages of one key would part otherwise. The hash must never change.

use crate::hash::{fnv, mixed};
use std::collections::HashSet;

/// Points per unit of weight. The parts of equal targets are even within a tenth or so.
const POINTS: u32 = 512;

#[derive(Debug)]
pub struct Ring {
    /// Rising, with the place of the target.
    points: Vec<(u64, usize)>,
}

impl Ring {
    /// Of labels and weights. A label that comes again is the same target: the first stands.
    pub fn new<'a>(targets: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut labels = HashSet::new();
        let mut points = Vec::new();
        for (place, (label, weight)) in targets.enumerate() {
            if labels.insert(label) {
                let numbers = 0..POINTS * weight.min(super::HEAVIEST);
                points.extend(numbers.map(|n| (point(label, n), label, place)));
            }
        }
        // By label where points fall together, so that the order of binding makes no difference.
        points.sort_unstable();
        let points = points.into_iter().map(|(at, _, place)| (at, place));
        Ring {
            points: points.collect(),
        }
    }

    /// The one whose the key is.
    pub fn at(&self, key: &str) -> Option<usize> {
        let key = mixed(fnv(key.as_bytes().iter()));
        let next = self.points.partition_point(|(at, _)| {
            #[cfg(test)]
            super::effort::add(1);
            *at < key
        });
        let next = self.points.get(next).or(self.points.first());
        next.map(|(_, place)| *place)
    }
}

fn point(label: &str, number: u32) -> u64 {
    mixed(fnv(label.as_bytes().iter().chain(&number.to_le_bytes())))
}

#[cfg(test)]
mod tests {
    use super::super::effort;
    use super::*;

    const KEYS: usize = 20_000;

    /// The label that each of many keys goes to.
    fn owners<'a>(targets: &[(&'a str, u32)]) -> Vec<Option<&'a str>> {
        let ring = Ring::new(targets.iter().copied());
        let owner = |i| ring.at(&format!("key-{i}")).map(|place| targets[place].0);
        (0..KEYS).map(owner).collect()
    }

    fn part(owners: &[Option<&str>], label: &str) -> f64 {
        owners.iter().filter(|l| **l == Some(label)).count() as f64 / owners.len() as f64
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("queue_{i}")).collect()
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let fnv = |text: &str| fnv(text.as_bytes().iter());
        assert_eq!(fnv(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv("foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(mixed(0), 0);
        assert_eq!(mixed(1), 0xb456_bcfc_34c2_cb2c);
    }

    #[test]
    fn keys_stay_where_they_are() {
        // Reckoned by another program from the definition.
        let labels = ["orders", "orders_b", "bestellung-ä"];
        let ring = Ring::new(labels.into_iter().zip([1, 1, 2]));
        let keys = ["", "a", "customer-1", "customer-3", "customer-5", "zürich"];
        let owners = keys.map(|key| ring.at(key));
        assert_eq!(owners, [2, 1, 0, 2, 0, 1].map(Some));
    }

    #[test]
    fn a_new_target_takes_its_part_and_nothing_else_moves() {
        for n in [1, 2, 3, 5, 10, 30] {
            let names = names(n + 1);
            let targets: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
            let (before, after) = (owners(&targets[..n]), owners(&targets));
            let new = Some(names[n].as_str());
            let moved = before.iter().zip(&after).filter(|(b, a)| b != a);
            assert!(moved.clone().all(|(_, a)| *a == new), "{n}");
            let (moved, due) = (moved.count() as f64 / KEYS as f64, 1.0 / (n + 1) as f64);
            assert!((0.85 * due..1.15 * due).contains(&moved), "{n}: {moved}");
        }
    }

    #[test]
    fn weights_are_parts() {
        let targets = [("a", 1), ("b", 2), ("c", 7)];
        let owners = owners(&targets);
        for (label, weight) in targets {
            let (part, due) = (part(&owners, label), f64::from(weight) / 10.0);
            assert!((0.9 * due..1.1 * due).contains(&part), "{label}: {part}");
        }
    }

    #[test]
    fn a_weight_raised_takes_from_the_others() {
        let (before, after) = (owners(&[("a", 1), ("b", 1)]), owners(&[("a", 1), ("b", 3)]));
        let mut moved = before.iter().zip(&after).filter(|(b, a)| b != a);
        assert!(moved.all(|(_, a)| *a == Some("b")));
    }

    #[test]
    fn the_order_of_binding_makes_no_difference() {
        let there = owners(&[("a", 2), ("b", 3), ("c", 1)]);
        assert_eq!(there, owners(&[("c", 1), ("a", 2), ("b", 3)]));
    }

    #[test]
    fn a_label_counts_once() {
        let twice = [("a", 1), ("b", 1), ("a", 100)];
        let ring = Ring::new(twice.into_iter());
        assert_eq!(ring.points.len(), 2 * POINTS as usize);
        assert_eq!(owners(&twice), owners(&twice[..2]));
    }

    #[test]
    fn no_weight_no_keys() {
        assert_eq!(Ring::new([("a", 0)].into_iter()).at("k"), None);
        assert_eq!(Ring::new([("a", 0), ("b", 1)].into_iter()).at("k"), Some(1));
    }

    #[test]
    fn a_thousand_cost_like_ten() {
        let steps = |n: usize| {
            let names = names(n);
            let ring = Ring::new(names.iter().map(|name| (name.as_str(), 1)));
            effort::of(|| ring.at("key")).0
        };
        assert!(steps(1_000) <= 3 * steps(10));
    }
}
