//! Bindings by header: all of the headers they name, or any of them, must be the message's.
//!
//! Every wanted pair of a name and a value is known by a number. A binding that wants any of its
//! pairs is listed under each of them; one that wants all is listed under the one that the fewest
//! bindings want, and the others are looked up. So a message costs the names that are asked for,
//! and the bindings under its pairs: a pair that all bindings share (`type = report`) lists none
//! of them if each wants something else besides.

use super::Binding;
use std::collections::HashMap;

#[derive(Debug)]
pub struct Headers {
    /// The names that are asked for (a message's own cannot be listed), with the pairs by value.
    names: HashMap<String, HashMap<String, usize>>,
    /// The bindings to look at, by pair.
    listed: Vec<Vec<usize>>,
    /// What else must be there, by binding. Empty for `any`.
    besides: Vec<Vec<usize>>,
    /// Those that want nothing and have it all.
    always: Vec<usize>,
}

impl Headers {
    pub fn new(bindings: &[Binding]) -> Self {
        let mut names: HashMap<String, HashMap<String, usize>> = HashMap::new();
        let mut wanted_by: Vec<usize> = Vec::new();
        let mut wants: Vec<Vec<usize>> = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let mut pairs = Vec::with_capacity(binding.headers.len());
            for (name, value) in &binding.headers {
                let values = names.entry(name.clone()).or_default();
                let fresh = wanted_by.len();
                let pair = *values.entry(value.clone()).or_insert(fresh);
                if pair == fresh {
                    wanted_by.push(0);
                }
                pairs.push(pair);
            }
            pairs.sort_unstable();
            pairs.dedup();
            for pair in &pairs {
                wanted_by[*pair] += 1;
            }
            wants.push(pairs);
        }
        let mut listed = vec![Vec::new(); wanted_by.len()];
        let mut always = Vec::new();
        for (place, (binding, pairs)) in bindings.iter().zip(&mut wants).enumerate() {
            if binding.any {
                for pair in std::mem::take(pairs) {
                    listed[pair].push(place);
                }
            } else {
                let rarest = (0..pairs.len()).min_by_key(|i| wanted_by[pairs[*i]]);
                match rarest {
                    Some(i) => listed[pairs.swap_remove(i)].push(place),
                    None => always.push(place),
                }
            }
        }
        Headers {
            names,
            listed,
            besides: wants,
            always,
        }
    }

    pub fn matches(&self, header: &dyn Fn(&str) -> Option<String>) -> Vec<usize> {
        let has = |(name, values): (&String, &HashMap<String, usize>)| {
            values.get(&header(name)?).copied()
        };
        let mut pairs: Vec<usize> = self.names.iter().filter_map(has).collect();
        pairs.sort_unstable();
        let mut found = self.always.clone();
        for pair in &pairs {
            let listed = &self.listed[*pair];
            #[cfg(test)]
            super::effort::add(1 + listed.len());
            let fits = |place: &usize| {
                let mut besides = self.besides[*place].iter();
                besides.all(|other| pairs.binary_search(other).is_ok())
            };
            found.extend(listed.iter().copied().filter(fits));
        }
        // One that wants any may have found several.
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::effort;
    use super::*;

    const NONE: [usize; 0] = [];

    fn binding(any: bool, headers: &[(&str, &str)]) -> Binding {
        let owned = |(n, v): &(&str, &str)| ((*n).into(), (*v).into());
        Binding {
            headers: headers.iter().map(owned).collect(),
            any,
            ..Binding::default()
        }
    }

    fn matches(index: &Headers, message: &[(&str, &str)]) -> Vec<usize> {
        index.matches(&|name| {
            let of_name = message.iter().find(|(n, _)| *n == name);
            of_name.map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn all_and_any() {
        let pdf = [("format", "\"pdf\""), ("type", "\"report\"")];
        let bindings = [binding(false, &pdf), binding(true, &pdf)];
        let index = Headers::new(&bindings);
        assert_eq!(matches(&index, &pdf), [0, 1]);
        assert_eq!(matches(&index, &pdf[..1]), [1]);
        assert_eq!(matches(&index, &pdf[1..]), [1]);
        let wrong = [("format", "\"zip\""), ("type", "\"log\""), ("x", "1")];
        assert_eq!(matches(&index, &wrong), NONE);
        assert_eq!(matches(&index, &[]), NONE);
    }

    #[test]
    fn nothing_wanted() {
        let index = Headers::new(&[binding(false, &[]), binding(true, &[])]);
        assert_eq!(matches(&index, &[]), [0]);
        assert_eq!(matches(&index, &[("a", "1")]), [0]);
    }

    #[test]
    fn values_are_compared_as_written() {
        let index = Headers::new(&[
            binding(false, &[("a", "1")]),
            binding(true, &[("a", "null")]),
        ]);
        assert_eq!(matches(&index, &[("a", "\"1\"")]), NONE);
        // A header that is null is there.
        assert_eq!(matches(&index, &[("a", "null")]), [1]);
    }

    #[test]
    fn a_name_twice() {
        let twice = [("a", "1"), ("a", "1")];
        let index = Headers::new(&[binding(false, &twice), binding(true, &twice)]);
        assert_eq!(matches(&index, &[("a", "1")]), [0, 1]);
        let both = [("a", "1"), ("a", "2")];
        let index = Headers::new(&[binding(false, &both), binding(true, &both)]);
        assert_eq!(matches(&index, &[("a", "2")]), [1]);
    }

    #[test]
    fn ten_thousand_cost_like_ten() {
        let some = |n: usize| {
            let one = |i: usize| {
                let id = i.to_string();
                binding(
                    i % 3 == 2,
                    &[("id", &id), [("type", "1"), ("x", "1")][i % 3 / 2]],
                )
            };
            Headers::new(&(0..n).map(one).collect::<Vec<_>>())
        };
        let (ten, many) = (some(10), some(10_000));
        for id in ["4", "5", "none"] {
            let message = [("id", id), ("type", "1")];
            let (few_steps, few) = effort::of(|| matches(&ten, &message));
            let (steps, found) = effort::of(|| matches(&many, &message));
            assert_eq!(few, found, "{id}");
            assert!(steps <= few_steps + 2, "{id}: {steps}, not {few_steps}");
        }
    }
}
