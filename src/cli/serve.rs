//! `nightjar serve`.

use super::Failure;
use crate::config::{Config, Durability, Sources};
use crate::node;
use crate::telemetry;
use tracing::{info, warn};

/// Runs the broker until it is told to stop.
pub(super) fn serve(sources: &Sources) -> Result<(), Failure> {
    let loaded = Config::load(sources)?;
    let _log = telemetry::setup(&loaded.config.log).map_err(|error| Failure::Other(error.into()))?;
    announce(sources, &loaded.config);
    Ok(node::run(sources, loaded)?)
}

/// What is about to run, so that nobody has to guess whether the file was read or whom a listener lets in.
fn announce(sources: &Sources, config: &Config) {
    let version = env!("CARGO_PKG_VERSION");
    match sources.file() {
        Some(path) => info!(version, config = %path.display(), "nightjar starts"),
        None => info!(version, config = "none, built-in defaults", "nightjar starts"),
    }
    info!(data = %config.node.data.display(), durability = %config.store.durability, "store");
    if config.store.durability != Durability::Sync {
        warn!(durability = %config.store.durability, "acknowledged messages can be lost by a power cut, as configured");
    }
    for listener in &config.listeners {
        let protocols = listener.protocols.join("+");
        info!(
            name = %listener.name, address = %listener.address, protocols, tls = listener.is_tls(),
            anonymous = listener.anonymous, "listener"
        );
    }
}
