//! The command line: `nightjar serve · check-config · ctl · health · passwd · cert · import · version ·
//! store`.
//!
//! Exit codes: 0 a clean end, 1 anything else that went wrong, 2 a mistake in the configuration or the command line,
//! 3 the store is damaged, 4 another process uses the data folder; of `ctl` also 5 not found, 6 refused, 7 not reached.

mod cert;
mod ctl;
mod health;
mod import;
mod outcome;
mod passwd;
mod serve;
mod store;

pub use outcome::Failure;

use crate::config::{Config, Sources};
use crate::env::clock::Clock;
use crate::node;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  nightjar                                   serve this machine alone, data in ./nightjar-data
  nightjar serve --config /etc/nightjar.toml
  nightjar serve --listen 0.0.0.0:1883 --anonymous
  nightjar check-config --config /etc/nightjar.toml --effective
  nightjar import mosquitto --conf /etc/mosquitto/mosquitto.conf --dry-run

Exit codes: 0 clean end, 1 failure, 2 mistake in the configuration, 3 the store is damaged,
4 another process uses the data folder.";

const SERVE_EXAMPLES: &str = "\
Examples:
  nightjar serve
  nightjar serve --config /etc/nightjar.toml
  nightjar serve --data /var/lib/nightjar --listen 0.0.0.0:1883 --listen '[::]:1883' --anonymous
  nightjar serve --set store.durability=interval --set log.format=json
  NIGHTJAR_LOG__LEVEL=debug nightjar serve";

const CHECK_EXAMPLES: &str = "\
Examples:
  nightjar check-config --config /etc/nightjar.toml
  nightjar check-config --config /etc/nightjar.toml --effective | grep -v '# default'";

const STORE_EXAMPLES: &str = "\
Examples:
  nightjar store export --data /var/lib/nightjar > rescued.txt
  nightjar store set-aside --data /var/lib/nightjar
  nightjar store recover --data /var/lib/nightjar --i-may-lose-acknowledged-messages";

const CTL_EXAMPLES: &str = "\
Examples:
  nightjar ctl status
  nightjar ctl clients list --user ann
  nightjar ctl explain gateway-01 sensors/7
  nightjar ctl trace --topic 'sensors/#' --for 30s
  nightjar ctl --url http://127.0.0.1:9883 --token-file admin.token reload

Without --url it speaks to the admin socket in the data folder, which needs no token for the user
that the broker runs as.

Exit codes: 0 done, 1 failure, 2 usage, 5 not found, 6 refused, 7 the broker cannot be reached.";

const HEALTH_EXAMPLES: &str = "\
Examples:
  nightjar health --data /var/lib/nightjar
  nightjar health --live --url http://127.0.0.1:9883";

const PASSWD_EXAMPLES: &str = "\
Examples:
  nightjar passwd add /etc/nightjar/passwords ann
  echo -n 'secret' | nightjar passwd add --stdin --scram /etc/nightjar/passwords bob
  nightjar passwd check /etc/nightjar/passwords ann";

const CERT_EXAMPLES: &str = "\
Examples:
  nightjar cert dev ./tls --name broker.example.org
  nightjar cert dev ./tls --node node1 --node node2 --node node3
  nightjar cert show ./tls/server.crt";

const IMPORT_EXAMPLES: &str = "\
Examples:
  nightjar import mosquitto --conf /etc/mosquitto/mosquitto.conf --dry-run
  nightjar import mosquitto --conf /etc/mosquitto/mosquitto.conf --out /var/lib/nightjar";

/// An MQTT broker in which an acknowledgement says what is durably true.
#[derive(Debug, Parser)]
#[command(name = "nightjar", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (the default)
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Settings),
    /// Check the configuration and start nothing
    #[command(after_help = CHECK_EXAMPLES)]
    CheckConfig {
        #[command(flatten)]
        settings: Settings,
        /// Print every setting and where its value came from
        #[arg(long)]
        effective: bool,
    },
    /// Ask a broker that runs, and tell it things
    #[command(after_help = CTL_EXAMPLES)]
    Ctl(ctl::Ctl),
    /// Whether a broker is well: exit code 0 if it is
    #[command(after_help = HEALTH_EXAMPLES)]
    Health(health::Health),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    Man {
        /// The folder
        dir: PathBuf,
    },
    /// Look after the users of a password file
    #[command(subcommand, after_help = PASSWD_EXAMPLES)]
    Passwd(passwd::Command),
    /// Make certificates for trying out TLS, and look at others
    #[command(subcommand, after_help = CERT_EXAMPLES)]
    Cert(cert::Command),
    /// Move in from another broker
    #[command(subcommand, after_help = IMPORT_EXAMPLES)]
    Import(import::Command),
    /// Print the version
    Version,
    /// Look after the data folder while no broker uses it
    #[command(subcommand, after_help = STORE_EXAMPLES)]
    Store(store::Command),
    /// Print the page of the manual or the example file that describe every setting
    #[command(hide = true)]
    ConfigDocs {
        /// The example config file instead of the page
        #[arg(long)]
        example: bool,
        /// The page of the metrics instead
        #[arg(long, conflicts_with = "example")]
        metrics: bool,
    },
}

/// Where the configuration comes from.
#[derive(Debug, Default, Args)]
struct Settings {
    /// The config file (or the variable NIGHTJAR_CONFIG); without one, the built-in defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder that the data is kept in
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Listen here, and not where the file says; can be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Let everyone in on every listener
    #[arg(long)]
    anonymous: bool,
    /// Set one setting; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    fn sources(self, environment: Vec<(OsString, OsString)>) -> Sources {
        let Self { config: file, data, listen, anonymous, set } = self;
        Sources { file, environment, set, data, listen, anonymous, overlaid: None }
    }
}

/// Does what the command line asks, and says how it went.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment: Vec<_> = std::env::vars_os().collect();
    let done = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(settings) => serve::serve(&settings.sources(environment)),
        Command::CheckConfig { settings, effective } => check_config(&settings.sources(environment), effective),
        Command::Version => print(&format!("nightjar {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Ctl(ctl) => ctl::run(ctl, environment),
        Command::Health(health) => health::run(health, environment),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "nightjar", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man { dir } => std::fs::create_dir_all(&dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &dir))
            .map_err(|error| Failure::Other(format!("{}: {error}", dir.display()).into())),
        Command::Passwd(command) => passwd::run(&command),
        Command::Cert(command) => cert::run(&command),
        Command::Import(command) => import::run(command),
        Command::Store(command) => store::run(&command),
        Command::ConfigDocs { metrics: true, .. } => print(&crate::admin::manual()),
        Command::ConfigDocs { example, .. } => print(&if example { Config::example() } else { Config::manual() }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The last words of a broker that fails belong behind its log.
            crate::telemetry::flush();
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn check_config(sources: &Sources, effective: bool) -> Result<(), Failure> {
    let loaded = Config::load(sources)?;
    // Files that it names are opened, certificates and all; nothing is started.
    node::parts(&loaded, &Clock::machine(), None)?;
    if effective {
        return print(&loaded.effective());
    }
    match sources.file() {
        Some(path) => print(&format!("{}: no mistakes found\n", path.display())),
        None => print("no config file: the built-in defaults, no mistakes found\n"),
    }
}

/// Writes to the standard output. Whoever has stopped reading has seen enough: that is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Other(error.into())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves_with_the_same_flags() {
        for line in [&["nightjar", "--listen", "[::1]:0"][..], &["nightjar", "serve", "--listen", "[::1]:0"][..]] {
            let cli = Cli::parse_from(line);
            let Command::Serve(settings) = cli.command.unwrap_or(Command::Serve(cli.serve)) else {
                panic!("{line:?} does not serve")
            };
            assert_eq!(settings.listen, ["[::1]:0"]);
        }
    }
}
