//! Certificates for trying out TLS: an authority of one's own, a server's and a client's certificate.

use crate::env::entropy;
use nightjar_base::Wall;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};

/// How long the authority and its certificates are valid. Some systems refuse servers' certificates that live longer.
const DAYS: u64 = 825;
const DAY_MILLIS: u64 = 86_400_000;

/// Sets the days on which a certificate is valid, from the day before `now`, so that clocks may differ a little.
macro_rules! date {
    ($now:expr, $days:expr) => {{
        let (year, month, day) = civil(($now.0 / DAY_MILLIS).saturating_sub(1) + $days);
        rcgen::date_time_ymd(year, month, day)
    }};
}

/// An authority that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    now: Wall,
}

/// A certificate and its key, in PEM.
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
    serial: SerialNumber,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// When the crypto library gives no key.
    pub fn new(name: &str, now: Wall) -> Result<Self, Error> {
        let (params, key) = (authority(name, now)?, KeyPair::generate()?);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate, now })
    }

    /// One that [`Self::new`] has made under this name, from its certificate and its key, both in PEM.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn again(name: &str, certificate: String, key: &str, now: Wall) -> Result<Self, Error> {
        let issuer = Issuer::new(authority(name, now)?, KeyPair::from_pem(key)?);
        Ok(Self { issuer, certificate, now })
    }

    /// The authority's own certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.certificate.clone()
    }

    /// The authority's private key, in PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a server that is reached by `names`.
    ///
    /// # Errors
    /// When a name is none, or the crypto library gives no key.
    pub fn server(&self, names: &[String]) -> Result<Signed, Error> {
        let name = names.first().map_or("localhost", String::as_str);
        self.sign(params(name, names, self.now)?, &[ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// A certificate for a client called `name`.
    ///
    /// # Errors
    /// When the crypto library gives no key.
    pub fn client(&self, name: &str, names: &[String]) -> Result<Signed, Error> {
        self.sign(params(name, names, self.now)?, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A certificate for a node of a cluster that is reached by `names`: it is a server to the others, and their
    /// client.
    ///
    /// # Errors
    /// When a name is none, or the crypto library gives no key.
    pub fn node(&self, name: &str, names: &[String]) -> Result<Signed, Error> {
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params(name, names, self.now)?, &both)
    }

    fn sign(&self, mut params: CertificateParams, usages: &[ExtendedKeyUsagePurpose]) -> Result<Signed, Error> {
        let mut serial = [0; 16];
        entropy::fill(&mut serial);
        // Positive, and of one length.
        serial[0] = serial[0] & 0x7f | 0x40;
        let serial = SerialNumber::from_slice(&serial);
        params.serial_number = Some(serial.clone());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Signed { certificate: certificate.pem(), key: key.serialize_pem(), serial })
    }

    /// A list that revokes `revoked`, in PEM.
    ///
    /// # Errors
    /// When the crypto library cannot sign it.
    pub fn revocations(&self, revoked: &[&Signed]) -> Result<String, Error> {
        let (today, later) = (date!(self.now, 0), date!(self.now, DAYS));
        let revoke = |signed: &&Signed| RevokedCertParams {
            serial_number: signed.serial.clone(),
            revocation_time: today,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: today,
            next_update: later,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(revoke).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer)?.pem()
    }
}

fn authority(name: &str, now: Wall) -> Result<CertificateParams, Error> {
    let mut params = params(name, &[], now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(name: &str, names: &[String], now: Wall) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date!(now, 0), date!(now, DAYS));
    Ok(params)
}

/// Year, month and day of a day since 1970, by the Gregorian calendar: 400 years have 146,097 days, and a year that
/// begins in March has its leap day last.
fn civil(days: u64) -> (i32, u8, u8) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let small = |number: u64| u8::try_from(number).unwrap_or(1);
    (i32::try_from(year).unwrap_or(9999), small(month), small(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (789, (1972, 2, 29)),
            (11_016, (2000, 2, 29)),
            (20_782, (2026, 11, 25)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
    }
}
