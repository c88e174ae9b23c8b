//! The account of the pod that this process runs in: [`PodAccount`].

use std::env;
use std::io;
use std::path::PathBuf;

use http::HeaderValue;

use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

/// Where Kubernetes puts the account of a pod.
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where the API server is, and the files of the account. Kubernetes writes a new token into its file before the old one ends.
#[derive(Clone, Debug)]
pub(super) struct PodAccount {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) token: PathBuf,
    /// The certificate of the authority that has signed the API server's.
    pub(super) roots: PathBuf,
}

impl PodAccount {
    /// `url` is what needs it.
    pub(super) fn of_this_pod(url: &str) -> Result<Self, Error> {
        let variable = |name: &str| {
            env::var(name).map_err(|_| {
                let why = format!(
                    "{url} is looked up with the account of a pod, but the variable {name} is not set, which Kubernetes sets in \
                     each pod; outside of a cluster use the address of the service"
                );
                Error::refused(Code::FailedPrecondition, why)
            })
        };
        let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
        let port = port.parse().map_err(|_| {
            let why = format!("the variable KUBERNETES_SERVICE_PORT is {}, which is no port", quoted(&port));
            Error::refused(Code::FailedPrecondition, why)
        })?;
        let folder = PathBuf::from(FOLDER);
        Ok(Self { host, port, token: folder.join("token"), roots: folder.join("ca.crt") })
    }

    /// The present token, as a header.
    pub(super) async fn authorization(&self) -> io::Result<HeaderValue> {
        let path = self.token.clone();
        let read =
            crate::runtime::run_blocking(move || std::fs::read_to_string(path)).await.map_err(io::Error::other)?;
        let name = quoted(&self.token.to_string_lossy());
        let token = read.map_err(|why| io::Error::new(why.kind(), format!("can't read the token {name}: {why}")))?;
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("the file {name} holds no token")))?;
        header.set_sensitive(true);
        Ok(header)
    }
}
