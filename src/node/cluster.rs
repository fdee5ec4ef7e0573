//! The node as one of several: from the configuration to its place in the cluster.

use super::{Error, Inside};
use crate::bridge::Plan;
use crate::broker::{BRIDGE_PREFIX, Broker, Handle, Others};
use crate::cluster::{First, Member, Pace, Security, Settings, Tls, TlsFiles};
use crate::config::Config;
use crate::env::clock::Clock;
use crate::env::task;
use crate::store::{Opened, Store, StoreConfig, StoreError, Unheard};
use crate::transport::TlsProblem;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How many milliseconds clients wait for the bridges to have sessions, and how often that is looked at.
const PREPARING: u64 = 10_000;
const LOOK: Duration = Duration::from_millis(50);

/// A node's place in its cluster, and the thread on which it is kept.
pub(super) struct Membership {
    pub(super) member: Arc<Member>,
    pub(super) thread: JoinHandle<()>,
    /// Told when the thread ends by itself: why.
    ended: Option<oneshot::Receiver<std::io::Error>>,
}

/// What the configuration says of the cluster; `None` for a node alone.
pub(super) fn settings(config: &Config) -> Result<Option<Settings>, TlsProblem> {
    let cluster = &config.cluster;
    let (Some(listen), Some(address)) = (cluster.listen, cluster.advertised()) else { return Ok(None) };
    let security = match (&cluster.ca, &cluster.certificate, &cluster.key) {
        (Some(ca), Some(certificate), Some(key)) => {
            let found_by = cluster.dns.as_deref().and_then(|dns| dns.rsplit_once(':')).map(|(host, _)| host.to_owned());
            let files = TlsFiles { ca: ca.clone(), certificate: certificate.clone(), key: key.clone(), found_by };
            Security::Tls(Tls::read(&files)?)
        }
        _ => Security::Plain,
    };
    let first = match &cluster.dns {
        Some(name) => {
            First::Found { name: name.clone(), count: usize::try_from(cluster.members).unwrap_or(usize::MAX) }
        }
        None if cluster.nodes.is_empty() => First::Unknown,
        None => First::Named(cluster.nodes.clone()),
    };
    Ok(Some(Settings {
        listen,
        address: address.into(),
        name: cluster.name().into(),
        hint: cluster.clients.as_deref().map(Arc::from),
        first,
        replicas: cluster.replicas,
        security,
        pace: Pace { heartbeat: cluster.heartbeat, election: cluster.election, ..Pace::default() },
        folder: config.node.data.clone(),
    }))
}

/// Opens the store for a node alone, or for one of a cluster.
pub(super) fn open(config: StoreConfig, in_cluster: bool) -> Result<Opened, StoreError> {
    let opened = Store::open(config.clone())?;
    if !in_cluster || !opened.has_state() {
        return Ok(opened);
    }
    // What is only in the journal of a node alone goes to the tables, where a cluster takes it up.
    opened.start(Box::new(Unheard))?.stop();
    Store::open(config)
}

/// This node in its cluster, if the settings say so; nothing runs yet.
pub(super) fn member(opened: &Opened, settings: Option<Settings>, clock: &Clock) -> Result<Option<Arc<Member>>, Error> {
    Ok(settings.map(|settings| Member::new(opened, settings, clock.clone())).transpose()?)
}

pub(super) fn others(member: Option<&Arc<Member>>) -> Option<Arc<dyn Others>> {
    member.map(|member| Arc::clone(member) as _)
}

impl Membership {
    /// Begins it.
    pub(super) fn begin(member: Arc<Member>, opened: Opened, broker: &Arc<Broker>) -> Result<Self, Error> {
        let (why, ended) = oneshot::channel();
        let (on, broker) = (Arc::clone(&member), Arc::clone(broker));
        let thread = task::thread("cluster", move || {
            if let Err(error) = on.run(opened, &broker) {
                tracing::error!(%error, "no member of the cluster any more");
                // Nobody hears of it where the node is being stopped.
                let _ = why.send(error);
            }
        })?;
        Ok(Self { member, thread, ended: Some(ended) })
    }

    pub(super) fn take_ended(&mut self) -> oneshot::Receiver<std::io::Error> {
        self.ended.take().unwrap_or_else(|| oneshot::channel().1)
    }
}

/// The bridges that this node is to run, when they are others; never, for a node alone.
pub(super) async fn next_owned(owned: &mut Option<watch::Receiver<BTreeSet<String>>>) -> BTreeSet<String> {
    if let Some(owned) = owned
        && owned.changed().await.is_ok()
    {
        return owned.borrow_and_update().clone();
    }
    std::future::pending().await
}

/// Runs these bridges and no others. Whoever stops says so to the cluster, where another waits for that.
pub(super) fn own(inside: &Inside, membership: Option<&Membership>, owned: BTreeSet<String>) -> Result<(), Error> {
    let Some(Membership { member, .. }) = membership else { return Ok(()) };
    for (name, over) in inside.bridges.own(owned)? {
        let (member, handle) = (Arc::clone(member), Handle::new(Arc::clone(&inside.broker)));
        task::spawn(async move {
            over.closed().await;
            member.bridge_stopped(name.clone());
            if member.is_unwanted_bridge(&name) {
                handle.end_session(&format!("{BRIDGE_PREFIX}{name}")).await;
            }
        });
    }
    Ok(())
}

/// Why the membership ended by itself; never, for a node alone.
pub(super) async fn ended(ended: Option<oneshot::Receiver<std::io::Error>>) -> std::io::Error {
    match ended {
        Some(ended) => match ended.await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Waits until this node is in touch with its cluster, and has that run these bridges; returns when each has its session, so
/// that nothing that is published from then on is lost to it.
pub(super) async fn ready(member: Option<Arc<Member>>, inside: Arc<Inside>, plans: Vec<Plan>) -> Result<(), Error> {
    let Some(member) = member else { return std::future::pending().await };
    if member.readiness().wait_for(|ready| *ready).await.is_err() {
        return std::future::pending().await;
    }
    let names: BTreeSet<String> = plans.iter().map(|plan| plan.bridge.name.clone()).collect();
    let handle = Handle::new(Arc::clone(&inside.broker));
    inside.bridges.replace(plans)?;
    member.want_bridges(names.clone());
    let begin = inside.clock.tick();
    let is_there = |name: &String| handle.has_session(&format!("{BRIDGE_PREFIX}{name}"));
    while !names.iter().all(is_there) && inside.clock.tick().since(begin) < PREPARING {
        task::sleep(LOOK).await;
    }
    Ok(())
}
