//! A new configuration for a node that runs: understood whole before anything is changed, or nothing is.

use super::operator::rules;
use super::parts::{Previous, parts};
use super::{Error, Inside, State, unix_mode};
use crate::broker::Limits;
use crate::config::{Changes, Config, Loaded, Mistakes, Sources};
use crate::telemetry;
use crate::transport::Tls;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error as ThisError;

/// Days before its end from which on a certificate's expiry is a warning.
const WARN_DAYS: u64 = 14;
const DAY_MILLIS: u64 = 86_400_000;

/// Why a new configuration was not put in force. Everything stays as it was.
#[derive(Debug, ThisError)]
pub enum ReloadError {
    /// It has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
    /// The node has only begun.
    #[error("this node has not let anybody in yet; try again when it is ready")]
    NotOpen,
    /// A new listener cannot be opened.
    #[error("{0}")]
    Listen(String),
    /// What was changed cannot be kept.
    #[error("{}: {source}", path.display())]
    Keep {
        /// The file that it was to be kept in.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Inside {
    /// Reads the configuration again and puts it in force; what was changed, and what waits for a restart.
    pub(super) fn reload(&self) -> Result<Changes, ReloadError> {
        let result = self.try_reload();
        match &result {
            Ok(changes) if changes.needs_restart.is_empty() => {
                tracing::info!(changed = changes.applied.join(" "), "reloaded");
            }
            Ok(changes) => {
                let (changed, restart) = (changes.applied.join(" "), changes.needs_restart.join(" "));
                tracing::warn!(changed, restart, "reloaded, but some settings take effect at a restart alone");
            }
            Err(error) => tracing::error!(%error, "not reloaded: everything stays as it was"),
        }
        result
    }

    fn try_reload(&self) -> Result<Changes, ReloadError> {
        let mut state = self.state.lock();
        let overlaid = state.kept.overlaid()?;
        let sources = Sources { overlaid: Some(overlaid), ..self.sources.clone() };
        let loaded = Config::load(&sources)?;
        self.take_up(&mut state, loaded, |_| Ok(()))
    }

    /// Puts a configuration in force. `keep` is called when nothing else can fail any more.
    pub(super) fn take_up(
        &self,
        state: &mut State,
        loaded: Loaded,
        keep: impl FnOnce(&mut State) -> Result<(), ReloadError>,
    ) -> Result<Changes, ReloadError> {
        if !state.doors.are_open() {
            // What it begins with is on its way, and may be in the way of what is new.
            return Err(ReloadError::NotOpen);
        }
        let changes = state.loaded.config.changes(&loaded.config);
        let access = self.broker.access();
        let previous = Previous { access: &access, tls: state.doors.tls() };
        let mut new = parts(&loaded, &self.clock, Some(&previous))?;
        let listeners = std::mem::take(&mut new.listeners);
        let (bridges, new_cluster) = (std::mem::take(&mut new.bridges), new.cluster.take());
        let names = bridges.iter().map(|plan| plan.bridge.name.clone()).collect();
        let backlog = loaded.config.limits.backlog;
        let change = state.doors.prepare(listeners, backlog, |name| unix_mode(&loaded.config, name));
        let change = change.map_err(|error: Error| ReloadError::Listen(error.to_string()))?;
        keep(state)?;
        // From here on nothing fails.
        state.doors.apply(change);
        state.doors.limit_console(Arc::new(Limits::new(&loaded.config, None)));
        new.apply(&self.broker);
        self.broker.drop_revoked();
        if let Err(error) = self.bridges.replace(bridges) {
            tracing::error!(%error, "a bridge cannot be started");
        }
        if let Some(member) = &self.member {
            member.want_bridges(names);
            if let Some(cluster) = new_cluster {
                member.secure(cluster.security);
            }
        }
        telemetry::set_level(loaded.config.log.level);
        if let Some(admin) = &*self.admin.lock() {
            admin.replace(rules(&loaded.config));
        }
        state.loaded = loaded;
        Ok(changes)
    }

    /// Takes certificates up that have changed, and warns of those that expire.
    pub(super) fn look_at_certificates(&self) {
        let listeners: Vec<(Arc<str>, Arc<Tls>)> = {
            let state = self.state.lock();
            let with_tls =
                |listener: &Arc<crate::broker::Listener>| Some((Arc::clone(&listener.name), listener.tls()?));
            state.doors.listeners().iter().filter_map(with_tls).collect()
        };
        let now = self.clock.now();
        let mut renewed = false;
        for (name, tls) in listeners {
            match tls.renewal() {
                Ok(None) => {}
                Ok(Some(renewal)) => {
                    renewal.commit();
                    renewed = true;
                    tracing::info!(listener = %name, "certificates read again");
                    if let Some(until) = tls.expires().filter(|until| until.0 < now.0 + WARN_DAYS * DAY_MILLIS) {
                        let days = until.0.saturating_sub(now.0) / DAY_MILLIS;
                        tracing::warn!(listener = %name, days, "a certificate expires soon");
                    }
                }
                Err(problem) => tracing::error!(listener = %name, %problem, "certificates stay as they were"),
            }
        }
        if renewed {
            self.broker.drop_revoked();
        }
    }
}
