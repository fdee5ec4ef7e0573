//! From an address to a node that can be asked.

use super::hello::Mismatch;
use super::ports::Lane;
use super::proto::cluster_client::ClusterClient;
use super::socket::Socket;
use super::tls::Security;
use super::wire::LARGEST_MESSAGE;
use crate::env::net;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use std::time::Duration;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// Bytes that may be under way on a stream, and on a connection: enough to keep a fast network busy.
pub(super) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
pub(super) const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Why a node was not reached, or is not asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{}", causes(.0))]
    Http(#[from] tonic::transport::Error),
    /// The other end, or the connection to it, failed.
    #[error("{}", describe(.0))]
    Call(tonic::Status),
    #[error("it took too long")]
    TimedOut,
    #[error("the other node hung up")]
    HungUp,
    /// We do not speak to it.
    #[error("{0}")]
    Mismatch(#[from] Mismatch),
    /// It does not speak to us.
    #[error("it refuses this node: {0}")]
    Refused(String),
}

impl From<tonic::Status> for DialError {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            Code::FailedPrecondition => Self::Refused(status.message().to_owned()),
            _ => Self::Call(status),
        }
    }
}

impl DialError {
    /// Whether somebody has to do something before it can work.
    pub(super) fn lasts(&self) -> bool {
        matches!(self, Self::Mismatch(_) | Self::Refused(_))
    }
}

fn describe(status: &tonic::Status) -> String {
    match status.source() {
        Some(source) => causes(source),
        None => status.message().to_owned(),
    }
}

/// An error with all that caused it: the outermost alone says little more than that something failed.
fn causes(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// After how much silence a node is asked for a sign of life, and how long we wait for that. On the beat lane there is no
/// silence, as long as the other end lives; on that for snapshots hardly ever anything else.
fn patience(lane: Lane) -> (Duration, Duration) {
    match lane {
        Lane::Beat => (Duration::from_millis(800), Duration::from_millis(600)),
        Lane::Bulk => (Duration::from_millis(3000), Duration::from_millis(3000)),
        Lane::Snapshot => (Duration::from_secs(20), Duration::from_secs(5)),
    }
}

/// Connects to whoever listens at `address`. The caller bounds the time.
pub(super) async fn dial(address: &str, lane: Lane, security: &Security) -> Result<Channel, DialError> {
    let stream = net::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut socket = Some(Socket::dialled(stream, security, host(address)).await?);
    let (silence, patience) = patience(lane);
    let channel = Endpoint::from_static("http://node")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(silence)
        .keep_alive_timeout(patience)
        .keep_alive_while_idle(true)
        // Once: a connection that is lost is dialled anew, from the beginning.
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.take().map(TokioIo::new).ok_or(io::ErrorKind::NotConnected);
            async move { socket.map_err(io::Error::from) }
        }))
        .await?;
    Ok(channel)
}

/// What is asked over a connection.
pub(super) fn client(channel: Channel) -> ClusterClient<Channel> {
    let client = ClusterClient::new(channel);
    client.max_decoding_message_size(LARGEST_MESSAGE).max_encoding_message_size(LARGEST_MESSAGE)
}

/// The host of an address, without the brackets of IPv6.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn the_host_of_an_address_is_what_its_certificate_names() {
        for (address, expected) in
            [("node-1.example:7000", "node-1.example"), ("[::1]:7000", "::1"), ("10.0.0.1:1", "10.0.0.1")]
        {
            assert_eq!(host(address), expected);
        }
    }
}
