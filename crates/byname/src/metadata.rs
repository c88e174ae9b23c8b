//! Headers that users give, checked.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Code, Error};
use crate::quote::quoted;

/// Headers by which HTTP says where a message and a connection end.
const OF_HTTP: [&str; 7] =
    ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Checks a header.
pub(crate) fn parse(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Error> {
    let invalid = |what: String, why: &str| {
        Error::refused(Code::InvalidArgument, format!("{what} can't stand in a header: {why}"))
    };
    let name: HeaderName = name
        .parse()
        .map_err(|_| invalid(quoted(name), "expected a name of ASCII letters, digits, `-` and `_`, without spaces"))?;
    if OF_HTTP.contains(&name.as_str()) {
        return Err(invalid(quoted(name.as_str()), "it is HTTP's own and says where a message ends"));
    }
    if name.as_str().starts_with("byname-") {
        return Err(invalid(quoted(name.as_str()), "it is the protocol's own; a deadline is set by `.timeout(…)`"));
    }
    // The value may be a secret, which has no place in a message.
    let value: HeaderValue = value.parse().map_err(|_| {
        invalid(format!("the value of `{name}`"), "expected visible ASCII characters and spaces, without line breaks")
    })?;
    Ok((name, value))
}

/// Sets a header, in place of what was there.
pub(crate) fn set(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Error> {
    let (name, value) = parse(name, value)?;
    headers.insert(name, value);
    Ok(())
}
