//! Certificates of every kind, and TLS that is not byname's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use byname::{ClientTls, Pem, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Running;

/// Who signs certificates.
pub struct Authority(pub CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub type Signed = (String, String);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names: hosts and IP addresses.
    pub fn sign(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |_| ())
    }

    pub fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

pub fn server_tls((certificate, key): &Signed) -> ServerTls {
    ServerTls::pem(certificate, key).unwrap()
}

pub fn trusting(authority: &Authority) -> ClientTls {
    ClientTls::new().roots(Pem::text(authority.pem())).unwrap()
}

impl Running {
    pub fn https(&self) -> String {
        format!("https://{}/rpc", self.address)
    }
}

/// TLS of others: it trusts one authority and offers these protocols.
pub fn client_config(authority: &Authority, protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// A connection over TLS to a server that is called by its address.
pub async fn connect(address: SocketAddr, config: impl Into<Arc<ClientConfig>>) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    TlsConnector::from(config.into()).connect(name, socket).await
}
