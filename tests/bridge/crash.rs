//! Kills on every side of a bridge, and of the link, at random under load: nothing that either side acknowledged is lost,
//! nothing of QoS 2 comes twice, and the order of each topic is kept.
//!
//! `NIGHTJAR_BRIDGE_ROUNDS` (20) rounds; `NIGHTJAR_BRIDGE_SEED` repeats a run.

use super::support::client::ack_bytes;
use super::support::wire::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use super::support::{
    Broker, Client, Connect, Mosquitto, Packet, Proxy, Publish, Random, Read, V5, V311, ms, secs, wait_until,
};
use super::{PATIENCE, config, queued};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The messages of one stream: one topic, one QoS, numbered from 0 without a gap as the side that took them acknowledged.
struct Stream {
    topic: String,
    qos: u8,
    /// How many were acknowledged.
    acknowledged: Mutex<u64>,
    /// The numbers that arrived on the other side, in order.
    arrived: Mutex<Vec<u64>>,
}

/// Publishes on `port` one after the other for as long as it runs; after a loss it goes on with what was not acknowledged,
/// in the same session and under the same identifier.
fn publish(port: u16, stream: &Stream, running: &AtomicBool) {
    let connect = Connect::v5(&format!("publishes {}", stream.topic)).persistent();
    let mut next = 0;
    // The message under way: its identifier, and whether the other end has PUBREC'd it.
    let mut under_way: Option<(u16, bool)> = None;
    while running.load(Ordering::Relaxed) || under_way.is_some() {
        let Some(mut client) = connect.try_open(port, ms(500)) else {
            std::thread::sleep(ms(20));
            continue;
        };
        while running.load(Ordering::Relaxed) || under_way.is_some() {
            let (id, received) = under_way.unwrap_or_else(|| (client.fresh_id(), false));
            let again = under_way.is_some();
            under_way = Some((id, received));
            if !received {
                let mut message = Publish::new(&stream.topic, next.to_string()).qos(stream.qos).id(id);
                message.dup = again;
                if !client.try_send(&message.encode(5)) || !answered(&mut client, stream.qos, id) {
                    break;
                }
                if stream.qos == 2 {
                    under_way = Some((id, true));
                }
            }
            if stream.qos == 2 && (!client.try_send(&ack_bytes(PUBREL, id)) || !completed(&mut client, id)) {
                break;
            }
            under_way = None;
            next += 1;
            // No more may wait at a mosquitto than there are packet identifiers: it uses one twice at a time then.
            std::thread::sleep(ms(1));
            *stream.acknowledged.lock().unwrap() = next;
        }
    }
}

fn answered(client: &mut Client, qos: u8, id: u16) -> bool {
    acked(client, if qos == 1 { PUBACK } else { PUBREC }, id)
}

fn completed(client: &mut Client, id: u16) -> bool {
    acked(client, PUBCOMP, id)
}

/// Whether this acknowledgement comes before the connection ends.
fn acked(client: &mut Client, kind: u8, id: u16) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < secs(5) {
        match client.read_packet(ms(500)) {
            Read::Packet(Packet::Ack { kind: k, id: i, .. }) if (k, i) == (kind, id) => return true,
            Read::Packet(_) | Read::Timeout => {}
            Read::Closed => return false,
        }
    }
    false
}

/// Receives what arrives on `port`, by a persistent session that acknowledges by itself.
fn receive(port: u16, name: &str, streams: &[Arc<Stream>], over: &AtomicBool) {
    let connect = Connect::v5(name).persistent().manual();
    // QoS 2 messages that came and were not released: the same identifier until then is the same message.
    let mut seen: HashMap<u16, u64> = HashMap::new();
    while !over.load(Ordering::Relaxed) {
        let Some(mut client) = connect.try_open(port, ms(500)) else {
            std::thread::sleep(ms(20));
            continue;
        };
        if !client.resumed() {
            seen.clear();
        }
        for stream in streams {
            client.send_subscribe(&[(&stream.topic, 2)], &[]);
        }
        loop {
            match client.read_packet(ms(300)) {
                Read::Packet(Packet::Publish(message)) => {
                    if message.qos > 0 {
                        client.try_send(&ack_bytes(if message.qos == 1 { PUBACK } else { PUBREC }, message.id));
                    }
                    let Some(stream) = streams.iter().find(|stream| stream.topic == message.topic) else { continue };
                    let number: u64 = String::from_utf8_lossy(&message.payload).parse().unwrap();
                    if message.qos == 2 && seen.insert(message.id, number).is_some() {
                        continue;
                    }
                    stream.arrived.lock().unwrap().push(number);
                }
                Read::Packet(Packet::Ack { kind: PUBREL, id, .. }) => {
                    seen.remove(&id);
                    client.try_send(&ack_bytes(PUBCOMP, id));
                }
                Read::Packet(_) => {}
                Read::Timeout if over.load(Ordering::Relaxed) => return,
                Read::Timeout => {}
                Read::Closed => break,
            }
        }
    }
}

/// What can be asked of a side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// Every message, in order, at QoS 2 once.
    Order,
    /// Every message, at QoS 2 once.
    Once,
    /// Every message.
    All,
}

/// Who is hurt in a round.
trait Remote {
    fn port(&self) -> u16;
    /// How well it keeps its own part of the promise in what it sends to us.
    fn keeps(&self) -> Keeps;
    fn crash(&mut self);
}

impl Remote for Broker {
    fn port(&self) -> u16 {
        Broker::port(self)
    }

    fn keeps(&self) -> Keeps {
        Keeps::Order
    }

    fn crash(&mut self) {
        self.kill();
        self.again();
    }
}

impl Remote for Mosquitto {
    fn port(&self) -> u16 {
        Mosquitto::port(self)
    }

    /// What it sends again after a loss comes in another order (seen on the wire, within one connection), and after a
    /// restart what was under way at QoS 2 comes again. A QoS 2 message that it has released comes again too, if two
    /// connections in a row end before it has repeated its PUBREL: the proxy sees that.
    fn keeps(&self) -> Keeps {
        if self.restarts() == 0 { Keeps::Once } else { Keeps::All }
    }

    /// A stop that saves: what mosquitto loses of its own memory when it is killed is not the bridge's loss.
    fn crash(&mut self) {
        self.stop();
        self.launch();
    }
}

fn rounds(mut remote: impl Remote, version: &str, count: u64, kinds: u64) {
    let seed = number("NIGHTJAR_BRIDGE_SEED", u64::from(std::process::id()));
    println!("seed {seed}");
    let mut random = Random(seed);
    let proxy = Proxy::listening_to(remote.port(), if version == "5" { V5 } else { V311 });
    let table = format!(
        "[bridges.hub]\naddress = \"mqtt://127.0.0.1:{}\"\ntopics = [\"out/# out 2\", \"in/# in 2\"]\n\
         version = \"{version}\"\nclient_id = \"crash\"\nkeep_alive = \"1s\"\nretry_base = \"100ms\"\nretry_cap = \"300ms\"\n",
        proxy.port()
    );
    let mut broker = Broker::configured(&config(&table), &[]);
    super::wait_state(&broker, "1");
    let stream = |name: &str, qos| {
        let topic = format!("{name}/{qos}");
        Arc::new(Stream { topic, qos, acknowledged: Mutex::new(0), arrived: Mutex::default() })
    };
    let (out, inwards) = ([stream("out", 1), stream("out", 2)], [stream("in", 1), stream("in", 2)]);
    let (here, there) = (broker.port(), remote.port());
    let (running, over) = (AtomicBool::new(true), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (running, over) = (&running, &over);
        for (port, streams) in [(there, &out), (here, &inwards)] {
            scope.spawn(move || receive(port, "receives", streams, over));
        }
        // Whoever publishes waits until the receivers are subscribed.
        std::thread::sleep(ms(500));
        for (port, streams) in [(here, &out), (there, &inwards)] {
            for stream in streams {
                scope.spawn(move || publish(port, stream, running));
            }
        }
        for round in 0..count {
            std::thread::sleep(ms(random.below(400)));
            match random.below(kinds) {
                0 => {
                    broker.kill();
                    std::thread::sleep(ms(random.below(100)));
                    broker.again();
                }
                1 => proxy.cut(),
                2 => {
                    proxy.down();
                    std::thread::sleep(ms(random.below(600)));
                    proxy.up();
                }
                3 => {
                    // Half-open: neither side is told, and the bridge finds out by itself.
                    proxy.stall();
                    std::thread::sleep(ms(random.below(2_500)));
                    proxy.cut();
                    proxy.up();
                }
                4 => {
                    proxy.delay(ms(random.below(30)));
                    std::thread::sleep(ms(300));
                    proxy.delay(Duration::ZERO);
                }
                _ => remote.crash(),
            }
            // The queue can be seen throughout.
            queued(&broker);
            println!("round {round}");
        }
        running.store(false, Ordering::Relaxed);
        let all = || out.iter().chain(&inwards);
        let is_there = |stream: &Arc<Stream>| {
            let wanted = *stream.acknowledged.lock().unwrap();
            stream.arrived.lock().unwrap().iter().max().is_some_and(|last| last + 1 >= wanted)
        };
        let begin = Instant::now();
        while begin.elapsed() < secs(60) && !all().all(is_there) {
            std::thread::sleep(ms(100));
        }
        std::thread::sleep(secs(1));
        over.store(true, Ordering::Relaxed);
    });
    let again = match remote.keeps() {
        Keeps::Once => proxy.published_again(),
        _ => HashSet::new(),
    };
    out.iter().for_each(|stream| check(stream, Keeps::Order, &HashSet::new()));
    inwards.iter().for_each(|stream| check(stream, remote.keeps(), &again));
    wait_until("the queue is empty", PATIENCE, || queued(&broker) == 0);
}

/// `again`: what was seen on the wire to be the remote's own repetition.
fn check(stream: &Stream, keeps: Keeps, again: &HashSet<(String, Vec<u8>)>) {
    let (acknowledged, arrived) = (*stream.acknowledged.lock().unwrap(), stream.arrived.lock().unwrap());
    let excused = |number: u64| again.contains(&(stream.topic.clone(), number.to_string().into_bytes()));
    let repeated = again.iter().filter(|(topic, _)| *topic == stream.topic).count();
    println!(
        "{}: {acknowledged} acknowledged, {} arrived, {repeated} published again by the remote after their release",
        stream.topic,
        arrived.len()
    );
    assert!(acknowledged > 0, "{}: nothing was acknowledged", stream.topic);
    let mut sorted = arrived.clone();
    if keeps != Keeps::Order {
        sorted.sort_unstable();
    }
    let mut next = 0;
    for number in &sorted {
        // A repetition may come at QoS 1, and never makes a gap.
        if *number < next && (stream.qos == 1 || keeps == Keeps::All || excused(*number)) {
            continue;
        }
        if *number != next {
            let place = arrived.iter().position(|at| at == number).unwrap_or(0);
            let later = arrived.iter().filter(|at| **at == next).count();
            panic!(
                "{}: expected {next}, which arrived {later} times, and not before {:?}",
                stream.topic,
                &arrived[place.saturating_sub(5)..arrived.len().min(place + 30)]
            );
        }
        next += 1;
    }
    assert!(next >= acknowledged, "{}: {acknowledged} were acknowledged, {next} arrived", stream.topic);
}

#[test]
fn kills_and_cuts_between_two_nightjars() {
    rounds(Broker::start(), "5", number("NIGHTJAR_BRIDGE_ROUNDS", 20), 6);
}

fn mosquitto() -> Mosquitto {
    Mosquitto::with(
        "persistence true\npersistence_location {folder}/\nmax_queued_messages 0\nmax_inflight_messages 1000\n",
    )
}

#[test]
fn kills_and_cuts_before_a_mosquitto() {
    rounds(mosquitto(), "5", number("NIGHTJAR_BRIDGE_ROUNDS", 20), 5);
}

#[test]
fn kills_and_cuts_and_restarts_of_a_mosquitto() {
    rounds(mosquitto(), "3.1.1", number("NIGHTJAR_BRIDGE_ROUNDS", 20), 6);
}
