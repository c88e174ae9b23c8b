//! Lists and watches of EndpointSlices through the API server: [`ApiServer`].

use std::fmt::Display;
use std::io;
use std::time::Duration;

use http::StatusCode;
use http::header::AUTHORIZATION;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::time::Instant;

use super::endpoint_slice::SlicePage;
use super::pod_account::PodAccount;
use crate::client::kubernetes_service::KubernetesService;
use crate::clock_and_chance::random_number;
use crate::deadline::{before, later};
use crate::error::{Code, Error};
use crate::json_over_http::{JsonConnection, JsonRequest, JsonServer, JsonValues};
use crate::transport::{ClientTls, TlsConnector};
use crate::untrusted_text::{excerpt, quoted};

/// How many slices one part of a list has. A slice has up to 100 endpoints by default.
const PART: usize = 100;

/// How long a watch goes on before the API server ends it, in seconds, plus a random part of the same length. Then clients that
/// came at once do not come back at once.
const WATCH: u64 = 300;

/// How long the body of a failure may take.
const FAILURE: Duration = Duration::from_secs(5);

/// The most bytes of a text of the API server in a message.
const LONGEST_TEXT: usize = 600;

pub(super) struct ApiServer {
    server: JsonServer,
    account: PodAccount,
    namespace: String,
    /// The path with the query that selects the slices of the service.
    slices: String,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum ApiFailure {
    /// The API server does not remember what happened since.
    Expired,
    Failed(io::Error),
}

impl ApiServer {
    pub(super) fn new(service: &KubernetesService, account: PodAccount) -> Result<Self, Error> {
        let tls = ClientTls::new().roots(account.roots.as_path()).map_err(|why| {
            let why = format!("{service} is looked up with the account of a pod: {}", why.message());
            Error::refused(Code::FailedPrecondition, why)
        })?;
        let tls = Some(TlsConnector::new(Some(tls), &account.host)?);
        let server = JsonServer { host: account.host.clone(), port: account.port, tls };
        let KubernetesService { namespace, service, .. } = service;
        let slices = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
        );
        Ok(Self { server, account, namespace: namespace.clone(), slices })
    }

    /// A part of the list: the one that begins at `from`, or the first.
    pub(super) async fn list(
        &self,
        kept: &mut Option<JsonConnection>,
        from: Option<&str>,
    ) -> Result<SlicePage, ApiFailure> {
        let from = from.map(|from| format!("&continue={}", encoded(from))).unwrap_or_default();
        let path = format!("{}&limit={PART}{from}", self.slices);
        let (mut status, mut value) = self.ask(kept, &path).await?;
        if status == StatusCode::UNAUTHORIZED {
            // The token may have been replaced since it was read.
            (status, value) = self.ask(kept, &path).await?;
        }
        if status != StatusCode::OK {
            return Err(self.refused("list", status, &value));
        }
        SlicePage::of(&value).map_err(|why| self.failed(why))
    }

    /// What happens after this version.
    pub(super) async fn watch(&self, kept: Option<JsonConnection>, from: &str) -> Result<JsonValues, ApiFailure> {
        let seconds = WATCH + random_number() % (WATCH + 1);
        let from = encoded(from);
        let path =
            format!("{}&watch=1&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds={seconds}", self.slices);
        let begun = match kept {
            // It may be of a runtime that has ended.
            Some(kept) => self.begin(Some(kept), &path).await.ok(),
            None => None,
        };
        let mut values = match begun {
            Some(begun) => begun,
            None => self.begin(None, &path).await?,
        };
        if values.status == StatusCode::UNAUTHORIZED {
            values = self.begin(None, &path).await?;
        }
        if values.status == StatusCode::OK {
            return Ok(values);
        }
        let status = values.status;
        let told = before(later(Instant::now(), FAILURE), values.next()).await;
        Err(self.refused("watch", status, &told.and_then(Result::ok).flatten().unwrap_or_default()))
    }

    /// The failure, with the API server that it is of.
    pub(super) fn failed(&self, why: impl Display) -> ApiFailure {
        ApiFailure::Failed(self.error(why))
    }

    pub(super) fn error(&self, why: impl Display) -> io::Error {
        let why = excerpt(why, LONGEST_TEXT);
        io::Error::other(format!("the API server of Kubernetes at {}: {why}", self.server))
    }

    async fn ask(&self, kept: &mut Option<JsonConnection>, path: &str) -> Result<(StatusCode, Value), ApiFailure> {
        let request = self.request(path).await?;
        let mut connection = self.connection(kept.take()).await?;
        let answer = connection.ask(request).await.map_err(|why| self.failed(why))?;
        *kept = Some(connection);
        Ok(answer)
    }

    async fn begin(&self, kept: Option<JsonConnection>, path: &str) -> Result<JsonValues, ApiFailure> {
        let request = self.request(path).await?;
        self.connection(kept).await?.stream(request).await.map_err(|why| self.failed(why))
    }

    /// A request with the present token.
    async fn request(&self, path: &str) -> Result<JsonRequest, ApiFailure> {
        let authorization = self.account.authorization().await.map_err(ApiFailure::Failed)?;
        Ok(JsonRequest::get(path).header(AUTHORIZATION, authorization))
    }

    async fn connection(&self, kept: Option<JsonConnection>) -> Result<JsonConnection, ApiFailure> {
        match kept {
            Some(kept) => Ok(kept),
            None => self.server.connect().await.map_err(|why| self.failed(why)),
        }
    }

    /// What a status other than 200 means.
    fn refused(&self, verb: &str, status: StatusCode, told: &Value) -> ApiFailure {
        let message = told.get("message").and_then(Value::as_str).unwrap_or_default();
        let message = if message.is_empty() { String::new() } else { format!(": {}", excerpt(message, LONGEST_TEXT)) };
        match status {
            StatusCode::GONE => ApiFailure::Expired,
            StatusCode::FORBIDDEN => self.failed(format!(
                "the account of this pod may not {verb} EndpointSlices in the namespace `{}`; bind it to a Role with \
                 `apiGroups: [\"discovery.k8s.io\"]`, `resources: [\"endpointslices\"]`, `verbs: [\"get\", \"list\", \
                 \"watch\"]`{message}",
                self.namespace
            )),
            StatusCode::UNAUTHORIZED => {
                let token = quoted(&self.account.token.to_string_lossy());
                self.failed(format!("it does not accept the token {token}{message}"))
            }
            StatusCode::NOT_FOUND => self.failed(format!(
                "it has no EndpointSlices (`discovery.k8s.io/v1`), which Kubernetes has since version 1.21{message}"
            )),
            _ => self.failed(format!("it answered with the status {status}{message}")),
        }
    }
}

fn encoded(text: &str) -> impl Display + '_ {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
