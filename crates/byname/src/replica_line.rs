//! The address of one replica with its options, as a line of a file and a registry have it: [`replica_line`].

use std::net::IpAddr;

use crate::address::{Address, unix_path};
use crate::host_and_port::HostAndPort;
use crate::untrusted_text::quoted;
use crate::wire::path_format;

/// One replica, as a line of a file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaPlace {
    Host(HostAndPort),
    Socket(Address),
}

/// What stands behind the `?` of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressOptions {
    /// The path of the endpoint, without a slash at its end.
    pub(crate) endpoint: Option<String>,
    /// The name that the server's certificate must have.
    pub(crate) tls: Option<String>,
}

/// A line of a file of replicas, or what is wrong with it.
pub(crate) fn replica_line(line: &str) -> Result<(ReplicaPlace, AddressOptions), String> {
    let (text, options) = without_options(line);
    let options = options.map(AddressOptions::parse).transpose()?.unwrap_or_default();
    if let Some(path) = unix_path(text) {
        return match options.tls {
            None => Ok((ReplicaPlace::Socket(Address::Unix(Some(path?))), options)),
            Some(_) => Err("a unix socket has no TLS; leave out the option `tls`".into()),
        };
    }
    if text.contains("://") {
        return Err("it has a scheme; write the address alone, and `?tls=orders.internal` for TLS".into());
    }
    if text.contains(',') || text.contains(char::is_whitespace) {
        return Err("it has more than one address; write each on its own".into());
    }
    if text.contains('/') {
        return Err("it has a path; write it as the option `?endpoint=/path`".into());
    }
    Ok((ReplicaPlace::Host(HostAndPort::parse(text, None)?), options))
}

impl ReplicaPlace {
    /// The host, if it is none of the sockets.
    pub(crate) fn host(&self) -> Option<&HostAndPort> {
        match self {
            Self::Host(host) => Some(host),
            Self::Socket(_) => None,
        }
    }
}

impl AddressOptions {
    /// `endpoint=/rpc&tls=orders.internal`, or what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const KNOWN: &str = "byname knows `endpoint=/rpc` and `tls=orders.internal`, joined by `&`";
        let mut options = Self::default();
        for option in text.split('&') {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let (place, value) = match name {
                _ if value.contains(',') => {
                    return Err("its list continues after the options; write them once, after the last address".into());
                }
                "endpoint" if !value.is_empty() => (&mut options.endpoint, endpoint_path(value)?),
                "tls" if is_name(value) => (&mut options.tls, value.to_owned()),
                "tls" => return Err("its option `tls` is not the name of a server".into()),
                _ => return Err(format!("{} is not an option; {KNOWN}", quoted(option))),
            };
            if place.replace(value).is_some() {
                return Err(format!("it has the option `{name}` twice"));
            }
        }
        Ok(options)
    }
}

/// The path of an endpoint, or what is wrong with it.
pub(crate) fn endpoint_path(endpoint: &str) -> Result<String, String> {
    let path = format!("/{}", endpoint.trim_matches('/'));
    if let Err(why) = path_format::check(&path) {
        return Err(format!("no server has the endpoint {}: {why}", quoted(endpoint)));
    }
    Ok(path.trim_end_matches('/').to_owned())
}

/// The text before the options, and the options. The path of a socket may have a question mark, and options begin only where
/// one of them is named.
pub(crate) fn without_options(text: &str) -> (&str, Option<&str>) {
    let begins = match unix_path(text) {
        Some(_) => ["?endpoint=", "?tls="].iter().filter_map(|begin| text.find(begin)).min(),
        None => text.find('?'),
    };
    begins.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])))
}

/// Whether it is a name of DNS or an IP address.
pub(crate) fn is_name(text: &str) -> bool {
    let is_dns = || text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    !text.is_empty() && (is_dns() || text.parse::<IpAddr>().is_ok())
}
