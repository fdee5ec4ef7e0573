//! `nightjar store`: rescue work on a data folder that no broker uses.

use super::Failure;
use crate::cluster::{self, RecoverError, Recovered};
use crate::env::clock::Clock;
use crate::store::{self, Store, StoreConfig};
use clap::Subcommand;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

const RECOVER_NOTES: &str = "\
Only when a majority of the nodes is lost for good: else start them, or replace them one by one
(nightjar ctl cluster replace). Take the node that has the most, and stop it first.

What may be lost: messages, subscriptions and sessions that the others had acknowledged and this node had not
received yet. What it had received, but nobody had acknowledged, is taken for good. The other nodes' data folders
are refused from then on: with empty ones they join again.";

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
    /// Make one node that is left of a cluster a cluster of its own, when the others are lost for good
    #[command(after_help = RECOVER_NOTES)]
    Recover {
        /// The data folder of the node, which is stopped
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Do it: what the lost nodes had acknowledged without this one may be lost
        #[arg(long)]
        i_may_lose_acknowledged_messages: bool,
    },
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Export { data } => export(data),
        Command::SetAside { data } => set_aside(data),
        Command::Recover { data, i_may_lose_acknowledged_messages } => recover(data, *i_may_lose_acknowledged_messages),
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

fn recover(folder: &Path, may_lose: bool) -> Result<(), Failure> {
    if !may_lose {
        let text = format!("{RECOVER_NOTES}\n\nNothing was done: it takes --i-may-lose-acknowledged-messages.");
        return Err(Failure::Answered { code: 1, text });
    }
    let opened = Store::open(StoreConfig::new(folder))?;
    let recovered = cluster::recover(opened, folder, &Clock::machine()).map_err(|error| match error {
        RecoverError::Store(error) => error.into(),
        error => Failure::Other(error.into()),
    })?;
    let Recovered { cluster, node, gone } = recovered;
    let gone = gone.iter().map(|name| crate::telemetry::escape(name).to_string()).collect::<Vec<_>>().join(", ");
    let node = crate::telemetry::escape(&node).to_string();
    super::print(&format!(
        "{node} is a cluster of its own now, {cluster}. Given up: {gone}. Start it, then the others with empty data \
         folders.\n"
    ))
}
