//! S3 and what speaks like it, by presigned URLs: signing is rusty-s3's, requests are ours.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use md5::{Digest as _, Md5};
use rusty_s3::actions::{CreateMultipartUpload, S3Action};
use rusty_s3::{Bucket, BucketError, Credentials, UrlStyle};

use crate::Secret;
use crate::config::S3Config;
use crate::http_client::{FetchError, HttpClient};
use crate::limits;

/// One object store under its two addresses: the service and jobs use one, users the other.
pub struct ObjectStore {
    config: S3Config,
    credentials: Credentials,
    http: Arc<HttpClient>,
    /// Buckets that were there when they were last used.
    known: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStore")
            .field("name", &self.config.name)
            .finish_non_exhaustive()
    }
}

/// An object that is being made of parts.
#[derive(Debug, Clone)]
pub struct Upload {
    bucket: String,
    key: String,
    id: String,
}

/// Who uses a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The service and jobs.
    Private,
    /// Users.
    Public,
}

/// Why the object store did not do as asked. Never contains a URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The configured address or the user's name make no URL.
    #[error("The address of the object store is not usable: {0}")]
    Address(&'static str),
    /// It was not reached.
    #[error("The object store cannot be reached: {0}")]
    Unreachable(#[from] FetchError),
    /// It said no.
    #[error("The object store refused to {action}: {status} {code}")]
    Refused {
        /// What was asked for.
        action: &'static str,
        /// Its answer.
        status: StatusCode,
        /// The reason in its answer, a word.
        code: String,
    },
    /// It said something else.
    #[error("The object store gave an unexpected answer when asked to {action}")]
    Unexpected {
        /// What was asked for.
        action: &'static str,
    },
}

impl ObjectStore {
    /// A store as configured; nothing is asked of it yet.
    pub fn new(config: S3Config, http: Arc<HttpClient>) -> Self {
        let credentials = Credentials::new(
            config.access_key_id.expose(),
            config.secret_access_key.expose(),
        );
        Self {
            config,
            credentials,
            http,
            known: Mutex::default(),
        }
    }

    /// How it is configured.
    pub fn config(&self) -> &S3Config {
        &self.config
    }

    /// Asks for the list of buckets: whether the store works and takes our credentials.
    ///
    /// # Errors
    /// When it does not within the time.
    pub async fn probe(&self, timeout: Duration) -> Result<(), StorageError> {
        let url = self.endpoint(Side::Private)?;
        let now = rusty_s3_jiff::Timestamp::now();
        let nothing = std::iter::empty::<(&str, &str)>;
        let url = rusty_s3::signing::sign(
            &now,
            rusty_s3::Method::Get,
            url,
            self.config.access_key_id.expose(),
            self.config.secret_access_key.expose(),
            None,
            &self.config.region,
            OWN_CALLS.as_secs(),
            nothing(),
            nothing(),
        );
        let request = request(Method::GET, url.as_str(), Bytes::new(), None)?;
        let (status, body) = self.http.exchange(request, timeout).await?;
        accept("list the buckets", status, &body)
    }

    /// Begins an object in the user's bucket, which is made when it is missing.
    ///
    /// # Errors
    /// When the store refuses.
    ///
    /// Cancel safety: what was begun stays in the store until it expires.
    pub async fn begin(&self, user: &str, name: &str) -> Result<Upload, StorageError> {
        const ACTION: &str = "begin an object";
        let bucket = self.bucket(Side::Private, user)?;
        let key = format!("{}/{name}", uuid::Uuid::new_v4());
        let begin = |url: String| async move {
            let request = request(Method::POST, &url, Bytes::new(), None)?;
            Ok::<_, StorageError>(self.http.exchange(request, TIMEOUT).await?)
        };
        if !self.known().contains(user) {
            self.make_bucket(&bucket).await?;
        }
        let action = bucket.create_multipart_upload(Some(&self.credentials), &key);
        let (mut status, mut body) = begin(action.sign(OWN_CALLS).into()).await?;
        if status == StatusCode::NOT_FOUND {
            // Somebody removed it.
            self.make_bucket(&bucket).await?;
            (status, body) = begin(action.sign(OWN_CALLS).into()).await?;
        }
        accept(ACTION, status, &body)?;
        let text = String::from_utf8_lossy(&body);
        let answer = CreateMultipartUpload::parse_response(&text)
            .map_err(|_| StorageError::Unexpected { action: ACTION })?;
        Ok(Upload {
            bucket: user.to_owned(),
            id: answer.upload_id().to_owned(),
            key,
        })
    }

    async fn make_bucket(&self, bucket: &Bucket) -> Result<(), StorageError> {
        let url = bucket.create_bucket(&self.credentials).sign(OWN_CALLS);
        let request = request(Method::PUT, url.as_str(), Bytes::new(), None)?;
        let (status, body) = self.http.exchange(request, TIMEOUT).await?;
        let ours = status == StatusCode::CONFLICT && code(&body) == "BucketAlreadyOwnedByYou";
        if !ours {
            accept("make a bucket", status, &body)?;
        }
        self.remember(bucket.name());
        if ours {
            return Ok(());
        }
        if let Err(error) = self.expire_objects(bucket).await {
            // The transfer does not depend on it; the operator's disks do.
            tracing::warn!(bucket = bucket.name(), %error, "objects of this bucket do not expire");
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        // A set has no in-between states.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, bucket: &str) {
        let mut known = self.known();
        if known.len() >= limits::KNOWN_BUCKETS_MAX {
            known.clear();
        }
        known.insert(bucket.to_owned());
    }

    /// Objects are only on their way: after some days they go, also unfinished ones.
    async fn expire_objects(&self, bucket: &Bucket) -> Result<(), StorageError> {
        let days = self.config.bucket_lifecycle_configuration.days;
        let document = format!(
            "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule>\
             <ID>ExpireObjects</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
             <Expiration><Days>{days}</Days></Expiration>\
             <AbortIncompleteMultipartUpload><DaysAfterInitiation>{days}</DaysAfterInitiation>\
             </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>"
        );
        let sum = STANDARD.encode(Md5::digest(document.as_bytes()));
        let mut action = bucket.create_bucket(&self.credentials);
        // The same method and URL, asked for something else.
        action.query_mut().insert("lifecycle", "");
        let url = action.sign(OWN_CALLS);
        let request = request(Method::PUT, url.as_str(), document.into(), Some(&sum))?;
        let (status, body) = self.http.exchange(request, TIMEOUT).await?;
        accept("expire objects", status, &body)
    }

    /// For users: takes each of `count` parts.
    ///
    /// # Errors
    /// When the address is not usable.
    pub fn public_part_urls(&self, of: &Upload, count: u16) -> Result<Vec<String>, StorageError> {
        self.part_urls(Side::Public, of, count)
    }

    /// For jobs: takes each of `count` parts.
    ///
    /// # Errors
    /// When the address is not usable.
    pub fn private_part_urls(&self, of: &Upload, count: u16) -> Result<Vec<String>, StorageError> {
        self.part_urls(Side::Private, of, count)
    }

    fn part_urls(&self, side: Side, of: &Upload, count: u16) -> Result<Vec<String>, StorageError> {
        let bucket = self.shared_bucket(side, &of.bucket)?;
        let sign = |number| {
            let action = bucket.upload_part(Some(&self.credentials), &of.key, number, &of.id);
            action.sign(self.ttl()).into()
        };
        Ok((1..=count).map(sign).collect())
    }

    /// For users: makes the object of its parts.
    ///
    /// # Errors
    /// When the address is not usable.
    pub fn public_complete_url(&self, of: &Upload) -> Result<String, StorageError> {
        self.complete_url(Side::Public, of)
    }

    /// For jobs: makes the object of its parts.
    ///
    /// # Errors
    /// When the address is not usable.
    pub fn private_complete_url(&self, of: &Upload) -> Result<String, StorageError> {
        self.complete_url(Side::Private, of)
    }

    fn complete_url(&self, side: Side, of: &Upload) -> Result<String, StorageError> {
        let bucket = self.shared_bucket(side, &of.bucket)?;
        let tags = std::iter::empty::<&str>();
        let credentials = Some(&self.credentials);
        let action = bucket.complete_multipart_upload(credentials, &of.key, &of.id, tags);
        Ok(action.sign(self.ttl()).into())
    }

    /// For jobs: throws the parts away.
    ///
    /// # Errors
    /// When the address is not usable.
    pub fn private_abort_url(&self, of: &Upload) -> Result<String, StorageError> {
        let bucket = self.shared_bucket(Side::Private, &of.bucket)?;
        let action = bucket.abort_multipart_upload(Some(&self.credentials), &of.key, &of.id);
        Ok(action.sign(self.ttl()).into())
    }

    /// For users: gives the object.
    ///
    /// # Errors
    /// When the address is not usable.
    pub fn public_get_url(&self, of: &Upload) -> Result<String, StorageError> {
        self.get_url(Side::Public, of)
    }

    /// For jobs: gives the object.
    ///
    /// # Errors
    /// When the address is not usable.
    pub fn private_get_url(&self, of: &Upload) -> Result<String, StorageError> {
        self.get_url(Side::Private, of)
    }

    fn get_url(&self, side: Side, of: &Upload) -> Result<String, StorageError> {
        let bucket = self.shared_bucket(side, &of.bucket)?;
        let action = bucket.get_object(Some(&self.credentials), &of.key);
        Ok(action.sign(self.ttl()).into())
    }

    /// For jobs: tells whether the object is there.
    ///
    /// # Errors
    /// When the address is not usable.
    pub fn private_head_url(&self, of: &Upload) -> Result<String, StorageError> {
        let bucket = self.shared_bucket(Side::Private, &of.bucket)?;
        let action = bucket.head_object(Some(&self.credentials), &of.key);
        Ok(action.sign(self.ttl()).into())
    }

    fn ttl(&self) -> Duration {
        Duration::from_secs(self.config.ttl)
    }

    fn endpoint(&self, side: Side) -> Result<url::Url, StorageError> {
        let text = match side {
            Side::Private => self.config.private_url.expose(),
            Side::Public => &self.config.public_url,
        };
        text.parse()
            .map_err(|_| StorageError::Address("it is no URL"))
    }

    fn bucket(&self, side: Side, name: &str) -> Result<Bucket, StorageError> {
        let region = self.config.region.clone();
        Bucket::new(
            self.endpoint(side)?,
            UrlStyle::Path,
            name.to_owned(),
            region,
        )
        .map_err(|error| {
            StorageError::Address(match error {
                BucketError::UnsupportedScheme => "it is neither http nor https",
                BucketError::MissingHost => "it names no host",
                _ => "no URL can be made of it",
            })
        })
    }

    /// In URLs that are handed out the tenant is named.
    fn shared_bucket(&self, side: Side, user: &str) -> Result<Bucket, StorageError> {
        match &self.config.tenant {
            Some(tenant) => self.bucket(side, &format!("{tenant}:{user}")),
            None => self.bucket(side, user),
        }
    }
}

/// Text that opens an object, for a file that only a job can read.
pub(crate) fn secret_json(value: &serde_json::Value) -> Secret {
    Secret::new(value.to_string())
}

fn request(
    method: Method,
    url: &str,
    body: Bytes,
    sum: Option<&str>,
) -> Result<Request<Full<Bytes>>, StorageError> {
    let mut request = Request::builder().method(method).uri(url);
    request = request.header(header::CONTENT_LENGTH, body.len());
    if let Some(sum) = sum {
        request = request.header("content-md5", sum);
    }
    let malformed = |_| StorageError::Unreachable(FetchError::Malformed);
    request.body(Full::from(body)).map_err(malformed)
}

fn accept(action: &'static str, status: StatusCode, body: &[u8]) -> Result<(), StorageError> {
    if status.is_success() {
        return Ok(());
    }
    Err(StorageError::Refused {
        action,
        status,
        code: code(body),
    })
}

/// The word in `<Code>`. The message is not shown: some stores repeat the request in it.
fn code(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let word = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map_or("", |(word, _)| word);
    let fits = word.len() <= 64 && word.bytes().all(|b| b.is_ascii_alphanumeric());
    if fits { word.to_owned() } else { String::new() }
}

/// For one call of the service.
const TIMEOUT: Duration = Duration::from_secs(10);
/// URLs for calls of the service itself are used at once; clocks may differ by minutes.
const OWN_CALLS: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn store(changes: serde_json::Value) -> ObjectStore {
        let mut config = json!({
            "name": "n", "private_url": "http://10.0.0.1:9000", "public_url": "https://s3.example.org",
            "access_key_id": "KEY", "secret_access_key": "SECRET", "region": "us-east-1", "ttl": 600,
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        let http = Arc::new(HttpClient::new().unwrap());
        ObjectStore::new(serde_json::from_value(config).unwrap(), http)
    }

    fn upload() -> Upload {
        Upload {
            bucket: "bob".into(),
            key: "1-2/a b$(id)\n%é.h5".into(),
            id: "UP+/=".into(),
        }
    }

    #[test]
    fn urls_have_the_form_that_clients_know() {
        let store = store(json!({}));
        let urls = store.public_part_urls(&upload(), 2).unwrap();
        let (path, query) = urls[1].split_once('?').unwrap();
        assert_eq!(
            path,
            "https://s3.example.org/bob/1-2/a%20b%24%28id%29%0A%25%C3%A9.h5"
        );
        let names: Vec<&str> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap().0)
            .collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(
            sorted,
            [
                "X-Amz-Algorithm",
                "X-Amz-Credential",
                "X-Amz-Date",
                "X-Amz-Expires",
                "X-Amz-Signature",
                "X-Amz-SignedHeaders",
                "partNumber",
                "uploadId",
            ]
        );
        assert!(query.contains("partNumber=2"), "{query}");
        assert!(query.contains("X-Amz-Expires=600"), "{query}");
        assert!(query.contains("X-Amz-SignedHeaders=host"), "{query}");
        let url = store.private_get_url(&upload()).unwrap();
        assert!(url.starts_with("http://10.0.0.1:9000/bob/1-2/"), "{url}");
        assert!(!url.contains("SECRET"));
    }

    #[test]
    fn jobs_read_the_urls_of_the_longest_name() {
        let upload = Upload {
            bucket: "b".repeat(63),
            key: format!("{}/{}", uuid::Uuid::new_v4(), "é".repeat(127)),
            // As long as those of AWS.
            id: "u".repeat(128),
        };
        let urls = store(json!({})).private_part_urls(&upload, 1000).unwrap();
        // The last ones have a digit more; and two quotes and a comma.
        let bytes = urls[999].len() + 4;
        let most = streamer_core::limits::S3_PLAN_MAX_BYTES;
        assert!((10 << 20..most / 2).contains(&(bytes * 10_000)), "{bytes}");
    }

    #[test]
    fn a_tenant_is_named_in_urls_that_are_handed_out() {
        let store = store(json!({"tenant": "t1"}));
        let url = store.public_get_url(&upload()).unwrap();
        assert!(url.contains("/t1%3Abob/1-2/"), "{url}");
    }

    #[test]
    fn an_address_that_is_none_is_told() {
        let store = store(json!({"public_url": "ftp://x"}));
        let error = store.public_get_url(&upload()).unwrap_err().to_string();
        assert!(error.contains("neither http nor https"), "{error}");
    }
}
