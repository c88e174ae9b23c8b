//! The HTTP methods that are answered.

use http::header::ALLOW;
use http::request::Parts;
use http::{HeaderValue, Method as Verb, StatusCode};

use super::answer::{HttpAnswer, Rejection, no_content};
use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verbs {
    /// A function, or the endpoint.
    Call,
    /// A function that changes nothing.
    Read,
    Probe,
}

impl Verbs {
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Call => "POST, OPTIONS",
            Self::Read => "GET, HEAD, POST, OPTIONS",
            Self::Probe => "GET, HEAD, OPTIONS",
        })
    }

    fn words(self) -> &'static str {
        match self {
            Self::Call => "POST",
            Self::Read => "POST or GET",
            Self::Probe => "GET",
        }
    }

    /// The answer to OPTIONS.
    pub(super) fn allowing(self) -> HttpAnswer {
        let mut out = no_content();
        out.headers_mut().insert(ALLOW, self.header());
        out
    }

    /// The answer to a request with another method.
    pub(super) fn refuse(self, head: &Parts) -> Result<HttpAnswer, Rejection> {
        if head.method == Verb::OPTIONS {
            return Ok(self.allowing());
        }
        let error = self.wrong_verb(None, &head.method, head.uri.path());
        Err(Rejection::new(StatusCode::METHOD_NOT_ALLOWED, error).with(ALLOW, self.header()))
    }

    /// Why `verb` calls nothing at this path.
    pub(super) fn wrong_verb(self, name: Option<&str>, verb: &Verb, path: &str) -> Error {
        let why = match name {
            Some(name) if self == Self::Call && [Verb::GET, Verb::HEAD].contains(verb) => {
                format!("{verb} may only call `readonly` functions, and {} is not one; use POST", quoted(name))
            }
            _ => format!("{} calls nothing at {}; use {}", quoted(verb.as_str()), quoted(path), self.words()),
        };
        Error::refused(Code::Unimplemented, why)
    }
}

/// Rejects an unknown method. It is wrong for every path.
pub(super) fn check_known(verb: &Verb) -> Result<(), Rejection> {
    let others = [Verb::HEAD, Verb::OPTIONS, Verb::PUT, Verb::DELETE, Verb::PATCH, Verb::TRACE];
    if *verb == Verb::POST || *verb == Verb::GET || others.contains(verb) {
        return Ok(());
    }
    let why = format!("{} is not a method that this server knows; use POST", quoted(verb.as_str()));
    Err(Rejection::new(StatusCode::NOT_IMPLEMENTED, Error::refused(Code::Unimplemented, why)))
}
