//! A service in this process, with its own key set and directories.

pub(crate) mod files;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api_server::app::app;
use api_server::config::Sources;
use api_server::state::AppState;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) struct Service {
    router: Router,
    pub(crate) state: AppState,
    /// The tracing log.
    pub(crate) log: Log,
    key: Ed25519KeyPair,
    directory: tempfile::TempDir,
}

/// What was written, for a test to read.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
    /// Null when the body is not JSON.
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Service {
    pub(crate) async fn new() -> Self {
        Self::with_config(config).await
    }

    /// A service whose configuration is made for its directory.
    pub(crate) async fn with_config(config: impl FnOnce(&str) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("fireuser")).unwrap();
        let rng = ring::rand::SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = B64.encode(key.public_key().as_ref());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
        std::fs::write(directory.path().join("jwks.json"), keys.to_string()).unwrap();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, config(&directory.path().display().to_string())).unwrap();
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        let log = Log::default();
        let config = sources.load().unwrap();
        let state = AppState::with_log(config, Box::new(log.clone()))
            .await
            .unwrap();
        Self {
            router: app(state.clone()),
            state,
            log,
            key,
            directory,
        }
    }

    pub(crate) fn directory(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// A token of `fireuser`, with some claims changed.
    pub(crate) fn token(&self, changes: Value) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({"preferred_username": "fireuser", "exp": now + 300});
        claims
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        let header = json!({"alg": "EdDSA", "kid": "k"});
        let message = format!(
            "{}.{}",
            B64.encode(header.to_string()),
            B64.encode(claims.to_string())
        );
        let signature = B64.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
            json,
        }
    }

    pub(crate) async fn anonymous(&self, method: Method, path: &str) -> Answer {
        self.send(
            Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    pub(crate) async fn with_token(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", format!("Bearer {token}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| body.to_string().into());
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.with_token(method, path, &self.token(json!({})), body)
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Posts text as JSON.
    pub(crate) async fn raw(&self, path: &str, token: Option<&str>, text: &'static str) -> Answer {
        let mut request = Request::post(path).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(Body::from(text)).unwrap()).await
    }

    /// The job at `path`, once it is in this state.
    pub(crate) async fn until(&self, path: &str, state: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut answer = self.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
            if answer.json["jobs"][0]["status"]["state"] == state {
                return answer.json["jobs"][0].take();
            }
            assert!(Instant::now() < deadline, "{}", answer.json);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn config(directory: &str) -> String {
    format!(
        r#"
apis_root_path: /f7t/v2
auth:
  authentication:
    token_url: http://localhost/token
    public_certs: ["file://{directory}/jwks.json"]
ssh_credentials: {{type: SSHService, url: "http://localhost"}}
clusters:
- name: Here
  scheduler: {{type: local, dangerous_everybody_as_service: true}}
  file_systems: [{{path: "{directory}", data_type: users, default_work_dir: true}}]
  data_operation:
    data_transfer: {{service_type: streamer}}
- name: slurm
  ssh: {{host: login, port: 22}}
  scheduler: {{type: slurm, version: "24.11.5"}}
  service_account: {{client_id: x, secret: y}}
  probing: {{services: {{storage: {{timeout: 20}}}}}}
  data_operation:
    data_transfer:
      {{service_type: s3, name: n, private_url: http://p, public_url: http://q,
        access_key_id: a, secret_access_key: b, region: r, ttl: "60"}}
- name: gated
  scheduler: {{type: local, dangerous_everybody_as_service: true}}
  service_account: {{client_id: x, secret: y}}
  probing: {{services: {{filesystem: {{timeout: 5}}}}}}
  file_systems: [{{path: "{directory}", data_type: users, default_work_dir: true}}]
  data_operation: {{max_ops_file_size: 1000}}
"#
    )
}
