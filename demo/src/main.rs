//! The outbox story, told live on a database that has pg_broker.
//!
//! The program is two in one. Started by a person it is the narrator: it plays the shop, hires
//! consumers, kills some, and checks the account. The consumers are children of the same binary
//! (`consumer STYLE NAME`), processes of their own, so that `kill -9` is the real thing.

mod account;
mod book;
mod crew;
mod event;
mod setup;
mod shop;
mod story;
mod trouble;
mod voice;
mod worker;

use std::process::ExitCode;
use trouble::{Result, Trouble};

const HELP: &str = "\
pg_broker_demo: the outbox story

  PGB_DSN=postgresql://… pg_broker_demo [--short]

  --short   tell it in about 6 seconds instead of 15 to 20
  --help    this

PGB_DSN names a database with the extension pg_broker in it. The demo makes the schema `shop`
and the queues `orders` and `orders_dead` there, and leaves them for you to look at; the next
run replaces them. It touches nothing of that name that it did not make itself.
Exit: 0 when the account adds up, 1 when it does not, 2 when the story could not be told.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        [] => run(story::tell(false)),
        ["--short"] => run(story::tell(true)),
        ["--help" | "-h"] => {
            println!("{HELP}");
            Ok(true)
        }
        ["consumer", style, name] => run(worker::work(style, name))
            .map_err(|trouble| Trouble::new(format!("{name}: {trouble}"))),
        other => Err(Trouble::new(format!(
            "unknown argument: {}\n\n{HELP}",
            other.join(" ")
        ))),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(trouble) => {
            eprintln!("pg_broker_demo: {trouble}");
            ExitCode::from(2)
        }
    }
}

fn run(story: impl Future<Output = Result<bool>>) -> Result<bool> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(story)
}
