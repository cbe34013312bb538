//! The narrator's book: every hand-out the consumers told of, how it ended, and for each one
//! after an order's first, why it came to that.

use crate::event::{Event, Taken};
use crate::voice::{GREEN, RED, Voice, YELLOW};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Book {
    pub handouts: Vec<Handout>,
    pub ready: BTreeSet<String>,
    pub killed: BTreeMap<String, Style>,
    pub redriven: BTreeSet<i64>,
    /// Lines that were no event. There should be none.
    pub noise: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Lease,
    Pop,
}

pub struct Handout {
    pub worker: String,
    pub order: i64,
    pub message: i64,
    pub begun: bool,
    pub end: End,
    /// None for the first hand-out of an order.
    pub cause: Option<Cause>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Open,
    Done,
    Failed,
}

/// Why an order was handed out again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    KilledHolding(String),
    KilledInTransaction(String),
    Failed,
    Redriven,
    LeaseEnded(String),
    Unexplained,
}

impl Book {
    pub fn enter(&mut self, event: Event, voice: &Voice) {
        match event {
            Event::Ready { worker } => {
                self.ready.insert(worker);
            }
            Event::Took { worker, messages } => self.took(&worker, &messages, voice),
            Event::Begun { worker, order } => {
                if let Some(handout) = self.current(&worker, order) {
                    handout.begun = true;
                }
            }
            Event::Done { worker, order } => {
                if let Some(handout) = self.current(&worker, order) {
                    handout.end = End::Done;
                }
                voice.say(
                    &worker,
                    &voice.paint(GREEN, &format!("shipped order {order}")),
                );
            }
            Event::Failing {
                worker,
                order,
                reason,
            } => {
                if let Some(handout) = self.current(&worker, order) {
                    handout.end = End::Failed;
                }
                voice.say(
                    &worker,
                    &voice.paint(RED, &format!("order {order} failed: {reason}")),
                );
            }
            Event::Failed {
                worker,
                order,
                failures,
                again_in_ms,
            } => {
                let text = match again_in_ms {
                    Some(ms) => format!(
                        "order {order}: failure {failures}, again in {:.1} s",
                        ms as f64 / 1000.0
                    ),
                    None => format!("order {order}: that was its last chance, to orders_dead"),
                };
                voice.say(&worker, &voice.paint(YELLOW, &text));
            }
            Event::Late { worker, order } => {
                let text =
                    format!("order {order} is no longer mine (its lease ended): effect undone");
                voice.say(&worker, &voice.paint(YELLOW, &text));
            }
        }
    }

    fn took(&mut self, worker: &str, messages: &[Taken], voice: &Voice) {
        for taken in messages {
            let cause = self.cause(taken);
            if let Some(cause) = &cause {
                let text = format!("order {} again: {}", taken.order, cause.in_short());
                voice.say(worker, &voice.paint(YELLOW, &text));
            }
            self.handouts.push(Handout {
                worker: worker.to_owned(),
                order: taken.order,
                message: taken.message,
                begun: false,
                end: End::Open,
                cause,
            });
        }
        if messages.len() > 1 {
            let orders: Vec<String> = messages.iter().map(|t| t.order.to_string()).collect();
            voice.say(worker, &format!("leased orders {}", orders.join(", ")));
        }
    }

    fn cause(&self, taken: &Taken) -> Option<Cause> {
        let last = self.handouts.iter().rfind(|h| h.order == taken.order)?;
        Some(match last.end {
            End::Done => Cause::Unexplained,
            End::Failed if last.message == taken.message => Cause::Failed,
            End::Failed if self.redriven.contains(&taken.order) => Cause::Redriven,
            End::Failed => Cause::Unexplained,
            End::Open => match self.killed.get(&last.worker) {
                Some(Style::Lease) => Cause::KilledHolding(last.worker.clone()),
                Some(Style::Pop) => Cause::KilledInTransaction(last.worker.clone()),
                None => Cause::LeaseEnded(last.worker.clone()),
            },
        })
    }

    fn current(&mut self, worker: &str, order: i64) -> Option<&mut Handout> {
        self.handouts
            .iter_mut()
            .rfind(|h| h.worker == worker && h.order == order)
    }

    /// The orders this worker holds now, the one it works on first.
    pub fn holds(&self, worker: &str) -> Vec<i64> {
        let open = self
            .handouts
            .iter()
            .filter(|h| h.worker == worker && h.end == End::Open);
        let (begun, waiting): (Vec<_>, Vec<_>) = open.partition(|h| h.begun);
        begun.iter().chain(&waiting).map(|h| h.order).collect()
    }

    pub fn is_working(&self, worker: &str) -> bool {
        self.handouts
            .iter()
            .any(|h| h.worker == worker && h.end == End::Open && h.begun)
    }

    pub fn begun_by(&self, worker: &str) -> usize {
        self.handouts
            .iter()
            .filter(|h| h.worker == worker && h.begun)
            .count()
    }
}

impl Cause {
    fn in_short(&self) -> String {
        match self {
            Cause::KilledHolding(who) => format!("{who} was killed, and the lease has ended"),
            Cause::KilledInTransaction(who) => {
                format!("{who} was killed, and the transaction rolled back")
            }
            Cause::Failed => "it failed, and its backoff is over".into(),
            Cause::Redriven => "redriven from orders_dead".into(),
            Cause::LeaseEnded(who) => format!("{who} was too slow for the lease"),
            Cause::Unexplained => "nobody knows why".into(),
        }
    }
}
