//! Arguments as they are written in a command: [`arguments`].

use std::fs;
use std::io::{self, Read as _};

use byname::{Args, ArgumentSchema, Bytes, FunctionSchema, ServiceSchema};
use serde_json::{Map, Value, json};

use crate::exit::CommandError;
use crate::repeated_names::repeated_name;
use crate::terminal_text::{inert, say};
use crate::type_notation::is_bytes;

/// The arguments of a call, by position and by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WrittenArguments {
    pub(crate) positional: Vec<Value>,
    pub(crate) named: Map<String, Value>,
}

/// Reads `1`, `name=value`, `name.property=value`, `@file` and `@-`. Those in `unnamed` have no names. With a schema, `a=1` is a
/// named argument only if the function has one of that name.
pub(crate) fn arguments(
    known: Option<(&ServiceSchema, &FunctionSchema)>,
    words: &[String],
    unnamed: &[String],
) -> Result<WrittenArguments, CommandError> {
    let words_of_input = words.iter().chain(unnamed).filter(|word| is_standard_input(word));
    if words_of_input.count() > 1 {
        return Err(CommandError::usage("standard input is given to two arguments by `@-`, and can be read once"));
    }
    let mut written = WrittenArguments::default();
    for word in words {
        match named(known, word) {
            Some((path, text)) => {
                let value = match known {
                    Some((service, function)) => {
                        let argument = function.arguments.iter().find(|argument| argument.name == path[0]);
                        let is_file =
                            path.len() == 1 && argument.is_some_and(|argument| takes_bytes(service, argument));
                        let schema = schema_at(service, function, &path);
                        value(schema.as_ref().map(|schema| (service, schema)), is_file, text)?
                    }
                    None => value(None, false, text)?,
                };
                put(&mut written.named, &path, value).map_err(CommandError::usage)?;
            }
            None => {
                let at = written.positional.len();
                if let Some(doubt) = known.and_then(|(service, function)| doubt(service, function, at, word)) {
                    say(format_args!("warning: {}", inert(&doubt)));
                }
                written.positional.push(positional(known, at, word)?);
            }
        }
    }
    for word in unnamed {
        written.positional.push(positional(known, written.positional.len(), word)?);
    }
    Ok(written)
}

/// Whether an argument is read from standard input.
pub(crate) fn is_standard_input(word: &str) -> bool {
    word == "@-" || word.ends_with("=@-")
}

impl WrittenArguments {
    /// The arguments of `--json`: an object has them by name, an array by position. `@file` is a file, and `-` is standard input.
    pub(crate) fn of_json(text: &str) -> Result<Self, CommandError> {
        let text = match (text, text.strip_prefix('@')) {
            ("-" | "@-", _) => in_utf8(text, standard_input()?)?,
            (_, Some(path)) => in_utf8(text, file(path)?)?,
            (_, None) => text.to_owned(),
        };
        match json_of_distinct_names(&text) {
            Ok(Value::Array(positional)) => Ok(Self { positional, named: Map::new() }),
            Ok(Value::Object(named)) => Ok(Self { positional: Vec::new(), named }),
            Ok(_) => Err(CommandError::usage("--json expects an object of arguments by name, or an array by position")),
            Err(why) => Err(CommandError::usage(format!("--json: {why}"))),
        }
    }

    pub(crate) fn into_args(self) -> Args {
        let args = self.positional.into_iter().fold(Args::new(), Args::arg);
        self.named.into_iter().fold(args, |args, (name, value)| args.kwarg(&name, value))
    }

    /// All by name, for those whose names are known.
    pub(crate) fn by_name(&self, function: Option<&FunctionSchema>) -> Option<Map<String, Value>> {
        let mut all = self.named.clone();
        for (at, value) in self.positional.iter().enumerate() {
            all.insert(function?.arguments.get(at)?.name.clone(), value.clone());
        }
        Some(all)
    }
}

/// The path and the value of `user.name=Ada`.
fn named<'w>(known: Option<(&ServiceSchema, &FunctionSchema)>, word: &'w str) -> Option<(Vec<String>, &'w str)> {
    let (path, text) = path_and_text(word)?;
    let is_known = match known {
        Some((_, function)) => function.arguments.iter().any(|argument| argument.name == path[0]),
        None => path.iter().all(|part| is_name(part)),
    };
    is_known.then_some((path, text))
}

fn path_and_text(word: &str) -> Option<(Vec<String>, &str)> {
    let (name, text) = word.split_once('=')?;
    Some((name.split('.').map(str::to_owned).collect(), text))
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '-')
}

/// What is odd about a word that looks like a named argument, and is one by position, because the function has none of this name.
fn doubt(service: &ServiceSchema, function: &FunctionSchema, at: usize, word: &str) -> Option<String> {
    let named = path_and_text(word).filter(|(path, _)| path.iter().all(|part| is_name(part)));
    let Some((path, text)) = named else {
        let stream = function.takes.as_ref().filter(|_| at >= function.arguments.len())?;
        return Some(format!(
            "`{}` of `{}` is a stream; its items come from standard input",
            stream.name, function.name
        ));
    };
    let name = &path[0];
    if function.takes.as_ref().is_some_and(|stream| stream.name == *name) {
        return Some(format!("`{name}` of `{}` is a stream; its items come from standard input", function.name));
    }
    let likeness = |argument: &ArgumentSchema| strsim::jaro_winkler(&argument.name, name);
    let nearest = function.arguments.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let near = nearest.filter(|argument| likeness(argument) > 0.75).map(|argument| {
        let path = [std::slice::from_ref(&argument.name), &path[1..]].concat().join(".");
        format!("did you mean `{path}={text}`?")
    });
    let place = function.arguments.get(at);
    let takes_text = place.is_some_and(|argument| service.accepts(&argument.schema, &Value::String(word.to_owned())));
    if near.is_none() && takes_text {
        return None;
    }
    let names: Vec<_> = function.arguments.iter().map(|argument| format!("`{}`", argument.name)).collect();
    let remedy = near.unwrap_or_else(|| match names.is_empty() {
        true => "it has none.".to_owned(),
        false => format!("it has {}.", names.join(", ")),
    });
    let sent = match place {
        Some(argument) => format!("`{word}` is sent as a text for `{}`", argument.name),
        None => format!("`{word}` is sent as a text"),
    };
    Some(format!(
        "{sent}, because `{}` has no argument `{name}`; {remedy} A text with `=` that is meant stands after `--`",
        function.name
    ))
}

fn positional(known: Option<(&ServiceSchema, &FunctionSchema)>, at: usize, word: &str) -> Result<Value, CommandError> {
    let argument = known.and_then(|(service, function)| Some((service, function.arguments.get(at)?)));
    let is_file = argument.is_some_and(|(service, argument)| takes_bytes(service, argument));
    value(argument.map(|(service, argument)| (service, &argument.schema)), is_file, word)
}

/// Whether an argument is of the type `byname::Bytes`.
pub(crate) fn takes_bytes(service: &ServiceSchema, argument: &ArgumentSchema) -> bool {
    is_bytes(&argument.ty) && service.accepts(&argument.schema, &Value::String(String::new()))
}

/// The schema of a property of an argument, if it is known.
fn schema_at(service: &ServiceSchema, function: &FunctionSchema, path: &[String]) -> Option<Value> {
    let argument = function.arguments.iter().find(|argument| argument.name == path[0])?;
    let mut schema = argument.schema.clone();
    for name in &path[1..] {
        let mut found = Vec::new();
        properties(service, &schema, name, 0, &mut found);
        schema = match found.len() {
            0 => return None,
            1 => found.remove(0),
            _ => json!({ "anyOf": found }),
        };
    }
    Some(schema)
}

/// The schemas of a property, of which each alternative may have another one.
fn properties(service: &ServiceSchema, schema: &Value, name: &str, depth: usize, found: &mut Vec<Value>) {
    /// An alternative may be of alternatives, and a definition may refer to itself.
    const DEEPEST: usize = 8;
    let schema = service.resolved(schema);
    if let Some(property) = schema.get("properties").and_then(|properties| properties.get(name))
        && !found.contains(property)
    {
        found.push(property.clone());
    }
    if depth < DEEPEST {
        for word in ["anyOf", "oneOf", "allOf"] {
            let alternatives = schema.get(word).and_then(Value::as_array).into_iter().flatten();
            alternatives.for_each(|schema| properties(service, schema, name, depth + 1, found));
        }
    }
}

/// JSON, or a text if the word is not JSON, or if only a text is accepted. The bytes of a file are base64, if the argument takes bytes.
fn value(schema: Option<(&ServiceSchema, &Value)>, takes_bytes: bool, word: &str) -> Result<Value, CommandError> {
    let content = match word.strip_prefix('@') {
        Some("-") => Some(standard_input()?),
        Some(path) => Some(file(path)?),
        None => None,
    };
    if let Some(content) = content.as_ref().filter(|_| takes_bytes) {
        let base64 = serde_json::to_value(Bytes::from(content.clone()));
        return base64.map_err(|why| CommandError::usage(format!("`{word}` can't be sent: {why}")));
    }
    let text = match content {
        Some(content) => in_utf8(word, content)?,
        None => word.strip_prefix('\\').filter(|rest| rest.starts_with('@')).unwrap_or(word).to_owned(),
    };
    let accepts = |value: &Value| schema.is_some_and(|(service, schema)| service.accepts(schema, value));
    let json = match read_json(&text) {
        Ok(json) => json,
        Err(why) if text.trim_start().starts_with(['{', '[']) && !takes_bytes => {
            let as_text = Value::String(text);
            // Where only a text is accepted, JSON can't be meant.
            if accepts(&as_text) && !accepts(&json!({})) && !accepts(&json!([])) {
                return Ok(as_text);
            }
            let what = if word.starts_with('@') { format!("the content of `{word}`") } else { format!("`{word}`") };
            return Err(CommandError::usage(format!(
                "{what} begins like JSON and can't be read as JSON: {why}; a text that begins so is written in double quotes within single ones"
            )));
        }
        Err(_) => return Ok(Value::String(text)),
    };
    let repeated = repeated_name(unmarked(&text));
    let as_text = Value::String(text);
    let is_text = match takes_bytes {
        // `1234` is base64.
        true => !json.is_array() && !json.is_null() && !json.is_string(),
        false => !accepts(&json) && accepts(&as_text),
    };
    match repeated {
        _ if is_text => Ok(as_text),
        Some(name) => Err(CommandError::usage(format!("`{word}` has `{name}` twice in an object; give it once"))),
        None => Ok(json),
    }
}

fn file(path: &str) -> Result<Vec<u8>, CommandError> {
    fs::read(path).map_err(|why| {
        CommandError::usage(format!(
            "can't read the file of `@{path}`: {why}; a text that begins with @ is written \\@"
        ))
    })
}

fn in_utf8(word: &str, content: Vec<u8>) -> Result<String, CommandError> {
    String::from_utf8(content).map_err(|_| {
        CommandError::usage(format!(
            "the content of `{word}` is not UTF-8 text; only an argument of the type `Bytes` takes other bytes, where the service tells its types"
        ))
    })
}

/// Reads JSON, with the reason if it is not JSON, or has a name twice in an object.
pub(crate) fn json_of_distinct_names(text: &str) -> Result<Value, String> {
    let value = read_json(text).map_err(|why| format!("it is not JSON: {why}"))?;
    match repeated_name(unmarked(text)) {
        Some(name) => Err(format!("it has `{name}` twice in an object; give it once")),
        None => Ok(value),
    }
}

fn read_json(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(unmarked(text))
}

/// The text without the byte order mark that some editors put before it.
fn unmarked(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn put(into: &mut Map<String, Value>, path: &[String], value: Value) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else {
        unreachable!("a name has a first part");
    };
    if rest.is_empty() {
        if into.insert(first.clone(), value).is_some() {
            return Err(format!("the argument `{first}` is given twice"));
        }
        return Ok(());
    }
    match into.entry(first.clone()).or_insert_with(|| Value::Object(Map::new())) {
        Value::Object(inner) => put(inner, rest, value),
        _ => Err(format!("`{first}` is given as a value, and by its properties")),
    }
}

fn standard_input() -> Result<Vec<u8>, CommandError> {
    let mut content = Vec::new();
    let read = io::stdin().read_to_end(&mut content);
    read.map_err(|why| CommandError::usage(format!("can't read standard input: {why}")))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(of: &[&str]) -> Vec<String> {
        of.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn a_name_counts_only_if_the_function_has_it() {
        let user =
            json!({ "type": "object", "properties": { "name": { "type": "string" }, "age": { "type": "integer" } } });
        let argument = |name: &str, schema: Value| json!({ "name": name, "schema": schema, "required": true });
        let service = ServiceSchema::from_json(&json!({
            "version": 1,
            "functions": [{
                "name": "f", "returns": { "schema": true },
                "arguments": [argument("text", json!({ "type": "string" })), argument("user", user), argument("n", json!({ "type": "integer" }))],
            }],
        }))
        .unwrap();
        let known = Some((&service, &service.functions[0]));
        let read = |given: &[&str], unnamed: &[&str]| arguments(known, &words(given), &words(unnamed)).unwrap();
        let written = read(&["12", "user.name=7", "user.age=7", "n=-1"], &[]);
        assert_eq!(written.positional, [json!("12")], "only a text is accepted");
        assert_eq!(Value::Object(written.named), json!({ "user": { "name": "7", "age": 7 }, "n": -1 }));
        assert_eq!(read(&["a=b"], &[]).positional, [json!("a=b")], "it has no argument `a`");
        assert_eq!(read(&[], &["n=1"]).positional, [json!("n=1")]);
        let by_name = read(&["x", "n=1"], &[]).by_name(Some(&service.functions[0])).unwrap();
        assert_eq!(Value::Object(by_name), json!({ "text": "x", "n": 1 }));
        assert!(arguments(known, &words(&["n=1", "n=2"]), &[]).is_err());
        assert_eq!(arguments(None, &words(&["a=1", "x"]), &[]).unwrap().named["a"], 1);
    }

    #[test]
    fn a_word_that_looks_like_a_name_is_doubted_where_it_is_hardly_meant() {
        let argument = |name: &str, ty: &str| json!({ "name": name, "schema": { "type": ty }, "required": true });
        let function = |name: &str, arguments: Value| json!({ "name": name, "returns": { "schema": true }, "arguments": arguments });
        let mut sum = function("sum", json!([]));
        sum["takes"] = argument("items", "integer");
        let functions = json!([
            function("echo", json!([argument("text", "string")])),
            function("add", json!([argument("a", "integer"), argument("b", "integer")])),
            function("note", json!([argument("line", "string"), argument("order", "object")])),
            sum,
        ]);
        let service = ServiceSchema::from_json(&json!({ "version": 1, "functions": functions })).unwrap();
        let said = |name: &str, at: usize, word: &str| doubt(&service, service.function(name).unwrap(), at, word);
        assert_eq!(
            said("echo", 0, "txt=hello").unwrap(),
            "`txt=hello` is sent as a text for `text`, because `echo` has no argument `txt`; did you mean `text=hello`? \
             A text with `=` that is meant stands after `--`"
        );
        assert!(said("add", 2, "c=3").unwrap().contains("`add` has no argument `c`; it has `a`, `b`. A text"));
        assert!(said("add", 0, "c=3").unwrap().contains("for `a`"));
        assert!(said("note", 0, "orders.id=3").unwrap().contains("did you mean `order.id=3`?"));
        for word in ["items=[1]", "[1]"] {
            assert!(said("sum", 0, word).unwrap().contains("standard input"), "{word}");
        }
        for word in ["1+1=2", "https://x/?a=b", "c=3", "plain"] {
            assert_eq!(said("echo", 0, word), None, "{word}");
        }
    }

    #[test]
    fn what_begins_like_json_and_is_none_is_an_error() {
        let argument = |name: &str, schema: Value| json!({ "name": name, "schema": schema, "required": true });
        let service = ServiceSchema::from_json(&json!({
            "version": 1,
            "functions": [{ "name": "f", "returns": { "schema": true }, "arguments": [
                argument("any", json!(true)), argument("order", json!({ "type": "object" })), argument("text", json!({ "type": "string" })),
            ] }],
        }))
        .unwrap();
        let known = Some((&service, &service.functions[0]));
        for word in ["any={\"a\":1,}", "order={a}", "any= [1"] {
            for known in [known, None] {
                let why = format!("{:?}", arguments(known, &words(&[word]), &[]).unwrap_err());
                assert!(why.contains("column") && why.contains("code: 2"), "{why}");
            }
        }
        assert_eq!(arguments(known, &words(&["text={a}"]), &[]).unwrap().named["text"], "{a}");
        assert_eq!(arguments(known, &words(&["any=\"{a}\""]), &[]).unwrap().named["any"], "{a}");
    }

    #[test]
    fn a_property_of_an_alternative_has_its_schema() {
        let variant = |number: Value| json!({ "type": "object", "properties": { "number": number } });
        let payment = json!({ "anyOf": [variant(json!({ "type": "string" })), { "type": "object" }] });
        let either = json!({ "anyOf": [variant(json!({ "type": "string" })), variant(json!({ "type": "integer" }))] });
        let service = ServiceSchema::from_json(&json!({
            "version": 1,
            "functions": [{ "name": "f", "returns": { "schema": true }, "arguments": [
                { "name": "payment", "schema": { "$ref": "#/$defs/Payment" }, "required": true },
                { "name": "either", "schema": either, "required": true },
            ] }],
            "$defs": { "Payment": payment },
        }))
        .unwrap();
        let written = words(&["payment.number=4111", "either.number=4111"]);
        let read = arguments(Some((&service, &service.functions[0])), &written, &[]).unwrap();
        assert_eq!(read.named["payment"]["number"], "4111");
        assert_eq!(read.named["either"]["number"], 4111);
    }

    #[test]
    fn standard_input_is_given_once() {
        assert!(arguments(None, &words(&["a=@-", "@-"]), &[]).is_err());
    }

    #[test]
    fn a_byte_order_mark_is_not_a_part_of_json() {
        let read = arguments(None, &words(&["a=\u{feff}{\"x\":1}\r\n", "\u{feff}text"]), &[]).unwrap();
        assert_eq!((&read.named["a"], &read.positional), (&json!({ "x": 1 }), &vec![json!("\u{feff}text")]));
        assert_eq!(WrittenArguments::of_json("\u{feff}[1]").unwrap().positional, [json!(1)]);
    }

    #[test]
    fn a_property_is_given_once() {
        let why = |result: Result<WrittenArguments, CommandError>| format!("{:?}", result.unwrap_err());
        let twice = r#"{"x":{"y":1,"y":2}}"#;
        assert!(why(arguments(None, &words(&[&format!("a={twice}")]), &[])).contains("`y` twice"));
        assert!(why(WrittenArguments::of_json(twice)).contains("`y` twice"));
        let why = why(WrittenArguments::of_json("{"));
        assert!(why.contains("--json: it is not JSON: EOF"), "{why}");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let wide = u128::MAX.to_string();
        let written = [wide.as_str(), "-170141183460469231731687303715884105728", "123456789.12345678901234567890"];
        let read = arguments(None, &words(&written), &[]).unwrap();
        assert_eq!(read.positional.iter().map(Value::to_string).collect::<Vec<_>>(), written);
        let all = WrittenArguments::of_json(&format!("{{\"n\":[{wide}]}}")).unwrap();
        assert_eq!(all.named["n"].to_string(), format!("[{wide}]"));
    }
}
