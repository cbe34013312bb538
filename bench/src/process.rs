//! What processes of a server cost, by the kernel's account: nothing is asked of the server.

use std::collections::HashMap;

use pg_broker_bench_common::Result;

pub fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything; state and parent follow it.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

/// A process and its children.
pub fn family(server: i32) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        pids.extend(pid.filter(|pid| *pid == server || parent(*pid) == Some(server)));
    }
    Ok(pids)
}

/// What the server calls the process: `postgres: pg_broker worker …`.
pub fn title(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// Nanoseconds on the CPU, by process.
pub fn times(pids: &[i32]) -> Result<HashMap<i32, u64>> {
    let mut times = HashMap::new();
    for pid in pids {
        // A process may end while it is looked at.
        if let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/schedstat")) {
            let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
            times.insert(*pid, nanos.ok_or("schedstat is not readable here")?);
        }
    }
    Ok(times)
}

/// Nanoseconds from one look to the other; processes that began in between with all they took.
pub fn spent(first: &HashMap<i32, u64>, last: &HashMap<i32, u64>) -> u64 {
    last.iter()
        .map(|(pid, now)| now.saturating_sub(first.get(pid).copied().unwrap_or(0)))
        .sum()
}

/// Bytes of memory that these processes have for themselves.
pub fn memory(pids: &[i32]) -> u64 {
    let own = |pid: &i32| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    pids.iter().filter_map(own).sum::<u64>() * 1024
}
