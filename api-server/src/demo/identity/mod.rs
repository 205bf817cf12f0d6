//! A development identity provider: OAuth 2.0 client credentials, authorization code with
//! PKCE (S256, mandatory), discovery, key set. One client, one user, keys made at start.

mod codes;
mod pages;
mod token;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::Secret;
use crate::error::json as answer;
use codes::{Codes, Grant};
use pages::AuthorizeRequest;
use token::TokenSigner;

/// The one client and the one user.
#[derive(Debug)]
pub(super) struct Registration {
    user: &'static str,
    client_secret: Secret,
    password: Secret,
}

const CLIENT_ID: &str = "firecrest-demo";

impl Registration {
    /// Fresh credentials; `None` without randomness.
    pub(super) fn new(user: &'static str) -> Option<Self> {
        let secret = |bytes| Some(Secret::new(random_text(bytes)?));
        Some(Self {
            user,
            client_secret: secret(24)?,
            password: secret(9)?,
        })
    }

    /// Client id, client secret, the user's password.
    pub(super) fn credentials(&self) -> (&'static str, Secret, Secret) {
        (CLIENT_ID, self.client_secret.clone(), self.password.clone())
    }
}

/// The provider.
#[derive(Debug)]
pub(super) struct IdentityProvider {
    issuer: String,
    registration: Registration,
    signer: TokenSigner,
    codes: Mutex<Codes>,
}

impl IdentityProvider {
    /// A provider at this URL; `None` without randomness.
    pub(super) fn new(issuer: &str, registration: Registration) -> Option<Self> {
        let signer = TokenSigner::generate()?;
        Some(Self {
            issuer: issuer.to_owned(),
            registration,
            signer,
            codes: Mutex::default(),
        })
    }

    fn issue(&self) -> Response {
        let (Some(token), lifetime) = (
            self.signer
                .sign(&self.issuer, CLIENT_ID, self.registration.user),
            token::LIFETIME,
        ) else {
            return oauth_error(StatusCode::INTERNAL_SERVER_ERROR, "server_error");
        };
        let body = json!({
            "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs(),
        });
        (
            [(header::CACHE_CONTROL, "no-store")],
            answer(StatusCode::OK, &body),
        )
            .into_response()
    }

    fn is_client(&self, id: &str, secret: &str) -> bool {
        same(id, CLIENT_ID) & same(secret, self.registration.client_secret.expose())
    }
}

/// The provider's routes.
pub(super) fn router(provider: Arc<IdentityProvider>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks", get(jwks))
        .route("/token", axum::routing::post(token_endpoint))
        .route("/authorize", get(authorize).post(log_in))
        .layer(DefaultBodyLimit::max(FORM_MAX_BYTES))
        .with_state(provider)
}

const FORM_MAX_BYTES: usize = 16 * 1024;

async fn discovery(State(provider): State<Arc<IdentityProvider>>) -> Response {
    let issuer = &provider.issuer;
    let body = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "grant_types_supported": ["client_credentials", "authorization_code"],
        "code_challenge_methods_supported": ["S256"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "none"],
    });
    answer(StatusCode::OK, &body)
}

async fn jwks(State(provider): State<Arc<IdentityProvider>>) -> Response {
    answer(StatusCode::OK, &json!({"keys": [provider.signer.jwk()]}))
}

/// RFC 6749 § 3.2.
async fn token_endpoint(
    State(provider): State<Arc<IdentityProvider>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::parse(&body);
    match form.get("grant_type") {
        "client_credentials" => {
            let (id, secret) = basic(&headers).unwrap_or_else(|| {
                (
                    form.get("client_id").into(),
                    form.get("client_secret").into(),
                )
            });
            match provider.is_client(&id, &secret) {
                true => provider.issue(),
                false => oauth_error(StatusCode::UNAUTHORIZED, "invalid_client"),
            }
        }
        "authorization_code" => match redeem(&provider, &form) {
            true => provider.issue(),
            false => oauth_error(StatusCode::BAD_REQUEST, "invalid_grant"),
        },
        _ => oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
    }
}

/// A public client: the code's verifier takes the place of a secret (RFC 7636).
fn redeem(provider: &IdentityProvider, form: &Form) -> bool {
    let mut codes = provider
        .codes
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let Some(grant) = codes.take(form.get("code")) else {
        return false;
    };
    let challenge = challenge_of(form.get("code_verifier"));
    same(form.get("client_id"), CLIENT_ID)
        && grant.redirect_uri == form.get("redirect_uri")
        && same(&grant.challenge, &challenge)
}

/// The login page.
async fn authorize(RawQuery(query): RawQuery) -> Response {
    match AuthorizeRequest::parse(&Form::parse(query.unwrap_or_default().as_bytes())) {
        Ok(request) => page(StatusCode::OK, &request.login_page("")),
        Err(reason) => page(StatusCode::BAD_REQUEST, &pages::refusal(reason)),
    }
}

async fn log_in(State(provider): State<Arc<IdentityProvider>>, body: Bytes) -> Response {
    let form = Form::parse(&body);
    let request = match AuthorizeRequest::parse(&form) {
        Ok(request) => request,
        Err(reason) => return page(StatusCode::BAD_REQUEST, &pages::refusal(reason)),
    };
    let registration = &provider.registration;
    let right = same(form.get("username"), registration.user)
        & same(form.get("password"), registration.password.expose());
    if !right {
        let text = "Wrong user name or password.";
        return page(StatusCode::UNAUTHORIZED, &request.login_page(text));
    }
    let Some(code) = random_text(24) else {
        return oauth_error(StatusCode::INTERNAL_SERVER_ERROR, "server_error");
    };
    let location = request.location(&code);
    let grant = Grant::new(request.redirect_uri, request.challenge);
    provider
        .codes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .put(code, grant);
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

fn page(status: StatusCode, html: &str) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, Html(html.to_owned())).into_response()
}

fn oauth_error(status: StatusCode, error: &str) -> Response {
    answer(status, &json!({"error": error}) as &Value)
}

/// Decoded form or query; a missing field is empty.
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value.as_str())
    }
}

/// RFC 6749 § 2.3.1.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    let text = STANDARD.decode(text.trim()).ok()?;
    let (id, secret) = std::str::from_utf8(&text).ok()?.split_once(':')?;
    scheme
        .eq_ignore_ascii_case("basic")
        .then(|| (id.to_owned(), secret.to_owned()))
}

/// Compares digests, so that the time taken says nothing about the texts.
fn same(a: &str, b: &str) -> bool {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest(a).as_ref() == digest(b).as_ref()
}

/// RFC 7636 § 4.2.
fn challenge_of(verifier: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

fn random_text(bytes: usize) -> Option<String> {
    use ring::rand::SecureRandom as _;
    let mut buffer = vec![0; bytes];
    ring::rand::SystemRandom::new().fill(&mut buffer).ok()?;
    Some(URL_SAFE_NO_PAD.encode(buffer))
}
