//! Publishers and subscribers with sessions of their own, that outlive any number of connections: what a well-written
//! client library keeps on its side. Payloads are `name:sequence`, so that each delivery says where it comes from.

use super::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish};
use super::{Client, Connect, PATIENCE, Read, ms, secs};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A message that is not yet wholly acknowledged.
#[derive(Clone, Debug)]
struct Inflight {
    id: u16,
    seq: u64,
    /// PUBREC was seen: from now on PUBREL, never PUBLISH again [MQTT-4.3.3-7].
    received: bool,
}

/// A publisher of one topic at QoS 1 or 2, with a session.
#[derive(Debug)]
pub struct Publisher {
    connect: Connect,
    name: String,
    topic: String,
    qos: u8,
    /// Every message is retained.
    pub retain: bool,
    /// Unacknowledged messages at most.
    pub window: usize,
    inflight: VecDeque<Inflight>,
    next_id: u16,
    /// The highest sequence number that was ever sent.
    pub attempted: u64,
    /// Acknowledged by PUBACK or PUBREC, in that order.
    pub acked: Vec<u64>,
    known: bool,
    /// CONNACKs that denied a session which existed.
    pub session_losses: u64,
    /// CONNACKs seen.
    pub connects: u64,
    /// Refused messages (reason codes from 0x80).
    pub refused: u64,
    /// Rests this long after each round of reading acknowledgements.
    pub pause: Duration,
    /// Leaves its connections open when it has enough, so that the next one is a takeover.
    pub takeover: bool,
    held: Option<Client>,
    /// What others may watch while this publisher is busy in a thread.
    pub marks: Arc<Marks>,
}

/// How far a publisher is.
#[derive(Debug, Default)]
pub struct Marks {
    /// The highest sequence number that was acknowledged.
    pub acked: AtomicU64,
    /// The highest that was ever sent.
    pub attempted: AtomicU64,
}

impl Publisher {
    /// One that has not connected yet. `connect` asks for a persistent session.
    pub fn new(connect: Connect, name: &str, topic: &str, qos: u8) -> Self {
        Self {
            connect,
            name: name.into(),
            topic: topic.into(),
            qos,
            retain: false,
            window: 20,
            inflight: VecDeque::new(),
            next_id: 0,
            attempted: 0,
            acked: Vec::new(),
            known: false,
            session_losses: 0,
            connects: 0,
            refused: 0,
            pause: Duration::ZERO,
            takeover: false,
            held: None,
            marks: Arc::default(),
        }
    }

    /// Its name, which is in every payload.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The QoS that it publishes at.
    pub fn qos(&self) -> u8 {
        self.qos
    }

    /// Connects, resumes what is unacknowledged, publishes until the connection ends or `enough` says so.
    /// Gives false when there was no connection at all.
    pub fn run(&mut self, port: u16, enough: &dyn Fn(&Self) -> bool) -> bool {
        let Some(mut client) = self.open(port) else { return false };
        while !enough(self) {
            while self.inflight.len() < self.window {
                self.attempted += 1;
                self.marks.attempted.store(self.attempted, Ordering::SeqCst);
                let next = Inflight { id: self.fresh_id(), seq: self.attempted, received: false };
                let bytes = self.message(&next).encode(client.version());
                self.inflight.push_back(next);
                if !client.try_send(&bytes) {
                    return true;
                }
            }
            if !self.take(&mut client, ms(20)) {
                return true;
            }
            std::thread::sleep(self.pause);
        }
        if self.takeover {
            self.held = Some(client);
        } else {
            client.fin();
        }
        true
    }

    /// Connects and waits until everything is acknowledged.
    #[track_caller]
    pub fn finish(&mut self, port: u16) {
        let start = Instant::now();
        while !self.inflight.is_empty() {
            assert!(start.elapsed() < secs(60), "{} has {} unacknowledged", self.name, self.inflight.len());
            let Some(mut client) = self.open(port) else { continue };
            while !self.inflight.is_empty() && start.elapsed() < secs(60) && self.take(&mut client, ms(100)) {}
            client.fin();
        }
    }

    fn open(&mut self, port: u16) -> Option<Client> {
        let mut client = self.connect.clone().manual().try_open(port, secs(5))?;
        self.held = None;
        self.connects += 1;
        if self.known && !client.resumed() {
            self.session_losses += 1;
        }
        self.known = true;
        // In their order, with their identifiers [MQTT-4.4.0-1] [MQTT-4.6.0-1].
        for m in &self.inflight {
            let bytes = if m.received {
                super::client::ack_bytes(PUBREL, m.id)
            } else {
                self.message(m).dup().encode(client.version())
            };
            if !client.try_send(&bytes) {
                break;
            }
        }
        Some(client)
    }

    /// Reads until nothing is there for `wait`; false when the connection has ended.
    fn take(&mut self, client: &mut Client, wait: Duration) -> bool {
        loop {
            match client.read_packet(wait) {
                Read::Packet(Packet::Ack { kind, id, code, .. }) => self.acknowledged(client, kind, id, code),
                Read::Packet(Packet::Disconnect { .. }) | Read::Closed => return false,
                Read::Packet(other) => panic!("{}: {other:?}", self.name),
                Read::Timeout => return true,
            }
            if self.inflight.len() < self.window / 2 {
                return true;
            }
        }
    }

    fn acknowledged(&mut self, client: &mut Client, kind: u8, id: u16, code: u8) {
        let Some(at) = self.inflight.iter().position(|m| m.id == id) else { return };
        let refused = kind != PUBCOMP && code >= 0x80;
        if refused {
            self.refused += 1;
            self.inflight.remove(at);
            return;
        }
        if kind == PUBREC && !self.inflight[at].received {
            self.inflight[at].received = true;
            self.note_acked(self.inflight[at].seq);
        }
        match kind {
            PUBACK => {
                self.note_acked(self.inflight[at].seq);
                self.inflight.remove(at);
            }
            PUBREC => client.ack(PUBREL, id),
            PUBCOMP => {
                self.inflight.remove(at);
            }
            _ => panic!("{}: acknowledgement of type {kind}", self.name),
        }
    }

    fn note_acked(&mut self, seq: u64) {
        self.acked.push(seq);
        self.marks.acked.fetch_max(seq, Ordering::SeqCst);
    }

    fn message(&self, m: &Inflight) -> Publish {
        let text = format!("{}:{}", self.name, m.seq);
        let message = Publish::new(&self.topic, text).qos(self.qos).id(m.id);
        if self.retain { message.retain() } else { message }
    }

    fn fresh_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 65_535 + 1;
            if !self.inflight.iter().any(|m| m.id == self.next_id) {
                return self.next_id;
            }
        }
    }
}

/// A message as it was handed to the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The publisher's name in the payload.
    pub publisher: String,
    /// The sequence number in the payload; 0 when the payload is not one of ours.
    pub seq: u64,
    /// As delivered.
    pub qos: u8,
}

impl Delivered {
    fn of(m: &Publish) -> Self {
        let text = m.text();
        let (publisher, seq) = text.split_once(':').unwrap_or((&text, ""));
        Self { publisher: publisher.into(), seq: seq.parse().unwrap_or(0), qos: m.qos }
    }
}

/// A subscriber with a session, that keeps the identifiers of QoS 2 messages until PUBREL, over connections.
#[derive(Debug)]
pub struct Subscriber {
    connect: Connect,
    /// Its name in reports.
    pub name: String,
    filters: Vec<String>,
    /// The QoS that it subscribes with.
    pub qos: u8,
    /// Waits this long before each acknowledgement.
    pub pace: Duration,
    /// Leaves its connections open when it has enough, so that the next one is a takeover.
    pub takeover: bool,
    held: Option<Client>,
    unreleased: BTreeSet<u16>,
    subscribed: bool,
    /// The QoS 2 packets that were read, with the number of the connection: what a duplicate is explained by.
    pub trace: Vec<(u64, String)>,
    /// Copies of retained messages that a SUBSCRIBE brought: deliveries of their own, beside those of the publications.
    pub retained_copies: u64,
    /// All publications that the application was given, in order.
    pub delivered: Vec<Delivered>,
    /// CONNACKs that denied a session which existed.
    pub session_losses: u64,
    /// CONNACKs seen.
    pub connects: u64,
}

impl Subscriber {
    /// One that has not connected yet. `connect` asks for a persistent session.
    pub fn new(connect: Connect, name: &str, filters: &[&str], qos: u8) -> Self {
        Self {
            connect,
            name: name.into(),
            filters: filters.iter().map(|f| (*f).into()).collect(),
            qos,
            pace: Duration::ZERO,
            takeover: false,
            held: None,
            unreleased: BTreeSet::new(),
            subscribed: false,
            trace: Vec::new(),
            retained_copies: 0,
            delivered: Vec::new(),
            session_losses: 0,
            connects: 0,
        }
    }

    /// Connects; subscribes the first time.
    pub fn open(&mut self, port: u16, limit: Duration) -> Option<Client> {
        let mut client = self.connect.clone().manual().try_open(port, limit)?;
        self.held = None;
        self.connects += 1;
        if self.subscribed && !client.resumed() {
            self.session_losses += 1;
        }
        if !self.subscribed {
            for filter in self.filters.clone() {
                assert_eq!(client.subscribe(&filter, self.qos), self.qos, "{filter}");
            }
            self.subscribed = true;
        }
        Some(client)
    }

    /// Connects and takes messages until the connection ends or `enough` says so.
    pub fn run(&mut self, port: u16, enough: &dyn Fn(&Self) -> bool) -> bool {
        let Some(mut client) = self.open(port, secs(5)) else { return false };
        while !enough(self) {
            match client.read_packet(ms(20)) {
                Read::Packet(packet) => {
                    if !self.take(&mut client, packet) {
                        return true;
                    }
                }
                Read::Closed => return true,
                Read::Timeout => {}
            }
        }
        if self.takeover {
            self.held = Some(client);
        } else {
            client.fin();
        }
        true
    }

    /// Takes everything that is still there: until nothing came for `quiet`.
    #[track_caller]
    pub fn drain(&mut self, port: u16, quiet: Duration) {
        let mut client = self.open(port, PATIENCE).expect("the broker is up");
        let pace = std::mem::take(&mut self.pace);
        loop {
            match client.read_packet(quiet) {
                Read::Packet(packet) => assert!(self.take(&mut client, packet), "{} was cut while draining", self.name),
                Read::Closed => panic!("{} was closed while draining", self.name),
                Read::Timeout => break,
            }
        }
        self.pace = pace;
        client.disconnect();
    }

    /// What was read about the packet identifiers that this payload came with, around each time that it came.
    pub fn explain(&self, payload: &str) -> Vec<String> {
        let of_payload = |line: &str| line.ends_with(&format!(" {payload}"));
        let ids: BTreeSet<&str> =
            self.trace.iter().filter(|t| of_payload(&t.1)).filter_map(|t| t.1.split(' ').nth(1)).collect();
        let places: Vec<usize> = (0..self.trace.len()).filter(|i| of_payload(&self.trace[*i].1)).collect();
        let near = |i: usize| places.iter().any(|p| i.abs_diff(*p) < 60);
        let of_ids = |line: &str| line.split(' ').nth(1).is_some_and(|id| ids.contains(id));
        let shown = self.trace.iter().enumerate().filter(|(i, t)| near(*i) && of_ids(&t.1));
        shown.map(|(i, t)| format!("{i}: connection {}: {}", t.0, t.1)).collect()
    }

    /// Handles one packet; false when the broker says that the connection ends.
    fn take(&mut self, client: &mut Client, packet: Packet) -> bool {
        match &packet {
            Packet::Publish(m) if m.qos == 2 => {
                self.trace.push((
                    self.connects,
                    format!("PUBLISH {} dup {} retain {} {}", m.id, u8::from(m.dup), u8::from(m.retain), m.text()),
                ));
            }
            Packet::Ack { kind: PUBREL, id, .. } => self.trace.push((self.connects, format!("PUBREL {id}"))),
            _ => {}
        }
        match packet {
            Packet::Publish(m) => {
                // A QoS 2 identifier that is not released yet is the same message again [MQTT-4.3.3-10].
                let new = m.qos < 2 || self.unreleased.insert(m.id);
                if new && m.retain {
                    self.retained_copies += 1;
                } else if new {
                    self.delivered.push(Delivered::of(&m));
                }
                if !self.pace.is_zero() {
                    std::thread::sleep(self.pace);
                }
                match m.qos {
                    0 => {}
                    1 => client.ack(PUBACK, m.id),
                    _ => client.ack(PUBREC, m.id),
                }
            }
            Packet::Ack { kind: PUBREL, id, .. } => {
                self.unreleased.remove(&id);
                client.ack(PUBCOMP, id);
            }
            Packet::Disconnect { .. } => return false,
            Packet::Pingresp | Packet::Suback { .. } => {}
            other => panic!("{}: {other:?}", self.name),
        }
        true
    }
}
