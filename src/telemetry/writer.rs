//! Log lines leave through a thread of their own: whoever reads the standard error may be slow or have stopped reading,
//! and that must not stop a thread that serves connections.
//!
//! What does not fit is lost and counted, and the count is told as soon as there is room again. An error alone is waited
//! for: it may be the last thing that the process does. And that not twice, if nobody reads.

use crate::env::task;
use parking_lot::{Condvar, Mutex};
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const ROOM: usize = 8_192;
/// How long lines are gathered before they are written together: a wake-up and a write for each would cost more than
/// the connection that it tells of.
const GATHER: Duration = Duration::from_millis(10);
/// How long a stop waits for a reader that has stopped reading.
const PATIENCE: Duration = Duration::from_secs(1);

static LOG: OnceLock<Sender> = OnceLock::new();

#[derive(Clone, Debug)]
pub(super) struct Sender(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    room: usize,
    queue: Mutex<Queue>,
    /// There is something to write, or somebody waits for it.
    wake: Condvar,
    /// Something was written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    text: Vec<u8>,
    lines: usize,
    /// Lines that did not fit and were not told of yet.
    lost: u64,
    /// Lines that were ever taken, and those of them that were written.
    taken: u64,
    done: u64,
    /// Somebody waits until everything is written.
    urgent: bool,
    /// Somebody waited in vain, and nothing was written since.
    stuck: bool,
}

/// How the log tells that so many lines were lost.
pub(super) type Lost = fn(u64) -> String;

/// Starts the thread that writes.
pub(super) fn start(out: Box<dyn Write + Send>, lost: Lost) -> io::Result<Sender> {
    let sender = open(out, ROOM, lost)?;
    // A second log of one process is refused by its caller; the first stays the one to flush.
    let _ = LOG.set(sender.clone());
    Ok(sender)
}

/// Waits until what was logged so far is written, but not for ever.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.flush();
    }
}

fn open(out: Box<dyn Write + Send>, room: usize, lost: Lost) -> io::Result<Sender> {
    let shared = Shared { room, queue: Mutex::default(), wake: Condvar::new(), written: Condvar::new() };
    let sender = Sender(Arc::new(shared));
    let shared = Arc::clone(&sender.0);
    task::thread("log", move || write(out, &shared, lost))?;
    Ok(sender)
}

fn write(mut out: Box<dyn Write + Send>, shared: &Shared, tell: Lost) {
    let mut text = Vec::new();
    loop {
        let mut queue = shared.queue.lock();
        while queue.lines == 0 && queue.lost == 0 {
            shared.wake.wait(&mut queue);
        }
        if !queue.urgent {
            shared.wake.wait_for(&mut queue, GATHER);
        }
        std::mem::swap(&mut text, &mut queue.text);
        let lost = std::mem::take(&mut queue.lost);
        let taken = queue.taken;
        queue.lines = 0;
        drop(queue);
        // There is nowhere to complain about a log that cannot be written.
        let _ = out.write_all(&text);
        if lost > 0 {
            let _ = writeln!(out, "{}", tell(lost));
        }
        let _ = out.flush();
        text.clear();
        let mut queue = shared.queue.lock();
        (queue.done, queue.urgent, queue.stuck) = (taken, queue.taken > taken && queue.urgent, false);
        shared.written.notify_all();
    }
}

impl Sender {
    fn line(&self, line: &[u8]) {
        let mut queue = self.0.queue.lock();
        if queue.lines >= self.0.room {
            queue.lost += 1;
            return;
        }
        queue.text.extend_from_slice(line);
        queue.lines += 1;
        queue.taken += 1;
        if queue.lines == 1 {
            self.0.wake.notify_one();
        }
    }

    fn flush(&self) {
        let mut queue = self.0.queue.lock();
        let wanted = queue.taken;
        while queue.done < wanted && !queue.stuck {
            queue.urgent = true;
            self.0.wake.notify_one();
            if self.0.written.wait_for(&mut queue, PATIENCE).timed_out() {
                queue.stuck = true;
            }
        }
    }
}

/// One event on its way into the queue.
pub(super) struct Event<'a> {
    sender: &'a Sender,
    line: Vec<u8>,
    is_error: bool,
}

impl<'a> MakeWriter<'a> for Sender {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event { sender: self, line: Vec::new(), is_error: false }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Event<'a> {
        Event { sender: self, line: Vec::new(), is_error: *event.level() == Level::ERROR }
    }
}

impl Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.sender.line(&self.line);
            if self.is_error {
                self.sender.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;

    /// A reader that reads only while the gate is open.
    #[derive(Clone, Default)]
    struct Slow {
        gate: Arc<Mutex<()>>,
        seen: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.gate.lock().unwrap();
            self.seen.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tell(lost: u64) -> String {
        format!("lost {lost}")
    }

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let out = Slow::default();
        let log = open(Box::new(out.clone()), 8, tell).unwrap();
        for line in ["one\n", "two\n"] {
            let mut event = log.make_writer();
            let (start, rest) = line.split_at(2);
            event.write_all(start.as_bytes()).unwrap();
            event.write_all(rest.as_bytes()).unwrap();
        }
        log.flush();
        assert_eq!(*out.seen.lock().unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_reader_that_stopped_costs_lines_and_is_told_how_many() {
        let out = Slow::default();
        let log = open(Box::new(out.clone()), 4, tell).unwrap();
        let shut = out.gate.lock().unwrap();
        // One is in the hands of the thread at most, four wait; none of the calls does.
        for _ in 0..100 {
            log.make_writer().write_all(b"line\n").unwrap();
        }
        drop(shut);
        while !String::from_utf8_lossy(&out.seen.lock().unwrap()).contains("lost") {
            std::thread::yield_now();
        }
        let told = String::from_utf8(out.seen.lock().unwrap().clone()).unwrap();
        assert!(told.contains("lost 9"), "{told}");
    }
}
