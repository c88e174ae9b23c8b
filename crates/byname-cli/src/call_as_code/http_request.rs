//! A call as a request of HTTP, in parts that a program of any language can write: [`HttpRequest`].

use byname::ServiceSchema;
use serde_json::{Map, Value};

use super::{AUTHORIZATION, ITEMS_NOTE, KEY_NOTE, WrittenCall, WrittenCredentials, WrittenKey};
use crate::exit::CommandError;
use crate::terminal_text::json_line;

pub(super) struct HttpRequest<'c> {
    /// What the program says before it begins.
    pub(super) notes: Vec<&'static str>,
    /// The URL of the function, without the query.
    pub(super) url: String,
    pub(super) socket: Option<String>,
    /// The arguments of a function that takes a stream.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(String, HeaderText)>,
    /// The arguments as JSON. `None` if the body has the items of a stream.
    pub(super) body: Option<&'c Map<String, Value>>,
    pub(super) streams: bool,
    pub(super) credentials: &'c WrittenCredentials,
    /// The time of the whole call, which a stream has not.
    pub(super) whole_ms: Option<u64>,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum HeaderText {
    Text(String),
    /// `Bearer`, and the value of this environment variable.
    Token(String),
    /// The value of this environment variable.
    Variable(&'static str),
    NewKey,
}

impl<'c> HttpRequest<'c> {
    /// # Errors
    ///
    /// HTTP can't be sent to the address.
    pub(super) fn new(call: &WrittenCall<'c>) -> Result<Self, CommandError> {
        let address = HttpAddress::of(call.url)
            .map_err(|why| CommandError::usage(format!("{why}, which only byname's client does; use `--as rust`")))?;
        let key = call.key();
        let notes = [
            (
                address.is_first_of_several,
                "This is the first of several addresses. byname's client chooses among them.",
            ),
            (call.takes, ITEMS_NOTE),
            (key == Some(WrittenKey::New), KEY_NOTE),
        ];
        let timeout_ms = call.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1));
        let in_query = |(name, value): (&String, &Value)| {
            let schema = call.known.and_then(|(service, function)| {
                let argument = function.arguments.iter().find(|argument| argument.name == *name)?;
                Some((service, &argument.schema))
            });
            Some((name.clone(), query_text(schema, value)?))
        };
        let query = if call.takes { call.arguments.iter().filter_map(in_query).collect() } else { Vec::new() };
        Ok(Self {
            notes: notes.into_iter().filter(|(counts, _)| *counts).map(|(_, note)| note).collect(),
            url: format!("{}/{}", address.endpoint, call.name),
            socket: address.socket,
            query,
            headers: headers(call, key, timeout_ms),
            body: (!call.takes).then_some(call.arguments),
            streams: call.streams,
            credentials: call.credentials,
            whole_ms: timeout_ms.filter(|_| !call.streams),
        })
    }

    /// The URL with the query.
    pub(super) fn url_and_query(&self) -> String {
        let pairs: Vec<_> =
            self.query.iter().map(|(name, value)| format!("{}={}", percent(name), percent(value))).collect();
        if pairs.is_empty() { self.url.clone() } else { format!("{}?{}", self.url, pairs.join("&")) }
    }

    /// The arguments as the text of JSON.
    pub(super) fn json(&self) -> Option<String> {
        self.body.map(|arguments| json_line(&Value::Object(arguments.clone())))
    }

    /// # Errors
    ///
    /// The service is at a unix socket.
    pub(super) fn refuse_socket(&self, language: &str) -> Result<(), CommandError> {
        match self.socket {
            Some(_) => Err(CommandError::usage(format!(
                "{language} can't call a service at a unix socket; use `--as curl` or `--as rust`"
            ))),
            None => Ok(()),
        }
    }
}

fn headers(call: &WrittenCall<'_>, key: Option<WrittenKey<'_>>, timeout_ms: Option<u64>) -> Vec<(String, HeaderText)> {
    let content_type = if call.takes { "application/x-ndjson" } else { "application/json" };
    let mut headers = vec![("content-type".to_owned(), HeaderText::Text(content_type.to_owned()))];
    let mut push = |name: &str, text: HeaderText| headers.push((name.to_owned(), text));
    match key {
        Some(WrittenKey::Given(key)) => push("idempotency-key", HeaderText::Text(key.to_owned())),
        Some(WrittenKey::New) => push("idempotency-key", HeaderText::NewKey),
        None => {}
    }
    if let Some(timeout) = timeout_ms {
        push("byname-timeout-ms", HeaderText::Text(timeout.to_string()));
    }
    if let Some(variable) = &call.credentials.token_variable {
        push(AUTHORIZATION, HeaderText::Token(variable.clone()));
    }
    for (name, value) in call.headers {
        match name.eq_ignore_ascii_case(AUTHORIZATION) {
            true => push(name, HeaderText::Variable("AUTHORIZATION")),
            false => push(name, HeaderText::Text(value.clone())),
        }
    }
    headers
}

/// The text of an argument in a query: a string as it is where the argument takes one, and otherwise JSON. `None` if it is left out.
fn query_text(schema: Option<(&ServiceSchema, &Value)>, value: &Value) -> Option<String> {
    let text = Value::String("text".to_owned());
    let takes_only_text = schema
        .is_some_and(|(service, schema)| service.accepts(schema, &text) && !service.accepts(schema, &Value::from(7)));
    match value {
        // In a query the word `null` would be a text.
        Value::Null if takes_only_text => None,
        Value::String(text) if takes_only_text || serde_json::from_str::<Value>(text).is_err() => Some(text.clone()),
        other => Some(json_line(other)),
    }
}

/// Text in a query.
fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Where HTTP is sent.
struct HttpAddress {
    /// The URL of the endpoint.
    endpoint: String,
    socket: Option<String>,
    is_first_of_several: bool,
}

impl HttpAddress {
    /// # Errors
    ///
    /// It says what the address asks for.
    fn of(service: &str) -> Result<Self, String> {
        let (places, options) = service.split_once('?').unwrap_or((service, ""));
        let mut path = None;
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.strip_prefix("endpoint=") {
                Some(of) => path = Some(of),
                None => return Err(format!("the address has the option `{option}`")),
            }
        }
        let first = places.split(',').next().unwrap_or(places);
        let is_first_of_several = first.len() < places.len();
        if let Some(socket) = first.strip_prefix("unix:") {
            let socket = socket.strip_prefix("//").unwrap_or(socket).to_owned();
            let endpoint = format!("http://localhost{}", path.unwrap_or("/rpc").trim_end_matches('/'));
            return Ok(Self { endpoint, socket: Some(socket), is_first_of_several });
        }
        let (scheme, hosts) = places.split_once("://").unwrap_or(("http", places));
        if !["http", "https"].contains(&scheme) {
            return Err(format!("`{scheme}://` is looked up"));
        }
        // The path stands behind the last host.
        let last = hosts.rsplit(',').next().unwrap_or(hosts);
        let own = last.find('/').map(|at| last[at..].trim_end_matches('/')).filter(|path| !path.is_empty());
        let path = own.or(path).unwrap_or("/rpc").trim_end_matches('/');
        let host = hosts.split([',', '/']).next().unwrap_or(hosts);
        Ok(Self { endpoint: format!("{scheme}://{host}{path}"), socket: None, is_first_of_several })
    }
}

/// The URL of the endpoint, of the first address if there are several. What has no URL stays as it is.
pub(crate) fn endpoint(service: &str) -> String {
    HttpAddress::of(service).map_or_else(|_| service.to_owned(), |address| address.endpoint)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_has_one_url() {
        for (service, expected) in [
            ("localhost:8080", "http://localhost:8080/rpc"),
            ("https://shop.example/api/rpc/", "https://shop.example/api/rpc"),
            ("http://shop.example/", "http://shop.example/rpc"),
            ("10.0.0.1:1,10.0.0.2:1/orders", "http://10.0.0.1:1/orders"),
            ("10.0.0.1:1?endpoint=/orders", "http://10.0.0.1:1/orders"),
            ("unix:/run/a.sock?endpoint=/api", "http://localhost/api"),
            ("[::1]:80", "http://[::1]:80/rpc"),
        ] {
            assert_eq!(endpoint(service), expected);
        }
    }

    #[test]
    fn an_argument_in_a_query_is_a_text_or_json() {
        let service = ServiceSchema::from_json(&json!({ "version": 1, "functions": [] })).unwrap();
        let text = json!({ "type": "string" });
        let optional = json!({ "anyOf": [text, { "type": "null" }] });
        let number = json!({ "type": "integer" });
        for (schema, value, expected) in [
            (&text, json!("7"), Some("7")),
            (&json!(true), json!("7"), Some("\"7\"")),
            (&json!(true), json!("a b"), Some("a b")),
            (&number, json!(7), Some("7")),
            (&number, json!(null), Some("null")),
            (&optional, json!(null), None),
            (&json!({ "type": "array" }), json!([1, "x"]), Some("[1,\"x\"]")),
        ] {
            assert_eq!(query_text(Some((&service, schema)), &value).as_deref(), expected, "{schema} {value}");
        }
        assert_eq!(percent("ä b&c"), "%C3%A4%20b%26c");
    }
}
