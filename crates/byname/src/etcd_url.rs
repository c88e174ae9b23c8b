//! Where servers announce themselves in etcd, as users write it: [`EtcdUrl`].

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::host_and_port::HostAndPort;
use crate::untrusted_text::{quoted, without_credentials};

/// The port at which etcd serves its clients.
const CLIENTS: u16 = 2379;

/// `etcd://h1:2379,h2:2379/orders`: the members of one cluster, and the prefix of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EtcdUrl {
    /// Not empty.
    pub(crate) members: Vec<HostAndPort>,
    /// Without the slash at its end. The key of a server is the prefix, a slash, and the id of its instance.
    pub(crate) prefix: String,
    /// As it was written.
    path: String,
}

impl EtcdUrl {
    /// Reads what stands after `etcd://`, without options. Or what is wrong with it.
    pub(crate) fn parse(after_scheme: &str) -> Result<Self, String> {
        Self::refuse_user(after_scheme)?;
        let Some((hosts, path)) = after_scheme.split_once('/') else {
            return Err("it has no prefix".into());
        };
        if after_scheme.contains(['#', '?']) {
            return Err(
                "it has a fragment or an unknown option; write `%23` for a `#` and `%3F` for a `?` in its prefix"
                    .into(),
            );
        }
        let mut members: Vec<HostAndPort> = Vec::new();
        let elements: Vec<_> = hosts.split(',').collect();
        for element in &elements {
            let wrong = |why: &str| match elements.len() {
                1 => why.to_owned(),
                _ => format!("of its list, {} is wrong: {why}", quoted(element)),
            };
            if element.is_empty() {
                return Err(if elements.len() == 1 { "it has no host" } else { "its list has an empty element" }.into());
            }
            let member = HostAndPort::parse(element, Some(CLIENTS)).map_err(|why| wrong(&why))?;
            if members.contains(&member) {
                return Err(wrong("it is there twice; leave one out"));
            }
            members.push(member);
        }
        let prefix = percent_decode_str(path).decode_utf8().map_err(|_| "its prefix is not UTF-8")?;
        if prefix.is_empty() {
            return Err("it has no prefix".into());
        }
        if prefix.ends_with('/') {
            return Err("its prefix ends with a slash, which byname adds".into());
        }
        Ok(Self { members, prefix: prefix.into_owned(), path: path.to_owned() })
    }

    /// Refuses a URL with an `@`. A password may have a slash, a comma or a question mark, so this is checked before the URL
    /// is split, and no part of it is shown.
    pub(crate) fn refuse_user(url: &str) -> Result<(), String> {
        match url.contains('@') {
            true => {
                Err("it has a user name; byname does not log in to etcd; write `%40` for an `@` in its prefix or its \
                         options"
                    .into())
            }
            false => Ok(()),
        }
    }

    /// The message about a URL that is wrong.
    pub(crate) fn refusal(url: &str, why: &str) -> String {
        format!(
            "{} is not a place in etcd: {why}; expected etcd://host:port/prefix, such as etcd://10.0.0.1:2379/orders",
            quoted(&without_credentials(url))
        )
    }
}

impl fmt::Display for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.members.iter().map(|member| member.authority.as_str()).collect();
        write!(f, "etcd://{}/{}", members.join(","), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_a_prefix_are_read_and_shown() {
        let parts = |text: &str| {
            let url = EtcdUrl::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(url.to_string(), format!("etcd://{text}"));
            let members = url.members.iter().map(|member| format!("{} {}", member.host, member.port));
            (members.collect::<Vec<_>>().join(","), url.prefix)
        };
        assert_eq!(parts("h1:2379,h2:2380/orders"), ("h1 2379,h2 2380".into(), "orders".into()));
        assert_eq!(parts("[::1]/prod/orders"), ("::1 2379".into(), "prod/orders".into()));
        assert_eq!(parts("h//registry/a%20b"), ("h 2379".into(), "/registry/a b".into()));
    }

    #[test]
    fn what_is_no_place_in_etcd_says_why() {
        for (bad, why) in [
            ("h1:2379", "it has no prefix"),
            ("h1:2379/", "it has no prefix"),
            ("h1:2379/orders/", "ends with a slash"),
            ("/orders", "it has no host"),
            ("h1,,h2/orders", "its list has an empty element"),
            ("h1:x,h2/orders", "of its list, `h1:x` is wrong: its port is not a number"),
            ("h1,h1:2379,h1/orders", "of its list, `h1` is wrong: it is there twice"),
            ("ada:1815@h1/orders", "byname does not log in to etcd"),
            ("h1/or#ders", "`%23`"),
            ("h1/%ff", "not UTF-8"),
        ] {
            let message = EtcdUrl::parse(bad).expect_err(bad);
            assert!(message.contains(why), "{bad}: {message}");
        }
    }
}
