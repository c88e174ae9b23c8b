//! A call as a program: `byname call --as`.

mod curl;
mod http_request;
mod python;
mod rust;
mod typescript;

use std::path::PathBuf;
use std::time::Duration;

use byname::{FunctionSchema, ServiceSchema};
use serde_json::{Map, Value};

use self::http_request::HttpRequest;
pub(crate) use self::http_request::endpoint;
use crate::exit::CommandError;

/// The language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CallLanguage {
    Curl,
    Rust,
    Python,
    Typescript,
}

/// A call that is written down.
#[derive(Clone, Copy)]
pub(crate) struct WrittenCall<'c> {
    pub(crate) url: &'c str,
    pub(crate) name: &'c str,
    /// What the service tells of the function.
    pub(crate) known: Option<(&'c ServiceSchema, &'c FunctionSchema)>,
    /// Whether it takes a stream.
    pub(crate) takes: bool,
    /// Whether it returns a stream.
    pub(crate) streams: bool,
    pub(crate) arguments: &'c Map<String, Value>,
    pub(crate) headers: &'c [(String, String)],
    /// The key that was given. A call of a keyed function without one has a new key for each run.
    pub(crate) key: Option<&'c str>,
    pub(crate) credentials: &'c WrittenCredentials,
    pub(crate) timeout: Option<Duration>,
    /// Whether the calls of byname's client go over HTTP.
    pub(crate) over_http: bool,
}

/// By what the caller shows who it is, without the secrets.
#[derive(Clone, Debug, Default)]
pub(crate) struct WrittenCredentials {
    /// The environment variable with the token.
    pub(crate) token_variable: Option<String>,
    pub(crate) allow_plaintext_token: bool,
    pub(crate) ca: Option<PathBuf>,
    /// The files with the certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// The key of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum WrittenKey<'c> {
    Given(&'c str),
    /// One for each run of the program.
    New,
}

impl<'c> WrittenCall<'c> {
    /// The program. It is complete, except for what a comment in it says.
    pub(crate) fn text(&self, language: CallLanguage) -> Result<String, CommandError> {
        match language {
            CallLanguage::Curl => Ok(curl::program(&HttpRequest::new(self)?)),
            CallLanguage::Rust => Ok(rust::program(self)),
            CallLanguage::Python => python::program(&HttpRequest::new(self)?),
            CallLanguage::Typescript => typescript::program(&HttpRequest::new(self)?),
        }
    }

    fn function(&self) -> Option<&'c FunctionSchema> {
        self.known.map(|(_, function)| function)
    }

    fn key(&self) -> Option<WrittenKey<'c>> {
        let is_keyed = self.function().is_some_and(|function| function.keyed);
        self.key.map(WrittenKey::Given).or(is_keyed.then_some(WrittenKey::New))
    }
}

/// What a program that takes a stream does with its standard input.
const ITEMS_NOTE: &str = "The items come from standard input, one JSON value on each line.";

/// Why the key of a program is where it is.
const KEY_NOTE: &str = "Each run has a new key. A repetition of a call needs the key of the first one.";

/// The header that has credentials, other than a token.
const AUTHORIZATION: &str = "authorization";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A service with a function of each kind.
    fn service() -> ServiceSchema {
        let a = json!({ "name": "factor", "required": true, "schema": { "type": "integer" } });
        let item = json!({ "name": "items", "required": true, "schema": { "type": "integer" } });
        let returns = json!({ "type": "u64", "schema": { "type": "integer" } });
        ServiceSchema::from_json(&json!({ "version": 1, "functions": [
            { "name": "add", "arguments": [], "returns": returns },
            { "name": "pay", "arguments": [], "returns": returns, "keyed": true },
            { "name": "count", "arguments": [a], "returns": returns, "streams": true },
            { "name": "sum", "arguments": [a], "takes": item, "returns": returns },
            { "name": "big", "arguments": [], "returns": { "type": "u128", "schema": { "type": "integer" } } },
        ]}))
        .unwrap()
    }

    struct Written {
        service: ServiceSchema,
        arguments: Map<String, Value>,
        headers: Vec<(String, String)>,
        credentials: WrittenCredentials,
    }

    impl Written {
        fn new(arguments: Value) -> Self {
            let Value::Object(arguments) = arguments else { panic!("they have names") };
            Self { service: service(), arguments, headers: Vec::new(), credentials: WrittenCredentials::default() }
        }

        fn call(&self, name: &'static str) -> WrittenCall<'_> {
            let function = self.service.function(name);
            WrittenCall {
                url: "localhost:8080",
                name,
                known: function.map(|function| (&self.service, function)),
                takes: function.is_some_and(|function| function.takes.is_some()),
                streams: function.is_some_and(|function| function.streams),
                arguments: &self.arguments,
                headers: &self.headers,
                key: None,
                credentials: &self.credentials,
                timeout: None,
                over_http: false,
            }
        }
    }

    fn text(call: WrittenCall<'_>, language: CallLanguage) -> String {
        call.text(language).unwrap()
    }

    const LANGUAGES: [CallLanguage; 4] =
        [CallLanguage::Curl, CallLanguage::Rust, CallLanguage::Python, CallLanguage::Typescript];

    #[test]
    fn a_call_in_each_language() {
        let mut written = Written::new(json!({ "a": 1, "text": "it's" }));
        written.headers = vec![("x-team".to_owned(), "orders".to_owned())];
        let call = written.call("add");
        assert_eq!(
            text(call, CallLanguage::Curl),
            "curl http://localhost:8080/rpc/add \\\n  -H 'content-type: application/json' \\\n  -H 'x-team: orders' \\\n  \
             -d '{\"a\":1,\"text\":\"it'\\''s\"}'\n"
        );
        let expected = [
            (
                CallLanguage::Python,
                &["\"http://localhost:8080/rpc/add\",", r#"data="{\"a\":1,\"text\":\"it's\"}".encode()"#][..],
            ),
            (
                CallLanguage::Typescript,
                &["fetch(\"http://localhost:8080/rpc/add\"", "body: JSON.stringify({\"a\":1,\"text\":\"it's\"}),"],
            ),
            (
                CallLanguage::Rust,
                &[
                    ".kwarg(\"a\", 1)",
                    ".kwarg(\"text\", \"it's\")",
                    "client.call(\"add\", arguments).header(\"x-team\", \"orders\")",
                ],
            ),
        ];
        for (language, parts) in expected {
            let text = text(call, language);
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        let shown = text(WrittenCall { url: "unix:/run/a.sock", ..call }, CallLanguage::Curl);
        assert!(shown.contains("curl --unix-socket /run/a.sock http://localhost/rpc/add"), "{shown}");
    }

    #[test]
    fn where_a_language_cannot_make_the_call_the_error_names_those_that_can() {
        let mut written = Written::new(json!({}));
        let refused = |call: WrittenCall<'_>, language: CallLanguage, words: [&str; 2]| {
            let shown = format!("{:?}", call.text(language).unwrap_err());
            assert!(shown.contains("code: 2") && words.iter().all(|word| shown.contains(word)), "{shown}");
        };
        for language in [CallLanguage::Python, CallLanguage::Typescript] {
            let socket = WrittenCall { url: "unix:/run/a.sock", ..written.call("add") };
            refused(socket, language, ["--as curl", "--as rust"]);
        }
        for language in [CallLanguage::Curl, CallLanguage::Python, CallLanguage::Typescript] {
            refused(
                WrittenCall { url: "srv://_rpc._tcp.shop", ..written.call("add") },
                language,
                ["srv://", "--as rust"],
            );
            let named = WrittenCall { url: "10.0.0.1:1?tls=shop", ..written.call("add") };
            refused(named, language, ["tls=shop", "--as rust"]);
        }
        written.credentials.identity = Some(("client.pem".into(), "key.pem".into()));
        refused(written.call("add"), CallLanguage::Typescript, ["certificate", "--as curl"]);
    }

    #[test]
    fn the_settings_of_the_command_are_in_the_program_and_the_secret_is_not() {
        let mut written = Written::new(json!({}));
        written.headers = vec![("Authorization".to_owned(), "Basic c2VjcmV0".to_owned())];
        written.credentials = WrittenCredentials {
            token_variable: Some("SHOP_TOKEN".to_owned()),
            ca: Some("ca.pem".into()),
            ..WrittenCredentials::default()
        };
        let call =
            WrittenCall { key: Some("order-7"), timeout: Some(Duration::from_millis(50)), ..written.call("pay") };
        for language in LANGUAGES {
            let text = text(call, language);
            for part in ["SHOP_TOKEN", "ca.pem", "order-7", "50", "AUTHORIZATION"] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(!text.contains("c2VjcmV0"), "{text}");
        }
        for language in LANGUAGES {
            let text = text(written.call("pay"), language);
            assert!(text.contains(KEY_NOTE) && !text.contains("KEY\""), "{text}");
        }
    }

    #[test]
    fn numbers_are_what_was_written() {
        let written =
            Written::new(json!({ "a": [9_007_199_254_740_993_u64], "b": -3_000_000_000_i64, "text": "\u{1b}\u{8}" }));
        let rust = text(written.call("add"), CallLanguage::Rust);
        for part in ["json!([9007199254740993_i64])", "\"b\", -3000000000_i64", "\"\\u{1b}\\u{8}\""] {
            assert!(rust.contains(part), "{part}: {rust}");
        }
        let typescript = text(written.call("add"), CallLanguage::Typescript);
        assert!(typescript.contains(r#"body: "{\"a\":[9007199254740993],"#), "{typescript}");
        let wide: Value = serde_json::from_str(&u128::MAX.to_string()).unwrap();
        let written = Written::new(json!({ "n": wide }));
        let rust = text(written.call("big"), CallLanguage::Rust);
        assert!(rust.contains(".kwarg(\"n\", 340282366920938463463374607431768211455_u128)"), "{rust}");
        assert!(rust.contains("let result: u128 ="), "{rust}");
        // A literal would round them, or write them otherwise.
        for digits in
            ["[340282366920938463463374607431768211455]", "0.123456789012345678901234567891", "[1.10]", "-0", "1e+5"]
        {
            let nested = Written::new(json!({ "n": serde_json::from_str::<Value>(digits).unwrap() }));
            let rust = text(nested.call("add"), CallLanguage::Rust);
            let read = format!("serde_json::from_str::<serde_json::Value>(\"{digits}\")?");
            assert!(rust.contains("arbitrary_precision") && rust.contains(&read), "{rust}");
            let typescript = text(nested.call("add"), CallLanguage::Typescript);
            assert!(typescript.contains(&format!(r#"body: "{{\"n\":{digits}}}","#)), "{typescript}");
        }
        let usual = Written::new(json!({ "n": [0.5, 5, -7] }));
        let rust = text(usual.call("add"), CallLanguage::Rust);
        assert!(rust.contains("json!([0.5, 5, -7])") && !rust.contains("arbitrary_precision"), "{rust}");
    }

    #[test]
    fn streams_are_sent_by_lines_and_read_by_lines() {
        let written = Written::new(json!({ "factor": 2 }));
        let taken = [
            (CallLanguage::Curl, &["'http://localhost:8080/rpc/sum?factor=2'", "-X POST -T -", "x-ndjson"][..]),
            (CallLanguage::Python, &["params={\"factor\":\"2\"}", "data=iter(sys.stdin.buffer)", "x-ndjson"]),
            (CallLanguage::Typescript, &["/rpc/sum?factor=2\"", "Readable.toWeb(process.stdin)", "duplex: \"half\""]),
            (CallLanguage::Rust, &["client.call(\"sum\", arguments).streaming(items)", "arbitrary_precision"]),
        ];
        for (language, parts) in taken {
            let text = text(written.call("sum"), language);
            assert!(text.contains(ITEMS_NOTE) && parts.iter().all(|part| text.contains(part)), "{text}");
        }
        let returned = [
            (CallLanguage::Curl, "curl -N http://localhost:8080/rpc/count"),
            (CallLanguage::Python, "answer.iter_lines()"),
            (CallLanguage::Typescript, "answer.body?.pipeThrough(new TextDecoderStream())"),
            (CallLanguage::Rust, "client.stream::<serde_json::Value>(\"count\", arguments)"),
        ];
        for (language, part) in returned {
            let text = text(written.call("count"), language);
            assert!(text.contains(part), "{text}");
        }
    }
}
