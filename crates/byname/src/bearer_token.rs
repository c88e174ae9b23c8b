//! The tokens of `authorization: Bearer …`: [`BearerToken`], [`IssuedToken`].

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::error::{Code, Error};

const SCHEME: &str = "Bearer ";

/// The token that a caller sent in `authorization: Bearer …`. [`Request::bearer`](crate::Request::bearer) returns it.
///
/// It has no `==`, and `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct BearerToken<'r>(&'r str);

/// A token that was issued for some time. The function of [`Client::bearer_from`](crate::Client::bearer_from) returns it.
/// `Debug` does not show the token.
pub struct IssuedToken {
    pub(crate) token: String,
    pub(crate) expires_in: Duration,
}

impl<'r> BearerToken<'r> {
    /// The token, to be verified by what has issued it. To compare it with a token that is known, use
    /// [`matches`](Self::matches).
    pub fn as_str(self) -> &'r str {
        self.0
    }

    /// Whether it is this token. The time of the comparison says nothing about where two tokens of one length differ.
    pub fn matches(self, expected: &str) -> bool {
        is_equal(self.0.as_bytes(), expected.as_bytes())
    }

    /// The token among these headers, as RFC 6750 says: one `authorization`, the scheme in any case, one space, and a
    /// token of letters, digits and `-._~+/`, with `=` only at its end.
    pub(crate) fn of(headers: &HeaderMap) -> Option<BearerToken<'_>> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        // Of two tokens, the next program on the way may read the other one.
        let (Some(only), None) = (given.next(), given.next()) else {
            return None;
        };
        let (scheme, token) = only.to_str().ok()?.split_at_checked(SCHEME.len())?;
        (scheme.eq_ignore_ascii_case(SCHEME) && is_token(token)).then_some(BearerToken(token))
    }
}

/// The header that sends this token.
pub(crate) fn header(token: &str) -> Result<HeaderValue, Error> {
    let parsed = is_token(token).then(|| HeaderValue::try_from(format!("{SCHEME}{token}")).ok()).flatten();
    // The token is a secret, so it is not in the message.
    let mut value = parsed.ok_or_else(|| {
        let why = "this can't be a bearer token; expected ASCII letters, digits and `-._~+/`, with `=` only at the end, and \
                   without `Bearer` before it";
        Error::refused(Code::InvalidArgument, why)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The `b64token` of RFC 6750, section 2.1.
fn is_token(text: &str) -> bool {
    let bare = text.trim_end_matches('=');
    !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// Whether two texts are the same. The time depends on their lengths alone: the loop has no branch and reads each byte
/// once. `difference` is 0 at the end if and only if each `a ^ b` was 0, because `|` never clears a bit. `black_box` keeps
/// the compiler from leaving the loop once a bit is set.
pub(crate) fn is_equal(given: &[u8], expected: &[u8]) -> bool {
    if given.len() != expected.len() {
        return false;
    }
    let mut difference = 0;
    for (a, b) in given.iter().zip(expected) {
        difference = black_box(difference | (a ^ b));
    }
    difference == 0
}

impl IssuedToken {
    /// A token, and how long it is valid from now on.
    pub fn new(token: impl Into<String>, expires_in: Duration) -> Self {
        Self { token: token.into(), expires_in }
    }
}

impl fmt::Debug for BearerToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerToken").finish_non_exhaustive()
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(values: &[&str]) -> Option<String> {
        let headers: HeaderMap =
            values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap())).collect();
        BearerToken::of(&headers).map(|token| token.as_str().to_owned())
    }

    #[test]
    fn a_token_is_read_as_rfc_6750_says() {
        for (value, token) in
            [("Bearer mF_9.B5f-4.1JqM", "mF_9.B5f-4.1JqM"), ("bearer x", "x"), ("BEARER a~b+c/d==", "a~b+c/d==")]
        {
            assert_eq!(sent(&[value]).as_deref(), Some(token));
        }
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer  x",
            "Bearer x y",
            "Bearer x,y",
            "Bearer =",
            "Bearer a=b",
            "Bearerx",
            "Basic eDp5",
            "Bearer ü",
            "x",
            "Bea\u{e9}er x",
        ] {
            assert_eq!(sent(&[bad]), None, "{bad}");
        }
        assert_eq!(sent(&[]), None);
        assert_eq!(sent(&["Bearer a", "Bearer b"]), None, "which of them?");
    }

    #[test]
    fn a_token_matches_only_itself() {
        for (given, expected, is_same) in [
            ("abc", "abc", true),
            ("abc", "abd", false),
            ("abc", "xbc", false),
            ("abc", "ab", false),
            ("abc", "abcd", false),
            ("abc", "", false),
            // Two differences don't cancel each other.
            ("ab", "ba", false),
        ] {
            assert_eq!(BearerToken(given).matches(expected), is_same, "{given} {expected}");
        }
    }

    #[test]
    fn what_is_sent_is_read_back_and_nothing_shows_it() {
        let value = header("secret==").unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let token = BearerToken::of(&headers).unwrap();
        assert!(token.matches("secret=="));
        let issued = IssuedToken::new("secret", Duration::from_secs(60));
        let shown = format!("{headers:?} {token:?} {issued:?} {}", header("not a secret").unwrap_err());
        assert!(!shown.contains("secret") && shown.contains("60s"), "{shown}");
        for bad in ["", "a b", "=", "Bearer x", "a\r\nb", "ü"] {
            assert_eq!(header(bad).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }
}
