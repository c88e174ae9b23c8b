//! What a server can do, as a document: [`ServiceSchema`].

use std::fmt;
use std::sync::Arc;
use std::thread;

use byname_schema::{OpenReason, SchemaDefinitions, TimeBudget, TypeSchema};
use serde_json::{Map, Value, json};
use sha1_smol::Sha1;

use crate::method::{FunctionTypes, Method, Param};

/// The functions of a server with the schemas of their types, if the feature `schema` is on. [`Server::schema`](crate::Server::schema) makes it, and
/// `GET /rpc/!schema` answers with it. `docs/protocol.md` describes the document.
///
/// Its `Display` is the document: JSON, in lines.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSchema {
    document: Value,
    open: Vec<String>,
}

impl ServiceSchema {
    /// Describes these functions. Their types are asked on a thread of its own, because their code is that of the user.
    pub(crate) fn of(methods: Vec<Arc<Method>>) -> Self {
        let describe = move || {
            let budget = TimeBudget::default();
            let types: Vec<_> = methods.iter().map(|method| method.types(&budget)).collect();
            Self::write(&methods, &types)
        };
        let thread = thread::Builder::new().name("byname-schema".to_owned()).stack_size(STACK);
        let described = thread.spawn(describe).expect("a thread can be started");
        described.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The document as a JSON value.
    pub fn to_json(&self) -> &Value {
        &self.document
    }

    /// The places whose schema says less than their type, as `place.order: arguments.order.lines[].price (…)`. A type with a check
    /// of its own, as by `try_from`, is one, and a type that copies a value before it looks at it may be one. There a value that
    /// agrees with the schema may still be refused.
    pub fn open(&self) -> &[String] {
        &self.open
    }

    fn write(methods: &[Arc<Method>], types: &[Arc<FunctionTypes>]) -> Self {
        let mut writer = DocumentWriter { definitions: SchemaDefinitions::at("#/$defs/"), open: Vec::new() };
        let functions = methods.iter().zip(types).map(|(method, types)| writer.function(method, types)).collect();
        let DocumentWriter { definitions, open } = writer;
        let functions: Vec<Value> = functions;
        let mut document = json!({ "version": 1, "functions": functions, "$defs": definitions.into_json() });
        if !cfg!(feature = "schema") {
            document["note"] = json!(
                "the server was built without the feature `schema` of byname, so every `schema` is `true`; add it: \
                 byname = { version = \"0.1\", features = [\"schema\"] }"
            );
        }
        Self { document, open }
    }
}

impl fmt::Display for ServiceSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.document)
    }
}

/// Types are nested 64 levels deep at most, with several calls for each.
const STACK: usize = 8 << 20;

struct DocumentWriter {
    definitions: SchemaDefinitions,
    open: Vec<String>,
}

impl DocumentWriter {
    fn function(&mut self, method: &Method, types: &FunctionTypes) -> Value {
        let params = method.params.iter().zip(&types.params);
        let arguments: Vec<_> = params.map(|(param, schema)| self.param(method, param, schema)).collect();
        let mut written = Map::new();
        let mut put = |key: &str, value: Value| drop(written.insert(key.to_owned(), value));
        put("name", json!(method.name));
        if !method.aliases.is_empty() {
            put("aliases", json!(method.aliases));
        }
        if !method.doc.is_empty() {
            put("doc", json!(method.doc.trim()));
        }
        put("signature", json!(method.signature()));
        put("arguments", json!(arguments));
        if let (Some(param), Some(schema)) = (&method.takes, &types.takes) {
            put("takes", self.param(method, param, schema));
        }
        let returns = self.schema(method, "returns", &types.returns);
        put("returns", json!({ "type": method.returns, "schema": returns }));
        if method.streams {
            put("streams", json!(true));
        }
        if let Some(error) = &types.error {
            put("error", json!({ "schema": self.schema(method, "error", error) }));
        }
        let marks = [("idempotent", method.idempotent), ("readonly", method.readonly), ("keyed", method.keyed)];
        for (mark, _) in marks.into_iter().filter(|(_, is_set)| *is_set) {
            put(mark, json!(true));
        }
        if let Some(timeout) = method.timeout {
            put("timeout_ms", json!(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)));
        }
        put("priority", json!(method.priority.to_string()));
        if let Some(fingerprint) = fingerprint(method, types) {
            put("fingerprint", json!(fingerprint));
        }
        let source = &method.source;
        put("source", json!({ "package": source.package, "module": source.module }));
        Value::Object(written)
    }

    fn param(&mut self, method: &Method, param: &Param, schema: &TypeSchema) -> Value {
        let schema = self.schema(method, &format!("arguments.{}", param.name), schema);
        let is_required = !param.optional && param.default.is_none();
        let mut written = json!({ "name": param.name, "type": param.ty, "required": is_required, "schema": schema });
        if let Some(default) = &param.default {
            // It was encoded by this library.
            written["default"] = serde_json::from_str(default).unwrap_or_default();
        }
        written
    }

    fn schema(&mut self, method: &Method, place: &str, schema: &TypeSchema) -> Value {
        // Without the feature everything is open.
        for open in schema.open().into_iter().filter(|_| cfg!(feature = "schema")) {
            let dot = if open.path.is_empty() || open.path.starts_with('[') { "" } else { "." };
            self.open.push(format!("{}: {place}{dot}{} ({})", method.name, open.path, why(open.reason)));
        }
        self.definitions.add(schema)
    }
}

/// A hash of what callers and the function have to agree on: the names of the arguments, their defaults, and the shapes of all
/// types, whatever the types are called. `None` if one of them is open.
fn fingerprint(method: &Method, types: &FunctionTypes) -> Option<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let of = |schema: &TypeSchema| schema.fingerprint().map(|bytes| hex(&bytes));
    let params = method.params.iter().zip(&types.params);
    let arguments: Option<Vec<_>> =
        params.map(|(param, schema)| Some(json!([param.name, param.optional, param.default, of(schema)?]))).collect();
    let takes = match &types.takes {
        Some(schema) => Some(of(schema)?),
        None => None,
    };
    let error = match &types.error {
        Some(schema) => Some(of(schema)?),
        None => None,
    };
    let all = json!([arguments?, takes, of(&types.returns)?, method.streams, error]).to_string();
    Some(hex(&Sha1::from(all).digest().bytes()[..16]))
}

fn why(reason: OpenReason) -> &'static str {
    match reason {
        OpenReason::Refuses => "it refuses some values of its shape, as by `try_from`",
        OpenReason::Buffered => "it copies the value before it looks at it, as by `flatten`",
        OpenReason::Recursive => "it contains itself in a way that can't be tried",
        OpenReason::TooLarge => "it is too large, or took too long",
        OpenReason::Panicked => "its code has panicked",
        _ => "what it takes is not known",
    }
}
