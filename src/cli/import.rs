//! `nightjar import`: from another broker to this one.

use super::{Failure, print};
use crate::config::{Config, Sources};
use crate::env::clock::Clock;
use crate::import::{Counts, ImportError, LoadError, Plan, Request};
use crate::node;
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a configuration and a data folder of mosquitto's
    #[command(after_help = MOSQUITTO_EXAMPLES)]
    Mosquitto(Mosquitto),
}

const MOSQUITTO_EXAMPLES: &str = "\
Examples:
  nightjar import mosquitto --conf /etc/mosquitto/mosquitto.conf --dry-run
  systemctl stop mosquitto
  nightjar import mosquitto --conf /etc/mosquitto/mosquitto.conf --out /var/lib/nightjar
  nightjar serve --config /var/lib/nightjar/nightjar.toml

Stop mosquitto first: it writes its database as it stops. Its files are read and never changed.
The report has a line for each option: honoured, changed (why), or unsupported (what to do instead).

Exit codes: 0 done, 1 something cannot be written, 2 mosquitto's files are not as they should be.";

#[derive(Debug, Args)]
pub(super) struct Mosquitto {
    /// mosquitto's config file
    #[arg(long, value_name = "FILE")]
    conf: PathBuf,
    /// Its database, if not where the config file says
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// The folder for nightjar.toml and the data
    #[arg(long, value_name = "DIR", default_value = "nightjar")]
    out: PathBuf,
    /// Report, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace a nightjar.toml that is there (never a data folder)
    #[arg(long)]
    force: bool,
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Load(LoadError::Store(error)) => error.into(),
            error if error.is_input() => Self::Input(error.into()),
            error => Self::Other(error.into()),
        }
    }
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    let Command::Mosquitto(Mosquitto { conf, db, out, dry_run, force }) = command;
    let plan = Plan::make(&Request { conf, db, out, force }, Clock::machine().now())?;
    let obstacles = plan.obstacles();
    if !dry_run && !obstacles.is_empty() {
        return Err(ImportError::Taken(obstacles).into());
    }
    print(&plan.report.to_string())?;
    print(&summary(&plan))?;
    if dry_run {
        let obstacles: String = obstacles.iter().map(|line| format!("in the way: {line}\n")).collect();
        return print(&format!("{obstacles}nothing was written (--dry-run)\n"));
    }
    plan.write()?;
    let (config, data) = (plan.config_path(), plan.data_path());
    print(&format!("written: {}, data in {}\n", config.display(), data.display()))?;
    print(&check(&plan))
}

/// What of the data is imported.
fn summary(plan: &Plan) -> String {
    let Some((path, version)) = &plan.database else { return "database: none\n".to_owned() };
    let Counts { sessions, subscriptions, queued, in_flight, to_release, from_clients, retained, .. } = plan.counts();
    let mut text = format!("database: {}, format {version}\n", path.display());
    for (number, what) in [
        (sessions, "sessions"),
        (subscriptions, "subscriptions"),
        (queued, "queued messages"),
        (in_flight, "messages in flight to clients"),
        (to_release, "messages of QoS 2 that clients have, to be released"),
        (from_clients, "messages of QoS 2 from clients, to be released by them"),
        (retained, "retained messages"),
    ] {
        let _ = writeln!(text, "  {number:>10} {what}");
    }
    text
}

/// What a start would find wrong with the files that the configuration names.
fn check(plan: &Plan) -> String {
    let sources = Sources { file: Some(plan.config_path()), ..Sources::default() };
    let found = Config::load(&sources).and_then(|loaded| node::parts(&loaded, &Clock::machine(), None).map(drop));
    match found {
        Ok(()) => String::new(),
        Err(mistakes) => format!("before it can start, this must be mended:\n{mistakes}\n"),
    }
}
