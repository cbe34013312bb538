//! Behind a transaction pooler: every function that does not wait works, whichever server
//! connection a statement meets. Debian's pgbouncer, as it comes.

use crate::conn::{BOUND, Conn, Patience};
use crate::harness::{Cx, spawn};
use crate::processes::free_port;
use crate::tests;
use crate::world::{as_server, world};
use std::collections::HashSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tokio_postgres::types::Type;

tests![every_function, many_clients_few_connections];

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A pgbouncer of our own, stopped when dropped.
struct Pooler {
    port: u16,
    child: Child,
    pid_file: std::path::PathBuf,
}

impl Pooler {
    async fn start(cx: &Cx) -> Pooler {
        assert!(
            Path::new(PROGRAM).exists(),
            "pgbouncer is missing: apt-get install -y pgbouncer"
        );
        cx.database().await;
        let (port, base) = (
            free_port(),
            world().work.join(format!("pgbouncer-{}", cx.db)),
        );
        let (ini, users, pid_file) = (
            base.with_extension("ini"),
            base.with_extension("users"),
            base.with_extension("pid"),
        );
        std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let text = format!(
            "[databases]\n{db} = host=127.0.0.1 port={server} dbname={db}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\npidfile = {pid}\n\
             pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 50\n",
            db = cx.db,
            server = cx.server.port,
            users = users.display(),
            pid = pid_file.display(),
        );
        std::fs::write(&ini, text).unwrap();
        let log = std::fs::File::create(base.with_extension("log")).unwrap();
        let mut command = as_server(PROGRAM);
        command
            .arg(&ini)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let pooler = Pooler {
            port,
            child: command.spawn().expect("pgbouncer"),
            pid_file,
        };
        let patience = Patience::new("pgbouncer listens");
        while Conn::try_open(port, &cx.db, "postgres").await.is_err() {
            patience.wait().await;
        }
        pooler
    }

    async fn client(&self, cx: &Cx) -> Conn {
        Conn::open(self.port, &cx.db, "postgres").await
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(&self.pid_file).unwrap_or_default();
        let pid = pid.trim().parse().unwrap_or(self.child.id());
        let _ = Command::new("kill").arg("-9").arg(pid.to_string()).output();
        let _ = self.child.wait();
    }
}

async fn every_function(cx: Cx) {
    let pooler = Pooler::start(&cx).await;
    // Two clients take turns, so that statements meet different server connections.
    let (a, b) = (pooler.client(&cx).await, pooler.client(&cx).await);
    for (turn, call) in [
        "mq.create_queue('q', max_failures => 2)",
        "mq.alter_queue('q', visibility => '1 hour')",
        "mq.send('q', '1', dedup_key => 'k')",
        "mq.send_text('q', 'x')",
        "mq.send_bytes('q', '\\x00')",
        "mq.send_batch('q', ARRAY['1', '2', '3', '4', '5', '6', '7', '8', '9']::jsonb[])",
        "mq.read('q', 8)",
        "mq.extend('q', 1)",
        "mq.ack('q', 1)",
        "mq.nack('q', 2)",
        "mq.release('q', 3)",
        "mq.reject('q', 4)",
        "mq.archive('q', 5)",
        "mq.ack_batch('q', ARRAY[6])",
        "mq.nack_batch('q', ARRAY[7])",
        "mq.release_batch('q', ARRAY[8])",
        "mq.reject_batch('q', ARRAY[9])",
        "mq.extend_batch('q', ARRAY[9])",
        "mq.archive_batch('q', ARRAY[9])",
        "mq.pop('q')",
        "mq.get('q', 9)",
        "mq.delete('q', 9)",
        "mq.delete_batch('q', ARRAY[10])",
        "mq.redrive('q_dead')",
        "mq.pause('q')",
        "mq.resume('q')",
        "mq.maintain()",
        "mq.purge_queue('q')",
        "mq.rename_queue('q', 'p')",
        "mq.status()",
        "mq.version()",
        "mq.drop_queue('p')",
    ]
    .iter()
    .enumerate()
    {
        let c = if turn % 2 == 0 { &a } else { &b };
        c.run(&format!("SELECT {call}")).await;
    }
    a.run("SELECT mq.create_queue('q')").await;
    b.run("BEGIN; INSERT INTO mq.q (body) VALUES ('1'); SELECT * FROM mq.queues; SELECT * FROM mq.metrics; COMMIT").await;
    // Parameters in unnamed statements, as poolers of this kind allow.
    let send = "SELECT mq.send($1, $2)";
    let body = serde_json::json!({"n": 1});
    for c in [&a, &b, &a] {
        c.query_typed(send, &[(&"q", Type::TEXT), (&body, Type::JSONB)])
            .await
            .unwrap();
    }
    let read = b
        .query_typed(
            "SELECT id, receipt FROM mq.read($1, $2)",
            &[(&"q", Type::TEXT), (&9i32, Type::INT4)],
        )
        .await
        .unwrap();
    assert_eq!(read.len(), 4);
    for row in read {
        let (id, receipt): (i64, i64) = (row.get(0), row.get(1));
        let acked = a
            .query_typed(
                "SELECT mq.ack($1, $2, $3)",
                &[
                    (&"q", Type::TEXT),
                    (&id, Type::INT8),
                    (&receipt, Type::INT8),
                ],
            )
            .await
            .unwrap();
        assert!(acked[0].get::<_, bool>(0), "a receipt is no session's");
    }
}

async fn many_clients_few_connections(cx: Cx) {
    let pooler = Pooler::start(&cx).await;
    let admin = pooler.client(&cx).await;
    admin
        .run("SELECT mq.create_queue('q', visibility => '1 hour')")
        .await;
    let mut clients = Vec::new();
    for n in 0..8 {
        let c = pooler.client(&cx).await;
        clients.push(spawn(async move {
            let (started, mut mine) = (Instant::now(), Vec::new());
            for i in 0..40 {
                c.run(&format!("BEGIN; SELECT mq.send('q', '{}')", n * 1000 + i))
                    .await;
                c.run(if i % 8 == 7 { "ROLLBACK" } else { "COMMIT" }).await;
                assert!(started.elapsed() < BOUND);
                for hand in c.hands("'q', 2").await {
                    assert!(c.settle("ack", "q", &hand).await);
                    mine.push(hand.id);
                }
            }
            mine
        }));
    }
    let mut handled = Vec::new();
    for client in clients {
        handled.extend(client.await.unwrap());
    }
    while let Some(hand) = admin.hands("'q', 1").await.first() {
        assert!(admin.settle("ack", "q", hand).await);
        handled.push(hand.id);
    }
    assert_eq!(handled.len(), 8 * 35);
    assert_eq!(handled.iter().collect::<HashSet<_>>().len(), handled.len());
    assert_eq!(admin.int("SELECT count(*) FROM mq.q").await, 0);
}
