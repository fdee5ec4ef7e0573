//! What waits to be written to one connection, within bounds. Whenever the connection takes more, all that waits is
//! written as one message, up to a size.

use super::proto;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;
use tokio_stream::Stream;

/// A message holds no more once it has this many bytes: large enough to make the cost of a message small, small enough
/// that the first of it is handled while the rest is on its way.
const ENOUGH: usize = 256 * 1024;

/// What goes into an outbox.
pub(super) trait Item: Send + Unpin + 'static {
    /// What holds several of them.
    type Message;
    /// Bytes on the wire, about.
    fn weight(&self) -> usize;
    /// The message that holds these.
    fn message(items: Vec<Self>) -> Self::Message
    where
        Self: Sized;
}

/// Why an outbox takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Too many bytes wait.
    Full,
    /// The connection is gone.
    Gone,
}

/// The queue in front of a connection.
#[derive(Debug)]
pub(super) struct Outbox<T> {
    state: Mutex<State<T>>,
    /// Told whenever something was written, and at the end.
    taken: Notify,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    bytes: usize,
    writer: Option<Waker>,
    phase: Phase,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing but the hello is written yet.
    Shut,
    Open,
    Over,
}

impl<T: Item> Outbox<T> {
    /// An outbox from which nothing is written before [`Self::open`].
    pub(super) fn new() -> Arc<Self> {
        let state = State { waiting: VecDeque::new(), bytes: 0, writer: None, phase: Phase::Shut };
        Arc::new(Self { state: Mutex::new(state), taken: Notify::new() })
    }

    /// Appends `item`. If something waits already, and with it there would be more than `most` bytes, it is not taken.
    pub(super) fn push(&self, item: T, most: usize) -> Result<(), Closed> {
        let weight = item.weight();
        let writer = {
            let mut state = self.state.lock();
            if state.phase == Phase::Over {
                return Err(Closed::Gone);
            }
            if !state.waiting.is_empty() && state.bytes + weight > most {
                return Err(Closed::Full);
            }
            state.waiting.push_back(item);
            state.bytes += weight;
            state.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(())
    }

    /// From now on what waits is written.
    pub(super) fn open(&self) {
        self.enter(Phase::Open);
    }

    /// The end: what waits is dropped, and nothing is taken any more.
    pub(super) fn close(&self) {
        self.enter(Phase::Over);
        self.taken.notify_one();
    }

    fn enter(&self, phase: Phase) {
        let (dropped, writer) = {
            let mut state = self.state.lock();
            if state.phase == Phase::Over {
                return;
            }
            state.phase = phase;
            let over = state.phase == Phase::Over;
            (if over { std::mem::take(&mut state.waiting) } else { VecDeque::new() }, state.writer.take())
        };
        drop(dropped);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Waits until at most `most` bytes wait, or the outbox is closed. For one waiter at a time.
    pub(super) async fn relieved(&self, most: usize) {
        loop {
            {
                let state = self.state.lock();
                if state.bytes <= most || state.phase == Phase::Over {
                    return;
                }
            }
            self.taken.notified().await;
        }
    }

    fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<T::Message>> {
        let mut items = Vec::new();
        {
            let mut state = self.state.lock();
            if state.phase == Phase::Over {
                return Poll::Ready(None);
            }
            let mut bytes = 0;
            while state.phase == Phase::Open {
                let Some(next) = state.waiting.front() else { break };
                let weight = next.weight();
                // One that is larger than that goes alone.
                if bytes > 0 && bytes + weight > ENOUGH {
                    break;
                }
                bytes += weight;
                items.extend(state.waiting.pop_front());
            }
            state.bytes -= bytes;
            if items.is_empty() {
                state.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        self.taken.notify_one();
        Poll::Ready(Some(T::message(items)))
    }
}

/// What a connection writes: the hello, and then what the outbox has. The outbox ends with it.
#[derive(Debug)]
pub(super) struct Writer<T: Item> {
    hello: Option<T::Message>,
    outbox: Arc<Outbox<T>>,
}

impl<T: Item> Writer<T> {
    pub(super) fn new(hello: T::Message, outbox: Arc<Outbox<T>>) -> Self {
        Self { hello: Some(hello), outbox }
    }
}

impl<T: Item<Message: Unpin>> Stream for Writer<T> {
    type Item = T::Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.hello.take() {
            Some(hello) => Poll::Ready(Some(hello)),
            None => self.outbox.poll_take(context),
        }
    }
}

impl<T: Item> Drop for Writer<T> {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// Bytes around a payload, at most.
const AROUND: usize = 24;

impl Item for proto::Request {
    type Message = proto::Requests;

    fn weight(&self) -> usize {
        self.payload.len() + AROUND
    }

    fn message(requests: Vec<Self>) -> proto::Requests {
        proto::Requests { hello: None, requests }
    }
}
