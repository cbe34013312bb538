//! What is promised: a bound for a figure of the first side, and whether it was kept.
//!
//! A bound is a floor where more is better and a ceiling where less is. Floors of workloads that
//! did not run are left out of the report, neither met nor missed.

use serde_json::{Value, json};

use crate::figure::{Row, quotient};
use crate::report::Party;
use crate::text::{number, times};

/// What the first side's figure is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// Another side's figure in the same row: the bound is a ratio.
    Side(&'static str),
    /// The first side's own figure in another row: the bound is a ratio.
    Row(String),
    /// Nothing: the bound is a value in the row's unit.
    Itself,
}

#[derive(Debug, Clone)]
pub struct Floor {
    pub row: String,
    pub against: Against,
    pub bound: f64,
}

/// A floor of a workload that ran.
pub struct Verdict<'a> {
    row: &'a Row,
    against: String,
    of_ratio: bool,
    bound: f64,
    reached: f64,
}

impl Floor {
    pub fn side(row: &str, side: &'static str, bound: f64) -> Floor {
        Floor {
            row: row.into(),
            against: Against::Side(side),
            bound,
        }
    }

    pub fn row(row: &str, other: &str, bound: f64) -> Floor {
        Floor {
            row: row.into(),
            against: Against::Row(other.into()),
            bound,
        }
    }

    pub fn value(row: &str, bound: f64) -> Floor {
        Floor {
            row: row.into(),
            against: Against::Itself,
            bound,
        }
    }

    pub fn judge<'a>(&self, rows: &'a [Row], parties: &[Party]) -> Option<Verdict<'a>> {
        let find = |key: &str| rows.iter().find(|row| row.key == key);
        let row = find(&self.row)?;
        let base = parties.first()?.name;
        let (against, reached) = match &self.against {
            Against::Side(side) => {
                let title = parties.iter().find(|party| party.name == *side)?.title;
                (title.to_string(), row.ratio(base, side)?)
            }
            Against::Row(key) => {
                let other = find(key)?;
                let ratio = quotient(row.median(base)?, other.median(base)?)?;
                (format!("ours: {}", other.title), ratio)
            }
            Against::Itself => (String::new(), row.median(base)?),
        };
        Some(Verdict {
            row,
            against,
            of_ratio: self.against != Against::Itself,
            bound: self.bound,
            reached,
        })
    }
}

impl Verdict<'_> {
    pub fn is_met(&self) -> bool {
        if self.row.more_is_better {
            self.reached >= self.bound
        } else {
            self.reached <= self.bound
        }
    }

    /// The cells of a table: workload, against, promised, reached, verdict.
    pub fn line(&self) -> Vec<String> {
        let show = |value: f64| match self.of_ratio {
            true => times(Some(value)),
            false => format!("{} {}", number(Some(value)), self.row.unit),
        };
        let sense = if self.row.more_is_better {
            "at least"
        } else {
            "at most"
        };
        vec![
            self.row.title.clone(),
            self.against.clone(),
            format!("{sense} {}", show(self.bound)),
            show(self.reached),
            if self.is_met() { "met" } else { "MISSED" }.into(),
        ]
    }

    pub fn json(&self) -> Value {
        json!({
            "key": self.row.key,
            "workload": self.row.title,
            "against": self.against,
            "unit": if self.of_ratio { "ratio" } else { self.row.unit },
            "sense": if self.row.more_is_better { "at least" } else { "at most" },
            "bound": self.bound,
            "reached": (self.reached * 1000.0).round() / 1e3,
            "met": self.is_met(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTIES: [Party; 2] = [
        Party {
            name: "ours",
            title: "pg_broker",
        },
        Party {
            name: "pgmq",
            title: "pgmq",
        },
    ];

    fn row(key: &str, more: bool, ours: f64, pgmq: f64) -> Row {
        let mut row = Row::new(key, key, "units", more);
        row.add("ours", ours, &[]);
        row.add("pgmq", pgmq, &[]);
        row
    }

    fn met(floor: &Floor, rows: &[Row]) -> Option<bool> {
        floor.judge(rows, &PARTIES).map(|verdict| verdict.is_met())
    }

    #[test]
    fn floors_and_ceilings() {
        let rows = [
            row("few", true, 140.0, 100.0),
            row("many", true, 70.0, 100.0),
            row("wal", false, 60.0, 100.0),
        ];
        assert_eq!(met(&Floor::side("few", "pgmq", 1.4), &rows), Some(true));
        assert_eq!(met(&Floor::side("few", "pgmq", 1.5), &rows), Some(false));
        assert_eq!(met(&Floor::row("many", "few", 0.5), &rows), Some(true));
        assert_eq!(met(&Floor::row("many", "few", 0.6), &rows), Some(false));
        assert_eq!(met(&Floor::side("wal", "pgmq", 0.7), &rows), Some(true));
        assert_eq!(met(&Floor::side("wal", "pgmq", 0.5), &rows), Some(false));
        assert_eq!(met(&Floor::value("wal", 60.0), &rows), Some(true));
        assert_eq!(met(&Floor::value("wal", 59.0), &rows), Some(false));
        assert_eq!(met(&Floor::side("absent", "pgmq", 1.0), &rows), None);
        assert_eq!(met(&Floor::side("few", "sql", 1.0), &rows), None);
    }
}
