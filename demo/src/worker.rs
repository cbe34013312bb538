//! A consumer: a process of its own that works orders until its standard input ends.
//!
//! Both styles write their effect, a row of `shop.shipments`, in the same transaction that settles
//! the message. That is what makes it happen exactly once.
//!
//! - `lease`: read takes a few messages under a lease and commits; the work is done outside any
//!   transaction; then effect and ack commit together. Killed: its messages come back when
//!   their lease ends.
//! - `pop`: one transaction takes the message, works, writes the effect. Killed: the transaction
//!   rolls back and the message is back at once.

use crate::event::{Event, Taken};
use crate::setup::connect;
use crate::trouble::{Result, Trouble};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_postgres::{Client, Row};

struct Worker {
    name: String,
    client: Client,
    dismissed: Arc<AtomicBool>,
}

struct Order {
    taken: Taken,
    receipt: Option<i64>,
    amount: String,
}

pub async fn work(style: &str, name: &str) -> Result<bool> {
    let client = connect(name).await?;
    let mut worker = Worker {
        name: name.to_owned(),
        client,
        dismissed: watch_stdin(),
    };
    Event::Ready {
        worker: worker.name.clone(),
    }
    .tell()?;
    while !worker.dismissed.load(Ordering::Relaxed) {
        let found = match style {
            "lease" => worker.lease_round().await?,
            "pop" => worker.pop_round().await?,
            other => return Err(Trouble::new(format!("no such style: {other}"))),
        };
        if !found {
            // Returns as soon as a message may be there: at a sender's commit, at the end of a
            // delay or a lease. The time limit is for noticing that the shift is over.
            worker
                .client
                .execute("CALL mq.wait('orders', '400ms')", &[])
                .await?;
        }
    }
    Ok(true)
}

impl Worker {
    async fn lease_round(&mut self) -> Result<bool> {
        let sql = "SELECT id, receipt, attempts, (body->>'order')::bigint, body->>'amount'
                   FROM mq.read('orders', qty => 3)";
        let orders = orders(self.client.query(sql, &[]).await?)?;
        self.tell_taken(&orders)?;
        for order in &orders {
            // The ones waiting for their turn use up their lease as well: begin with a full one.
            let sql = "SELECT mq.extend('orders', $1, $2) IS NOT NULL";
            let ours: bool = self
                .client
                .query_one(sql, &[&order.taken.message, &order.receipt])
                .await?
                .get(0);
            if !ours {
                self.late(order)?;
                continue;
            }
            match self.ship(order).await? {
                Ok(()) => self.commit_with_ack(order).await?,
                Err(reason) => self.give_back(order, reason).await?,
            }
        }
        Ok(!orders.is_empty())
    }

    /// The effect and the ack in one transaction: an ack that is refused takes the effect with it.
    async fn commit_with_ack(&mut self, order: &Order) -> Result<()> {
        let transaction = self.client.transaction().await?;
        let sql = "INSERT INTO shop.shipments (order_id, worker, style) VALUES ($1, $2, 'lease')";
        transaction
            .execute(sql, &[&order.taken.order, &self.name])
            .await?;
        let sql = "SELECT mq.ack('orders', $1, $2)";
        let ours: bool = transaction
            .query_one(sql, &[&order.taken.message, &order.receipt])
            .await?
            .get(0);
        if ours {
            transaction.commit().await?;
            Event::Done {
                worker: self.name.clone(),
                order: order.taken.order,
            }
            .tell()?;
        } else {
            transaction.rollback().await?;
            self.late(order)?;
        }
        Ok(())
    }

    async fn give_back(&mut self, order: &Order, reason: String) -> Result<()> {
        let (worker, id) = (self.name.clone(), order.taken.order);
        Event::Failing {
            worker: worker.clone(),
            order: id,
            reason: reason.clone(),
        }
        .tell()?;
        let sql = "SELECT mq.nack('orders', $1, $2, reason => $3)";
        let ours: bool = self
            .client
            .query_one(sql, &[&order.taken.message, &order.receipt, &reason])
            .await?
            .get(0);
        if !ours {
            return self.late(order);
        }
        let sql = "SELECT failures,
                          (extract(epoch FROM visible_at - clock_timestamp()) * 1000)::bigint
                   FROM mq.orders WHERE id = $1";
        let again = self.client.query_opt(sql, &[&order.taken.message]).await?;
        let failures = again.as_ref().map_or(0, |row| row.get(0));
        let again_in_ms = again.map(|row| row.get::<_, i64>(1).max(0));
        Event::Failed {
            worker,
            order: id,
            failures,
            again_in_ms,
        }
        .tell()?;
        Ok(())
    }

    async fn pop_round(&mut self) -> Result<bool> {
        let name = self.name.clone();
        let transaction = self.client.transaction().await?;
        let sql = "SELECT id, null::bigint, attempts, (body->>'order')::bigint, body->>'amount'
                   FROM mq.pop('orders')";
        let orders = orders(transaction.query(sql, &[]).await?)?;
        let Some(order) = orders.first() else {
            transaction.rollback().await?;
            return Ok(false);
        };
        let messages = vec![order.taken.clone()];
        Event::Took {
            worker: name.clone(),
            messages,
        }
        .tell()?;
        let id = order.taken.order;
        Event::Begun {
            worker: name.clone(),
            order: id,
        }
        .tell()?;
        if let Err(reason) = parcel(order).await {
            // Rolling back is the failure; mq counts it against the message.
            Event::Failing {
                worker: name,
                order: id,
                reason,
            }
            .tell()?;
            transaction.rollback().await?;
            return Ok(true);
        }
        let sql = "INSERT INTO shop.shipments (order_id, worker, style) VALUES ($1, $2, 'pop')";
        transaction.execute(sql, &[&id, &name]).await?;
        transaction.commit().await?;
        Event::Done {
            worker: name,
            order: id,
        }
        .tell()?;
        Ok(true)
    }

    async fn ship(&self, order: &Order) -> Result<std::result::Result<(), String>> {
        Event::Begun {
            worker: self.name.clone(),
            order: order.taken.order,
        }
        .tell()?;
        Ok(parcel(order).await)
    }

    fn tell_taken(&self, orders: &[Order]) -> Result<()> {
        if !orders.is_empty() {
            let messages = orders.iter().map(|o| o.taken.clone()).collect();
            Event::Took {
                worker: self.name.clone(),
                messages,
            }
            .tell()?;
        }
        Ok(())
    }

    fn late(&self, order: &Order) -> Result<()> {
        Ok(Event::Late {
            worker: self.name.clone(),
            order: order.taken.order,
        }
        .tell()?)
    }
}

/// The work itself: it takes its time, and needs an amount that is a number.
async fn parcel(order: &Order) -> std::result::Result<(), String> {
    let amount: f64 = order
        .amount
        .parse()
        .map_err(|_| format!("amount \"{}\" is not a number", order.amount))?;
    let milliseconds = 120 + (order.taken.order * 37 + amount as i64) % 90;
    tokio::time::sleep(Duration::from_millis(milliseconds.unsigned_abs())).await;
    Ok(())
}

fn orders(rows: Vec<Row>) -> Result<Vec<Order>> {
    rows.iter()
        .map(|row| {
            Ok(Order {
                taken: Taken {
                    message: row.try_get(0)?,
                    order: row.try_get(3)?,
                    attempts: row.try_get(2)?,
                },
                receipt: row.try_get(1)?,
                amount: row.try_get(4)?,
            })
        })
        .collect()
}

/// The narrator holds the other end: its end, or its death, is the end of the shift.
fn watch_stdin() -> Arc<AtomicBool> {
    let dismissed = Arc::new(AtomicBool::new(false));
    let flag = dismissed.clone();
    std::thread::spawn(move || {
        let mut sink = [0u8; 16];
        while !matches!(std::io::stdin().read(&mut sink), Ok(0) | Err(_)) {}
        flag.store(true, Ordering::Relaxed);
    });
    dismissed
}
