//! Publishers and subscribers that go from node to node, whatever happens to the nodes; then everything is counted.

use crate::checker::{self, Delivery, History, Reader, Stream, Verdict};
use crate::support::persist::{Delivered, Marks, Publisher, Subscriber};
use crate::support::{Connect, Random, V5, V31, V311, ms, secs, wait_until};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long all of the publishers may take to get something acknowledged.
const STANDSTILL: Duration = secs(60);

/// The clients, each in a thread of its own until the end.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<Publisher>>,
    subscribers: Vec<JoinHandle<Subscriber>>,
    marks: Vec<Arc<Marks>>,
}

fn publishers() -> Vec<Publisher> {
    let of = |name: &str, version: u8, qos: u8, takeover: bool| {
        let mut of = Publisher::new(Connect::of(version, name).persistent(), name, &format!("c/{name}"), qos);
        (of.window, of.pause, of.takeover) = (10, ms(15), takeover);
        of
    };
    vec![
        of("one", V311, 1, false),
        of("two", V5, 2, false),
        of("one-taken", V5, 1, true),
        of("two-taken", V311, 2, true),
    ]
}

fn subscribers() -> Vec<Subscriber> {
    let of = |name: &str, version: u8, qos: u8| {
        Subscriber::new(Connect::of(version, name).persistent(), name, &["c/#"], qos)
    };
    let mut taken = of("taken-2", V311, 2);
    taken.takeover = true;
    vec![
        of("steady-1", V311, 1),
        of("steady-2", V5, 2),
        taken,
        of("away-1", V5, 1),
        of("away-2", V31, 2),
        of("away-3", V5, 2),
    ]
}

impl Load {
    /// Everyone is subscribed before anyone publishes: so everyone must get everything.
    #[track_caller]
    pub(crate) fn start(ports: &[u16], seed: u64) -> Self {
        let (mut random, stop) = (Random(seed), Arc::new(AtomicBool::new(false)));
        let mut load = Self { stop, publishers: Vec::new(), subscribers: Vec::new(), marks: Vec::new() };
        for mut subscriber in subscribers() {
            subscriber.open(ports[0], secs(10)).expect("first connect").disconnect();
            let (stop, mut random, ports) = (Arc::clone(&load.stop), Random(random.next()), ports.to_vec());
            load.subscribers.push(std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let (port, until) = (any(&ports, &mut random), Instant::now() + ms(50 + random.below(1_500)));
                    let is_away = subscriber.name.starts_with("away");
                    subscriber.run(port, &|_| Instant::now() > until || stop.load(Ordering::SeqCst));
                    std::thread::sleep(ms(if is_away { random.below(3_000) } else { 5 + random.below(10) }));
                }
                subscriber
            }));
        }
        for mut publisher in publishers() {
            load.marks.push(Arc::clone(&publisher.marks));
            let (stop, mut random, ports) = (Arc::clone(&load.stop), Random(random.next()), ports.to_vec());
            load.publishers.push(std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let (port, until) = (any(&ports, &mut random), Instant::now() + ms(100 + random.below(2_000)));
                    publisher.run(port, &|_| Instant::now() > until || stop.load(Ordering::SeqCst));
                    std::thread::sleep(ms(5 + random.below(10)));
                }
                publisher
            }));
        }
        load
    }

    /// Waits until every publisher has got something more acknowledged.
    #[track_caller]
    pub(crate) fn wait_more(&self) {
        let acked = |of: &Arc<Marks>| of.acked.load(Ordering::SeqCst);
        let before: Vec<u64> = self.marks.iter().map(acked).collect();
        wait_until("everybody publishes", STANDSTILL, || {
            self.marks.iter().zip(&before).all(|(of, before)| acked(of) > *before)
        });
    }

    /// Lets every publisher complete what it began, every subscriber empty its queue, and writes it all down.
    fn end(self, ports: &[u16]) -> History {
        let mut history = History::default();
        self.stop.store(true, Ordering::SeqCst);
        let publishers: Vec<Publisher> = self.publishers.into_iter().map(|t| t.join().unwrap()).collect();
        let subscribers: Vec<Subscriber> = self.subscribers.into_iter().map(|t| t.join().unwrap()).collect();
        for (mut publisher, port) in publishers.into_iter().zip(ports.iter().cycle()) {
            publisher.finish(*port);
            let name = publisher.name().to_owned();
            println!("{name}: {} acknowledged, {} refused", publisher.acked.len(), publisher.refused);
            history.sessions.insert(name.clone(), (publisher.connects, publisher.session_losses));
            let (qos, attempted) = (publisher.qos(), publisher.attempted);
            history.streams.insert(name, Stream { qos, attempted, acked: publisher.acked });
        }
        for (mut subscriber, port) in subscribers.into_iter().zip(ports.iter().cycle()) {
            subscriber.drain(*port, secs(1));
            explain_duplicates(&subscriber);
            history.sessions.insert(subscriber.name.clone(), (subscriber.connects, subscriber.session_losses));
            let deliver = |of: Delivered| Delivery { publisher: of.publisher, seq: of.seq, qos: of.qos };
            let delivered = subscriber.delivered.into_iter().map(deliver).collect();
            history.readers.insert(subscriber.name, Reader { qos: subscriber.qos, delivered });
        }
        history
    }
}

fn any(ports: &[u16], random: &mut Random) -> u16 {
    ports[random.below(ports.len() as u64) as usize]
}

/// Ends the load; nothing must be lost, doubled, out of order or denied.
#[track_caller]
pub(crate) fn finish(load: Load, ports: &[u16]) {
    let history = load.end(ports);
    let acked: usize = history.streams.values().map(|of| of.acked.len()).sum();
    let delivered: usize = history.readers.values().map(|of| of.delivered.len()).sum();
    let connects: u64 = history.sessions.values().map(|of| of.0).sum();
    let verdict = checker::check(&history, &mut |line| println!("  {line}"));
    println!("acknowledged {acked}, delivered {delivered}, connects {connects}; {verdict:?}");
    assert_eq!(verdict, Verdict::default());
    assert!(acked > 100 && delivered > 100, "too little load to say anything");
}

/// Says how the first duplicate at QoS 2 came about, if there is one.
fn explain_duplicates(of: &Subscriber) {
    let mut seen = BTreeSet::new();
    let twice = of.delivered.iter().filter(|d| d.qos == 2).find(|d| !seen.insert((&d.publisher, d.seq)));
    if let Some(d) = twice {
        of.explain(&format!("{}:{}", d.publisher, d.seq)).iter().for_each(|line| println!("  {}: {line}", of.name));
    }
}
