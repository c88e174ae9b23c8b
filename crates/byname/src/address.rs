//! Where one end of a connection is: [`Address`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path};
use std::sync::Arc;

/// Where one end of a connection is. It prints as a server's `serve` and a client's URL take it: `10.0.0.1:8080`,
/// `[::1]:8080`, `unix:/run/orders.sock`. The end of a connection that has no path prints as `unix:`.
///
/// ```
/// use std::net::SocketAddr;
/// use byname::Address;
///
/// let address = Address::from(SocketAddr::from(([10, 0, 0, 1], 8080)));
/// assert_eq!(address.to_string(), "10.0.0.1:8080");
/// assert_eq!(address.port(), Some(8080));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port of TCP.
    Tcp(SocketAddr),
    /// An IP address alone: a proxy has said who its client is, without the port.
    Ip(IpAddr),
    /// The path of a unix socket. A client's end of the connection usually has no path.
    Unix(Option<Arc<Path>>),
}

impl Address {
    /// The IP address and the port, if both are known.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Ip(_) | Self::Unix(_) => None,
        }
    }

    /// The IP address, if this is not a unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The port, if it is known.
    pub fn port(&self) -> Option<u16> {
        self.socket_addr().map(|address| address.port())
    }

    /// The path, if this is a unix socket that has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => path.as_deref(),
            Self::Tcp(_) | Self::Ip(_) => None,
        }
    }

    pub(crate) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Whether both are addresses of one family: IPv4, IPv6 or unix.
    pub(crate) fn is_of_the_family_of(&self, other: &Self) -> bool {
        self.ip().map(|ip| ip.is_ipv4()) == other.ip().map(|ip| ip.is_ipv4())
    }

    /// Whether only processes of this machine can be at the other end.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Ip(address) => address.is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Ip(address) => address.fmt(f),
            // A path that begins with a name is written so that it can be read again.
            Self::Unix(Some(path)) => {
                let here = if matches!(path.components().next(), Some(Component::Normal(_))) { "./" } else { "" };
                write!(f, "unix:{here}{}", with_one_slash(&path.to_string_lossy()))
            }
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// The longest path of a unix socket, in bytes.
pub(crate) const LONGEST_PATH: usize =
    if cfg!(any(target_os = "linux", target_os = "android", target_os = "windows")) { 107 } else { 103 };

/// The path of a unix socket, from `unix:/path`, `unix:///path` or `unix:./path`, or what is wrong with it. `None` if the
/// text is another kind of address, such as a port of the host that is called `unix`.
pub(crate) fn unix_path(text: &str) -> Option<Result<Arc<Path>, String>> {
    const SCHEME: &str = "unix:";
    let scheme = text.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME))?;
    let rest = &text[scheme.len()..];
    let port = &rest[..rest.find('/').unwrap_or(rest.len())];
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(checked_path(rest))
}

/// Whether a text that should be an address is the path of a file.
pub(crate) fn is_path(text: &str) -> bool {
    ["/", "./", "../"].iter().any(|begin| text.starts_with(begin))
}

fn checked_path(written: &str) -> Result<Arc<Path>, String> {
    let path = match written.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err("`unix://` has a host; a unix socket has none".into()),
        None => written,
    };
    let path = with_one_slash(path);
    if path.starts_with('@') {
        return Err("sockets without a file are not supported: nothing says who may connect to them".into());
    }
    if !["/", "./", "../"].iter().any(|root| path.starts_with(root)) {
        return Err("its path begins neither with `/` nor with `./`".into());
    }
    if path.ends_with('/') {
        return Err("its path is a directory".into());
    }
    if path.contains('\0') {
        return Err("its path has a zero byte".into());
    }
    if path.len() > LONGEST_PATH {
        let length = path.len();
        return Err(format!(
            "its path has {length} bytes, and this system allows {LONGEST_PATH}; choose a shorter one"
        ));
    }
    Ok(Path::new(path).into())
}

/// A path without further slashes at its beginning. After `unix:` two of them would be read as a host.
fn with_one_slash(path: &str) -> &str {
    &path[path.bytes().take_while(|&byte| byte == b'/').count().saturating_sub(1)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_is_written_as_its_path() {
        let path = |text: &str| unix_path(text).map(|path| path.map(|path| Address::Unix(Some(path)).to_string()));
        for (written, printed) in [
            ("unix:/run/orders.sock", "unix:/run/orders.sock"),
            ("UNIX:///run/orders.sock", "unix:/run/orders.sock"),
            ("unix:////run/orders.sock", "unix:/run/orders.sock"),
            ("unix:./orders.sock", "unix:./orders.sock"),
            ("unix:../a b?#%41.sock", "unix:../a b?#%41.sock"),
        ] {
            assert_eq!(path(written), Some(Ok(printed.into())), "{written}");
            assert_eq!(path(printed), Some(Ok(printed.into())), "what is printed can be read again");
        }
        // `Listen::unix` takes any path.
        for (path, printed) in [("orders.sock", "unix:./orders.sock"), ("//run/orders.sock", "unix:/run/orders.sock")] {
            assert_eq!(Address::Unix(Some(Path::new(path).into())).to_string(), printed);
        }
        assert_eq!(Address::Unix(None).to_string(), "unix:");
        for tcp in ["unix", "unix:8080", "unix:8080/rpc", "unix.example:80", "unixé", "localhost:80", ""] {
            assert_eq!(path(tcp), None, "{tcp}");
        }
    }

    #[test]
    fn what_is_no_path_of_a_socket_says_why() {
        let why = |text: &str| unix_path(text).expect("it is one of a unix socket").expect_err(text);
        for (written, words) in [
            ("unix:", "begins neither with `/` nor with `./`"),
            ("unix:orders.sock", "begins neither with `/` nor with `./`"),
            ("unix://orders/rpc", "has a host"),
            ("unix:@orders", "sockets without a file"),
            ("unix:/run/", "is a directory"),
            ("unix:/a\0b", "zero byte"),
        ] {
            assert!(why(written).contains(words), "{written:?}: {}", why(written));
        }
        let longest = format!("unix:/{}", "a".repeat(LONGEST_PATH - 1));
        assert!(unix_path(&longest).unwrap().is_ok());
        assert!(why(&format!("{longest}a")).contains("choose a shorter one"));
    }
}
