//! `--as python`, with the package `requests`.

use serde_json::{Map, Value};

use super::http_request::{HeaderText, HttpRequest};
use crate::exit::CommandError;
use crate::terminal_text::json_line;

/// # Errors
///
/// `requests` can't make the call.
pub(super) fn program(request: &HttpRequest<'_>) -> Result<String, CommandError> {
    request.refuse_socket("python's requests")?;
    let has = |wanted: fn(&HeaderText) -> bool| request.headers.iter().any(|(_, value)| wanted(value));
    let takes = request.body.is_none();
    let imports: String = [
        ("json", request.streams),
        ("os", has(|value| matches!(value, HeaderText::Token(_) | HeaderText::Variable(_)))),
        ("sys", takes),
        ("uuid", has(|value| *value == HeaderText::NewKey)),
    ]
    .into_iter()
    .filter(|(_, counts)| *counts)
    .map(|(module, _)| format!("import {module}\n"))
    .collect();
    let gap = if imports.is_empty() { "" } else { "\n" };
    let notes: String = request.notes.iter().map(|note| format!("# {note}\n")).collect();
    let mut arguments = vec![text(&request.url)];
    if !request.query.is_empty() {
        let query: Map<_, _> =
            request.query.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
        arguments.push(format!("params={}", json_line(&Value::Object(query))));
    }
    // JSON is not a literal of Python: `true`, `null`. Its text keeps the digits of numbers.
    arguments.push(match request.json() {
        Some(json) => format!("data={}.encode()", text(&json)),
        None => "data=iter(sys.stdin.buffer)".to_owned(),
    });
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| format!("{}: {}", text(name), header(value))).collect();
    arguments.push(format!("headers={{{}}}", headers.join(", ")));
    let path = |path: &std::path::Path| text(&path.to_string_lossy());
    if let Some(ca) = &request.credentials.ca {
        arguments.push(format!("verify={}", path(ca)));
    }
    if let Some((cert, key)) = &request.credentials.identity {
        arguments.push(format!("cert=({}, {})", path(cert), path(key)));
    }
    if let Some(time) = request.whole_ms {
        arguments.push(format!("timeout={}.{:03}", time / 1_000, time % 1_000));
    }
    if request.streams {
        arguments.push("stream=True".to_owned());
    }
    let arguments: String = arguments.iter().map(|argument| format!("    {argument},\n")).collect();
    let result = if request.streams {
        ITEMS
    } else {
        "# The text has all digits of a number.\nprint(answer.content.decode())\n"
    };
    Ok(format!(
        "{notes}{imports}{gap}import requests\n\nanswer = requests.post(\n{arguments})\nif not answer.ok:\n    raise SystemExit(answer.text)\n{result}"
    ))
}

/// Prints the items of a stream, in the text that they have in their lines.
const ITEMS: &str = r#"for line in answer.iter_lines():
    read = json.loads(line) if line else {}
    if "item" in read:
        # The text has all digits of a number.
        print(line.decode().removeprefix('{"item":').removesuffix("}"), flush=True)
    elif "err" in read:
        raise SystemExit(json.dumps(read["err"]))
    elif "end" in read:
        break
else:
    raise SystemExit("the stream was cut off")
"#;

/// A literal: each string of JSON is one of Python.
fn text(of: &str) -> String {
    json_line(&Value::String(of.to_owned()))
}

fn header(value: &HeaderText) -> String {
    match value {
        HeaderText::Text(value) => text(value),
        HeaderText::Token(variable) => format!("\"Bearer \" + os.environ[{}]", text(variable)),
        HeaderText::Variable(variable) => format!("os.environ[{}]", text(variable)),
        HeaderText::NewKey => "str(uuid.uuid4())".to_owned(),
    }
}
