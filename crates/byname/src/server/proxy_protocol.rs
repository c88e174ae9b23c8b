//! The PROXY protocol, versions 1 and 2: the header in which a proxy says, at the beginning of a connection, who its client
//! is.

#[cfg(any(fuzzing, test))]
pub(super) mod fuzzing;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::address::Address;

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The first bytes of version 1.
const PROXY: &[u8; 6] = b"PROXY ";

/// The longest header of version 1.
const LONGEST_LINE: usize = 107;

/// The shortest header of version 1, `PROXY UNKNOWN`. One of version 2 is not shorter.
const SHORTEST: usize = 15;

/// The part of a header of version 2 that always has the same length.
const FIXED: usize = 16;

/// Reads a header and not one byte more. Returns the proxy's client, or `None` if the proxy speaks for itself or doesn't
/// know its client.
pub(super) async fn read_client<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<Address>> {
    let mut header = Vec::with_capacity(LONGEST_LINE);
    loop {
        match parse(&header).map_err(io::Error::other)? {
            ParsedHeader::Whole { client } => return Ok(client),
            ParsedHeader::Incomplete { missing } => {
                if stream.take(missing as u64).read_buf(&mut header).await? == 0 {
                    return Err(io::Error::other("it ended within the header of the PROXY protocol"));
                }
            }
        }
    }
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
enum ParsedHeader {
    /// The header has at least this many more bytes.
    Incomplete {
        missing: usize,
    },
    Whole {
        client: Option<Address>,
    },
}

/// Reads as much of a header as there is. `bytes` has nothing of what comes after the header.
fn parse(bytes: &[u8]) -> Result<ParsedHeader, &'static str> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    match bytes {
        _ if begins(SIGNATURE) && bytes.len() >= FIXED => binary(bytes),
        _ if begins(PROXY) && bytes.len() >= PROXY.len() => line(bytes),
        _ if begins(SIGNATURE) => Ok(ParsedHeader::Incomplete { missing: SHORTEST.max(bytes.len() + 1) - bytes.len() }),
        _ if begins(PROXY) => Ok(ParsedHeader::Incomplete { missing: SHORTEST - bytes.len() }),
        _ => Err("it does not begin with a header of the PROXY protocol, which `Listen::proxy_protocol` requires"),
    }
}

/// Version 1: `PROXY TCP4 203.0.113.7 10.0.0.1 4711 443`.
fn line(bytes: &[u8]) -> Result<ParsedHeader, &'static str> {
    const MALFORMED: &str = "its header of the PROXY protocol, version 1, is malformed";
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        // Each of the fields takes a space and a character, and the end of the line takes two bytes.
        let fields: usize = if bytes.starts_with(b"PROXY TCP") { 5 } else { 1 };
        let spaces = bytes.iter().filter(|&&byte| byte == b' ').count();
        let more = if bytes.ends_with(b"\r") { 1 } else { 2 };
        let missing = 2 * fields.saturating_sub(spaces) + more;
        if bytes.len() + missing > LONGEST_LINE {
            return Err(MALFORMED);
        }
        return Ok(ParsedHeader::Incomplete { missing });
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| MALFORMED)?;
    let mut fields = text.split(' ').skip(1);
    let mut field = || fields.next().ok_or(MALFORMED);
    let is_ipv4 = match field()? {
        "UNKNOWN" => return Ok(ParsedHeader::Whole { client: None }),
        "TCP4" => true,
        "TCP6" => false,
        _ => return Err(MALFORMED),
    };
    let ip = |text: &str| text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == is_ipv4).ok_or(MALFORMED);
    let (source, _) = (ip(field()?)?, ip(field()?)?);
    let port = |text: &str| {
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u16>().ok()).ok_or(MALFORMED)
    };
    let (port, _) = (port(field()?)?, port(field()?)?);
    match fields.next() {
        None => Ok(ParsedHeader::Whole { client: Some(at(source, port)) }),
        Some(_) => Err(MALFORMED),
    }
}

/// Version 2. What comes after the addresses is ignored.
fn binary(bytes: &[u8]) -> Result<ParsedHeader, &'static str> {
    let (version, family) = (bytes[12], bytes[13]);
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let addresses = &bytes[FIXED..];
    let is_of_proxy = match version {
        0x20 => false,
        0x21 => true,
        _ => return Err("its header of the PROXY protocol has an unknown version or command"),
    };
    let needed = match family {
        _ if !is_of_proxy => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err("its header of the PROXY protocol is not for a stream over TCP or a unix socket"),
    };
    if length < needed {
        return Err("its header of the PROXY protocol is too short for its addresses");
    }
    if addresses.len() < length {
        return Ok(ParsedHeader::Incomplete { missing: length - addresses.len() });
    }
    let port = |from: usize| u16::from_be_bytes([addresses[from], addresses[from + 1]]);
    let client = match needed {
        12 => Some(at(first::<4>(addresses).into(), port(8))),
        36 => Some(at(first::<16>(addresses).into(), port(32))),
        216 => Some(unix(&addresses[..108])),
        _ => None,
    };
    Ok(ParsedHeader::Whole { client })
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("the length was compared")
}

fn at(ip: IpAddr, port: u16) -> Address {
    SocketAddr::new(ip.to_canonical(), port).into()
}

/// The path is filled up with zeros. A socket without a name, or with a name that is not text, has no path.
fn unix(path: &[u8]) -> Address {
    let length = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
    let path = std::str::from_utf8(&path[..length]).ok().filter(|path| !path.is_empty());
    Address::Unix(path.map(|path| Path::new(path).into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fuzzing::{binary as written_binary, line as written_line, of_unix_socket, read, with_length};
    use super::*;

    /// The client that a header introduces, or the word `none`.
    fn client(header: &[u8]) -> Result<String, &'static str> {
        let (client, length) = read(header, usize::MAX)?;
        assert_eq!(length, header.len(), "nothing comes after it");
        Ok(client.map_or_else(|| "none".into(), |client| client.to_string()))
    }

    fn with_command(mut header: Vec<u8>, command: u8) -> Vec<u8> {
        header[12] = command;
        header
    }

    #[test]
    fn a_line_introduces_the_client() {
        for (line, expected) in [
            ("PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n", "203.0.113.7:4711"),
            ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "1.1.1.1:1"),
            ("PROXY TCP6 2001:db8::1 fd00::1 65535 0\r\n", "[2001:db8::1]:65535"),
            ("PROXY TCP6 ::ffff:203.0.113.7 :: 1 1\r\n", "203.0.113.7:1"),
            ("PROXY UNKNOWN\r\n", "none"),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "none"),
        ] {
            assert_eq!(client(line.as_bytes()).as_deref(), Ok(expected), "{line:?}");
        }
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 16));
        assert_eq!((longest.len(), client(longest.as_bytes())), (LONGEST_LINE, Ok("none".into())));
        assert!(client(longest.replace("xx", "xxx").as_bytes()).is_err());
    }

    #[test]
    fn malformed_lines_are_rejected() {
        for line in [
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443 1\r\n",
            "PROXY TCP4  203.0.113.7 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443 \r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 +1 443\r\n",
            "PROXY TCP4 2001:db8::1 fd00::1 4711 443\r\n",
            "PROXY TCP6 203.0.113.7 10.0.0.1 4711 443\r\n",
            "PROXY UDP4 203.0.113.7 10.0.0.1 4711 443\r\n",
            "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\n",
            "PROXY TCP4\r\nGET / HTTP/1.1\r\n",
            "PROXY unknown\r\n",
            "proxy UNKNOWN\r\n",
            "PROXY\tUNKNOWN\r\n",
            "POST /rpc/add HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            assert!(client(line.as_bytes()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_binary_header_introduces_the_client_and_may_say_more() {
        let ipv4 = SocketAddr::from(([203, 0, 113, 7], 4711));
        let ipv6 = "[2001:db8::1]:4711".parse().unwrap();
        assert_eq!(client(&written_binary(ipv4, b"")).as_deref(), Ok("203.0.113.7:4711"));
        assert_eq!(client(&written_binary(ipv4, &[0x04, 0, 1, 0])).as_deref(), Ok("203.0.113.7:4711"));
        assert_eq!(client(&written_binary(ipv6, &[7; 60_000])).as_deref(), Ok("[2001:db8::1]:4711"));
        assert_eq!(client(&of_unix_socket("/run/a.sock")).as_deref(), Ok("unix:/run/a.sock"));
        assert_eq!(client(&of_unix_socket("")).as_deref(), Ok("unix:"));
        assert_eq!(client(&of_unix_socket("\0abstract")).as_deref(), Ok("unix:"));
        let full = format!("/{}", "a".repeat(107));
        assert_eq!(client(&of_unix_socket(&full)), Ok(format!("unix:{full}")));
        // The proxy speaks for itself, whatever else it says.
        assert_eq!(client(&with_command(written_binary(ipv4, b""), 0x20)).as_deref(), Ok("none"));
        assert_eq!(client(&with_command(with_length(0, b""), 0x20)).as_deref(), Ok("none"));
        assert_eq!(client(&with_command(with_length(0xff, b"?"), 0x20)).as_deref(), Ok("none"));
        assert_eq!(client(&with_length(0, b"")).as_deref(), Ok("none"));
    }

    #[test]
    fn malformed_binary_headers_are_rejected() {
        let ipv4 = SocketAddr::from(([203, 0, 113, 7], 4711));
        for header in [
            with_command(written_binary(ipv4, b""), 0x22),
            with_command(written_binary(ipv4, b""), 0x11),
            with_command(written_binary(ipv4, b""), 0x31),
            // Datagrams, and undefined address families.
            with_length(0x12, &[0; 12]),
            with_length(0x10, &[0; 12]),
            with_length(0x41, &[0; 12]),
            with_length(0x11, &[0; 11]),
            with_length(0x21, &[0; 35]),
            with_length(0x31, &[0; 215]),
            with_length(0x11, b""),
        ] {
            assert!(client(&header).is_err_and(|why| why != "the end"), "{header:?}");
        }
        let cut = written_binary(ipv4, b"");
        assert_eq!(client(&cut[..cut.len() - 1]), Err("the end"));
    }

    #[tokio::test]
    async fn bytes_after_the_header_stay_unread() {
        let ipv4 = SocketAddr::from(([203, 0, 113, 7], 4711));
        for header in [written_binary(ipv4, b"\x01\0\x01x"), written_line(ipv4).into_bytes()] {
            let sent = [&header[..], b"\x16\x03\x01"].concat();
            let mut stream = &sent[..];
            assert_eq!(read_client(&mut stream).await.unwrap(), Some(ipv4.into()));
            assert_eq!(stream, b"\x16\x03\x01");
            let mut cut = &header[..header.len() - 1];
            let ended = read_client(&mut cut).await.unwrap_err().to_string();
            assert_eq!(ended, "it ended within the header of the PROXY protocol");
        }
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_it_is_written(client: SocketAddr, more: Vec<u8>) {
            let client = SocketAddr::new(client.ip().to_canonical(), client.port());
            for header in [written_line(client).into_bytes(), written_binary(client, &more)] {
                super::fuzzing::proxy_protocol(&header);
                prop_assert_eq!(read(&header, usize::MAX), Ok((Some(client.into()), header.len())));
            }
        }

        #[test]
        fn a_changed_header_is_read_or_refused(client: SocketAddr, at: usize, byte: u8) {
            for mut header in [written_line(client).into_bytes(), written_binary(client, &[1, 0, 1, 2])] {
                let at = at % header.len();
                header[at] = byte;
                super::fuzzing::proxy_protocol(&header);
            }
        }
    }
}
