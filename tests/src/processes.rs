//! Processes of a server: who is alive, whose children they are, and how they are killed or halted.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// The pid of a data directory's server, if it is running.
pub fn postmaster(dir: &Path) -> Option<u32> {
    let file = fs::read_to_string(dir.join("postmaster.pid")).ok()?;
    let pid = file.lines().next()?.trim().parse().ok()?;
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (alive(pid) && comm.starts_with("postgres")).then_some(pid)
}

/// The state letter and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = text.rsplit_once(") ")?.1.split(' ');
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

pub fn children_of(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

pub fn kill_9(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
}

/// A process that stands still as long as this lives: also when the test fails, because nothing
/// could end such a process.
pub struct Halted(i32);

pub fn halt(pid: i32) -> Halted {
    let done = signal(pid, "-STOP");
    assert!(done, "cannot halt {pid}");
    Halted(pid)
}

impl Drop for Halted {
    fn drop(&mut self) {
        signal(self.0, "-CONT");
    }
}

fn signal(pid: i32, signal: &str) -> bool {
    let kill = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    kill.is_ok_and(|status| status.success())
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// How much of a processor a process has used, in hundredths of a second.
pub fn jiffies(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
