//! What a listener's certificates come to: one TLS configuration, renewed when its files change.

use super::certificate;
use crate::config::access;
use arc_swap::ArcSwap;
use nightjar_base::Wall;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{Connection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a listener's TLS is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificate chains and their keys. Clients that name a host get the one for it, others the first.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// Whose certificates clients may show.
    pub client_ca: Option<PathBuf>,
    /// Whether they must show one.
    pub client_required: bool,
    /// Revoked client certificates.
    pub crl: Option<PathBuf>,
    /// What of a client's certificate is its user name.
    pub user: CertificateUser,
}

/// What of a client's certificate is its user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateUser {
    /// Nothing: the certificate lets it in, and it says who it is in another way.
    #[default]
    None,
    /// The common name of the subject.
    CommonName,
    /// The first alternative name: a host, an e-mail address or a URI.
    AlternativeName,
}

/// What is wrong with a file of a listener's or a bridge's TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TlsProblem {
    /// The setting that names the file, without its listener or bridge.
    pub key: &'static str,
    /// What is wrong, with the path.
    pub text: String,
}

/// A client certificate, as a revocation list names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CertificateId {
    pub(super) issuer: Vec<u8>,
    pub(super) serial: Vec<u8>,
}

/// What TLS found out about a connection.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// `1.2` or `1.3`; `proxied` where a balancer ended it.
    pub version: &'static str,
    /// The user name in the client's certificate.
    pub certificate_user: Option<Arc<str>>,
    /// The client's certificate.
    pub certificate: Option<Shown>,
}

/// A certificate that a client showed.
#[derive(Clone, Debug)]
pub struct Shown {
    id: CertificateId,
    /// The authorities that were trusted when it did.
    authorities: Arc<Authorities>,
}

/// The certificates of authorities.
pub(super) type Authorities = HashSet<CertificateDer<'static>>;

/// A listener's TLS.
pub struct Tls {
    settings: TlsSettings,
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    expires: Option<Wall>,
    authorities: Arc<Authorities>,
    revoked: HashSet<CertificateId>,
    stamps: Vec<Stamp>,
}

/// Files that have changed, read and understood, and not in use yet.
pub struct Renewal {
    of: Arc<Tls>,
    loaded: Loaded,
}

impl Renewal {
    /// From now on new connections are made with it.
    pub fn commit(self) {
        self.of.loaded.store(Arc::new(self.loaded));
    }
}

/// By which a file is seen to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(Option<(u64, i64, i64, u64)>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// With the first file that cannot be used.
    pub fn new(settings: TlsSettings) -> Result<Arc<Self>, TlsProblem> {
        let loaded = load(&settings)?;
        Ok(Arc::new(Self { settings, loaded: ArcSwap::from_pointee(loaded) }))
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// Reads the files again if one has changed. Connections that are there keep what they have.
    ///
    /// # Errors
    /// With what is wrong; what was loaded before stays in use.
    pub fn renewal(self: &Arc<Self>) -> Result<Option<Renewal>, TlsProblem> {
        if stamps(&self.settings) == self.loaded.load().stamps {
            return Ok(None);
        }
        Ok(Some(Renewal { of: Arc::clone(self), loaded: load(&self.settings)? }))
    }

    /// When the first of its certificates expires.
    #[must_use]
    pub fn expires(&self) -> Option<Wall> {
        self.loaded.load().expires
    }

    /// Whether a certificate that was shown would still do: no list revokes it, and no authority is gone that may have
    /// signed it.
    #[must_use]
    pub fn still_takes(&self, shown: &Shown) -> bool {
        let loaded = self.loaded.load();
        !loaded.revoked.contains(&shown.id) && shown.authorities.is_subset(&loaded.authorities)
    }

    /// The server's side of one more connection, and whom it trusts.
    pub(super) fn connection(&self) -> Result<(ServerConnection, Arc<Authorities>), rustls::Error> {
        let loaded = self.loaded.load();
        let mut connection = ServerConnection::new(Arc::clone(&loaded.config))?;
        // Whoever writes bounds what is written.
        connection.set_buffer_limit(None);
        Ok((connection, Arc::clone(&loaded.authorities)))
    }

    /// What the handshake of `connection` found out, which trusts `authorities`.
    pub(super) fn info(&self, connection: &Connection, authorities: Arc<Authorities>) -> TlsInfo {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let shown = connection.peer_certificates().and_then(|chain| chain.first());
        TlsInfo {
            version,
            certificate_user: shown.and_then(|shown| certificate::user(shown, self.settings.user)).map(Into::into),
            certificate: shown.and_then(certificate::identify).map(|id| Shown { id, authorities }),
        }
    }
}

fn paths(settings: &TlsSettings) -> impl Iterator<Item = &PathBuf> {
    let pairs = settings.pairs.iter().flat_map(|(chain, key)| [chain, key]);
    pairs.chain(&settings.client_ca).chain(&settings.crl)
}

fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        Stamp(fs::metadata(path).ok().map(|found| (found.ino(), found.mtime(), found.mtime_nsec(), found.size())))
    };
    paths(settings).map(stamp).collect()
}

pub(crate) fn problem(key: &'static str, path: &Path, what: impl std::fmt::Display) -> TlsProblem {
    TlsProblem { key, text: format!("{}: {what}", path.display()) }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsProblem> {
    access::read_text(path).map(String::into_bytes).map_err(|why| problem(key, path, why))
}

/// A certificate chain and its key.
pub(crate) fn pair(
    chain_path: &Path,
    key_path: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsProblem> {
    Ok((certificates("certificate", chain_path)?, private_key("key", key_path)?))
}

fn load(settings: &TlsSettings) -> Result<Loaded, TlsProblem> {
    // Before the files are read: a change in between is seen as one.
    let stamps = stamps(settings);
    let mut expires: Option<Wall> = None;
    let mut hosts = Hosts::default();
    for (chain_path, key_path) in &settings.pairs {
        let (chain, key) = pair(chain_path, key_path)?;
        let leaf = &chain[0];
        let (until, names) = certificate::host(leaf).map_err(|why| problem("certificate", chain_path, why))?;
        expires = Some(expires.map_or(until, |before| before.min(until)));
        let signing = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| problem("key", key_path, error))?;
        let certified = CertifiedKey::new(chain, signing);
        certified.keys_match().map_err(|_| {
            problem("key", key_path, format!("does not belong to the certificate {}", chain_path.display()))
        })?;
        hosts.0.push((names, Arc::new(certified)));
    }
    let Clients { verifier, authorities, revoked } = clients(settings)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
        .map_err(|error| problem("certificate", Path::new("TLS"), error))?;
    let mut config = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    }
    .with_cert_resolver(Arc::new(hosts));
    // A new ticketer with every load: who resumes a session must show its certificate anew when lists have changed.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| problem("certificate", Path::new("TLS"), error))?;
    Ok(Loaded { config: Arc::new(config), expires, authorities, revoked, stamps })
}

/// The certificates in a file that a setting names; there is at least one.
pub(crate) fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let text = read(key, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| problem(key, path, format!("expected certificates in PEM: {error}")))?;
    if all.is_empty() { Err(problem(key, path, "expected certificates in PEM, found none")) } else { Ok(all) }
}

/// The private key in a file that a setting names. It can be used if others may read it too, and deserves a warning.
pub(crate) fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let private = PrivateKeyDer::from_pem_slice(&read(key, path)?)
        .map_err(|error| problem(key, path, format!("expected a private key in PEM: {error}")))?;
    if fs::metadata(path).is_ok_and(|found| found.mode() & 0o004 != 0) {
        tracing::warn!(key = %path.display(), "this private key can be read by everybody on this machine: chmod o-r it");
    }
    Ok(private)
}

type Verifier = Arc<dyn rustls::server::danger::ClientCertVerifier>;

/// Who may show a certificate, and which of them are revoked.
#[derive(Default)]
struct Clients {
    verifier: Option<Verifier>,
    authorities: Arc<Authorities>,
    revoked: HashSet<CertificateId>,
}

fn clients(settings: &TlsSettings) -> Result<Clients, TlsProblem> {
    let Some(ca_path) = &settings.client_ca else { return Ok(Clients::default()) };
    let authorities: Authorities = certificates("client_ca", ca_path)?.into_iter().collect();
    let mut roots = RootCertStore::empty();
    for root in &authorities {
        roots.add(root.clone()).map_err(|error| problem("client_ca", ca_path, error))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let mut revoked = HashSet::new();
    if let Some(crl_path) = &settings.crl {
        let text = read("crl", crl_path)?;
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
        let lists = lists.map_err(|error| problem("crl", crl_path, format!("expected a CRL in PEM: {error}")))?;
        if lists.is_empty() {
            return Err(problem("crl", crl_path, "expected a CRL in PEM, found none"));
        }
        for list in &lists {
            revoked.extend(certificate::revoked(list).map_err(|why| problem("crl", crl_path, why))?);
        }
        // Intermediate authorities publish lists of their own; what is asked for is the client's certificate.
        builder = builder.with_crls(lists).only_check_end_entity_revocation().allow_unknown_revocation_status();
    }
    if !settings.client_required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| problem("client_ca", ca_path, error))?;
    Ok(Clients { verifier: Some(verifier), authorities: Arc::new(authorities), revoked })
}

/// The certificates by host name; the first is for those who name none, or one that nobody knows.
#[derive(Debug, Default)]
struct Hosts(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl ResolvesServerCert for Hosts {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let fits = |name: &String| {
            asked.as_deref().is_some_and(|asked| {
                // A wildcard stands for one label (RFC 6125 section 6.4.3).
                name == asked
                    || name.strip_prefix('*').is_some_and(|tail| {
                        asked.split_once('.').is_some_and(|(_, rest)| tail.strip_prefix('.') == Some(rest))
                    })
            })
        };
        let named = self.0.iter().find(|(names, _)| names.iter().any(fits));
        named.or(self.0.first()).map(|(_, certified)| Arc::clone(certified))
    }
}
