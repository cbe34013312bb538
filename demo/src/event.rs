//! What a consumer tells the narrator: one line each, over one pipe that all of them share.
//!
//! One pipe, and lines shorter than PIPE_BUF, keep the order of events across processes: what a
//! consumer tells before it acts is read before anything that its act makes possible elsewhere.

use std::io::Write;

#[derive(Debug, PartialEq)]
pub enum Event {
    /// Connected and waiting for messages.
    Ready { worker: String },
    /// Messages handed out to this worker, in one call.
    Took {
        worker: String,
        messages: Vec<Taken>,
    },
    /// Work on one of them begins now.
    Begun { worker: String, order: i64 },
    /// Effect and settlement are committed.
    Done { worker: String, order: i64 },
    /// The work failed; the worker is about to nack.
    Failing {
        worker: String,
        order: i64,
        reason: String,
    },
    /// The nack is committed: again in so many milliseconds, or dead-lettered.
    Failed {
        worker: String,
        order: i64,
        failures: i32,
        again_in_ms: Option<i64>,
    },
    /// The ack was refused: the message has gone to somebody else.
    Late { worker: String, order: i64 },
}

#[derive(Debug, PartialEq, Clone)]
pub struct Taken {
    pub message: i64,
    pub order: i64,
    pub attempts: i32,
}

impl Event {
    /// Tells the narrator. Nobody listening means that the story is over.
    pub fn tell(&self) -> std::io::Result<()> {
        let mut line = self.to_line();
        line.push('\n');
        std::io::stdout().lock().write_all(line.as_bytes())
    }

    pub fn to_line(&self) -> String {
        match self {
            Event::Ready { worker } => format!("ready\t{worker}"),
            Event::Took { worker, messages } => {
                let messages: Vec<String> = messages
                    .iter()
                    .map(|t| format!("{}:{}:{}", t.message, t.order, t.attempts))
                    .collect();
                format!("took\t{worker}\t{}", messages.join(","))
            }
            Event::Begun { worker, order } => format!("begun\t{worker}\t{order}"),
            Event::Done { worker, order } => format!("done\t{worker}\t{order}"),
            Event::Failing {
                worker,
                order,
                reason,
            } => {
                let reason = reason.replace(['\t', '\n', '\r'], " ");
                format!("failing\t{worker}\t{order}\t{reason}")
            }
            Event::Failed {
                worker,
                order,
                failures,
                again_in_ms,
            } => {
                let again = again_in_ms.map(|ms| ms.to_string()).unwrap_or_default();
                format!("failed\t{worker}\t{order}\t{failures}\t{again}")
            }
            Event::Late { worker, order } => format!("late\t{worker}\t{order}"),
        }
    }

    pub fn parse(line: &str) -> Option<Event> {
        let mut fields = line.split('\t');
        let (kind, worker) = (fields.next()?, fields.next()?.to_owned());
        let mut field = || fields.next();
        Some(match kind {
            "ready" => Event::Ready { worker },
            "took" => {
                let messages = field()?
                    .split(',')
                    .map(parse_taken)
                    .collect::<Option<_>>()?;
                Event::Took { worker, messages }
            }
            "begun" => Event::Begun {
                worker,
                order: field()?.parse().ok()?,
            },
            "done" => Event::Done {
                worker,
                order: field()?.parse().ok()?,
            },
            "failing" => Event::Failing {
                worker,
                order: field()?.parse().ok()?,
                reason: field()?.to_owned(),
            },
            "failed" => Event::Failed {
                worker,
                order: field()?.parse().ok()?,
                failures: field()?.parse().ok()?,
                again_in_ms: match field()? {
                    "" => None,
                    ms => Some(ms.parse().ok()?),
                },
            },
            "late" => Event::Late {
                worker,
                order: field()?.parse().ok()?,
            },
            _ => return None,
        })
    }
}

fn parse_taken(text: &str) -> Option<Taken> {
    let mut numbers = text.split(':');
    let taken = Taken {
        message: numbers.next()?.parse().ok()?,
        order: numbers.next()?.parse().ok()?,
        attempts: numbers.next()?.parse().ok()?,
    };
    numbers.next().is_none().then_some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_survives_the_pipe() {
        let worker = || "anna".to_owned();
        let taken = |message, order, attempts| Taken {
            message,
            order,
            attempts,
        };
        let events = [
            Event::Ready { worker: worker() },
            Event::Took {
                worker: worker(),
                messages: vec![taken(1, 2, 3), taken(4, 5, 6)],
            },
            Event::Begun {
                worker: worker(),
                order: 7,
            },
            Event::Done {
                worker: worker(),
                order: 7,
            },
            Event::Failing {
                worker: worker(),
                order: 7,
                reason: "no such thing".into(),
            },
            Event::Failed {
                worker: worker(),
                order: 7,
                failures: 1,
                again_in_ms: Some(900),
            },
            Event::Failed {
                worker: worker(),
                order: 7,
                failures: 3,
                again_in_ms: None,
            },
            Event::Late {
                worker: worker(),
                order: 7,
            },
        ];
        for event in events {
            assert_eq!(Event::parse(&event.to_line()), Some(event));
        }
    }

    #[test]
    fn noise_is_not_an_event() {
        for line in ["", "took", "took\tanna\t1:2", "done\tanna\tx", "sang\tanna"] {
            assert_eq!(Event::parse(line), None, "{line:?}");
        }
    }
}
