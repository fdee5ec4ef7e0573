//! What the admin door asks of the node.

use super::Inside;
use super::reload::ReloadError;
use crate::admin::{
    self, BridgeChange, BridgeRefused, BridgeStatus, ListenerStatus, MappedTopic, Operator, Reloaded, Rules, file_token,
};
use crate::broker::inspect::Time;
use crate::broker::{Adopted, BoxFuture, Handle, Listener};
use crate::cluster::{Command, Refused, Status};
use crate::config::{Config, Level};
use crate::telemetry;
use nightjar_policy::{Rights, Who};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The names of the log's levels.
const LEVELS: &[(&str, Level)] = &[
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];

impl Operator for Inside {
    fn reload(&self) -> Result<Reloaded, Vec<String>> {
        match Inside::reload(self) {
            Ok(changes) => Ok(Reloaded { applied: changes.applied, needs_restart: changes.needs_restart }),
            Err(ReloadError::Mistakes(mistakes)) => Err(mistakes.0.iter().map(ToString::to_string).collect()),
            Err(other) => Err(vec![other.to_string()]),
        }
    }

    fn effective(&self) -> String {
        self.state.lock().loaded.effective()
    }

    fn log_level(&self) -> &'static str {
        let level = telemetry::level();
        LEVELS.iter().find(|(_, of)| Some(*of) == level).map_or("info", |(name, _)| name)
    }

    fn set_log_level(&self, level: &str) -> bool {
        let found = LEVELS.iter().find(|(name, _)| *name == level);
        if let Some((_, level)) = found {
            telemetry::set_level(*level);
        }
        found.is_some()
    }

    fn rights(&self, user: Option<&str>, client_id: &str, groups: &[Arc<str>]) -> Rights {
        self.broker.access().policy.rights(&Who { user, client_id, groups, grants: None })
    }

    fn adopt(&self, adopted: Adopted) {
        self.state.lock().doors.adopt(adopted);
    }

    fn listeners(&self) -> Vec<ListenerStatus> {
        self.state.lock().doors.listeners().iter().map(|listener| status(listener)).collect()
    }

    fn bridges(&self) -> Vec<BridgeStatus> {
        self.bridge_statuses()
    }

    fn bridge(&self, name: &str) -> Option<BridgeStatus> {
        self.bridge_status(name)
    }

    fn map_topic(&self, bridge: &str, topic: &str) -> Option<MappedTopic> {
        self.bridges.one(bridge).map(|shown| super::bridges::map(&shown.plan, topic))
    }

    fn change_bridge(&self, name: &str, change: BridgeChange) -> Result<(), BridgeRefused> {
        Inside::change_bridge(self, name, change)
    }

    fn cluster(&self) -> Option<Status> {
        self.member.as_ref().map(|member| member.status())
    }

    fn command_cluster(&self, command: Command) -> Option<BoxFuture<Result<Status, Refused>>> {
        let member = Arc::clone(self.member.as_ref()?);
        Some(Box::pin(async move { member.command(command).await }))
    }
}

fn status(listener: &Listener) -> ListenerStatus {
    let settings = listener.settings();
    let spoken = [("mqtt", settings.transport.mqtt), ("websocket", settings.transport.websocket.is_some())];
    let tls = settings.transport.tls.as_ref();
    ListenerStatus {
        name: listener.name.to_string(),
        address: settings.address.to_string(),
        transports: spoken.into_iter().filter(|(_, speaks)| *speaks).map(|(name, _)| name).collect(),
        tls: tls.is_some(),
        anonymous: settings.anonymous,
        connections: listener.connections(),
        max_connections: settings.max_connections,
        certificate_expires: tls.and_then(|tls| tls.expires()).map(Time),
    }
}

/// Opens the admin door, unless it is off.
pub(super) fn open(inside: &Arc<Inside>) -> io::Result<()> {
    let settings = {
        let state = inside.state.lock();
        let config = &state.loaded.config;
        admin::Settings { address: config.admin.address, socket: socket(config), rules: rules(config) }
    };
    if settings.address.is_none() && settings.socket.is_none() {
        return Ok(());
    }
    let chosen = inside.state.lock().loaded.config.admin.socket.is_some();
    let operator = || Arc::clone(inside) as Arc<dyn Operator>;
    let handle = Handle::new(Arc::clone(&inside.broker));
    let server = match admin::start(settings.clone(), handle.clone(), operator()) {
        // Nobody asked for a socket: where there can be none (a path that is too long) the rest is still of use.
        Err(error) if settings.socket.is_some() && !chosen => {
            let rest = admin::Settings { socket: None, ..settings };
            let server = admin::start(rest, handle, operator())?;
            tracing::warn!(%error, "the admin door has no Unix socket");
            server
        }
        other => other?,
    };
    *inside.admin.lock() = Some(server);
    Ok(())
}

/// The Unix socket of the admin door.
fn socket(config: &Config) -> Option<PathBuf> {
    match config.admin.socket.as_deref() {
        Some("off") => None,
        Some(path) => Some(path.into()),
        None => Some(config.node.data.join("admin.sock")),
    }
}

/// What a reload may change of the admin door.
pub(super) fn rules(config: &Config) -> Rules {
    let admin = &config.admin;
    let token = admin.token.as_ref().map(|token| token.reveal().to_owned()).or_else(|| {
        let path = config.node.data.join("admin.token");
        match file_token(&path) {
            Ok(token) => Some(token),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, %path, "the admin door has no token (the setting is admin.token)");
                None
            }
        }
    });
    Rules {
        token,
        read_token: admin.read_token.as_ref().map(|token| token.reveal().to_owned()),
        open_metrics: admin.open_metrics,
        page: admin.page,
        max_body: admin.max_body,
    }
}
