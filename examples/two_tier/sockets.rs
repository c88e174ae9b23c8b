//! What has become of connections: the kernel's own table of TCP sockets.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How many of the connections that `peers` made to `server` are in TIME_WAIT, at whichever end, once the table has come
/// to rest. `None` on systems without `/proc/net/tcp`.
pub async fn in_time_wait(peers: &HashSet<SocketAddr>, server: SocketAddr) -> Option<usize> {
    let mut before = count(peers, server)?;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = count(peers, server)?;
        if now == before && now.closing == 0 {
            return Some(now.time_wait);
        }
        before = now;
    }
}

#[derive(Default, PartialEq)]
struct Count {
    open: usize,
    closing: usize,
    time_wait: usize,
}

fn count(peers: &HashSet<SocketAddr>, server: SocketAddr) -> Option<Count> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    if tables.iter().all(Result::is_err) {
        return None;
    }
    let mut count = Count::default();
    for line in tables.iter().flatten().flat_map(|table| table.lines().skip(1)) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (address(words.next()?)?, address(words.next()?)?, words.next()?);
        if (remote == server && peers.contains(&local)) || (local == server && peers.contains(&remote)) {
            match state {
                "01" => count.open += 1,
                "06" => count.time_wait += 1,
                _ => count.closing += 1,
            }
        }
    }
    Some(count)
}

/// `0100007F:1F90` is 127.0.0.1:8080: words of four bytes as they stand in memory, then the port as one writes it.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}
