//! The shop: it writes an order and sends its event in one transaction, so that there is never
//! the one without the other.

use crate::trouble::Result;
use crate::voice::{RED, Voice, YELLOW};
use std::time::Duration;
use tokio_postgres::Client;

const GOODS: [(&str, &str); 7] = [
    ("tea", "4.20"),
    ("coffee", "6.80"),
    ("honey", "7.50"),
    ("a teapot", "39.00"),
    ("two cups", "18.40"),
    ("biscuits", "3.10"),
    ("lemons", "2.60"),
];

pub struct Shop {
    client: Client,
    placed: usize,
    pub committed: Vec<i64>,
    pub rolled_back: Vec<i64>,
}

impl Shop {
    pub fn open(client: Client) -> Self {
        Shop {
            client,
            placed: 0,
            committed: Vec::new(),
            rolled_back: Vec::new(),
        }
    }

    /// Customers one after the other; every fourth card is declined.
    pub async fn serve(&mut self, voice: &Voice, customers: usize, pause: Duration) -> Result<()> {
        for _ in 0..customers {
            let declined = self.placed % 4 == 3;
            self.place(voice, declined).await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    async fn place(&mut self, voice: &Voice, declined: bool) -> Result<()> {
        let (item, amount) = self.next_goods();
        let transaction = self.client.transaction().await?;
        let sql = "INSERT INTO shop.orders (item, amount) VALUES ($1, $2::text::numeric)
                   RETURNING id";
        let order: i64 = transaction.query_one(sql, &[&item, &amount]).await?.get(0);
        let sql = "SELECT mq.send('orders', jsonb_build_object(
                              'order', id, 'item', item, 'amount', amount))
                   FROM shop.orders WHERE id = $1";
        transaction.execute(sql, &[&order]).await?;
        if declined {
            transaction.rollback().await?;
            self.rolled_back.push(order);
            let verdict = voice.paint(YELLOW, "card declined: ROLLBACK, order and event are gone");
            voice.say(
                "shop",
                &format!("order {order}: {item}, {amount} … {verdict}"),
            );
        } else {
            transaction.commit().await?;
            self.committed.push(order);
            voice.say(
                "shop",
                &format!("order {order}: {item}, {amount}, committed"),
            );
        }
        Ok(())
    }

    /// Many orders in one transaction, their events in one call.
    pub async fn rush(&mut self, voice: &Voice, customers: usize) -> Result<()> {
        let goods: Vec<_> = (0..customers).map(|_| self.next_goods()).collect();
        let (items, amounts): (Vec<&str>, Vec<&str>) = goods.into_iter().unzip();
        let transaction = self.client.transaction().await?;
        let sql = "INSERT INTO shop.orders (item, amount)
                   SELECT item, amount::numeric FROM unnest($1::text[], $2::text[]) AS g (item, amount)
                   RETURNING id";
        let rows = transaction.query(sql, &[&items, &amounts]).await?;
        let orders: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let sql = "SELECT mq.send_batch('orders', array_agg(jsonb_build_object(
                              'order', id, 'item', item, 'amount', amount) ORDER BY id))
                   FROM shop.orders WHERE id = ANY ($1)";
        transaction.query(sql, &[&orders]).await?;
        transaction.commit().await?;
        if let (Some(first), Some(last)) = (orders.first(), orders.last()) {
            let text = format!("rush hour: orders {first} to {last} in one transaction, committed");
            voice.say("shop", &text);
        }
        self.committed.extend(orders);
        Ok(())
    }

    /// An order whose event the shop gets wrong: a decimal comma where a number should be.
    pub async fn misprint(&mut self, voice: &Voice) -> Result<i64> {
        let (item, amount) = self.next_goods();
        let transaction = self.client.transaction().await?;
        let sql = "INSERT INTO shop.orders (item, amount) VALUES ($1, $2::text::numeric)
                   RETURNING id";
        let order: i64 = transaction.query_one(sql, &[&item, &amount]).await?.get(0);
        let comma = amount.replace('.', ",");
        let sql = "SELECT mq.send('orders', jsonb_build_object(
                              'order', $1::bigint, 'item', $2::text, 'amount', $3::text))";
        transaction.execute(sql, &[&order, &item, &comma]).await?;
        transaction.commit().await?;
        self.committed.push(order);
        let poison = voice.paint(RED, &format!("amount \"{comma}\""));
        voice.say(
            "shop",
            &format!("order {order}: {item}, committed, but its event says {poison}"),
        );
        Ok(order)
    }

    fn next_goods(&mut self) -> (&'static str, &'static str) {
        self.placed += 1;
        GOODS[self.placed % GOODS.len()]
    }
}
