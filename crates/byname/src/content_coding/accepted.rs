//! What `accept-encoding` says (RFC 9110, section 12.5.3).

use http::header::{ACCEPT_ENCODING, HeaderMap};

use super::ContentCoding;

/// Which coding a caller wants, of those that this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AcceptedCodings {
    /// The one to use, if any.
    pub(crate) preferred: Option<ContentCoding>,
    /// Whether a body without coding is accepted.
    pub(crate) identity: bool,
}

impl AcceptedCodings {
    /// Without the header, a body without coding is wanted. Elements that are malformed are ignored.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let weights = || {
            let lists = headers.get_all(ACCEPT_ENCODING).iter();
            lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b',')).filter_map(weight)
        };
        let any = weights().find(|(name, _)| *name == b"*").map(|(_, weight)| weight);
        let identity = weights().find(|(name, _)| name.eq_ignore_ascii_case(b"identity")).map(|(_, weight)| weight);
        let mut preferred = None;
        for coding in ContentCoding::ALL.iter().copied() {
            let own = weights().find(|(name, _)| ContentCoding::named(name) == Some(coding));
            let weight = own.map(|(_, weight)| weight).or(any).unwrap_or(0);
            if weight > preferred.map_or(0, |(_, weight)| weight) {
                preferred = Some((coding, weight));
            }
        }
        let preferred = preferred.filter(|(_, weight)| *weight >= identity.unwrap_or(0)).map(|(coding, _)| coding);
        Self { preferred, identity: identity.or(any) != Some(0) }
    }
}

/// Whether a body in gzip is accepted, by a build that can't encode one too.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let weights = || {
        let lists = headers.get_all(ACCEPT_ENCODING).iter();
        lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b',')).filter_map(weight)
    };
    let own = weights().find(|(name, _)| name.eq_ignore_ascii_case(b"gzip"));
    own.or_else(|| weights().find(|(name, _)| *name == b"*")).is_some_and(|(_, weight)| weight > 0)
}

/// One element of the list: a name, and its weight in thousandths.
fn weight(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let weight = match parts.next() {
        None => 1000,
        Some(parameter) => {
            let (key, value) = parameter.split_at(parameter.iter().position(|byte| *byte == b'=')?);
            if !key.trim_ascii().eq_ignore_ascii_case(b"q") {
                return None;
            }
            thousandths(value[1..].trim_ascii())?
        }
    };
    parts.next().is_none().then_some((name, weight))
}

/// `0`, `1`, `0.5`, `0.125`, `1.000`: at most three digits behind the point, at most 1.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, digits) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', digits @ ..] => (whole, digits),
        _ => return None,
    };
    let whole = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let part = digits.iter().zip([100, 10, 1]).map(|(digit, unit)| u16::from(digit - b'0') * unit).sum::<u16>();
    Some(whole + part).filter(|weight| *weight <= 1000)
}

#[cfg(feature = "compression")]
#[cfg(test)]
mod tests {
    use super::ContentCoding::{Gzip, Zstd};
    use super::*;

    #[test]
    fn the_callers_weights_decide_and_zstd_comes_before_gzip() {
        for (given, preferred, identity) in [
            ("gzip", Some(Gzip), true),
            ("GZIP", Some(Gzip), true),
            ("x-gzip", Some(Gzip), true),
            ("zstd", Some(Zstd), true),
            ("gzip, deflate, br, zstd", Some(Zstd), true),
            ("gzip, zstd;q=0.9", Some(Gzip), true),
            ("gzip;q=0.5, zstd;q=0.5", Some(Zstd), true),
            ("gzip ; q=0.001", Some(Gzip), true),
            ("gzip;q=1.000", Some(Gzip), true),
            ("*", Some(Zstd), true),
            ("zstd;q=0, *", Some(Gzip), true),
            ("gzip;q=0.2, *;q=0.1", Some(Gzip), true),
            ("gzip;q=0", None, true),
            ("gzip;q=0, zstd;q=0", None, true),
            ("gzip;q=0.000", None, true),
            ("identity", None, true),
            ("identity, gzip;q=0.5", None, true),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip), true),
            ("identity;q=0, gzip", Some(Gzip), false),
            ("identity;q=0", None, false),
            ("*;q=0", None, false),
            ("*;q=0, gzip", Some(Gzip), false),
            ("*;q=0, identity", None, true),
            ("br, deflate", None, true),
            ("", None, true),
            (",, ,gzip,", Some(Gzip), true),
            // Malformed elements are ignored.
            ("gzip;q=2, zstd;q=1.001", None, true),
            ("gzip;q=0.0001", None, true),
            ("gzip;q=", None, true),
            ("gzip;q", None, true),
            ("gzip;level=1", None, true),
            ("gzip;q=0.5;x=1", None, true),
            ("gzip;q=-1", None, true),
            ("gzip;q=.5", None, true),
            (";q=1, zstd", Some(Zstd), true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, given.parse().unwrap());
            assert_eq!(AcceptedCodings::of(&headers), AcceptedCodings { preferred, identity }, "{given}");
        }
        assert_eq!(AcceptedCodings::of(&HeaderMap::new()), AcceptedCodings { preferred: None, identity: true });
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT_ENCODING, "zstd;q=0".parse().unwrap());
        headers.append(ACCEPT_ENCODING, "gzip, zstd".parse().unwrap());
        let accepted = AcceptedCodings::of(&headers);
        assert_eq!(accepted, AcceptedCodings { preferred: Some(Gzip), identity: true }, "the first weight holds");
    }
}
