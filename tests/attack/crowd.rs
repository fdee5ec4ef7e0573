//! Honest clients: a ring in which each sends to the next, and notes what came, in which order and how late.

use crate::support::wire::PUBACK;
use crate::support::{Client, Connect, PATIENCE, Packet, Publish, Read, V5, V311, ms, secs, wait_until};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How many they are.
pub const USERS: usize = 20;
/// Between two messages of one client.
const PAUSE: Duration = ms(20);
/// How many messages all have sent when the calm has been measured.
const CALM: u64 = 600;
/// No wait below this counts as suffering, however calm it was before: the machine has other things to do too.
const FLOOR: Duration = ms(250);

/// The password of an honest client.
pub fn password(number: usize) -> String {
    format!("secret of honest client {number}")
}

struct Shared {
    port: u16,
    start: Instant,
    attacked: AtomicBool,
    over: AtomicBool,
    /// Messages that were acknowledged, by client.
    acknowledged: [AtomicU64; USERS],
    working: AtomicUsize,
    done: Barrier,
}

/// The honest clients, at work.
pub struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Waits>>,
}

/// How long messages took from one client to the next: before the attack, and since.
#[derive(Default)]
struct Waits {
    calm: Vec<Duration>,
    attacked: Vec<Duration>,
}

impl Crowd {
    /// Connects all, and gives the word when it is known how they fare in peace.
    pub fn start(port: u16) -> Self {
        let shared = Arc::new(Shared {
            port,
            start: Instant::now(),
            attacked: AtomicBool::new(false),
            over: AtomicBool::new(false),
            acknowledged: std::array::from_fn(|_| AtomicU64::new(0)),
            working: AtomicUsize::new(0),
            done: Barrier::new(USERS),
        });
        let threads = (0..USERS)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || Member::new(&shared, number).work())
            })
            .collect();
        let crowd = Self { shared, threads };
        wait_until("the honest clients are at work", secs(60), || crowd.sent() >= CALM);
        crowd.shared.attacked.store(true, Ordering::SeqCst);
        crowd
    }

    fn sent(&self) -> u64 {
        assert!(self.threads.iter().all(|thread| !thread.is_finished()), "an honest client has failed");
        self.shared.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }

    /// Lets all go, whatever they have met: something else has failed before.
    pub fn abandon(self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let failed = self.threads.into_iter().filter_map(|thread| thread.join().err()).count();
        println!("{failed} honest clients have failed too");
    }

    /// Waits until everybody has sent a little more than when the attack began.
    fn settle(&self) {
        let enough = self.sent() + USERS as u64 * 5;
        wait_until("the honest clients are still at work", secs(30), || self.sent() >= enough);
    }

    /// Lets all finish; panics when somebody lost something or waited too long.
    pub fn finish(self) -> String {
        self.settle();
        self.shared.over.store(true, Ordering::SeqCst);
        let mut all = Waits::default();
        for thread in self.threads {
            let waits = thread.join().expect("an honest client has failed");
            all.calm.extend(waits.calm);
            all.attacked.extend(waits.attacked);
        }
        let (calm, attacked) = (p99(&mut all.calm), p99(&mut all.attacked));
        let count = all.calm.len() + all.attacked.len();
        let report = format!("{count} honest messages, p99 {calm:.1?} before, {attacked:.1?} under attack");
        assert!(attacked <= FLOOR.max(calm * 2), "{report}");
        report
    }
}

fn p99(waits: &mut [Duration]) -> Duration {
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

struct Member<'a> {
    shared: &'a Shared,
    client: Client,
    number: usize,
    sent: u64,
    received: u64,
    waits: Waits,
}

impl<'a> Member<'a> {
    fn new(shared: &'a Shared, number: usize) -> Self {
        let version = if number.is_multiple_of(2) { V311 } else { V5 };
        let mut connect = Connect::of(version, &format!("honest-{number}"));
        if number.is_multiple_of(4) {
            connect = connect.persistent();
        }
        let connect = connect.user(&format!("honest-{number}"), Some(password(number).as_bytes()));
        let mut client = connect.try_open(shared.port, secs(30)).expect("an honest client is let in");
        assert_eq!(client.subscribe(&format!("ring/{number}"), 1), 1);
        shared.working.fetch_add(1, Ordering::SeqCst);
        // Nobody sends to a client that is not there yet.
        wait_until("all are subscribed", secs(60), || shared.working.load(Ordering::SeqCst) == USERS);
        Self { shared, client, number, sent: 0, received: 0, waits: Waits::default() }
    }

    fn work(mut self) -> Waits {
        let next = format!("ring/{}", (self.number + 1) % USERS);
        while !self.shared.over.load(Ordering::SeqCst) {
            self.sent += 1;
            let now = self.shared.start.elapsed().as_nanos();
            let payload = format!("{} {now}", self.sent);
            let id = self.client.send_publish(Publish::new(&next, payload).qos(1));
            let due = Instant::now() + PAUSE;
            let mut waits_for = Some(id);
            let patience = Instant::now() + PATIENCE;
            while waits_for.is_some() || Instant::now() < due {
                assert!(Instant::now() < patience, "no acknowledgement within {PATIENCE:?}");
                if self.step(ms(5)) == Some(id) {
                    self.shared.acknowledged[self.number].fetch_add(1, Ordering::SeqCst);
                    waits_for = None;
                }
            }
        }
        self.shared.done.wait();
        let before = (self.number + USERS - 1) % USERS;
        let expected = self.shared.acknowledged[before].load(Ordering::SeqCst);
        let patience = Instant::now() + PATIENCE;
        while self.received < expected {
            assert!(Instant::now() < patience, "{} of {expected} messages came", self.received);
            self.step(ms(50));
        }
        self.waits
    }

    /// Takes one packet, if one comes; gives what it acknowledges.
    fn step(&mut self, limit: Duration) -> Option<u16> {
        match self.client.read_packet(limit) {
            Read::Timeout => None,
            Read::Packet(Packet::Ack { kind: PUBACK, id, code: 0, .. }) => Some(id),
            Read::Packet(Packet::Publish(publish)) => {
                let text = publish.text();
                let (number, sent) = text.split_once(' ').expect("what an honest client sends");
                self.received += 1;
                assert_eq!(number, self.received.to_string(), "in order, and each once");
                let wait = self.shared.start.elapsed() - Duration::from_nanos(sent.parse().unwrap());
                let attacked = self.shared.attacked.load(Ordering::SeqCst);
                if attacked { &mut self.waits.attacked } else { &mut self.waits.calm }.push(wait);
                None
            }
            other => panic!("honest client {} met {other:?}", self.number),
        }
    }
}
