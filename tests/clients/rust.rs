//! The Rust crate `pgmq` 0.34.0-alpha.7, unmodified: every call of its client.

use crate::harness::Cx;
use crate::tests;
use pgmq::{Message, PGMQueueExt};
use serde_json::{Value, json};
use std::time::Duration;

tests![queues, messages, groups, topics, notifications];

type Got = Message<Value, Value>;

const SECOND: Duration = Duration::from_secs(1);
const STEP: Option<Duration> = Some(Duration::from_millis(50));
const SHORT: Option<Duration> = Some(SECOND);

fn url(cx: &Cx) -> String {
    format!(
        "postgresql://postgres:x@127.0.0.1:{}/{}",
        cx.server.port, cx.db
    )
}

/// The client, which has made the extension itself, and a queue.
async fn client(cx: &Cx) -> PGMQueueExt {
    cx.database().await;
    let q = PGMQueueExt::new(url(cx), 3).await.expect("a connection");
    assert!(q.init().await.expect("init"));
    q.create("q").await.expect("create");
    q
}

fn ids(list: &[Got]) -> Vec<i64> {
    list.iter().map(|m| m.msg_id).collect()
}

async fn queues(cx: Cx) {
    let q = client(&cx).await;
    q.create("q").await.unwrap();
    q.create_unlogged("quick").await.unwrap();
    q.create_partitioned("parts", "10000", "100000")
        .await
        .unwrap();
    q.convert_archive_partitioned("q", "1 day", "1 month")
        .await
        .unwrap();
    let mut listed = q.list_queues().await.unwrap();
    listed.sort_by(|a, b| a.queue_name.cmp(&b.queue_name));
    let said: Vec<_> = listed
        .iter()
        .map(|m| (m.queue_name.as_str(), m.is_partitioned, m.is_unlogged))
        .collect();
    assert_eq!(
        said,
        [
            ("parts", true, false),
            ("q", false, false),
            ("quick", false, true)
        ]
    );
    q.create_fifo_index("q").await.unwrap();
    q.create_fifo_indexes_all().await.unwrap();
    let lock = q.acquire_queue_lock("q").await.unwrap();
    lock.rollback().await.unwrap();
    q.drop_queue("quick").await.unwrap();
    q.drop_queue("none").await.unwrap();
    // It finds no installation of its own, and must not make one over this.
    assert!(q.installed_version().await.unwrap_or_default().is_none());
    let other = PGMQueueExt::new_with_pool(q.connection.clone()).await;
    assert_eq!(other.metrics_all().await.unwrap().len(), 2);
}

async fn messages(cx: Cx) {
    let q = client(&cx).await;
    let first = q.send("q", &json!({"n": 1})).await.unwrap();
    q.send_delay("q", &json!({"n": 2}), 3600).await.unwrap();
    let headers = json!({"h": 1});
    let third = q
        .send_delay_with_headers("q", &json!({"n": 3}), Some(&headers), 0)
        .await
        .unwrap();
    let some = [json!(4), json!(5)];
    let batch = q.send_batch("q", &some).await.unwrap();
    q.send_batch_with_delay("q", &some, 3600).await.unwrap();
    q.send_batch_with_delay_with_headers("q", &some, Some(&[json!({}), json!({})]), 3600)
        .await
        .unwrap();
    let got: Got = q.read("q", 30).await.unwrap().unwrap();
    assert_eq!(
        (got.msg_id, got.read_ct, &got.message),
        (first, 1, &json!({"n": 1}))
    );
    assert!(got.last_read_at.is_some() && got.vt > got.enqueued_at);
    let two: Vec<Got> = q.read_batch("q", 30, 2).await.unwrap();
    assert_eq!(ids(&two), [third, batch[0]]);
    assert_eq!(two[0].headers, Some(headers));
    let polled: Option<Got> = q.read_with_poll("q", 30, SHORT, STEP).await.unwrap();
    assert_eq!(polled.unwrap().msg_id, batch[1]);
    let polled: Vec<Got> = q
        .read_batch_with_poll("q", 30, 9, SHORT, STEP)
        .await
        .unwrap();
    assert!(polled.is_empty());
    let back: Option<Got> = q.set_vt("q", first, 0).await.unwrap();
    assert_eq!(back.unwrap().msg_id, first);
    let popped: Option<Got> = q.pop("q").await.unwrap();
    assert_eq!(popped.unwrap().msg_id, first);
    assert!(q.delete("q", third).await.unwrap());
    assert!(!q.delete("q", third).await.unwrap());
    assert!(q.archive("q", batch[0]).await.unwrap());
    assert_eq!(q.archive_batch("q", &batch).await.unwrap(), [batch[1]]);
    let more = q.send_batch("q", &some).await.unwrap();
    assert_eq!(q.delete_batch("q", &more).await.unwrap(), more);
    let measured = q.metrics("q").await.unwrap();
    assert_eq!((measured.queue_length, measured.total_messages), (5, 11));
    assert_eq!(measured.queue_visible_length, 0);
    assert_eq!(q.purge_queue("q").await.unwrap(), 5);
    // In a transaction of the caller's.
    let mut work = q.connection.begin().await.unwrap();
    q.send_with_cxn("q", &json!(1), &mut *work).await.unwrap();
    work.rollback().await.unwrap();
    assert_eq!(q.metrics("q").await.unwrap().queue_length, 0);
    assert!(q.send("none", &json!(1)).await.is_err());
}

async fn groups(cx: Cx) {
    let q = client(&cx).await;
    let of = |group: &str| json!({"x-pgmq-group": group});
    let headers = [of("a"), of("a"), of("b"), of("b"), of("c")];
    let bodies = [1, 2, 3, 4, 5].map(|n| json!(n));
    let all = q
        .send_batch_with_delay_with_headers("q", &bodies, Some(&headers), 0)
        .await
        .unwrap();
    let again = async || {
        for id in &all {
            let _: Option<Got> = q.set_vt("q", *id, 0).await.unwrap();
        }
    };
    let pick = |at: &[usize]| at.iter().map(|i| all[*i]).collect::<Vec<_>>();
    let got: Vec<Got> = q.read_grouped("q", 30, 3).await.unwrap();
    assert_eq!(ids(&got), pick(&[0, 1, 2]));
    again().await;
    let got: Vec<Got> = q
        .read_grouped_with_poll("q", 30, 2, SHORT, STEP)
        .await
        .unwrap();
    assert_eq!(ids(&got), pick(&[0, 1]));
    again().await;
    let got: Vec<Got> = q.read_grouped_rr("q", 30, 4).await.unwrap();
    assert_eq!(ids(&got), pick(&[0, 2, 4, 1]));
    again().await;
    let got: Vec<Got> = q
        .read_grouped_rr_with_poll("q", 30, 4, SHORT, STEP)
        .await
        .unwrap();
    assert_eq!(ids(&got), pick(&[0, 2, 4, 1]));
    again().await;
    let got: Vec<Got> = q.read_grouped_head("q", 30, 9).await.unwrap();
    assert_eq!(ids(&got), pick(&[0, 2, 4]));
    let got: Vec<Got> = q
        .read_grouped_head_with_poll("q", 30, 9, SHORT, STEP)
        .await
        .unwrap();
    assert!(got.is_empty());
}

async fn topics(cx: Cx) {
    let q = client(&cx).await;
    q.bind_topic("logs.*", "q").await.unwrap();
    assert_eq!(q.list_topic_bindings("q").await.unwrap().len(), 1);
    let all = q.list_topic_bindings_all().await.unwrap();
    assert_eq!(all[0].compiled_regex, "^logs\\.[^.]+$");
    let none: Option<&Value> = None;
    assert_eq!(q.send_topic("logs.x", &json!(1), none, 0).await.unwrap(), 1);
    assert_eq!(q.send_topic("other", &json!(1), none, 0).await.unwrap(), 0);
    let headers = [json!({"h": 1}), json!({"h": 2})];
    let sent = q
        .send_batch_topic("logs.x", &[json!(2), json!(3)], Some(&headers), 0)
        .await
        .unwrap();
    assert_eq!(
        sent.iter()
            .map(|s| s.queue_name.as_str())
            .collect::<Vec<_>>(),
        ["q", "q"]
    );
    q.unbind_topic("logs.*", "q").await.unwrap();
    assert!(q.list_topic_bindings_all().await.unwrap().is_empty());
    assert!(q.bind_topic("a..b", "q").await.is_err());
}

async fn notifications(cx: Cx) {
    let q = client(&cx).await;
    q.enable_notify_insert("q", SECOND).await.unwrap();
    q.update_notify_insert("q", Duration::ZERO).await.unwrap();
    let listed = q.list_notify_insert_throttles().await.unwrap();
    assert_eq!((listed.len(), listed[0].throttle_interval_ms), (1, 0));
    for ear in [
        q.queue_insert_listener("q").await.unwrap(),
        q.queue_insert_listener_all(["q"]).await.unwrap(),
    ] {
        let mut ear = ear;
        q.send("q", &json!(1)).await.unwrap();
        let heard = tokio::time::timeout(20 * SECOND, ear.recv()).await;
        assert_eq!(
            heard.expect("in time").unwrap().channel(),
            "pgmq.q_q.INSERT"
        );
    }
    q.disable_notify_insert("q").await.unwrap();
    assert!(q.list_notify_insert_throttles().await.unwrap().is_empty());
}
