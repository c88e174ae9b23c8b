//! A service of Kubernetes in a client's URL: [`KubernetesService`].

use std::fmt;

/// `namespace/service`, with a port where it has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KubernetesService {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: ServicePort,
}

/// Which port of the pods is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServicePort {
    /// The only one.
    Only,
    Name(String),
    Number(u16),
}

impl KubernetesService {
    /// From what stands after `k8s://`, or what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (namespace, rest) = text.split_once('/').ok_or("it has no namespace, or no service")?;
        if rest.contains('/') {
            return Err("it has a path; write it as the option `?endpoint=/path`");
        }
        let (service, port) = match rest.split_once(':') {
            None => (rest, ServicePort::Only),
            Some((service, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number = port.parse().ok().filter(|port| *port > 0);
                (service, ServicePort::Number(number.ok_or("its port is not a number from 1 to 65535")?))
            }
            Some((service, port)) if is_label(port) => (service, ServicePort::Name(port.to_owned())),
            Some(_) => return Err("its port is neither a number nor the name of a port"),
        };
        if !is_label(namespace) {
            return Err("its namespace is not a name of Kubernetes");
        }
        if !is_label(service) {
            return Err("its service is not a name of Kubernetes");
        }
        Ok(Self { namespace: namespace.to_owned(), service: service.to_owned(), port })
    }
}

impl fmt::Display for KubernetesService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, service, port } = self;
        write!(f, "k8s://{namespace}/{service}")?;
        match port {
            ServicePort::Only => Ok(()),
            ServicePort::Name(name) => write!(f, ":{name}"),
            ServicePort::Number(number) => write!(f, ":{number}"),
        }
    }
}

/// Whether it is a label of RFC 1123, as names of Kubernetes are.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_a_namespace_and_may_have_a_port() {
        for (text, port) in [
            ("shop/orders", ServicePort::Only),
            ("shop/orders:http-2", ServicePort::Name("http-2".into())),
            ("shop/orders:8080", ServicePort::Number(8080)),
        ] {
            let parsed = KubernetesService::parse(text).unwrap();
            assert_eq!((parsed.namespace.as_str(), parsed.service.as_str(), &parsed.port), ("shop", "orders", &port));
            assert_eq!(parsed.to_string(), format!("k8s://{text}"));
        }
        for (text, why) in [
            ("orders", "it has no namespace"),
            ("/orders", "its namespace is not"),
            ("Shop/orders", "its namespace is not"),
            ("shop/", "its service is not"),
            ("shop/orders.x", "its service is not"),
            ("shop/orders/rpc", "it has a path"),
            ("shop/orders:", "its port is not a number"),
            ("shop/orders:0", "its port is not a number"),
            ("shop/orders:65536", "its port is not a number"),
            ("shop/orders:a b", "its port is neither"),
            ("shop/orders:http:80", "its port is neither"),
        ] {
            let found = KubernetesService::parse(text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
