//! How a command can fail, as the process's exit code.

use crate::config::Mistakes;
use crate::node;
use crate::store::StoreError;

/// Why a command ended without having done its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong; nothing was started.
    #[error("{mistakes}\nnothing was started: {} in the configuration", count(mistakes))]
    Config {
        /// All that is wrong.
        mistakes: Mistakes,
    },
    /// The input is not as it should be.
    #[error("{0}")]
    Input(Box<dyn std::error::Error + Send + Sync>),
    /// The store is damaged; nothing was changed.
    #[error("{0}")]
    Damaged(Box<dyn std::error::Error + Send + Sync>),
    /// Another process uses the data folder.
    #[error("{0}")]
    Locked(Box<dyn std::error::Error + Send + Sync>),
    /// What the broker answered, or that it did not.
    #[error("{text}")]
    Answered {
        /// The exit code.
        code: u8,
        /// What to tell.
        text: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Failure {
    /// The exit code that scripts and service managers see.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Answered { code, .. } => *code,
            Self::Other(_) => 1,
            Self::Config { .. } | Self::Input(_) => 2,
            Self::Damaged(_) => 3,
            Self::Locked(_) => 4,
        }
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Config { mistakes }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked { .. } => Self::Locked(error.into()),
            error if error.is_damage() => Self::Damaged(error.into()),
            error => Self::Other(error.into()),
        }
    }
}

impl From<node::Error> for Failure {
    fn from(error: node::Error) -> Self {
        match error {
            node::Error::Store(error) => error.into(),
            node::Error::Mistakes(mistakes) => mistakes.into(),
            error => Self::Other(error.into()),
        }
    }
}

fn count(mistakes: &Mistakes) -> String {
    match mistakes.0.len() {
        1 => "1 mistake".to_owned(),
        number => format!("{number} mistakes"),
    }
}
