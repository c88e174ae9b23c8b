//! Certificates, keys and lists as users give them: [`Pem`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

/// Certificates, a private key or revocation lists in PEM: the path of a file, or the text itself.
///
/// A string is a path. The text of a PEM is given by [`Pem::text`].
///
/// ```
/// use byname::Pem;
///
/// let file: Pem = "/etc/orders/ca.pem".into();
/// let text = Pem::text("-----BEGIN CERTIFICATE-----\n…");
/// # let _ = (file, text);
/// ```
///
/// A file is read again when its content changes.
#[derive(Clone)]
pub struct Pem(PemSource);

#[derive(Clone)]
enum PemSource {
    File(PathBuf),
    Text(Arc<[u8]>),
}

/// What a PEM holds at one time.
pub(super) type PemContent = Arc<[u8]>;

impl Pem {
    /// The text of a PEM.
    pub fn text(text: impl AsRef<[u8]>) -> Self {
        Self(PemSource::Text(text.as_ref().into()))
    }

    pub(super) fn file(path: impl AsRef<Path>) -> Self {
        Self(PemSource::File(path.as_ref().to_owned()))
    }

    /// How messages call it.
    pub(super) fn name(&self) -> String {
        match &self.0 {
            PemSource::File(path) => quoted(&path.to_string_lossy()),
            PemSource::Text(_) => "the given text".to_owned(),
        }
    }

    /// How messages call the roots in it.
    pub(super) fn roots_in(&self) -> String {
        format!("the roots in {}", self.name())
    }

    /// What it holds now.
    pub(super) fn read(&self) -> Result<PemContent, Error> {
        let path = match &self.0 {
            PemSource::Text(text) => return Ok(Arc::clone(text)),
            PemSource::File(path) => path,
        };
        if path.to_string_lossy().contains("-----BEGIN ") {
            // The text may be a private key.
            return Err(invalid(
                "expected the path of a PEM file, got the text of a PEM; pass the text with `Pem::text`".into(),
            ));
        }
        fs::read(path).map(Arc::from).map_err(|why| invalid(format!("can't read {}: {why}", self.name())))
    }

    pub(super) fn certificates(&self, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
        let certificates = CertificateDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|why| self.broken(&why))?;
        if certificates.is_empty() {
            return Err(self.lacks("certificate", "CERTIFICATE", content));
        }
        Ok(certificates)
    }

    pub(super) fn key(&self, content: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
        // Of PKCS#8, and of the older formats.
        if ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"]
            .iter()
            .any(|mark| contains(content, mark))
        {
            let why = "is encrypted; decrypt it with `openssl pkey -in … -out …`";
            return Err(invalid(format!("the private key in {} {why}", self.name())));
        }
        match PrivateKeyDer::from_pem_slice(content) {
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) => Err(self.lacks("private key", "PRIVATE KEY", content)),
            Err(why) => Err(self.broken(&why)),
        }
    }

    pub(super) fn revocations(&self, content: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        let lists = CertificateRevocationListDer::pem_slice_iter(content).collect::<Result<Vec<_>, _>>();
        let lists = lists.map_err(|why| self.broken(&why))?;
        if lists.is_empty() {
            return Err(self.lacks("revocation list", "X509 CRL", content));
        }
        Ok(lists)
    }

    fn broken(&self, why: &pem::Error) -> Error {
        let why = match why {
            pem::Error::MissingSectionEnd { .. } => "its last section has no end, so the file is incomplete".to_owned(),
            why => why.to_string(),
        };
        invalid(format!("{} is not valid PEM: {why}", self.name()))
    }

    fn lacks(&self, what: &str, label: &str, content: &[u8]) -> Error {
        let text = String::from_utf8_lossy(content);
        let found = match text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----")) {
            Some((found, _)) => format!("it contains {}", quoted(&format!("-----BEGIN {found}-----"))),
            None if text.is_empty() => "it is empty".to_owned(),
            None => "it is not PEM".to_owned(),
        };
        invalid(format!("{} contains no {what}, expected `-----BEGIN {label}-----`; {found}", self.name()))
    }
}

fn contains(content: &[u8], text: &str) -> bool {
    content.windows(text.len()).any(|part| part == text.as_bytes())
}

pub(super) fn invalid(why: String) -> Error {
    Error::refused(Code::InvalidArgument, why)
}

impl fmt::Debug for Pem {
    /// The text may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pem").field(&self.name()).finish()
    }
}

impl From<&str> for Pem {
    fn from(path: &str) -> Self {
        Self::file(path)
    }
}

impl From<String> for Pem {
    fn from(path: String) -> Self {
        Self::file(path)
    }
}

impl From<&Path> for Pem {
    fn from(path: &Path) -> Self {
        Self::file(path)
    }
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::file(path)
    }
}
