//! `nightjar store`: rescue work on a data folder that no broker uses.

use super::Failure;
use crate::store;
use clap::Subcommand;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write all that can be read to the standard output, damaged or not
    Export {
        /// The data folder
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Rename a damaged data folder, so that the broker can start with an empty one
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
    let mut out = BufWriter::new(std::io::stdout().lock());
    store::export(folder, &mut out)?;
    out.flush().map_err(|error| Failure::Other(error.into()))
}

fn set_aside(folder: &Path) -> Result<(), Failure> {
    let aside = store::set_aside(folder)?;
    super::print(&format!("{} is now {}\n", folder.display(), aside.display()))
}
