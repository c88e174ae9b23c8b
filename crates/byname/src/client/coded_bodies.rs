//! Compression on the client: what a request's body is compressed in, and answers that are decoded.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::http_request::{self, BodyCoding, CodedBody};
use super::http1_connection::{HttpResponse, UnreadBody};
use super::outgoing_call::OutgoingCall;
use crate::arguments::EncodedArguments;
use crate::content_coding::{AcceptedCodings, ContentCoding, LONGEST_PLAIN, decode_whole, encode_whole};
use crate::error::{Code, Error, Executed};

/// What the server of one service accepts.
#[derive(Debug, Default)]
pub(super) struct CodedBodies {
    /// The coding of requests that it prefers, as its position among all of them, counted from 1. 0 for none.
    accepted: AtomicUsize,
}

impl CodedBodies {
    /// Notes which requests the server accepts: `accept-encoding` of an answer says it (RFC 9110, section 12.5.3).
    pub(super) fn learn(&self, headers: &HeaderMap) {
        let preferred = AcceptedCodings::of(headers).preferred;
        let position = ContentCoding::ALL.iter().position(|coding| Some(*coding) == preferred);
        let accepted = position.map_or(0, |position| position + 1);
        if accepted != self.accepted.load(Ordering::Relaxed) {
            self.accepted.store(accepted, Ordering::Relaxed);
        }
    }

    fn accepted(&self) -> Option<ContentCoding> {
        ContentCoding::ALL.get(self.accepted.load(Ordering::Relaxed).checked_sub(1)?).copied()
    }

    /// Compresses the body of a call without streams, if the server accepts it and it is worth it.
    pub(super) async fn coding_for(
        &self,
        by_path: bool,
        outgoing: &OutgoingCall,
        args: &EncodedArguments,
        compress: bool,
    ) -> BodyCoding {
        let mut coded = None;
        if compress
            && let Some(coding) = self.accepted()
            && !outgoing.has_streams()
        {
            let (way, body) = http_request::body(by_path, outgoing, args);
            if body.len() > LONGEST_PLAIN
                && let Ok(encoded) = encode_whole(coding, &body).await
                && encoded.len() < body.len()
            {
                coded = Some(CodedBody { coding, way, body: encoded.into() });
            }
        }
        BodyCoding { accepts: true, coded }
    }
}

/// Decodes the body of an answer, if it is compressed. A body of more than `limit` bytes is too large.
pub(super) async fn decode(name: &str, answer: &mut HttpResponse, limit: usize) -> Result<(), Error> {
    let (Ok(Some(coding)), Ok(body)) = (ContentCoding::of(&answer.headers), &answer.body) else {
        return Ok(());
    };
    answer.body = match decode_whole(coding, body, limit).await {
        Ok(Some(body)) => Ok(body.into()),
        Ok(None) => Err(UnreadBody::TooLarge),
        Err(why) => {
            let executed = if answer.status.is_success() { Executed::Yes } else { Executed::Unknown };
            let why = format!("the reply of `{name}` can't be decoded: {why}");
            return Err(Error::new(Code::Internal, why).executed_is(executed));
        }
    };
    answer.headers.remove(CONTENT_ENCODING);
    Ok(())
}
