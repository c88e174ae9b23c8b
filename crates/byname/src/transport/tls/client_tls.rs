//! The TLS settings of a client: [`ClientTls`].

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::default_provider;
use super::key_pair::KeyPair;
use super::pem::{Pem, PemContent, invalid};
use super::rejection::{TlsSide, Trust};
use super::verifiers::ServerVerifier;
use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

/// The TLS settings of a client, for [`ClientBuilder::tls`](crate::ClientBuilder::tls). A URL with `https://` works without
/// them if the platform trusts the server's certificate.
///
/// ```no_run
/// use byname::{Client, ClientTls};
///
/// # fn main() -> Result<(), byname::Error> {
/// let tls = ClientTls::new().roots("ca.pem")?.identity("client.pem", "client.key")?;
/// let orders = Client::builder("https://orders.internal:8443").tls(tls).build()?;
/// # Ok(()) }
/// ```
///
/// The name of the server is always checked. It is the host in the client's URL, or [`server_name`](Self::server_name).
/// Results of DNS and [`addresses`](crate::ClientBuilder::addresses) do not change it. The check can't be turned off. To
/// trust a self-signed certificate, add it with [`roots`](Self::roots).
///
/// Files are reloaded when their content changes. The client checks them when it opens a connection, at most every five
/// seconds. Open connections do not change.
#[derive(Clone, Debug)]
pub struct ClientTls {
    roots: Option<Pem>,
    identity: Option<(Pem, Pem)>,
    revocations: Option<Pem>,
    server_name: Option<ServerName<'static>>,
    provider: Option<Arc<CryptoProvider>>,
}

/// The content of the files of a [`ClientTls`].
#[derive(PartialEq, Eq)]
pub(super) struct ClientFiles {
    roots: Option<PemContent>,
    identity: Option<(PemContent, PemContent)>,
    revocations: Option<PemContent>,
}

impl Default for ClientTls {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientTls {
    /// TLS with the roots of the platform.
    pub fn new() -> Self {
        Self { roots: None, identity: None, revocations: None, server_name: None, provider: None }
    }

    /// The root certificates that may sign a server's certificate. They replace the platform's roots. A self-signed
    /// certificate of a server is its own root.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if the file can't be read or holds no certificate.
    pub fn roots(mut self, roots: impl Into<Pem>) -> Result<Self, Error> {
        let roots = roots.into();
        root_store(&roots, &roots.certificates(&roots.read()?)?)?;
        self.roots = Some(roots);
        Ok(self)
    }

    /// The certificate of this client with its intermediate certificates, and its private key. The client sends the
    /// certificate to servers that request one.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if a file can't be read, or the key isn't the certificate's.
    pub fn identity(mut self, certificate: impl Into<Pem>, key: impl Into<Pem>) -> Result<Self, Error> {
        self.identity = Some((certificate.into(), key.into()));
        self.config(&self.read()?, &RootCertStore::empty())?;
        Ok(self)
    }

    /// Revocation lists. A server whose certificate is on a list is rejected. A certificate whose issuer has no list here is
    /// accepted. A list that is out of date is used.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if the file can't be read or holds no revocation list.
    pub fn revocations(mut self, lists: impl Into<Pem>) -> Result<Self, Error> {
        let lists = lists.into();
        lists.revocations(&lists.read()?)?;
        self.revocations = Some(lists);
        Ok(self)
    }

    /// The name that the server's certificate must have, instead of the host in the URL.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if it is neither a name of a host nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, Error> {
        self.server_name = Some(parsed_name(name)?);
        Ok(self)
    }

    /// Another cryptography provider instead of `ring`.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// The name that is checked at a server that the user calls `host`.
    pub(super) fn name_of(&self, host: &str) -> Result<ServerName<'static>, Error> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => parsed_name(host),
        }
    }

    /// The present content of the files.
    pub(super) fn read(&self) -> Result<ClientFiles, Error> {
        let read = |pem: &Option<Pem>| pem.as_ref().map(Pem::read).transpose();
        let pair = |(certificate, key): &(Pem, Pem)| Ok::<_, Error>((certificate.read()?, key.read()?));
        Ok(ClientFiles {
            roots: read(&self.roots)?,
            identity: self.identity.as_ref().map(pair).transpose()?,
            revocations: read(&self.revocations)?,
        })
    }

    /// The names of the roots and lists, for messages.
    pub(super) fn trust(&self) -> Trust {
        Trust {
            roots: self.roots.as_ref().map_or_else(|| "the roots of this machine".to_owned(), Pem::roots_in),
            revocations: self.revocations.as_ref().map(Pem::name),
        }
    }

    /// Whether the roots are the platform's.
    pub(super) fn takes_the_platforms_roots(&self) -> bool {
        self.roots.is_none()
    }

    /// The configuration of rustls for this content. `platform` are the roots if the user has set none.
    pub(super) fn config(&self, files: &ClientFiles, platform: &RootCertStore) -> Result<ClientConfig, Error> {
        let provider = self.provider.clone().unwrap_or_else(default_provider);
        let mut named_roots = Vec::new();
        let roots = match (&self.roots, &files.roots) {
            (Some(pem), Some(content)) => {
                named_roots = pem.certificates(content)?;
                root_store(pem, &named_roots)?
            }
            _ => platform.clone(),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|why| unusable(&why))?;
        let builder = if roots.is_empty() {
            // This only checks that the key belongs to the certificate. The roots are not loaded yet.
            builder.with_root_certificates(roots)
        } else {
            let mut webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            if let (Some(pem), Some(content)) = (&self.revocations, &files.revocations) {
                webpki = webpki.with_crls(pem.revocations(content)?).allow_unknown_revocation_status();
            }
            let webpki = webpki.build().map_err(|why| unusable(&why))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(ServerVerifier { webpki, named_roots }))
        };
        let mut config = match (&self.identity, &files.identity) {
            (Some((certificate, key)), Some((certificates, private))) => {
                let pair = KeyPair { side: TlsSide::Client, certificate, key };
                let certified = pair.load(certificates, private, builder.crypto_provider())?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The roots in a file.
pub(super) fn root_store(pem: &Pem, certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|why| {
            let why = match why {
                rustls::Error::InvalidCertificate(why) => why.to_string(),
                why => why.to_string(),
            };
            invalid(format!("{} contains an invalid certificate: {why}", pem.name()))
        })?;
    }
    Ok(roots)
}

pub(super) fn unusable(why: &dyn std::fmt::Display) -> Error {
    Error::refused(Code::InvalidArgument, format!("this TLS can't be used: {why}"))
}

fn parsed_name(name: &str) -> Result<ServerName<'static>, Error> {
    let name = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(name.to_owned()).map_err(|_| {
        invalid(format!("{} is not a valid server name; expected a host name or an IP address", quoted(name)))
    })
}
