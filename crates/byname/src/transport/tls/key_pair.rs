//! A certificate with its private key, and what is wrong with files that are no such pair.

use rustls::InconsistentKeys;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::pem::{Pem, invalid};
use super::rejection::{TlsSide, VERSION_1, is_version_1};
use crate::error::Error;

/// A certificate of this side, with its private key and its intermediate certificates.
pub(super) struct KeyPair<'p> {
    pub(super) side: TlsSide,
    pub(super) certificate: &'p Pem,
    pub(super) key: &'p Pem,
}

impl KeyPair<'_> {
    /// Reads the pair from the content of its files.
    pub(super) fn load(
        &self,
        certificates: &[u8],
        private: &[u8],
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, Error> {
        let (chain, private) = (self.certificate.certificates(certificates)?, self.key.key(private)?);
        CertifiedKey::from_der(chain.clone(), private.clone_key(), provider)
            .map_err(|why| self.explain(&why, &chain, &private, provider))
    }

    fn explain(
        &self,
        why: &rustls::Error,
        chain: &[CertificateDer<'static>],
        private: &PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Error {
        let (certificate, key) = (self.certificate.name(), self.key.name());
        let fits = |one: &&CertificateDer<'static>| {
            CertifiedKey::from_der(vec![(**one).clone()], private.clone_key(), provider).is_ok()
        };
        invalid(match why {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)
                if chain.iter().skip(1).any(|one| fits(&one)) =>
            {
                format!(
                    "the private key in {key} is the key of a later certificate in {certificate}; the {}'s certificate must \
                     come first, and the certificates that have signed it after it",
                    self.side
                )
            }
            rustls::Error::InconsistentKeys(_) => {
                format!("the private key in {key} is not the key of the certificate in {certificate}")
            }
            rustls::Error::InvalidCertificate(why) if is_version_1(why) => {
                format!("the certificate in {certificate} {VERSION_1}")
            }
            rustls::Error::InvalidCertificate(why) => format!("the certificate in {certificate} is invalid: {why}"),
            why => format!("the certificate in {certificate} and the private key in {key} can't be used: {why}"),
        })
    }
}
