//! `--as typescript`, with `fetch`. Node.js runs the program as it is.

use serde_json::Value;

use super::http_request::{HeaderText, HttpRequest};
use crate::exit::CommandError;
use crate::terminal_text::json_line;

/// # Errors
///
/// `fetch` can't make the call.
pub(super) fn program(request: &HttpRequest<'_>) -> Result<String, CommandError> {
    request.refuse_socket("fetch")?;
    if request.credentials.identity.is_some() {
        return Err(CommandError::usage(
            "fetch can't show a client certificate; use `--as curl`, `--as python` or `--as rust`",
        ));
    }
    let mut notes: Vec<String> = request.notes.iter().map(|note| (*note).to_owned()).collect();
    if let Some(ca) = &request.credentials.ca {
        notes.push(format!(
            "Run it with NODE_EXTRA_CA_CERTS={}: fetch has no option for roots.",
            text(&ca.to_string_lossy())
        ));
    }
    let takes = request.body.is_none();
    if takes {
        notes.push("The answer is read when all items are sent: fetch does not read before that.".to_owned());
    }
    let notes: String = notes.iter().map(|note| format!("// {note}\n")).collect();
    let imports = if takes { "import { Readable } from \"node:stream\";\n\n" } else { "" };
    let body = match request.body {
        Some(arguments) => format!("  body: {},\n", body(&Value::Object(arguments.clone()))),
        None => "  body: Readable.toWeb(process.stdin),\n  duplex: \"half\",\n".to_owned(),
    };
    let signal = request.whole_ms.map(|time| format!("  signal: AbortSignal.timeout({time}),\n")).unwrap_or_default();
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| format!("{}: {}", text(name), header(value))).collect();
    Ok(format!(
        "{notes}{imports}const answer = await fetch({}, {{\n  method: \"POST\",\n  headers: {{ {} }},\n{body}{signal}}});\n\
         if (!answer.ok) throw new Error(await answer.text());\n{}",
        text(&request.url_and_query()),
        headers.join(", "),
        // The text has all digits of a number.
        if request.streams { ITEMS } else { "console.log(await answer.text());\n" }
    ))
}

/// Prints the items of a stream, in the text that they have in their lines.
const ITEMS: &str = r#"const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
let rest = "";
let isComplete = false;
while (reader && !isComplete) {
  const { done, value } = await reader.read();
  if (done) throw new Error("the stream was cut off");
  const lines = (rest + value).split("\n");
  rest = lines.pop() ?? "";
  for (const line of lines.filter((line) => line !== "")) {
    const { end, err } = JSON.parse(line);
    if (err !== undefined) throw new Error(JSON.stringify(err));
    if (end !== undefined) isComplete = true;
    // The text has all digits of a number.
    else console.log(line.slice('{"item":'.length, -1));
  }
}
"#;

/// An expression for the text of JSON. A literal would round the numbers that a number of JavaScript does not hold, and would change
/// the prototype by a member `__proto__`.
fn body(value: &Value) -> String {
    let json = json_line(value);
    if is_literal(value) { format!("JSON.stringify({json})") } else { text(&json) }
}

fn is_literal(value: &Value) -> bool {
    const GREATEST: i64 = (1 << 53) - 1;
    match value {
        // JavaScript writes 1e5, 1.0 and -0 otherwise. 15 digits are exact.
        Value::Number(number) => match (number.as_i64(), number.to_string()) {
            (Some(whole), text) => (-GREATEST..=GREATEST).contains(&whole) && whole.to_string() == text,
            (None, text) => text.len() <= 15 && text.parse::<f64>().is_ok_and(|float| float.to_string() == text),
        },
        Value::Array(items) => items.iter().all(is_literal),
        Value::Object(members) => members.iter().all(|(name, member)| name != "__proto__" && is_literal(member)),
        _ => true,
    }
}

/// A literal: each string of JSON is one of TypeScript.
fn text(of: &str) -> String {
    json_line(&Value::String(of.to_owned()))
}

fn header(value: &HeaderText) -> String {
    match value {
        HeaderText::Text(value) => text(value),
        HeaderText::Token(variable) => format!("`Bearer ${{process.env.{variable}}}`"),
        HeaderText::Variable(variable) => format!("process.env.{variable} ?? \"\""),
        HeaderText::NewKey => "crypto.randomUUID()".to_owned(),
    }
}
