//! The other end of the links that nodes dial to us: hears their hello, hands their requests to the service in order,
//! and sends the answers back.

use super::hello::{Introduction, PROTOCOL, Told};
use super::outbox::{Item, Outbox, Writer};
use super::ports::{BoxFuture, LARGEST_PAYLOAD, Lane, Peer, Refusal, Request};
use super::proto::cluster_server::Cluster;
use super::proto::{self, answer, probe_answer};
use super::wire::Shared;
use crate::env::task;
use bytes::Bytes;
use nightjar_base::NodeId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Response, Status, Streaming};

/// How long a node that has connected may take to say hello.
const HELLO: Duration = Duration::from_secs(5);

/// Serves the other nodes.
pub(super) struct Host {
    shared: Arc<Shared>,
    guests: Arc<Guests>,
    told: Mutex<Told>,
}

/// The links that are served, each with what ends it when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<HashMap<(NodeId, Lane), oneshot::Sender<()>>>);

impl Guests {
    /// A newer link of a node takes the place of the one it had: the node knows better which of the two lives.
    fn welcome(&self, node: NodeId, lane: Lane) -> oneshot::Receiver<()> {
        let (stays, ends) = oneshot::channel();
        self.0.lock().insert((node, lane), stays);
        ends
    }

    /// Forgets a link whose end has come; not the one that took its place.
    fn farewell(&self, node: NodeId, lane: Lane) {
        let mut guests = self.0.lock();
        if guests.get(&(node, lane)).is_some_and(oneshot::Sender::is_closed) {
            guests.remove(&(node, lane));
        }
    }

    /// Ends them all.
    pub(super) fn dismiss(&self) {
        self.0.lock().clear();
    }
}

impl Host {
    pub(super) fn new(shared: Arc<Shared>, guests: Arc<Guests>) -> Self {
        Self { shared, guests, told: Mutex::default() }
    }

    /// Who has connected, or the status that turns it away.
    fn recognise(&self, hello: Option<proto::Hello>) -> Result<(Peer, Lane, proto::Hello), Status> {
        let cluster = self.shared.cluster.borrow().clone();
        let cluster = cluster.ok_or_else(|| Status::unavailable("this node belongs to no cluster yet"))?;
        let introduction = Introduction { me: &self.shared.me, cluster: &cluster };
        let claimed = hello.as_ref().map(|hello| NodeId(hello.node));
        let (peer, lane) = introduction.check(hello, None).map_err(|mismatch| {
            let why = mismatch.to_string();
            if self.told.lock().is_news(&format!("{claimed:?} {why}")) {
                let node = claimed.map(tracing::field::display);
                tracing::warn!(node, why, "a node that dialled this one was refused");
            }
            Status::failed_precondition(why)
        })?;
        let answer = introduction.hello(peer.node, lane);
        Ok((peer, lane, answer))
    }
}

#[tonic::async_trait]
impl Cluster for Host {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<proto::Answers, Status>> + Send>>;

    async fn link(
        &self,
        request: tonic::Request<Streaming<proto::Requests>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut requests = request.into_inner();
        let first = task::timeout(HELLO, requests.message());
        let first = first.await.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let (peer, lane, hello) = self.recognise(first.and_then(|first| first.hello))?;
        let ends = self.guests.welcome(peer.node, lane);
        let outbox = Outbox::new();
        outbox.open();
        let hello = proto::Answers { hello: Some(hello), answers: Vec::new() };
        let answers = Writer::new(hello, Arc::clone(&outbox)).map(Ok);
        let places = Arc::new(Semaphore::new(self.shared.settings.in_flight));
        let guest = Guest { shared: Arc::clone(&self.shared), peer, lane, outbox, places };
        let guests = Arc::clone(&self.guests);
        task::spawn(async move {
            tokio::select! {
                () = guest.serve(requests) => {}
                _ = ends => {}
            }
            guest.outbox.close();
            guests.farewell(guest.peer.node, guest.lane);
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn probe(
        &self,
        request: tonic::Request<proto::ProbeQuestion>,
    ) -> Result<Response<proto::ProbeAnswer>, Status> {
        let proto::ProbeQuestion { protocol, kind, payload } = request.into_inner();
        let outcome = match u8::try_from(kind) {
            Ok(kind) if protocol == PROTOCOL => bounded(self.shared.service.probe(kind, payload).await),
            Ok(_) => Err(not_understood(format!("version {protocol} of the protocol, this node speaks {PROTOCOL}"))),
            Err(_) => Err(not_understood(format!("kind {kind}"))),
        };
        let outcome = Some(match outcome {
            Ok(payload) => probe_answer::Outcome::Payload(payload),
            Err(refusal) => probe_answer::Outcome::Refusal(refusal.into()),
        });
        Ok(Response::new(proto::ProbeAnswer { outcome }))
    }
}

/// One link that another node dialled.
struct Guest {
    shared: Arc<Shared>,
    peer: Peer,
    lane: Lane,
    outbox: Arc<Outbox<Answer>>,
    /// Requests that are handled at a time. When there are no more, nothing is read, and the sender's queue fills.
    places: Arc<Semaphore>,
}

impl Guest {
    /// Hands over what comes, to the end of the link.
    async fn serve(&self, mut requests: Streaming<proto::Requests>) {
        while let Ok(Some(message)) = requests.message().await {
            for request in message.requests {
                self.outbox.relieved(self.shared.settings.queued_bytes).await;
                let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
                self.handle(request, place);
            }
        }
    }

    fn handle(&self, request: proto::Request, place: OwnedSemaphorePermit) {
        let proto::Request { id, group, kind, payload } = request;
        let mut work = match (u16::try_from(group), u8::try_from(kind)) {
            (Ok(group), Ok(kind)) => {
                self.shared.service.handle(&self.peer, self.lane, Request { group, kind, payload })
            }
            _ => refuse(not_understood(format!("group {group}, kind {kind}"))),
        };
        // Many are done at once, and need no task.
        if let Poll::Ready(outcome) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return reply(&self.outbox, id, outcome, place);
        }
        let outbox = Arc::clone(&self.outbox);
        task::spawn(async move { reply(&outbox, id, work.await, place) });
    }
}

fn reply(outbox: &Outbox<Answer>, id: u64, outcome: Result<Bytes, Refusal>, place: OwnedSemaphorePermit) {
    if id != 0 {
        // Answers are bounded by the places, and no more is read while many bytes of them wait. If the link is gone so
        // is whoever asked.
        let _ = outbox.push(Answer { id, outcome: bounded(outcome), _place: place }, usize::MAX);
    }
}

fn bounded(outcome: Result<Bytes, Refusal>) -> Result<Bytes, Refusal> {
    outcome.and_then(|payload| {
        let fits = payload.len() <= LARGEST_PAYLOAD;
        fits.then_some(payload)
            .ok_or_else(|| Refusal::new(Refusal::TOO_LARGE, "the answer is larger than the wire carries"))
    })
}

fn not_understood(what: String) -> Refusal {
    Refusal::new(Refusal::NOT_UNDERSTOOD, what)
}

fn refuse(refusal: Refusal) -> BoxFuture<'static, Result<Bytes, Refusal>> {
    Box::pin(std::future::ready(Err(refusal)))
}

/// An answer that waits to be written, and holds its request's place until then.
struct Answer {
    id: u64,
    outcome: Result<Bytes, Refusal>,
    _place: OwnedSemaphorePermit,
}

impl Item for Answer {
    type Message = proto::Answers;

    fn weight(&self) -> usize {
        24 + match &self.outcome {
            Ok(payload) => payload.len(),
            Err(refusal) => refusal.text.len(),
        }
    }

    fn message(answers: Vec<Self>) -> proto::Answers {
        let answers = answers.into_iter().map(|answer| {
            let outcome = Some(match answer.outcome {
                Ok(payload) => answer::Outcome::Payload(payload),
                Err(refusal) => answer::Outcome::Refusal(refusal.into()),
            });
            proto::Answer { id: answer.id, outcome }
        });
        proto::Answers { hello: None, answers: answers.collect() }
    }
}

impl From<Refusal> for proto::Refusal {
    fn from(refusal: Refusal) -> Self {
        /// Enough words for a reason.
        const LONGEST: usize = 1024;
        let mut text = refusal.text;
        text.truncate(text.floor_char_boundary(LONGEST));
        Self { code: refusal.code, text }
    }
}
