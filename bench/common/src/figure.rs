//! One line of a table: what each side reached, round by round.

use crate::stats::{median, percentile};

/// One figure of one side: a value a round, and how long single calls took.
#[derive(Debug, Clone)]
pub struct Figure {
    pub side: &'static str,
    pub rounds: Vec<f64>,
    pub(crate) micros: Vec<u32>,
}

#[derive(Debug, Clone)]
pub struct Row {
    pub key: String,
    pub title: String,
    pub unit: &'static str,
    pub more_is_better: bool,
    pub figures: Vec<Figure>,
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
        quotient(self.median(side)?, self.median(other)?)
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
    pub fn millis(&self, share: f64) -> Option<f64> {
        percentile(&mut self.micros.clone(), share).map(|micros| f64::from(micros) / 1000.0)
    }
}

pub(crate) fn quotient(above: f64, below: f64) -> Option<f64> {
    (below > 0.0).then_some(above / below)
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
}
