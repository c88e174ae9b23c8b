//! Who may see the page at the endpoint, and how its calls are known: [`ConsoleToken`], [`PageAsked`].

use std::fmt;

use http::{HeaderMap, HeaderName};

use crate::bearer_token;
use crate::clock_and_chance::UnpredictableNumbers;
use crate::error::{Code, Error};
use crate::metadata::CONSOLE;

/// The name under which interceptors see a request for the page or one of its files.
pub(crate) const PAGE: &str = "!console";

/// Set in the extensions of a request for the page. A call of the name [`PAGE`] has no such mark, and is an unknown name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageAsked;

/// What the page of this server sends with its calls. Only a page of the server's own origin can read it.
pub(crate) struct ConsoleToken(String);

impl ConsoleToken {
    pub(crate) fn new() -> Self {
        let numbers = UnpredictableNumbers::new();
        Self(format!("{:016x}{:016x}", numbers.at(0), numbers.at(1)))
    }

    /// For the page, and for nothing else.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    /// Checks the token of a call that says that it comes from the page. Each way in does so before anything else sees
    /// the call.
    ///
    /// # Errors
    ///
    /// The token is another one.
    #[inline]
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Error> {
        // A call has few headers, so comparing their names takes less time than a look-up.
        static NAME: HeaderName = CONSOLE;
        if headers.is_empty() || headers.iter().all(|(name, _)| *name != NAME) {
            return Ok(());
        }
        self.check_given(headers)
    }

    fn check_given(&self, headers: &HeaderMap) -> Result<(), Error> {
        let mut given = headers.get_all(CONSOLE).iter();
        if let (Some(given), None) = (given.next(), given.next())
            && bearer_token::is_equal(given.as_bytes(), self.0.as_bytes())
        {
            return Ok(());
        }
        let why = "the token of the console is not that of this server, which was restarted or is another replica; reload \
                   the page";
        Err(Error::refused(Code::PermissionDenied, why))
    }
}

impl fmt::Debug for ConsoleToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleToken").finish_non_exhaustive()
    }
}

/// Whether a call comes from the page. Its token was [checked](ConsoleToken::check).
pub(crate) fn is_from_page(headers: &HeaderMap) -> bool {
    headers.contains_key(CONSOLE)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_token_is_right_and_each_server_has_its_own() {
        let token = ConsoleToken::new();
        let given = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONSOLE, HeaderValue::from_str(value).unwrap());
            }
            token.check(&headers).map_err(|why| why.code())
        };
        assert_eq!((given(&[]), given(&[token.secret()])), (Ok(()), Ok(())));
        let other = ConsoleToken::new();
        for wrong in [vec![""], vec![other.secret()], vec![&token.secret()[1..]], vec![token.secret(), token.secret()]]
        {
            assert_eq!(given(&wrong), Err(Code::PermissionDenied), "{wrong:?}");
        }
        assert_eq!(token.secret().len(), 32);
        assert!(!format!("{token:?}").contains(token.secret()));
    }
}
