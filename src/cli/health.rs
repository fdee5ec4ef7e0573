//! `nightjar health`: whether a broker is well, for containers and scripts.

use super::Failure;
use super::ctl::Place;
use clap::Args;
use hyper::Method;
use serde_json::Value;
use std::ffi::OsString;
use std::fmt::Write as _;

/// What to ask.
#[derive(Debug, Args)]
pub(super) struct Health {
    #[command(flatten)]
    place: Place,
    /// Ask only whether it is alive, not whether it is ready to serve
    #[arg(long)]
    live: bool,
}

/// Asks, and prints each check; fails if one of them does.
pub(super) fn run(health: Health, environment: Vec<(OsString, OsString)>) -> Result<(), Failure> {
    let path = if health.live { "/livez" } else { "/readyz" };
    let (status, body) = health.place.client(environment)?.exchange(Method::GET, path, None)?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut told = String::new();
    for check in answer["checks"].as_array().into_iter().flatten() {
        let mark = if check["ok"] == true { "ok" } else { "NO" };
        let _ = writeln!(
            told,
            "{mark}  {}: {}",
            check["name"].as_str().unwrap_or_default(),
            check["detail"].as_str().unwrap_or_default()
        );
    }
    super::print(&told)?;
    if status.is_success() { Ok(()) } else { Err(Failure::Other("not well".into())) }
}
