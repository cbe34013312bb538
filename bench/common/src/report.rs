//! What came out: as a table to read, as JSON to compute with.

use serde_json::{Map, Value, json};

use crate::figure::{Figure, Row};
use crate::floor::{Floor, Verdict};
use crate::stats::{median, spread};
use crate::text::{aligned, folded, number, times};

/// A side, as tables and charts call it.
#[derive(Debug, Clone, Copy)]
pub struct Party {
    pub name: &'static str,
    pub title: &'static str,
}

pub struct Report {
    pub title: &'static str,
    /// Name and value of what a reader should know: machine, versions, settings, date.
    pub conditions: Vec<(&'static str, String)>,
    pub command: String,
    /// The side in question, then those it is measured against.
    pub parties: Vec<Party>,
    pub rows: Vec<Row>,
    pub floors: Vec<Floor>,
}

impl Report {
    /// The side in question and those it is measured against.
    pub fn against(&self) -> (&'static str, &[Party]) {
        match self.parties.split_first() {
            Some((first, others)) => (first.name, others),
            None => ("", &[]),
        }
    }

    pub fn verdicts(&self) -> Vec<Verdict<'_>> {
        self.floors
            .iter()
            .filter_map(|floor| floor.judge(&self.rows, &self.parties))
            .collect()
    }

    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        let names = self.conditions.iter().map(|(name, _)| name.len());
        let width = names.max().unwrap_or(0);
        for (name, value) in &self.conditions {
            text.push_str(&format!("{name:<width$}  {}\n", folded(value, width + 2)));
        }
        text.push_str(&format!("{:<width$}  {}\n", "command", self.command));

        text.push_str("\nMedians of the rounds\n\n");
        text.push_str(&aligned(&self.medians()));

        let verdicts = self.verdicts();
        if !verdicts.is_empty() {
            let met = verdicts.iter().filter(|verdict| verdict.is_met()).count();
            text.push_str(&format!(
                "\nFloors: {met} of the {} that were measured are met\n\n",
                verdicts.len()
            ));
            let mut table = vec![
                ["workload", "against", "promised", "reached", ""]
                    .map(String::from)
                    .to_vec(),
            ];
            table.extend(verdicts.iter().map(Verdict::line));
            text.push_str(&aligned(&table));
        }

        text.push_str(
            "\nOne call or cycle in milliseconds (half of them, 99 of 100), and how far the\n\
             rounds lie apart, in percent of their median\n\n",
        );
        text.push_str(&aligned(&self.durations()));
        text
    }

    fn medians(&self) -> Vec<Vec<String>> {
        let (base, others) = self.against();
        let mut head = vec!["workload".to_string(), "unit".to_string()];
        head.extend(self.parties.iter().map(|party| party.name.to_string()));
        head.extend(others.iter().map(|other| format!("{base}/{}", other.name)));
        let mut table = vec![head];
        for row in &self.rows {
            let note = if row.more_is_better {
                ""
            } else {
                " (less is better)"
            };
            let mut line = vec![row.title.clone(), format!("{}{note}", row.unit)];
            let medians = self.parties.iter().map(|party| row.median(party.name));
            line.extend(medians.map(number));
            let ratios = others.iter().map(|other| row.ratio(base, other.name));
            line.extend(ratios.map(times));
            table.push(line);
        }
        table
    }

    fn durations(&self) -> Vec<Vec<String>> {
        let mut head = vec!["workload".to_string()];
        for party in &self.parties {
            head.extend(["p50".into(), "p99".into(), format!("± % {}", party.name)]);
        }
        let mut table = vec![head];
        for row in &self.rows {
            let mut line = vec![row.title.clone()];
            for party in &self.parties {
                let figure = row.figure(party.name);
                for share in [0.5, 0.99] {
                    let millis = figure.and_then(|figure| figure.millis(share));
                    line.push(millis.map_or_else(|| "-".into(), |m| format!("{m:.2}")));
                }
                let apart = figure
                    .filter(|figure| figure.rounds.len() > 1)
                    .and_then(|figure| spread(&figure.rounds));
                line.push(apart.map_or_else(|| "-".into(), |s| format!("{s:.0}")));
            }
            // What was measured once, and is no call, has nothing to show here.
            if line.iter().skip(1).any(|cell| cell != "-") {
                table.push(line);
            }
        }
        table
    }

    pub fn json(&self) -> Map<String, Value> {
        let (base, others) = self.against();
        let conditions: Map<String, Value> = self
            .conditions
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value)))
            .collect();
        let row = |row: &Row| {
            let sides: Map<String, Value> = row
                .figures
                .iter()
                .map(|figure| (figure.side.to_string(), figure_json(figure)))
                .collect();
            let ratios: Map<String, Value> = others
                .iter()
                .filter_map(|other| {
                    let ratio = (row.ratio(base, other.name)? * 1000.0).round() / 1e3;
                    Some((format!("{base}/{}", other.name), json!(ratio)))
                })
                .collect();
            json!({
                "key": row.key,
                "workload": row.title,
                "unit": row.unit,
                "better": if row.more_is_better { "more" } else { "less" },
                "sides": sides,
                "ratios": ratios,
            })
        };
        let mut json = Map::new();
        json.insert("command".into(), json!(self.command));
        json.insert("conditions".into(), json!(conditions));
        json.insert("workloads".into(), self.rows.iter().map(row).collect());
        let verdicts = self.verdicts();
        json.insert(
            "floors".into(),
            verdicts.iter().map(Verdict::json).collect(),
        );
        json
    }
}

fn figure_json(figure: &Figure) -> Value {
    json!({
        "rounds": figure.rounds.iter().map(|value| rounded(*value)).collect::<Vec<_>>(),
        "median": median(&figure.rounds).map(rounded),
        "p50_ms": figure.millis(0.5),
        "p99_ms": figure.millis(0.99),
    })
}

/// One digit after the point for rates, three for what is small.
fn rounded(value: f64) -> f64 {
    if value < 100.0 {
        (value * 1000.0).round() / 1000.0
    } else {
        (value * 10.0).round() / 10.0
    }
}
