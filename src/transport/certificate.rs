//! What is in a certificate.

use super::tls::{CertificateId, CertificateUser};
use nightjar_base::Wall;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, GeneralName, X509Certificate};

/// A certificate, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's.
    pub issuer: String,
    /// Hosts, addresses and the like.
    pub names: Vec<String>,
    /// The first moment at which it is valid.
    pub from: Wall,
    /// The last.
    pub until: Wall,
    /// Whether it may sign others.
    pub authority: bool,
}

/// The certificate in words.
///
/// # Errors
/// When it cannot be read.
pub fn summary(der: &CertificateDer<'_>) -> Result<Summary, String> {
    let certificate = parse(der)?;
    Ok(Summary {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names: names(&certificate),
        from: wall(certificate.validity().not_before.timestamp()),
        until: wall(certificate.validity().not_after.timestamp()),
        authority: certificate.is_ca(),
    })
}

fn parse<'d>(der: &'d CertificateDer<'_>) -> Result<X509Certificate<'d>, String> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| format!("not a certificate: {error}"))
}

fn wall(seconds: i64) -> Wall {
    Wall(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}

/// When a server's certificate expires, and the hosts that it is for.
pub(super) fn host(der: &CertificateDer<'_>) -> Result<(Wall, Vec<String>), String> {
    let certificate = parse(der)?;
    let until = wall(certificate.validity().not_after.timestamp());
    Ok((until, names(&certificate).into_iter().map(|name| name.to_ascii_lowercase()).collect()))
}

/// The alternative names.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let of = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress([a, b, c, d]) => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
        GeneralName::IPAddress(bytes) => {
            <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string())
        }
        _ => None,
    };
    extension.value.general_names.iter().filter_map(of).collect()
}

/// The user name in a client's certificate.
pub(super) fn user(der: &CertificateDer<'_>, which: CertificateUser) -> Option<String> {
    let certificate = parse(der).ok()?;
    match which {
        CertificateUser::None => None,
        CertificateUser::CommonName => {
            let name = certificate.subject().iter_common_name().next()?;
            name.as_str().ok().map(str::to_owned).filter(|name| !name.is_empty())
        }
        CertificateUser::AlternativeName => names(&certificate).into_iter().find(|name| !name.is_empty()),
    }
}

/// What a revocation list would call it.
pub(super) fn identify(der: &CertificateDer<'_>) -> Option<CertificateId> {
    let certificate = parse(der).ok()?;
    let (issuer, serial) = (certificate.issuer().as_raw().to_vec(), certificate.raw_serial().to_vec());
    Some(CertificateId { issuer, serial })
}

/// The certificates that a list revokes.
pub(super) fn revoked(der: &CertificateRevocationListDer<'_>) -> Result<Vec<CertificateId>, String> {
    let (_, list) = CertificateRevocationList::from_der(der).map_err(|error| format!("not a CRL: {error}"))?;
    let issuer = list.issuer().as_raw().to_vec();
    let of = |entry: &x509_parser::revocation_list::RevokedCertificate<'_>| CertificateId {
        issuer: issuer.clone(),
        serial: entry.raw_serial().to_vec(),
    };
    Ok(list.iter_revoked_certificates().map(of).collect())
}
