//! The API server of a cluster for tests, over TLS on loopback. The test answers each request: [`FakeApiServer`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, process};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::pod_account::PodAccount;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(30);

pub(super) struct FakeApiServer {
    address: SocketAddr,
    folder: PathBuf,
    config: Arc<ServerConfig>,
    requests: mpsc::UnboundedReceiver<ApiRequest>,
    accepting: JoinHandle<()>,
}

/// A request that the test answers.
pub(super) struct ApiRequest {
    /// With the query.
    pub(super) path: String,
    pub(super) token: String,
    stream: TlsStream<TcpStream>,
    again: mpsc::UnboundedSender<ApiRequest>,
}

/// A watch that the test tells of changes.
pub(super) struct OpenWatch(TlsStream<TcpStream>);

impl FakeApiServer {
    pub(super) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("byname-kubernetes-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
        fs::write(folder.join("token"), "one\n").unwrap();
        let chain = vec![CertificateDer::from_pem_slice(own.pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, accepting) = accept(listener, Arc::clone(&config));
        Self { address, folder, config, requests, accepting }
    }

    pub(super) fn account(&self) -> PodAccount {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        PodAccount { host, port, token: self.folder.join("token"), roots: self.folder.join("ca.crt") }
    }

    /// As Kubernetes does it before the old token ends.
    pub(super) fn rotate(&self, token: &str) {
        fs::write(self.folder.join("token"), token).unwrap();
    }

    pub(super) async fn request(&mut self) -> ApiRequest {
        tokio::time::timeout(LONG, self.requests.recv()).await.expect("there is a request").unwrap()
    }

    /// Closes the connections with requests that were not answered.
    pub(super) fn forget_requests(&mut self) {
        while self.requests.try_recv().is_ok() {}
    }

    /// Refuses connections from now on.
    pub(super) async fn stop(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// Accepts connections again.
    pub(super) async fn start(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        (self.requests, self.accepting) = accept(listener, Arc::clone(&self.config));
    }
}

impl Drop for FakeApiServer {
    fn drop(&mut self) {
        self.accepting.abort();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl ApiRequest {
    /// The answer, after which the connection waits for the next request.
    pub(super) async fn answer(mut self, status: u16, body: Value) {
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all((head + &body).as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
        tokio::spawn(read(self.stream, self.again));
    }

    /// A failure, as the API server says it.
    pub(super) async fn refuse(self, code: u16, message: &str) {
        self.answer(code, json!({ "kind": "Status", "status": "Failure", "message": message, "code": code })).await;
    }

    /// A list.
    pub(super) async fn list(self, slices: &[Value], resource_version: &str) {
        let metadata = json!({ "resourceVersion": resource_version });
        self.answer(200, json!({ "kind": "EndpointSliceList", "metadata": metadata, "items": slices })).await;
    }

    /// The begin of a watch.
    pub(super) async fn watch(mut self) -> OpenWatch {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        self.stream.write_all(head.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
        OpenWatch(self.stream)
    }

    pub(super) fn is_watch_from(&self, version: &str) -> bool {
        self.path.contains("&watch=1&allowWatchBookmarks=true&")
            && self.path.contains(&format!("&resourceVersion={version}&"))
    }
}

impl OpenWatch {
    pub(super) async fn tell(&mut self, kind: &str, object: &Value) {
        self.write(&format!("{}\n", json!({ "type": kind, "object": object }))).await;
    }

    /// Ends in the middle of a line.
    pub(super) async fn cut(mut self, kind: &str, object: &Value) {
        let line = json!({ "type": kind, "object": object }).to_string();
        self.write(&line[..line.len() / 2]).await;
    }

    /// As the API server does when the time of a watch is over.
    pub(super) async fn end(mut self) {
        self.0.write_all(b"0\r\n\r\n").await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Waits until the client has closed it.
    pub(super) async fn closed(mut self) {
        let end = tokio::time::timeout(LONG, self.0.read_u8()).await.expect("it is closed");
        end.expect_err("a client says nothing");
    }

    async fn write(&mut self, text: &str) {
        self.0.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }
}

fn accept(listener: TcpListener, config: Arc<ServerConfig>) -> (mpsc::UnboundedReceiver<ApiRequest>, JoinHandle<()>) {
    let (requests, received) = mpsc::unbounded_channel();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, requests) = (TlsAcceptor::from(Arc::clone(&config)), requests.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    read(stream, requests).await;
                }
            });
        }
    });
    (received, accepting)
}

/// Reads the next request of a connection.
async fn read(mut stream: TlsStream<TcpStream>, again: mpsc::UnboundedSender<ApiRequest>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let token =
        head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or_default().to_owned();
    let _ = again.clone().send(ApiRequest { path, token, stream, again });
}
