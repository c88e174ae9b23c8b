//! The servers that a URL names, one by one: [`server_addresses`].

/// A URL for each server. The URL is valid.
///
/// # Errors
///
/// Which server answers such a URL is not said in it.
pub(crate) fn server_addresses(url: &str) -> Result<Vec<String>, String> {
    if has_scheme(url, "unix:") {
        return Ok(unix_sockets(url));
    }
    if ["srv://", "etcd://", "k8s://"].iter().any(|scheme| has_scheme(url, scheme)) || has_scheme(url, "file:/") {
        return Err("`byname top` reads the counters of each server by its address, and this URL finds addresses by itself; name the servers, \
                    with commas: host:port,host:port"
            .to_owned());
    }
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (hosts, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Ok(hosts.split(',').map(|host| format!("{scheme}{host}{path}")).collect())
}

/// A path may have a comma, so another socket begins with its scheme. Options at the end are for all.
fn unix_sockets(url: &str) -> Vec<String> {
    let (sockets, options) = url.split_at(url.find('?').unwrap_or(url.len()));
    let mut found = Vec::new();
    for (at, socket) in sockets.split(",unix:").enumerate() {
        let scheme = if at == 0 { "" } else { "unix:" };
        found.push(format!("{scheme}{socket}{options}"));
    }
    found
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_url() {
        for (url, expected) in [
            ("localhost:8080", &["localhost:8080"][..]),
            ("a:1,b:2/shop", &["a:1/shop", "b:2/shop"]),
            ("https://a,b:2/rpc?tls=shop", &["https://a/rpc?tls=shop", "https://b:2/rpc?tls=shop"]),
            ("[::1]:80", &["[::1]:80"]),
            (
                "unix:/run/a,b.sock,unix:/run/c.sock?endpoint=/x",
                &["unix:/run/a,b.sock?endpoint=/x", "unix:/run/c.sock?endpoint=/x"],
            ),
        ] {
            assert_eq!(server_addresses(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn a_url_that_finds_its_servers_is_refused() {
        for url in ["srv://_rpc._tcp.shop", "ETCD://e:2379/shop", "k8s://shop/orders", "file:///etc/shop.replicas"] {
            let why = server_addresses(url).unwrap_err();
            assert!(why.contains("name the servers"), "{url}: {why}");
        }
    }
}
