//! What a reader should know of the machine that measured.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// The clone's root: `scripts/lib.sh` says it; run by hand, it is known from where this was built.
pub fn root() -> Result<PathBuf> {
    let root = match std::env::var_os("PGB_ROOT") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
    };
    Ok(root.canonicalize()?)
}

pub fn machine() -> String {
    let cores = std::thread::available_parallelism()
        .map(|cores| cores.get())
        .unwrap_or(0);
    let field = |file: &str, name: &str| {
        std::fs::read_to_string(file)
            .unwrap_or_default()
            .lines()
            .find(|line| line.starts_with(name))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_string())
    };
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let kib: f64 = field("/proc/meminfo", "MemTotal")
        .and_then(|value| value.split(' ').next().and_then(|kib| kib.parse().ok()))
        .unwrap_or(0.0);
    let release = first_line("/proc/sys/kernel/osrelease");
    let kernel: Vec<&str> = release.split(['.', '-']).take(2).collect();
    let gib = kib / 1024.0 / 1024.0;
    format!(
        "{cores} cores ({model}), {gib:.0} GiB, Linux {}",
        kernel.join(".")
    )
}

/// The load averages, as three numbers.
pub fn load() -> String {
    let line = first_line("/proc/loadavg");
    line.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn first_line(file: &str) -> String {
    std::fs::read_to_string(file)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .into()
}

/// Which commit was measured, where that can be known.
pub fn commit(root: &Path) -> Option<String> {
    output(
        Command::new("git")
            .arg("-C")
            .arg(root)
            .args(["describe", "--always", "--dirty"]),
    )
    .ok()
}

/// What a command prints, trimmed; an error that shows what it said if it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if !done.status.success() {
        return Err(format!(
            "{:?} {:?} failed: {}{}",
            command.get_program(),
            command.get_args().collect::<Vec<_>>(),
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        )
        .into());
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_string())
}
