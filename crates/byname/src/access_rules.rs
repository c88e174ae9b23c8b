//! Which callers may call which functions: [`AccessRules`].

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};

use crate::catch_panic::{Panicked, caught};
use crate::error::{Code, Error};
use crate::metadata;
use crate::method::Method;
use crate::name::NamePattern;
use crate::peer::{Identity, Peer};
use crate::request::{MethodRef, Reply, Request};
use crate::untrusted_text::quoted;

/// How similar a known pattern is to what was written, at least, to be suggested: 1 is the same.
const ALIKE: f64 = 0.75;

/// The rules of a server. The first whose pattern matches the registered name of a function decides about its calls.
/// Where there are rules, a function that none matches can't be called.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessRules(Vec<AccessRule>);

#[derive(Clone)]
struct AccessRule {
    /// The error says why the text is not a pattern.
    pattern: Result<NamePattern, String>,
    condition: AccessCondition,
}

#[derive(Clone)]
enum AccessCondition {
    Anyone,
    If(Arc<dyn Fn(&Request) -> bool + Send + Sync>),
}

impl AccessRules {
    /// Adds a rule that admits the requests that `admits` is true for.
    pub(crate) fn push(&mut self, pattern: &str, admits: impl Fn(&Request) -> bool + Send + Sync + 'static) {
        let condition = AccessCondition::If(Arc::new(admits));
        self.0.push(AccessRule { pattern: NamePattern::parse(pattern), condition });
    }

    /// Adds a rule that admits every request.
    pub(crate) fn push_anyone(&mut self, pattern: &str) {
        self.0.push(AccessRule { pattern: NamePattern::parse(pattern), condition: AccessCondition::Anyone });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that each rule decides about at least one of these functions. A rule with a misspelt name would leave its
    /// function to a wider rule, or to no rule.
    pub(crate) fn check<'m>(&self, methods: impl Iterator<Item = &'m Method> + Clone) -> Result<(), Error> {
        for (at, rule) in self.0.iter().enumerate() {
            let invalid = |why: String| Error::refused(Code::InvalidArgument, why);
            let pattern = rule.pattern.as_ref().map_err(|why| invalid(format!("a rule of the server: {why}")))?;
            let mut matched = methods.clone().filter(|method| pattern.matches(&method.name)).peekable();
            if matched.peek().is_none() {
                let is_alias = |method: &&Method| method.aliases.iter().any(|alias| pattern.matches(alias));
                let hint = match methods.clone().find(is_alias) {
                    Some(method) => format!("it is an alias of `{0}`, so write `{0}`", method.name),
                    None => match similar(pattern, methods.clone()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "correct the pattern, or remove the rule".to_owned(),
                    },
                };
                return Err(invalid(format!("the rule for `{pattern}` matches no function of the server; {hint}")));
            }
            let decides = |method: &Method| self.deciding(&method.name).is_some_and(|first| std::ptr::eq(first, rule));
            if !matched.any(decides) {
                let earlier = self.0[..at].iter().filter_map(|rule| rule.pattern.as_ref().ok());
                let earlier = earlier.map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", ");
                let why = format!(
                    "the rule for `{pattern}` never decides, because rules before it match all its functions \
                     ({earlier}); put it before them, or remove it"
                );
                return Err(invalid(why));
            }
        }
        Ok(())
    }

    /// The functions that nobody can call, because no rule matches them.
    pub(crate) fn closed<'m>(&self, methods: impl Iterator<Item = &'m Method>) -> Vec<&'m str> {
        methods.map(|method| &*method.name).filter(|name| self.deciding(name).is_none()).collect()
    }

    /// Why these rules have refused a call of this function, for the log. `None` is a name that no function has.
    pub(crate) fn why_refused(&self, method: Option<&Method>) -> String {
        let Some(method) = method else {
            return "no function has this name, and the rules hide some from this caller".to_owned();
        };
        match self.deciding(&method.name).and_then(|rule| rule.pattern.as_ref().ok()) {
            Some(pattern) => format!("the rule for `{pattern}` does not admit its caller"),
            None => "no rule matches it".to_owned(),
        }
    }

    /// Whether the rules admit this request to this function. A rule that panics refuses.
    pub(crate) fn admit(&self, method: &Method, request: &Request) -> bool {
        match self.deciding(&method.name).map(|rule| &rule.condition) {
            Some(AccessCondition::Anyone) => true,
            Some(AccessCondition::If(admits)) => caught(|| admits(request)).unwrap_or_else(|Panicked| {
                let name = &method.name;
                tracing::error!(rpc.method = %name, "a rule for `{name}` panicked; the call is refused");
                false
            }),
            None => false,
        }
    }

    /// As [`admit`](Self::admit), for a function that this request does not call.
    pub(crate) fn would_admit(&self, method: &Arc<Method>, request: &mut Request) -> bool {
        let name = std::mem::replace(&mut request.name, (&*method.name).into());
        let called = request.method.replace(MethodRef::Shared(Arc::clone(method)));
        let admits = self.admit(method, request);
        (request.name, request.method) = (name, called);
        admits
    }

    fn deciding(&self, name: &str) -> Option<&AccessRule> {
        self.0.iter().find(|rule| rule.pattern.as_ref().is_ok_and(|pattern| pattern.matches(name)))
    }
}

/// The pattern that was probably meant: the name of a function, or all names below a word.
fn similar<'m>(pattern: &NamePattern, methods: impl Iterator<Item = &'m Method>) -> Option<String> {
    let written = pattern.to_string().to_ascii_lowercase();
    let mut known = BTreeSet::new();
    for method in methods {
        let dots = method.name.match_indices('.');
        known.extend(dots.map(|(dot, _)| format!("{}.*", &method.name[..dot])));
        known.insert(method.name.clone().into_owned());
    }
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_ascii_lowercase(), &written);
    let likest = known.into_iter().map(|known| (likeness(&known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    likest.filter(|(likeness, _)| *likeness > ALIKE).map(|(_, known)| known)
}

/// The refusal of a call. It is the same for a function that exists and for a name that no function has. `hint` is about
/// functions that the caller may call. `takes_certificates` says whether the server accepts certificates of clients.
pub(crate) fn refusal(request: &Request, takes_certificates: bool, hint: &str) -> Reply {
    let name = quoted(&request.name);
    let is_forwarded = request.is_forwarded || metadata::is_forwarded(&request.metadata);
    let is_identified = !is_forwarded && request.peer().is_some_and(has_proven_itself);
    let has_header = request.metadata.contains_key(AUTHORIZATION);
    let has_token = request.bearer().is_some();
    // Interceptors leave there what other credentials have proven.
    if is_identified || has_token || has_header && !request.extensions.is_empty() {
        let why = format!(
            "there is no function {name}, or this caller may not call it; check the name, and what the rules of the \
             server (`Server::allow`) ask of callers{hint}"
        );
        return Error::refused(Code::PermissionDenied, why).into();
    }
    let token = "send `authorization: Bearer …` (`Client::bearer`)";
    let remedy = if has_header {
        format!("{token}: the `authorization` of this call is not `Bearer`, one space and a token")
    } else if takes_certificates && !is_forwarded && request.peer().is_some() {
        format!("{token}, or present a certificate (`ClientTls::identity`)")
    } else {
        token.to_owned()
    };
    let why = format!(
        "there is no function {name}, or only callers that say who they are may call it; check the name, and {remedy}{hint}"
    );
    // RFC 9110, section 15.5.2, wants it beside a 401.
    let challenge = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))]);
    Reply { metadata: challenge, ..Error::refused(Code::Unauthenticated, why).into() }
}

/// Whether the connection proves who the caller is. What a proxy proves of itself says nothing about the caller behind it.
fn has_proven_itself(peer: &Peer) -> bool {
    match peer.identity {
        None => false,
        // The process is a proxy if it has introduced another caller by the PROXY protocol.
        Some(Identity::Unix(_)) => peer.address == peer.connection,
        // Such a proxy passes on the TLS handshake of its client.
        Some(Identity::Certificate(_)) => true,
    }
}

impl fmt::Debug for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = match self.condition {
            AccessCondition::Anyone => "anyone",
            AccessCondition::If(_) => "if",
        };
        f.debug_tuple("AccessRule").field(&self.pattern).field(&condition).finish()
    }
}
