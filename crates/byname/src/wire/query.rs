//! The query of a GET: arguments by name, percent-encoded.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::error::{Code, Error};
use crate::untrusted_text::quoted;

/// Server: the arguments of a GET, encoded as a form encodes them. Invalid UTF-8 is an error; the rules of forms would
/// replace it.
pub(crate) fn read(query: &str) -> Result<Vec<(String, String)>, Error> {
    let text = |encoded: &str| {
        let decoded = percent_decode_str(&encoded.replace('+', " ")).decode_utf8().map(Cow::into_owned);
        let no_text = || format!("{} in the query is not UTF-8, expected text in percent-encoding", quoted(encoded));
        decoded.map_err(|_| Error::refused(Code::InvalidArgument, no_text()))
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Ok((text(name)?, text(value)?)))
        .collect()
}
