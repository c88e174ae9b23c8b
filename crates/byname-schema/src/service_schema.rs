//! What a service can do, as a document: [`ServiceSchema`].

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

/// The version of the document that this crate writes and reads.
const VERSION: u64 = 1;

/// The functions of a service with the schemas of their types. `docs/protocol.md` describes it as a document.
///
/// Its `Display` is the document: JSON, in lines.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ServiceSchema {
    /// In the order of the server.
    pub functions: Vec<FunctionSchema>,
    /// The structs and enums, to which a schema refers by `#/$defs/NAME`.
    pub definitions: BTreeMap<String, Value>,
    /// The places whose schema says less than their type, as `place.order: arguments.order.lines[].price (…)`. A type with a check
    /// of its own, as by `try_from`, is one, and a type that copies a value before it looks at it may be one. There a value that
    /// agrees with the schema may still be refused.
    pub open: Vec<String>,
    /// Why every schema is `true`, if the server was built without schemas.
    pub note: Option<String>,
}

/// A function of a [`ServiceSchema`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FunctionSchema {
    /// The name on the wire.
    pub name: String,
    /// Other names of the function.
    pub aliases: Vec<String>,
    /// The doc comment. Empty if there is none.
    pub doc: String,
    /// The signature in Rust's notation.
    pub signature: String,
    /// The arguments, in order.
    pub arguments: Vec<ArgumentSchema>,
    /// The stream that it takes as its last argument, with the schema of an item.
    pub takes: Option<ArgumentSchema>,
    /// The type of the result, in Rust's notation.
    pub returns: String,
    /// The JSON Schema of the result, or of an item of the stream.
    pub returns_schema: Value,
    /// Whether it returns a stream.
    pub streams: bool,
    /// The JSON Schema of its own error.
    pub error: Option<Value>,
    /// Whether running it twice has the effect of running it once.
    pub idempotent: bool,
    /// Whether it changes nothing.
    pub readonly: bool,
    /// Whether its calls have a key with which they run once.
    pub keyed: bool,
    /// Why it should no longer be called. Empty if no reason is given.
    pub deprecated: Option<String>,
    /// Its own time-out, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How important its calls are: `default`, if it says nothing.
    pub priority: String,
    /// A hash of the names and defaults of its arguments and of the shapes of its types. `None` if a type is open.
    pub fingerprint: Option<String>,
    /// The package that has it.
    pub package: String,
    /// The module that has it.
    pub module: String,
}

/// An argument of a [`FunctionSchema`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ArgumentSchema {
    /// Its name.
    pub name: String,
    /// Its type in Rust's notation.
    pub ty: String,
    /// Its JSON Schema.
    pub schema: Value,
    /// Whether a call must have it.
    pub required: bool,
    /// Its value in a call that leaves it out.
    pub default: Option<Value>,
}

impl ServiceSchema {
    /// The places whose schema says less than their type.
    pub fn open(&self) -> &[String] {
        &self.open
    }

    /// The function of this name or alias.
    pub fn function(&self, name: &str) -> Option<&FunctionSchema> {
        let is_named =
            |function: &&FunctionSchema| function.name == name || function.aliases.iter().any(|of| of == name);
        self.functions.iter().find(is_named)
    }

    /// The document.
    pub fn to_json(&self) -> Value {
        let functions: Vec<_> = self.functions.iter().map(FunctionSchema::to_json).collect();
        let mut document = json!({ "version": VERSION, "functions": functions, "$defs": self.definitions });
        if !self.open.is_empty() {
            document["open"] = json!(self.open);
        }
        if let Some(note) = &self.note {
            document["note"] = json!(note);
        }
        document
    }

    /// Reads a document. Members that are not known are ignored.
    ///
    /// # Errors
    ///
    /// It says which member is missing or wrong.
    pub fn from_json(document: &Value) -> Result<Self, SchemaDocumentError> {
        let of = DocumentMember::whole(document);
        match of.optional("version", Value::as_u64, "a whole number")? {
            Some(VERSION) => {}
            Some(other) => {
                return Err(of.wrong(&format!("it has version {other}, and this reads version {VERSION}")));
            }
            None => return Err(of.wrong("it is not the schema of a service: `version` is missing")),
        }
        let functions = of.list("functions")?.iter().map(FunctionSchema::from_json).collect::<Result<_, _>>()?;
        let definitions = of.optional("$defs", Value::as_object, "an object")?.into_iter().flatten();
        Ok(Self {
            functions,
            definitions: definitions.map(|(name, schema)| (name.clone(), schema.clone())).collect(),
            open: of.texts("open")?,
            note: of.optional_text("note")?,
        })
    }
}

impl fmt::Display for ServiceSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.to_json())
    }
}

impl FunctionSchema {
    fn to_json(&self) -> Value {
        let mut written = Map::new();
        let mut put = |key: &str, value: Value| drop(written.insert(key.to_owned(), value));
        put("name", json!(self.name));
        if !self.aliases.is_empty() {
            put("aliases", json!(self.aliases));
        }
        if !self.doc.is_empty() {
            put("doc", json!(self.doc));
        }
        put("signature", json!(self.signature));
        put("arguments", self.arguments.iter().map(ArgumentSchema::to_json).collect());
        if let Some(stream) = &self.takes {
            put("takes", stream.to_json());
        }
        put("returns", json!({ "type": self.returns, "schema": self.returns_schema }));
        if let Some(error) = &self.error {
            put("error", json!({ "schema": error }));
        }
        let marks = [
            ("streams", self.streams),
            ("idempotent", self.idempotent),
            ("readonly", self.readonly),
            ("keyed", self.keyed),
        ];
        for (mark, _) in marks.into_iter().filter(|(_, is_set)| *is_set) {
            put(mark, json!(true));
        }
        if let Some(reason) = &self.deprecated {
            put("deprecated", json!(reason));
        }
        if let Some(timeout) = self.timeout_ms {
            put("timeout_ms", json!(timeout));
        }
        put("priority", json!(self.priority));
        if let Some(fingerprint) = &self.fingerprint {
            put("fingerprint", json!(fingerprint));
        }
        put("source", json!({ "package": self.package, "module": self.module }));
        Value::Object(written)
    }

    fn from_json(of: &DocumentMember<'_>) -> Result<Self, SchemaDocumentError> {
        let returns = of.member("returns")?;
        let source = of.optional_member("source");
        let part_of_source = |name: &str| match &source {
            Some(source) => source.optional_text(name).map(Option::unwrap_or_default),
            None => Ok(String::new()),
        };
        Ok(Self {
            name: of.text("name")?,
            aliases: of.texts("aliases")?,
            doc: of.optional_text("doc")?.unwrap_or_default(),
            signature: of.optional_text("signature")?.unwrap_or_default(),
            arguments: of.list("arguments")?.iter().map(ArgumentSchema::from_json).collect::<Result<_, _>>()?,
            takes: of.optional_member("takes").map(|stream| ArgumentSchema::from_json(&stream)).transpose()?,
            returns: returns.optional_text("type")?.unwrap_or_default(),
            returns_schema: returns.member("schema")?.value.clone(),
            streams: of.mark("streams")?,
            error: of.optional_member("error").map(|error| Ok(error.member("schema")?.value.clone())).transpose()?,
            idempotent: of.mark("idempotent")?,
            readonly: of.mark("readonly")?,
            keyed: of.mark("keyed")?,
            deprecated: of.optional_text("deprecated")?,
            timeout_ms: of.optional("timeout_ms", Value::as_u64, "a whole number")?,
            priority: of.optional_text("priority")?.unwrap_or_else(|| "default".to_owned()),
            fingerprint: of.optional_text("fingerprint")?,
            package: part_of_source("package")?,
            module: part_of_source("module")?,
        })
    }
}

impl ArgumentSchema {
    fn to_json(&self) -> Value {
        let mut written =
            json!({ "name": self.name, "type": self.ty, "required": self.required, "schema": self.schema });
        if let Some(default) = &self.default {
            written["default"] = default.clone();
        }
        written
    }

    fn from_json(of: &DocumentMember<'_>) -> Result<Self, SchemaDocumentError> {
        Ok(Self {
            name: of.text("name")?,
            ty: of.optional_text("type")?.unwrap_or_default(),
            schema: of.member("schema")?.value.clone(),
            required: of.mark("required")?,
            default: of.value.get("default").cloned(),
        })
    }
}

/// A text that is not the schema of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaDocumentError {
    text: String,
}

impl SchemaDocumentError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl fmt::Display for SchemaDocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SchemaDocumentError {}

/// A value in a document, with its place for messages.
pub(crate) struct DocumentMember<'v> {
    pub(crate) value: &'v Value,
    path: String,
}

impl<'v> DocumentMember<'v> {
    pub(crate) fn whole(document: &'v Value) -> Self {
        Self { value: document, path: String::new() }
    }

    pub(crate) fn wrong(&self, why: &str) -> SchemaDocumentError {
        let place = if self.path.is_empty() { String::new() } else { format!("`{}`: ", self.path) };
        SchemaDocumentError::new(format!("{place}{why}"))
    }

    pub(crate) fn optional_member(&self, name: &str) -> Option<DocumentMember<'v>> {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.value.get(name).map(|value| Self { value, path: format!("{}{dot}{name}", self.path) })
    }

    fn member(&self, name: &str) -> Result<DocumentMember<'v>, SchemaDocumentError> {
        self.optional_member(name).ok_or_else(|| self.wrong(&format!("the member `{name}` is missing")))
    }

    fn optional<T>(
        &self,
        name: &str,
        read: impl Fn(&'v Value) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, SchemaDocumentError> {
        let read = |member: DocumentMember<'v>| {
            read(member.value).ok_or_else(|| member.wrong(&format!("expected {expected}")))
        };
        self.optional_member(name).map(read).transpose()
    }

    fn text(&self, name: &str) -> Result<String, SchemaDocumentError> {
        self.optional_text(name)?.ok_or_else(|| self.wrong(&format!("the member `{name}` is missing")))
    }

    fn optional_text(&self, name: &str) -> Result<Option<String>, SchemaDocumentError> {
        Ok(self.optional(name, Value::as_str, "a string")?.map(str::to_owned))
    }

    fn mark(&self, name: &str) -> Result<bool, SchemaDocumentError> {
        Ok(self.optional(name, Value::as_bool, "true or false")?.unwrap_or(false))
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, SchemaDocumentError> {
        let strings = |value: &Value| {
            value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        };
        Ok(self.optional(name, strings, "an array of strings")?.unwrap_or_default())
    }

    pub(crate) fn list(&self, name: &str) -> Result<Vec<DocumentMember<'v>>, SchemaDocumentError> {
        let member = self.member(name)?;
        let items = member.value.as_array().ok_or_else(|| member.wrong("expected an array"))?;
        let item = |(at, value)| DocumentMember { value, path: format!("{}[{at}]", member.path) };
        Ok(items.iter().enumerate().map(item).collect())
    }
}
