//! What the server reads of proxies, for [`crate::fuzzing`].

use http::{HeaderMap, HeaderValue};

use super::forwarded::{ProxyHeader, TrustedProxies};
pub use super::proxy_protocol::fuzzing::proxy_protocol;
use crate::address::Address;
use crate::peer::Peer;

/// The value of a header in which a proxy says who its client is. Whatever it is, what a trusted proxy adds decides.
pub fn forwarded(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let sender = Peer::from(Address::Unix(None));
    for (header, name, added) in [
        (ProxyHeader::XForwardedFor, "x-forwarded-for", &b"203.0.113.7"[..]),
        (ProxyHeader::Forwarded, "forwarded", b"for=203.0.113.7"),
    ] {
        let proxies = TrustedProxies::new(["unix", "10.0.0.0/8"], header).expect("these are networks");
        let client = |value: HeaderValue| {
            proxies.client(&sender, &HeaderMap::from_iter([(name.parse().expect("it is a name"), value)]))
        };
        if let Some(peer) = client(value.clone()) {
            assert_eq!(peer.connection, sender.connection);
            assert!(peer.address.ip().is_some());
        }
        let longer = HeaderValue::from_bytes(&[data, b", ", added].concat()).expect("both parts are values");
        assert_eq!(client(longer).expect("it is written well").to_string(), "203.0.113.7");
    }
}
