//! The URL of a client, split into its parts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::{Authority, Uri};

use crate::address::{Address, is_path, unix_path};
use crate::error::{Code, Error};
use crate::transport::TlsConnector;
use crate::untrusted_text::quoted;
use crate::wire::path_format;

/// `http://host:port/path`, `https://host:port/path`, or `unix:/path`.
#[derive(Clone, Debug)]
pub(super) struct ServiceUrl {
    /// The unix socket, where the URL names one and no host. The host is `localhost` then.
    pub(super) socket: Option<Address>,
    pub(super) is_https: bool,
    /// By what connections begin, if not by HTTP. It is set where the URL says `https://`.
    pub(super) tls: Option<TlsConnector>,
    pub(super) host: String,
    pub(super) port: u16,
    /// Without a slash at its end.
    pub(super) path: String,
    /// Whether the URL has a path.
    has_path: bool,
    /// The value of the `Host` header.
    pub(super) authority: HeaderValue,
    /// Used instead of the addresses of the host's name. If it is empty, the name is resolved.
    pub(super) addresses: Vec<Address>,
}

impl ServiceUrl {
    pub(super) fn url(&self) -> String {
        match &self.socket {
            Some(socket) => socket.to_string(),
            None => {
                let scheme = if self.is_https { "https" } else { "http" };
                format!("{scheme}://{}{}", self.authority.to_str().unwrap_or_default(), self.path)
            }
        }
    }

    /// Which service it is, whatever the path.
    pub(super) fn site(&self) -> String {
        match &self.socket {
            Some(socket) => socket.to_string(),
            None => self.authority.to_str().unwrap_or_default().to_owned(),
        }
    }

    /// Takes another endpoint than `/rpc`. `url` is what this was made of.
    pub(super) fn set_endpoint(&mut self, url: &str, endpoint: &str) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::refused(Code::InvalidArgument, why));
        if self.has_path {
            let (url, path) = (quoted(&without_credentials(url)), quoted(&self.path));
            return refuse(format!("{url} has the endpoint {path} already; leave out `ClientBuilder::endpoint`"));
        }
        let path = format!("/{}", endpoint.trim_matches('/'));
        if let Err(why) = path_format::check(&path) {
            return refuse(format!("no server has the endpoint {}: {why}", quoted(endpoint)));
        }
        self.path = path.trim_end_matches('/').to_owned();
        Ok(())
    }

    fn of_socket(path: Arc<Path>) -> Self {
        let socket = Address::Unix(Some(path));
        Self {
            addresses: vec![socket.clone()],
            socket: Some(socket),
            is_https: false,
            tls: None,
            host: "localhost".into(),
            port: 80,
            path: "/rpc".into(),
            has_path: false,
            authority: HeaderValue::from_static("localhost"),
        }
    }

    /// Whether others can read what is sent: it is not encrypted, and it leaves this machine.
    pub(super) fn is_exposed(&self) -> bool {
        if self.is_https {
            return false;
        }
        if !self.addresses.is_empty() {
            return !self.addresses.iter().all(Address::is_of_this_machine);
        }
        match self.host.parse::<IpAddr>() {
            Ok(ip) => !ip.is_loopback(),
            Err(_) => !self.host.strip_suffix('.').unwrap_or(&self.host).eq_ignore_ascii_case("localhost"),
        }
    }

    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        if let Some(path) = unix_path(url) {
            return path.map(Self::of_socket).map_err(|why| {
                let why = format!(
                    "{} is not an address of a service: {why}; expected unix:/path, such as unix:/run/orders.sock",
                    quoted(url)
                );
                Error::refused(Code::InvalidArgument, why)
            });
        }
        let refuse = |why: &str| {
            let why = format!(
                "{} is not an address of a service: {why}; expected host:port/path, such as localhost:8080/rpc",
                quoted(&without_credentials(url))
            );
            Error::refused(Code::InvalidArgument, why)
        };
        let (is_https, rest) = match url.split_once("://") {
            None => (false, url),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, _)) if is_scheme(scheme) => {
                return Err(refuse(&format!("`{scheme}` is not a scheme that byname knows")));
            }
            Some(_) => return Err(refuse("the part before `://` is not a scheme")),
        };
        let (before, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if is_path(url) && !url.contains('@') {
            return Err(refuse(&format!("it has no host; for a unix socket write {}", quoted(&format!("unix:{url}")))));
        }
        if before.is_empty() {
            return Err(refuse("it has no host"));
        }
        let digits = before.strip_prefix(':').unwrap_or(before);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse(&format!("it has no host, only a port; for this machine write localhost:{digits}")));
        }
        if rest.contains(char::is_whitespace) {
            return Err(refuse("it has a space"));
        }
        if rest.contains(['?', '#']) {
            return Err(refuse("it has a query or a fragment"));
        }
        // The message about a path repeats it. A path with an `@` may contain a password.
        if let Err(why) = path_format::check(path) {
            return Err(refuse(if path.contains('@') { "its path must be percent-encoded" } else { &why }));
        }
        let uri: Uri = format!("http://{rest}").parse().map_err(|why| refuse(&format!("{why}")))?;
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        if authority.contains('@') {
            return Err(refuse(
                "it has a user name, which byname would not send; use `Client::header` for credentials",
            ));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refuse("it has no host"))?;
        // The parser accepts any text inside and after brackets.
        let bare = host.strip_prefix('[').map_or(Some(host), |rest| rest.strip_suffix(']'));
        let is_host = bare.is_some_and(|bare| bare == host || bare.parse::<Ipv6Addr>().is_ok());
        let behind = authority.strip_prefix(host).filter(|behind| behind.is_empty() || behind.starts_with(':'));
        let (Some(bare), true, Some(_)) = (bare, is_host, behind) else {
            return Err(refuse("its host is neither a name nor an address"));
        };
        let port = match uri.authority().and_then(Authority::port) {
            Some(port) => port.as_u16(),
            None if authority.len() > host.len() => return Err(refuse("its port is not a number up to 65535")),
            None if is_https => 443,
            None => 80,
        };
        if port == 0 {
            return Err(refuse("nothing listens at port 0"));
        }
        let has_path = !path.is_empty();
        let path = if has_path { path.trim_end_matches('/') } else { "/rpc" };
        Ok(Self {
            is_https,
            tls: None,
            socket: None,
            has_path,
            host: bare.to_owned(),
            port,
            path: path.to_owned(),
            authority: HeaderValue::try_from(authority).map_err(|why| refuse(&why.to_string()))?,
            addresses: Vec::new(),
        })
    }
}

/// One of several addresses of a service.
pub(super) fn replica(address: &str) -> Result<Address, Error> {
    if let Some(Ok(path)) = unix_path(address) {
        return Ok(Address::Unix(Some(path)));
    }
    match address.parse::<SocketAddr>() {
        Ok(parsed) if parsed.port() > 0 => Ok(parsed.into()),
        _ => {
            let address = quoted(address);
            let why = format!(
                "{address} is not an address of a replica; expected an IP address and a port, such as 10.0.0.1:8080, or \
                 a unix socket, such as unix:/run/orders.sock"
            );
            Err(Error::refused(Code::InvalidArgument, why))
        }
    }
}

/// The URL for a message and the log, without credentials. A password that is not escaped may contain a slash or text
/// that looks like a scheme. So if the host has no user name, everything up to the last `@` may be credentials.
fn without_credentials(url: &str) -> String {
    let (scheme, rest) = match url.find("://") {
        Some(at) if is_scheme(&url[..at]) => url.split_at(at + "://".len()),
        _ => ("", url),
    };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rfind('@').or_else(|| rest.rfind('@')) {
        Some(at) => format!("{scheme}…{}", &rest[at..]),
        None => url.to_owned(),
    }
}

fn is_scheme(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        let parts = |url: &str| {
            let target = ServiceUrl::parse(url).unwrap_or_else(|error| panic!("{error}"));
            let authority = target.authority.to_str().unwrap().to_owned();
            (target.host, target.port, target.path, authority)
        };
        let local = |port: u16, path: &str, authority: &str| ("localhost".into(), port, path.into(), authority.into());
        assert_eq!(parts("localhost:8080/rpc"), local(8080, "/rpc", "localhost:8080"));
        assert_eq!(parts("http://localhost:8080/rpc/"), local(8080, "/rpc", "localhost:8080"));
        assert_eq!(parts("HTTP://localhost"), local(80, "/rpc", "localhost"));
        assert_eq!(parts("https://localhost"), local(443, "/rpc", "localhost"));
        assert_eq!(parts("HTTPS://localhost:8443/a"), local(8443, "/a", "localhost:8443"));
        assert_eq!(ServiceUrl::parse("https://localhost:1").unwrap().url(), "https://localhost:1/rpc");
        assert_eq!(parts("localhost/a/b"), local(80, "/a/b", "localhost"));
        assert_eq!(parts("localhost:80/"), local(80, "", "localhost:80"));
        assert_eq!(parts("[::1]:7/x"), ("::1".into(), 7, "/x".into(), "[::1]:7".into()));
    }

    #[test]
    fn what_leaves_this_machine_is_exposed() {
        let exposed = |url: &str, addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| replica(address).unwrap()).collect();
            ServiceUrl { addresses, ..ServiceUrl::parse(url).unwrap() }.is_exposed()
        };
        for here in [
            "localhost",
            "unix:/run/orders.sock",
            "LOCALHOST:8080/rpc",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "localhost.:8080",
        ] {
            assert!(!exposed(here, &[]), "{here}");
        }
        for away in
            ["orders", "10.0.0.1", "[::]:80", "0.0.0.0", "localhost.example", "localhost..", "[::ffff:10.0.0.1]"]
        {
            assert!(exposed(away, &[]), "{away}");
        }
        // The addresses are used in place of those of the name.
        assert!(!exposed("orders", &["127.0.0.1:1", "[::1]:1"]));
        assert!(
            exposed("localhost", &["127.0.0.1:1", "10.0.0.1:1"]) && exposed("unix:/run/orders.sock", &["10.0.0.1:1"])
        );
    }

    #[test]
    fn a_replica_is_an_address_with_a_port() {
        assert_eq!(replica("10.0.0.1:8080").unwrap(), SocketAddr::from(([10, 0, 0, 1], 8080)).into());
        for bad in ["10.0.0.1", "8080", ":8080", "localhost:8080", "10.0.0.1:0", "10.0.0.1:65536", "::1:80", ""] {
            assert!(replica(bad).unwrap_err().message().contains("such as 10.0.0.1:8080"), "{bad}");
        }
    }

    #[test]
    fn a_unix_socket_has_a_host_for_the_header_and_prints_as_itself() {
        let target = ServiceUrl::parse("unix:///run/orders.sock").unwrap();
        assert_eq!((target.authority.as_bytes(), target.path.as_str()), (b"localhost".as_slice(), "/rpc"));
        assert_eq!((target.url(), target.site()), ("unix:/run/orders.sock".into(), "unix:/run/orders.sock".into()));
        assert_eq!(target.addresses, [replica("unix:/run/orders.sock").unwrap()]);
        // A host may be called `unix`.
        assert_eq!(ServiceUrl::parse("unix:8080/x").unwrap().url(), "http://unix:8080/x");
        for (bad, why) in [("unix:orders.sock", "begins neither"), ("unix://orders/rpc", "has a host")] {
            let message = ServiceUrl::parse(bad).expect_err(bad).message().to_owned();
            assert!(message.contains(why) && message.contains("such as unix:/run/orders.sock"), "{message}");
            assert!(replica(bad).unwrap_err().message().contains("such as unix:/run/orders.sock"), "{bad}");
        }
    }

    #[test]
    fn the_endpoint_is_given_once() {
        let set = |url: &str, endpoint: &str| {
            let mut target = ServiceUrl::parse(url).unwrap();
            target.set_endpoint(url, endpoint).map(|()| target.path).map_err(|error| error.message().to_owned())
        };
        for (endpoint, path) in [("/x", "/x"), ("x/y/", "/x/y"), ("/", ""), ("/rpc", "/rpc")] {
            assert_eq!(set("unix:/run/orders.sock", endpoint).as_deref(), Ok(path));
            assert_eq!(set("localhost:80", endpoint).as_deref(), Ok(path));
        }
        assert!(set("localhost:80/rpc", "/x").unwrap_err().contains("has the endpoint `/rpc` already"));
        assert!(set("unix:/run/orders.sock", "/ü").unwrap_err().contains("no server has the endpoint"));
    }

    #[test]
    fn the_error_about_an_invalid_address_says_why() {
        let why = |url: &str| ServiceUrl::parse(url).expect_err(url).message().to_owned();
        assert!(why("ftp://localhost").contains("`ftp`"));
        assert!(why("user:pass@localhost/rpc").contains("user name"));
        assert!(why("localhost/rpc?x=1").contains("query"));
        assert!(why("http://user:pass@localhost/rpc").contains("`http://…@localhost/rpc`"));
        for port in ["9101", ":9101", "9101/rpc", "http://9101"] {
            assert!(why(port).contains("it has no host, only a port; for this machine write localhost:9101"), "{port}");
        }
        assert!(why("localhost:http").contains("its port is not a number up to 65535"));
        assert!(why("local host:80").contains("it has a space") && why("localhost:80 ").contains("it has a space"));
        assert!(why("localhost/ü").contains("its path must be percent-encoded: `/%C3%BC`"));
        assert!(why("localhost/a/../b").contains("`..`"));
        for bad in [
            "",
            "/rpc",
            ":8080/rpc",
            "localhost:99999",
            "localhost:0",
            "a b",
            "localhost:x/rpc",
            "[],=51:5",
            "[]",
            "[x]:80",
            "[::1]x:80",
            "[::1",
        ] {
            assert!(why(bad).contains("expected host:port/path"), "{bad}");
        }
    }

    #[test]
    fn no_message_contains_a_password() {
        for url in [
            "user:secret@localhost/rpc",
            "http://user:secret@localhost/rpc",
            "https://user:secret@localhost/rpc",
            "ftp://user:secret@localhost",
            "user:secret@localhost/rpc?x=1",
            "user:secret@localhost:99999",
            "user:secret word@localhost",
            "user:se@secret@localhost",
            "user:99999/secret@localhost",
            "http://user:99999/se?secret@localhost",
            "user:secret://@localhost",
            "user:secret@localhost/?to=http://other",
            "secret@localhost",
            "user:secret@",
            "user:99999/secret ü@localhost",
            "user:99999/secretü@localhost",
        ] {
            let error = ServiceUrl::parse(url).expect_err(url);
            assert!(!format!("{error:?} {error}").contains("secret"), "{error}");
        }
        assert_eq!(without_credentials("http://localhost:1/a?b"), "http://localhost:1/a?b");
    }
}
