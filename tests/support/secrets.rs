//! Credentials for tests: lines of a password file, tokens, certificates, and the client's side of SCRAM.

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use std::num::NonZeroU32;

/// Iterations of SCRAM's hash; few, for tests are many.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// The line of a password file with a hash that costs next to nothing, as mosquitto once had it.
pub fn password_line(user: &str, password: &str) -> String {
    let digest = digest::digest(&digest::SHA512, &[password.as_bytes(), b"salt"].concat());
    format!("{user}:$6${}${}\n", STANDARD.encode("salt"), STANDARD.encode(digest))
}

/// A line with SCRAM keys.
pub fn scram_line(user: &str, password: &str) -> String {
    let salted = salted(password, b"salty");
    let stored = digest::digest(&digest::SHA256, &mac(&salted, b"Client Key"));
    let server = STANDARD.encode(mac(&salted, b"Server Key"));
    let (salt, stored) = (STANDARD.encode("salty"), STANDARD.encode(stored));
    format!("{user}:$scram-sha-256$i={ITERATIONS}${salt}${stored}${server}\n")
}

fn salted(password: &str, salt: &[u8]) -> [u8; 32] {
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, salt, password.as_bytes(), &mut salted);
    salted
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// The first message of a SCRAM client.
pub fn scram_first(user: &str) -> String {
    format!("n,,n={user},r=clientnonce")
}

/// The last message of a SCRAM client, and the server's answer that proves it knows the user.
pub fn scram_last(user: &str, password: &str, challenge: &str) -> (String, String) {
    let part =
        |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).expect("part of the challenge");
    let (nonce, salt) = (part("r="), STANDARD.decode(part("s=")).expect("salt in base64"));
    let iterations: NonZeroU32 = part("i=").parse().expect("a number of iterations");
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
    let without_proof = format!("c=biws,r={nonce}");
    let transcript = format!("n={user},r=clientnonce,{challenge},{without_proof}");
    let client_key = mac(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, &client_key);
    let signature = mac(stored.as_ref(), transcript.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(one, other)| one ^ other).collect();
    let answer = mac(&mac(&salted, b"Server Key"), transcript.as_bytes());
    (format!("{without_proof},p={}", STANDARD.encode(proof)), format!("v={}", STANDARD.encode(answer)))
}

/// A token with these claims (JSON), signed with HS256.
pub fn token(secret: &str, claims: &str) -> String {
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#), URL_SAFE_NO_PAD.encode(claims));
    let signature = mac(secret.as_bytes(), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Seconds since 1970, `later` from now.
pub fn in_seconds(later: i64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(now.as_secs()).expect("a time of this age") + later
}

/// An authority that signs certificates for tests.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Signed {
    pub certificate: String,
    pub key: String,
    serial: SerialNumber,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate with this common name, for `localhost` as well.
    pub fn sign(&self, name: &str, serial: u64) -> Signed {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial.into());
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Signed { certificate: certificate.pem(), key: key.serialize_pem(), serial: serial.into() }
    }

    /// A list that revokes these.
    pub fn revocations(&self, revoked: &[&Signed]) -> String {
        let (then, until) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2090, 1, 1));
        let revoke = |signed: &&Signed| RevokedCertParams {
            serial_number: signed.serial.clone(),
            revocation_time: then,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: then,
            next_update: until,
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(revoke).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}
