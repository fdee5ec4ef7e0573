//! The log: `tracing`, as text or JSON, to the standard error.
//!
//! Two rules of its own: a log line never makes a connection's thread wait (see `writer`), and nothing that came from the
//! network is logged unless it went through [`escape`].

mod escape;
mod repeats;
mod writer;

pub use escape::{Escaped, escape};
pub use repeats::Repeats;
pub use writer::flush;

use crate::config::{Format, Level, Log};
use std::io::IsTerminal as _;
use tracing_subscriber::filter::LevelFilter;

/// Keeps the log going; what is still on its way is written when this is dropped.
#[derive(Debug)]
#[must_use = "the log ends with it"]
pub struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        flush();
    }
}

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No thread for it.
    #[error("cannot start the log's thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A process has one log.
    #[error("the log is already set up")]
    Twice,
}

/// Sets the log up for the whole process.
pub fn setup(log: &Log) -> Result<Guard, Error> {
    let lost: writer::Lost = match log.format {
        Format::Text => |count| format!("WARN log lines lost count={count}"),
        Format::Json => |count| format!("{{\"level\":\"WARN\",\"message\":\"log lines lost\",\"count\":{count}}}"),
    };
    let writer = writer::start(Box::new(std::io::stderr()), lost)?;
    let builder = tracing_subscriber::fmt().with_max_level(filter(log.level)).with_writer(writer).with_target(false);
    match log.format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    }
    .map_err(|_| Error::Twice)?;
    Ok(Guard(()))
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}
