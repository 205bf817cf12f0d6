//! Connections: accepted, bounded, told to end.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::impatient::Impatient;
use crate::limits;

/// What strangers may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Open connections at once.
    connections: usize,
    /// Time for the head of a request, and before it.
    head: Duration,
    /// Time without any of an answer being read.
    stall: Duration,
}

impl Bounds {
    /// Those of [`limits`], and of this process.
    pub(super) fn new() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let half = usize::try_from(files / 2).unwrap_or(usize::MAX).max(1);
        Self {
            connections: limits::CONNECTIONS_MAX.min(half),
            head: limits::HEAD_READ_TIMEOUT,
            stall: limits::WRITE_STALL_TIMEOUT,
        }
    }
}

/// Serves until `stopping`, then until every connection has ended: each when the request that
/// is open then has been answered.
///
/// Cancel safety: dropping ends the connections.
pub(super) async fn serve(
    listener: TcpListener,
    service: Router,
    bounds: Bounds,
    stopping: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.head);
    let room = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        // Dropping an accept that has not come to its end loses no connection.
        let (stream, permit) = tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let connection = Connection {
            stream: Impatient::new(stream, bounds.stall),
            service: service.clone(),
            http: http.clone(),
            stopping: stopping.clone(),
        };
        connections.spawn(async move {
            connection.serve().await;
            drop(permit);
        });
    }
    // From here on nobody can connect.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection, when there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // Nobody closes this semaphore.
    let permit = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    [
        Kind::ConnectionAborted,
        Kind::ConnectionRefused,
        Kind::ConnectionReset,
    ]
    .contains(&error.kind())
}

/// After a failure such as too many open files, which others may close.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

struct Connection {
    stream: Impatient<TcpStream>,
    service: Router,
    http: http1::Builder,
    stopping: CancellationToken,
}

impl Connection {
    async fn serve(self) {
        let service = TowerToHyperService::new(self.service);
        let connection = self
            .http
            .serve_connection(TokioIo::new(self.stream), service);
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended before its time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    struct Server {
        address: std::net::SocketAddr,
        stopping: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn server(connections: usize, head: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let service = Router::new()
            .route("/", get(async || "here"))
            .route("/large", get(async || vec![b'x'; LARGE]));
        let bounds = Bounds {
            connections,
            head,
            stall: STALL,
        };
        let task = tokio::spawn(serve(listener, service, bounds, stopping.clone()));
        Server {
            address,
            stopping,
            task,
        }
    }

    impl Server {
        async fn connect(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }
    }

    /// What comes until the other side ends.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        tokio::time::timeout(SOON, read).await.unwrap().unwrap();
        text
    }

    async fn first_byte(stream: &mut TcpStream) -> u8 {
        let byte = tokio::time::timeout(SOON, stream.read_u8()).await;
        byte.unwrap().unwrap()
    }

    /// More than the kernel takes for both sides.
    const LARGE: usize = 64 << 20;
    const STALL: Duration = Duration::from_millis(500);
    const SOON: Duration = Duration::from_secs(5);
    const LONG: Duration = Duration::from_secs(60);
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
    const LARGE_REQUEST: &str = "GET /large HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";

    #[tokio::test]
    async fn who_does_not_finish_the_head_of_a_request_is_not_waited_for() {
        let server = server(10, Duration::from_millis(100)).await;
        let mut silent = server.connect("").await;
        let mut slow = server.connect("GET / HTTP/1.1\r\nHost: h").await;
        let mut resting = server.connect(REQUEST).await;
        assert_eq!(rest(&mut silent).await, "");
        assert_eq!(rest(&mut slow).await, "");
        assert!(rest(&mut resting).await.ends_with("\r\n\r\nhere"));
    }

    #[tokio::test]
    async fn connections_over_the_bound_wait_until_another_ends() {
        let server = server(2, LONG).await;
        let first = server.connect("").await;
        let mut second = server.connect(REQUEST).await;
        assert_eq!(first_byte(&mut second).await, b'H');
        let mut third = server.connect(REQUEST).await;
        let waiting = tokio::time::timeout(Duration::from_millis(200), third.read_u8());
        assert!(waiting.await.is_err());
        drop(first);
        assert_eq!(first_byte(&mut third).await, b'H');
    }

    #[tokio::test]
    async fn who_does_not_read_the_answer_is_not_waited_for() {
        let server = server(1, LONG).await;
        let stuck = server.connect(LARGE_REQUEST).await;
        let mut next = server.connect(REQUEST).await;
        assert_eq!(first_byte(&mut next).await, b'H');
        drop(stuck);
    }

    #[tokio::test]
    async fn who_reads_slowly_gets_all() {
        let server = server(1, LONG).await;
        let mut slow = server.connect(LARGE_REQUEST).await;
        let (mut buffer, mut read) = (vec![0; LARGE / 128], 0);
        loop {
            match slow.read(&mut buffer).await.unwrap() {
                0 => break,
                some => read += some,
            }
            // Together more than the limit.
            tokio::time::sleep(STALL / 100).await;
        }
        assert!(read > LARGE, "{read}");
    }

    #[tokio::test]
    async fn connections_that_rest_end_with_the_service() {
        let server = server(10, LONG).await;
        let mut silent = server.connect("").await;
        let mut resting = server.connect(REQUEST).await;
        assert_eq!(first_byte(&mut resting).await, b'H');
        server.stopping.cancel();
        tokio::time::timeout(SOON, server.task)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(rest(&mut silent).await, "");
        assert!(rest(&mut resting).await.ends_with("here"));
        assert!(TcpStream::connect(server.address).await.is_err());
    }
}
