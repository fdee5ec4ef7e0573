//! `nightjar store`: rescue work on a data folder that no broker uses.

use super::Failure;
use clap::Subcommand;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write all that can be read to the standard output, damaged or not
    Export {
        /// The data folder
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Move a damaged store out of the way, within the data folder, so that the broker can start with an empty one
    SetAside {
        /// The data folder
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Export { data } => export(data),
        Command::SetAside { data } => set_aside(data),
    }
}

fn export(folder: &Path) -> Result<(), Failure> {
    Err(Failure::Other(format!("{}: this build has no store in it", folder.display()).into()))
}

fn set_aside(folder: &Path) -> Result<(), Failure> {
    Err(Failure::Other(format!("{}: this build has no store in it", folder.display()).into()))
}
