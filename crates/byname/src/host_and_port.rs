//! A host with its port, as users write it: [`HostAndPort`].

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::uri::{Authority, Uri};

use crate::address::Address;

/// A name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostAndPort {
    /// An IPv6 address has no brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As it was written.
    pub(crate) authority: String,
}

impl HostAndPort {
    /// Or what is wrong with it. Without a default the port must be there.
    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".into());
        }
        if text.parse::<Ipv6Addr>().is_ok()
            || text.parse::<IpAddr>().is_err() && text.matches(':').count() > 1 && !text.contains(['[', '@'])
        {
            return Err("an IPv6 address must be in brackets, such as [::1]:8080".into());
        }
        let uri: Uri = format!("http://{text}").parse().map_err(|why| format!("{why}"))?;
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        if authority.contains('@') {
            return Err("it has a user name, which byname would not send; use `Client::header` for credentials".into());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        // The parser accepts any text inside and after brackets.
        let bare = host.strip_prefix('[').map_or(Some(host), |rest| rest.strip_suffix(']'));
        let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let is_host = bare.is_some_and(|bare| bare == host && is_name(bare) || bare.parse::<Ipv6Addr>().is_ok());
        let behind = authority.strip_prefix(host).filter(|behind| behind.is_empty() || behind.starts_with(':'));
        let (Some(bare), true, Some(_)) = (bare, is_host, behind) else {
            return Err("its host is neither a name nor an address".into());
        };
        let port = match (uri.authority().and_then(Authority::port), default_port) {
            (Some(port), _) => port.as_u16(),
            (None, _) if authority.len() > host.len() => return Err("its port is not a number up to 65535".into()),
            (None, Some(port)) => port,
            (None, None) => return Err("it has no port".into()),
        };
        if port == 0 {
            return Err("nothing listens at port 0".into());
        }
        Ok(Self { host: bare.to_owned(), port, authority: authority.to_owned() })
    }

    /// The address, if it is not a name.
    pub(crate) fn address(&self) -> Option<Address> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port).into())
    }

    /// Whether it is certainly this machine.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        match self.address() {
            Some(address) => address.is_of_this_machine(),
            None => self.host.strip_suffix('.').unwrap_or(&self.host).eq_ignore_ascii_case("localhost"),
        }
    }
}
