//! The header of the PROXY protocol, for [`crate::fuzzing`], and headers as proxies write them.

use std::net::{IpAddr, SocketAddr};

use super::{FIXED, ParsedHeader, SIGNATURE, parse};
use crate::address::Address;

/// The beginning of a connection from a proxy. What is read is written again as the same client, and no byte after the
/// header is touched.
pub fn proxy_protocol(data: &[u8]) {
    let Ok((client, length)) = read(data, usize::MAX) else {
        assert!(read(data, 1).is_err());
        return;
    };
    assert_eq!(read(data, 1), Ok((client.clone(), length)), "it is the same in pieces");
    assert_eq!(read(&data[..length], usize::MAX), Ok((client.clone(), length)), "what comes after it is not looked at");
    for end in 0..length {
        assert!(matches!(parse(&data[..end]), Ok(ParsedHeader::Incomplete { missing }) if missing <= length - end));
    }
    match &client {
        None => {}
        Some(Address::Tcp(address)) => {
            assert_eq!(read(&binary(*address, b""), usize::MAX).map(|read| read.0), Ok(client.clone()));
            assert_eq!(read(line(*address).as_bytes(), usize::MAX).map(|read| read.0), Ok(client));
        }
        Some(Address::Unix(path)) => {
            let path = path.as_deref().and_then(|path| path.to_str()).unwrap_or_default();
            assert_eq!(read(&of_unix_socket(path), usize::MAX).map(|read| read.0), Ok(client));
        }
        Some(Address::Ip(_)) => panic!("the protocol always says the port"),
    }
}

/// Reads a header from bytes that come at most `piece` at once. Returns the client and the length of the header.
pub(super) fn read(data: &[u8], piece: usize) -> Result<(Option<Address>, usize), &'static str> {
    let mut length = 0;
    loop {
        match parse(&data[..length])? {
            ParsedHeader::Whole { client } => return Ok((client, length)),
            ParsedHeader::Incomplete { missing } => {
                assert!(missing > 0);
                let more = missing.min(piece).min(data.len() - length);
                if more == 0 {
                    return Err("the end");
                }
                length += more;
            }
        }
    }
}

/// A header of version 1 that says that this address connects to another one.
pub(super) fn line(client: SocketAddr) -> String {
    let (family, server) = if client.is_ipv4() { (4, "10.0.0.1") } else { (6, "fd00::1") };
    format!("PROXY TCP{family} {} {server} {} 443\r\n", client.ip(), client.port())
}

/// A header of version 2 that says the same, with more behind the addresses.
pub(super) fn binary(client: SocketAddr, more: &[u8]) -> Vec<u8> {
    let (family, ip) = match client.ip() {
        IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
        IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
    };
    let server = vec![1; ip.len()];
    with_length(family, &[&ip[..], &server, &client.port().to_be_bytes(), &443u16.to_be_bytes(), more].concat())
}

/// A header of version 2 that says that a unix socket at this path connects.
pub(super) fn of_unix_socket(path: &str) -> Vec<u8> {
    let mut addresses = path.as_bytes().to_vec();
    addresses.resize(216, 0);
    with_length(0x31, &addresses)
}

/// A header of version 2 with the command PROXY.
pub(super) fn with_length(family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).expect("it fits");
    let header = [&SIGNATURE[..], &[0x21, family], &length.to_be_bytes(), addresses].concat();
    assert!(header.len() >= FIXED);
    header
}
