//! The narrator's voice: one line an event, with the time and who it is about; in colour when
//! somebody watches, plain when it goes to a file.

use std::io::{IsTerminal, Write};
use std::time::Instant;

pub const BOLD: &str = "1";
pub const DIM: &str = "2";
pub const RED: &str = "1;31";
pub const GREEN: &str = "32";
pub const YELLOW: &str = "33";

pub struct Voice {
    began: Instant,
    coloured: bool,
}

impl Voice {
    pub fn new() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Voice {
            began: Instant::now(),
            coloured: !refused && std::io::stdout().is_terminal(),
        }
    }

    /// `  3.4s  anna    shipped order 7`
    pub fn say(&self, who: &str, text: &str) {
        let time = self.paint(DIM, &format!("{:5.1}s", self.began.elapsed().as_secs_f64()));
        let who = self.paint(colour_of(who), &format!("{who:<6}"));
        self.line(&format!("{time}  {who}  {text}"));
    }

    /// The heading of a new part of the story.
    pub fn heading(&self, text: &str) {
        self.line("");
        self.line(&self.paint(BOLD, text));
    }

    /// Not an event but an explanation.
    pub fn aside(&self, text: &str) {
        self.line(&self.paint(DIM, text));
    }

    /// A reader who has gone (`| head`) is no reason to stop the story half-way.
    pub fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    pub fn paint(&self, colour: &str, text: &str) -> String {
        if self.coloured {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn colour_of(who: &str) -> &'static str {
    match who {
        "shop" => "34",
        "anna" => "35",
        "ben" => "36",
        "carla" => "33",
        "dora" => "32",
        _ => BOLD,
    }
}
