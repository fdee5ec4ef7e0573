//! SIGKILL at random moments, under load, during start-up and during recovery; then everything that was acknowledged
//! is counted.
//!
//! `cargo test --test crash` runs a short one. `NIGHTJAR_CRASH_ROUNDS=200 cargo test --release --test crash -- --nocapture`
//! is the long one; `NIGHTJAR_CRASH_SEED=n` repeats a run's random choices.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

mod checker;

use checker::{Delivery, History, Reader, RetainedRead, Stream, Verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use support::persist::{Marks, Publisher, Subscriber};
use support::{Broker, Connect, Packet, Random, Read, ms, secs};

const ROUNDS: &str = "NIGHTJAR_CRASH_ROUNDS";
const SEED: &str = "NIGHTJAR_CRASH_SEED";

/// A short run ends after this time even if rounds are left: machines differ.
const SHORT_LIMIT: Duration = secs(40);

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Checkpoints every fraction of a second, small segments and a small window, so that a short run sees many of each.
const BUSY_STORE: &[&str] = &[
    "store.segment_size=1MiB",
    "store.checkpoint_size=256KiB",
    "store.checkpoint_interval=100ms",
    "session.max_inflight=20",
];

#[test]
fn nothing_acknowledged_is_lost_by_sigkill_with_a_busy_store() {
    run(BUSY_STORE, 1);
}

#[test]
fn nothing_acknowledged_is_lost_by_sigkill_with_the_default_store() {
    run(&[], 2);
}

fn run(settings: &[&str], share: u64) {
    let seed = from_env(SEED).unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 % 1_000_000
    });
    let rounds = from_env(ROUNDS);
    println!("seed {seed}, {} rounds, settings {settings:?}", rounds.unwrap_or(10));
    let mut random = Random(seed ^ share);
    let mut broker = Broker::with(settings);
    let load = Load::start(broker.port(), &mut random);
    let mut history = History::default();
    let (mut kills, mut early) = (0u64, 0u64);
    let start = Instant::now();
    for round in 0..rounds.unwrap_or(10) {
        if rounds.is_none() && start.elapsed() > SHORT_LIMIT {
            println!("time is up after {round} rounds");
            break;
        }
        std::thread::sleep(ms(100 + random.below(900)));
        broker.kill();
        kills += 1;
        // Half the rounds, the next starts are cut short too: while it recovers, or just after.
        while random.below(2) == 0 {
            broker.launch();
            std::thread::sleep(ms(random.below(150)));
            broker.kill();
            early += 1;
        }
        broker.again();
        load.read_retained(&broker, &mut history);
    }
    load.finish(&broker, &mut history);
    report(&history, kills, early, seed);
}

/// The clients, each in a thread of its own until the end.
struct Load {
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<Publisher>>,
    subscribers: Vec<JoinHandle<Subscriber>>,
    retained: Vec<(String, Arc<Marks>)>,
}

impl Load {
    fn start(port: u16, random: &mut Random) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self { stop, publishers: Vec::new(), subscribers: Vec::new(), retained: Vec::new() };
        for mut subscriber in subscribers() {
            // Everyone is subscribed before anyone publishes: so everyone must get everything.
            subscriber.open(port, secs(10)).expect("first connect").disconnect();
            let (stop, mut random) = (load.stop.clone(), Random(random.next()));
            let thread = std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let until = Instant::now() + ms(50 + random.below(1500));
                    subscriber.run(port, &|_| Instant::now() > until || stop.load(Ordering::SeqCst));
                    let away = if subscriber.name.starts_with("away") { random.below(2000) } else { random.below(10) };
                    std::thread::sleep(ms(away));
                }
                subscriber
            });
            load.subscribers.push(thread);
        }
        for (name, mut publisher) in publishers() {
            if publisher.retain {
                load.retained.push((name, publisher.marks.clone()));
            }
            let (stop, mut random) = (load.stop.clone(), Random(random.next()));
            load.publishers.push(std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let until = Instant::now() + ms(100 + random.below(2000));
                    publisher.run(port, &|_| Instant::now() > until || stop.load(Ordering::SeqCst));
                    std::thread::sleep(ms(random.below(10)));
                }
                publisher
            }));
        }
        load
    }

    /// What a new subscriber sees as the retained messages, just after a restart.
    fn read_retained(&self, broker: &Broker, history: &mut History) {
        for (name, marks) in &self.retained {
            let acked_before = marks.acked.load(Ordering::SeqCst);
            let Some(mut client) = Connect::v311("retained-reader").try_open(broker.port(), secs(10)) else {
                panic!("the broker is up and does not answer");
            };
            client.subscribe(&format!("c/{name}"), 0);
            // Live messages may come first; only the copy made for the subscription has RETAIN = 1.
            let limit = if acked_before > 0 { secs(10) } else { ms(300) };
            let deadline = Instant::now() + limit;
            let value = loop {
                match client.read_packet(deadline.saturating_duration_since(Instant::now())) {
                    Read::Packet(Packet::Publish(m)) if m.retain => {
                        break Some(m.text().rsplit(':').next().unwrap().parse().unwrap_or(0));
                    }
                    Read::Packet(_) if Instant::now() < deadline => {}
                    Read::Packet(_) | Read::Timeout | Read::Closed => break None,
                }
            };
            let attempted_after = marks.attempted.load(Ordering::SeqCst);
            history.retained.push(RetainedRead { publisher: name.clone(), value, acked_before, attempted_after });
            client.fin();
        }
    }

    /// Lets every publisher complete what it began, every subscriber empty its queue, and writes it all down.
    fn finish(self, broker: &Broker, history: &mut History) {
        self.stop.store(true, Ordering::SeqCst);
        let publishers: Vec<Publisher> = self.publishers.into_iter().map(|t| t.join().unwrap()).collect();
        let subscribers: Vec<Subscriber> = self.subscribers.into_iter().map(|t| t.join().unwrap()).collect();
        for mut p in publishers {
            p.finish(broker.port());
            history.sessions.insert(p.name().into(), (p.connects, p.session_losses));
            assert_eq!(p.refused, 0, "{} was refused", p.name());
            let stream = Stream { qos: p.qos(), attempted: p.attempted, acked: p.acked.clone() };
            history.streams.insert(p.name().into(), stream);
        }
        for (name, marks) in self.retained {
            let last = marks.attempted.load(Ordering::SeqCst);
            let mut client = Connect::v5("retained-reader").open(broker);
            client.subscribe(&format!("c/{name}"), 1);
            let value = client.expect_publish().text().rsplit(':').next().unwrap().parse().ok();
            history.retained.push(RetainedRead { publisher: name, value, acked_before: last, attempted_after: last });
        }
        for mut s in subscribers {
            s.drain(broker.port(), secs(2));
            explain_duplicates(&s);
            if s.retained_copies > 0 {
                println!("{}: {} copies of retained messages", s.name, s.retained_copies);
            }
            history.sessions.insert(s.name.clone(), (s.connects, s.session_losses));
            let deliver = |d: support::persist::Delivered| Delivery { publisher: d.publisher, seq: d.seq, qos: d.qos };
            let delivered = s.delivered.into_iter().map(deliver).collect();
            history.readers.insert(s.name, Reader { qos: s.qos, delivered });
        }
    }
}

/// Says how the first duplicate at QoS 2 came about, if there is one.
fn explain_duplicates(s: &Subscriber) {
    let mut seen = std::collections::BTreeSet::new();
    let twice = s.delivered.iter().filter(|d| d.qos == 2).find(|d| !seen.insert((&d.publisher, d.seq)));
    if let Some(d) = twice {
        s.explain(&format!("{}:{}", d.publisher, d.seq)).iter().for_each(|line| println!("  {}: {line}", s.name));
    }
}

fn publishers() -> Vec<(String, Publisher)> {
    let of = |name: &str, connect: Connect, qos: u8, change: &dyn Fn(&mut Publisher)| {
        let mut p = Publisher::new(connect.persistent(), name, &format!("c/{name}"), qos);
        p.window = 10;
        p.pause = ms(15);
        change(&mut p);
        (name.to_owned(), p)
    };
    vec![
        of("one", Connect::v311("one"), 1, &|_| {}),
        of("two", Connect::v5("two"), 2, &|_| {}),
        of("one-taken", Connect::v5("one-taken"), 1, &|p| p.takeover = true),
        of("two-taken", Connect::v311("two-taken"), 2, &|p| p.takeover = true),
        of("one-kept", Connect::v5("one-kept"), 1, &|p| p.retain = true),
        of("two-kept", Connect::v31("two-kept"), 2, &|p| p.retain = true),
    ]
}

fn subscribers() -> Vec<Subscriber> {
    let of = |name: &str, connect: Connect, qos: u8, change: &dyn Fn(&mut Subscriber)| {
        let mut s = Subscriber::new(connect.persistent(), name, &["c/#"], qos);
        change(&mut s);
        s
    };
    vec![
        of("steady-1", Connect::v311("steady-1"), 1, &|_| {}),
        of("steady-2", Connect::v5("steady-2"), 2, &|_| {}),
        of("away-1", Connect::v5("away-1"), 1, &|_| {}),
        of("away-2", Connect::v31("away-2"), 2, &|_| {}),
        of("slow-2", Connect::v5("slow-2").receive_maximum(5), 2, &|s| s.pace = ms(1)),
        of("taken-2", Connect::v311("taken-2"), 2, &|s| s.takeover = true),
    ]
}

fn report(history: &History, kills: u64, early: u64, seed: u64) {
    let acked: usize = history.streams.values().map(|s| s.acked.len()).sum();
    let delivered: usize = history.readers.values().map(|r| r.delivered.len()).sum();
    let connects: u64 = history.sessions.values().map(|s| s.0).sum();
    let verdict = checker::check(history, &mut |line| println!("  {line}"));
    println!("kills {kills}, of starts {early}; acknowledged {acked}, delivered {delivered}, connects {connects}");
    println!("retained reads {}; {verdict:?}", history.retained.len());
    assert_eq!(verdict, Verdict::default(), "seed {seed}");
    assert!(acked > 100 && delivered > 100, "too little load to say anything");
}
