//! Who is connected.

use super::page::Paging;
use super::{Page, SubscriptionOfClient, Time, WillSummary};
use crate::broker::Handle;
use crate::broker::peer::{Close, Peer};
use crate::broker::sending::Figures;
use nightjar_base::{SessionId, ShardId};
use nightjar_mqtt::Version;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Which clients are asked for; every part that is given must fit.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// The user's name.
    pub user: Option<String>,
    /// The IP address, without a port.
    pub address: Option<String>,
    /// The listener's name.
    pub listener: Option<String>,
    /// A part of the client identifier.
    pub part: Option<String>,
}

/// A connected client.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClientSummary {
    /// The client identifier.
    pub client_id: String,
    /// Who authenticated, if anybody did.
    pub user: Option<String>,
    /// Where it comes from.
    pub address: String,
    /// The listener that it came in by.
    pub listener: String,
    /// `tcp`, `tls`, `ws`, `wss` or `unix`.
    pub transport: &'static str,
    /// The version of MQTT: `3.1`, `3.1.1` or `5`.
    pub version: &'static str,
    /// Since when.
    pub connected_at: Time,
    /// The keep alive in force, in seconds.
    pub keep_alive: u16,
    /// Whether it asked to begin anew.
    pub clean_start: bool,
    /// How many subscriptions it has.
    pub subscriptions: usize,
    /// Messages that wait for it.
    pub queued: u64,
    /// Messages that were sent to it and that it has not acknowledged.
    pub inflight: usize,
}

/// Everything about a connected client.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClientDetail {
    /// What a list says of it.
    #[serde(flatten)]
    pub summary: ClientSummary,
    /// How it proved who it is.
    pub method: &'static str,
    /// The TLS version, if it uses TLS.
    pub tls: Option<&'static str>,
    /// Its session.
    pub session: SessionOfClient,
    /// Its messages whose exchanges are not finished.
    pub inflight_in: usize,
    /// Messages to it whose exchanges are not finished.
    pub inflight_out: usize,
    /// How many of these there may be.
    pub window: usize,
    /// Bytes that wait to be written to its socket.
    pub outbox_bytes: usize,
    /// What it may cost.
    pub limits: ClientLimits,
    /// Messages that it published on this connection.
    pub received: u64,
    /// Messages that were sent on this connection.
    pub sent: u64,
    /// The last that were dropped instead, oldest first.
    pub drops: Vec<DroppedRun>,
    /// What it has subscribed to.
    pub subscriptions: Vec<SubscriptionOfClient>,
    /// What is published if it vanishes.
    pub will: Option<WillSummary>,
}

/// The session of a connected client.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SessionOfClient {
    /// There was one to go on with when it connected.
    pub present: bool,
    /// It outlives the connection.
    pub persistent: bool,
    /// For so many seconds.
    pub expiry_seconds: u32,
    /// When it ends, once the connection has ended; `null` while it is connected.
    pub expires_at: Option<Time>,
    /// Bytes of the messages that wait.
    pub queued_bytes: u64,
}

/// What a client may cost.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClientLimits {
    /// Messages of its own that it may have under way at a time.
    pub receive_maximum: u16,
    /// The largest packet that is taken from it, in bytes.
    pub max_packet_size: usize,
    /// The largest packet that it takes itself; `null` if it did not say.
    pub client_max_packet_size: Option<usize>,
    /// Subscriptions at a time.
    pub max_subscriptions: usize,
    /// Messages that may wait for it.
    pub queue_messages: u64,
    /// Their bytes.
    pub queue_bytes: u64,
}

/// Messages in a row that were dropped on one topic for one reason.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DroppedRun {
    /// When the first was dropped.
    pub at: Time,
    /// The topic; `null` where it is not known any more.
    pub topic: Option<String>,
    /// Why: `slow`, `queue_full`, `too_large`, `expired` or `denied`.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// What the store knows of a client.
#[derive(Default)]
struct Stored {
    persistent: bool,
    queued: u64,
    queued_bytes: u64,
    inbound: usize,
    subscriptions: usize,
    will: Option<WillSummary>,
    limits: Option<(u64, u64)>,
}

impl Handle {
    /// Connected clients, sorted by client identifier.
    #[must_use]
    pub fn clients(&self, who: &Who, cursor: Option<&str>, limit: usize) -> Page<ClientSummary> {
        let mut paging = Paging::new(cursor, limit);
        self.broker.registry.each(|peer| {
            if paging.wants(&peer.client_id) && who.fits(peer) {
                paging.offer(&peer.client_id, Arc::clone(peer));
            }
        });
        paging.page().map(|peer| self.summary(&peer).0)
    }

    /// One client, if it is connected.
    #[must_use]
    pub fn client(&self, client_id: &str) -> Option<ClientDetail> {
        let peer = self.broker.registry.find(client_id)?;
        let (summary, stored, figures) = self.summary(&peer);
        let subscriptions = peer.subscriber.upgrade().map(|subscriber| self.filters_of(&subscriber));
        let limits = peer.about.door.at.limits();
        let queue = stored.limits.unwrap_or((limits.waiting.messages as u64, limits.waiting.bytes as u64));
        let queued_bytes = if stored.persistent { stored.queued_bytes } else { figures.waiting_bytes as u64 };
        let (sent, drops) = {
            let state = peer.lock();
            (state.sent, state.drops.runs())
        };
        let run = |run: crate::broker::drops::Run| DroppedRun {
            at: Time(run.since),
            topic: Some(run.topic).filter(|topic| !topic.is_empty()),
            reason: run.reason.name(),
            count: run.count,
        };
        Some(ClientDetail {
            summary,
            method: peer.about.identity.method,
            tls: peer.about.tls.as_ref().map(|tls| tls.version),
            session: SessionOfClient {
                present: peer.about.present,
                persistent: stored.persistent,
                expiry_seconds: peer.about.expiry,
                expires_at: None,
                queued_bytes,
            },
            inflight_in: stored.inbound + figures.unacknowledged,
            inflight_out: figures.under_way,
            window: figures.window,
            outbox_bytes: figures.outbox_bytes,
            limits: ClientLimits {
                receive_maximum: limits.receive_maximum,
                max_packet_size: limits.max_packet,
                client_max_packet_size: figures.maximum_packet,
                max_subscriptions: limits.max_subscriptions,
                queue_messages: queue.0,
                queue_bytes: queue.1,
            },
            received: peer.received(),
            sent,
            drops: drops.into_iter().map(run).collect(),
            subscriptions: subscriptions.unwrap_or_default(),
            will: stored.will,
        })
    }

    /// Disconnects a client; a v5 client is told 0x98 (administrative action). Its session stays, its will is published.
    /// False if it is not connected.
    #[must_use]
    pub fn kick(&self, client_id: &str) -> bool {
        let peer = self.broker.registry.find(client_id);
        if let Some(peer) = &peer {
            peer.close(Close::Kicked);
        }
        peer.is_some()
    }

    /// Disconnects the consoles of operators: the token that they came in by is gone.
    pub fn close_consoles(&self) {
        let peers = self.broker.registry.peers();
        let consoles = peers.iter().filter(|peer| peer.about.identity.is_operator());
        consoles.for_each(|peer| peer.close(Close::Revoked));
    }

    fn summary(&self, peer: &Arc<Peer>) -> (ClientSummary, Stored, Figures) {
        let (session, figures) = {
            let state = peer.lock();
            (state.session, state.figures())
        };
        let mut stored = self.stored_of(peer, session);
        if !stored.persistent {
            stored.queued = figures.waiting as u64;
            stored.subscriptions = peer.subscriber.upgrade().map_or(0, |subscriber| subscriber.filters().len());
        }
        // What is under way is in the queue too.
        let waiting = stored.queued.saturating_sub(if stored.persistent { figures.under_way as u64 } else { 0 });
        let about = &peer.about;
        let summary = ClientSummary {
            client_id: peer.client_id.to_string(),
            user: about.identity.user.as_ref().map(ToString::to_string),
            address: about.door.remote.to_string(),
            listener: about.door.at.name.to_string(),
            transport: about.door.kind.name(),
            version: version(peer.version),
            connected_at: Time(about.since),
            keep_alive: about.keep_alive,
            clean_start: about.clean_start,
            subscriptions: stored.subscriptions,
            queued: waiting,
            inflight: figures.under_way,
        };
        (summary, stored, figures)
    }

    fn stored_of(&self, peer: &Arc<Peer>, session: Option<(ShardId, SessionId)>) -> Stored {
        let store = self.broker.store.lock(self.broker.store.shard_of(&peer.client_id));
        let Some(found) = store.client(&peer.client_id) else { return Stored::default() };
        // A transient session has a row for its will alone.
        let will = found.will().map(WillSummary::new);
        if session.is_none() {
            return Stored { will, ..Stored::default() };
        }
        Stored {
            persistent: true,
            queued: found.queued(),
            queued_bytes: found.queued_bytes(),
            inbound: found.inbound().len(),
            subscriptions: found.subscription_count(),
            will,
            limits: Some((found.limits().messages, found.limits().bytes)),
        }
    }
}

impl Who {
    fn fits(&self, peer: &Peer) -> bool {
        let about = &peer.about;
        self.user.as_deref().is_none_or(|user| about.identity.user.as_deref() == Some(user))
            && self.listener.as_deref().is_none_or(|listener| *about.door.at.name == *listener)
            && self.part.as_deref().is_none_or(|part| peer.client_id.contains(part))
            && self.address.as_deref().is_none_or(|address| match about.door.remote.ip() {
                Some(ip) => address.parse() == Ok(ip),
                None => address == "unix",
            })
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    }
}
