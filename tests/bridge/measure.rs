//! What a bridge costs, beside mosquitto's own in the same run: a command of its own, not part of the test command.
//!
//! `cargo test --release --test bridge measure -- --ignored --nocapture --test-threads 1`; `NIGHTJAR_BIN` names the broker
//! (a release build), `MOSQUITTO_BIN` another mosquitto than the one on the path, `MEASURE_BACKLOG` how many messages wait,
//! `MEASURE_INFLIGHT` how many may be under way.

use super::support::{Broker, Mosquitto, V311, ms, secs, wait_until};
use super::{config, mosquitto_bridge, wait_joined, wait_state};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PAYLOAD: usize = 64;
const WINDOW: u64 = 1_000;

fn connect(port: u16, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut packet = vec![0x10, 12 + id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', V311, 2, 0, 0, 0, id.len() as u8];
    packet.extend(id.as_bytes());
    stream.write_all(&packet).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    stream
}

/// Publishes `count` messages of QoS 1, as fast as they are acknowledged.
fn publish(port: u16, topic: &str, count: u64) -> Duration {
    let mut stream = connect(port, "load");
    let begin = Instant::now();
    let (mut sent, mut acknowledged, mut bytes, mut buffer) = (0, 0, 0, vec![0; 64 * 1024]);
    while acknowledged < count {
        let mut batch = Vec::new();
        while sent < count && sent - acknowledged < WINDOW {
            let id = (sent % 65_535 + 1) as u16;
            let length = 2 + topic.len() + 2 + PAYLOAD;
            batch.extend([0x32, length as u8, 0, topic.len() as u8]);
            batch.extend(topic.as_bytes());
            batch.extend(id.to_be_bytes());
            batch.extend(format!("{sent:0PAYLOAD$}").as_bytes());
            sent += 1;
        }
        stream.write_all(&batch).unwrap();
        bytes += stream.read(&mut buffer).unwrap() as u64;
        acknowledged = bytes / 4;
    }
    begin.elapsed()
}

/// Takes `count` messages of QoS 1 from a subscription that is there when `ready` is called.
fn take(port: u16, filter: &str, count: u64, ready: impl FnOnce()) -> Duration {
    let mut stream = connect(port, "takes");
    let mut packet = vec![0x82, 5 + filter.len() as u8, 0, 1, 0, filter.len() as u8];
    packet.extend(filter.as_bytes());
    packet.push(1);
    stream.write_all(&packet).unwrap();
    let mut suback = [0; 5];
    stream.read_exact(&mut suback).unwrap();
    ready();
    let begin = Instant::now();
    let (mut held, mut buffer, mut taken) = (Vec::new(), vec![0; 256 * 1024], 0);
    while taken < count {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed after {taken}");
        held.extend_from_slice(&buffer[..read]);
        let (mut at, mut acks) = (0, Vec::new());
        // All of them are short: one byte of length.
        while held.len() >= at + 2 && held.len() >= at + 2 + usize::from(held[at + 1]) {
            if held[at] >> 4 == 3 {
                let topic = usize::from(held[at + 3]);
                if held[at] & 6 != 0 {
                    acks.extend([0x40, 2, held[at + 4 + topic], held[at + 5 + topic]]);
                }
                taken += 1;
            }
            at += 2 + usize::from(held[at + 1]);
        }
        held.drain(..at);
        stream.write_all(&acks).unwrap();
    }
    begin.elapsed()
}

/// Microseconds of processor time that a process has used.
fn cpu(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000
}

fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// A middle broker with `a/# out 1` to `remote`.
enum Middle {
    Nightjar(Broker),
    Mosquitto(Mosquitto),
}

impl Middle {
    fn nightjar(remote: u16) -> Self {
        let table = format!(
            "[bridges.hub]\naddress = \"mqtt://127.0.0.1:{remote}\"\ntopics = [\"a/# out 1\"]\nretry_base = \"100ms\"\n\
             retry_cap = \"200ms\"\nmax_inflight = {}\nqueue_messages = \"unlimited\"\nqueue_bytes = \"unlimited\"\n",
            std::env::var("MEASURE_INFLIGHT").unwrap_or_else(|_| "1000".to_owned())
        );
        let broker = Broker::configured(&config(&table), &[]);
        wait_state(&broker, "1");
        Self::Nightjar(broker)
    }

    fn mosquitto(remote: u16) -> Self {
        let lines = "topic a/# out 1\ncleansession false\nbridge_protocol_version mqttv50\n";
        let limits = "max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\nsys_interval 1\n";
        let middle = Mosquitto::with(&(limits.to_owned() + &mosquitto_bridge(remote, lines)));
        wait_joined(middle.port(), remote, "a/joined", "a/joined");
        Self::Mosquitto(middle)
    }

    fn port(&self) -> u16 {
        match self {
            Self::Nightjar(broker) => broker.port(),
            Self::Mosquitto(broker) => broker.port(),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Nightjar(broker) => broker.pid(),
            Self::Mosquitto(broker) => broker.pid(),
        }
    }
}

/// A remote that takes everything.
fn sink() -> Mosquitto {
    Mosquitto::with("max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\nsys_interval 1\n")
}

#[test]
#[ignore = "a measurement: minutes, and a machine of its own"]
fn measure_processor_time_and_latency() {
    const COUNT: u64 = 200_000;
    for round in 0..3 {
        for name in ["nightjar", "mosquitto"] {
            let remote = sink();
            let middle =
                if name == "nightjar" { Middle::nightjar(remote.port()) } else { Middle::mosquitto(remote.port()) };
            let (port, pid) = (middle.port(), middle.pid());
            let before = cpu(pid);
            let load = || drop(std::thread::spawn(move || publish(port, "a/load", COUNT)));
            let time = take(remote.port(), "a/load", COUNT, load);
            let each = (cpu(pid) - before) as f64 / COUNT as f64;
            // One at a time: published in the middle, seen at the remote.
            let mut seen = super::subscriber(remote.port(), "seen", &["a/one"]);
            let mut client = super::support::mosquitto::open(port, &super::support::Connect::v311("one"));
            let mut times: Vec<Duration> = (0..500)
                .map(|_| {
                    let begin = Instant::now();
                    client.send_publish(super::support::Publish::new("a/one", "x").qos(1));
                    seen.expect_payload("x");
                    begin.elapsed()
                })
                .collect();
            times.sort();
            println!(
                "round {round} {name}: {:.0} msg/s, {each:.2} us a message, latency p50 {:?} p99 {:?}",
                rate(COUNT, time),
                times[250],
                times[495]
            );
        }
    }
}

#[test]
#[ignore = "a measurement: minutes, and a machine of its own"]
fn measure_a_backlog_of_a_million() {
    let count: u64 = std::env::var("MEASURE_BACKLOG").map_or(1_000_000, |count| count.parse().unwrap());
    for round in 0..2 {
        let remote = sink();
        let direct = rate(count, publish(remote.port(), "a/direct", count));
        println!(
            "round {round}: directly {direct:.0} msg/s, {:.2} us a message at the remote",
            cpu(remote.pid()) as f64 / count as f64
        );
        for name in ["nightjar", "mosquitto"] {
            let mut remote = sink();
            let port = remote.port();
            let middle = if name == "nightjar" { Middle::nightjar(port) } else { Middle::mosquitto(port) };
            remote.kill();
            std::thread::sleep(ms(500));
            let enqueue = rate(count, publish(middle.port(), "a/load", count));
            let (pid, waiting) = (middle.pid(), resident(middle.pid()));
            let before = cpu(pid);
            remote.launch();
            // Without a subscriber the remote takes them as it took them directly.
            let drain = taking(&remote, count);
            let mut most = 0;
            wait_until("the backlog is gone", secs(300), || {
                most = most.max(resident(pid));
                drain.is_finished()
            });
            let drain = drain.join().unwrap();
            println!(
                "round {round} {name}: enqueue {enqueue:.0} msg/s, drain {drain:.0} msg/s ({:.2} of direct), {:.2} us a message, \
                 {:.2} at the remote, {waiting} KiB before, {most} KiB at most meanwhile",
                drain / direct,
                (cpu(pid) - before) as f64 / count as f64,
                cpu(remote.pid()) as f64 / count as f64
            );
        }
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many messages a second a mosquitto takes, until it has taken `count`: as it counts every second itself, from when it
/// had some to when it did not have all.
fn taking(remote: &Mosquitto, count: u64) -> JoinHandle<f64> {
    let mut client = remote.client(V311, "asks");
    client.subscribe("$SYS/broker/publish/messages/received", 0);
    std::thread::spawn(move || {
        let mut counts: Vec<(Instant, u64)> = Vec::new();
        loop {
            let message = client.expect_publish();
            let taken: u64 = String::from_utf8_lossy(&message.payload).parse().unwrap();
            if taken >= count {
                break;
            }
            // A few are its own.
            if taken > 1_000 {
                counts.push((Instant::now(), taken));
            }
        }
        let [(begin, some), .., (end, most)] = counts[..] else { panic!("too few to measure: {counts:?}") };
        rate(most - some, end - begin)
    })
}
