//! TLS towards a remote broker: whose certificates are believed, and which one is shown.

use super::tls::{TlsProblem, certificates, private_key, problem};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the TLS of a bridge is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialTlsSettings {
    /// Whose certificates are believed; `None`: those that the system believes.
    pub ca: Option<PathBuf>,
    /// The certificate chain to show, and its key.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// Protocol names.
    pub alpn: Vec<String>,
    /// Whether any certificate is believed.
    pub insecure: bool,
}

/// TLS towards a remote broker.
#[derive(Clone, Debug)]
pub struct DialTls(Arc<ClientConfig>);

impl DialTls {
    /// Reads the files.
    ///
    /// # Errors
    /// With the first file that cannot be used.
    pub fn new(settings: &DialTlsSettings) -> Result<Self, TlsProblem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
            .map_err(|error| problem("ca", Path::new("TLS"), error))?;
        let builder = if settings.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            builder.with_root_certificates(roots(settings.ca.as_deref())?)
        };
        let mut config = match &settings.pair {
            Some((chain_path, key_path)) => {
                let chain = certificates("certificate", chain_path)?;
                let key = private_key("key", key_path)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| problem("key", key_path, error))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = settings.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        Ok(Self(Arc::new(config)))
    }

    /// The client's side of one more connection, to a remote that is to prove that it is `name`.
    pub(super) fn connection(&self, name: ServerName<'static>) -> Result<Connection, rustls::Error> {
        let mut connection = ClientConnection::new(Arc::clone(&self.0), name)?;
        // Whoever writes bounds what is written.
        connection.set_buffer_limit(None);
        Ok(connection.into())
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsProblem> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for root in certificates("ca", path)? {
                roots.add(root).map_err(|error| problem("ca", path, error))?;
            }
        }
        None => {
            // Some of a system's certificates may be of kinds that are not understood: the others count.
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let text = "this system has no certificates of authorities: install ca-certificates, or name a file";
                return Err(TlsProblem { key: "ca", text: text.to_owned() });
            }
        }
    }
    Ok(roots)
}

/// Believes every certificate. Signatures are checked all the same: whoever shows a certificate has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
