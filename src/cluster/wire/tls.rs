//! Mutual TLS between nodes: every node shows a certificate of the cluster's authority, whichever end it is.

use crate::transport::{TlsProblem, certificates, private_key, problem};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What HTTP/2 is called within TLS.
const ALPN: &[u8] = b"h2";

/// The files that a node's TLS is made of, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that signs the certificates of all nodes, and of nobody else.
    pub ca: PathBuf,
    /// This node's certificate chain, for a server and a client, with the host by which the others reach it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The name by which addresses of nodes are found. The certificate of a node that is dialled by its address, which is
    /// not known when certificates are made, may be for this name instead.
    pub found_by: Option<String>,
}

/// How the connections between nodes are secured.
#[derive(Clone, Debug)]
pub enum Security {
    /// Not at all: whoever reaches the port is believed. For networks that nobody else is on.
    Plain,
    /// By mutual TLS.
    Tls(Tls),
}

/// Mutual TLS, read from its files.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
}

/// Believes what the authority has signed for the host that was dialled; or, if that is an address, for the name by which
/// it was found.
#[derive(Debug)]
struct Verifier {
    known: Arc<WebPkiServerVerifier>,
    found_by: Option<ServerName<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |name| self.known.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        verify(server_name).or_else(|error| match (server_name, &self.found_by) {
            (ServerName::IpAddress(_), Some(name)) => verify(name),
            _ => Err(error),
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.known.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.known.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_verify_schemes()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// With the first file that cannot be used.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsProblem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = &[&rustls::version::TLS13];
        let unusable = |error| problem("certificate", Path::new("TLS 1.3"), error);
        let chain = certificates("certificate", &files.certificate)?;
        let key = private_key("key", &files.key)?;
        let mut roots = RootCertStore::empty();
        for root in certificates("ca", &files.ca)? {
            roots.add(root).map_err(|error| problem("ca", &files.ca, error))?;
        }
        let roots = Arc::new(roots);

        let known = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| problem("ca", &files.ca, error))?;
        // A name that can be resolved and cannot be in a certificate finds nobody with TLS.
        let found_by = files.found_by.clone().and_then(|name| ServerName::try_from(name).ok());
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { known, found_by }))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|error| problem("key", &files.key, error))?;
        client.alpn_protocols = vec![ALPN.to_vec()];

        let nodes = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| problem("ca", &files.ca, error))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .with_client_cert_verifier(nodes)
            .with_single_cert(chain, key)
            .map_err(|error| problem("key", &files.key, error))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}
