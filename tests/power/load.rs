//! Publishers and subscribers that go on whatever happens to the broker, and the count of what became of it.
//!
//! Some subscribers are away for long, so that the store has something to keep; some messages are wide, so that a row
//! of the tables is too; one is large enough to be split over several rows.

use crate::checker::{Delivery, History, Reader, RetainedRead, Stream, Verdict, check};
use crate::support::persist::{Marks, Publisher, Subscriber};
use crate::support::{Connect, Packet, Random, Read, ms, secs};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// The clients, each in a thread of its own until the end.
pub(crate) struct Load {
    port: u16,
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<Publisher>>,
    readers: Vec<JoinHandle<Collected>>,
    marks: Vec<Arc<Marks>>,
    retained: Vec<(String, Arc<Marks>)>,
    history: History,
}

/// A subscriber, and what it was given so far.
struct Collected {
    subscriber: Subscriber,
    delivered: Vec<Delivery>,
    /// For each of its connections: what came before it. Duplicates are explained with these.
    connections: Vec<usize>,
}

impl Collected {
    /// Takes over what was delivered; wide names go, or they would fill the memory.
    fn collect(&mut self) {
        let brief = |d: crate::support::persist::Delivered| {
            let publisher = key_of(&d.publisher).to_owned();
            Delivery { publisher, seq: d.seq, qos: d.qos }
        };
        self.connections.push(self.delivered.len());
        self.delivered.extend(std::mem::take(&mut self.subscriber.delivered).into_iter().map(brief));
    }

    /// Prints on which connections, and at which place of each, a QoS 2 message came twice.
    fn explain(&self, test: &str) {
        let mut seen = BTreeMap::new();
        let name = &self.subscriber.name;
        let place = |at: usize| {
            let connection = self.connections.partition_point(|&start| start <= at);
            format!("{} on connection {connection}", at - self.connections[connection - 1])
        };
        for (at, d) in self.delivered.iter().enumerate().filter(|(_, d)| d.qos == 2) {
            if let Some(before) = seen.insert((&d.publisher, d.seq), at) {
                println!("  {test}: {name}: {}:{} is message {}, and {}", d.publisher, d.seq, place(before), place(at));
            }
        }
    }
}

/// A publisher's name without what only makes its payload wider.
fn key_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

impl Load {
    /// Subscribes everyone, then begins to publish.
    pub(crate) fn start(port: u16, random: &mut Random) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self {
            port,
            stop,
            publishers: Vec::new(),
            readers: Vec::new(),
            marks: Vec::new(),
            retained: Vec::new(),
            history: History::default(),
        };
        for (away, mut subscriber) in subscribers() {
            let client = subscriber.open(port, secs(10)).expect("first connect");
            // Until the broker has found that there are no retained messages to follow the SUBACK.
            std::thread::sleep(ms(100));
            client.disconnect();
            load.read(away, subscriber, Random(random.next()));
        }
        for publisher in publishers() {
            load.publish(publisher, Random(random.next()));
        }
        load
    }

    fn read(&mut self, away: u64, subscriber: Subscriber, mut random: Random) {
        let (stop, port) = (self.stop.clone(), self.port);
        let mut reader = Collected { subscriber, delivered: Vec::new(), connections: Vec::new() };
        self.readers.push(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                rest(&stop, random.below(away));
                let until = Instant::now() + ms(50 + random.below(1500));
                reader.subscriber.run(port, &|_| Instant::now() > until || stop.load(Ordering::SeqCst));
                reader.collect();
            }
            reader
        }));
    }

    fn publish(&mut self, mut publisher: Publisher, mut random: Random) {
        self.marks.push(publisher.marks.clone());
        if publisher.retain {
            self.retained.push((publisher.name().to_owned(), publisher.marks.clone()));
        }
        let (stop, port) = (self.stop.clone(), self.port);
        self.publishers.push(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let until = Instant::now() + ms(100 + random.below(3000));
                publisher.run(port, &|_| Instant::now() > until || stop.load(Ordering::SeqCst));
                rest(&stop, random.below(10));
            }
            publisher
        }));
    }

    /// The sum of what every publisher saw acknowledged (its newest number: they have no gaps).
    pub(crate) fn acknowledged(&self) -> u64 {
        self.marks.iter().map(|m| m.acked.load(Ordering::SeqCst)).sum()
    }

    /// What a new subscriber sees as the retained messages, just after a restart.
    pub(crate) fn read_retained(&mut self) {
        for (name, marks) in &self.retained {
            let acked_before = marks.acked.load(Ordering::SeqCst);
            let mut client = Connect::v311("retained-reader").try_open(self.port, secs(10)).expect("the broker is up");
            client.subscribe(&topic(name), 0);
            // Live messages may come first; only the copy made for the subscription has RETAIN = 1.
            let limit = if acked_before > 0 { secs(10) } else { ms(300) };
            let value = loop {
                match client.read_packet(limit) {
                    Read::Packet(Packet::Publish(m)) if m.retain => break Some(sequence(&m.text())),
                    Read::Packet(_) => {}
                    Read::Timeout | Read::Closed => break None,
                }
            };
            let attempted_after = marks.attempted.load(Ordering::SeqCst);
            let publisher = key_of(name).to_owned();
            self.history.retained.push(RetainedRead { publisher, value, acked_before, attempted_after });
            client.fin();
        }
    }

    /// Lets every publisher complete what it began and every subscriber empty its queue; then counts.
    pub(crate) fn finish(mut self, test: &str) -> History {
        self.stop.store(true, Ordering::SeqCst);
        let port = self.port;
        for thread in std::mem::take(&mut self.publishers) {
            let mut p = thread.join().unwrap();
            p.finish(port);
            let name = key_of(p.name()).to_owned();
            assert_eq!(p.refused, 0, "{name} was refused");
            self.history.sessions.insert(name.clone(), (p.connects, p.session_losses));
            let stream = Stream { qos: p.qos(), attempted: p.attempted, acked: p.acked.clone() };
            self.history.streams.insert(name, stream);
        }
        self.read_retained();
        let drain = |thread: JoinHandle<Collected>| {
            std::thread::spawn(move || {
                let mut reader = thread.join().unwrap();
                reader.subscriber.drain(port, secs(3));
                reader.collect();
                reader
            })
        };
        let draining: Vec<_> = std::mem::take(&mut self.readers).into_iter().map(drain).collect();
        for thread in draining {
            let reader = thread.join().unwrap();
            reader.explain(test);
            let Collected { subscriber: s, delivered, .. } = reader;
            self.history.sessions.insert(s.name.clone(), (s.connects, s.session_losses));
            self.history.readers.insert(s.name, Reader { qos: s.qos, delivered });
        }
        let history = std::mem::take(&mut self.history);
        judge(test, &history);
        history
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Prints the figures of a run and panics if there is any fault.
pub(crate) fn judge(test: &str, history: &History) {
    let acked: usize = history.streams.values().map(|s| s.acked.len()).sum();
    let delivered: usize = history.readers.values().map(|r| r.delivered.len()).sum();
    let connects: u64 = history.sessions.values().map(|s| s.0).sum();
    let verdict = check(history, &mut |line| println!("  {test}: {line}"));
    println!("{test}: acknowledged {acked}, delivered {delivered}, connects {connects}; {verdict:?}");
    assert_eq!(verdict, Verdict::default(), "{test}");
    assert!(acked > 100 && delivered > 100, "{test}: too little load to say anything");
}

fn rest(stop: &AtomicBool, millis: u64) {
    let until = Instant::now() + ms(millis);
    while Instant::now() < until && !stop.load(Ordering::SeqCst) {
        std::thread::sleep(ms(10).min(until.saturating_duration_since(Instant::now())));
    }
}

fn topic(name: &str) -> String {
    format!("p/{}", key_of(name))
}

fn sequence(text: &str) -> u64 {
    text.rsplit(':').next().unwrap().parse().unwrap_or(0)
}

fn publishers() -> Vec<Publisher> {
    let of = |name: &str, width: usize, of: fn(&str) -> Connect, qos: u8| {
        let wide = if width == 0 { name.to_owned() } else { format!("{name}.{}", "w".repeat(width)) };
        let mut p = Publisher::new(of(name).persistent(), &wide, &topic(name), qos);
        p.window = 10;
        p.pause = ms(40);
        p
    };
    let mut all = vec![
        of("one", 0, Connect::v311, 1),
        of("two", 0, Connect::v5, 2),
        of("one-wide", 700, Connect::v5, 1),
        of("two-wide", 700, Connect::v311, 2),
        of("one-kept", 100, Connect::v5, 1),
        of("two-kept", 0, Connect::v31, 2),
        of("two-large", 40_000, Connect::v5, 2),
    ];
    for p in &mut all {
        p.retain = p.name().contains("-kept");
        if p.name().starts_with("two-large") {
            (p.window, p.pause) = (2, ms(200));
        }
    }
    all
}

/// Subscribers of everything, and for how many milliseconds at most each is away at a time.
fn subscribers() -> Vec<(u64, Subscriber)> {
    let of = |name: &str, connect: Connect, qos: u8| Subscriber::new(connect.persistent(), name, &["p/#"], qos);
    let mut slow = of("slow-2", Connect::v5("slow-2").receive_maximum(5), 2);
    slow.pace = ms(1);
    vec![
        (5, of("steady-1", Connect::v311("steady-1"), 1)),
        (5, of("steady-2", Connect::v5("steady-2"), 2)),
        (2000, of("away-1", Connect::v5("away-1"), 1)),
        (2000, of("away-2", Connect::v31("away-2"), 2)),
        (30_000, of("absent-1", Connect::v311("absent-1"), 1)),
        (30_000, of("absent-2", Connect::v5("absent-2"), 2)),
        (200, slow),
    ]
}
