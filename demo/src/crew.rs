//! The consumers as child processes, and the pipe they tell their events through.

use crate::book::{Book, Style};
use crate::event::Event;
use crate::trouble::{Result, Trouble};
use crate::voice::Voice;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

pub struct Crew {
    members: Vec<Member>,
    pipe: PipeWriter,
    book: Arc<Mutex<Book>>,
    changed: Arc<Notify>,
}

struct Member {
    name: &'static str,
    process: Child,
}

impl Crew {
    pub fn new(voice: Arc<Voice>) -> Result<Self> {
        let (reader, pipe) = std::io::pipe()?;
        let book = Arc::new(Mutex::new(Book::default()));
        let changed = Arc::new(Notify::new());
        let crew = Crew {
            members: Vec::new(),
            pipe,
            book: book.clone(),
            changed: changed.clone(),
        };
        std::thread::spawn(move || listen(reader, &book, &changed, &voice));
        Ok(crew)
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn hire(&mut self, name: &'static str, style: Style) -> Result<()> {
        let process = Command::new(std::env::current_exe()?)
            .args(["consumer", style.argument(), name])
            .stdin(Stdio::piped())
            .stdout(self.pipe.try_clone()?)
            .spawn()?;
        self.members.push(Member { name, process });
        Ok(())
    }

    /// kill -9, in the middle of whatever it is doing. Returns its process id and what it held.
    pub fn kill(&mut self, name: &str, style: Style) -> Result<(u32, Vec<i64>)> {
        let position = self.members.iter().position(|m| m.name == name);
        let Some(position) = position else {
            return Err(Trouble::new(format!("{name} does not work here")));
        };
        let mut member = self.members.swap_remove(position);
        let held = {
            // In the book before it happens, so that whatever follows finds its explanation.
            let mut book = self.book();
            book.killed.insert(name.to_owned(), style);
            book.holds(name)
        };
        member.process.kill()?;
        member.process.wait()?;
        Ok((member.process.id(), held))
    }

    /// Waits for something to appear in the book; None when the time is over. A consumer that
    /// ends unasked ends the story.
    pub async fn until<T>(
        &mut self,
        limit: Duration,
        mut found: impl FnMut(&Book) -> Option<T>,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(it) = found(&self.book()) {
                return Ok(Some(it));
            }
            self.all_at_work()?;
            if Instant::now() > deadline {
                return Ok(None);
            }
            drop(tokio::time::timeout(Duration::from_millis(100), self.changed.notified()).await);
        }
    }

    pub async fn all_ready(&mut self) -> Result<()> {
        let names: Vec<_> = self.members.iter().map(|m| m.name).collect();
        self.until(Duration::from_secs(20), |book| {
            names
                .iter()
                .all(|name| book.ready.contains(*name))
                .then_some(())
        })
        .await?
        .ok_or_else(|| Trouble::new("the consumers did not get ready within 20 s"))
    }

    pub fn all_at_work(&mut self) -> Result<()> {
        for member in &mut self.members {
            if let Some(status) = member.process.try_wait()? {
                let name = member.name;
                return Err(Trouble::new(format!("{name} ended unasked: {status}")));
            }
        }
        Ok(())
    }

    /// Everybody finishes what they hold and goes home.
    pub async fn dismiss(&mut self) -> Result<()> {
        for member in &mut self.members {
            drop(member.process.stdin.take());
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        for member in &mut self.members {
            let status = loop {
                if let Some(status) = member.process.try_wait()? {
                    break status;
                }
                if Instant::now() > deadline {
                    return Err(Trouble::new(format!("{} does not go home", member.name)));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            if !status.success() {
                return Err(Trouble::new(format!(
                    "{} ended badly: {status}",
                    member.name
                )));
            }
        }
        self.members.clear();
        self.read_to_here().await
    }

    /// Everything told so far is in the book once our own line, told last, is.
    async fn read_to_here(&mut self) -> Result<()> {
        let name = "the narrator".to_owned();
        let mut line = Event::Ready {
            worker: name.clone(),
        }
        .to_line();
        line.push('\n');
        self.pipe.write_all(line.as_bytes())?;
        self.until(Duration::from_secs(20), |book| {
            book.ready.contains(&name).then_some(())
        })
        .await?
        .ok_or_else(|| Trouble::new("the pipe of events is stuck"))
    }
}

/// Nobody outlives the story, however it ends.
impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            drop(member.process.kill());
            drop(member.process.wait());
        }
    }
}

impl Style {
    fn argument(self) -> &'static str {
        match self {
            Style::Lease => "lease",
            Style::Pop => "pop",
        }
    }
}

fn listen(reader: PipeReader, book: &Mutex<Book>, changed: &Notify, voice: &Voice) {
    for line in BufReader::new(reader).lines() {
        let Ok(line) = line else { break };
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        match Event::parse(&line) {
            Some(event) => book.enter(event, voice),
            None => book.noise.push(line),
        }
        changed.notify_one();
    }
}
