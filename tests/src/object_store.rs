//! An S3 server that checks signatures and keeps objects in files, and a user's side of
//! presigned URLs.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto;
use s3s::service::S3ServiceBuilder;
use s3s::validation::{AwsNameValidation, NameValidation};
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use serde_json::{Value, json};
use tokio::sync::watch;

/// A running store. It ends with the test.
#[derive(Debug)]
pub struct ObjectStore {
    address: SocketAddr,
    /// Rules for buckets, as they were asked for.
    pub rules: Rules,
    /// Parts that are put.
    pub writes: Arc<Gate>,
    /// Ranges that are got.
    pub reads: Arc<Gate>,
    _directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

/// Buckets, and the days after which their objects are to go.
pub type Rules = Arc<Mutex<Vec<(String, Option<i32>)>>>;

/// Counts what comes, and holds it up from a certain one on.
#[derive(Debug)]
pub struct Gate {
    come: AtomicUsize,
    open_for: watch::Sender<usize>,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            come: AtomicUsize::new(0),
            open_for: watch::Sender::new(usize::MAX),
        })
    }

    /// From now on the first `count` go through, and the others wait.
    pub fn open_for(&self, count: usize) {
        self.open_for.send_replace(count);
    }

    /// How many have come.
    pub fn come(&self) -> usize {
        self.come.load(Ordering::SeqCst)
    }

    async fn pass(&self) {
        let number = self.come.fetch_add(1, Ordering::SeqCst);
        let mut open_for = self.open_for.subscribe();
        // Ends with the test.
        let _ = open_for.wait_for(|count| number < *count).await;
    }
}

/// As AWS names buckets, or such a name behind that of a tenant, as Ceph does.
struct Names;

impl NameValidation for Names {
    fn validate_bucket_name(&self, name: &str) -> bool {
        AwsNameValidation::new().validate_bucket_name(without_tenant(name))
    }
}

/// The tenant that the credentials belong to.
pub const TENANT: &str = "tenant-1";

fn without_tenant(bucket: &str) -> &str {
    match bucket.split_once(':') {
        Some((TENANT, bucket)) => bucket,
        _ => bucket,
    }
}

/// The credentials that it takes.
pub const ACCESS_KEY: &str = "STORAGEACCESSKEY";
/// The secret of them.
pub const SECRET_KEY: &str = "storage-secret-key-0123456789";

impl ObjectStore {
    /// Starts one on a port of its own.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Self {
        let directory = crate::file::directory();
        let files = FileSystem::new(directory.path()).expect("a store of files");
        let rules = Arc::new(Mutex::new(Vec::new()));
        let (writes, reads) = (Gate::new(), Gate::new());
        let mut builder = S3ServiceBuilder::new(Store {
            files,
            rules: Arc::clone(&rules),
            writes: Arc::clone(&writes),
            reads: Arc::clone(&reads),
        });
        builder.set_validation(Names);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)));
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                drop(tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    // A client that left has been answered as far as it wanted.
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                }));
            }
        }));
        Self {
            address,
            rules,
            writes,
            reads,
            _directory: directory,
            _runtime: runtime,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A configuration of `data_transfers` for it, with parts of this size.
    pub fn data_transfers(&self, part_bytes: u64) -> Value {
        json!([{
            "service_type": "s3", "name": "store", "private_url": self.url(), "public_url": self.url(),
            "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "region": "us-east-1",
            "ttl": 3600, "multipart": {"max_part_size": part_bytes, "parallel_runs": 3},
            "bucket_lifecycle_configuration": {"days": 4},
        }])
    }
}

/// What came back for a URL.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body, when it was not written to a file.
    pub body: String,
}

impl Reply {
    /// The value of a header; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    }
}

/// Sends a request without a body worth a file.
///
/// # Panics
/// When there is no answer.
pub fn send(method: &str, url: &str, body: &str) -> Reply {
    let (mut stream, mut head) = begin(method, url);
    head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(head.as_bytes()).expect("a request");
    finish(stream, None)
}

/// Puts a range of a file.
///
/// # Panics
/// When the file cannot be read or there is no answer.
pub fn put_range(url: &str, file: &Path, start: u64, length: u64) -> Reply {
    let (mut stream, mut head) = begin("PUT", url);
    head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
    stream.write_all(head.as_bytes()).expect("a request");
    let mut file = File::open(file).expect("the file");
    file.seek(SeekFrom::Start(start)).expect("a seekable file");
    // A store that refuses may not read to the end.
    let _ = std::io::copy(&mut file.take(length), &mut stream);
    finish(stream, None)
}

/// Gets an object into a file.
///
/// # Panics
/// When there is no answer or the file cannot be written.
pub fn get_to(url: &str, file: &Path) -> Reply {
    let (mut stream, head) = begin("GET", url);
    stream
        .write_all(format!("{head}\r\n").as_bytes())
        .expect("a request");
    finish(stream, Some(file))
}

fn begin(method: &str, url: &str) -> (TcpStream, String) {
    let rest = url.strip_prefix("http://").expect("a plain HTTP URL");
    let (host, path) = rest.split_once('/').expect("a path");
    let stream = TcpStream::connect(host).expect("the store listens");
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("a timeout");
    let head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    (stream, head)
}

fn finish(stream: TcpStream, target: Option<&Path>) -> Reply {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let length = stream.read_line(&mut head).expect("an answer");
        if length <= 2 {
            break;
        }
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let mut reply = Reply {
        status: status.expect("a status line"),
        head,
        body: String::new(),
    };
    let length = reply.header("content-length").parse::<u64>();
    match (target, length) {
        (Some(target), Ok(length)) if reply.status == 200 => {
            let mut file = File::create(target).expect("the file can be made");
            let copied = std::io::copy(&mut stream.take(length), &mut file);
            assert_eq!(copied.expect("the whole object"), length);
        }
        _ => {
            let mut bytes = Vec::new();
            // In chunks or not, the words are in it.
            let _ = stream.read_to_end(&mut bytes);
            reply.body = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    reply
}

/// The store, with the one thing that the library leaves out.
struct Store {
    files: FileSystem,
    rules: Rules,
    writes: Arc<Gate>,
    reads: Arc<Gate>,
}

/// Only that it can be sent is said of the future, as the trait asks.
type Answer<'a, T> = Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'a>>;

macro_rules! pass_on {
    ($($name:ident: $input:ident -> $output:ident $(through $gate:ident)?),* $(,)?) => {$(
        fn $name<'s, 'a>(
            &'s self,
            mut request: S3Request<dto::$input>,
        ) -> Answer<'a, dto::$output>
        where
            's: 'a,
            Self: 'a,
        {
            request.input.bucket = without_tenant(&request.input.bucket).to_owned();
            Box::pin(async move {
                $(self.$gate.pass().await;)?
                self.files.$name(request).await
            })
        }
    )*};
}

impl S3 for Store {
    pass_on! {
        create_bucket: CreateBucketInput -> CreateBucketOutput,
        create_multipart_upload: CreateMultipartUploadInput -> CreateMultipartUploadOutput,
        upload_part: UploadPartInput -> UploadPartOutput through writes,
        complete_multipart_upload: CompleteMultipartUploadInput -> CompleteMultipartUploadOutput,
        abort_multipart_upload: AbortMultipartUploadInput -> AbortMultipartUploadOutput,
        head_object: HeadObjectInput -> HeadObjectOutput,
        get_object: GetObjectInput -> GetObjectOutput through reads,
    }

    fn list_buckets<'s, 'a>(
        &'s self,
        request: S3Request<dto::ListBucketsInput>,
    ) -> Answer<'a, dto::ListBucketsOutput>
    where
        's: 'a,
        Self: 'a,
    {
        self.files.list_buckets(request)
    }

    fn put_bucket_lifecycle_configuration<'s, 'a>(
        &'s self,
        request: S3Request<dto::PutBucketLifecycleConfigurationInput>,
    ) -> Answer<'a, dto::PutBucketLifecycleConfigurationOutput>
    where
        's: 'a,
        Self: 'a,
    {
        let input = request.input;
        let rules = input.lifecycle_configuration.map(|config| config.rules);
        let expiration = rules.into_iter().flatten().find_map(|rule| rule.expiration);
        let days = expiration.and_then(|expiration| expiration.days);
        let mut rules = self.rules.lock().expect("no test panicked");
        rules.push((input.bucket, days));
        drop(rules);
        Box::pin(async { Ok(S3Response::new(Default::default())) })
    }
}
