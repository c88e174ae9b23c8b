//! The URL of a client, split into its parts: [`ServiceUrl`].

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::kubernetes_service::KubernetesService;
use crate::address::{Address, is_path, unix_path};
use crate::error::{Code, Error};
use crate::etcd_url::EtcdUrl;
use crate::host_and_port::HostAndPort;
use crate::replica_line::{AddressOptions, endpoint_path, is_name, without_options};
use crate::untrusted_text::{is_scheme, quoted, without_credentials};
use crate::wire::path_format;

/// `http://host:port/path`, `https://a:1,b:2/path`, `unix:/path`, `file:///path`, `srv://_service._tcp.domain`,
/// `etcd://host:port/prefix` or `k8s://namespace/service`, with options.
#[derive(Clone, Debug)]
pub(super) struct ServiceUrl {
    pub(super) place: ServicePlace,
    /// Whether connections begin with TLS.
    pub(super) is_https: bool,
    /// The name of the option `tls`.
    pub(super) tls_name: Option<String>,
    /// Without a slash at its end.
    pub(super) path: String,
    /// Whether the URL has a path.
    has_path: bool,
}

/// What a URL says of where the replicas are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServicePlace {
    Hosts(Vec<HostAndPort>),
    Sockets(Vec<Address>),
    /// A file that lists them. It is shown as it was written.
    File {
        path: PathBuf,
        shown: String,
    },
    /// The name of SRV records in DNS.
    Srv(String),
    Kubernetes(KubernetesService),
    /// Where servers announce themselves.
    Etcd(EtcdUrl),
}

impl ServiceUrl {
    /// The URL, as messages call it.
    pub(super) fn shown(&self) -> String {
        match &self.place {
            ServicePlace::Hosts(_) => {
                let scheme = if self.is_https { "https" } else { "http" };
                format!("{scheme}://{}{}", self.site(), self.path)
            }
            _ => self.site(),
        }
    }

    /// The host, or what the URL has in its place.
    pub(super) fn server(&self) -> String {
        match &self.place {
            ServicePlace::Hosts(hosts) if hosts.len() == 1 => hosts.iter().map(|host| host.host.clone()).collect(),
            _ => self.site(),
        }
    }

    /// The port, if there is one host.
    pub(super) fn port(&self) -> Option<u16> {
        match &self.place {
            ServicePlace::Hosts(hosts) if hosts.len() == 1 => hosts.first().map(|host| host.port),
            _ => None,
        }
    }

    /// Which service it is, whatever the path.
    pub(super) fn site(&self) -> String {
        match &self.place {
            ServicePlace::Hosts(hosts) => joined(hosts.iter().map(|host| Cow::Borrowed(host.authority.as_str()))),
            ServicePlace::Sockets(sockets) => joined(sockets.iter().map(|socket| Cow::Owned(socket.to_string()))),
            ServicePlace::File { shown, .. } => format!("file://{shown}"),
            ServicePlace::Srv(name) => format!("srv://{name}"),
            ServicePlace::Kubernetes(service) => service.to_string(),
            ServicePlace::Etcd(etcd) => etcd.to_string(),
        }
    }

    /// Takes another endpoint than `/rpc`. `url` is what this was made of.
    pub(super) fn set_endpoint(&mut self, url: &str, endpoint: &str) -> Result<(), Error> {
        let path = endpoint_path(endpoint).map_err(invalid)?;
        self.set_path(url, path, "`ClientBuilder::endpoint`")
    }

    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let (text, options) = without_options(url);
        let mut parsed = Self::parse_place(url, text)?;
        let options = options.map(AddressOptions::parse).transpose().map_err(|why| {
            // They may be the end of a password.
            let why = if url.contains('@') { "it has an option that byname doesn't know".to_owned() } else { why };
            refused(url, &why)
        })?;
        let AddressOptions { endpoint, tls } = options.unwrap_or_default();
        if let Some(endpoint) = endpoint {
            parsed.set_path(url, endpoint, "the option `endpoint`")?;
        }
        if let Some(name) = tls {
            if matches!(parsed.place, ServicePlace::Sockets(_)) {
                return Err(refused_socket(url, "a unix socket has no TLS; leave out the option `tls`"));
            }
            if url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("http")) {
                return Err(refused(url, "it says both `http://` and `tls`; write https://"));
            }
            (parsed.is_https, parsed.tls_name) = (true, Some(name));
        }
        Ok(parsed)
    }

    /// Everything but the options.
    fn parse_place(url: &str, text: &str) -> Result<Self, Error> {
        if unix_path(text).is_some() {
            return sockets(text).map(Self::of).map_err(|why| refused_socket(url, &why));
        }
        let refuse = |why: &str| refused(url, why);
        if let Some(after_scheme) = after_file_scheme(text) {
            let place = file(after_scheme).map_err(|why| {
                let why = format!(
                    "{} is not the URL of a file: {why}; expected file:///path, such as file:///etc/orders.replicas",
                    quoted(url)
                );
                invalid(why)
            })?;
            return Ok(Self::of(place));
        }
        let (is_https, rest) = match text.split_once("://") {
            None => (false, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, name)) if scheme.eq_ignore_ascii_case("srv") => {
                check_srv(name).map_err(|why| {
                    let why = format!(
                        "{} is not a name of SRV records: {why}; expected srv://_service._tcp.domain, such as \
                         srv://_rpc._tcp.orders.internal",
                        quoted(&without_credentials(url))
                    );
                    invalid(why)
                })?;
                return Ok(Self::of(ServicePlace::Srv(name.to_owned())));
            }
            Some((scheme, service)) if scheme.eq_ignore_ascii_case("k8s") => {
                let service = KubernetesService::parse(service).map_err(|why| {
                    let why = format!(
                        "{} is not a service of Kubernetes: {why}; expected k8s://namespace/service, such as \
                         k8s://shop/orders or k8s://shop/orders:http",
                        quoted(&without_credentials(url))
                    );
                    invalid(why)
                })?;
                return Ok(Self::of(ServicePlace::Kubernetes(service)));
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("etcd") => {
                // The options are cut off from `rest`. They may be the end of a password.
                let place = EtcdUrl::refuse_user(url).and_then(|()| EtcdUrl::parse(rest));
                let place = place.map_err(|why| invalid(EtcdUrl::refusal(url, &why)))?;
                return Ok(Self::of(ServicePlace::Etcd(place)));
            }
            Some((scheme, _)) if is_scheme(scheme) => {
                return Err(refuse(&format!("`{scheme}` is not a scheme that byname knows")));
            }
            Some((before, _)) if before.contains(',') => return Err(refuse(SCHEME_ONCE)),
            Some(_) => return Err(refuse("the part before `://` is not a scheme")),
        };
        let (before, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if is_path(url) && !url.contains('@') {
            return Err(refuse(&format!("it has no host; for a unix socket write {}", quoted(&format!("unix:{url}")))));
        }
        if let ("http:" | "https:", true) = (before, path.starts_with('/') && !path.starts_with("//")) {
            return Err(refuse(&format!("its scheme has one slash; write {before}//")));
        }
        if before.is_empty() {
            return Err(refuse("it has no host"));
        }
        // A list is split before anything of it is looked at. A password may have a comma.
        let elements: Vec<_> = before.split(',').collect();
        let refuse_element = |element: &str, why: &str| match elements.len() {
            1 => refuse(why),
            _ if url.contains('@') => {
                refuse("it has a user name, which byname would not send; use `Client::header` for credentials")
            }
            _ => refuse(&format!("of its list, {} is wrong: {why}", quoted(element))),
        };
        for element in &elements {
            let digits = element.strip_prefix(':').unwrap_or(element);
            if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                let why = format!("it has no host, only a port; for this machine write localhost:{digits}");
                return Err(refuse_element(element, &why));
            }
        }
        if rest.contains(char::is_whitespace) {
            return Err(refuse("it has a space"));
        }
        if rest.contains('#') {
            return Err(refuse("it has a fragment"));
        }
        if path.starts_with("//") && before.contains(',') && before.ends_with(':') {
            return Err(refuse(SCHEME_ONCE));
        }
        if let Some((_, next)) = path.split_once(',')
            && is_host_with_port(next.split(['/', ',']).next().unwrap_or_default())
        {
            return Err(refuse("its list continues after a path; write the path once, after the last address"));
        }
        // The message about a path repeats it. A path with an `@` may contain a password.
        if let Err(why) = path_format::check(path) {
            return Err(refuse(if path.contains('@') { "its path must be percent-encoded" } else { &why }));
        }
        let mut hosts: Vec<HostAndPort> = Vec::with_capacity(elements.len());
        for element in &elements {
            if element.is_empty() {
                return Err(refuse("its list has an empty element; leave out the comma"));
            }
            if unix_path(element).is_some() {
                return Err(refuse(
                    "its list has a unix socket among hosts; give such replicas to `ClientBuilder::addresses`",
                ));
            }
            let host = HostAndPort::parse(element, Some(if is_https { 443 } else { 80 }))
                .map_err(|why| refuse_element(element, &why))?;
            if hosts.contains(&host) {
                return Err(refuse_element(element, "it is there twice; leave one out"));
            }
            hosts.push(host);
        }
        let has_path = !path.is_empty();
        let path = if has_path { path.trim_end_matches('/') } else { "/rpc" };
        Ok(Self { is_https, path: path.to_owned(), has_path, ..Self::of(ServicePlace::Hosts(hosts)) })
    }

    fn of(place: ServicePlace) -> Self {
        Self { place, is_https: false, tls_name: None, path: "/rpc".into(), has_path: false }
    }

    fn set_path(&mut self, url: &str, path: String, what: &str) -> Result<(), Error> {
        if self.has_path {
            let (url, known) = (quoted(&without_credentials(url)), quoted(&self.path));
            return Err(invalid(format!("{url} has the endpoint {known} already; leave out {what}")));
        }
        (self.path, self.has_path) = (path, true);
        Ok(())
    }
}

/// The addresses that a user gives.
pub(super) fn replicas(given: &[String]) -> Result<Vec<Address>, Error> {
    let mut addresses = Vec::with_capacity(given.len());
    for text in given {
        let address = replica(text)?;
        if addresses.contains(&address) {
            let why = format!("`ClientBuilder::addresses` has {} twice; leave one out", quoted(text));
            return Err(invalid(why));
        }
        addresses.push(address);
    }
    if addresses.is_empty() {
        return Err(invalid(
            "`ClientBuilder::addresses` has no address; give one, or leave the method out to use the name in the URL"
                .into(),
        ));
    }
    Ok(addresses)
}

/// One of several addresses of a service.
fn replica(address: &str) -> Result<Address, Error> {
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
            Err(invalid(why))
        }
    }
}

const SCHEME_ONCE: &str = "its list has a scheme inside; write the scheme once, before the first address";

fn invalid(why: String) -> Error {
    Error::refused(Code::InvalidArgument, why)
}

fn refused(url: &str, why: &str) -> Error {
    invalid(format!(
        "{} is not an address of a service: {why}; expected host:port/path, such as localhost:8080/rpc",
        quoted(&without_credentials(url))
    ))
}

fn refused_socket(url: &str, why: &str) -> Error {
    invalid(format!(
        "{} is not an address of a service: {why}; expected unix:/path, such as unix:/run/orders.sock",
        quoted(url)
    ))
}

/// The unix sockets of a URL that begins with one. Another begins only after a comma with `unix:`, because a path may have
/// a comma.
fn sockets(text: &str) -> Result<ServicePlace, String> {
    const NEXT: &str = ",unix:";
    let mut sockets: Vec<Address> = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(NEXT).unwrap_or(rest.len());
        let element = &rest[..end];
        let wrong = |why: String| match sockets.is_empty() && end == rest.len() {
            true => why,
            false => format!("of its list, {} is wrong: {why}", quoted(element)),
        };
        let path = unix_path(element).unwrap_or_else(|| Err("it is a host among unix sockets".to_owned()));
        let socket = Address::Unix(Some(path.map_err(wrong)?));
        if sockets.contains(&socket) {
            return Err(format!("of its list, {} is wrong: it is there twice; leave one out", quoted(element)));
        }
        sockets.push(socket);
        match rest.get(end + 1..) {
            Some(next) => rest = next,
            None => return Ok(ServicePlace::Sockets(sockets)),
        }
    }
}

/// What stands after `file:`. A host may be called `file` too, and have a port.
fn after_file_scheme(text: &str) -> Option<&str> {
    const SCHEME: &str = "file:";
    let rest = text
        .get(..SCHEME.len())
        .filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
        .map(|scheme| &text[scheme.len()..])?;
    let port = rest.split(['/', ',']).next().unwrap_or_default();
    (port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
}

/// The file of a URL, from what stands after `file:`.
fn file(after_scheme: &str) -> Result<ServicePlace, String> {
    let shown = match after_scheme.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err("it has a host; a file has none".into()),
        None if after_scheme.starts_with('/') => after_scheme,
        None => return Err("its path does not begin with `/`".into()),
    };
    if shown.contains('#') {
        return Err("it has a fragment; write `%23` for a `#` in its path".into());
    }
    let path = percent_decode_str(shown).decode_utf8().map_err(|_| "its path is not UTF-8")?;
    if path.ends_with('/') || path.contains('\0') {
        return Err("its path is not that of a file".into());
    }
    Ok(ServicePlace::File { path: PathBuf::from(path.as_ref()), shown: shown.to_owned() })
}

fn check_srv(name: &str) -> Result<(), &'static str> {
    if name.contains(['/', ':', '@', ',']) {
        return Err(
            "it has more than a name; SRV records have the ports, and the option `?endpoint=/path` sets the path",
        );
    }
    let labels: Vec<_> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    let begins_right = labels.len() > 2 && labels[..2].iter().all(|label| label.len() > 1 && label.starts_with('_'));
    if !begins_right {
        return Err("it does not begin with `_service._protocol.`");
    }
    if !is_name(name) || labels.iter().any(|label| label.is_empty()) {
        return Err("it is not a name of DNS");
    }
    Ok(())
}

fn is_host_with_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn joined<'t>(texts: impl Iterator<Item = Cow<'t, str>>) -> String {
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::service_target::{GivenReplicas, ServiceTarget};
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        let parts = |url: &str| {
            let url = ServiceUrl::parse(url).unwrap_or_else(|error| panic!("{error}"));
            let [HostAndPort { host, port, authority }] = <[_; 1]>::try_from(hosts(&url)).unwrap();
            (host, port, url.path, authority)
        };
        let local = |port: u16, path: &str, authority: &str| ("localhost".into(), port, path.into(), authority.into());
        assert_eq!(parts("localhost:8080/rpc"), local(8080, "/rpc", "localhost:8080"));
        assert_eq!(parts("http://localhost:8080/rpc/"), local(8080, "/rpc", "localhost:8080"));
        assert_eq!(parts("HTTP://localhost"), local(80, "/rpc", "localhost"));
        assert_eq!(parts("https://localhost"), local(443, "/rpc", "localhost"));
        assert_eq!(parts("HTTPS://localhost:8443/a"), local(8443, "/a", "localhost:8443"));
        assert_eq!(ServiceUrl::parse("https://localhost:1").unwrap().shown(), "https://localhost:1/rpc");
        assert_eq!(parts("localhost/a/b"), local(80, "/a/b", "localhost"));
        assert_eq!(parts("localhost:80/"), local(80, "", "localhost:80"));
        assert_eq!(parts("[::1]:7/x"), ("::1".into(), 7, "/x".into(), "[::1]:7".into()));
    }

    #[test]
    fn a_list_has_one_scheme_and_one_path() {
        let list = |url: &str| {
            let url = ServiceUrl::parse(url).unwrap_or_else(|error| panic!("{error}"));
            (hosts(&url).iter().map(|host| (host.host.clone(), host.port)).collect::<Vec<_>>(), url.shown())
        };
        let host = |host: &str, port| (host.to_owned(), port);
        assert_eq!(
            list("10.0.0.1:8080,10.0.0.2:8081/rpc/"),
            (vec![host("10.0.0.1", 8080), host("10.0.0.2", 8081)], "http://10.0.0.1:8080,10.0.0.2:8081/rpc".into())
        );
        assert_eq!(list("https://a:1,b"), (vec![host("a", 1), host("b", 443)], "https://a:1,b/rpc".into()));
        assert_eq!(
            list("[::1]:1,[::2]:2/x"),
            (vec![host("::1", 1), host("::2", 2)], "http://[::1]:1,[::2]:2/x".into())
        );
        assert_eq!(list("a:1/x,y").1, "http://a:1/x,y", "a path may have a comma");
        let sockets = |url: &str| ServiceUrl::parse(url).unwrap_or_else(|error| panic!("{error}")).shown();
        assert_eq!(sockets("unix:/run/a.sock,unix:///run/b.sock"), "unix:/run/a.sock,unix:/run/b.sock");
        assert_eq!(sockets("unix:/run/a,b.sock"), "unix:/run/a,b.sock");
    }

    #[test]
    fn an_error_about_a_list_names_the_element() {
        let why = |url: &str| ServiceUrl::parse(url).expect_err(url).message().to_owned();
        for (bad, reason) in [
            ("a:1,b:x", "of its list, `b:x` is wrong: its port is not a number up to 65535"),
            ("127.0.0.1;9001", "its host is neither a name nor an address"),
            ("::1:9001", "an IPv6 address must be in brackets, such as [::1]:8080"),
            ("http:/127.0.0.1:9001", "its scheme has one slash; write http://"),
            (
                "a:1,8080/rpc",
                "of its list, `8080` is wrong: it has no host, only a port; for this machine write localhost:8080",
            ),
            ("a:1,,b:2", "its list has an empty element; leave out the comma"),
            ("a:1,b:2,", "its list has an empty element"),
            ("a:1,b:2,a:1", "of its list, `a:1` is wrong: it is there twice"),
            ("a:1,::1:2", "of its list, `::1:2` is wrong: "),
            ("a:1,unix:/run/b.sock", "its list has a unix socket among hosts"),
            ("a:1/rpc,b:2/rpc", "its list continues after a path; write the path once, after the last address"),
            ("http://a:1,http://b:2", "write the scheme once, before the first address"),
            ("a:1,http://b:2", "write the scheme once, before the first address"),
            ("a:1, b:2", "it has a space"),
            ("a:1?endpoint=/x,b:2", "its list continues after the options"),
            ("unix:/run/a.sock,unix:b.sock", "of its list, `unix:b.sock` is wrong: its path begins neither"),
            ("unix:/run/a.sock,unix:/run/a.sock", "of its list, `unix:/run/a.sock` is wrong: it is there twice"),
            ("unix:/run/a.sock,unix:8080", "of its list, `unix:8080` is wrong: it is a host among unix sockets"),
        ] {
            assert!(why(bad).contains(reason), "{bad}: {}", why(bad));
        }
    }

    #[test]
    fn options_follow_after_a_question_mark() {
        let parts = |url: &str| {
            let url = ServiceUrl::parse(url).unwrap_or_else(|error| panic!("{error}"));
            (url.shown(), url.path, url.is_https, url.tls_name)
        };
        let name = || Some("orders.internal".to_owned());
        let list = "10.0.0.1:1,10.0.0.2:1?endpoint=/x/&tls=orders.internal";
        assert_eq!(parts(list), ("https://10.0.0.1:1,10.0.0.2:1/x".into(), "/x".into(), true, name()));
        assert_eq!(parts("https://a:1/y?tls=orders.internal"), ("https://a:1/y".into(), "/y".into(), true, name()));
        let file = "file:///etc/a.replicas?tls=orders.internal";
        assert_eq!(parts(file), ("file:///etc/a.replicas".into(), "/rpc".into(), true, name()));
        assert_eq!(parts("unix:/a.sock?endpoint=x"), ("unix:/a.sock".into(), "/x".into(), false, None));
        assert_eq!(parts("unix:/a?b.sock").0, "unix:/a?b.sock", "a path may have a question mark");
        let why = |url: &str| ServiceUrl::parse(url).expect_err(url).message().to_owned();
        for (bad, reason) in [
            ("a:1?weight=2", "`weight=2` is not an option; byname knows `endpoint=/rpc` and `tls=orders.internal`"),
            ("a:1?", "`` is not an option"),
            ("a:1?endpoint=", "`endpoint=` is not an option"),
            ("a:1?tls=a&tls=b", "it has the option `tls` twice"),
            ("a:1?tls=a/b", "its option `tls` is not the name of a server"),
            ("a:1/rpc?endpoint=/x", "has the endpoint `/rpc` already; leave out the option `endpoint`"),
            ("a:1?endpoint=/ü", "no server has the endpoint `/ü`"),
            ("http://a:1?tls=a", "it says both `http://` and `tls`; write https://"),
            ("unix:/a.sock?tls=a", "a unix socket has no TLS"),
        ] {
            assert!(why(bad).contains(reason), "{bad}: {}", why(bad));
        }
    }

    #[test]
    fn a_file_and_srv_records_have_a_scheme() {
        let place = |url: &str| ServiceUrl::parse(url).unwrap_or_else(|error| panic!("{error}")).place;
        for url in ["file:///etc/a%20b%3F.replicas", "FILE:/etc/a%20b%3F.replicas"] {
            let shown = "/etc/a%20b%3F.replicas".to_owned();
            assert_eq!(place(url), ServicePlace::File { path: "/etc/a b?.replicas".into(), shown }, "{url}");
        }
        assert_eq!(place("srv://_rpc._tcp.orders.internal"), ServicePlace::Srv("_rpc._tcp.orders.internal".into()));
        let service = KubernetesService::parse("shop/orders:http").unwrap();
        assert_eq!(place("K8s://shop/orders:http?endpoint=/x&tls=orders"), ServicePlace::Kubernetes(service));
        let why = |url: &str| ServiceUrl::parse(url).expect_err(url).message().to_owned();
        for (bad, reason) in [
            ("file://etc/a.replicas", "it has a host"),
            ("file:./a.replicas", "its path does not begin with `/`"),
            ("file:a.replicas", "its path does not begin with `/`"),
            ("file:", "its path does not begin with `/`"),
            ("file:///etc/", "is not that of a file"),
            ("file:///etc/%ff", "is not UTF-8"),
            ("file:///a#b", "write `%23`"),
        ] {
            assert!(
                why(bad).contains(reason) && why(bad).contains("such as file:///etc/orders.replicas"),
                "{}",
                why(bad)
            );
        }
        for (bad, reason) in [
            ("srv://orders.internal", "does not begin with `_service._protocol.`"),
            ("srv://_rpc._tcp", "does not begin with `_service._protocol.`"),
            ("srv://_rpc._tcp.orders.internal:80", "SRV records have the ports"),
            ("srv://_rpc._tcp.orders.internal/rpc", "the option `?endpoint=/path`"),
            ("srv://_rpc._tcp.a..b", "is not a name of DNS"),
        ] {
            assert!(why(bad).contains(reason), "{bad}: {}", why(bad));
        }
    }

    fn hosts(url: &ServiceUrl) -> Vec<HostAndPort> {
        match &url.place {
            ServicePlace::Hosts(hosts) => hosts.clone(),
            other => panic!("it has no hosts: {other:?}"),
        }
    }

    #[test]
    fn what_leaves_this_machine_is_exposed() {
        let exposed = |url: &str, addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|address| replica(address).unwrap()).collect();
            let given = (!addresses.is_empty()).then_some(GivenReplicas::Addresses(addresses));
            ServiceTarget::new(ServiceUrl::parse(url).unwrap(), None, given).unwrap().is_exposed()
        };
        for here in [
            "localhost",
            "unix:/run/orders.sock",
            "LOCALHOST:8080/rpc",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "localhost.:8080",
            "localhost:1,[::1]:2",
            "unix:/run/a.sock,unix:/run/b.sock",
        ] {
            assert!(!exposed(here, &[]), "{here}");
        }
        for away in [
            "orders",
            "10.0.0.1",
            "[::]:80",
            "0.0.0.0",
            "localhost.example",
            "localhost..",
            "[::ffff:10.0.0.1]",
            "localhost:1,10.0.0.1:1",
            "file:///etc/orders.replicas",
        ] {
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
        let url = ServiceUrl::parse("unix:///run/orders.sock").unwrap();
        assert_eq!((url.shown(), url.site()), ("unix:/run/orders.sock".into(), "unix:/run/orders.sock".into()));
        assert_eq!(url.place, ServicePlace::Sockets(vec![replica("unix:/run/orders.sock").unwrap()]));
        let target = ServiceTarget::new(url, None, None).unwrap();
        let endpoint = target.endpoint_url(&replica("unix:/run/orders.sock").unwrap()).unwrap();
        assert_eq!((endpoint.authority.as_bytes(), endpoint.path.as_str()), (b"localhost".as_slice(), "/rpc"));
        // A host may be called `unix`.
        assert_eq!(ServiceUrl::parse("unix:8080/x").unwrap().shown(), "http://unix:8080/x");
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
        assert!(why("localhost/rpc?x=1").contains("`x=1` is not an option") && why("localhost#x").contains("fragment"));
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
            "etcd://user:secret@localhost/orders",
            "etcd://user:99,secret/secret@localhost/orders",
            "etcd://user:secret,1/x?y@h/orders",
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
            "user:sec,secret@localhost",
            "user:secret,secret/x@localhost",
            "user:1,8/secret?secret=x@localhost",
        ] {
            let error = ServiceUrl::parse(url).expect_err(url);
            assert!(!format!("{error:?} {error}").contains("secret"), "{error}");
        }
        assert_eq!(without_credentials("http://localhost:1/a?b"), "http://localhost:1/a?b");
    }
}
