//! Where the two connections of a bridge meet and part: what is settled between the sessions before anything flows, and
//! the last words.

use super::link::Link;
use super::local;
use super::pump::{Gather, Pump};
use super::remote::Reached;
use super::splice::{Buffers, Local, Remote, Splice};
use super::wire::Wire;
use crate::broker::{Prepared, bridge_state_topic};
use crate::config::{Mode, Start};
use crate::env::task;
use nightjar_base::millis;
use nightjar_mqtt::{
    Delivery, Disconnect, MAX_PACKET_SIZE, Message, Packet, PacketType, PublishParts, QoS, ReasonCode, Subscribe,
    SubscriptionOptions, Unsubscribe, Version, decode, encode, encode_ack, encode_publish, frame,
};
use nightjar_policy::Way;
use nightjar_session::packet_id;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of a remote's messages that are held back while its session is cleaned of what it holds of a session
/// of ours that is no more.
const MOST_STASHED: usize = 64 << 20;
/// How long that may take.
const PURGE: Duration = Duration::from_secs(30);
/// Half of the packet identifiers: as far from those of what is under way as can be.
pub(super) const FAR: u64 = 32_767;

impl Link {
    /// Sees to it that the session here is there, with its subscriptions.
    pub(super) async fn prepare(&mut self) -> Prepared {
        let takes = self.plan.bridge.mode != Mode::Draining;
        self.handle.prepare_bridge(&local::session(&self.plan, &self.client_id, takes, false)).await
    }

    /// Forgets the queue and the subscriptions of the session here, until the remote is there again. A lazy bridge goes on
    /// to take what is published: it would not come again.
    pub(super) async fn forget(&mut self) {
        let takes = self.plan.bridge.start == Start::Lazy && self.plan.bridge.mode != Mode::Draining;
        self.handle.prepare_bridge(&local::session(&self.plan, &self.client_id, takes, true)).await;
    }

    /// Settles between the two sessions what one of them has forgotten, or holds without reason. Packet identifiers of QoS
    /// 2 messages that came in, which the remote does not know any more.
    async fn reconcile(&mut self, reached: &mut Reached) -> Result<Vec<u16>, String> {
        // Again at each connection: somebody may have ended the session meanwhile.
        let prepared = self.prepare().await;
        let address = self.address % self.plan.bridge.address.len();
        let overflowed = self.handle.bridge_queue(&self.client_id).overflowed;
        let several = self.plan.bridge.address.len() > 1;
        self.doubt.any |= self.doubt.overflowed != overflowed
            || self.doubt.address.map_or(several, |before| before != address)
            || self.poison.is_suspicious();
        (self.doubt.address, self.doubt.overflowed) = (Some(address), overflowed);
        if !reached.connack.session_present {
            // A remote that knows nothing of us has not been asked for anything.
            self.asked.clear();
            self.doubt.any = false;
            return Ok(self.handle.bridge_inbound(&self.client_id));
        }
        // A session that never sent anything may be another than the one that the remote remembers.
        if self.sends_exactly_once(reached) && (prepared.sent <= 1 || self.doubt.any) {
            let under_way = (prepared.head..prepared.sent).map(packet_id).collect();
            let mut orders = self.orders.clone();
            tokio::select! {
                purged = purge(&mut reached.wire, reached.speech.version, &under_way) => purged?,
                () = task::sleep(PURGE) => return Err("the remote holds on to old messages".to_owned()),
                _ = orders.changed() => return Err("something else is to be done".to_owned()),
            }
        }
        self.doubt.any = false;
        Ok(Vec::new())
    }

    /// Joins the remote that was reached with this broker.
    pub(super) async fn splice(&mut self, mut reached: Reached) -> Result<Pump, String> {
        if reached.nightjar.as_deref() == Some(&*self.handle.node_id()) {
            return Err(
                "it is this broker, or one whose data folder is a copy of ours: messages between the two would be \
                        taken for their own"
                    .to_owned(),
            );
        }
        let present = reached.connack.session_present;
        let inbound = self.reconcile(&mut reached).await?;
        let remote = self.remote_takes(&reached);
        let condemned = self.poison.convicted(self.spoken);
        let window = reached.connack.properties.receive_maximum.unwrap_or(u16::MAX).min(self.plan.bridge.max_inflight);
        let alone = condemned.is_none() && self.poison.window(window) < window;
        let window = if alone { 1 } else { window };
        // A remote that knows nothing of us knows nothing of what is retained here either.
        let drains = self.plan.bridge.mode == Mode::Draining;
        let replay = if present || drains { Vec::new() } else { self.replay() };
        let (local, connack) =
            local::connect(&*self.host, &self.plan, &self.listener, &self.client_id, window, &replay)
                .await
                .map_err(|error| error.to_string())?;
        let replays = !local.output.is_empty();
        let takes = Local {
            max_packet: self.plan.limits.largest_packet(),
            retain: connack.properties.retain_available.unwrap_or(true),
        };
        let version = remote.version;
        let mut splice = Splice::new(self.plan.rules.clone(), self.status.counts(), remote, takes);
        if self.plan.bridge.dead_letter.is_some() {
            splice.keep_copies();
        }
        if let Some(packet_id) = condemned {
            splice.condemn(packet_id);
        }
        let mut out = Buffers::default();
        splice.release(&inbound, &mut out);
        self.tell_remote(true, version, &mut out.remote);
        let asked = self.ask(version, reached.nightjar.is_some(), &mut out.remote);
        let keep_alive = reached.connack.properties.server_keep_alive.unwrap_or(self.plan.bridge.keep_alive);
        let now = self.clock.tick();
        let pump = Pump {
            plan: self.plan.clone(),
            handle: self.handle.clone(),
            clock: self.clock.clone(),
            status: Arc::clone(&self.status),
            client_id: self.client_id.clone(),
            local,
            remote: reached.wire,
            splice,
            out,
            keep_alive: u64::from(keep_alive) * 1_000,
            asked,
            unsubscribed: 0,
            replays,
            state_topic: self.plan.bridge.notifications.then(|| self.state_topic()),
            alone,
            condemned: condemned.is_some(),
            sent_at: now,
            received_at: now,
            moved_at: now,
            pinged: false,
            looked_at: now,
            window: window.into(),
            gather: Gather::default(),
            quiet: Pump::seldom(),
        };
        pump.look_whether_connected().await;
        Ok(pump)
    }

    /// Filters whose retained messages the remote has lost: all but those that it has still to get for the first time.
    fn replay(&self) -> Vec<String> {
        let first = self.handle.bridge_replays(&self.client_id);
        let filters = self.plan.rules.rules().iter().map(|rule| rule.local_filter().to_owned());
        filters.filter(|filter| !first.contains(filter)).collect()
    }

    fn sends_exactly_once(&self, reached: &Reached) -> bool {
        let most = self.plan.bridge.max_qos == 2 && reached.connack.properties.maximum_qos.is_none();
        most && self.plan.rules.rules().iter().any(|rule| rule.goes(Way::Out) && rule.qos() == QoS::ExactlyOnce)
    }

    /// What the remote takes, as it says and as the settings say.
    fn remote_takes(&self, reached: &Reached) -> Remote {
        let (bridge, says) = (&self.plan.bridge, &reached.connack.properties);
        let setting = usize::try_from(bridge.max_packet_size).unwrap_or(MAX_PACKET_SIZE);
        let said = says.maximum_packet_size.and_then(|size| usize::try_from(size).ok());
        let max_qos = self.plan.max_qos().min(says.maximum_qos.unwrap_or(QoS::ExactlyOnce));
        let lowered = self.plan.rules.rules().iter().filter(|rule| rule.goes(Way::Out) && rule.qos() > max_qos);
        for rule in lowered {
            let (bridge, rule) = (&bridge.name, rule.to_string());
            tracing::warn!(bridge, rule, qos = max_qos as u8, "the remote takes no higher QoS: this rule is lowered");
        }
        let speech = reached.speech;
        let may_echo = speech.version != Version::V5 && !speech.flag;
        Remote {
            version: speech.version,
            max_packet: setting.min(said.unwrap_or(MAX_PACKET_SIZE)),
            max_qos,
            takes_pubrel: says.maximum_qos.is_none() && bridge.max_qos == 2,
            retain: bridge.outgoing_retain && bridge.retain_available && says.retain_available.unwrap_or(true),
            max_topic_length: bridge.max_topic_length,
            max_topic_levels: bridge.max_topic_levels,
            echoes: bridge.loop_window.filter(|_| may_echo).map(millis),
        }
    }

    /// Asks the remote for what the rules bring in, and takes back what they do not any more. What was asked, by packet
    /// identifiers that are far from those of messages.
    fn ask(&mut self, version: Version, nightjar: bool, out: &mut Vec<u8>) -> Vec<(u16, Vec<String>)> {
        let head = self.handle.bridge_queue(&self.client_id).head;
        let mut identifiers = (head + FAR..).map(packet_id);
        let mut identifier = || identifiers.next().unwrap_or(u16::MAX);
        let wanted = self.plan.filters(Way::In);
        let drains = self.plan.bridge.mode == Mode::Draining;
        let mut gone: Vec<String> = self.asked.iter().cloned().collect();
        gone.retain(|filter| drains || !wanted.iter().any(|(wanted, _)| wanted == filter));
        if drains {
            gone.extend(wanted.iter().map(|(filter, _)| filter.clone()));
            gone.sort();
            gone.dedup();
        }
        for filters in gone.chunks(self.plan.bridge.max_filters) {
            let unsubscribe =
                Unsubscribe { packet_id: identifier(), user_properties: Vec::new(), filters: filters.to_vec() };
            encode(&Packet::Unsubscribe(unsubscribe), version, out);
        }
        self.asked.clear();
        self.has_left = drains;
        if drains {
            return Vec::new();
        }
        let mut asked = Vec::new();
        for filters in wanted.chunks(self.plan.bridge.max_filters) {
            let packet_id = identifier();
            let subscribe = Subscribe { packet_id, properties: Default::default(), filters: filters.to_vec() };
            encode(&Packet::Subscribe(subscribe), version, out);
            asked.push((packet_id, filters.iter().map(|(filter, _)| filter.clone()).collect()));
        }
        self.asked.extend(wanted.into_iter().map(|(filter, _)| filter));
        if !nightjar && self.looks_for_twins() {
            // Nobody waits for the answer, and a remote that refuses loses nothing by it.
            let options = SubscriptionOptions { qos: QoS::AtMostOnce, ..SubscriptionOptions::default() };
            let filters = vec![(bridge_state_topic("+"), options)];
            let subscribe = Subscribe { packet_id: identifier(), properties: Default::default(), filters };
            encode(&Packet::Subscribe(subscribe), version, out);
        }
        asked
    }

    /// Whether the remote is asked what bridges it has: where one of them leads here, a message would have two ways.
    fn looks_for_twins(&self) -> bool {
        let (bridge, rules) = (&self.plan.bridge, self.plan.rules.rules());
        let both = [Way::Out, Way::In].iter().all(|way| rules.iter().any(|rule| rule.goes(*way)));
        let plain = rules.iter().all(|rule| rule.local_filter() == rule.remote_filter());
        both && plain && bridge.loop_window.is_some() && !bridge.notifications_local_only
    }

    /// Whether nothing is left to be asked of the remote by a bridge that drains.
    pub(super) fn has_parted(&self) -> bool {
        self.has_left || !self.plan.rules.rules().iter().any(|rule| rule.goes(Way::In))
    }

    /// The client identifier at the remote.
    pub(super) fn remote_id(&self) -> String {
        let bridge = &self.plan.bridge;
        let own = || {
            let node = self.handle.node_id();
            format!("{}.{}", bridge.name, &node[..node.len().min(8)])
        };
        bridge.client_id.clone().unwrap_or_else(own)
    }

    fn state_topic(&self) -> String {
        let bridge = &self.plan.bridge;
        bridge.notification_topic.clone().unwrap_or_else(|| bridge_state_topic(&bridge.name))
    }

    /// The state topic at the remote, if the remote is told.
    pub(super) fn remote_state_topic(&self) -> Option<String> {
        let bridge = &self.plan.bridge;
        let told = bridge.notifications && !bridge.notifications_local_only;
        told.then(|| bridge.notification_topic.clone().unwrap_or_else(|| bridge_state_topic(&self.remote_id())))
    }

    /// Tells here that the remote is not there. That it is, the pump tells.
    pub(super) async fn tell_down(&self) {
        if self.plan.bridge.notifications {
            self.publish_state(b"0").await;
        }
    }

    /// Takes back what was told here.
    pub(super) async fn forget_state(&self) {
        self.publish_state(b"").await;
    }

    async fn publish_state(&self, state: &[u8]) {
        self.handle.publish(state_message(&self.state_topic(), state)).await;
    }

    /// Tells the remote whether the bridge is there. At QoS 0, since packet identifiers belong to the messages of this
    /// broker; if it is lost, so is the connection, and the will tells the rest.
    fn tell_remote(&self, up: bool, version: Version, out: &mut Vec<u8>) {
        let Some(topic) = self.remote_state_topic() else { return };
        let state: &[u8] = if up { b"1" } else { b"0" };
        let parts = PublishParts { topic: topic.as_bytes(), properties: &[], payload: state, expiry: None };
        let retain = self.plan.bridge.retain_available;
        let delivery =
            Delivery { qos: QoS::AtMostOnce, retain, dup: false, packet_id: 0, identifiers: &[], alias: None };
        encode_publish(version, &parts, &delivery, out);
    }

    /// The last words to both sides. `leaves`: the bridge will not come back, and the remote need not keep anything.
    pub(super) async fn farewell(&mut self, pump: &mut Pump, leaves: bool) {
        let version = pump.splice.version();
        self.tell_remote(false, version, &mut pump.remote.output);
        if leaves && version != Version::V5 && !self.asked.is_empty() {
            let filters = self.asked.drain().collect();
            let unsubscribe = Unsubscribe { packet_id: u16::MAX, user_properties: Vec::new(), filters };
            encode(&Packet::Unsubscribe(unsubscribe), version, &mut pump.remote.output);
        }
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        if leaves && version == Version::V5 {
            disconnect.properties.session_expiry = Some(0);
        }
        // It goes as far as it goes: the session is there again at the next connection in any case.
        let _ = pump.remote.send(&Packet::Disconnect(disconnect), version).await;
        let _ = pump.local.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)), Version::V5).await;
        pump.remote.socket.finish();
    }

    /// Ends with all that there is here.
    pub(super) async fn remove(&mut self) {
        self.handle.end_session(&self.client_id).await;
        self.forget_state().await;
    }
}

/// What tells here, on `topic`, how a bridge is.
pub(super) fn state_message(topic: &str, state: &[u8]) -> Message {
    let mut message = Message::new(topic, &[], state);
    message.qos = QoS::AtLeastOnce;
    message.retain = true;
    message
}

/// Has the remote release all that it holds of messages of ours, but of those that are `under_way` and will be sent again:
/// a new message under the same identifier would be taken for one that it has.
async fn purge(remote: &mut Wire, version: Version, under_way: &HashSet<u16>) -> Result<(), String> {
    let mut left: HashSet<u16> = (1..=u16::MAX).filter(|packet_id| !under_way.contains(packet_id)).collect();
    for packet_id in &left {
        encode_ack(PacketType::PubRel, version, *packet_id, ReasonCode::Success, &mut remote.output);
    }
    let mut stash = Vec::new();
    while !left.is_empty() {
        let mut taken = 0;
        while let Some(found) =
            frame::peek(&remote.input[taken..], MOST_STASHED, version).map_err(|error| error.to_string())?
        {
            if found.kind == PacketType::PubComp {
                if let Ok(Packet::PubComp(ack)) = decode(&found, version) {
                    left.remove(&ack.packet_id);
                }
            } else {
                stash.extend_from_slice(&remote.input[taken..taken + found.size]);
            }
            taken += found.size;
        }
        remote.take(taken);
        if stash.len() + remote.input.len() > MOST_STASHED {
            return Err("the remote sends too much before it has released what it holds".to_owned());
        }
        if left.is_empty() {
            break;
        }
        remote.flush().map_err(|error| error.to_string())?;
        let socket = &remote.socket;
        let ready = async {
            if remote.wants_write() {
                tokio::select! { ready = socket.readable() => ready, ready = socket.writable() => ready }
            } else {
                socket.readable().await
            }
        };
        ready.await.map_err(|error| error.to_string())?;
        remote.read().map_err(|error| error.to_string())?;
    }
    stash.extend_from_slice(&remote.input);
    remote.input = stash;
    Ok(())
}
