//! A socket while its layers are put on, whichever end began.

use super::layers::Layers;
use super::socket::Raw;
use rustls::Connection;
use std::io;

/// Bytes read at a time.
const READ: usize = 2048;

/// Why the layers could not be put on.
#[derive(Debug)]
pub(super) enum WrapError {
    /// The other end closed the connection before.
    Closed,
    Io(io::Error),
    Tls(rustls::Error),
}

impl From<io::Error> for WrapError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A socket, and what is around it so far.
pub(super) struct Wrapping {
    pub(super) raw: Raw,
    pub(super) layers: Layers,
}

impl Wrapping {
    pub(super) fn new(raw: Raw) -> Self {
        Self { raw, layers: Layers::new(None) }
    }

    /// Puts TLS around the socket, which has nothing around it yet.
    pub(super) async fn handshake(&mut self, tls: Connection) -> Result<(), WrapError> {
        self.layers = Layers::new(Some(Box::new(tls)));
        loop {
            self.flush().await?;
            if self.layers.tls().is_none_or(|tls| !tls.is_handshaking()) {
                return Ok(());
            }
            self.receive().await?;
        }
    }

    /// Waits for more in the inbox of the layers. It may be that nothing has come for it when this returns.
    pub(super) async fn more(&mut self) -> Result<(), WrapError> {
        if self.layers.is_over() {
            return Err(WrapError::Closed);
        }
        self.receive().await
    }

    /// Takes what the socket brings next through the layers.
    async fn receive(&mut self) -> Result<(), WrapError> {
        self.raw.readable().await?;
        // Behind the wait, so that whoever waits holds none.
        let mut buffer = [0; READ];
        let count = match self.raw.receive(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            other => other?,
        };
        if count == 0 {
            return Err(WrapError::Closed);
        }
        if let Err(error) = self.layers.take_in(&buffer[..count]) {
            // The alert that says why, as far as it goes.
            let _ = self.layers.flush(&self.raw);
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            return Err(inner.cloned().map_or_else(|| error.into(), WrapError::Tls));
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<(), WrapError> {
        loop {
            match self.layers.flush(&self.raw) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.raw.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
