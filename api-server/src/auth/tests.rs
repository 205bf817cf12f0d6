//! Real signed tokens against real key sets.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use ring::rand::SystemRandom;
use ring::signature::{self as sig, KeyPair as _};
use serde_json::{Value, json};

enum Signer {
    Rsa(sig::RsaKeyPair),
    Ec(sig::EcdsaKeyPair),
    Ed(sig::Ed25519KeyPair),
}

impl Signer {
    fn rsa() -> Self {
        // Generated for these tests; it opens nothing.
        let pkcs8 = include_bytes!("../../testdata/rsa2048-test-only.pk8");
        Self::Rsa(sig::RsaKeyPair::from_pkcs8(pkcs8).unwrap())
    }

    fn ec() -> Self {
        let rng = SystemRandom::new();
        let algorithm = &sig::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = sig::EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
        Self::Ec(sig::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).unwrap())
    }

    fn ed() -> Self {
        let pkcs8 = sig::Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(sig::Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(key) => {
                let public = sig::RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "kid": kid, "n": B64.encode(public.n), "e": B64.encode(public.e)})
            }
            Self::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": B64.encode(x), "y": B64.encode(y)})
            }
            Self::Ed(key) => {
                let x = B64.encode(key.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut out = vec![0; key.public().modulus_len()];
                key.sign(&sig::RSA_PKCS1_SHA256, &rng, message, &mut out)
                    .unwrap();
                out
            }
            Self::Ec(key) => key.sign(&rng, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, header: Value, claims: &Value) -> String {
        let message = message(&header, claims);
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", B64.encode(signature))
    }

    fn good(&self, kid: &str) -> String {
        self.token(json!({"alg": self.alg(), "kid": kid}), &claims())
    }
}

fn message(header: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        B64.encode(header.to_string()),
        B64.encode(claims.to_string())
    )
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn claims() -> Value {
    json!({"preferred_username": "fireuser", "exp": now() + 300, "iat": now()})
}

struct Provider {
    _directory: tempfile::TempDir,
    path: std::path::PathBuf,
    /// Of the second key set.
    other: std::path::PathBuf,
    authenticator: Authenticator,
}

impl Provider {
    async fn new(keys: &[Value]) -> Self {
        Self::of_two(keys, &[]).await
    }

    async fn of_two(keys: &[Value], others: &[Value]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwks.json");
        let other = directory.path().join("other.json");
        publish(&path, keys);
        publish(&other, others);
        let urls = [&path, &other].map(|path| format!("file://{}", path.display()));
        let authenticator = authenticator(&urls).await;
        Self {
            _directory: directory,
            path,
            other,
            authenticator,
        }
    }

    async fn ask(&self, token: &str) -> Result<String, AuthError> {
        self.header(&format!("Bearer {token}")).await
    }

    async fn header(&self, value: &str) -> Result<String, AuthError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        let caller = self.authenticator.authenticate(&headers).await?;
        Ok(caller.name().as_str().to_owned())
    }
}

async fn authenticator(urls: &[String]) -> Authenticator {
    let config = serde_json::from_value(json!({
        "token_url": "http://localhost/token",
        "public_certs": urls,
    }));
    let http = Arc::new(HttpClient::new().unwrap());
    Authenticator::new(&config.unwrap(), http).await
}

fn publish(path: &std::path::Path, keys: &[Value]) {
    std::fs::write(path, json!({"keys": keys}).to_string()).unwrap();
}

fn unknown(id: &str) -> AuthError {
    AuthError::UnknownKey(Some(id.to_owned()))
}

#[tokio::test]
async fn each_kind_of_key_verifies_its_own_tokens_only() {
    let signers = [Signer::rsa(), Signer::ec(), Signer::ed()];
    let keys: Vec<Value> = signers.iter().map(|s| s.jwk(s.alg())).collect();
    let provider = Provider::new(&keys).await;
    for signer in &signers {
        assert_eq!(
            provider.ask(&signer.good(signer.alg())).await.unwrap(),
            "fireuser"
        );
        let mut broken = signer.good(signer.alg());
        let last = if broken.pop() == Some('A') { 'B' } else { 'A' };
        broken.replace_range(broken.len() - 6..broken.len() - 5, "_");
        broken.push(last);
        assert_eq!(
            provider.ask(&broken).await,
            Err(AuthError::Invalid(Flaw::Signature)),
            "{}",
            signer.alg()
        );
    }
    let wrong_key = Signer::ec().good("ES256");
    assert_eq!(
        provider.ask(&wrong_key).await,
        Err(AuthError::Invalid(Flaw::Signature))
    );
}

#[tokio::test]
async fn schemes() {
    let signer = Signer::ed();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    let token = signer.good("k");
    assert_eq!(
        provider.header(&format!("bearer {token}")).await.unwrap(),
        "fireuser"
    );
    for value in ["Bearer", "Bearer ", "Basic Zm9vOmJhcg==", &token] {
        assert_eq!(
            provider.header(value).await,
            Err(AuthError::Missing),
            "{value}"
        );
    }
    let nobody = provider.authenticator.authenticate(&HeaderMap::new()).await;
    assert_eq!(nobody.unwrap_err(), AuthError::Missing);
}

#[tokio::test]
async fn bad_tokens_get_their_texts() {
    let signer = Signer::rsa();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    let header = || json!({"alg": "RS256", "kid": "k"});
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signer.token(header(), &claims)
    };
    let cases = [
        (
            "garbage",
            "nonsense".to_owned(),
            AuthError::Invalid(Flaw::NotAToken),
        ),
        (
            "three parts",
            "a.b.c".to_owned(),
            AuthError::Invalid(Flaw::NotAToken),
        ),
        ("expired", with("exp", json!(now() - 1)), AuthError::Expired),
        (
            "expiring",
            with("exp", json!(now() + 10)),
            AuthError::ExpiresTooSoon(30),
        ),
        (
            "no kid",
            signer.token(json!({"alg": "RS256"}), &claims()),
            AuthError::UnknownKey(None),
        ),
        ("unknown kid", signer.good("other"), unknown("other")),
        (
            "crit",
            signer.token(
                json!({"alg": "RS256", "kid": "k", "crit": ["b64"]}),
                &claims(),
            ),
            AuthError::Invalid(Flaw::Extension),
        ),
        (
            "no user",
            with("preferred_username", Value::Null),
            AuthError::NoUserName("preferred_username".into()),
        ),
        (
            "alg none",
            format!(
                "{}.",
                message(&json!({"alg": "none", "kid": "k"}), &claims())
            ),
            AuthError::Invalid(Flaw::NotAToken),
        ),
    ];
    for (name, token, expected) in cases {
        assert_eq!(provider.ask(&token).await, Err(expected), "{name}");
    }
    let not_yet = provider.ask(&with("nbf", json!(now() + 600))).await;
    assert!(matches!(
        not_yet,
        Err(AuthError::Invalid(Flaw::NotYet { .. }))
    ));
}

#[tokio::test]
async fn a_public_key_is_never_an_hmac_secret() {
    let signer = Signer::rsa();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    let Signer::Rsa(key) = &signer else {
        unreachable!()
    };
    let message = message(&json!({"alg": "HS256", "kid": "k"}), &claims());
    for secret in [key.public().as_ref().to_vec(), Vec::new()] {
        let tag = ring::hmac::sign(
            &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret),
            message.as_bytes(),
        );
        let token = format!("{message}.{}", B64.encode(tag));
        assert_eq!(
            provider.ask(&token).await,
            Err(AuthError::Invalid(Flaw::Signature))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_fetched_once_in_a_while() {
    let (old, new) = (Signer::ed(), Signer::ed());
    let provider = Provider::new(&[old.jwk("old")]).await;
    publish(&provider.path, &[new.jwk("new")]);
    // Fetched a moment ago: not again for each unknown key id.
    assert_eq!(provider.ask(&new.good("new")).await, Err(unknown("new")));
    assert_eq!(provider.ask(&old.good("old")).await.unwrap(), "fireuser");
    tokio::time::advance(limits::KEY_REFRESH_MIN_INTERVAL).await;
    assert_eq!(provider.ask(&new.good("new")).await.unwrap(), "fireuser");
    assert_eq!(provider.ask(&old.good("old")).await, Err(unknown("old")));
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_stops_being_accepted_and_an_outage_changes_nothing() {
    let signer = Signer::ed();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    std::fs::remove_file(&provider.path).unwrap();
    tokio::time::advance(limits::KEY_MAX_AGE).await;
    assert_eq!(provider.ask(&signer.good("k")).await.unwrap(), "fireuser");
    publish(&provider.path, &[]);
    tokio::time::advance(limits::KEY_MAX_AGE).await;
    assert_eq!(provider.ask(&signer.good("k")).await, Err(unknown("k")));
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_a_withdrawn_key_is_accepted_for_moments_only() {
    let signer = Signer::ed();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    let token = signer.good("k");
    std::fs::remove_file(&provider.path).unwrap();
    tokio::time::advance(limits::KEY_MAX_AGE).await;
    assert_eq!(provider.ask(&token).await.unwrap(), "fireuser");
    // Its first retry fails too.
    let moment = std::time::Duration::from_secs(1);
    tokio::time::sleep(limits::KEY_RETRY_INTERVAL + moment).await;
    publish(&provider.path, &[]);
    assert_eq!(provider.ask(&token).await.unwrap(), "fireuser");
    tokio::time::sleep(limits::KEY_RETRY_INTERVAL).await;
    assert_eq!(provider.ask(&token).await, Err(unknown("k")));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_one_key_set_keeps_no_key_of_another() {
    let (gone, kept) = (Signer::ed(), Signer::ed());
    let provider = Provider::of_two(&[gone.jwk("gone")], &[kept.jwk("kept")]).await;
    publish(&provider.path, &[]);
    std::fs::remove_file(&provider.other).unwrap();
    tokio::time::advance(limits::KEY_MAX_AGE).await;
    assert_eq!(provider.ask(&kept.good("kept")).await.unwrap(), "fireuser");
    assert_eq!(provider.ask(&gone.good("gone")).await, Err(unknown("gone")));
}

/// An HTTP server that answers with one key set after another, each when told.
async fn slow_keys(mut sets: tokio::sync::mpsc::Receiver<Value>) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let Some(set) = sets.recv().await else { return };
            let body = set.to_string();
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            // Who asked may have gone.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_the_keys_from_coming() {
    let signer = Signer::ed();
    let (send, sets) = tokio::sync::mpsc::channel(1);
    let url = slow_keys(sets).await;
    send.send(json!({"keys": []})).await.unwrap();
    let authenticator = authenticator(&[url]).await;
    // Beyond the time between two refreshes, and the clock goes on for the connection.
    tokio::time::pause();
    tokio::time::advance(limits::KEY_REFRESH_MIN_INTERVAL).await;
    tokio::time::resume();
    let token = signer.good("new");
    let leaving = authenticator.caller(&token);
    let gone = tokio::time::timeout(std::time::Duration::from_millis(100), leaving).await;
    assert!(gone.is_err());
    send.send(json!({"keys": [signer.jwk("new")]}))
        .await
        .unwrap();
    let caller = authenticator.caller(&token).await.unwrap();
    assert_eq!(caller.name().as_str(), "fireuser");
}

#[tokio::test]
async fn a_good_token_does_not_wait_for_a_provider_that_is_tried_again() {
    let signer = Signer::ed();
    let (send, sets) = tokio::sync::mpsc::channel(1);
    let url = slow_keys(sets).await;
    send.send(json!({"keys": [signer.jwk("k")]})).await.unwrap();
    let authenticator = authenticator(&[url]).await;
    let later = async |time| {
        // The clock goes on for the connection.
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    };
    let token = signer.good("k");
    send.send(json!("no key set")).await.unwrap();
    later(limits::KEY_MAX_AGE).await;
    assert!(authenticator.caller(&token).await.is_ok());
    later(limits::KEY_RETRY_INTERVAL).await;
    // It is asked, and does not answer.
    let asking = authenticator.keys.refresh();
    let waits = tokio::time::timeout(std::time::Duration::from_millis(100), asking).await;
    assert!(waits.is_err());
    let accepted = tokio::select! {
        biased;
        caller = authenticator.caller(&token) => caller.is_ok(),
        () = std::future::ready(()) => false,
    };
    assert!(accepted);
    send.send(json!({"keys": []})).await.unwrap();
    authenticator.keys.refresh().await;
    assert_eq!(
        authenticator.caller(&token).await.unwrap_err(),
        unknown("k")
    );
}

#[tokio::test]
async fn a_token_that_is_known_is_judged_again() {
    let signer = Signer::ed();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    let token = signer.good("k");
    let at = async |seconds: u64| {
        let now = (now() + seconds) as f64;
        let caller = provider.authenticator.caller_at(&token, now).await;
        caller.map(|caller| caller.name().as_str().to_owned())
    };
    assert_eq!(at(0).await.unwrap(), "fireuser");
    assert_eq!(at(1).await.unwrap(), "fireuser");
    assert_eq!(at(301).await, Err(AuthError::Expired));
    // Not the token that is known: one character more, or another signature.
    let longer = format!("{token}A");
    assert_eq!(
        provider.ask(&longer).await,
        Err(AuthError::Invalid(Flaw::Signature))
    );
    let message = token.rsplit_once('.').unwrap().0;
    let forged = format!("{message}.{}", B64.encode([0; 64]));
    assert_eq!(
        provider.ask(&forged).await,
        Err(AuthError::Invalid(Flaw::Signature))
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_known_goes_with_its_key() {
    let signer = Signer::ed();
    let provider = Provider::new(&[signer.jwk("k")]).await;
    let token = signer.good("k");
    assert_eq!(provider.ask(&token).await.unwrap(), "fireuser");
    publish(&provider.path, &[]);
    assert_eq!(provider.ask(&token).await.unwrap(), "fireuser");
    tokio::time::advance(limits::KEY_MAX_AGE).await;
    assert_eq!(provider.ask(&token).await, Err(unknown("k")));
    assert_eq!(provider.ask(&token).await, Err(unknown("k")));
}
