//! The calls under way on one connection. It is made before the connection is, so that what is asked for while we dial
//! waits in it; and it ends with the connection, or with the attempt to make one.

use super::outbox::{Closed, Outbox};
use super::ports::{CallError, LARGEST_PAYLOAD, Refusal, Request};
use super::proto;
use super::wire::Settings;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

type Outcome = Result<Bytes, CallError>;

/// The asking side of one connection.
#[derive(Debug)]
pub(super) struct Line {
    outbox: Arc<Outbox<proto::Request>>,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    next: u64,
    /// Gone when the connection is.
    waiting: Option<HashMap<u64, oneshot::Sender<Outcome>, foldhash::fast::RandomState>>,
}

impl Line {
    pub(super) fn new() -> Arc<Self> {
        // 0 is the number of what has no answer.
        let calls = Calls { next: 1, waiting: Some(HashMap::default()) };
        Arc::new(Self { outbox: Outbox::new(), calls: Mutex::new(calls) })
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox<proto::Request>> {
        &self.outbox
    }

    /// Queues a request whose answer is waited for.
    pub(super) fn call(self: &Arc<Self>, request: Request, settings: &Settings) -> Result<Call, CallError> {
        let (sender, outcome) = oneshot::channel();
        let id = {
            let mut calls = self.calls.lock();
            let id = calls.next;
            let waiting = calls.waiting.as_mut().ok_or(CallError::Unreachable)?;
            if waiting.len() >= settings.in_flight {
                return Err(CallError::Full);
            }
            waiting.insert(id, sender);
            calls.next += 1;
            id
        };
        // From here on dropping the call forgets it.
        let call = Call { line: Arc::clone(self), id, outcome };
        self.push(id, request, settings)?;
        Ok(call)
    }

    /// Queues a request that has no answer.
    pub(super) fn tell(&self, request: Request, settings: &Settings) -> Result<(), CallError> {
        self.push(0, request, settings)
    }

    fn push(&self, id: u64, request: Request, settings: &Settings) -> Result<(), CallError> {
        let Request { group, kind, payload } = request;
        if payload.len() > LARGEST_PAYLOAD {
            return Err(CallError::TooLarge);
        }
        let request = proto::Request { id, group: group.into(), kind: kind.into(), payload };
        self.outbox.push(request, settings.queued_bytes).map_err(|closed| match closed {
            Closed::Full => CallError::Full,
            Closed::Gone => CallError::Unreachable,
        })
    }

    /// An answer came. If nobody waits for it any more it is dropped.
    pub(super) fn answered(&self, answer: proto::Answer) {
        let waiting = self.calls.lock().waiting.as_mut().and_then(|waiting| waiting.remove(&answer.id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(outcome(answer.outcome));
        }
    }

    /// The end: every call under way fails.
    pub(super) fn close(&self) {
        let waiting = self.calls.lock().waiting.take();
        self.outbox.close();
        for call in waiting.into_iter().flat_map(HashMap::into_values) {
            let _ = call.send(Err(CallError::Unreachable));
        }
    }
}

fn outcome(outcome: Option<proto::answer::Outcome>) -> Outcome {
    match outcome {
        Some(proto::answer::Outcome::Payload(payload)) => Ok(payload),
        Some(proto::answer::Outcome::Refusal(refusal)) => Err(refused(refusal)),
        // An empty payload is there, though it has no bytes.
        None => Err(CallError::Refused(Refusal::new(Refusal::NOT_UNDERSTOOD, "an answer without an outcome"))),
    }
}

/// What a refusal from the other end is to whoever called.
pub(super) fn refused(refusal: proto::Refusal) -> CallError {
    match refusal.code {
        Refusal::TOO_LARGE => CallError::TooLarge,
        code => CallError::Refused(Refusal { code, text: refusal.text }),
    }
}

/// A call under way. Dropping it gives its place to another.
#[derive(Debug)]
pub(super) struct Call {
    line: Arc<Line>,
    id: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl Call {
    pub(super) async fn outcome(mut self) -> Outcome {
        // Nobody drops the sender without a word, except when this call is dropped.
        (&mut self.outcome).await.unwrap_or(Err(CallError::Unreachable))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(waiting) = self.line.calls.lock().waiting.as_mut() {
            waiting.remove(&self.id);
        }
    }
}
