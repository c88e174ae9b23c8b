//! Who a proxy's header says its client is: [`ProxyHeader`], [`TrustedProxies`]. Pure.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::header::{FORWARDED, HeaderMap, HeaderName};
use tracing::debug;

use crate::address::Address;
use crate::error::Error;
use crate::networks::NetworkList;
use crate::peer::Peer;
use crate::untrusted_text::quoted_bytes;

/// The header in which a proxy says who its client is. [`Server::trust_proxy`](crate::Server::trust_proxy) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyHeader {
    /// `X-Forwarded-For: 203.0.113.7, 10.0.0.2`.
    XForwardedFor,
    /// `Forwarded: for=203.0.113.7, for="[2001:db8::1]:443"` (RFC 7239).
    Forwarded,
}

impl ProxyHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => FORWARDED,
        }
    }
}

/// The proxies whose header decides who the client is.
#[derive(Clone, Debug)]
pub(super) struct TrustedProxies {
    networks: NetworkList,
    header: ProxyHeader,
}

impl TrustedProxies {
    pub(super) fn new<N: Into<String>>(
        networks: impl IntoIterator<Item = N>,
        header: ProxyHeader,
    ) -> Result<Self, Error> {
        Ok(Self { networks: NetworkList::parse("Server::trust_proxy", networks)?, header })
    }

    /// Whether the other end of a unix socket is trusted.
    pub(super) fn has_unix(&self) -> bool {
        self.networks.has_unix()
    }

    /// The peer of a request that a trusted proxy has passed on for somebody else. `None` if `sender` is not trusted, or
    /// does not say who the client is.
    pub(super) fn client(&self, sender: &Peer, headers: &HeaderMap) -> Option<Arc<Peer>> {
        if !self.networks.contains(&sender.address) {
            let header = self.header.name();
            if headers.contains_key(&header) {
                debug!(%sender, "ignored `{header}`, because its sender is in no network of `Server::trust_proxy`");
            }
            return None;
        }
        match self.address(headers) {
            Ok(address) => address.map(|address| Arc::new(Peer { address, ..sender.clone() })),
            Err(what) => {
                let header = self.header.name();
                debug!(%sender, "ignored `{header}`, because {} does not say who the client is", quoted_bytes(what));
                None
            }
        }
    }

    /// The first address from the right that is not trusted. Each proxy adds the address of its own client at the end, so
    /// everything to the left of that address is only what the client claims, and is not even read.
    fn address<'h>(&self, headers: &'h HeaderMap) -> Result<Option<Address>, &'h [u8]> {
        let mut client = None;
        for line in headers.get_all(self.header.name()).iter().rev() {
            let mut rest = Some(line.as_bytes());
            while let Some(list) = rest {
                let element;
                (rest, element) = match self.header {
                    ProxyHeader::XForwardedFor => split_last(list, |_| false),
                    ProxyHeader::Forwarded => split_last_unquoted(list),
                };
                let element = element.trim_ascii();
                if element.is_empty() {
                    continue;
                }
                let node = match self.header {
                    ProxyHeader::XForwardedFor => Cow::Borrowed(element),
                    ProxyHeader::Forwarded => node_of(element).ok_or(element)?,
                };
                let address = address_of(&node).ok_or(element)?;
                let is_trusted = self.networks.contains(&address);
                client = Some(address);
                if !is_trusted {
                    return Ok(client);
                }
            }
        }
        Ok(client)
    }
}

/// A list without its last element, and that element. `is_inside` says of each byte, from the right, whether it can't
/// separate elements.
fn split_last(list: &[u8], mut is_inside: impl FnMut(usize) -> bool) -> (Option<&[u8]>, &[u8]) {
    let comma = (0..list.len()).rev().find(|&at| !is_inside(at) && list[at] == b',');
    match comma {
        Some(comma) => (Some(&list[..comma]), &list[comma + 1..]),
        None => (None, list),
    }
}

/// As [`split_last`], for a list whose elements may have commas in quotes. Reading from the right, a quote that the client
/// has left open can't hide what a proxy has added after it.
fn split_last_unquoted(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut is_quoted = false;
    split_last(list, |at| {
        let is_escaped = || list[..at].iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1;
        if list[at] == b'"' && !(is_quoted && is_escaped()) {
            is_quoted = !is_quoted;
        }
        is_quoted
    })
}

/// The value of `for` in an element of `Forwarded`. `None` if the element is malformed, or has none.
fn node_of(element: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut node = None;
    let mut rest = element;
    loop {
        let equals = rest.iter().position(|&byte| byte == b'=')?;
        let name = rest[..equals].trim_ascii();
        if HeaderName::from_bytes(name).is_err() {
            return None;
        }
        let (value, after) = value_of(&rest[equals + 1..])?;
        if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
            return None;
        }
        rest = match after.trim_ascii_start() {
            [] => return node,
            [b';', rest @ ..] => rest,
            _ => return None,
        };
        if rest.trim_ascii().is_empty() {
            return node;
        }
    }
}

/// The value at the beginning of `text`, with or without quotes, and what comes after it.
fn value_of(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let [b'"', quoted @ ..] = text else {
        let end = text.iter().position(|&byte| byte == b';').unwrap_or(text.len());
        let value = text[..end].trim_ascii();
        return (!value.is_empty() && !value.contains(&b'"')).then_some((Cow::Borrowed(value), &text[end..]));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => return Some((Cow::Owned(value), &quoted[at + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            byte => value.push(byte),
        }
    }
    None
}

/// The address that a proxy has written, with or without a port. `None` for `unknown`, for a name that the proxy has made
/// up (`_hidden`), and for everything else.
fn address_of(node: &[u8]) -> Option<Address> {
    let text = std::str::from_utf8(node).ok()?;
    // An address of IPv6 may be without brackets only if it has no port.
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(Address::Ip(ip.to_canonical()));
    }
    let (ip, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (ip, port) = bracketed.split_once(']')?;
            (ip.parse::<Ipv6Addr>().ok()?.to_canonical(), port.strip_prefix(':').or(port.is_empty().then_some(""))?)
        }
        None => {
            let (ip, port) = text.split_once(':')?;
            (ip.parse::<Ipv4Addr>().ok()?.into(), Some(port).filter(|port| !port.is_empty())?)
        }
    };
    let is_hidden = |port: &str| port.strip_prefix('_').is_some_and(|name| !name.is_empty());
    match port {
        "" => Some(Address::Ip(ip)),
        port if is_hidden(port) => Some(Address::Ip(ip)),
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(SocketAddr::new(ip, port.parse().ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn proxies(header: ProxyHeader) -> TrustedProxies {
        TrustedProxies::new(["10.0.0.0/8", "fd00::/8", "unix"], header).unwrap()
    }

    fn lines(header: ProxyHeader, lines: &[&[u8]]) -> HeaderMap {
        lines.iter().map(|line| (header.name(), HeaderValue::from_bytes(line).unwrap())).collect()
    }

    /// Who the client is, if the proxy 10.0.0.1 sends these lines.
    fn client(header: ProxyHeader, texts: &[&str]) -> String {
        let texts: Vec<_> = texts.iter().map(|text| text.as_bytes()).collect();
        let sender = Peer::from(SocketAddr::from(([10, 0, 0, 1], 4711)));
        let client = proxies(header).client(&sender, &lines(header, &texts));
        client.map_or_else(
            || "the connection".into(),
            |peer| {
                assert_eq!(peer.connection.to_string(), "10.0.0.1:4711");
                peer.to_string()
            },
        )
    }

    #[test]
    fn the_client_is_the_first_from_the_right_that_is_not_trusted() {
        for (lines, expected) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["203.0.113.7:4444"], "203.0.113.7:4444"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["[2001:db8::1]:80"], "[2001:db8::1]:80"),
            (&["::ffff:203.0.113.7"], "203.0.113.7"),
            (&["1.1.1.1, 203.0.113.7, 10.0.0.2,10.0.0.3"], "203.0.113.7"),
            (&["1.1.1.1", "203.0.113.7", "10.0.0.2, fd00::2"], "203.0.113.7"),
            (&["garbage, 203.0.113.7"], "203.0.113.7"),
            (&["203.0.113.7, , "], "203.0.113.7"),
            // All are trusted: the call began with the leftmost.
            (&["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
            (&["", " , "], "the connection"),
            (&[], "the connection"),
        ] {
            assert_eq!(client(ProxyHeader::XForwardedFor, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_has_its_own_grammar() {
        for (lines, expected) in [
            (&["for=203.0.113.7"][..], "203.0.113.7"),
            (&["For=\"203.0.113.7:4444\""], "203.0.113.7:4444"),
            (&["for=203.0.113.7:4444"], "203.0.113.7:4444"),
            (&["for=\"[2001:db8::1]\""], "2001:db8::1"),
            (&["for=\"[2001:db8::1]:80\""], "[2001:db8::1]:80"),
            (&["for=\"[2001:db8::1]:_http\""], "2001:db8::1"),
            (&["for=\"203.0.113.\\7\""], "203.0.113.7"),
            (&["by=10.0.0.1; for=203.0.113.7 ;proto=https;host=\"a,b\\\";for=1.1.1.1\""], "203.0.113.7"),
            (&["for=1.1.1.1, for=203.0.113.7;by=\"x\", for=10.0.0.2"], "203.0.113.7"),
            (&["for=1.1.1.1", "for=203.0.113.7", "for=10.0.0.2, for=\"[fd00::2]:1\""], "203.0.113.7"),
            // A quote that the client has left open hides nothing.
            (&["for=\"1.1.1.1, for=203.0.113.7"], "203.0.113.7"),
            (&["for=\"1.1.1.1\\, for=203.0.113.7"], "203.0.113.7"),
            (&["for=\"1.1.1.1", "for=203.0.113.7"], "203.0.113.7"),
            (&["for=\"10.0.0.2, for=1.1.1.1\", for=203.0.113.7"], "203.0.113.7"),
            (&["for=203.0.113.7;"], "203.0.113.7"),
        ] {
            assert_eq!(client(ProxyHeader::Forwarded, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn without_a_valid_address_the_client_is_the_connection() {
        for text in [
            "unknown",
            "_hidden",
            "203.0.113",
            "203.0.113.7:",
            "203.0.113.7:65536",
            "203.0.113.7:+1",
            "203.0.113.7:80:80",
            "[203.0.113.7]:80",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]80",
            "fe80::1%eth0",
            "\"203.0.113.7\"",
            "203.0.113.7 203.0.113.8",
            "unix:/run/a",
            "1.1.1.1, unknown, 10.0.0.2",
        ] {
            assert_eq!(client(ProxyHeader::XForwardedFor, &[text]), "the connection", "{text}");
        }
        for text in [
            "for=unknown",
            "for=_hidden",
            "for=\"_hidden:80\"",
            "proto=https",
            "for",
            "for=",
            "203.0.113.7",
            "for=203.0.113.7;for=203.0.113.8",
            "for=203.0.113.7;proto",
            "for=\"203.0.113.7",
            "for=203.0.113.7\"",
            "for=\"203.0.113.7\"x",
            "for=\"203.0.113.7\\",
            "for=203.0.113.7;;proto=https",
            "for=1.1.1.1, for=unknown, for=10.0.0.2",
        ] {
            assert_eq!(client(ProxyHeader::Forwarded, &[text]), "the connection", "{text}");
        }
        let bytes = lines(ProxyHeader::XForwardedFor, &[b"203.0.113.7\xff"]);
        assert_eq!(proxies(ProxyHeader::XForwardedFor).address(&bytes), Err(&b"203.0.113.7\xff"[..]));
    }

    #[test]
    fn untrusted_senders_and_the_other_header_are_ignored() {
        let sent = lines(ProxyHeader::XForwardedFor, &[b"203.0.113.7"]);
        let from = |address: Address, header| proxies(header).client(&Peer::from(address), &sent);
        let trusted = Address::from(SocketAddr::from(([10, 0, 0, 1], 1)));
        assert!(from(trusted.clone(), ProxyHeader::XForwardedFor).is_some());
        assert!(from(Address::Unix(None), ProxyHeader::XForwardedFor).is_some());
        assert!(from(trusted.clone(), ProxyHeader::Forwarded).is_none());
        assert!(from(SocketAddr::from(([11, 0, 0, 1], 1)).into(), ProxyHeader::XForwardedFor).is_none());
        // The PROXY protocol has said that the trusted address connects for somebody else, who writes the header.
        let spoken_for = Peer { address: SocketAddr::from(([203, 0, 113, 9], 1)).into(), ..Peer::from(trusted) };
        assert!(proxies(ProxyHeader::XForwardedFor).client(&spoken_for, &sent).is_none());
    }

    proptest! {
        /// Whatever a client writes, the element that a trusted proxy has added after it decides.
        #[test]
        fn text_before_the_proxys_element_is_ignored(claimed in proptest::collection::vec("[ -~]{0,40}", 0..4), own_line: bool) {
            for (header, added) in [(ProxyHeader::XForwardedFor, "203.0.113.7"), (ProxyHeader::Forwarded, "for=203.0.113.7")] {
                let mut sent = claimed.clone();
                match sent.last_mut() {
                    Some(last) if !own_line => *last = format!("{last}, {added}"),
                    _ => sent.push(added.to_owned()),
                }
                let sent: Vec<_> = sent.iter().map(String::as_str).collect();
                prop_assert_eq!(client(header, &sent), "203.0.113.7");
            }
        }

        #[test]
        fn an_address_is_read_as_it_is_written(address: SocketAddr) {
            let ip = address.ip().to_canonical();
            let address = SocketAddr::new(ip, address.port());
            prop_assert_eq!(address_of(address.to_string().as_bytes()), Some(address.into()));
            prop_assert_eq!(address_of(ip.to_string().as_bytes()), Some(Address::Ip(ip)));
        }
    }
}
