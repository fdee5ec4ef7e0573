//! JSON Web Tokens: signed by somebody whose key we have, for a time that they say themselves.

use super::{Identity, Problem, Proof, Said, fingerprint};
use crate::config::{self, TokenIn, access};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use nightjar_base::Wall;
use nightjar_policy::Grants;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 30;
/// The longest token that is looked at.
const MOST: usize = 16 * 1024;

/// Keys, and what a token must say.
pub(super) struct Jwt {
    keys: Vec<Key>,
    algorithms: Vec<Algorithm>,
    issuer: Option<String>,
    audience: Option<String>,
    user_claim: String,
    groups_claim: String,
    publish_claim: String,
    subscribe_claim: String,
    from: TokenIn,
}

struct Key {
    /// The name that tokens call it by.
    id: Option<String>,
    family: AlgorithmFamily,
    key: DecodingKey,
    /// Stands for it.
    mark: u64,
}

impl Jwt {
    /// The keys that the settings name; `None` if they name none.
    pub(super) fn new(settings: &config::Auth) -> Result<Option<Self>, Vec<Problem>> {
        let mut keys = Vec::new();
        let mut problems = Vec::new();
        let mut take = |result: Result<Vec<Key>, Problem>| match result {
            Ok(more) => keys.extend(more),
            Err(problem) => problems.push(problem),
        };
        if let Some(path) = &settings.jwt_jwks {
            take(key_set(path));
        }
        if let Some(path) = &settings.jwt_public_key {
            take(public_key(path));
        }
        if let Some(secret) = &settings.jwt_secret {
            let bytes = secret.reveal().as_bytes();
            let key = DecodingKey::from_secret(bytes);
            take(Ok(vec![Key { id: None, family: AlgorithmFamily::Hmac, key, mark: fingerprint(&[bytes]) }]));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        if keys.is_empty() {
            return Ok(None);
        }
        // The configuration has checked the names.
        let named = settings.jwt_algorithms.iter().flatten().filter_map(|name| name.parse().ok()).collect();
        Ok(Some(Self {
            keys,
            algorithms: named,
            issuer: settings.jwt_issuer.clone(),
            audience: settings.jwt_audience.clone(),
            user_claim: settings.jwt_user_claim.clone(),
            groups_claim: settings.jwt_groups_claim.clone(),
            publish_claim: settings.jwt_publish_claim.clone(),
            subscribe_claim: settings.jwt_subscribe_claim.clone(),
            from: settings.jwt_from,
        }))
    }

    /// Whether a key with this mark is still there.
    pub(super) fn has_key(&self, mark: u64) -> bool {
        self.keys.iter().any(|key| key.mark == mark)
    }

    /// What the token in place of the password, or of the user name, says.
    pub(super) fn ask(&self, user: Option<&str>, password: Option<&[u8]>, client_id: &str) -> Said {
        let token = match self.from {
            TokenIn::Password => password.and_then(|password| std::str::from_utf8(password).ok()),
            TokenIn::Username => user,
        };
        let Some(token) = token.filter(|token| token.len() <= MOST) else { return Said::Unknown };
        // What does not even look like a token is a password, for somebody else to judge.
        let Ok(header) = decode_header(token) else { return Said::Unknown };
        if !self.algorithms.is_empty() && !self.algorithms.contains(&header.alg) {
            return Said::No;
        }
        let fits = |key: &&Key| {
            let named = header.kid.is_none() || key.id.is_none() || key.id == header.kid;
            named && key.family == header.alg.family()
        };
        for key in self.keys.iter().filter(fits) {
            if let Ok(data) = decode::<Map<String, Value>>(token, &key.key, &self.validation(header.alg)) {
                return self.identity(&data.claims, key.mark, client_id).map_or(Said::No, Said::Yes);
            }
        }
        Said::No
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        validation
    }

    fn identity(&self, claims: &Map<String, Value>, mark: u64, client_id: &str) -> Option<Identity> {
        let user = claims.get(&self.user_claim)?.as_str().filter(|user| !user.is_empty())?;
        // A token that names a client is for that client alone.
        if let Some(named) = claims.get("client_id")
            && named.as_str() != Some(client_id)
        {
            return None;
        }
        let seconds = claims.get("exp").and_then(Value::as_f64)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate")]
        let expires = Wall(((seconds + LEEWAY as f64) * 1000.0) as u64);
        let filters = |claim: &str| match claims.get(claim) {
            None => Some(None),
            Some(list) => texts(list).map(Some),
        };
        let (publish, subscribe) = (filters(&self.publish_claim)?, filters(&self.subscribe_claim)?);
        let grants = if publish.is_none() && subscribe.is_none() {
            None
        } else {
            let grants = Grants::new(&publish.unwrap_or_default(), &subscribe.unwrap_or_default()).ok()?;
            Some(Arc::new(grants))
        };
        let groups = claims.get(&self.groups_claim).and_then(texts).unwrap_or_default();
        Some(Identity {
            user: Some(user.into()),
            groups: groups.into_iter().map(Into::into).collect(),
            grants,
            expires: Some(expires),
            method: "jwt",
            proof: Proof::Key(mark),
        })
    }
}

/// A list of texts, or one text that stands for itself.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn read(key: &'static str, path: &Path) -> Result<String, Problem> {
    access::read_text(path).map_err(|why| Problem { key, text: format!("{}: {why}", path.display()) })
}

fn key_set(path: &Path) -> Result<Vec<Key>, Problem> {
    let setting = "auth.jwt_jwks";
    let problem = |why: String| Problem { key: setting, text: format!("{}: {why}", path.display()) };
    let text = read(setting, path)?;
    let set: JwkSet = serde_json::from_str(&text).map_err(|error| problem(format!("expected a JWKS: {error}")))?;
    let mut keys = Vec::new();
    for (place, jwk) in set.keys.iter().enumerate() {
        let key = DecodingKey::from_jwk(jwk).map_err(|error| problem(format!("key {}: {error}", place + 1)))?;
        let written = serde_json::to_vec(jwk).map_err(|error| problem(error.to_string()))?;
        let id = jwk.common.key_id.clone();
        keys.push(Key { id, family: key.family(), key, mark: fingerprint(&[&written]) });
    }
    if keys.is_empty() { Err(problem("expected at least one key".to_owned())) } else { Ok(keys) }
}

fn public_key(path: &Path) -> Result<Vec<Key>, Problem> {
    let setting = "auth.jwt_public_key";
    let text = read(setting, path)?;
    let pem = text.as_bytes();
    let makers = [DecodingKey::from_rsa_pem, DecodingKey::from_ec_pem, DecodingKey::from_ed_pem];
    let key = makers.iter().find_map(|make| make(pem).ok()).ok_or_else(|| Problem {
        key: setting,
        text: format!("{}: expected a public key (RSA, EC or Ed25519) in PEM", path.display()),
    })?;
    Ok(vec![Key { id: None, family: key.family(), key, mark: fingerprint(&[pem]) }])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::clock::Clock;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    const SECRET: &str = "a secret of some length";

    fn jwt(settings: impl FnOnce(&mut config::Auth)) -> Jwt {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, SECRET).unwrap();
        let environment = vec![("NIGHTJAR_AUTH__JWT_SECRET_FILE".into(), file.into_os_string())];
        let sources = config::Sources { environment, ..config::Sources::default() };
        let mut auth = config::Config::load(&sources).unwrap().config.auth;
        settings(&mut auth);
        Jwt::new(&auth).unwrap().unwrap()
    }

    fn exp(seconds: i64) -> i64 {
        i64::try_from(Clock::machine().now().0 / 1000).unwrap() + seconds
    }

    fn sign(claims: &Value) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    }

    fn ask(jwt: &Jwt, token: &str) -> Said {
        jwt.ask(Some("ignored"), Some(token.as_bytes()), "c1")
    }

    #[test]
    fn claims_become_an_identity() {
        let jwt = jwt(|_| {});
        let claims = json!({"sub": "ann", "exp": exp(60), "groups": ["ops"], "publish": ["up/%c"], "client_id": "c1"});
        let Said::Yes(identity) = ask(&jwt, &sign(&claims)) else { panic!("it is hers") };
        assert_eq!((identity.user.as_deref(), identity.groups.len()), (Some("ann"), 1));
        assert!(identity.grants.is_some() && identity.expires > Some(Clock::machine().now()));
        let Proof::Key(mark) = identity.proof else { panic!("a key has signed it") };
        assert!(jwt.has_key(mark) && !jwt.has_key(mark + 1));
    }

    #[test]
    fn tokens_that_do_not_hold_are_refused() {
        let jwt = jwt(|auth| {
            auth.jwt_issuer = Some("us".into());
            auth.jwt_audience = Some("mqtt".into());
            auth.jwt_algorithms = Some(vec!["HS256".into()]);
        });
        let good = json!({"sub": "ann", "exp": exp(60), "iss": "us", "aud": "mqtt"});
        assert!(matches!(ask(&jwt, &sign(&good)), Said::Yes(_)));
        let with = |key: &str, value: Value| {
            let mut claims = good.clone();
            claims[key] = value;
            sign(&claims)
        };
        let other_key = encode(&Header::new(Algorithm::HS256), &good, &EncodingKey::from_secret(b"another")).unwrap();
        let other_hash =
            encode(&Header::new(Algorithm::HS512), &good, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
        for token in [
            with("exp", json!(exp(-120))),
            with("exp", Value::Null),
            with("exp", json!("tomorrow")),
            with("nbf", json!(exp(120))),
            with("iss", json!("them")),
            with("aud", json!("http")),
            with("sub", json!("")),
            with("sub", json!(7)),
            with("client_id", json!("c2")),
            with("publish", json!(["a/#/b"])),
            with("publish", json!({"a": 1})),
            other_key,
            other_hash,
        ] {
            assert!(matches!(ask(&jwt, &token), Said::No), "{token}");
        }
        assert!(matches!(ask(&jwt, "a password"), Said::Unknown));
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.";
        assert!(!matches!(ask(&jwt, unsigned), Said::Yes(_)));
    }

    #[test]
    fn each_kind_of_key_is_taken() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let random = aws_lc_rs::rand::SystemRandom::new();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let (ed_pair, ec_pair) = (
            Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref()).unwrap(),
        );
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = ec_pair.public_key().as_ref();
        let set = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "ed", "x": b64(ed_pair.public_key().as_ref())},
            {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "ec", "x": b64(&point[1..33]), "y": b64(&point[33..])},
            {"kty": "RSA", "alg": "RS256", "kid": "rsa",
                "n": b64(rsa.public_key().modulus().big_endian_without_leading_zero()),
                "e": b64(rsa.public_key().exponent().big_endian_without_leading_zero())},
        ]});
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, set.to_string()).unwrap();
        let jwt = jwt(|auth| (auth.jwt_secret, auth.jwt_jwks) = (None, Some(path)));
        let claims = json!({"sub": "ann", "exp": exp(60)});
        let rsa_der = {
            use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
            let der: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
            der.as_ref().to_vec()
        };
        let pem = |der: &[u8]| {
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
        };
        for (kid, algorithm, key) in [
            ("ed", Algorithm::EdDSA, EncodingKey::from_ed_der(ed.as_ref())),
            ("ec", Algorithm::ES256, EncodingKey::from_ec_der(ec.as_ref())),
            ("rsa", Algorithm::RS256, EncodingKey::from_rsa_pem(pem(&rsa_der).as_bytes()).unwrap()),
        ] {
            let mut header = Header::new(algorithm);
            header.kid = Some(kid.to_owned());
            let token = encode(&header, &claims, &key).unwrap();
            assert!(matches!(ask(&jwt, &token), Said::Yes(_)), "{kid}");
            header.kid = Some("unknown".to_owned());
            let token = encode(&header, &claims, &key).unwrap();
            assert!(matches!(ask(&jwt, &token), Said::No), "{kid}");
        }
    }
}
