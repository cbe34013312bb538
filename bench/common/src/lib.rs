//! What the benchmark programs share: how figures are kept, judged and printed, what a message
//! is, and how to connect to PostgreSQL.

pub mod figure;
pub mod floor;
pub mod machine;
pub mod pg;
pub mod report;
pub mod stats;
pub mod text;

use std::error::Error as StdError;
use std::future::Future;
use std::process::ExitCode;

pub type Error = Box<dyn StdError + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// How many messages a batch has.
pub const BATCH: usize = 100;

/// 120 bytes of JSON, as an order's event might look.
pub const BODY: &str = "{\"order\": 4711, \"event\": \"paid\", \"customer\": \"c-0123\", \
                        \"amount\": 129.95, \"currency\": \"EUR\", \"note\": \"leave at the door\"}";

const _: () = assert!(BODY.len() == 120);

/// The program's end: its own exit status, or why there is none.
pub fn ended(done: Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("bench: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            eprintln!("  because: {cause}");
            source = cause.source();
        }
        ExitCode::FAILURE
    })
}

/// Runs on so many threads until done, or until somebody asks it to end: then what it holds is
/// dropped, so that no server is left behind.
pub fn block_on(threads: usize, work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    // One thread serves all clients best where the server shares its cores with them.
    let mut runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime
        .worker_threads(threads)
        .enable_all()
        .build()?
        .block_on(async {
            tokio::select! {
                done = work => done,
                _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
                () = terminated() => Err("terminated".into()),
            }
        })
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut asked) => drop(asked.recv().await),
        Err(_) => std::future::pending().await,
    }
}
