//! The story, in the order it is told.

use crate::account::{self, Ledger};
use crate::book::Style;
use crate::crew::Crew;
use crate::setup::{self, Pace, connect};
use crate::shop::Shop;
use crate::trouble::{Result, Trouble};
use crate::voice::{RED, Voice, YELLOW};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

struct Tempo {
    pace: Pace,
    lease: &'static str,
    customers: usize,
    pause: Duration,
}

const FULL: Tempo = Tempo {
    pace: Pace {
        visibility: "3 s",
        backoff: "{1 s, 2 s}",
    },
    lease: "4 s",
    customers: 24,
    pause: Duration::from_millis(300),
};

const SHORT: Tempo = Tempo {
    pace: Pace {
        visibility: "1.5 s",
        backoff: "{0.3 s, 0.6 s}",
    },
    lease: "1.5 s",
    customers: 12,
    pause: Duration::from_millis(150),
};

struct Stage {
    tempo: Tempo,
    voice: Arc<Voice>,
    /// The narrator's own connection: what the owner of the queue would type.
    owner: Client,
    shop: Shop,
    crew: Crew,
}

pub async fn tell(short: bool) -> Result<bool> {
    let tempo = if short { SHORT } else { FULL };
    let voice = Arc::new(Voice::new());
    let mut owner = connect("owner").await?;
    setup::prepare(&mut owner, &tempo.pace).await?;
    let shop = Shop::open(connect("shop").await?);
    let crew = Crew::new(voice.clone())?;
    let mut stage = Stage {
        tempo,
        voice,
        owner,
        shop,
        crew,
    };

    stage.the_shop_opens().await?;
    stage.two_are_killed().await?;
    stage.a_poison_message().await?;
    stage.closing_time().await?;

    let Stage {
        voice,
        owner,
        shop,
        crew,
        ..
    } = &stage;
    let ledger = Ledger {
        committed: &shop.committed,
        rolled_back: &shop.rolled_back,
        lease: stage.tempo.lease,
    };
    let facts = account::facts(owner).await?;
    let settled = account::check(&facts, &crew.book(), &ledger, voice);
    how_to_look(voice)?;
    Ok(settled)
}

impl Stage {
    async fn the_shop_opens(&mut self) -> Result<()> {
        self.voice
            .heading("The shop opens: order and event in one transaction");
        self.voice.aside(
            "anna and ben lease messages and ack them; carla pops each inside the transaction \
             that does the work",
        );
        self.crew.hire("anna", Style::Lease)?;
        self.crew.hire("ben", Style::Lease)?;
        self.crew.hire("carla", Style::Pop)?;
        self.crew.all_ready().await?;
        self.shop
            .serve(&self.voice, self.tempo.customers, self.tempo.pause)
            .await
    }

    async fn two_are_killed(&mut self) -> Result<()> {
        self.voice
            .heading("Two are killed in the middle of their work");
        let held = self.kill_one("anna", Style::Lease, 2).await?;
        let popped = self.kill_one("carla", Style::Pop, 1).await?;
        self.crew.hire("dora", Style::Lease)?;
        self.voice
            .say("shop", "has hired dora (lease and ack), and goes on");
        self.shop
            .serve(&self.voice, self.tempo.customers / 4, self.tempo.pause)
            .await?;
        self.all_shipped(&[held, popped].concat()).await
    }

    /// Brings orders until the victim is seen at work with so many in hand, then kill -9.
    async fn kill_one(&mut self, name: &str, style: Style, in_hand: usize) -> Result<Vec<i64>> {
        for _ in 0..10 {
            self.shop.rush(&self.voice, 8).await?;
            // Fresh work only: one that is nearly done might be done before the signal is there.
            let before = self.crew.book().begun_by(name);
            let caught = self
                .crew
                .until(Duration::from_secs(2), |book| {
                    let caught = book.begun_by(name) > before
                        && book.is_working(name)
                        && book.holds(name).len() >= in_hand;
                    caught.then_some(())
                })
                .await?;
            if caught.is_none() {
                continue;
            }
            let (process, held) = self.crew.kill(name, style)?;
            let Some((working_on, waiting)) = held.split_first() else {
                continue;
            };
            let mut text = format!("kill -9 {process} while {name} works on order {working_on}");
            if !waiting.is_empty() {
                let waiting: Vec<String> = waiting.iter().map(i64::to_string).collect();
                text.push_str(&format!(" and holds {}", waiting.join(", ")));
            }
            text.push_str(&match style {
                Style::Lease => format!(": back when the lease of {} ends", self.tempo.lease),
                Style::Pop => ": rolled back, so back at once".to_owned(),
            });
            self.voice.say(name, &self.voice.paint(RED, &text));
            return Ok(held);
        }
        Err(Trouble::new(format!(
            "{name} was never seen with {in_hand} orders in hand"
        )))
    }

    async fn a_poison_message(&mut self) -> Result<()> {
        self.voice
            .heading("A poison message: three failures, then the dead-letter queue");
        let order = self.shop.misprint(&self.voice).await?;
        self.shop.serve(&self.voice, 2, self.tempo.pause).await?;
        let sql = "CALL mq.wait('orders_dead', '30 s')";
        if !self.owner.query_one(sql, &[]).await?.get::<_, bool>(0) {
            return Err(Trouble::new(format!(
                "order {order} was not dead-lettered within 30 s"
            )));
        }
        self.look_at_the_dead(order).await?;
        let letter = self.repair(order).await?;
        self.redrive(order, letter).await?;
        self.all_shipped(&[order]).await
    }

    async fn look_at_the_dead(&self, order: i64) -> Result<()> {
        let sql = "SELECT id, body::text, d->>'reason', d->>'failures', d->>'error'
                   FROM mq.orders_dead, jsonb_array_elements(headers->'x-death') AS d";
        let rows = self.owner.query(sql, &[]).await?;
        self.owner_types("SELECT id, body, headers->'x-death' FROM mq.orders_dead");
        let [row] = rows.as_slice() else {
            return Err(Trouble::new(format!(
                "expected order {order} alone in mq.orders_dead, with one x-death entry, found {}",
                rows.len()
            )));
        };
        let field = |i: usize| row.get::<_, Option<&str>>(i).unwrap_or("null");
        let id: i64 = row.get(0);
        self.voice.say("", &format!("  letter {id}: {}", field(1)));
        let text = format!(
            "  x-death: {} ({} of them): {}",
            field(2),
            field(3),
            field(4)
        );
        self.voice.say("", &text);
        Ok(())
    }

    async fn repair(&self, order: i64) -> Result<i64> {
        let sql = "UPDATE mq.orders_dead
                   SET body = jsonb_set(body, '{amount}',
                                        to_jsonb(replace(body->>'amount', ',', '.')::numeric))
                   WHERE (body->>'order')::bigint = $1 RETURNING id, body::text";
        let row = self.owner.query_one(sql, &[&order]).await?;
        self.owner_types("UPDATE mq.orders_dead SET body = jsonb_set(body, '{amount}', …)");
        self.voice.say(
            "",
            &format!(
                "  letter {}: {}",
                row.get::<_, i64>(0),
                row.get::<_, &str>(1)
            ),
        );
        Ok(row.get(0))
    }

    async fn redrive(&self, order: i64, letter: i64) -> Result<()> {
        // In the book before it happens, as with the kills.
        self.crew.book().redriven.insert(order);
        let sql = "SELECT mq.redrive('orders_dead', ids => ARRAY[$1::bigint])";
        let count: i64 = self.owner.query_one(sql, &[&letter]).await?.get(0);
        self.owner_types(&format!(
            "SELECT mq.redrive('orders_dead', ids => '{{{letter}}}') → {count}"
        ));
        match count {
            1 => Ok(()),
            _ => Err(Trouble::new(format!(
                "mq.redrive moved {count} messages instead of 1"
            ))),
        }
    }

    fn owner_types(&self, sql: &str) {
        self.voice.say("owner", &self.voice.paint(YELLOW, sql));
    }

    async fn closing_time(&mut self) -> Result<()> {
        self.voice.heading("Closing time");
        let committed = self.shop.committed.clone();
        self.all_shipped(&committed).await?;
        self.crew.dismiss().await?;
        self.voice
            .say("shop", "everything is shipped, ben and dora go home");
        Ok(())
    }

    async fn all_shipped(&mut self, orders: &[i64]) -> Result<()> {
        let sql = "SELECT coalesce(array_agg(o), '{}') FROM unnest($1::bigint[]) AS o
                   WHERE NOT EXISTS (SELECT FROM shop.shipments WHERE order_id = o)";
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let open: Vec<i64> = self.owner.query_one(sql, &[&orders]).await?.get(0);
            if open.is_empty() {
                return Ok(());
            }
            self.crew.all_at_work()?;
            if Instant::now() > deadline {
                return Err(Trouble::new(format!(
                    "still not shipped after 60 s: orders {open:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn how_to_look(voice: &Voice) -> Result<()> {
    let dsn = setup::dsn()?;
    let config: tokio_postgres::Config = dsn
        .parse()
        .map_err(|error| Trouble::new(format!("PGB_DSN: {error}")))?;
    // Not for the screen if there is a password in it.
    let dsn = if config.get_password().is_some() {
        "\"$PGB_DSN\""
    } else {
        &dsn
    };
    voice.heading("Have a look yourself");
    let make = match std::env::var("PG").as_deref() {
        Ok("18") | Err(_) => "make psql".to_owned(),
        Ok(other) => format!("make psql PG={other}"),
    };
    voice.line(&format!("  {make}       or       psql {dsn}"));
    voice.line("");
    voice.line("  SELECT * FROM mq.metrics WHERE queue LIKE 'orders%';");
    voice.line("  INSERT INTO mq.orders (body) VALUES ('{\"order\": 0, \"item\": \"a kiss\"}');");
    voice.line("  SELECT id, receipt, body, visible_at FROM mq.read('orders');");
    Ok(())
}
