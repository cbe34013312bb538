//! Private PostgreSQL servers: one template from initdb, copied for each server, always stopped.
//!
//! Everything lies in one directory under `.run`, named for this process, and goes when a test is
//! done with it; what a killed run left behind is stopped and removed by the next. `fsync` is off: the tests kill processes, not
//! kernels, so what was written is not lost, and the tests are much faster.

use crate::conn::Conn;
use crate::processes::{alive, children_of, free_port, kill_9, postmaster};
use crate::world::{as_server, output, programs, tokio_block, world};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'pg_broker'
fsync = off
shared_buffers = '64MB'
max_connections = 120
max_prepared_transactions = 30
max_wal_size = '2GB'
checkpoint_timeout = '20min'
log_line_prefix = '%m [%p] %d %u '
restart_after_crash = on
pg_broker.worker = off
";

/// Data directories of servers that may be running, with their programs.
static RUNNING: Mutex<Option<HashMap<PathBuf, PathBuf>>> = Mutex::new(None);

pub struct Server {
    pub dir: PathBuf,
    pub port: u16,
    pub bin: PathBuf,
}

impl Server {
    /// Starts a server of the tested version whose `mq_template` database has the extension.
    pub async fn start(name: &str, settings: &str) -> Server {
        let server = Server::copied(name, settings).await;
        server.up();
        server
    }

    async fn copied(name: &str, settings: &str) -> Server {
        static TEMPLATE: tokio::sync::OnceCell<PathBuf> = tokio::sync::OnceCell::const_new();
        let template = TEMPLATE.get_or_init(make_template).await;
        let dir = world().work.join(name);
        output(as_server("cp").arg("-a").arg(template).arg(&dir));
        let server = Server {
            dir,
            port: free_port(),
            bin: programs(world().version),
        };
        server.configure(settings);
        server
    }

    /// A new cluster of any version, not started; the extension is not in it.
    pub fn initialized(name: &str, version: u32, flags: &[&str]) -> Server {
        let (bin, dir) = (programs(version), world().work.join(name));
        let initdb = |locale: &str| {
            let mut command = as_server(bin.join("initdb"));
            command.args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-sync",
                "-E",
                "UTF8",
                locale,
            ]);
            command.args(flags).arg("-D").arg(&dir);
            tokio_block(|| command.output()).expect("initdb")
        };
        if !initdb("--locale=C.UTF-8").status.success() {
            let done = initdb("--locale=C");
            assert!(
                done.status.success(),
                "initdb: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
        let server = Server {
            dir,
            port: free_port(),
            bin,
        };
        server.configure(SETTINGS);
        server
    }

    /// A streaming standby of this server, started and following.
    pub fn standby(&self, name: &str) -> Server {
        let dir = world().work.join(name);
        let mut copy = as_server(self.bin.join("pg_basebackup"));
        copy.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        ]);
        output(
            copy.arg("-p")
                .arg(self.port.to_string())
                .arg("-D")
                .arg(&dir),
        );
        let standby = Server {
            dir,
            port: free_port(),
            bin: self.bin.clone(),
        };
        standby.up();
        standby
    }

    /// Appends to `postgresql.conf`.
    pub fn configure(&self, settings: &str) {
        let file = fs::OpenOptions::new()
            .append(true)
            .open(self.dir.join("postgresql.conf"));
        file.and_then(|mut f| f.write_all(settings.as_bytes()))
            .expect("postgresql.conf");
    }

    pub fn up(&self) {
        note_running(&self.dir, Some(&self.bin));
        let log = self.dir.with_extension("log");
        let mut start = self.pg_ctl("start");
        start
            .args(["-w", "-t", "90", "-o", &format!("-p {}", self.port), "-l"])
            .arg(&log);
        // The server keeps the descriptors it inherits, so none of ours may be a pipe.
        start.stdin(std::process::Stdio::null());
        start
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let status = tokio_block(|| start.status()).expect("pg_ctl");
        if !status.success() {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            panic!(
                "the server in {} does not start:\n{tail:#?}",
                self.dir.display()
            );
        }
    }

    pub fn down(&self) {
        output(self.pg_ctl("stop").args(["-m", "fast", "-w"]));
        note_running(&self.dir, None);
    }

    /// The data directory of a server that is not running, to be kept.
    fn into_data(self) -> PathBuf {
        std::mem::ManuallyDrop::new(self).dir.clone()
    }

    pub fn promote(&self) {
        output(self.pg_ctl("promote").args(["-w", "-t", "60"]));
    }

    /// Kills the postmaster and all its processes at once, as a crash of the machine would.
    pub fn crash(&self) {
        let Some(pid) = postmaster(&self.dir) else {
            return;
        };
        let children = children_of(pid);
        kill_9(pid);
        children.iter().for_each(|child| kill_9(*child));
        let started = Instant::now();
        while alive(pid) || children.iter().any(|child| alive(*child)) {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "killed processes stay"
            );
            tokio_block(|| std::thread::sleep(Duration::from_millis(5)));
        }
        // The pid file of a dead server is in the way only if its pid is still a zombie's.
        let _ = fs::remove_file(self.dir.join("postmaster.pid"));
    }

    /// Kills one backend with -9: the server restarts itself.
    pub fn kill_backend(&self, pid: i32) {
        kill_9(pid as u32);
    }

    pub async fn connect(&self, db: &str) -> Conn {
        Conn::open(self.port, db, "postgres").await
    }

    /// A program of this server's version, as the server's user, with our port and user set.
    pub fn client(&self, program: &str) -> Command {
        let mut command = as_server(self.bin.join(program));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string());
        command
            .env("PGUSER", "postgres")
            .env("PGOPTIONS", "-c client_min_messages=warning");
        command
    }

    /// Runs a script with psql in a database and returns its output; any error is a panic.
    pub fn psql(&self, db: &str, user: &str, file: &Path) -> String {
        let mut psql = self.client("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            user,
            "-d",
            db,
        ]);
        // Read here: the server's user may not be able to enter the folder that it lies in.
        let script = std::fs::File::open(file).unwrap();
        output(psql.stdin(script))
    }

    fn pg_ctl(&self, verb: &str) -> Command {
        let mut command = as_server(self.bin.join("pg_ctl"));
        command.arg(verb).arg("-D").arg(&self.dir);
        command
    }
}

impl Drop for Server {
    /// Data are gone with the server: hundreds of them would fill a disk. Those of a test that fails
    /// are kept, and all logs are until the end.
    fn drop(&mut self) {
        stop(&self.dir, &self.bin);
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

async fn make_template() -> PathBuf {
    let flags: &[&str] = if world().version >= 18 {
        &["--no-data-checksums"]
    } else {
        &[]
    };
    let server = Server::initialized("template", world().version, flags);
    server.up();
    let admin = server.connect("postgres").await;
    admin.run("CREATE DATABASE mq_template").await;
    server
        .connect("mq_template")
        .await
        .run("CREATE EXTENSION pg_broker")
        .await;
    drop(admin);
    server.down();
    server.into_data()
}

fn note_running(dir: &Path, bin: Option<&Path>) {
    let mut running = RUNNING.lock().unwrap_or_else(|e| e.into_inner());
    let running = running.get_or_insert_with(HashMap::new);
    match bin {
        Some(bin) => running.insert(dir.to_path_buf(), bin.to_path_buf()),
        None => running.remove(dir),
    };
}

fn stop(dir: &Path, bin: &Path) {
    note_running(dir, None);
    if postmaster(dir).is_some() {
        let mut command = as_server(bin.join("pg_ctl"));
        command
            .args(["stop", "-m", "immediate", "-w", "-D"])
            .arg(dir);
        let _ = tokio_block(|| command.output());
    }
}

/// Stops every server of this run; for the end, and for an interrupt.
pub fn stop_all() {
    let running = RUNNING
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .take()
        .unwrap_or_default();
    running.iter().for_each(|(dir, bin)| stop(dir, bin));
}
