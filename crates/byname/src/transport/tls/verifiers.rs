//! Who is trusted: webpki's verifiers, and what they leave to the user of a certificate that they reject.
//!
//! rustls says what is wrong with a certificate, and not which one it was. A task-local of the handshake keeps that.

use std::cell::RefCell;
use std::iter;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use std::sync::Arc;
use webpki::EndEntityCert;

use super::certificate_names::CertificateNames;
use super::session_tickets::session_ends_with;

tokio::task_local! {
    static REJECTED: RefCell<Option<CertificateNames>>;
}

/// Runs a handshake, and says which certificate this side rejected in it.
pub(super) async fn noting_the_rejected<F: Future>(handshake: F) -> (F::Output, Option<CertificateNames>) {
    let noting = async {
        let output = handshake.await;
        (output, REJECTED.with(RefCell::take))
    };
    REJECTED.scope(RefCell::default(), noting).await
}

fn note(certificate: &CertificateDer<'_>) {
    let _ = REJECTED.try_with(|rejected| rejected.replace(Some(CertificateNames::of(certificate))));
}

/// Whether a certificate is rejected only because it is one that may sign others, and is itself among the roots. Tools
/// make self-signed certificates so: `openssl req -x509` is one. webpki looks at the dates before.
fn is_a_root_itself(error: &Error, certificate: &CertificateDer<'_>, roots: &[CertificateDer<'static>]) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = error else {
        return false;
    };
    let why = why.downcast_ref::<webpki::Error>();
    matches!(why, Some(webpki::Error::CaUsedAsEndEntity)) && roots.iter().any(|root| root == certificate)
}

/// Verifies servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    /// The roots that the user has named.
    pub(super) named_roots: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let verified = match verified {
            Err(error) if is_a_root_itself(&error, end_entity, &self.named_roots) => {
                is_for(end_entity, server_name).map(|()| ServerCertVerified::assertion())
            }
            verified => verified,
        };
        verified.inspect_err(|_| note(end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let parsed = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
    parsed.verify_is_valid_for_subject_name(name).map_err(|why| {
        let expected = name.to_owned();
        match why {
            webpki::Error::CertNotValidForName(context) => {
                CertificateError::NotValidForNameContext { expected, presented: context.presented }.into()
            }
            _ => CertificateError::NotValidForName.into(),
        }
    })
}

/// Verifies clients.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) webpki: Arc<dyn ClientCertVerifier>,
    pub(super) named_roots: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.webpki.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = match self.webpki.verify_client_cert(end_entity, intermediates, now) {
            Err(error) if is_a_root_itself(&error, end_entity, &self.named_roots) => {
                Ok(ClientCertVerified::assertion())
            }
            verified => verified,
        };
        verified
            .inspect(|_| session_ends_with(iter::once(end_entity).chain(intermediates)))
            .inspect_err(|_| note(end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
