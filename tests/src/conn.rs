//! A session as the tests use it: short calls that panic with the statement when it fails,
//! refusals as values, waits on conditions, and the notices the server sent.

use futures_util::future::poll_fn;
use std::fmt::Display;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

/// How long a condition may take to come true before the test fails.
pub const BOUND: Duration = Duration::from_secs(40);

pub struct Conn {
    client: Client,
    heard: Arc<Mutex<Heard>>,
    pub pid: i32,
}

#[derive(Default)]
struct Heard {
    notices: Vec<String>,
    warnings: Vec<String>,
    notifications: Vec<String>,
}

impl Deref for Conn {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

/// One message as a reader got it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hand {
    pub id: i64,
    pub receipt: i64,
    pub attempts: i64,
    pub failures: i64,
    pub body: String,
}

/// How the server refused a statement.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub hint: String,
}

impl From<tokio_postgres::Error> for Refusal {
    fn from(error: tokio_postgres::Error) -> Refusal {
        match error.as_db_error() {
            Some(db) => Refusal {
                code: db.code().code().to_string(),
                message: db.message().to_string(),
                hint: db.hint().unwrap_or_default().to_string(),
            },
            None => Refusal {
                code: "08006".into(),
                message: error.to_string(),
                hint: String::new(),
            },
        }
    }
}

/// No ids.
pub const NONE: [i64; 0] = [];

pub type Cells = Vec<Vec<Option<String>>>;

impl Conn {
    pub async fn open(port: u16, db: &str, role: &str) -> Conn {
        match Conn::try_open(port, db, role).await {
            Ok(conn) => conn,
            Err(error) => panic!("cannot connect to {db} as {role}: {error}"),
        }
    }

    pub async fn try_open(port: u16, db: &str, role: &str) -> Result<Conn, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).dbname(db).user(role);
        config.connect_timeout(Duration::from_secs(20));
        let (client, mut link) = config.connect(NoTls).await?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let ears = heard.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| link.poll_message(cx)).await {
                let mut heard = ears.lock().unwrap();
                match message {
                    AsyncMessage::Notice(n) if n.severity() == "WARNING" => {
                        heard.warnings.push(n.message().to_string());
                    }
                    AsyncMessage::Notice(n) if n.severity() == "NOTICE" => {
                        heard.notices.push(n.message().to_string());
                    }
                    AsyncMessage::Notification(n) => {
                        heard.notifications.push(n.channel().to_string());
                    }
                    _ => {}
                }
            }
        });
        let said = client.simple_query("SELECT pg_backend_pid()").await?;
        let pid = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        let pid = pid.unwrap_or(0);
        Ok(Conn { client, heard, pid })
    }

    pub async fn cells(&self, sql: &str) -> Result<Cells, Refusal> {
        let mut rows = Vec::new();
        let said = self.client.simple_query(sql).await;
        if said.is_err() {
            // The server tells of an error before it has undone anything.
            let _ = self.client.simple_query("").await;
        }
        for message in said? {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push(
                    (0..row.len())
                        .map(|i| row.get(i).map(str::to_string))
                        .collect(),
                );
            }
        }
        Ok(rows)
    }

    pub async fn rows(&self, sql: &str) -> Cells {
        match self.cells(sql).await {
            Ok(rows) => rows,
            Err(no) => panic!("{sql}\n{} {} {}", no.code, no.message, no.hint),
        }
    }

    /// Runs statements. What stands before a `BEGIN` is committed first, as it reads: the server
    /// itself would make statements sent together one transaction.
    pub async fn run(&self, sql: &str) {
        match sql.split_once("; BEGIN") {
            Some((before, rest)) if rest.is_empty() || rest.starts_with(';') => {
                self.rows(before).await;
                self.rows(&format!("BEGIN{rest}")).await;
            }
            _ => {
                self.rows(sql).await;
            }
        }
    }

    /// The first cell of the first row: `NULL` for null, `-` without a row.
    pub async fn text(&self, sql: &str) -> String {
        match self
            .rows(sql)
            .await
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
        {
            None => "-".to_string(),
            Some(None) => "NULL".to_string(),
            Some(Some(text)) => text,
        }
    }

    pub async fn value<T: FromStr>(&self, sql: &str) -> T {
        let text = self.text(sql).await;
        match text.parse() {
            Ok(value) => value,
            Err(_) => panic!("{sql}\nunexpected value {text:?}"),
        }
    }

    pub async fn int(&self, sql: &str) -> i64 {
        self.value(sql).await
    }

    pub async fn yes(&self, sql: &str) -> bool {
        match self.text(sql).await.as_str() {
            "t" => true,
            "f" => false,
            other => panic!("{sql}\nexpected a boolean, got {other:?}"),
        }
    }

    /// The first column as numbers.
    pub async fn ints(&self, sql: &str) -> Vec<i64> {
        let number = |row: Vec<Option<String>>| row[0].as_deref().unwrap().parse().unwrap();
        self.rows(sql).await.into_iter().map(number).collect()
    }

    /// Expects the statement to be refused with this SQLSTATE.
    pub async fn refused(&self, sql: &str, code: &str) -> Refusal {
        match self.cells(sql).await {
            Ok(rows) => panic!("{sql}\nexpected {code}, but it succeeded: {rows:?}"),
            Err(no) if no.code == code => no,
            Err(no) => panic!("{sql}\nexpected {code}, got {} {}", no.code, no.message),
        }
    }

    /// Sends one message with this JSON body.
    pub async fn send(&self, queue: &str, body: impl Display) -> i64 {
        self.int(&format!("SELECT mq.send('{queue}', '{body}')"))
            .await
    }

    /// Calls `mq.read` with these arguments, as in `hands("'orders', 5")`.
    pub async fn hands(&self, arguments: &str) -> Vec<Hand> {
        self.try_hands("read", arguments)
            .await
            .unwrap_or_else(|no| panic!("read({arguments}): {no:?}"))
    }

    pub async fn try_hands(&self, verb: &str, arguments: &str) -> Result<Vec<Hand>, Refusal> {
        let sql = format!(
            "SELECT id, receipt, attempts, failures, coalesce(body::text, data::text) \
             FROM mq.{verb}({arguments})"
        );
        let number = |cell: &Option<String>| cell.as_deref().unwrap_or("0").parse().unwrap();
        let hand = |row: Vec<Option<String>>| Hand {
            id: number(&row[0]),
            receipt: number(&row[1]),
            attempts: number(&row[2]),
            failures: number(&row[3]),
            body: row[4].clone().unwrap_or_default(),
        };
        Ok(self.cells(&sql).await?.into_iter().map(hand).collect())
    }

    /// Reads exactly one message, or the test fails.
    pub async fn hand(&self, arguments: &str) -> Hand {
        let mut hands = self.hands(arguments).await;
        assert_eq!(hands.len(), 1, "read({arguments}) gave {hands:?}");
        hands.remove(0)
    }

    /// Settles by verb: `settle("ack", "q", &hand)`.
    pub async fn settle(&self, verb: &str, queue: &str, hand: &Hand) -> bool {
        let Hand { id, receipt, .. } = hand;
        let is = if verb == "extend" { " IS NOT NULL" } else { "" };
        self.yes(&format!("SELECT mq.{verb}('{queue}', {id}, {receipt}){is}"))
            .await
    }

    /// Waits until the query says true.
    pub async fn until(&self, sql: &str) {
        let started = Instant::now();
        while self.text(sql).await != "t" {
            assert!(started.elapsed() < BOUND, "never came true: {sql}");
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// Waits until that session waits for a lock.
    pub async fn until_blocked(&self, pid: i32) {
        self.until(&format!("SELECT cardinality(pg_blocking_pids({pid})) > 0"))
            .await;
    }

    /// Makes every wait for a lock an error, so that a call that must not wait cannot hide one.
    pub async fn never_wait(&self) {
        self.run("SET lock_timeout = '2s'").await;
    }

    pub fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap().warnings)
    }

    pub fn notices(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap().notices)
    }

    pub fn notifications(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap().notifications)
    }
}

/// A bound on waiting for a condition that no query can tell.
pub struct Patience(&'static str, Instant);

impl Patience {
    pub fn new(what: &'static str) -> Patience {
        Patience(what, Instant::now())
    }

    /// Whether the next `wait` fails: for those who can say more about it.
    pub fn is_over(&self) -> bool {
        self.1.elapsed() >= BOUND
    }

    /// Call this between two looks at the condition.
    pub async fn wait(&self) {
        assert!(self.1.elapsed() < BOUND, "never happened: {}", self.0);
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}
