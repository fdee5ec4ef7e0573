//! A link that can be cut, stalled and held half-open: TCP on the one side, TCP on the other.

use super::broker::free_port;
use super::wire::{PUBREL, Packet, decode};
use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a stalled direction looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// What the link does.
#[derive(Debug, Default)]
struct State {
    /// Nobody is let through any more; who connects is closed at once.
    down: AtomicBool,
    /// Nothing goes either way, and nobody is told.
    stalled: AtomicBool,
    /// Milliseconds that each piece takes.
    delay: AtomicU64,
    over: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    ear: Option<Mutex<Ear>>,
}

/// What is noted of the packets that the target sends.
#[derive(Debug, Default)]
struct Ear {
    version: u8,
    /// By packet identifier: the QoS 2 message that was last published under it, and whether its PUBREL was sent.
    published: HashMap<u16, (String, Vec<u8>, bool)>,
    published_again: HashSet<(String, Vec<u8>)>,
}

impl Ear {
    fn hear(&mut self, packet: Packet) {
        match packet {
            Packet::Publish(message) if message.qos == 2 => {
                let key = (message.topic, message.payload);
                match self.published.get(&message.id) {
                    Some((topic, payload, true)) if (topic, payload) == (&key.0, &key.1) => {
                        self.published_again.insert(key);
                    }
                    _ => {
                        self.published.insert(message.id, (key.0, key.1, false));
                    }
                }
            }
            Packet::Ack { kind: PUBREL, id, .. } => {
                if let Some((.., released)) = self.published.get_mut(&id) {
                    *released = true;
                }
            }
            _ => {}
        }
    }
}

/// A link to a port on this machine. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// A link to `target`.
    pub fn to(target: u16) -> Self {
        Self::start(target, State::default())
    }

    /// A link to `target`, whose packets of this MQTT version are read on their way.
    pub fn listening_to(target: u16, version: u8) -> Self {
        let ear = Some(Mutex::new(Ear { version, ..Ear::default() }));
        Self::start(target, State { ear, ..State::default() })
    }

    fn start(target: u16, state: State) -> Self {
        let (port, state) = (free_port(), Arc::new(state));
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                if shared.down.load(Ordering::Relaxed) {
                    continue;
                }
                if let Ok(other) = TcpStream::connect(("127.0.0.1", target)) {
                    join(&shared, stream, other);
                }
            }
        });
        Self { port, state }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Topic and payload of the QoS 2 messages that the target published once more after it had released them, against
    /// [MQTT-4.3.3-6] (3.1.1: [MQTT-4.3.3-1]).
    pub fn published_again(&self) -> HashSet<(String, Vec<u8>)> {
        let ear = self.state.ear.as_ref().expect("a proxy that listens").lock();
        ear.expect("no test thread panics with it").published_again.clone()
    }

    /// How many connections came so far.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// Ends all connections, and lets nobody through until [`Self::up`].
    pub fn down(&self) {
        self.state.down.store(true, Ordering::Relaxed);
        self.cut();
    }

    /// Lets everybody through.
    pub fn up(&self) {
        self.state.down.store(false, Ordering::Relaxed);
        self.state.stalled.store(false, Ordering::Relaxed);
    }

    /// Ends all connections; new ones are let through.
    pub fn cut(&self) {
        for stream in self.state.open.lock().expect("no test thread panics with it").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets nothing through either way, and tells nobody; until [`Self::up`].
    pub fn stall(&self) {
        self.state.stalled.store(true, Ordering::Relaxed);
    }

    /// Lets each piece take this long.
    pub fn delay(&self, time: Duration) {
        self.state.delay.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn join(state: &Arc<State>, one: TcpStream, other: TcpStream) {
    let both = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    for stream in [&one, &other] {
        let _ = stream.set_nodelay(true);
        state.open.lock().expect("no test thread panics with it").push(both(stream));
    }
    let ways = [(both(&one), both(&other), false), (other, one, true)];
    for (from, to, is_answer) in ways {
        let state = Arc::clone(state);
        std::thread::spawn(move || pass(&state, from, to, is_answer));
    }
}

fn pass(state: &State, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
    let mut buffer = [0; 16 * 1024];
    let ear = state.ear.as_ref().filter(|_| is_answer);
    let mut heard = Vec::new();
    let _ = from.set_read_timeout(Some(Duration::from_millis(200)));
    loop {
        while state.stalled.load(Ordering::Relaxed) && !state.over.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                std::thread::sleep(Duration::from_millis(state.delay.load(Ordering::Relaxed)));
                if state.stalled.load(Ordering::Relaxed) {
                    // What was on its way when the link stalled is lost with it if the link is then cut.
                    while state.stalled.load(Ordering::Relaxed) && !state.over.load(Ordering::Relaxed) {
                        std::thread::sleep(LOOK);
                    }
                }
                if let Some(ear) = ear {
                    let mut ear = ear.lock().expect("no test thread panics with it");
                    heard.extend_from_slice(&buffer[..count]);
                    while let Some((packet, size)) = decode(&heard, ear.version) {
                        heard.drain(..size);
                        ear.hear(packet);
                    }
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        if state.over.load(Ordering::Relaxed) {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the one who accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}
