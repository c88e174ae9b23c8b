//! The origins whose pages may call: [`AllowedOrigins`].

use std::net::Ipv6Addr;
use std::num::NonZeroU16;

use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

/// What [`Server::origins`](crate::Server::origins) was given.
#[derive(Debug, Default)]
pub(in crate::server) struct AllowedOrigins {
    every: bool,
    exact: Vec<String>,
    patterns: Vec<OriginPattern>,
}

/// An origin whose first label may be any, such as `https://*.example.com`: what stands around the label.
#[derive(Debug)]
struct OriginPattern {
    before: String,
    after: String,
}

impl AllowedOrigins {
    pub(in crate::server) fn parse(origins: &[String]) -> Result<Self, Error> {
        let mut allowed = Self::default();
        for origin in origins {
            let invalid = |why: &str| {
                let why = format!("`Server::origins`: {} {why}", quoted(origin));
                Err(Error::refused(Code::InvalidArgument, why))
            };
            match origin.as_str() {
                "*" => allowed.every = true,
                // The origin of a page that has none, such as a file.
                "null" => allowed.exact.push(origin.clone()),
                _ => {
                    let origin = match as_browsers_write_it(origin) {
                        Ok(origin) => origin,
                        Err(why) => return invalid(&why),
                    };
                    let Some((before, after)) = origin.split_once('*') else {
                        allowed.exact.push(origin);
                        continue;
                    };
                    let labels = after.strip_prefix('.').filter(|labels| !labels.is_empty());
                    if !before.ends_with("://") || labels.is_none_or(|labels| labels.contains('*')) {
                        return invalid(
                            "has a `*` that is not the first label of a host; expected one such as \
                             `https://*.example.com`",
                        );
                    }
                    allowed.patterns.push(OriginPattern { before: before.to_owned(), after: after.to_owned() });
                }
            }
        }
        if allowed.every
            && let Some(other) = origins.iter().find(|origin| *origin != "*")
        {
            let other = quoted(other);
            let why = format!(
                "`Server::origins` has `*`, which is every page of the web, so {other} beside it means nothing; leave out \
                 one of them"
            );
            return Err(Error::refused(Code::InvalidArgument, why));
        }
        Ok(allowed)
    }

    /// Whether the pages of this origin may call. A browser writes origins in small letters.
    pub(super) fn contains(&self, origin: &[u8]) -> bool {
        self.every
            || self.exact.iter().any(|exact| exact.as_bytes() == origin)
            || self.patterns.iter().any(|pattern| pattern.is_of(origin))
    }
}

impl OriginPattern {
    fn is_of(&self, origin: &[u8]) -> bool {
        let label =
            origin.strip_prefix(self.before.as_bytes()).and_then(|origin| origin.strip_suffix(self.after.as_bytes()));
        // Nothing that could end a label or a host.
        let is_label = |label: &[u8]| {
            !label.is_empty() && label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
        };
        label.is_some_and(is_label)
    }
}

/// The one form in which browsers send an origin: the port is left out if it is the one of the scheme, and an IPv6 address
/// is shortened.
fn as_browsers_write_it(origin: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(why.to_owned());
    let Some((scheme, host)) = origin.split_once("://").filter(|(_, host)| !host.is_empty()) else {
        return refuse("is not an origin; expected a scheme and a host, such as `https://app.example`");
    };
    if host.contains(|c: char| "/?#@\\".contains(c) || c.is_whitespace()) {
        return refuse("has more than an origin; write only the scheme, the host and the port");
    }
    let (host, port) = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => (&host[..colon], Some(&host[colon + 1..])),
        _ => (host, None),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => match address.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => return refuse("has brackets without an IPv6 address"),
        },
        None if !host.is_ascii() => {
            return refuse("has a host that is not ASCII; write it as browsers send it, beginning with `xn--`");
        }
        None if host.is_empty()
            || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte)) =>
        {
            return refuse(
                "has a host with characters that no host has; write one origin, such as `https://app.example`",
            );
        }
        None => host.to_owned(),
    };
    let port = match port.map(str::parse::<NonZeroU16>) {
        None => None,
        Some(Ok(port)) => Some(port.get()),
        Some(Err(_)) => return refuse("has a port that is not a number from 1 to 65535"),
    };
    let of_scheme = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Ok(match port.filter(|port| of_scheme != Some(*port)) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &[&str]) -> AllowedOrigins {
        AllowedOrigins::parse(&origins.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_star_is_one_label() {
        let allowed = allowed(&["https://*.example.com", "http://*.localhost:3000"]);
        for origin in [
            "https://app.example.com",
            "https://pr-17_b.example.com",
            "https://xn--bcher-kva.example.com",
            "http://app.localhost:3000",
        ] {
            assert!(allowed.contains(origin.as_bytes()), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://a.b.example.com",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.test",
            "https://evil.test/.example.com",
            "https://evil.test#.example.com",
            "https://evil.test?.example.com",
            "https://evil.test\\.example.com",
            "https://evil.test:80@.example.com",
            "https://evil.testexample.com",
            "https://app.example.com.",
            "https://\u{e4}.example.com",
            "https://app.example.comx",
            "xhttps://app.example.com",
            "http://app.localhost",
            "http://app.localhost:30000",
            "https://*.example.com",
            "null",
            "",
        ] {
            assert!(!allowed.contains(origin.as_bytes()), "{origin}");
        }
    }

    #[test]
    fn a_star_alone_is_every_origin() {
        for origin in ["https://evil.test", "null", "https://app.example.com:1"] {
            assert!(allowed(&["*"]).contains(origin.as_bytes()), "{origin}");
            assert!(!allowed(&[]).contains(origin.as_bytes()), "{origin}");
        }
        assert!(allowed(&["null"]).contains(b"null"));
    }

    #[test]
    fn an_origin_is_compared_as_browsers_write_it() {
        for (given, sent) in [
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("https://*.app.example:443", "https://pr-17.app.example"),
            ("https://[2001:db8:0::1]", "https://[2001:db8::1]"),
            ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ] {
            assert!(allowed(&[given]).contains(sent.as_bytes()), "{given}");
        }
        assert!(!allowed(&["https://app.example:443"]).contains(b"http://app.example"));
    }

    #[test]
    fn an_invalid_origin_is_rejected_with_a_suggestion() {
        let why = |origin: &str| AllowedOrigins::parse(&[origin.to_owned()]).unwrap_err().message().to_owned();
        for (origin, words) in [
            ("", "expected a scheme and a host"),
            ("app.example", "expected a scheme and a host"),
            ("*.example", "expected a scheme and a host"),
            ("https://", "expected a scheme and a host"),
            ("https://app.example/path", "more than an origin"),
            ("https://user@app.example", "more than an origin"),
            ("https://a.example b.example", "more than an origin"),
            ("https://*", "the first label"),
            ("https://*.", "the first label"),
            ("https://*:8080", "the first label"),
            ("https://*example.com", "the first label"),
            ("https://pr-*.example.com", "the first label"),
            ("https://app.*.com", "the first label"),
            ("https://*.*.com", "the first label"),
            ("https://**.example.com", "the first label"),
            ("*://app.example", "the first label"),
            ("https://b\u{fc}cher.example", "beginning with `xn--`"),
            ("https://a.example,https://b.example", "more than an origin"),
            ("https://a.example,b.example", "characters that no host has"),
            ("https://:8080", "characters that no host has"),
            ("https://app.example:", "a port that is not a number"),
            ("https://app.example:0", "a port that is not a number"),
            ("https://app.example:99999", "a port that is not a number"),
            ("https://[2001:db8]", "brackets without an IPv6 address"),
            ("https://[::1]x", "characters that no host has"),
        ] {
            assert!(why(origin).contains(words), "{origin}: {}", why(origin));
        }
    }
}
