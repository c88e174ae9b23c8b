//! A server within an axum application.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use byname::{HttpService, Server};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// An application that serves until this is dropped, with byname at `/api/rpc`.
pub struct Mounted {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Mounted {
    pub async fn new(server: Server) -> Self {
        Self::serving(Self::app(server.into_service().unwrap())).await
    }

    pub fn app(service: HttpService) -> Router {
        Router::new().nest_service("/api", service)
    }

    pub async fn serving(app: Router) -> Self {
        super::log::begin();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
        Self { address, task }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// As [`Mounted`], at a unix socket.
pub struct UnixMounted(JoinHandle<()>);

impl UnixMounted {
    pub fn new(server: Server, path: &Path) -> Self {
        super::log::begin();
        let listener = UnixListener::bind(path).unwrap();
        let app = Mounted::app(server.into_service().unwrap());
        Self(tokio::spawn(async { axum::serve(listener, app).await.unwrap() }))
    }
}

/// As [`Mounted`], over TLS, in axum-server.
#[cfg(feature = "tls")]
pub struct TlsMounted {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

#[cfg(feature = "tls")]
impl TlsMounted {
    pub fn new(server: Server, signed: &super::tls::Signed) -> Self {
        super::log::begin();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let app = Mounted::app(server.into_service().unwrap());
        let config = axum_server::tls_rustls::RustlsConfig::from_config(super::tls::server_config(signed).into());
        let serving = axum_server::from_tcp_rustls(listener, config).unwrap().serve(app.into_make_service());
        Self { address, task: tokio::spawn(async { serving.await.unwrap() }) }
    }
}

#[cfg(feature = "tls")]
impl Drop for TlsMounted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for UnixMounted {
    fn drop(&mut self) {
        self.0.abort();
    }
}
