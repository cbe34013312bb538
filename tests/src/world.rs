//! Where this run of the tests lives, and how commands run as the user that servers run as.

use crate::processes::{alive, children_of, kill_9, postmaster};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Where this run of the tests lives.
pub struct World {
    pub root: PathBuf,
    pub work: PathBuf,
    pub version: u32,
}

static WORLD: OnceLock<World> = OnceLock::new();

/// The version under test: `PG`, 18 unless told.
pub fn version() -> u32 {
    let version = std::env::var("PG").unwrap_or_else(|_| "18".into());
    version.parse().expect("PG=18 or PG=15")
}

pub fn world() -> &'static World {
    WORLD.get_or_init(|| {
        let root = std::env::var("PGB_ROOT")
            .map(PathBuf::from)
            .unwrap_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        let root = root.canonicalize().expect("the repository's root");
        let version = version();
        let name = format!("tests-{version}-{}", std::process::id());
        remove_leftovers(&root.join(".run"), version);
        let said = output(Command::new(root.join("scripts/workdir")).arg(name));
        World {
            work: PathBuf::from(said.trim()),
            root,
            version,
        }
    })
}

/// The programs of a PostgreSQL version.
pub fn programs(version: u32) -> PathBuf {
    let script = world().root.join("scripts/pgbin");
    PathBuf::from(output(Command::new(script).arg(version.to_string())).trim())
}

/// A command that runs as the user the servers run as, in the working directory.
pub fn as_server(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(world().root.join("scripts/as-server"));
    command.arg(program.as_ref()).current_dir(&world().work);
    command
}

/// Runs a command and returns what it printed; panics with everything it said if it fails.
pub fn output(command: &mut Command) -> String {
    let done = tokio_block(|| command.output());
    let done: Output = done.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !done.status.success() {
        panic!("{command:?}\n{}{}", text(&done.stderr), text(&done.stdout));
    }
    text(&done.stdout)
}

pub fn tokio_block<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => tokio::task::block_in_place(work),
        Err(_) => work(),
    }
}

/// Removes what runs that were killed left behind; runs still alive are left alone.
fn remove_leftovers(run: &Path, version: u32) {
    let prefix = format!("tests-{version}-");
    for entry in fs::read_dir(run).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(&prefix).and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        if alive(pid) {
            continue;
        }
        for dir in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if let Some(pid) = postmaster(&dir.path()) {
                children_of(pid).into_iter().chain([pid]).for_each(kill_9);
            }
        }
        let _ = fs::remove_dir_all(entry.path());
    }
}
