//! Runs the tests: several at a time, each in a database of its own, one line for each.
//!
//! A test is an async function that panics when something is wrong. Tests marked `solo` run
//! alone after the others, because they measure the whole server.

use crate::conn::Conn;
use crate::server::Server;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinHandle;

/// How many tests run at the same time.
const AT_ONCE: usize = 5;

/// No test may take longer: `TEST_SECONDS`, 240 unless told.
fn bound() -> Duration {
    let given = std::env::var("TEST_SECONDS").ok();
    Duration::from_secs(given.and_then(|s| s.parse().ok()).unwrap_or(240))
}

tokio::task_local! { static CURRENT: String; }

/// The first panic of each test, with its place.
static PANICS: OnceLock<Mutex<HashMap<String, String>>> = OnceLock::new();

type Body = fn(Cx) -> BoxFuture<'static, ()>;

pub struct Test {
    pub name: String,
    pub solo: bool,
    body: Body,
}

impl Test {
    pub fn new(module: &str, name: &str, body: Body) -> Test {
        let module = module.split_once("::").map_or(module, |(_, rest)| rest);
        Test {
            name: format!("{module}::{name}"),
            solo: false,
            body,
        }
    }

    /// The same test, for a server of another kind.
    pub fn in_mode(mut self, mode: &str) -> Test {
        self.name = format!("{mode}::{}", self.name);
        self
    }

    pub fn solo(mut self) -> Test {
        self.solo = true;
        self
    }
}

/// Declares the tests of a module: `tests![one, two, #[solo] three]`.
#[macro_export]
macro_rules! tests {
    ($($(#[$kind:ident])? $name:ident),* $(,)?) => {
        pub fn tests() -> Vec<$crate::harness::Test> {
            vec![$(
                $crate::harness::Test::new(module_path!(), stringify!($name), |cx| {
                    Box::pin($name(cx))
                })$(.$kind())?
            ),*]
        }
    };
}

/// What a test is given: the shared server, and a database of its own there when it asks.
#[derive(Clone)]
pub struct Cx {
    pub server: Arc<Server>,
    pub db: String,
    made: Arc<OnceCell<()>>,
}

impl Cx {
    /// A superuser's session in the test's own database.
    pub async fn connect(&self) -> Conn {
        self.connect_as("postgres").await
    }

    pub async fn connect_as(&self, role: &str) -> Conn {
        self.database().await;
        Conn::open(self.server.port, &self.db, role).await
    }

    /// The same test on another server, whose databases stay until it stops.
    pub fn on(&self, server: Arc<Server>) -> Cx {
        Cx {
            server,
            db: self.db.clone(),
            made: Arc::default(),
        }
    }

    /// The test's own database, made on first use with the extension in it.
    pub async fn database(&self) -> &str {
        self.made
            .get_or_init(|| async {
                let admin = Conn::open(self.server.port, "postgres", "postgres").await;
                admin
                    .run(&format!("CREATE DATABASE {} TEMPLATE mq_template", self.db))
                    .await;
            })
            .await;
        &self.db
    }

    /// Makes a login role for this test alone and returns its name.
    pub async fn role(&self, name: &str) -> String {
        let role = format!("{}_{name}", self.db);
        self.connect()
            .await
            .run(&format!("CREATE ROLE {role} LOGIN"))
            .await;
        role
    }
}

/// Spawns a part of a test; its panics are reported with the test's.
pub fn spawn<F>(part: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let name = CURRENT.try_with(Clone::clone).unwrap_or_default();
    tokio::spawn(CURRENT.scope(name, part))
}

fn catch_panics() {
    PANICS.get_or_init(Mutex::default);
    std::panic::set_hook(Box::new(|info| {
        let said = info.payload_as_str().unwrap_or("panic");
        let place = info
            .location()
            .map(|l| format!("{}:{}", l.file(), l.line()));
        let line = format!("{}: {said}", place.unwrap_or_default());
        match CURRENT.try_with(Clone::clone) {
            Ok(name) => {
                let mut panics = PANICS.get_or_init(Mutex::default).lock().unwrap();
                panics.entry(name).or_insert(line);
            }
            Err(_) => eprintln!("panic outside a test: {line}"),
        }
    }));
}

async fn run_one(test: Test, server: Arc<Server>, number: usize) -> bool {
    let started = Instant::now();
    let db = format!("t{number}_{}", test.name.replace("::", "_"));
    let cx = Cx {
        server: server.clone(),
        db,
        made: Arc::default(),
    };
    let body = CURRENT.scope(test.name.clone(), (test.body)(cx.clone()));
    let task = tokio::spawn(tokio::time::timeout(bound(), body));
    let abort = task.abort_handle();
    let verdict = match task.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(format!("not done after {:?}", bound())),
        Err(_) => {
            let panics = PANICS.get_or_init(Mutex::default).lock().unwrap();
            Err(panics
                .get(&test.name)
                .cloned()
                .unwrap_or_else(|| "panicked".into()))
        }
    };
    abort.abort();
    if cx.made.initialized() {
        let admin = Conn::open(server.port, "postgres", "postgres").await;
        let _ = admin
            .simple_query(&format!("DROP DATABASE {} WITH (FORCE)", cx.db))
            .await;
    }
    let took = started.elapsed().as_secs_f64();
    match &verdict {
        Ok(()) => println!("ok    {} ({took:.1}s)", test.name),
        Err(why) => println!(
            "FAIL  {} ({took:.1}s)\n      {}",
            test.name,
            why.replace('\n', "\n      ")
        ),
    }
    verdict.is_ok()
}

/// Runs all tests and returns how many passed and failed.
pub async fn run(tests: Vec<Test>, server: Arc<Server>) -> (usize, usize) {
    catch_panics();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let (mut running, mut alone) = (Vec::new(), Vec::new());
    for (number, test) in tests.into_iter().enumerate() {
        if test.solo {
            alone.push((number, test));
            continue;
        }
        let (server, places) = (server.clone(), places.clone());
        running.push(tokio::spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            run_one(test, server, number).await
        }));
    }
    let mut passed = 0;
    let mut failed = 0;
    let mut count = |ok: bool| if ok { passed += 1 } else { failed += 1 };
    for task in running {
        count(task.await.unwrap_or(false));
    }
    for (number, test) in alone {
        count(run_one(test, server.clone(), number).await);
    }
    (passed, failed)
}
