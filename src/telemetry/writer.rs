//! Log lines leave through a thread of their own: whoever reads the standard error may be slow or have stopped reading,
//! and that must not stop a thread that serves connections.
//!
//! What does not fit is lost and counted, and the count is told as soon as there is room again.

use crate::env::task;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const ROOM: usize = 8_192;
/// How long a stop waits for a reader that has stopped reading.
const PATIENCE: Duration = Duration::from_secs(1);

static LOG: OnceLock<Sender> = OnceLock::new();

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Clone, Debug)]
pub(super) struct Sender {
    items: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

/// Starts the thread that writes.
pub(super) fn start(out: Box<dyn Write + Send>) -> io::Result<Sender> {
    let sender = open(out, ROOM)?;
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

fn open(out: Box<dyn Write + Send>, room: usize) -> io::Result<Sender> {
    let (items, queue) = sync_channel(room);
    let lost = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lost);
    task::thread("log", move || write(out, &queue, &counted))?;
    Ok(Sender { items, lost })
}

fn write(mut out: Box<dyn Write + Send>, queue: &Receiver<Item>, lost: &AtomicU64) {
    for item in queue {
        match item {
            // There is nowhere to complain about a log that cannot be written.
            Item::Line(line) => drop(out.write_all(&line)),
            Item::Flush(done) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{{\"level\":\"WARN\",\"message\":\"log lines lost\",\"count\":{lost}}}");
        }
    }
}

impl Sender {
    fn line(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.items.try_send(Item::Line(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.items.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

/// One event on its way into the queue.
pub(super) struct Event<'a> {
    sender: &'a Sender,
    line: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Sender {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event { sender: self, line: Vec::new() }
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
            self.sender.line(std::mem::take(&mut self.line));
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

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let out = Slow::default();
        let log = open(Box::new(out.clone()), 8).unwrap();
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
        let log = open(Box::new(out.clone()), 4).unwrap();
        let shut = out.gate.lock().unwrap();
        // One is in the hands of the thread at most, four wait; none of the calls does.
        for _ in 0..100 {
            log.make_writer().write_all(b"line\n").unwrap();
        }
        drop(shut);
        while !String::from_utf8_lossy(&out.seen.lock().unwrap()).contains("log lines lost") {
            std::thread::yield_now();
        }
        let told = String::from_utf8(out.seen.lock().unwrap().clone()).unwrap();
        assert!(told.contains("\"count\":9"), "{told}");
    }
}
