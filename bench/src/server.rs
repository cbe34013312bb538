//! A private server for one run: its own data directory, its own port, gone at the end.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pg_broker_bench_common::Result;
use pg_broker_bench_common::machine::output;

/// The same for every side. Checkpoints and autovacuum are kept out of the measured time: the
/// program vacuums and checkpoints itself between rounds.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "600"),
    ("shared_buffers", "1GB"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("wal_level", "replica"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
    ("jit", "off"),
    ("log_min_messages", "warning"),
    ("log_min_error_statement", "error"),
    ("client_min_messages", "warning"),
];

pub struct Server {
    bin: PathBuf,
    scripts: PathBuf,
    data: PathBuf,
    pub port: u16,
    keep: bool,
    pub settings: Vec<(String, String)>,
}

impl Server {
    pub fn start(
        root: &Path,
        pg: &str,
        pgbin: Option<&Path>,
        preload: bool,
        more: &[String],
        keep: bool,
    ) -> Result<Server> {
        let scripts = root.join("scripts");
        let bin = match pgbin {
            Some(dir) => dir.to_path_buf(),
            None => PathBuf::from(output(Command::new(scripts.join("pgbin")).arg(pg))?),
        };
        let work = output(Command::new(scripts.join("workdir")).arg(format!("bench-{pg}")))?;
        let data = PathBuf::from(work).join("data");
        let mut settings: Vec<(String, String)> = SETTINGS
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        if preload {
            settings.push(("shared_preload_libraries".into(), "pg_broker".into()));
        }
        for pair in more {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("--set {pair}: NAME=VALUE"))?;
            settings.retain(|(known, _)| known != name);
            settings.push((name.into(), value.into()));
        }

        Server {
            bin,
            scripts,
            data,
            port: 0,
            keep,
            settings,
        }
        .launch()
    }

    /// Another server like this one, beside it; from another directory of programs, if one is named.
    pub fn twin(&self, name: &str, bin: Option<&Path>) -> Result<Server> {
        let work = self.data.parent().and_then(Path::file_name);
        let work = work.map(|name| name.to_string_lossy()).unwrap_or_default();
        let work = format!("{work}-{name}");
        let work = output(Command::new(self.scripts.join("workdir")).arg(work))?;
        Server {
            bin: bin.unwrap_or(&self.bin).to_path_buf(),
            scripts: self.scripts.clone(),
            data: PathBuf::from(work).join("data"),
            port: 0,
            keep: self.keep,
            settings: self.settings.clone(),
        }
        .launch()
    }

    fn launch(mut self) -> Result<Server> {
        self.port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        self.clear()?;
        self.initdb()?;
        self.configure()?;
        self.pg_ctl(&["-w", "-t", "60", "-l", &self.log(), "start"])
            .map_err(|error| {
                let log = output(self.run("cat").arg(self.log())).unwrap_or_default();
                format!("{error}\n{log}")
            })?;
        Ok(self)
    }

    /// With a password, which nobody asks for: pgmq's installer takes no URL without one.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:none@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// A command as the user that servers run as.
    fn run(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(self.scripts.join("as-server"));
        command.arg(program.as_ref());
        command
    }

    fn log(&self) -> String {
        self.data.with_extension("log").display().to_string()
    }

    fn initdb(&self) -> Result<()> {
        let initdb = |locale: &str| {
            output(
                self.run(self.bin.join("initdb"))
                    .args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"])
                    .arg(format!("--locale={locale}"))
                    .arg("-D")
                    .arg(&self.data),
            )
        };
        initdb("C.UTF-8").or_else(|_| initdb("C")).map(drop)
    }

    fn configure(&self) -> Result<()> {
        let mut text = format!("port = {}\n", self.port);
        for (name, value) in &self.settings {
            text.push_str(&format!("{name} = '{value}'\n"));
        }
        let mut child = self
            .run("tee")
            .arg("-a")
            .arg(self.data.join("postgresql.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            std::io::Write::write_all(&mut stdin, text.as_bytes())?;
        }
        if !child.wait()?.success() {
            return Err("could not write postgresql.conf".into());
        }
        Ok(())
    }

    fn pg_ctl(&self, words: &[&str]) -> Result<()> {
        // The server inherits what we give it, so nothing of ours may be a pipe here.
        let status = self
            .run(self.bin.join("pg_ctl"))
            .arg("-D")
            .arg(&self.data)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("pg_ctl {words:?} failed").into())
        }
    }

    /// Stops what an interrupted run left in the data directory, and removes it.
    fn clear(&self) -> Result<()> {
        if self
            .run("test")
            .arg("-e")
            .arg(self.data.join("postmaster.pid"))
            .status()?
            .success()
        {
            // A stale pid file makes pg_ctl fail; then there is nothing to stop.
            let _ = self.pg_ctl(&["-m", "immediate", "-w", "stop"]);
        }
        output(self.run("rm").arg("-rf").arg(&self.data).arg(self.log())).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let gone = match self.keep {
            true => self.pg_ctl(&["-m", "fast", "-w", "-t", "120", "stop"]),
            false => self.clear(),
        };
        if let Err(error) = gone {
            eprintln!(
                "bench: could not stop the server in {}: {error}",
                self.data.display()
            );
        }
    }
}
