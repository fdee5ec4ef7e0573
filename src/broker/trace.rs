//! What happens to some clients or topics, as it happens: for those who look. When nobody does it costs one load of a
//! number that never changes.

use super::peer::Peer;
use crate::transport::Remote;
use nightjar_base::Wall;
use nightjar_mqtt::{Frame, PacketType, PublishRef, ReasonCode, topic};
use parking_lot::RwLock;
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Events that may wait for one who looks; beyond, they are counted and left out.
const WAITING: usize = 4096;

static LOOKERS: AtomicUsize = AtomicUsize::new(0);
static HUB: RwLock<Vec<Arc<Looker>>> = RwLock::new(Vec::new());

/// Whether anybody looks.
#[inline]
pub(crate) fn on() -> bool {
    LOOKERS.load(Ordering::Relaxed) > 0
}

/// What somebody wants to see: all that is set must fit.
#[derive(Clone, Debug, Default)]
pub struct Lens {
    /// This client identifier.
    pub client: Option<String>,
    /// Topics that this filter matches; events without a topic are left out.
    pub topic: Option<String>,
    /// Clients of this address.
    pub address: Option<IpAddr>,
}

/// Something that happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What: `connected`, `refused`, `disconnected`, `received`, `routed`, `sent`, `dropped`.
    pub event: &'static str,
    /// Whom it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Arc<str>>,
    /// Where that client is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The kind of packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<&'static str>,
    /// The topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The quality of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<u8>,
    /// The packet identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet_id: Option<u16>,
    /// The size of the payload, or of the packet if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// How many receive it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receivers: Option<usize>,
    /// Why, or how, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Events before this one that were left out, since they were not taken fast enough.
    #[serde(skip_serializing_if = "is_zero")]
    pub missed: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

struct Looker {
    lens: Lens,
    events: Sender<Event>,
    missed: AtomicU64,
}

/// A look at what happens, until it is dropped.
pub struct Look {
    events: Receiver<Event>,
    looker: Arc<Looker>,
}

/// Looks through `lens` from now on.
#[must_use]
pub fn look(lens: Lens) -> Look {
    let (events, receiver) = channel(WAITING);
    let looker = Arc::new(Looker { lens, events, missed: AtomicU64::new(0) });
    HUB.write().push(Arc::clone(&looker));
    LOOKERS.fetch_add(1, Ordering::Relaxed);
    Look { events: receiver, looker }
}

impl Look {
    /// The next event.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        LOOKERS.fetch_sub(1, Ordering::Relaxed);
        HUB.write().retain(|looker| !Arc::ptr_eq(looker, &self.looker));
    }
}

impl Looker {
    fn sees(&self, client: Option<&str>, remote: Option<&Remote>, topic: Option<&str>) -> bool {
        let lens = &self.lens;
        lens.client.as_deref().is_none_or(|wanted| client == Some(wanted))
            && lens.address.is_none_or(|wanted| remote.and_then(Remote::ip) == Some(wanted))
            && lens.topic.as_deref().is_none_or(|filter| topic.is_some_and(|topic| topic::matches(filter, topic)))
    }

    fn show(&self, mut event: Event) {
        event.missed = self.missed.swap(0, Ordering::Relaxed);
        let missed = event.missed;
        if self.events.try_send(event).is_err() {
            self.missed.fetch_add(missed + 1, Ordering::Relaxed);
        }
    }
}

/// Tells those who look. Call it only when [`on`] says that somebody does: the event is made for them alone.
pub(crate) fn tell(at: Wall, client: Option<&Arc<str>>, remote: Option<&Remote>, event: Event) {
    for looker in HUB.read().iter() {
        if looker.sees(client.map(|client| &**client), remote, event.topic.as_deref()) {
            looker.show(Event {
                at: at.0,
                client: client.cloned(),
                address: remote.map(ToString::to_string),
                ..event.clone()
            });
        }
    }
}

/// Tells of something that happened to a connected client.
fn tell_of(at: Wall, peer: &Peer, event: Event) {
    tell(at, Some(&peer.client_id), Some(&peer.about.door.remote), event);
}

/// A client was let in.
pub(crate) fn connected(at: Wall, peer: &Peer, present: bool) {
    let user = peer.about.identity.user.as_deref().unwrap_or("-");
    let (listener, kind) = (&peer.about.door.at.name, peer.about.door.kind.name());
    let detail = format!("user {user}, listener {listener}, {kind}, session present {present}");
    tell_of(at, peer, Event { event: "connected", detail: Some(detail), ..Event::default() });
}

/// A connection was not let in.
pub(crate) fn refused(at: Wall, remote: &Remote, why: String) {
    tell(at, None, Some(remote), Event { event: "refused", detail: Some(why), ..Event::default() });
}

/// A connection is over.
pub(crate) fn disconnected(at: Wall, peer: &Peer, why: String) {
    tell_of(at, peer, Event { event: "disconnected", detail: Some(why), ..Event::default() });
}

/// A client sent a packet; what a PUBLISH is about is told when it is routed.
pub(crate) fn received(at: Wall, peer: &Peer, frame: &Frame<'_>) {
    let event =
        Event { event: "received", packet: Some(name(frame.kind)), bytes: Some(frame.size), ..Event::default() };
    tell_of(at, peer, event);
}

/// A client's message was routed, or was not.
pub(crate) fn routed(
    at: Wall,
    peer: &Peer,
    topic: &str,
    publish: &PublishRef<'_>,
    reason: ReasonCode,
    receivers: usize,
) {
    let event = Event {
        event: "routed",
        packet: Some("PUBLISH"),
        topic: Some(topic.to_owned()),
        qos: Some(publish.qos as u8),
        packet_id: (publish.packet_id != 0).then_some(publish.packet_id),
        bytes: Some(publish.payload.len()),
        receivers: Some(receivers),
        detail: Some(reason.to_string()),
        ..Event::default()
    };
    tell_of(at, peer, event);
}

/// A message was sent to a client.
pub(crate) fn sent(at: Wall, peer: &Peer, topic: &[u8], qos: u8, packet_id: u16, bytes: usize) {
    let event = Event {
        event: "sent",
        packet: Some("PUBLISH"),
        topic: Some(String::from_utf8_lossy(topic).into_owned()),
        qos: Some(qos),
        packet_id: (packet_id != 0).then_some(packet_id),
        bytes: Some(bytes),
        ..Event::default()
    };
    tell_of(at, peer, event);
}

/// A message was not sent to a client.
pub(crate) fn dropped(at: Wall, peer: &Peer, topic: &[u8], reason: &'static str) {
    let event = Event {
        event: "dropped",
        topic: Some(String::from_utf8_lossy(topic).into_owned()),
        detail: Some(reason.to_owned()),
        ..Event::default()
    };
    tell_of(at, peer, event);
}

fn name(kind: PacketType) -> &'static str {
    match kind {
        PacketType::Connect => "CONNECT",
        PacketType::ConnAck => "CONNACK",
        PacketType::Publish => "PUBLISH",
        PacketType::PubAck => "PUBACK",
        PacketType::PubRec => "PUBREC",
        PacketType::PubRel => "PUBREL",
        PacketType::PubComp => "PUBCOMP",
        PacketType::Subscribe => "SUBSCRIBE",
        PacketType::SubAck => "SUBACK",
        PacketType::Unsubscribe => "UNSUBSCRIBE",
        PacketType::UnsubAck => "UNSUBACK",
        PacketType::PingReq => "PINGREQ",
        PacketType::PingResp => "PINGRESP",
        PacketType::Disconnect => "DISCONNECT",
        PacketType::Auth => "AUTH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_sees_what_it_looks_for() {
        let here = Remote::Ip(([10, 0, 0, 1], 1).into());
        let ann: Arc<str> = "trace-ann".into();
        let of = |lens| look(lens);
        let mut by_client = of(Lens { client: Some("trace-ann".into()), ..Lens::default() });
        let mut by_topic = of(Lens { topic: Some("trace/#".into()), ..Lens::default() });
        let mut by_address = of(Lens { address: Some([10, 0, 0, 2].into()), ..Lens::default() });
        assert!(on());
        let event = Event { event: "sent", topic: Some("trace/x".into()), ..Event::default() };
        tell(Wall(1), Some(&ann), Some(&here), event.clone());
        tell(Wall(2), None, None, Event { event: "connected", ..Event::default() });
        assert_eq!(by_client.events.recv().await.map(|event| event.at), Some(1));
        assert_eq!(by_topic.events.recv().await.and_then(|event| event.client), Some(ann.clone()));
        assert!(by_address.events.try_recv().is_err() && by_topic.events.try_recv().is_err());
        for _ in 0..WAITING + 5 {
            tell(Wall(3), Some(&ann), Some(&here), event.clone());
        }
        let mut last = 0;
        for _ in 0..WAITING {
            last = by_client.events.recv().await.map_or(0, |event| event.missed);
        }
        assert_eq!(last, 0);
        tell(Wall(4), Some(&ann), Some(&here), event);
        assert_eq!(by_client.events.recv().await.map(|event| event.missed), Some(5));
    }
}
