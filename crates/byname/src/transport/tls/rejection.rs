//! What a failed handshake means to a person: which certificate is wrong, what is wrong with it, and what to do.

use std::net::IpAddr;
use std::{fmt, io};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};

use super::certificate_names::{CertificateNames, date};
use crate::error::Code;
use crate::transport::HandshakeRefusal;
use crate::untrusted_text::quoted;

/// The roots and revocation lists of one side, for messages.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    /// `the roots in` a file, or `the roots of this machine`.
    pub(super) roots: String,
    pub(super) revocations: Option<String>,
}

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsSide {
    Client,
    Server,
}

impl fmt::Display for TlsSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

impl TlsSide {
    /// The other side.
    fn peer(self) -> &'static str {
        match self {
            Self::Client => "server",
            Self::Server => "client",
        }
    }
}

/// Why a handshake failed. Its code is that of a call.
pub(super) fn of_handshake(
    side: TlsSide,
    why: &io::Error,
    rejected: Option<&CertificateNames>,
    trust: &Trust,
) -> HandshakeRefusal {
    let peer = side.peer();
    let refusal = |code, why| HandshakeRefusal { code, why };
    let Some(error) = rustls_error(why) else {
        let why = match why.kind() {
            io::ErrorKind::UnexpectedEof => format!("the {peer} closed the connection during the TLS handshake"),
            _ => format!("the connection broke during the TLS handshake: {why}"),
        };
        return refusal(Code::Unavailable, why);
    };
    match error {
        Error::InvalidCertificate(why) => refusal(Code::FailedPrecondition, of_certificate(side, why, rejected, trust)),
        Error::NoCertificatesPresented => refusal(
            Code::Unauthenticated,
            format!("the {peer} sent no certificate, and one is required that is signed by one of {}", trust.roots),
        ),
        // A client's certificate is refused by other alerts, or later.
        Error::AlertReceived(AlertDescription::AccessDenied | AlertDescription::UnrecognisedName)
            if side == TlsSide::Client =>
        {
            let why = "the server rejected the TLS handshake; it may have no certificate for the requested name (SNI)";
            refusal(Code::FailedPrecondition, why.to_owned())
        }
        Error::AlertReceived(alert) => of_alert(side, *alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) if side == TlsSide::Client => {
            let why = "the server does not speak TLS; call it with http://, or give it `Server::tls`";
            refusal(Code::FailedPrecondition, why.to_owned())
        }
        Error::PeerIncompatible(
            // TLS 1.2 brought the signature algorithms.
            PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => refusal(Code::FailedPrecondition, old_version(peer)),
        Error::PeerIncompatible(why) => refusal(
            Code::FailedPrecondition,
            format!("the {peer} and this side support no common TLS parameters: {why:?}"),
        ),
        Error::NoApplicationProtocol => {
            let why = format!(
                "the {peer} offers no protocol by ALPN that this side speaks; expected `h2`, `http/1.1` or `http/1.0`"
            );
            refusal(Code::FailedPrecondition, why)
        }
        why => refusal(Code::Unavailable, format!("the TLS handshake failed: {why}")),
    }
}

/// Why a server rejects the certificate of a client that has finished its handshake. In TLS 1.3 the server verifies it only
/// then, but before it reads anything of the application. Other alerts may come at any time.
pub(super) fn after_the_handshake(why: &io::Error) -> Option<HandshakeRefusal> {
    use AlertDescription as Alert;
    match rustls_error(why)? {
        Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::DecryptError),
        ) => Some(of_alert(TlsSide::Client, *alert)),
        _ => None,
    }
}

pub(super) fn rustls_error(why: &io::Error) -> Option<&Error> {
    why.get_ref()?.downcast_ref()
}

fn old_version(peer: &str) -> String {
    format!("the {peer} supports only TLS versions before 1.2, which are insecure; it must support TLS 1.2 or 1.3")
}

fn of_certificate(side: TlsSide, why: &CertificateError, rejected: Option<&CertificateNames>, trust: &Trust) -> String {
    let peer = side.peer();
    let certificate = match rejected.and_then(CertificateNames::list) {
        Some(names) => format!("the {peer}'s certificate, for {names},"),
        None => format!("the {peer}'s certificate"),
    };
    let name_it = match side {
        TlsSide::Client => "`ClientTls::roots`",
        TlsSide::Server => "`ServerTls::require_clients`",
    };
    let roots = &trust.roots;
    match why {
        CertificateError::ExpiredContext { time, not_after } => {
            format!(
                "{certificate} expired on {}; today is {} by the clock of this machine",
                date(*not_after),
                date(*time)
            )
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!(
                "{certificate} is not valid before {}; today is {} by the clock of this machine",
                date(*not_before),
                date(*time)
            )
        }
        CertificateError::NotValidForNameContext { expected, .. } => of_another_name(rejected, expected),
        CertificateError::Revoked => {
            let list = trust.revocations.as_deref().unwrap_or_default();
            format!("{certificate} is revoked by the list in {list}; the {peer} needs a new one")
        }
        CertificateError::UnknownIssuer | CertificateError::Other(_)
            if rejected.is_some_and(|names| names.is_self_signed) =>
        {
            format!(
                "{certificate} is self-signed and not one of {roots}; if you trust it, add it as a root with {name_it}"
            )
        }
        CertificateError::UnknownIssuer => {
            format!(
                "{certificate} was signed by none of {roots}; give the root that signed it to \
                 {name_it}, or let the {peer} send the intermediate certificates"
            )
        }
        why if is_version_1(why) => format!("{certificate} {VERSION_1}"),
        CertificateError::InvalidPurposeContext { .. } => {
            format!("{certificate} is not for {peer}s, by its extended key usage")
        }
        CertificateError::Other(OtherError(why)) => format!("{certificate} was rejected: {why}"),
        why => format!("{certificate} was rejected: {why}"),
    }
}

/// What messages say of a certificate that [is of version 1](is_version_1).
pub(super) const VERSION_1: &str = "is X.509 version 1, expected version 3; make it with a subjectAltName: `openssl x509 -req` \
                                    takes it from the file of `-extfile`, and makes version 1 without one";

/// Whether a certificate is of a version that has no names of hosts.
pub(super) fn is_version_1(why: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(why)) = why else { return false };
    matches!(why.downcast_ref(), Some(webpki::Error::UnsupportedCertVersion))
}

/// A server's certificate that is for other names than the expected one, or for none.
fn of_another_name(rejected: Option<&CertificateNames>, expected: &ServerName<'_>) -> String {
    let shown = match expected {
        ServerName::IpAddress(address) => format!("`{}`", IpAddr::from(*address)),
        name => quoted(&name.to_str()),
    };
    let Some((certificate, names)) = rejected.and_then(|names| Some((names, names.list()?))) else {
        return format!(
            "the server's certificate is for no name, expected {shown}; it needs one with a subjectAltName"
        );
    };
    let is_ip = matches!(expected, ServerName::IpAddress(_));
    if is_ip && certificate.has_ip_as_dns_name() {
        return format!(
            "the server's certificate is for {names}, not for the IP address {shown}; make a certificate whose \
             subjectAltName has it as an IP address, such as `IP:10.0.0.1`"
        );
    }
    let wildcard = match certificate.wildcard_that_does_not_cover(&expected.to_str()) {
        Some(why) if !is_ip => format!(" ({why})"),
        _ => String::new(),
    };
    format!(
        "the server's certificate is for {names}, not for {shown}{wildcard}; call the server by a name in its \
         certificate, or give that name to `ClientTls::server_name`"
    )
}

fn of_alert(side: TlsSide, alert: AlertDescription) -> HandshakeRefusal {
    use AlertDescription as Alert;
    let peer = side.peer();
    // The side that has sent the alert knows the reason.
    let (mine, of_mine, reason) = match side {
        TlsSide::Client => ("this client's certificate", Code::Unauthenticated, "its log says why"),
        TlsSide::Server => ("this server's certificate", Code::FailedPrecondition, "the error of its call says why"),
    };
    let (code, why) = match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            (of_mine, format!("the {peer} requires a certificate; give one with `ClientTls::identity`"))
        }
        Alert::UnknownCA => {
            (of_mine, format!("the {peer} rejects {mine}: it was signed by no root that the {peer} trusts"))
        }
        Alert::CertificateExpired => {
            (of_mine, format!("the {peer} rejects {mine}: it has expired or is not valid yet, by the {peer}'s clock"))
        }
        Alert::CertificateRevoked => (of_mine, format!("the {peer} rejects {mine}: it is revoked")),
        Alert::BadCertificate
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::AccessDenied
        | Alert::DecryptError => (of_mine, format!("the {peer} rejects {mine} ({alert:?}); {reason}")),
        Alert::ProtocolVersion => (Code::FailedPrecondition, old_version(peer)),
        Alert::NoApplicationProtocol => {
            let why = format!("the {peer} supports none of the offered protocols (ALPN)");
            (Code::FailedPrecondition, why)
        }
        alert => (Code::Unavailable, format!("the {peer} ended the TLS handshake ({alert:?}); {reason}")),
    };
    HandshakeRefusal { code, why }
}
