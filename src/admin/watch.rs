//! Looking at what happens, as it happens and before it does.

use super::access::{Caller, From, Tokens};
use super::answer::{Answer, ErrorBody, Failure, Json, Query};
use super::routes::State;
use crate::broker::inspect::Explanation;
use crate::broker::{Event, Lens, Look, look};
use crate::env::task;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State as Of;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use nightjar_mqtt::topic;
use serde::Deserialize;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use utoipa::IntoParams;

/// How long a look may take, and takes unless the request says so.
const LONGEST: u64 = 86_400;
const USUAL: u64 = 60;
/// An empty line goes when nothing has happened for so long: so that both ends know that the other is there.
const SILENCE: Duration = Duration::from_secs(10);

/// What to look at; all that is given must fit.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Through {
    /// This client identifier.
    client: Option<String>,
    /// Topics that this filter matches.
    topic: Option<String>,
    /// Clients of this address.
    address: Option<String>,
    /// For so many seconds; 60 unless given, a day at most.
    seconds: Option<u64>,
}

/// What happens, one JSON object a line, as it happens.
#[utoipa::path(get, path = "/api/v1/trace", tag = "watch", params(Through),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), (status = 422, body = ErrorBody)))]
pub(super) async fn trace(
    Of(state): Of<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Query(through): Query<Through>,
) -> Result<Response, Failure> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (client, filter, address) = (given(through.client), given(through.topic), given(through.address));
    if client.is_none() && filter.is_none() && address.is_none() {
        return Err(Failure::wrong("expected one of client, topic and address"));
    }
    if let Some(filter) = &filter {
        topic::validate_filter(filter).map_err(|error| Failure::wrong(format!("topic: {error}")))?;
    }
    let address: Option<IpAddr> = match address {
        Some(text) => Some(text.parse().map_err(|_| Failure::wrong("address: expected an IP address"))?),
        None => None,
    };
    let seconds = through.seconds.unwrap_or(USUAL).clamp(1, LONGEST);
    let tokens = matches!(caller.from, From::Address(_)).then(|| state.tokens.load_full());
    let lines = Lines {
        state,
        tokens,
        look: look(Lens { client, topic: filter, address }),
        end: Box::pin(task::sleep(Duration::from_secs(seconds))),
        silence: Box::pin(task::sleep(Duration::ZERO)),
    };
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(lines)).into_response())
}

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a trace: a line an event, until its time is over.
struct Lines {
    state: Arc<State>,
    /// The tokens that let it in, unless it needed none: when they are replaced, it is over.
    tokens: Option<Arc<Tokens>>,
    look: Look,
    end: Sleep,
    silence: Sleep,
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let replaced = |tokens: &Arc<Tokens>| **tokens != **self.state.tokens.load();
        if self.tokens.as_ref().is_some_and(replaced) || self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let line = match self.look.poll_next(context) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(event)) => line(&event),
            Poll::Pending if self.silence.as_mut().poll(context).is_ready() => Bytes::from_static(b"\n"),
            Poll::Pending => return Poll::Pending,
        };
        self.silence = Box::pin(task::sleep(SILENCE));
        // So that it wakes us when there is nothing else.
        let _ = self.silence.as_mut().poll(context);
        Poll::Ready(Some(Ok(Frame::data(line))))
    }
}

fn line(event: &Event) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// Who is to receive what.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Question {
    /// The client identifier.
    client: String,
    /// The topic.
    topic: String,
}

/// Whether, and why, a client would receive a message on a topic, and what it lost of late.
#[utoipa::path(get, path = "/api/v1/explain", tag = "watch", params(Question),
    responses((status = 200, body = Explanation), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(super) async fn explain(Of(state): Of<Arc<State>>, Query(question): Query<Question>) -> Answer<Explanation> {
    topic::validate_name(question.topic.as_bytes()).map_err(|error| Failure::wrong(format!("topic: {error}")))?;
    let explanation = state.handle.explain(&question.client, &question.topic);
    explanation.map(Json).ok_or_else(|| Failure::not_found("client"))
}
