//! The key with which a call runs once: [`IdempotencyKey`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock_and_chance::random_number;
use crate::error::{Code, Error};

/// On a request: the key.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// On a reply: `true` if the function did not run for this call, because it had run before with the same key.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The most bytes of a key, as its caller writes it.
const LONGEST: usize = 255;

/// The key of a call that runs once, with the function and the caller that it belongs to. Two callers may use the same key,
/// and one caller may use it for two functions: those are different keys.
///
/// [`Context::idempotency_key`](crate::Context::idempotency_key) gives it to the function, and a [`KeyStore`](crate::KeyStore)
/// stores replies by it.
#[derive(Clone)]
pub struct IdempotencyKey {
    text: Arc<str>,
    arguments: [u8; 20],
    is_released: Arc<AtomicBool>,
}

impl IdempotencyKey {
    /// `caller` has no spaces.
    pub(crate) fn new(function: &str, caller: &str, key: &str, arguments: [u8; 20]) -> Self {
        let is_released = Arc::default();
        Self { text: format!("{function} {caller} {key}").into(), arguments, is_released }
    }

    /// The key as one text: the name of the function, the caller, and what the caller sent, with spaces between. It is the same
    /// in every process, so it can be the primary key of a table. It has no secrets: a token is in it as its SHA-1.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The function has changed nothing, so the call may run again with this key: its reply is not kept. Call this before the function
    /// returns an error that may pass, such as that of a database that is busy.
    ///
    /// ```
    /// # use byname::{Context, Error, Code, rpc};
    /// # fn has_connection() -> bool { true }
    /// #[rpc(keyed)]
    /// async fn pay(order: u64) -> Result<String, Error> {
    ///     if !has_connection() {
    ///         if let Some(key) = Context::current().as_ref().and_then(Context::idempotency_key) {
    ///             key.release();
    ///         }
    ///         return Err(Error::new(Code::Unavailable, "the database is busy"));
    ///     }
    ///     Ok(format!("{order} is paid"))
    /// }
    /// ```
    pub fn release(&self) {
        self.is_released.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.is_released.load(Ordering::Relaxed)
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// A hash of the arguments of the call.
    pub(crate) fn arguments(&self) -> [u8; 20] {
        self.arguments
    }
}

/// It shows no hash of the arguments, which says nothing to people.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdempotencyKey").field(&self.text).finish()
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Client: the header of a key.
pub(crate) fn key_header(key: &str) -> Result<HeaderValue, Error> {
    check(key)?;
    Ok(HeaderValue::try_from(key).expect("visible ASCII can stand in a header"))
}

/// Client: a new key.
pub(crate) fn random_key() -> HeaderValue {
    let key = format!("{:016x}{:016x}", random_number(), random_number());
    HeaderValue::try_from(key).expect("digits can stand in a header")
}

/// Whether a call has a key. It has few headers, so comparing their names takes less time than a look-up, which hashes the name.
#[inline]
pub(crate) fn has_key(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| *name == IDEMPOTENCY_KEY)
}

/// Server: the key of a call. `None` if it has none.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(invalid("the header `idempotency-key` is there twice; send one key with a call"));
    }
    // A value that is not text has no place in a message.
    let key = value.to_str().unwrap_or_default();
    check(key).map(|()| Some(key))
}

fn check(key: &str) -> Result<(), Error> {
    if (1..=LONGEST).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(invalid(&format!(
        "`idempotency-key` is not a key; expected 1 to {LONGEST} visible ASCII characters without spaces, such as a UUID"
    )))
}

fn invalid(why: &str) -> Error {
    Error::refused(Code::InvalidArgument, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_text_of_a_bounded_length() {
        let longest = "x".repeat(LONGEST);
        for key in ["a", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", "\"quoted\"", longest.as_str()] {
            let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, key_header(key).unwrap())]);
            assert_eq!(key_of(&headers).unwrap(), Some(key));
        }
        let too_long = "x".repeat(LONGEST + 1);
        for wrong in ["", "a b", "ä", "a\n", too_long.as_str()] {
            assert_eq!(key_header(wrong).unwrap_err().code(), Code::InvalidArgument, "{wrong}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(key_of(&headers).unwrap(), None);
        for value in ["a", "b"] {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
        }
        assert!(key_of(&headers).unwrap_err().message().contains("twice"));
        let raw = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_bytes(b"\xff").unwrap())]);
        assert!(key_of(&raw).is_err());
    }
}
