//! Networks as users write them: [`NetworkList`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::Address;
use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

/// Addresses that are trusted to say who somebody else is.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkList {
    networks: Vec<Network>,
    /// Whether the other end of a unix socket is among them.
    unix: bool,
}

impl NetworkList {
    /// From what a user has given to `method`.
    pub(crate) fn parse<N: Into<String>>(method: &str, networks: impl IntoIterator<Item = N>) -> Result<Self, Error> {
        let mut list = Self::default();
        for text in networks {
            let text = text.into();
            if text == "unix" {
                list.unix = true;
                continue;
            }
            list.networks.push(Network::parse(&text).map_err(|why| {
                Error::refused(Code::InvalidArgument, format!("`{method}`: {} {why}", quoted(&text)))
            })?);
        }
        Ok(list)
    }

    /// Whether the other end of a unix socket is among them.
    pub(crate) fn has_unix(&self) -> bool {
        self.unix
    }

    pub(crate) fn contains(&self, address: &Address) -> bool {
        match address.ip() {
            Some(ip) => self.networks.iter().any(|network| network.contains(ip)),
            None => self.unix,
        }
    }
}

/// A network of one family. All bits beyond the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str =
            "is not a network; expected one such as `10.0.0.0/8` or `fd00::/8`, an address, or `unix`";
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written = address.parse::<IpAddr>().map_err(|_| EXPECTED)?;
        let width = width(written);
        let prefix = match prefix {
            None => width,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|&prefix| prefix <= width).ok_or(EXPECTED)?
            }
            Some(_) => return Err(EXPECTED.to_owned()),
        };
        let network = Self { first: masked(written, prefix), prefix };
        if network.first != written {
            return Err(format!(
                "has bits beyond its prefix; write `{network}` for the network, or `{written}` for this address alone"
            ));
        }
        // Addresses are compared in their canonical form.
        let network = match written.to_canonical() {
            first if first.is_ipv4() && written.is_ipv6() && prefix >= 96 => Self { first, prefix: prefix - 96 },
            _ => network,
        };
        if network.prefix == 0 {
            return Err(
                "is every address, so each caller could say that it is somebody else; name the networks of the \
                        proxies"
                    .to_owned(),
            );
        }
        Ok(network)
    }

    fn contains(&self, address: IpAddr) -> bool {
        // A listener for both families says the addresses of IPv4 in the form of IPv6.
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix) == self.first
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address without the bits beyond `prefix`.
fn masked(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    fn list(networks: &[&str]) -> NetworkList {
        NetworkList::parse("f", networks.iter().copied()).unwrap()
    }

    fn at(ip: &str) -> Address {
        SocketAddr::new(ip.parse().unwrap(), 1).into()
    }

    #[test]
    fn an_address_is_in_a_network_of_its_family_with_its_prefix() {
        let trusted = list(&["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::ffff:198.51.100.0/120"]);
        for inside in ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "192.0.2.7", "fd12::1", "198.51.100.9"] {
            assert!(trusted.contains(&at(inside)), "{inside}");
        }
        for outside in ["11.0.0.0", "9.255.255.255", "192.0.2.8", "fe00::", "::10.0.0.1", "198.51.101.0", "::1"] {
            assert!(!trusted.contains(&at(outside)), "{outside}");
        }
        assert!(list(&["128.0.0.0/1"]).contains(&at("203.0.113.1")));
        assert!(!list(&["128.0.0.0/1"]).contains(&at("2001:db8::1")));
        assert!(list(&["::/1"]).contains(&at("2001:db8::1")));
        assert!(!list(&["::/1"]).contains(&at("203.0.113.1")));
    }

    #[test]
    fn a_unix_socket_is_trusted_by_its_name_alone() {
        assert!(list(&["unix"]).contains(&Address::Unix(None)));
        assert!(!list(&["unix"]).contains(&at("127.0.0.1")));
        assert!(!list(&["0.0.0.0/1", "::/1"]).contains(&Address::Unix(None)));
        assert!(!list(&[]).contains(&Address::Unix(None)));
    }

    #[test]
    fn an_invalid_network_is_rejected_with_a_suggestion() {
        let why = |text: &str| NetworkList::parse("Server::trust_proxy", [text]).unwrap_err().message().to_owned();
        for text in ["", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0/8", "fe80::1%1", "a.b", "*"] {
            let why = why(text);
            assert!(why.starts_with("`Server::trust_proxy`: ") && why.contains("is not a network"), "{text}: {why}");
        }
        for all in ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96"] {
            let why = why(all);
            assert!(why.contains("is every address") && why.ends_with("name the networks of the proxies"), "{why}");
        }
        let beyond = why("10.1.2.3/8");
        assert!(
            beyond.contains("write `10.0.0.0/8` for the network, or `10.1.2.3` for this address alone"),
            "{beyond}"
        );
    }

    /// All bits of an address, from the left.
    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    fn with_bit_changed(address: IpAddr, bit: u32) -> IpAddr {
        match address {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() ^ (1 << (31 - bit))).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() ^ (1 << (127 - bit))).into(),
        }
    }

    proptest! {
        #[test]
        fn a_network_contains_what_shares_its_prefix(first: IpAddr, other: IpAddr, prefix in 1u32..=128, bit in 0u32..128) {
            let (first, other) = (first.to_canonical(), other.to_canonical());
            let prefix = prefix.min(width(first));
            let network = Network { first: masked(first, prefix), prefix };
            prop_assert_eq!(Network::parse(&network.to_string()).unwrap(), network);
            let shared = (bits(other) ^ bits(network.first)).leading_zeros();
            prop_assert_eq!(network.contains(other), other.is_ipv4() == first.is_ipv4() && shared >= prefix);
            let bit = bit % width(first);
            prop_assert_eq!(network.contains(with_bit_changed(first, bit)), bit >= prefix);
        }
    }
}
