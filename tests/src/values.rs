//! Values as Rust and ORMs send them: native types, COPY, statements on the view.

use crate::conn::Conn;
use crate::drivers::Untyped;
use crate::harness::Cx;
use crate::tests;
use postgres_types::ToSql;

tests![rust_types, copy_into_the_view, orm_statements];

async fn queue(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q')").await;
    c
}

async fn rust_types(cx: Cx) {
    let c = queue(&cx).await;
    let body = serde_json::json!({"order": 7, "lines": [1, null, "ü"]});
    let id: i64 = c
        .query_one("SELECT mq.send($1, $2)", &[&"q", &body])
        .await
        .unwrap()
        .get(0);
    let row = c
        .query_one("SELECT * FROM mq.read($1, $2)", &[&"q", &1i32])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>("id"), id);
    assert_eq!(row.get::<_, serde_json::Value>("body"), body);
    assert_eq!(row.get::<_, i32>("attempts"), 1);
    assert_eq!(row.get::<_, i16>("priority"), 4);
    assert_eq!(row.get::<_, &str>("queue"), "q");
    assert!(row.get::<_, std::time::SystemTime>("visible_at") > std::time::SystemTime::now());
    assert_eq!(row.get::<_, Option<Vec<u8>>>("data"), None);
    let receipt: i64 = row.get("receipt");
    let acked = c
        .query_one("SELECT mq.ack($1, $2, $3)", &[&"q", &id, &receipt])
        .await
        .unwrap();
    assert!(acked.get::<_, bool>(0));
    let bodies = vec![
        body.clone(),
        serde_json::json!(null),
        serde_json::json!("x"),
    ];
    let ids = c
        .query("SELECT mq.send_batch($1, $2)", &[&"q", &bodies])
        .await
        .unwrap();
    let ids: Vec<i64> = ids.iter().map(|row| row.get(0)).collect();
    assert!(ids.is_sorted() && ids.len() == 3);
    let read = c
        .query("SELECT id, receipt FROM mq.read($1, $2)", &[&"q", &10i32])
        .await
        .unwrap();
    let receipts: Vec<Option<i64>> = read.iter().map(|row| row.get(1)).collect();
    let done = c
        .query("SELECT mq.ack_batch($1, $2, $3)", &[&"q", &ids, &receipts])
        .await
        .unwrap();
    assert_eq!(
        done.iter()
            .map(|row| row.get::<_, i64>(0))
            .collect::<Vec<_>>(),
        ids
    );
    let empty: Vec<serde_json::Value> = Vec::new();
    assert!(
        c.query("SELECT mq.send_batch($1, $2)", &[&"q", &empty])
            .await
            .unwrap()
            .is_empty()
    );
    let bytes = vec![0u8, 1, 255];
    c.query_one("SELECT mq.send_bytes($1, $2)", &[&"q", &bytes])
        .await
        .unwrap();
    let row = c
        .query_one("SELECT * FROM mq.pop($1)", &[&"q"])
        .await
        .unwrap();
    assert_eq!(row.get::<_, Vec<u8>>("data"), bytes);
}

async fn copy_into_the_view(cx: Cx) {
    use futures_util::{SinkExt, pin_mut};
    let c = queue(&cx).await;
    let sink = c
        .copy_in("COPY mq.q (body, priority, dedup_key) FROM STDIN")
        .await
        .unwrap();
    pin_mut!(sink);
    for n in 0..500 {
        let line = format!(
            "{{\"n\": {n}}}\t{}\t{}\n",
            n % 10,
            if n == 400 {
                "k3".into()
            } else {
                format!("k{n}")
            }
        );
        sink.send(bytes::Bytes::from(line)).await.unwrap();
    }
    sink.finish().await.unwrap();
    assert_eq!(
        c.int("SELECT count(*) FROM mq.q").await,
        499,
        "a repeated key is sent once"
    );
    assert_eq!(c.text("SELECT body->>'n' FROM mq.read('q')").await, "9");
    let bad = c
        .copy_in::<_, bytes::Bytes>("COPY mq.q (body, attempts) FROM STDIN")
        .await
        .unwrap();
    pin_mut!(bad);
    bad.send(bytes::Bytes::from("1\t5\n")).await.unwrap();
    assert_eq!(
        bad.finish().await.unwrap_err().code().unwrap().code(),
        "428C9"
    );
    assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 499);
}

async fn orm_statements(cx: Cx) {
    let c = queue(&cx).await;
    let insert = "INSERT INTO mq.q (body, headers, priority, dedup_key, visible_at, expires_at) \
                  VALUES ($1, $2, $3, $4, $5, $6) RETURNING id, state, enqueued_at";
    let none = Untyped(None);
    let row = c
        .query_one(
            insert,
            &[&Untyped(Some("1")), &none, &none, &none, &none, &none],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(1), "ready");
    let id: i64 = row.get(0);
    let later = "2999-01-01";
    let (h, p, k) = (
        Untyped(Some("{\"a\": 1}")),
        Untyped(Some("9")),
        Untyped(Some("key")),
    );
    let values: [&(dyn ToSql + Sync); 6] = [
        &Untyped(Some("2")),
        &h,
        &p,
        &k,
        &Untyped(Some(later)),
        &none,
    ];
    let row = c.query_one(insert, &values).await.unwrap();
    assert!(row.get::<_, i64>(0) > id);
    assert_eq!(row.get::<_, &str>(1), "delayed");
    c.query_one(
        "INSERT INTO mq.q (data) VALUES ($1) RETURNING id",
        &[&Untyped(Some("\\x01"))],
    )
    .await
    .unwrap();
    c.refused(
        "INSERT INTO mq.q (body, data) VALUES ('1', '\\x01')",
        "22023",
    )
    .await;
    c.refused("INSERT INTO mq.q DEFAULT VALUES", "22023").await;
    let deleted = c
        .query("DELETE FROM mq.q WHERE id = $1 RETURNING id, body", &[&id])
        .await
        .unwrap();
    assert_eq!(deleted.len(), 1);
    c.run("UPDATE mq.q SET body = '3', priority = 1, expires_at = '2999-01-02' WHERE state = 'delayed'").await;
    let seen = c.text("SELECT concat_ws(' ', body, priority, dedup_key, expires_at > now()) FROM mq.q WHERE state = 'delayed'").await;
    assert_eq!(seen, "3 1 key t");
    c.refused("TRUNCATE mq.q", "42809").await;
    c.run("EXPLAIN SELECT * FROM mq.q WHERE id = 5; EXPLAIN ANALYZE SELECT * FROM mq.q JOIN mq.q_archive a USING (id)").await;
}
