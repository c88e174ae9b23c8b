//! Says where a stub and the service differ, after one of them could not read a value of the other: [`ComparedCall`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Client;
use super::route::Route;
use super::stub_check::{breaks, described};
use super::typed_result::SAME_SIGNATURE;
use crate::deadline::later;
use crate::error::{Code, Error, Executed};
use crate::fingerprint_queue::finds_fingerprints;
use crate::method::Method;
use crate::outcome::{Failure, Returned};
use crate::untrusted_text::excerpt;

/// How long an error waits for the comparison. It is no longer than the call may take.
const LONGEST: Duration = Duration::from_secs(1);

/// How many differences an error lists, and the most bytes of their text: names and values in it are those of the service.
const LISTED: usize = 3;
const LONGEST_TEXT: usize = 1024;

/// A call of a stub, whose types may differ from those of the service.
pub(super) struct ComparedCall {
    client: Client,
    method: &'static Method,
    /// When the call is to end.
    deadline: Instant,
}

impl ComparedCall {
    /// `None` if nothing is compared: a call within the process hands values over as they are, and the code of types does not run
    /// beside calls if that could end the process.
    pub(super) fn new(client: &Client, method: Option<&'static Method>, deadline: Instant) -> Option<Self> {
        let is_compared = matches!(client.scope.way, Route::Remote(_)) && finds_fingerprints();
        method.filter(|_| is_compared).map(|method| Self { client: client.clone(), method, deadline })
    }

    /// The error that a comparison may explain: one side could not read what the other one has sent.
    pub(super) fn explicable(result: &Result<Returned, Failure>) -> Option<Error> {
        match result {
            Err(Failure::Rpc(error)) => {
                let is_of_arguments = error.code() == Code::InvalidArgument && error.executed() == Executed::No;
                (is_of_arguments && error.is_of_peer() || error.is_unreadable()).then(|| error.clone())
            }
            _ => None,
        }
    }

    /// The error with where the two sides differ, if that explains it and is found in time.
    pub(super) async fn explained(self, error: Error) -> Error {
        let until = later(Instant::now(), LONGEST).min(self.deadline);
        let differences = timeout_at(until, self.differences(until)).await;
        let Ok(Some(differences)) = differences else {
            return error;
        };
        let said = error.message().strip_suffix(SAME_SIGNATURE).unwrap_or(error.message());
        let said = format!("{said}; the service differs from what this client was built for: {differences}");
        error.message_is(said)
    }

    async fn differences(&self, until: Instant) -> Option<Arc<str>> {
        let Route::Remote(service) = &self.client.scope.way else {
            return None;
        };
        let name = format!("{}{}", self.client.scope.prefix, self.method.name);
        let cell = service.comparisons().cell(name, Instant::now());
        // A service that does not answer in time is not asked again at once either.
        cell.get_or_init(async || timeout_at(until, self.compare()).await.ok().flatten()).await.clone()
    }

    async fn compare(&self) -> Option<Arc<str>> {
        let mut remote = self.client.schema().await.ok()?;
        let own = described(&self.client.scope.prefix, vec![self.method]).await.ok()?;
        let name = own.functions.first()?.name.clone();
        remote.functions.retain(|function| function.name == name || function.aliases.contains(&name));
        let mut breaks = breaks(&own, &remote);
        if remote.note.is_some() || breaks.is_empty() {
            return None;
        }
        if breaks.len() > LISTED {
            let more = breaks.len() - LISTED;
            breaks.truncate(LISTED);
            breaks.push(format!("and {more} more, which `Client::check` lists"));
        }
        Some(excerpt(breaks.join("; "), LONGEST_TEXT).into())
    }
}
