//! A byte stream between two nodes, plain or within TLS.

use super::tls::Security;
use crate::env::net::TcpStream;
use rustls_pki_types::ServerName;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::server::Connected;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A byte stream to another node.
pub(super) struct Socket {
    stream: Box<dyn Stream>,
    /// Its place among those that were accepted.
    _place: Option<OwnedSemaphorePermit>,
}

impl Socket {
    /// The dialling end, towards a node whose certificate is for `host`.
    pub(super) async fn dialled(stream: TcpStream, security: &Security, host: &str) -> io::Result<Self> {
        let stream: Box<dyn Stream> = match security {
            Security::Plain => Box::new(stream),
            Security::Tls(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(tls.client.clone()).connect(name, stream).await?)
            }
        };
        Ok(Self { stream, _place: None })
    }

    /// The accepting end.
    pub(super) async fn accepted(
        stream: TcpStream,
        security: &Security,
        place: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        let stream: Box<dyn Stream> = match security {
            Security::Plain => Box::new(stream),
            Security::Tls(tls) => Box::new(TlsAcceptor::from(tls.server.clone()).accept(stream).await?),
        };
        Ok(Self { stream, _place: Some(place) })
    }
}

impl Connected for Socket {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
