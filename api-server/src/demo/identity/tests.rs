//! The provider's flows, in process.

use super::*;
use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

struct Bench {
    router: Router,
    secret: Secret,
    password: Secret,
}

impl Bench {
    fn new() -> Self {
        let registration = Registration::new("demo").unwrap();
        let (_, secret, password) = registration.credentials();
        let provider = IdentityProvider::new("http://127.0.0.1:1", registration).unwrap();
        Self {
            router: router(Arc::new(provider)),
            secret,
            password,
        }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            parts.status,
            parts.headers,
            String::from_utf8(bytes.to_vec()).unwrap(),
        )
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = Request::builder().method(Method::POST).uri(path);
        self.send(request.body(body.into()).unwrap()).await
    }

    fn login<'a>(
        &'a self,
        verifier_challenge: &'a str,
        password: &'a str,
    ) -> Vec<(&'a str, &'a str)> {
        vec![
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", REDIRECT),
            ("code_challenge", verifier_challenge),
            ("code_challenge_method", "S256"),
            ("state", "s&t"),
            ("username", "demo"),
            ("password", password),
        ]
    }

    async fn code(&self, verifier: &str) -> String {
        let challenge = challenge_of(verifier);
        let login = self.login(&challenge, self.password.expose());
        let (status, headers, _) = self.post("/authorize", &login).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let location = headers[header::LOCATION].to_str().unwrap();
        let query = location.strip_prefix(&format!("{REDIRECT}?")).unwrap();
        let form = Form::parse(query.as_bytes());
        assert_eq!(form.get("state"), "s&t");
        form.get("code").to_owned()
    }

    async fn redeem(&self, code: &str, verifier: &str, redirect_uri: &str) -> StatusCode {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT_ID),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        self.post("/token", &form).await.0
    }
}

const REDIRECT: &str = "http://127.0.0.1:7777/callback";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters";

#[tokio::test]
async fn client_credentials_by_header_and_by_form() {
    let bench = Bench::new();
    let secret = bench.secret.expose();
    let grant = ("grant_type", "client_credentials");
    let form = [grant, ("client_id", CLIENT_ID), ("client_secret", secret)];
    let (status, headers, body) = bench.post("/token", &form).await;
    assert_eq!(
        (status, &headers[header::CACHE_CONTROL]),
        (StatusCode::OK, &"no-store".parse().unwrap())
    );
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["access_token"].as_str().unwrap().split('.').count(), 3);
    let basic = |secret: &str| {
        let value = format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{secret}")));
        let request = Request::post("/token").header("authorization", value);
        bench.send(
            request
                .body("grant_type=client_credentials".into())
                .unwrap(),
        )
    };
    assert_eq!(basic(secret).await.0, StatusCode::OK);
    assert_eq!(basic("wrong").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(
        bench.post("/token", &[grant]).await.0,
        StatusCode::UNAUTHORIZED
    );
    let password = [("grant_type", "password")];
    assert_eq!(
        bench.post("/token", &password).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_code_works_once_with_its_verifier_and_address() {
    let bench = Bench::new();
    let code = bench.code(VERIFIER).await;
    assert_eq!(
        bench.redeem(&code, VERIFIER, REDIRECT).await,
        StatusCode::OK
    );
    assert_eq!(
        bench.redeem(&code, VERIFIER, REDIRECT).await,
        StatusCode::BAD_REQUEST
    );
    for (verifier, redirect) in [
        ("another verifier", REDIRECT),
        ("", REDIRECT),
        (VERIFIER, "http://localhost/"),
    ] {
        let code = bench.code(VERIFIER).await;
        assert_eq!(
            bench.redeem(&code, verifier, redirect).await,
            StatusCode::BAD_REQUEST
        );
    }
}

#[tokio::test]
async fn logging_in_needs_pkce_and_the_password() {
    let bench = Bench::new();
    let challenge = challenge_of(VERIFIER);
    let wrong = bench.login(&challenge, "wrong");
    assert_eq!(
        bench.post("/authorize", &wrong).await.0,
        StatusCode::UNAUTHORIZED
    );
    for (name, value) in [
        ("code_challenge", ""),
        ("code_challenge_method", "plain"),
        ("client_id", "other"),
        ("response_type", "token"),
        ("redirect_uri", "http://example.org/"),
    ] {
        let mut form = bench.login(&challenge, bench.password.expose());
        form.iter_mut()
            .filter(|(key, _)| *key == name)
            .for_each(|pair| pair.1 = value);
        assert_eq!(
            bench.post("/authorize", &form).await.0,
            StatusCode::BAD_REQUEST,
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_login_page_and_discovery() {
    let bench = Bench::new();
    let challenge = challenge_of(VERIFIER);
    let login = bench.login(&challenge, "");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(&login)
        .finish();
    let get = |path: String| bench.send(Request::get(path).body(Body::empty()).unwrap());
    let (status, headers, body) = get(format!("/authorize?{query}")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY) && body.contains("<form"));
    let (_, _, body) = get("/.well-known/openid-configuration".into()).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["jwks_uri"], "http://127.0.0.1:1/jwks");
}
