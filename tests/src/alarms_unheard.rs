//! Waiters woken for what no commit tells of: on the server, and with the patience, of `alarms`.

use crate::alarms::{ANY, READ, Sleeper, WAIT, purge, quiet};
use crate::harness::Cx;
use crate::tests;
use crate::wake::queue;

tests![prepared];

/// Whoever ends a prepared transaction, it is neither its session nor the waiter's.
async fn prepared(cx: Cx) {
    let cx = quiet(cx).await;
    let (c, holder) = (queue(&cx).await, cx.connect().await);
    c.run("SELECT mq.create_queue('other')").await;
    for (before, deed, end) in [
        ("SELECT 1", "SELECT mq.send('q', '1')", "COMMIT"),
        (
            "SELECT 1",
            "SELECT mq.send('q', '1', priority => 9)",
            "COMMIT",
        ),
        (
            "SELECT mq.send('q', '1'); SELECT mq.read('q', 1, '1 hour')",
            "SELECT mq.nack('q', id) FROM mq.q",
            "COMMIT",
        ),
        (
            "SELECT mq.send('q', '1')",
            "SELECT mq.read('q', 9, '1 hour')",
            "ROLLBACK",
        ),
        (
            "SELECT mq.send('q', '1')",
            "SELECT mq.pop('q', 9)",
            "ROLLBACK",
        ),
    ] {
        for statement in [WAIT, ANY, READ] {
            c.run(before).await;
            holder
                .run(&format!("BEGIN; {deed}; PREPARE TRANSACTION '{}'", cx.db))
                .await;
            let sleeper = Sleeper::new(&cx, statement).await;
            c.run(&format!("{end} PREPARED '{}'", cx.db)).await;
            sleeper.finds(&format!("{statement}: {deed}; {end}")).await;
            purge(&c).await;
        }
    }
    // As many as there are messages.
    holder
        .run(&format!(
            "BEGIN; SELECT mq.send_batch('q', ARRAY['1', '2', '3']::jsonb[]); PREPARE TRANSACTION '{}'",
            cx.db
        ))
        .await;
    let sleepers = [
        Sleeper::new(&cx, READ).await,
        Sleeper::new(&cx, READ).await,
        Sleeper::new(&cx, READ).await,
    ];
    c.run(&format!("COMMIT PREPARED '{}'", cx.db)).await;
    for sleeper in sleepers {
        sleeper.finds("three together").await;
    }
}
