//! The links between nodes, each of which can be cut or made silent by direction.
//!
//! ```text
//! node 0 ─► port of node 1 ─► who is it? (the process that has the other end) ─► door of node 1
//! ```

use crate::support::broker::free_port;
use crate::support::ms;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

/// What a link does to all that goes one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Way {
    /// Lets it through.
    Open,
    /// Keeps it, and tells nobody.
    Silent,
    /// Ends the connection that it is for.
    Closed,
}

#[derive(Debug)]
struct Shared {
    pids: Vec<Mutex<Option<u32>>>,
    /// By sender and receiver.
    ways: Vec<Vec<AtomicU8>>,
    /// Connections, by who made them to whom.
    open: Mutex<Vec<(usize, usize, TcpStream)>>,
    over: AtomicBool,
}

impl Shared {
    fn is(&self, from: usize, to: usize, way: Way) -> bool {
        self.ways[from][to].load(Ordering::SeqCst) == way as u8
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.is(one, other, Way::Closed) || self.is(other, one, Way::Closed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Whose connection this is that came from `source` to our `port`.
    fn who(&self, source: u16, port: u16) -> Option<usize> {
        let socket = format!("socket:[{}]", inode(source, port)?);
        let has = |pid: u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == &*socket)
        };
        let of = |at: &Mutex<Option<u32>>| at.lock().expect("no test thread panics with it").is_some_and(has);
        self.pids.iter().position(of)
    }
}

/// The number of the socket that has these two ports of this machine.
fn inode(local: u16, remote: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let has = |address: &str, port: u16| address.ends_with(&format!(":{port:04X}"));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = has(fields.next()?, local) && has(fields.next()?, remote);
        is_it.then(|| fields.nth(6).map(str::to_owned)).flatten()
    })
}

/// A port in front of each node's door. They end when dropped.
#[derive(Debug)]
pub(crate) struct Links {
    ports: Vec<u16>,
    shared: Arc<Shared>,
}

impl Links {
    /// Links to these doors.
    pub(crate) fn to(doors: &[u16]) -> Self {
        let row = || doors.iter().map(|_| AtomicU8::new(Way::Open as u8)).collect();
        let shared = Arc::new(Shared {
            pids: doors.iter().map(|_| Mutex::default()).collect(),
            ways: doors.iter().map(|_| row()).collect(),
            open: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let begin = |(to, door): (usize, &u16)| {
            let (port, door, shared) = (free_port(), *door, Arc::clone(&shared));
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
            std::thread::spawn(move || accept(&shared, &listener, port, door, to));
            port
        };
        let ports = doors.iter().enumerate().map(begin).collect();
        Self { ports, shared }
    }

    /// The ports, in the order of the doors.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// A node is this process now.
    pub(crate) fn is(&self, node: usize, pid: u32) {
        *self.shared.pids[node].lock().expect("no test thread panics with it") = Some(pid);
    }

    /// What is sent by one node to another, in requests and in answers, goes this way from now on.
    pub(crate) fn set(&self, from: usize, to: usize, way: Way) {
        self.shared.ways[from][to].store(way as u8, Ordering::SeqCst);
        if way == Way::Closed {
            self.end(|one, other| (one, other) == (from, to) || (other, one) == (from, to));
        }
    }

    /// All that goes to and from a node.
    pub(crate) fn set_around(&self, node: usize, way: Way) {
        for other in (0..self.ports.len()).filter(|other| *other != node) {
            self.set(node, other, way);
            self.set(other, node, way);
        }
    }

    /// Lets all through.
    pub(crate) fn heal(&self) {
        (0..self.ports.len()).for_each(|node| self.set_around(node, Way::Open));
    }

    fn end(&self, which: impl Fn(usize, usize) -> bool) {
        self.shared.open.lock().expect("no test thread panics with it").retain(|(from, to, stream)| {
            let ends = which(*from, *to);
            if ends {
                // It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            }
            !ends
        });
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.end(|_, _| true);
        // Wakes those who accept.
        self.ports.iter().for_each(|port| drop(TcpStream::connect(("127.0.0.1", *port))));
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, port: u16, door: u16, to: usize) {
    for stream in listener.incoming() {
        if shared.is_over() {
            return;
        }
        let (Ok(stream), shared) = (stream, Arc::clone(shared)) else { continue };
        std::thread::spawn(move || {
            let source = stream.peer_addr().map_or(0, |address| address.port());
            // A process may knock before it is said whose it is.
            let from = (0..100).find_map(|_| {
                let from = shared.who(source, port);
                if from.is_none() {
                    std::thread::sleep(ms(5));
                }
                from
            });
            let Some(from) = from.filter(|from| !shared.is_cut(*from, to)) else { return };
            if let Ok(other) = TcpStream::connect(("127.0.0.1", door)) {
                join(&shared, (from, stream), (to, other));
            }
        });
    }
}

fn join(shared: &Arc<Shared>, (from, one): (usize, TcpStream), (to, other): (usize, TcpStream)) {
    let both = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    for stream in [&one, &other] {
        let _ = stream.set_nodelay(true);
        shared.open.lock().expect("no test thread panics with it").push((from, to, both(stream)));
    }
    if shared.is_cut(from, to) {
        // It was cut while this one came: nobody else ends it.
        [&one, &other].iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
    for (source, sink, by, of) in [(both(&one), both(&other), from, to), (other, one, to, from)] {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || pass(&shared, source, sink, by, of));
    }
}

fn pass(shared: &Shared, mut source: TcpStream, mut sink: TcpStream, by: usize, of: usize) {
    let mut buffer = [0; 64 * 1024];
    let wait = || {
        while shared.is(by, of, Way::Silent) && !shared.is_over() {
            std::thread::sleep(ms(5));
        }
    };
    loop {
        wait();
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                wait();
                if sink.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = sink.shutdown(Shutdown::Write);
    let _ = source.shutdown(Shutdown::Read);
}
