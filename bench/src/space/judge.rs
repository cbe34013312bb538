//! What the samples say: how large, how fast, and by how much more than its live messages.

use super::flow::{Mark, Sample, Watched};

/// Dead rows may vary from tenth to tenth by half.
const VARIES: f64 = 1.5;
/// A size that stands for a segment where there is none, so that no bound is kept by chance.
const PAGE: f64 = 8192.0;
const MEGABYTE: f64 = 1e6;

impl Watched {
    pub fn seconds(&self) -> f64 {
        self.marks.last().map_or(0.0, |mark| mark.at)
    }

    /// Messages a second that were acked in a tenth, counted from one.
    pub fn rate(&self, tenth: usize) -> f64 {
        let mark = |number: usize| self.marks.get(number);
        match (mark(tenth - 1), mark(tenth)) {
            (Some(from), Some(to)) => (to.acked - from.acked) as f64 / (to.at - from.at).max(1e-3),
            _ => 0.0,
        }
    }

    /// How fast a tenth was, counted from one, beside the yardstick.
    pub fn beside(&self, tenth: usize) -> Option<f64> {
        self.marks.get(tenth)?.beside
    }

    pub fn acked(&self) -> u64 {
        self.marks.last().map_or(0, |mark| mark.acked)
    }

    /// The largest that the queue ever was, in megabytes.
    pub fn largest(&self) -> f64 {
        self.most(|sample| sample.sizes.queue as f64) / MEGABYTE
    }

    /// By how much the catalogs grew at most, in megabytes.
    pub fn catalogs(&self) -> f64 {
        let before = self.samples.first().map_or(0, |s| s.sizes.catalogs);
        self.most(|sample| (sample.sizes.catalogs - before) as f64) / MEGABYTE
    }

    /// How many segments more than its live messages the queue took at most.
    pub fn above_live(&self) -> f64 {
        self.most(|sample| self.segments_above(sample))
    }

    /// In segments, the size of a sample less its live messages, each as large as in a full
    /// segment. A full segment is as large as any ever was.
    pub fn segments_above(&self, sample: &Sample) -> f64 {
        let segment = self.most(|sample| sample.sizes.segment as f64).max(PAGE);
        let room = self.marks.iter().map(|mark| mark.dead.room).max();
        let message = match room.unwrap_or(0) {
            0 => 0.0,
            room => segment / room as f64,
        };
        (sample.sizes.queue as f64 - sample.live as f64 * message) / segment
    }

    /// Dead rows at the ends of the tenths after the first: the most of them; and how many there
    /// may be, going by the first and by a segment that waits for its end.
    pub fn dead(&self) -> (f64, f64) {
        let rows = |mark: &Mark| mark.dead.rows as f64;
        let first = self.marks.get(1).map_or(0.0, rows);
        let later = self.marks.iter().skip(2).map(rows).fold(0.0, f64::max);
        let segments = self.marks.iter().map(|mark| mark.dead.segment as f64);
        let allowed = first * VARIES + segments.fold(0.0, f64::max);
        (later, allowed.max(1.0))
    }

    fn most(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        self.samples.iter().map(value).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Tally;
    use crate::space::gauge::{Dead, Sizes};

    fn sample(live: u64, queue: i64, segment: i64) -> Sample {
        let catalogs = 0;
        let sizes = Sizes {
            queue,
            segment,
            catalogs,
        };
        Sample {
            at: 0.0,
            acked: 0,
            live,
            sizes,
        }
    }

    fn mark(at: f64, acked: u64, rows: i64, room: i64) -> Mark {
        let segment = room;
        let dead = Dead {
            rows,
            segment,
            room,
        };
        let beside = None;
        Mark {
            at,
            acked,
            dead,
            beside,
        }
    }

    #[test]
    fn live_messages_count_as_large_as_in_a_full_segment() {
        let watched = Watched {
            samples: vec![sample(0, 100_000, 20_000), sample(100, 300_000, 40_000)],
            marks: vec![mark(0.0, 0, 0, 100)],
            tally: Tally::default(),
        };
        // 300 kB, of which the 100 that live are worth a segment of 40 kB.
        assert_eq!(watched.above_live(), 6.5);
    }

    #[test]
    fn without_segments_nothing_is_kept() {
        let watched = Watched {
            samples: vec![sample(1_000_000, 300_000_000, 0)],
            marks: vec![],
            tally: Tally::default(),
        };
        assert!(watched.above_live() > 4.0);
    }

    #[test]
    fn rates_and_dead_rows_of_the_tenths() {
        let marks = vec![
            mark(0.0, 0, 0, 0),
            mark(2.0, 100, 40, 0),
            mark(3.0, 200, 90, 10),
            mark(5.0, 240, 60, 10),
        ];
        let watched = Watched {
            samples: vec![],
            marks,
            tally: Tally::default(),
        };
        assert_eq!(watched.rate(1), 50.0);
        assert_eq!(watched.rate(3), 20.0);
        assert_eq!(watched.rate(4), 0.0);
        assert_eq!(watched.dead(), (90.0, 70.0));
    }
}
