//! What can go wrong, as one sentence for the person at the terminal.

use std::fmt;

pub struct Trouble(String);

pub type Result<T> = std::result::Result<T, Trouble>;

impl Trouble {
    pub fn new(text: impl Into<String>) -> Self {
        Trouble(text.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Trouble(error.to_string())
    }
}

/// The driver's own text is only "db error": what the server said is what helps.
impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            let cause = std::error::Error::source(&error).map(|c| format!(": {c}"));
            return Trouble(format!("{error}{}", cause.unwrap_or_default()));
        };
        let mut text = format!("{} {}: {}", db.severity(), db.code().code(), db.message());
        for (label, part) in [
            ("DETAIL", db.detail()),
            ("HINT", db.hint()),
            ("WHERE", db.where_()),
        ] {
            if let Some(part) = part {
                text.push_str(&format!("\n  {label}: {part}"));
            }
        }
        Trouble(text)
    }
}
