//! From a configuration to the parts that it describes: files read, certificates opened, rules understood. Nothing is
//! started. `check-config`, the start and a reload all come by here, so they find the same mistakes.

use super::cluster;
use crate::auth::Auth;
use crate::bridge::{Plan, tls_settings};
use crate::broker::{Access, Broker, DeniedPublish, Limits, ListenerSettings, OtherUser};
use crate::config::{self, Config, Loaded, Mistake, Mistakes, access};
use crate::env::clock::Clock;
use crate::transport::{CertificateUser, DialTls, Options, Renewal, Tls, TlsProblem, TlsSettings, WebSocket};
use nightjar_policy::{Acl, Policy, Problem, Rules, TopicRule, TopicRules};
use std::path::Path;
use std::sync::Arc;

/// The parts of a node that a configuration describes.
pub struct Parts {
    /// Who may come in, and what each may do.
    pub access: Access,
    /// The limits of the node.
    pub limits: Limits,
    /// The listeners by name, in the configuration's order.
    pub listeners: Vec<(Arc<str>, ListenerSettings)>,
    /// Certificates in use whose files have changed.
    pub renewals: Vec<Renewal>,
    /// The bridges.
    pub bridges: Vec<Plan>,
    /// The cluster, if it is one of several nodes.
    pub cluster: Option<crate::cluster::Settings>,
}

/// What is in use, of which a reload takes over what has not changed.
pub struct Previous<'a> {
    /// The access rules in use.
    pub access: &'a Access,
    /// The TLS of each listener in use.
    pub tls: Vec<Arc<Tls>>,
}

/// Makes the parts.
///
/// # Errors
/// With everything that is wrong in the files that the configuration names.
pub fn parts(loaded: &Loaded, clock: &Clock, previous: Option<&Previous<'_>>) -> Result<Parts, Mistakes> {
    let config = &loaded.config;
    let mut mistakes = Vec::new();
    let mut mistake = |key: String, problem: String| {
        let origin = loaded.origins.get(&key).cloned();
        mistakes.push(Mistake { origin, key, problem });
    };
    let (mut listeners, mut renewals) = (Vec::new(), Vec::new());
    for listener in &config.listeners {
        match tls(listener, previous) {
            Ok((tls, renewal)) => {
                listeners.push((listener.name.as_str().into(), settings(listener, config, tls)));
                renewals.extend(renewal);
            }
            Err(TlsProblem { key, text }) => mistake(format!("listeners.{}.{key}", listener.name), text),
        }
    }
    let mut bridges = Vec::new();
    for bridge in &config.bridges {
        match plan(bridge, config) {
            Ok(plan) => bridges.push(plan),
            Err((key, text)) => mistake(format!("bridges.{}.{key}", bridge.name), text),
        }
    }
    let cluster = cluster::settings(config);
    let cluster =
        cluster.map_err(|TlsProblem { key, text }| mistake(format!("cluster.{key}"), text)).unwrap_or_default();
    let certificates = config.listeners.iter().any(config::Listener::names_by_certificate);
    let auth = Auth::new(&config.auth, certificates, clock.clone(), previous.map(|previous| &previous.access.auth));
    let auth =
        auth.map_err(|problems| problems.into_iter().for_each(|wrong| mistake(wrong.key.to_owned(), wrong.text)));
    let policy = policy(&config.access);
    let policy = policy.map_err(|(key, all)| all.into_iter().for_each(|wrong| mistake(key.to_owned(), wrong)));
    let (Ok(auth), Ok(policy), true) = (auth, policy, mistakes.is_empty()) else { return Err(Mistakes(mistakes)) };
    let access = Access {
        auth,
        policy,
        denied_publish: match config.access.denied_publish {
            config::DeniedPublish::Drop => DeniedPublish::Drop,
            config::DeniedPublish::Disconnect => DeniedPublish::Disconnect,
        },
        other_user: match config.auth.session_of_other_user {
            config::OtherUser::Refuse => OtherUser::Refuse,
            config::OtherUser::End => OtherUser::End,
        },
    };
    Ok(Parts { access, limits: Limits::new(config, None), listeners, renewals, bridges, cluster })
}

impl Parts {
    /// Puts certificates, access and limits in force.
    pub fn apply(self, broker: &Broker) {
        self.renewals.into_iter().for_each(Renewal::commit);
        broker.replace_limits(self.limits);
        broker.replace_access(self.access);
    }
}

/// The TLS of a listener; what is in use already may have to be renewed.
fn tls(
    listener: &config::Listener,
    previous: Option<&Previous<'_>>,
) -> Result<(Option<Arc<Tls>>, Option<Renewal>), TlsProblem> {
    if !listener.is_tls() {
        return Ok((None, None));
    }
    let settings = TlsSettings {
        pairs: listener.certificate.iter().cloned().zip(listener.key.iter().cloned()).collect(),
        client_ca: listener.client_ca.first().cloned(),
        client_required: listener.client_certificate_required,
        crl: listener.crl.first().cloned(),
        user: match listener.identity {
            config::Identity::None => CertificateUser::None,
            config::Identity::CommonName => CertificateUser::CommonName,
            config::Identity::AlternativeName => CertificateUser::AlternativeName,
        },
    };
    // What is in use keeps its sessions, unless a file of it has changed.
    let in_use = previous.and_then(|previous| previous.tls.iter().find(|tls| *tls.settings() == settings));
    match in_use {
        Some(tls) => tls.renewal().map(|renewal| (Some(Arc::clone(tls)), renewal)),
        None => Tls::new(settings).map(|tls| (Some(tls), None)),
    }
}

fn settings(listener: &config::Listener, config: &Config, tls: Option<Arc<Tls>>) -> ListenerSettings {
    let websocket = WebSocket { origins: listener.origins.clone(), paths: listener.paths.clone() };
    let limits = Limits::new(config, Some(listener));
    ListenerSettings {
        address: listener.address.clone(),
        anonymous: listener.anonymous,
        known: None,
        bridge: false,
        max_connections: listener.max_connections,
        connection_rate: listener.connection_rate,
        strict: listener.strict,
        transport: Options {
            mqtt: listener.speaks("mqtt"),
            websocket: listener.speaks("websocket").then_some(websocket),
            tls,
            proxy_protocol: listener.proxy_protocol,
            trusted: listener.trusted_proxies.clone(),
            proxied_user: listener.identity != config::Identity::None,
            first_frame: limits.first_packet(),
        },
        methods: listener.authentication.clone(),
        limits: Arc::new(limits),
    }
}

/// A bridge with its rules understood; else the key and what is wrong.
pub(super) fn plan(bridge: &config::Bridge, config: &Config) -> Result<Plan, (&'static str, String)> {
    let rule = |line: &String| line.parse().map_err(|problem| ("topics", format!("{line:?}: {problem}")));
    let rules: Vec<TopicRule> = bridge.topics.iter().map(rule).collect::<Result<_, _>>()?;
    let rules = TopicRules::new(rules).map_err(|problem| ("topics", problem))?;
    if bridge.address.iter().any(|address| address.scheme.tls) {
        DialTls::new(&tls_settings(bridge)).map_err(|problem| (problem.key, problem.text))?;
    }
    if let Some(path) = &bridge.password_file {
        let read = access::read_text(path);
        read.map_err(|problem| ("password_file", format!("{}: {problem}", path.display())))?;
    }
    let limits = Arc::new(Limits::of_bridge(config, bridge));
    Ok(Plan { bridge: bridge.clone(), rules: Arc::new(rules), limits })
}

/// The rules that the settings name; else the key and what is wrong with its file.
fn policy(settings: &config::Access) -> Result<Policy, (&'static str, Vec<String>)> {
    fn read<T>(
        key: &'static str,
        path: &Path,
        parse: fn(&str, &str) -> Result<T, Vec<Problem>>,
    ) -> Result<T, (&'static str, Vec<String>)> {
        let shown = path.display();
        let text = access::read_text(path).map_err(|why| (key, vec![format!("{shown}: {why}")]))?;
        let all =
            |wrong: Vec<Problem>| wrong.iter().map(|one| format!("{shown}:{}: {}", one.line, one.problem)).collect();
        parse(&path.to_string_lossy(), &text).map_err(|wrong| (key, all(wrong)))
    }
    match (&settings.rules, &settings.mosquitto_acl) {
        (Some(path), _) => read("access.rules", path, Rules::parse).map(Policy::Rules),
        (_, Some(path)) => read("access.mosquitto_acl", path, Acl::parse).map(Policy::Mosquitto),
        _ => Ok(Policy::Open),
    }
}
