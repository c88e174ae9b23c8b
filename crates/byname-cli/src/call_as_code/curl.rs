//! `--as curl`.

use super::http_request::{HeaderText, HttpRequest};
use crate::show::shell_word;

pub(super) fn program(request: &HttpRequest<'_>) -> String {
    let mut first = "curl".to_owned();
    // Items are shown when they come.
    if request.streams {
        first.push_str(" -N");
    }
    if let Some(socket) = &request.socket {
        first.push_str(&format!(" --unix-socket {}", shell_word(socket)));
    }
    let mut lines = vec![format!("{first} {}", shell_word(&request.url_and_query()))];
    if let Some(ca) = &request.credentials.ca {
        lines.push(format!("--cacert {}", shell_word(&ca.to_string_lossy())));
    }
    if let Some((cert, key)) = &request.credentials.identity {
        lines.push(format!(
            "--cert {} --key {}",
            shell_word(&cert.to_string_lossy()),
            shell_word(&key.to_string_lossy())
        ));
    }
    if let Some(time) = request.whole_ms {
        lines.push(format!("--max-time {}.{:03}", time / 1_000, time % 1_000));
    }
    lines.extend(request.headers.iter().map(|(name, value)| format!("-H {}", header(name, value))));
    match request.json() {
        Some(json) => lines.push(format!("-d {}", shell_word(&json))),
        None => lines.push("-X POST -T -".to_owned()),
    }
    let notes: String = request.notes.iter().map(|note| format!("# {note}\n")).collect();
    format!("{notes}{}\n", lines.join(" \\\n  "))
}

fn header(name: &str, value: &HeaderText) -> String {
    match value {
        // `NAME:` would be left out.
        HeaderText::Text(text) if text.is_empty() => shell_word(&format!("{name};")),
        HeaderText::Text(text) => shell_word(&format!("{name}: {text}")),
        HeaderText::Token(variable) => format!("\"{name}: Bearer ${variable}\""),
        HeaderText::Variable(variable) => format!("\"{name}: ${variable}\""),
        HeaderText::NewKey => format!("\"{name}: $(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')\""),
    }
}
