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
use parking_lot::Mutex;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

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
    let (level, handle) = reload::Layer::new(filter(log.level));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
    let registry = tracing_subscriber::registry().with(level);
    match log.format {
        Format::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
        Format::Json => {
            let json = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(json).try_init()
        }
    }
    .map_err(|_| Error::Twice)?;
    LEVEL.set((handle, Mutex::new(log.level))).map_err(|_| Error::Twice)?;
    Ok(Guard(()))
}

/// The level of the process's log, which can be changed while it runs.
static LEVEL: OnceLock<(reload::Handle<Targets, Registry>, Mutex<Level>)> = OnceLock::new();

/// How much is logged now; `None` before [`setup`].
#[must_use]
pub fn level() -> Option<Level> {
    LEVEL.get().map(|(_, level)| *level.lock())
}

/// Logs this much from now on.
pub fn set_level(new: Level) {
    if let Some((handle, level)) = LEVEL.get() {
        *level.lock() = new;
        // It fails only when the log is gone, and then nobody reads it.
        let _ = handle.modify(|current| *current = filter(new));
    }
}

/// What is logged at a level. openraft tells at each level what others tell two levels further down, and as an error that it
/// was stopped; what an operator has to know of it, the cluster says.
fn filter(level: Level) -> Targets {
    let (own, raft) = match level {
        Level::Error => (LevelFilter::ERROR, LevelFilter::OFF),
        Level::Warn => (LevelFilter::WARN, LevelFilter::OFF),
        Level::Info => (LevelFilter::INFO, LevelFilter::OFF),
        Level::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        Level::Trace => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    Targets::new().with_default(own).with_target("openraft", raft)
}
