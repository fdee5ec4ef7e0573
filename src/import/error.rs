//! Why nothing was imported.

use super::load::LoadError;
use crate::config::Mistakes;
use std::path::PathBuf;

/// Why nothing was imported. Nothing is left half written, whichever it is.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The configuration is not one that mosquitto would take.
    #[error("{}\nnothing was imported: {} in mosquitto's configuration", lines.join("\n"), count(lines.len()))]
    Configuration {
        /// All that is wrong, one a line, each with its file and line.
        lines: Vec<String>,
    },
    /// The database is damaged, or no database.
    #[error("{}: at offset {offset}: {what}\nnothing was imported", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What was expected there.
        what: String,
    },
    /// A file cannot be read.
    #[error("{}: {why}\nnothing was imported", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, and what is needed.
        why: String,
    },
    /// There is something already where it would be written.
    #[error("{}\nnothing was imported", .0.join("\n"))]
    Taken(Vec<String>),
    /// What would be written is no configuration of ours.
    #[error("{0}\nnothing was imported: nightjar would not take this configuration")]
    Result(Mistakes),
    /// Something cannot be written.
    #[error("{}: {source}\nnothing was imported", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The data cannot be stored.
    #[error("{0}\nnothing was imported")]
    Load(#[from] LoadError),
}

impl ImportError {
    /// Whether the input is to blame.
    #[must_use]
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Configuration { .. } | Self::Database { .. } | Self::Unreadable { .. } | Self::Result(_))
    }
}

fn count(mistakes: usize) -> String {
    if mistakes == 1 { "1 mistake".to_owned() } else { format!("{mistakes} mistakes") }
}
