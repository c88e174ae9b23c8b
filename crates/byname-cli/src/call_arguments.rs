//! Arguments as they are written in a command: [`arguments`].

use std::fs;
use std::io::{self, Read as _};

use byname::{Args, FunctionSchema, ServiceSchema};
use serde_json::{Map, Value};

use crate::exit::CommandError;
use crate::repeated_names::repeated_name;

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
    let mut written = WrittenArguments::default();
    for word in words {
        match named(known, word) {
            Some((path, text)) => {
                let schema = known.and_then(|(service, function)| schema_at(service, function, &path));
                let value = value(known.map(|(service, _)| service).zip(schema), text)?;
                put(&mut written.named, &path, value).map_err(CommandError::usage)?;
            }
            None => written.positional.push(positional(known, written.positional.len(), word)?),
        }
    }
    for word in unnamed {
        written.positional.push(positional(known, written.positional.len(), word)?);
    }
    Ok(written)
}

impl WrittenArguments {
    /// The arguments of `--json`: an object has them by name, an array by position.
    pub(crate) fn of_json(text: &str) -> Result<Self, CommandError> {
        let text = if text == "-" { standard_input()? } else { text.to_owned() };
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
    let (name, text) = word.split_once('=')?;
    let path: Vec<_> = name.split('.').map(str::to_owned).collect();
    let is_name = |part: &String| {
        !part.is_empty() && part.chars().all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '-')
    };
    let is_known = match known {
        Some((_, function)) => function.arguments.iter().any(|argument| argument.name == path[0]),
        None => path.iter().all(is_name),
    };
    is_known.then_some((path, text))
}

fn positional(known: Option<(&ServiceSchema, &FunctionSchema)>, at: usize, word: &str) -> Result<Value, CommandError> {
    let schema = known.and_then(|(service, function)| Some((service, &function.arguments.get(at)?.schema)));
    value(schema, word)
}

/// The schema of a property of an argument, if it is known.
fn schema_at<'s>(service: &'s ServiceSchema, function: &'s FunctionSchema, path: &[String]) -> Option<&'s Value> {
    let argument = function.arguments.iter().find(|argument| argument.name == path[0])?;
    path[1..]
        .iter()
        .try_fold(&argument.schema, |schema, name| service.resolved(schema).get("properties")?.get(name.as_str()))
}

/// JSON, or a text if it is none, or if only a text is accepted.
fn value(schema: Option<(&ServiceSchema, &Value)>, word: &str) -> Result<Value, CommandError> {
    let text = match word.strip_prefix('@') {
        Some("-") => standard_input()?,
        Some(path) => fs::read_to_string(path).map_err(|why| {
            CommandError::usage(format!(
                "can't read the file of `{word}`: {why}; a text that begins with @ is written \\@"
            ))
        })?,
        None => word.strip_prefix('\\').filter(|rest| rest.starts_with('@')).unwrap_or(word).to_owned(),
    };
    let Ok(json) = json(&text) else {
        return Ok(Value::String(text));
    };
    let repeated = repeated_name(unmarked(&text));
    let as_text = Value::String(text);
    let is_text =
        schema.is_some_and(|(service, schema)| !service.accepts(schema, &json) && service.accepts(schema, &as_text));
    match repeated {
        _ if is_text => Ok(as_text),
        Some(name) => Err(CommandError::usage(format!("`{word}` has `{name}` twice in an object; give it once"))),
        None => Ok(json),
    }
}

/// Reads JSON, with the reason if it is none, or has a name twice in an object.
pub(crate) fn json_of_distinct_names(text: &str) -> Result<Value, String> {
    let value = json(text).map_err(|why| format!("it is not JSON: {why}"))?;
    match repeated_name(unmarked(text)) {
        Some(name) => Err(format!("it has `{name}` twice in an object; give it once")),
        None => Ok(value),
    }
}

fn json(text: &str) -> serde_json::Result<Value> {
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

fn standard_input() -> Result<String, CommandError> {
    let mut text = String::new();
    let read = io::stdin().read_to_string(&mut text);
    read.map_err(|why| CommandError::usage(format!("can't read standard input: {why}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
