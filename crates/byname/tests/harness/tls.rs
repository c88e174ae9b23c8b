//! Certificates of every kind, and TLS that is not byname's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use byname::{Client, ClientTls, Pem, ServerTls, Transport};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::{default_provider, sign};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::Running;

/// Who signs certificates.
pub struct Authority(pub CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub type Signed = (String, String);

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::with(name, |_| ())
    }

    pub fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names: hosts and IP addresses.
    pub fn sign(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |_| ())
    }

    /// A certificate of a client, with these URIs.
    pub fn sign_for(&self, uris: &[&str]) -> Signed {
        self.sign_with(&[], |params| {
            params.subject_alt_names.extend(uris.iter().map(|&uri| SanType::URI(uri.try_into().unwrap())));
        })
    }

    /// A revocation list with these serial numbers.
    pub fn revoking(&self, serials: &[u64]) -> String {
        let revoked = |&serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(4096, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    pub fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A certificate that nobody but its own key has signed.
pub fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A certificate of X.509 version 1 and its key, as `openssl x509 -req` makes it without `-extfile`.
pub fn of_version_1() -> Signed {
    let certificate = "\
-----BEGIN CERTIFICATE-----
MIIBJDCBzAIUNi5/MXEp1MkVgNeIMg9KEXpGrqMwCgYIKoZIzj0EAwIwGDEWMBQG
A1UEAwwNdGhlIGF1dGhvcml0eTAgFw0yNjExMjYyMjMwNDhaGA8zOTk4MDMxMzIy
MzA0OFowETEPMA0GA1UEAwwGb3JkZXJzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAEkBFat8f8XugLdFOKzlvi4iRyxUoy6jBJMBnF+mudXTxyxmLqbQq3lHe/kjMN
vVzg3RUhDH9OZ+eia/xdQAwfDDAKBggqhkjOPQQDAgNHADBEAiADNAJskwjk8XM/
P88KioQzh0V49MRzK9lFvIwh2TmeugIgRVp6fNsr6bBc9Ci3pA5tToHxF4pn55q2
5H6auZ/PRxs=
-----END CERTIFICATE-----
";
    let key = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6tAfbVXimbWEXb/2
ataN63l5NmKUVcqWBYq++kuYNnahRANCAASQEVq3x/xe6At0U4rOW+LiJHLFSjLq
MEkwGcX6a51dPHLGYuptCreUd7+SMw29XODdFSEMf05n56Jr/F1ADB8M
-----END PRIVATE KEY-----
";
    (certificate.to_owned(), key.to_owned())
}

/// A private key as `openssl ec -aes128` encrypts it.
pub const ENCRYPTED_KEY: &str = "\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,5558C21C2B9EE5A2E26269DA4B7C38BE

tJ7IvMrGxQKmC0H4IqksTERnEBb1m0qH6+G8UNRgptkYz+Z/v30nMKvFFcGw4yws
ti7N/Yxn/1FAOYTPhX+Xe/MHgMuhZPdoVpZbKrTdTmHep1+CXDmPjOrzGkq9bh/d
nKWnAgJn4RF2q3ex5oFPH0+z4wBq4ssusfy8ZRmXB4s=
-----END EC PRIVATE KEY-----
";

pub fn server_tls((certificate, key): &Signed) -> ServerTls {
    ServerTls::pem(certificate, key).unwrap()
}

pub fn trusting(authority: &Authority) -> ClientTls {
    ClientTls::new().roots(Pem::text(authority.pem())).unwrap()
}

/// TLS with a certificate of the client's own.
pub fn identified(servers: &Authority, (certificate, key): &Signed) -> ClientTls {
    trusting(servers).identity(Pem::text(certificate), Pem::text(key)).unwrap()
}

/// A client that stays with HTTP/1.1.
pub fn over_http(address: SocketAddr, tls: ClientTls) -> Client {
    let builder = Client::builder(format!("https://{address}/rpc")).tls(tls);
    builder.transport(Transport::Http).build().unwrap()
}

impl Running {
    pub fn https(&self) -> String {
        format!("https://{}/rpc", self.address)
    }
}

/// A directory of its own, which is gone when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("byname-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
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

/// As [`client_config`], with a certificate of the client's own.
pub fn identified_config(servers: &Authority, signed: &Signed, protocols: &[&str]) -> ClientConfig {
    let mut config = client_config(servers, protocols);
    let (chain, key) = chain_and_key(signed);
    let certified = CertifiedKey::new(chain, sign::any_supported_type(&key).unwrap());
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    config
}

fn chain_and_key((certificate, key): &Signed) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    (chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
}

/// TLS of another server than byname's.
pub fn server_config(signed: &Signed) -> ServerConfig {
    serving(signed, WebPkiClientVerifier::no_client_auth())
}

/// As [`server_config`]. It accepts clients with a certificate of this authority, and clients without one.
pub fn server_config_accepting(signed: &Signed, clients: &Authority) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(clients.0.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::new(default_provider()));
    serving(signed, verifier.allow_unauthenticated().build().unwrap())
}

fn serving(signed: &Signed, clients: Arc<dyn ClientCertVerifier>) -> ServerConfig {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_client_cert_verifier(clients);
    let (chain, key) = chain_and_key(signed);
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// A connection over TLS to a server that is called by its address.
pub async fn connect(address: SocketAddr, config: impl Into<Arc<ClientConfig>>) -> io::Result<TlsStream<TcpStream>> {
    connect_on(TcpStream::connect(address).await?, config).await
}

/// As [`connect`], on a connection that there is.
pub async fn connect_on(socket: TcpStream, config: impl Into<Arc<ClientConfig>>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::IpAddress(socket.peer_addr()?.ip().into());
    TlsConnector::from(config.into()).connect(name, socket).await
}
