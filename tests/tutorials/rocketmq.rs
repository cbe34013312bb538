//! RocketMQ's samples: ordered and scheduled messages, filters, transactional messages, retries up to the
//! dead-letter queue and back, and finding messages by key.

use super::{drain, next, send_home, texts, together, until_waiting, work, workers};
use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;

tests![
    ordered_steps,
    ordered_steps_that_fail,
    scheduled_messages,
    transactional_messages,
    retries_and_redrive,
    find_by_key,
    sql_filter,
    sql_filter_of_a_consumer
];

/// The steps of three orders, in the order that they are sent.
const STEPS: [(&str, &str); 10] = [
    ("15103111039", "create"),
    ("15103111065", "create"),
    ("15103111039", "pay"),
    ("15103117235", "create"),
    ("15103111065", "pay"),
    ("15103117235", "pay"),
    ("15103111065", "finish"),
    ("15103111039", "push"),
    ("15103117235", "finish"),
    ("15103111039", "finish"),
];

/// What was done for each order, in the order that it was done.
const DONE: &str = "SELECT string_agg(step, ' ' ORDER BY began) FROM done GROUP BY of ORDER BY of";

async fn make_queue(cx: &Cx) -> Conn {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_queue('TopicTest', ordering => 'group'); \
         CREATE TABLE done (of text, step text, began timestamptz, ended timestamptz, worker int); \
         CREATE FUNCTION handle(m mq.message) RETURNS boolean LANGUAGE plpgsql AS $$ \
         DECLARE began timestamptz := clock_timestamp(); \
         BEGIN \
             PERFORM pg_sleep(0.03); \
             INSERT INTO done \
             VALUES (m.group_key, m.body #>> '{}', began, clock_timestamp(), pg_backend_pid()); \
             RETURN true; \
         END $$",
    )
    .await;
    c
}

async fn send_steps(c: &Conn) {
    for (order, step) in STEPS {
        c.run(&format!(
            "SELECT mq.send_text('TopicTest', '{step}', group_key => '{order}')"
        ))
        .await;
    }
}

/// The ten steps of the ordered sample, for three workers: the steps of each order are handled one
/// after the other, in the order of their sends, while different orders go on at the same time. Where
/// RocketMQ puts the steps of an order into one of a topic's queues, and gives each queue to one
/// consumer, here any worker takes the next step of any order.
async fn ordered_steps(cx: Cx) {
    let c = make_queue(&cx).await;
    let workers = workers(&cx, 3, &work("TopicTest", "handle(m)"));
    until_waiting(&c, 3).await;
    send_steps(&c).await;
    let took = send_home(&c, "TopicTest", workers).await;
    assert_eq!(together(took).len(), 10);
    assert_eq!(
        texts(&c, DONE).await,
        [
            "create pay push finish",
            "create pay finish",
            "create pay finish"
        ]
    );
    let at_once = "SELECT count(*) FROM done a, done b \
                   WHERE a.of = b.of AND a.began < b.began AND a.ended > b.began";
    assert_eq!(c.int(at_once).await, 0);
    let side_by_side = "SELECT count(DISTINCT worker) > 1 FROM done";
    assert!(c.yes(side_by_side).await);
}

/// A step that cannot be done just now (SUSPEND_CURRENT_QUEUE_A_MOMENT) holds up its own order only.
async fn ordered_steps_that_fail(cx: Cx) {
    let c = make_queue(&cx).await;
    send_steps(&c).await;
    for _ in 0..2 {
        assert_eq!(next(&c, "TopicTest").await, "create");
    }
    let suspend =
        "SELECT body, mq.nack('TopicTest', id, receipt, delay => '2 s') FROM mq.read('TopicTest')";
    assert_eq!(c.text(suspend).await, "\"pay\"", "of the first order");
    let rest = "SELECT right(group_key, 4) || ' ' || (body #>> '{}') FROM mq.pop('TopicTest', 10)";
    let mut others = texts(&c, rest).await;
    others.sort();
    assert_eq!(
        others,
        [
            "1065 finish",
            "1065 pay",
            "7235 create",
            "7235 finish",
            "7235 pay"
        ]
    );
    for step in ["pay", "push", "finish"] {
        assert_eq!(next(&c, "TopicTest").await, step);
    }
    assert_eq!(drain(&c, "TopicTest").await, [""; 0]);
}

/// A hundred messages with a delay: the consumer gets each once, none before its time, and waits
/// for them without asking again and again.
async fn scheduled_messages(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_queue('TestTopic'); \
         CREATE TABLE got (id bigint PRIMARY KEY, read_at timestamptz); \
         SELECT mq.send('TestTopic', to_jsonb('Hello scheduled message ' || n), delay => '600 ms') \
         FROM generate_series(0, 99) n; \
         CREATE TABLE due AS SELECT id, visible_at FROM mq.\"TestTopic\"",
    )
    .await;
    let take = "WITH taken AS (INSERT INTO got SELECT id, read_at \
                FROM mq.read('TestTopic', 10, wait => '20 s') RETURNING id) \
                SELECT count(mq.ack('TestTopic', id)) FROM taken";
    let mut got = 0;
    while got < 100 {
        got += c.int(take).await;
    }
    let early = "SELECT count(*) FROM due JOIN got USING (id) WHERE read_at < visible_at";
    assert_eq!(c.int(early).await, 0);
    let late = "SELECT max(read_at - visible_at) < '5 s' FROM due JOIN got USING (id)";
    assert!(c.yes(late).await);
    assert_eq!(drain(&c, "TestTopic").await, [""; 0]);
}

/// Ten messages, each sent in a transaction that also writes to a table: a third commits, a third
/// rolls back, and the rest stay in doubt (prepared) until somebody decides. Consumers see only what
/// was committed, and a message wherever its row is.
async fn transactional_messages(cx: Cx) {
    let (producer, consumer) = (cx.connect().await, cx.connect().await);
    producer
        .run("SELECT mq.create_queue('TopicTest1234'); CREATE TABLE orders (n int)")
        .await;
    let gid = |n: i32| format!("{}_{n}", cx.db);
    for n in 0..10 {
        let end = match n % 3 {
            0 => format!("PREPARE TRANSACTION '{}'", gid(n)),
            1 => "COMMIT".to_string(),
            _ => "ROLLBACK".to_string(),
        };
        producer
            .run(&format!(
                "BEGIN; INSERT INTO orders VALUES ({n}); \
                 SELECT mq.send_text('TopicTest1234', 'Hello RocketMQ {n}'); {end}"
            ))
            .await;
    }
    assert_eq!(
        texts(&consumer, "SELECT n FROM orders ORDER BY n").await,
        ["1", "4", "7"]
    );
    for n in [1, 4, 7] {
        let expected = format!("Hello RocketMQ {n}");
        assert_eq!(next(&consumer, "TopicTest1234").await, expected);
    }
    assert_eq!(drain(&consumer, "TopicTest1234").await, [""; 0]);
    for (n, decided) in [
        (0, "COMMIT"),
        (3, "ROLLBACK"),
        (6, "COMMIT"),
        (9, "ROLLBACK"),
    ] {
        producer
            .run(&format!("{decided} PREPARED '{}'", gid(n)))
            .await;
        if decided == "COMMIT" {
            let expected = format!("Hello RocketMQ {n}");
            assert_eq!(next(&consumer, "TopicTest1234").await, expected);
        }
    }
    assert_eq!(drain(&consumer, "TopicTest1234").await, [""; 0]);
    assert_eq!(consumer.int("SELECT count(*) FROM orders").await, 5);
}

/// A consumer group answers RECONSUME_LATER: after sixteen retries a message goes to the group's
/// dead-letter queue. There it is found by its key, and sent back once the consumer is mended.
async fn retries_and_redrive(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_queue('%DLQ%group'); \
         SELECT mq.create_queue('group', max_failures => 17, dead_letter => '%DLQ%group', \
                                backoff => '{1 ms}')",
    )
    .await;
    let send = |n| format!("SELECT mq.send('group', '{n}', '{{\"KEYS\": \"OrderID{n:03}\"}}')");
    c.run(&send(187)).await;
    c.run(&send(188)).await;
    let (mut retries, mut dead) = ([0, 0], 0);
    while dead < 2 {
        let hand = c.hand("'group', wait => '20 s'").await;
        let which = usize::from(hand.body == "188");
        assert_eq!(hand.failures, retries[which], "{hand:?}");
        let nack = format!(
            "SELECT mq.nack('group', {}, {}, reason => 'RECONSUME_LATER')",
            hand.id, hand.receipt
        );
        assert!(c.yes(&nack).await);
        retries[which] += 1;
        dead = c.int("SELECT count(*) FROM mq.\"%DLQ%group\"").await;
    }
    assert_eq!(retries, [17, 17]);
    assert_eq!(c.hands("'group'").await, []);
    let found = "SELECT concat_ws(' ', body, headers->'x-death'->0->>'error', \
                 headers->'x-death'->0->>'failures') FROM mq.\"%DLQ%group\" \
                 WHERE headers->>'KEYS' = 'OrderID188'";
    assert_eq!(c.text(found).await, "188 RECONSUME_LATER 17");
    let redrive = "SELECT mq.redrive('%DLQ%group', ids => ARRAY(SELECT id FROM mq.\"%DLQ%group\" \
                   WHERE headers->>'KEYS' = 'OrderID188'))";
    assert_eq!(c.int(redrive).await, 1);
    let hand = c.hand("'group'").await;
    assert_eq!((hand.body.as_str(), hand.failures), ("188", 0));
    assert!(c.settle("ack", "group", &hand).await);
    assert_eq!(drain(&c, "%DLQ%group").await, ["187"]);
}

/// What has become of the messages with a key.
async fn find(c: &Conn, key: &str) -> Vec<String> {
    let find = format!(
        "SELECT state FROM mq.\"TopicTest\" WHERE dedup_key = '{key}' UNION ALL \
         SELECT 'archived' FROM mq.\"TopicTest_archive\" WHERE headers->>'KEYS' = '{key}'"
    );
    texts(c, &find).await
}

/// Each message has a key that means something to its application; by it one finds where the
/// message is, whatever has become of it, and whether it was sent at all.
async fn find_by_key(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('TopicTest', visibility => '1 hour')")
        .await;
    let keys = texts(
        &c,
        "SELECT (mq.get('TopicTest', mq.send('TopicTest', to_jsonb(n), headers => \
         jsonb_build_object('KEYS', 'OrderID' || n), dedup_key => 'OrderID' || n))).dedup_key \
         FROM generate_series(0, 9) n",
    )
    .await;
    assert_eq!((keys.len(), keys[3].as_str()), (10, "OrderID3"));
    let first = c.hand("'TopicTest'").await;
    let second = c.hand("'TopicTest'").await;
    c.hand("'TopicTest'").await;
    assert!(c.settle("archive", "TopicTest", &first).await);
    assert!(c.settle("ack", "TopicTest", &second).await);
    assert_eq!(find(&c, "OrderID0").await, ["archived"]);
    assert_eq!(find(&c, "OrderID1").await, [""; 0], "acked: gone");
    assert_eq!(find(&c, "OrderID2").await, ["leased"]);
    assert_eq!(find(&c, "OrderID3").await, ["ready"]);
    assert_eq!(find(&c, "OrderID10").await, [""; 0], "never sent");
}

/// Ten messages with a property `a` from 0 to 9, and one without: a subscription by
/// `a between 0 and 3` gets four.
async fn sql_filter(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_exchange('TopicTest', 'topic'), mq.create_queue('group'); \
         SELECT mq.bind('TopicTest', 'group', '#', \
                        filter => '$.headers.a >= 0 && $.headers.a <= 3'); \
         SELECT mq.publish('TopicTest', 'TagA', to_jsonb('Hello RocketMQ ' || a), \
                           jsonb_build_object('a', a)) FROM generate_series(0, 9) a; \
         SELECT mq.publish('TopicTest', 'TagA', '\"Hello RocketMQ without\"')",
    )
    .await;
    let expected: Vec<_> = (0..4).map(|a| format!("Hello RocketMQ {a}")).collect();
    assert_eq!(drain(&c, "group").await, expected);
}

/// The same with a topic that is one queue, and a consumer that says what it wants when it reads.
async fn sql_filter_of_a_consumer(cx: Cx) {
    let c = cx.connect().await;
    c.run(
        "SELECT mq.create_queue('TopicTest'); \
         SELECT mq.send('TopicTest', to_jsonb('Hello RocketMQ ' || a), jsonb_build_object('a', a)) \
         FROM generate_series(0, 9) a; SELECT mq.send('TopicTest', '\"Hello RocketMQ without\"')",
    )
    .await;
    let between = "SELECT body #>> '{}' FROM mq.pop('TopicTest', 100, \
                   filter => '$.headers.a >= 0 && $.headers.a <= 3')";
    let expected: Vec<_> = (0..4).map(|a| format!("Hello RocketMQ {a}")).collect();
    assert_eq!(texts(&c, between).await, expected);
    assert_eq!(texts(&c, between).await, [""; 0]);
    let rest = drain(&c, "TopicTest").await;
    assert_eq!(
        (rest.len(), rest[6].as_str()),
        (7, "Hello RocketMQ without")
    );
}
