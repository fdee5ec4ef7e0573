//! The disk fills up: durable acknowledgements stop, QoS 0 keeps flowing, the process lives; and when there is space
//! again everything goes on by itself. What was acknowledged outlives a SIGKILL, also one while the disk is full.

use crate::checker::{Delivery, History, Reader, Stream};
use crate::disk::Disk;
use crate::load::judge;
use crate::support::persist::{Marks, Publisher, Subscriber};
use crate::support::{Broker, Client, Connect, Packet, Publish, Read, ms, secs, wait_until};
use crate::{from_env, random, skipped};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SETTINGS: &[&str] =
    &["store.segment_size=1MiB", "store.checkpoint_interval=50ms", "store.free_space_floor=8MiB", "store.reserve=1MiB"];

/// For so long nothing durable may be acknowledged while the disk is full.
const WATCH: Duration = ms(1500);
/// Within this, acknowledgements must go on when there is space again.
const RECOVERY: Duration = secs(15);

#[test]
fn full_disk_tmpfs() {
    run("full disk, tmpfs", |broker, size| Disk::tmpfs(&broker.data(), size));
}

#[test]
fn full_disk_ext4() {
    run("full disk, ext4", |broker, size| {
        Disk::ext4(&broker.data(), broker.scratch().join("image"), size, "data=ordered")
    });
}

fn run(test: &str, disk: impl Fn(&Broker, u64) -> Result<Disk, String>) {
    let mut random = random(test);
    let mut broker = Broker::prepare(SETTINGS);
    let rounds = from_env("NIGHTJAR_CRASH_FULL_ROUNDS").unwrap_or(2);
    // The sessions keep what each round brings, so that the ballast must leave more room for every round.
    let disk = match disk(&broker, 64 + 32 * rounds) {
        Ok(disk) => disk,
        Err(reason) => return skipped(test, &reason),
    };
    broker.again();
    let mut absent = Vec::new();
    for qos in [1, 2] {
        let name = format!("absent-{qos}");
        let mut s = Subscriber::new(Connect::v311(&name).persistent(), &name, &["full/#"], qos);
        s.open(broker.port(), secs(10)).expect("first connect").disconnect();
        absent.push(s);
    }
    let durable = Durable::start(broker.port());
    let live = Live::start(&broker);
    let (mut worst_gap, mut slowest) = (ms(0), ms(0));
    for round in 0..rounds {
        durable.wait_for_more(200, "before the disk is full");
        fill_until_silent(&disk, &durable);
        let (before, flowed) = (durable.acknowledged(), live.count());
        live.reset_gap();
        std::thread::sleep(WATCH);
        assert_eq!(durable.acknowledged(), before, "{test}: acknowledged on a full disk");
        assert!(broker.is_running(), "{test}: the process must live");
        assert!(live.count() > flowed + 50, "{test}: QoS 0 stopped: {} in {WATCH:?}", live.count() - flowed);
        worst_gap = worst_gap.max(live.gap());
        if round % 2 == 1 || random.below(3) == 0 {
            killed_while_full(test, &mut broker, &disk);
        }
        let start = Instant::now();
        disk.release();
        if !broker.is_running() {
            broker.again();
        }
        wait_until("acknowledgements after the disk has space", RECOVERY, || durable.acknowledged() > before);
        slowest = slowest.max(start.elapsed());
    }
    durable.wait_for_more(200, "after the last round");
    let publishers = durable.finish();
    live.finish();
    broker.crash();
    let mut history = History::default();
    for mut p in publishers {
        p.finish(broker.port());
        history.sessions.insert(p.name().into(), (p.connects, p.session_losses));
        let stream = Stream { qos: p.qos(), attempted: p.attempted, acked: p.acked.clone() };
        history.streams.insert(p.name().into(), stream);
    }
    for mut s in absent {
        s.drain(broker.port(), secs(3));
        history.sessions.insert(s.name.clone(), (s.connects, s.session_losses));
        let delivery = |d: crate::support::persist::Delivered| Delivery {
            publisher: d.publisher.split('.').next().unwrap().into(),
            seq: d.seq,
            qos: d.qos,
        };
        let delivered = s.delivered.into_iter().map(delivery).collect();
        history.readers.insert(s.name, Reader { qos: s.qos, delivered });
    }
    let streams = std::mem::take(&mut history.streams);
    let brief = |(name, stream): (String, Stream)| (name.split('.').next().unwrap().to_owned(), stream);
    history.streams = streams.into_iter().map(brief).collect();
    println!("{test}: {rounds} rounds, longest pause of QoS 0 {worst_gap:?}, slowest recovery {slowest:?}");
    judge(test, &history);
}

/// Fills the disk again and again, since the broker gives up its reserve and what is prepared, until no acknowledgement
/// has come for a while.
fn fill_until_silent(disk: &Disk, durable: &Durable) {
    let start = Instant::now();
    let (mut acked, mut since) = (durable.acknowledged(), Instant::now());
    while since.elapsed() < ms(700) {
        assert!(start.elapsed() < secs(60), "acknowledgements go on without space: {acked}");
        disk.fill();
        let now = durable.acknowledged();
        if now != acked {
            (acked, since) = (now, Instant::now());
        }
        std::thread::sleep(ms(30));
    }
}

/// SIGKILL on the full disk. A start there may serve or say that there is no space: it never calls that damage.
fn killed_while_full(test: &str, broker: &mut Broker, disk: &Disk) {
    broker.kill();
    disk.fill();
    let before = broker.log().len();
    broker.launch();
    let start = Instant::now();
    while start.elapsed() < ms(1500) && broker.is_running() {
        std::thread::sleep(ms(20));
    }
    if !broker.is_running() {
        let code = broker.wait_exit(secs(1)).code();
        let log = broker.log()[before..].to_owned();
        println!("{test}: a start on the full disk ended with {code:?}: {}", log.lines().last().unwrap_or_default());
        assert_eq!(code, Some(1), "{test}: a full disk is no damage: {log}");
        assert!(log.contains("space"), "{test}: it must say what is wrong: {log}");
    }
}

/// Publishers whose messages a session keeps.
struct Durable {
    stop: Arc<AtomicBool>,
    marks: Vec<Arc<Marks>>,
    threads: Vec<JoinHandle<Publisher>>,
}

impl Durable {
    fn start(port: u16) -> Self {
        let mut all = Self { stop: Arc::default(), marks: Vec::new(), threads: Vec::new() };
        for qos in [1, 2] {
            let id = format!("durable-{qos}");
            let name = format!("{id}.{}", "w".repeat(2000));
            let mut p = Publisher::new(Connect::v5(&id).persistent(), &name, &format!("full/{id}"), qos);
            p.pause = ms(5);
            all.marks.push(p.marks.clone());
            let stop = all.stop.clone();
            all.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    p.run(port, &|_| stop.load(Ordering::SeqCst));
                    std::thread::sleep(ms(10));
                }
                p
            }));
        }
        all
    }

    fn acknowledged(&self) -> u64 {
        self.marks.iter().map(|m| m.acked.load(Ordering::SeqCst)).sum()
    }

    fn wait_for_more(&self, more: u64, when: &str) {
        let target = self.acknowledged() + more;
        wait_until(&format!("{more} acknowledgements {when}"), secs(30), || self.acknowledged() >= target);
    }

    fn finish(mut self) -> Vec<Publisher> {
        self.stop.store(true, Ordering::SeqCst);
        std::mem::take(&mut self.threads).into_iter().map(|t| t.join().unwrap()).collect()
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// A QoS 0 publisher and its subscriber, neither with a session that outlives its connection.
struct Live {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    /// The longest time between two messages, in milliseconds.
    gap: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    fn start(broker: &Broker) -> Self {
        let live = Self { stop: Arc::default(), count: Arc::default(), gap: Arc::default(), thread: None };
        let (stop, count, gap, port) = (live.stop.clone(), live.count.clone(), live.gap.clone(), broker.port());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                if let Some((publisher, subscriber)) = open_pair(port) {
                    flow(publisher, subscriber, &stop, &count, &gap);
                }
                std::thread::sleep(ms(20));
            }
        });
        Self { thread: Some(thread), ..live }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    fn gap(&self) -> Duration {
        ms(self.gap.load(Ordering::SeqCst))
    }

    fn reset_gap(&self) {
        self.gap.store(0, Ordering::SeqCst);
    }

    fn finish(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn open_pair(port: u16) -> Option<(Client, Client)> {
    let mut subscriber = Connect::v5("live-subscriber").try_open(port, secs(2))?;
    subscriber.send_subscribe(&[("live", 0)], &[]);
    match subscriber.read_packet(secs(2)) {
        Read::Packet(Packet::Suback { .. }) => {}
        _ => return None,
    }
    Some((Connect::v311("live-publisher").try_open(port, secs(2))?, subscriber))
}

/// One message at a time, each awaited, until a connection ends.
fn flow(mut publisher: Client, mut subscriber: Client, stop: &AtomicBool, count: &AtomicU64, gap: &AtomicU64) {
    let bytes = Publish::new("live", "x").encode(publisher.version());
    let mut last = Instant::now();
    while !stop.load(Ordering::SeqCst) && publisher.try_send(&bytes) {
        match subscriber.read_packet(secs(5)) {
            Read::Packet(Packet::Publish(_)) => {}
            Read::Packet(_) => continue,
            Read::Closed | Read::Timeout => return,
        }
        count.fetch_add(1, Ordering::SeqCst);
        gap.fetch_max(last.elapsed().as_millis() as u64, Ordering::SeqCst);
        last = Instant::now();
        std::thread::sleep(ms(5));
    }
}
