//! The certificate of all servers over TLS, and a client of rustls that is none of the peers.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What clients trust.
pub const AUTHORITY: &str = include_str!(concat!(env!("OUT_DIR"), "/authority.pem"));
/// What servers show, and its key.
pub const CERTIFICATE: &str = include_str!(concat!(env!("OUT_DIR"), "/certificate.pem"));
pub const KEY: &str = include_str!(concat!(env!("OUT_DIR"), "/key.pem"));

/// Makes `ring`, which byname uses, the provider of those that use the one of the process.
pub fn install_ring() {
    // It fails only when one is installed.
    let _ = ring::default_provider().install_default();
}

/// A client that offers one protocol. It doesn't verify the server's certificate: so less of the time is the client's, and
/// the server is what is measured.
#[derive(Clone)]
pub struct BareClient(TlsConnector);

impl BareClient {
    pub fn new(protocol: &[u8], resumption: Resumption) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let verifier = Arc::new(AcceptsAll(provider));
        let mut config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = resumption;
        Ok(BareClient(TlsConnector::from(Arc::new(config))))
    }

    pub async fn connect(&self, server: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(server).await?;
        socket.set_nodelay(true)?;
        Ok(self.0.connect(ServerName::IpAddress(server.ip().into()), socket).await?)
    }
}

#[derive(Debug)]
struct AcceptsAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
