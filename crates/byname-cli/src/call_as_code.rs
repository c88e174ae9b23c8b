//! A call as a program: `byname call --as`.

use serde_json::{Map, Value};

use crate::show::shell_word;
use crate::terminal_text::{json_line, json_lines};

/// The language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CallLanguage {
    Curl,
    Rust,
    Python,
    Typescript,
}

/// A call that is written down.
pub(crate) struct WrittenCall<'c> {
    pub(crate) url: &'c str,
    pub(crate) name: &'c str,
    pub(crate) arguments: &'c Map<String, Value>,
    pub(crate) headers: &'c [(String, String)],
    pub(crate) keyed: bool,
}

impl WrittenCall<'_> {
    pub(crate) fn text(&self, language: CallLanguage) -> String {
        match language {
            CallLanguage::Curl => self.curl(),
            CallLanguage::Rust => self.rust(),
            CallLanguage::Python => self.python(),
            CallLanguage::Typescript => self.typescript(),
        }
    }

    fn body(&self) -> Value {
        Value::Object(self.arguments.clone())
    }

    /// The headers of HTTP. Of a call that runs once, the key is one for each call.
    fn headers(&self, key: &str) -> Vec<(String, String)> {
        let key = self.keyed.then(|| ("idempotency-key".to_owned(), key.to_owned()));
        let json = ("content-type".to_owned(), "application/json".to_owned());
        [json].into_iter().chain(key).chain(self.headers.iter().cloned()).collect()
    }

    fn curl(&self) -> String {
        let (socket, url) = match http_url(self.url) {
            HttpUrl::Tcp(url) => (String::new(), url),
            HttpUrl::Unix { socket, url } => (format!("--unix-socket {} ", shell_word(&socket)), url),
        };
        let headers = self
            .headers("KEY")
            .into_iter()
            .map(|(name, value)| format!(" \\\n  -H {}", shell_word(&format!("{name}: {value}"))));
        let url = shell_word(&format!("{url}/{}", self.name));
        format!("curl {socket}{url}{} \\\n  -d {}\n", headers.collect::<String>(), shell_word(&json_line(&self.body())))
    }

    fn rust(&self) -> String {
        let headers =
            self.headers.iter().map(|(name, value)| format!(".header({name:?}, {value:?})")).collect::<String>();
        let key = if self.keyed { ".idempotency_key(&key)" } else { "" };
        format!(
            "let client = byname::Client::new({:?})?;\nlet arguments = {};\nlet result: serde_json::Value = \
             client.call({:?}, arguments){headers}{key}.await?;\n",
            self.url,
            rust_json(&self.body()),
            self.name
        )
    }

    fn python(&self) -> String {
        let (HttpUrl::Tcp(url) | HttpUrl::Unix { url, .. }) = http_url(self.url);
        let headers: Map<_, _> =
            self.headers("KEY").into_iter().skip(1).map(|(name, value)| (name, Value::String(value))).collect();
        let headers = if headers.is_empty() {
            String::new()
        } else {
            format!(", headers={}", json_line(&Value::Object(headers)))
        };
        // JSON is not a literal of Python: `true`, `null`.
        let body = Value::String(json_line(&self.body())).to_string();
        format!(
            "import json\n\nimport requests\n\nanswer = requests.post({url:?} + {:?}, json=json.loads({body}){headers})\n\
             answer.raise_for_status()\nprint(answer.json())\n",
            format!("/{}", self.name)
        )
    }

    fn typescript(&self) -> String {
        let (HttpUrl::Tcp(url) | HttpUrl::Unix { url, .. }) = http_url(self.url);
        let headers: Map<_, _> =
            self.headers("KEY").into_iter().map(|(name, value)| (name, Value::String(value))).collect();
        format!(
            "const answer = await fetch({:?}, {{\n  method: \"POST\",\n  headers: {},\n  body: {},\n}});\n\
             if (!answer.ok) throw new Error(await answer.text());\nconsole.log(await answer.json());\n",
            format!("{url}/{}", self.name),
            json_line(&Value::Object(headers)),
            typescript_json(&self.body())
        )
    }
}

/// An expression for the text of JSON. A number of JavaScript has 53 bits, so a greater one is in a string.
fn typescript_json(value: &Value) -> String {
    let text = json_line(value);
    match has_integer_beyond(1 << 53, value) {
        true => Value::String(text).to_string(),
        false => format!("JSON.stringify({text})"),
    }
}

/// An expression for a value of serde_json. An integer without a type has 32 bits, so a greater one is in a string.
fn rust_json(value: &Value) -> String {
    match has_integer_beyond(i32::MAX.into(), value) {
        true => format!("serde_json::from_str::<serde_json::Value>({:?})?", json_line(value)),
        false => format!("serde_json::json!({})", json_lines(value)),
    }
}

fn has_integer_beyond(greatest: i64, value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let is_within = |number: i64| (-greatest..=greatest).contains(&number);
            !number.is_f64() && !number.as_i64().is_some_and(is_within)
        }
        Value::Array(items) => items.iter().any(|item| has_integer_beyond(greatest, item)),
        Value::Object(members) => members.values().any(|member| has_integer_beyond(greatest, member)),
        _ => false,
    }
}

enum HttpUrl {
    Tcp(String),
    Unix { socket: String, url: String },
}

/// The address of the endpoint as a URL, of the first replica if there are several.
fn http_url(service: &str) -> HttpUrl {
    let first = service.split(',').next().unwrap_or(service);
    if let Some(socket) = first.strip_prefix("unix:") {
        let (socket, endpoint) = socket.split_once("?endpoint=").unwrap_or((socket, "/rpc"));
        let socket = socket.strip_prefix("//").unwrap_or(socket).to_owned();
        return HttpUrl::Unix { socket, url: format!("http://localhost{endpoint}") };
    }
    let url = if first.contains("://") { first.to_owned() } else { format!("http://{first}") };
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.trim_end_matches('/').contains('/'));
    let url = url.trim_end_matches('/');
    HttpUrl::Tcp(if has_path { url.to_owned() } else { format!("{url}/rpc") })
}

/// The path of the endpoint, or its URL.
pub(crate) fn endpoint(service: &str) -> String {
    let (HttpUrl::Tcp(url) | HttpUrl::Unix { url, .. }) = http_url(service);
    url
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_in_each_language() {
        let arguments = json!({ "a": 1, "text": "it's" });
        let call = WrittenCall {
            url: "localhost:8080",
            name: "add",
            arguments: arguments.as_object().unwrap(),
            headers: &[("x-team".to_owned(), "orders".to_owned())],
            keyed: false,
        };
        assert_eq!(
            call.text(CallLanguage::Curl),
            "curl http://localhost:8080/rpc/add \\\n  -H 'content-type: application/json' \\\n  -H 'x-team: orders' \\\n  \
             -d '{\"a\":1,\"text\":\"it'\\''s\"}'\n"
        );
        assert!(call.text(CallLanguage::Python).contains("requests.post(\"http://localhost:8080/rpc\" + \"/add\""));
        assert!(call.text(CallLanguage::Typescript).contains("fetch(\"http://localhost:8080/rpc/add\""));
        assert!(
            call.text(CallLanguage::Rust).contains("client.call(\"add\", arguments).header(\"x-team\", \"orders\")")
        );
        assert!(call.text(CallLanguage::Typescript).contains("body: JSON.stringify({\"a\":1,\"text\":\"it's\"}),"));
        let wide = json!({ "id": [9_007_199_254_740_993_u64], "text": "\u{2028}" });
        let in_rust = WrittenCall { arguments: wide.as_object().unwrap(), ..call }.text(CallLanguage::Rust);
        assert!(in_rust.contains(r#"Value>("{\"id\":[9007199254740993],"#), "{in_rust}");
        assert!(call.text(CallLanguage::Rust).contains("serde_json::json!({\n  \"a\": 1,"));
        let wide = WrittenCall { arguments: wide.as_object().unwrap(), ..call }.text(CallLanguage::Typescript);
        assert!(wide.contains(r#"body: "{\"id\":[9007199254740993],\"text\":\"#), "{wide}");
        assert_eq!(endpoint("https://shop.example/api/rpc/"), "https://shop.example/api/rpc");
        assert!(
            WrittenCall { url: "unix:/run/a.sock", ..call }
                .text(CallLanguage::Curl)
                .contains("--unix-socket /run/a.sock http://localhost/rpc/add")
        );
    }
}
