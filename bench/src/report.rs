//! What came out: as a table to read, as JSON to compute with.

use serde_json::{Value, json};

use crate::side::Side;
use crate::stats::{median, percentile, spread};
use crate::workload::{SNAPSHOT, grouped};

/// One figure of one side: a value a round, and how long single calls took.
#[derive(Debug, Clone)]
pub struct Figure {
    pub side: &'static str,
    pub rounds: Vec<f64>,
    micros: Vec<u32>,
}

#[derive(Debug, Clone)]
pub struct Row {
    pub key: String,
    pub title: String,
    pub unit: &'static str,
    pub more_is_better: bool,
    pub figures: Vec<Figure>,
}

/// A point of the series under the open snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub side: &'static str,
    pub minute: f64,
    pub rate: f64,
}

pub struct Report {
    /// Name and value of what a reader should know: machine, versions, settings, date.
    pub conditions: Vec<(&'static str, String)>,
    pub command: String,
    pub sides: Vec<Side>,
    pub rows: Vec<Row>,
    pub points: Vec<Point>,
}

impl Row {
    pub fn new(key: &str, title: &str, unit: &'static str, more_is_better: bool) -> Row {
        Row {
            key: key.into(),
            title: title.into(),
            unit,
            more_is_better,
            figures: Vec::new(),
        }
    }

    pub fn add(&mut self, side: &'static str, value: f64, micros: &[u32]) {
        let figure = match self
            .figures
            .iter_mut()
            .position(|figure| figure.side == side)
        {
            Some(index) => &mut self.figures[index],
            None => {
                self.figures.push(Figure {
                    side,
                    rounds: Vec::new(),
                    micros: Vec::new(),
                });
                let last = self.figures.len() - 1;
                &mut self.figures[last]
            }
        };
        figure.rounds.push(value);
        figure.micros.extend_from_slice(micros);
    }

    pub fn figure(&self, side: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.side == side)
    }

    pub fn median(&self, side: &str) -> Option<f64> {
        median(&self.figure(side)?.rounds)
    }

    /// As the table shows it: one side's median over another's.
    pub fn ratio(&self, side: &str, other: &str) -> Option<f64> {
        let below = self.median(other)?;
        (below > 0.0).then_some(self.median(side)? / below)
    }

    /// How many times better, whether more or less is better.
    pub fn better(&self, side: &str, other: &str) -> Option<f64> {
        if self.more_is_better {
            self.ratio(side, other)
        } else {
            self.ratio(other, side)
        }
    }
}

impl Figure {
    /// Milliseconds of a round trip that this share of them stayed under.
    fn millis(&self, share: f64) -> Option<f64> {
        percentile(&mut self.micros.clone(), share).map(|micros| micros as f64 / 1000.0)
    }
}

impl Report {
    /// The side in question and those it is measured against.
    pub fn against(&self) -> (&'static str, Vec<&Side>) {
        let base = self.sides.first().map(|side| side.name).unwrap_or_default();
        (base, self.sides.iter().skip(1).collect())
    }

    pub fn text(&self) -> String {
        let (base, others) = self.against();
        let mut text = String::from("pg_broker beside pgmq and hand-written SQL, in one run\n\n");
        let width = self
            .conditions
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0);
        for (name, value) in &self.conditions {
            text.push_str(&format!("{name:<width$}  {}\n", folded(value, width + 2)));
        }
        text.push_str(&format!("{:<width$}  {}\n\n", "command", self.command));

        text.push_str("Medians of the rounds\n\n");
        let mut table = vec![vec!["workload".to_string(), "unit".to_string()]];
        table[0].extend(self.sides.iter().map(|side| side.name.to_string()));
        table[0].extend(others.iter().map(|other| format!("{base}/{}", other.name)));
        for row in &self.rows {
            let note = if row.more_is_better {
                ""
            } else {
                " (less is better)"
            };
            let mut line = vec![row.title.clone(), format!("{}{note}", row.unit)];
            line.extend(self.sides.iter().map(|side| whole(row.median(side.name))));
            line.extend(
                others
                    .iter()
                    .map(|other| times(row.ratio(base, other.name))),
            );
            table.push(line);
        }
        text.push_str(&aligned(&table));

        let minutes: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.key.starts_with(SNAPSHOT))
            .collect();
        if let (Some(first), Some(last)) = (minutes.first(), minutes.last())
            && minutes.len() > 1
        {
            text.push_str("\nLast minute under the snapshot, against that side's first\n\n");
            for side in &self.sides {
                let kept = match (last.median(side.name), first.median(side.name)) {
                    (Some(last), Some(first)) if first > 0.0 => Some(last / first),
                    _ => None,
                };
                text.push_str(&format!("  {:<17} {}\n", side.title, times(kept)));
            }
        }

        text.push_str(
            "\nOne call or cycle in milliseconds (half of them, 99 of 100), and how far the\n\
             rounds lie apart, in percent of their median\n\n",
        );
        let mut table = vec![vec!["workload".to_string()]];
        for side in &self.sides {
            table[0].extend(["p50".into(), "p99".into(), format!("± % {}", side.name)]);
        }
        for row in &self.rows {
            let mut line = vec![row.title.clone()];
            for side in &self.sides {
                let figure = row.figure(side.name);
                for share in [0.5, 0.99] {
                    let millis = figure.and_then(|figure| figure.millis(share));
                    line.push(
                        millis
                            .map(|m| format!("{m:.2}"))
                            .unwrap_or_else(|| "-".into()),
                    );
                }
                let apart = figure
                    .filter(|f| f.rounds.len() > 1)
                    .and_then(|f| spread(&f.rounds));
                line.push(
                    apart
                        .map(|s| format!("{s:.0}"))
                        .unwrap_or_else(|| "-".into()),
                );
            }
            table.push(line);
        }
        text.push_str(&aligned(&table));
        text
    }

    pub fn json(&self) -> Value {
        let (base, others) = self.against();
        let conditions: serde_json::Map<String, Value> = self
            .conditions
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value)))
            .collect();
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let sides: serde_json::Map<String, Value> = row
                    .figures
                    .iter()
                    .map(|figure| {
                        let value = json!({
                            "rounds": figure.rounds.iter().map(|v| rounded(*v)).collect::<Vec<_>>(),
                            "median": median(&figure.rounds).map(rounded),
                            "p50_ms": figure.millis(0.5),
                            "p99_ms": figure.millis(0.99),
                        });
                        (figure.side.to_string(), value)
                    })
                    .collect();
                let ratios: serde_json::Map<String, Value> = others
                    .iter()
                    .map(|other| {
                        let ratio = row
                            .ratio(base, other.name)
                            .map(|r| (r * 1000.0).round() / 1e3);
                        (format!("{base}/{}", other.name), json!(ratio))
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
            })
            .collect();
        let points: Vec<Value> = self
            .points
            .iter()
            .map(|point| {
                json!({
                    "side": point.side,
                    "minute": (point.minute * 1000.0).round() / 1e3,
                    "rate": rounded(point.rate),
                })
            })
            .collect();
        json!({
            "command": self.command,
            "conditions": conditions,
            "workloads": rows,
            "snapshot": points,
        })
    }

    /// What falls short of what is promised: no figure below pgmq's, and single cycles of 8
    /// clients at least one and a half times as many.
    pub fn shortfalls(&self) -> Vec<String> {
        self.rows
            .iter()
            .filter_map(|row| {
                let least = if row.key == "cycle-8" { 1.5 } else { 1.0 };
                let better = row.better("ours", "pgmq")?;
                (better < least).then(|| {
                    format!(
                        "{}: {better:.2} times pgmq's, must be {least:.1}",
                        row.title
                    )
                })
            })
            .collect()
    }
}

/// A long text in lines of some hundred characters, all but the first indented.
fn folded(text: &str, indent: usize) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for word in text.split(' ') {
        if length > 0 && length + word.len() > 98 - indent {
            lines.push_str(&format!("\n{}", " ".repeat(indent)));
            length = 0;
        } else if length > 0 {
            lines.push(' ');
        }
        lines.push_str(word);
        length += word.len() + 1;
    }
    lines
}

fn whole(value: Option<f64>) -> String {
    value
        .map(|value| grouped(value.round() as i64))
        .unwrap_or_else(|| "-".into())
}

fn times(ratio: Option<f64>) -> String {
    match ratio {
        Some(ratio) if ratio >= 100.0 => format!("{ratio:.0} ×"),
        Some(ratio) => format!("{ratio:.2} ×"),
        None => "-".into(),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Columns padded to their widest cell; the first two columns of words to the left, numbers right.
fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        table
            .iter()
            .filter_map(|line| line.get(column))
            .map(|c| c.chars().count())
            .max()
    };
    let words = |column: usize| {
        let numeric = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        table
            .iter()
            .skip(1)
            .filter_map(|line| line.get(column))
            .any(|cell| !numeric(cell))
    };
    let mut text = String::new();
    for (number, line) in table.iter().enumerate() {
        let cells: Vec<String> = (0..columns)
            .map(|column| {
                let cell = line.get(column).map(String::as_str).unwrap_or_default();
                let width = width(column).unwrap_or(0);
                if words(column) {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        text.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
        if number == 0 {
            let all: usize = (0..columns)
                .map(|column| width(column).unwrap_or(0) + 2)
                .sum();
            text.push_str(&format!("  {}\n", "-".repeat(all.saturating_sub(2))));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_better_turns_the_ratio() {
        let mut row = Row::new("wal", "WAL", "bytes", false);
        row.add("ours", 600.0, &[]);
        row.add("pgmq", 900.0, &[]);
        assert_eq!(row.ratio("ours", "pgmq"), Some(600.0 / 900.0));
        assert_eq!(row.better("ours", "pgmq"), Some(1.5));
        assert_eq!(row.better("ours", "sql"), None);
    }

    #[test]
    fn shortfalls_are_named() {
        let mut cycle = Row::new("cycle-8", "cycle", "cycles/s", true);
        cycle.add("ours", 140.0, &[]);
        cycle.add("pgmq", 100.0, &[]);
        let mut send = Row::new("send-8", "send", "messages/s", true);
        send.add("ours", 101.0, &[]);
        send.add("pgmq", 100.0, &[]);
        let report = Report {
            conditions: Vec::new(),
            command: String::new(),
            sides: Vec::new(),
            rows: vec![cycle, send],
            points: Vec::new(),
        };
        assert_eq!(
            report.shortfalls(),
            ["cycle: 1.40 times pgmq's, must be 1.5"]
        );
    }
}
