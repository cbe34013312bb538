//! The ZeroMQ guide's first patterns: request and reply, publish and subscribe, the divide and
//! conquer of a ventilator, its workers and a sink, and the high-water mark.

use super::{drain, next, send_home, until_waiting, work, workers};
use crate::conn::Conn;
use crate::harness::Cx;
use crate::tests;
use std::time::{Duration, Instant};

tests![
    hello_world_server,
    high_water_mark,
    high_water_mark_of_a_publisher,
    weather,
    hello_world_requests,
    #[solo]
    ventilator
];

/// Ten times "Hello", each answered with "World" before the next is asked. With two queues and
/// headers that say where the answer goes and what it answers.
async fn hello_world_server(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('hello'), mq.create_queue('answers')")
        .await;
    let answer = "mq.send(m.headers->>'reply_to', to_jsonb('World ' || m.attempts), \
                  jsonb_build_object('correlation_id', m.headers->'correlation_id'))";
    let server = workers(&cx, 1, &work("hello", answer));
    for n in 0..10 {
        let ask = format!(
            "SELECT mq.send_text('hello', 'Hello', \
             '{{\"reply_to\": \"answers\", \"correlation_id\": {n}}}')"
        );
        c.run(&ask).await;
        let listen = "SELECT concat_ws(' ', body #>> '{}', headers->>'correlation_id', \
                      mq.ack(queue, id, receipt)) FROM mq.read('answers', wait => '20 s')";
        assert_eq!(c.text(listen).await, format!("World 1 {n} t"));
    }
    assert_eq!(send_home(&c, "hello", server).await, [["Hello"; 10]]);
}

/// A pipe holds a thousand messages; a sender that does not want to wait is refused the next one,
/// and may go on as far as the receiver has made room.
async fn high_water_mark(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('pipe', max_length => 1000)")
        .await;
    c.run("SELECT mq.send('pipe', to_jsonb(n)) FROM generate_series(1, 1000) n")
        .await;
    c.refused("SELECT mq.send('pipe', '1001')", "53400").await;
    assert_eq!(c.int("SELECT count(*) FROM mq.pop('pipe', 10)").await, 10);
    c.run("SELECT mq.send('pipe', to_jsonb(n)) FROM generate_series(1001, 1010) n")
        .await;
    c.refused("SELECT mq.send('pipe', '1011')", "53400").await;
    let expected: Vec<_> = (11..=1010).map(|n| n.to_string()).collect();
    assert_eq!(drain(&c, "pipe").await, expected);
}

/// A publisher does not wait for a slow subscriber, who misses something instead: here what is
/// oldest (ZeroMQ drops what comes when the pipe is full).
async fn high_water_mark_of_a_publisher(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('slow', max_length => 1000, overflow => 'drop_oldest')")
        .await;
    c.run("SELECT mq.send('slow', to_jsonb(n)) FROM generate_series(1, 1500) n")
        .await;
    let expected: Vec<_> = (501..=1500).map(|n| n.to_string()).collect();
    assert_eq!(drain(&c, "slow").await, expected);
}

/// The tasks' lengths in milliseconds: each from 1 to 100 once, long and short mixed.
const TASKS: i64 = 100;
const LENGTH: &str = "1 + (n * 93) % 100";

/// Sends the tasks to workers that sleep for as long as each says and tell the sink, which counts.
/// Returns how much faster that went than one after the other.
async fn speed_up(cx: &Cx, c: &Conn, how_many: usize) -> f64 {
    let sleep = "SELECT mq.send('sink', m.body) FROM pg_sleep(m.body::float8 / 1000)";
    let workers = workers(cx, how_many, &work("tasks", sleep));
    until_waiting(c, how_many).await;
    let started = Instant::now();
    let send = format!(
        "SELECT mq.send('tasks', to_jsonb({LENGTH})) FROM generate_series(0, {TASKS} - 1) n"
    );
    c.run(&send).await;
    let mut sum = 0;
    for _ in 0..TASKS {
        let text = next(c, "sink").await;
        sum += text.parse::<u64>().unwrap();
    }
    let took = started.elapsed();
    send_home(c, "tasks", workers).await;
    Duration::from_millis(sum).as_secs_f64() / took.as_secs_f64()
}

/// A hundred tasks of 1 to 100 ms go nearly twice as fast with two workers, and nearly four times
/// with four. A machine that is busy with something else may spoil a round: the best of three counts.
async fn ventilator(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('tasks'), mq.create_queue('sink')")
        .await;
    for (how_many, wanted) in [(2, 1.8), (4, 3.5)] {
        let mut best: f64 = 0.0;
        for _ in 0..3 {
            if best < wanted {
                best = best.max(speed_up(&cx, &c, how_many).await);
            }
        }
        assert!(
            best >= wanted,
            "{how_many} workers: {best:.2} times as fast"
        );
    }
}

/// A weather feed publishes for many zip codes; a subscriber to `10001` gets its hundred updates,
/// in order, and nothing else: by the key, or, as ZeroMQ does, by the first letters of the message.
async fn weather(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_exchange('weather', 'topic')").await;
    let feed = |from: i32, to: i32| {
        format!(
            "SELECT count(mq.publish_text('weather', zip::text, zip || ' ' || n || ' 50')) \
             FROM generate_series({from}, {to}) n, generate_series(9998, 10010) zip"
        )
    };
    c.run(&feed(-5, 0)).await;
    c.run(
        "SELECT mq.create_queue('by_key'), mq.bind('weather', 'by_key', '10001'); \
         SELECT mq.create_queue('by_prefix'), mq.bind('weather', 'by_prefix', '#', \
                filter => '$.body starts with \"10001 \"')",
    )
    .await;
    c.run(&feed(1, 100)).await;
    let expected: Vec<_> = (1..=100).map(|n| format!("10001 {n} 50")).collect();
    assert_eq!(drain(&c, "by_key").await, expected);
    assert_eq!(drain(&c, "by_prefix").await, expected);
}

/// The same ten, with a procedure that asks and waits.
async fn hello_world_requests(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('hello')").await;
    let answer = "mq.reply(m, to_jsonb('World ' || (m.body #>> '{}')))";
    let server = workers(&cx, 1, &work("hello", answer));
    for n in 0..10 {
        let request = format!("CALL mq.request('hello', '\"{n}\"', timeout => '20 s')");
        assert_eq!(c.text(&request).await, format!("\"World {n}\""));
    }
    let asked: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(send_home(&c, "hello", server).await, [asked]);
}
