//! What a certificate says of itself: its names, its end, who signed it.

use std::net::IpAddr;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::pem::invalid;
use crate::error::Error;
use crate::peer::ClientCertificate;
use crate::untrusted_text::quoted;

/// The most names of a certificate in one message.
const NAMES: usize = 3;

/// What messages say of a certificate that was rejected.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateNames {
    names: Vec<CertificateName>,
    pub(super) is_self_signed: bool,
}

/// A name in a certificate. One may look like another kind of name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CertificateName {
    Dns(String),
    Ip(String),
    Uri(String),
}

impl CertificateNames {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok(parsed) = EndEntityCert::try_from(certificate) else {
            return Self::default();
        };
        // webpki lists the names, those that are IP addresses too, where none of them is the right one.
        let nobody = ServerName::try_from("nobody.invalid").expect("this is a name");
        let names = match parsed.verify_is_valid_for_subject_name(&nobody) {
            Err(webpki::Error::CertNotValidForName(context)) => {
                context.presented.iter().filter_map(|name| CertificateName::of_webpki(name)).collect()
            }
            _ => {
                let dns = parsed.valid_dns_names().map(|name| CertificateName::Dns(name.to_owned()));
                dns.chain(parsed.valid_uri_names().map(|name| CertificateName::Uri(name.to_owned()))).collect()
            }
        };
        Self { names, is_self_signed: parsed.issuer() == parsed.subject() }
    }

    /// `a.example` and `b.example`; `None` if it names nobody.
    pub(super) fn list(&self) -> Option<String> {
        let mut listed: Vec<_> = self.names.iter().take(NAMES).map(CertificateName::shown).collect();
        let last = match self.names.len().checked_sub(NAMES) {
            Some(more) if more > 0 => format!("{more} more"),
            _ => listed.pop()?,
        };
        Some(match listed.is_empty() {
            true => last,
            false => format!("{} and {last}", listed.join(", ")),
        })
    }

    /// Whether an IP address is in it as the name of a host.
    pub(super) fn has_ip_as_dns_name(&self) -> bool {
        self.names.iter().any(CertificateName::is_ip_as_dns_name)
    }

    /// Why a wildcard in it does not stand for this name, if somebody may have expected so.
    pub(super) fn wildcard_that_does_not_cover(&self, host: &str) -> Option<&'static str> {
        let host = host.to_ascii_lowercase();
        self.names.iter().find_map(|name| {
            let CertificateName::Dns(name) = name else { return None };
            let name = name.to_ascii_lowercase();
            let domain = name.strip_prefix("*.")?;
            let is_below = host.strip_suffix(domain).is_some_and(|label| label.ends_with('.'));
            match (host == domain || is_below, domain.contains('.')) {
                (false, _) => None,
                (true, false) => Some("a wildcard needs two labels or more after it, such as `*.orders.internal`"),
                (true, true) => Some("a wildcard stands for exactly one label"),
            }
        })
    }
}

impl CertificateName {
    /// From `DnsName("a.example")` and the like, which is all that webpki says. It leaves out names of other kinds.
    fn of_webpki(name: &str) -> Option<Self> {
        let (kind, name) = name.strip_suffix(')')?.split_once('(')?;
        let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name).to_owned();
        match kind {
            "DnsName" => Some(Self::Dns(name)),
            "IpAddress" => Some(Self::Ip(name)),
            "UniformResourceIdentifier" => Some(Self::Uri(name)),
            _ => None,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Dns(name) if self.is_ip_as_dns_name() => format!("the DNS name {}", quoted(name)),
            Self::Dns(name) | Self::Ip(name) | Self::Uri(name) => quoted(name),
        }
    }

    fn is_ip_as_dns_name(&self) -> bool {
        matches!(self, Self::Dns(name) if name.parse::<IpAddr>().is_ok())
    }
}

impl ClientCertificate {
    /// Reads the names in a certificate in DER. It verifies nothing: call it for a certificate that the server which has
    /// accepted the connection has verified. A server with [`Server::tls`](crate::Server::tls) does all of this itself.
    ///
    /// It needs the feature `tls`.
    ///
    /// ```
    /// use std::net::SocketAddr;
    ///
    /// use byname::{ClientCertificate, Error, Identity, Peer};
    ///
    /// /// For the extensions of each request of a connection over TLS that the application has accepted.
    /// fn peer(address: SocketAddr, verified: Option<&[u8]>) -> Result<Peer, Error> {
    ///     let mut peer = Peer::from(address);
    ///     let certificate = verified.map(ClientCertificate::from_der).transpose()?;
    ///     peer.identity = certificate.map(Identity::Certificate);
    ///     Ok(peer)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// `invalid_argument` if it is not a certificate.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let der = CertificateDer::from(der.into());
        let parsed = EndEntityCert::try_from(&der).map_err(|why| {
            invalid(format!("these bytes are not an X.509 certificate in DER ({why}); decode a PEM first"))
        })?;
        let owned = |name: &str| name.to_owned();
        Ok(Self {
            dns_names: parsed.valid_dns_names().map(owned).collect(),
            uri_names: parsed.valid_uri_names().map(owned).collect(),
            der: der.to_vec(),
        })
    }
}

/// When a certificate ends. webpki says so of one that has ended, and at the end of time every one has.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    match parsed.verify_for_usage(&[], &[], &[], end_of_time, KeyUsage::client_auth(), None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after),
        _ => None,
    }
}

/// `2026-03-01`, by the Gregorian calendar, in UTC.
pub(super) fn date(time: UnixTime) -> String {
    // Counted from 0000-03-01, so that a leap day is the last of its year (Howard Hinnant, `civil_from_days`).
    let days = time.as_secs() / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_772_323_199, "2026-02-28"),
            (1_772_323_200, "2026-03-01"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
            (253_402_300_799, "9999-12-31"),
        ] {
            assert_eq!(date(UnixTime::since_unix_epoch(Duration::from_secs(seconds))), expected);
        }
    }

    #[test]
    fn a_message_names_three_at_most() {
        let list = |names: &[&str]| {
            let names = names.iter().map(|&name| CertificateName::Dns(name.to_owned())).collect();
            CertificateNames { names, is_self_signed: false }.list()
        };
        assert_eq!(list(&[]), None);
        assert_eq!(list(&["a"]).unwrap(), "`a`");
        assert_eq!(list(&["a", "b", "c"]).unwrap(), "`a`, `b` and `c`");
        assert_eq!(list(&["a", "b", "c", "d", "e"]).unwrap(), "`a`, `b`, `c` and 2 more");
    }
}
