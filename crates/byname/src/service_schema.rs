//! Describes the functions of a server: [`described`], [`ServiceDocument`].

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use byname_schema::{
    ArgumentSchema, FunctionSchema, OpenReason, SchemaDefinitions, ServiceSchema, TimeBudget, TypeSchema,
};
use serde_json::Value;

use crate::method::{Fingerprint, FunctionTypes, Method, Param};

/// Describes these functions, without those that are hidden.
pub(crate) fn described(methods: Vec<Arc<Method>>) -> ServiceSchema {
    let methods: Vec<_> = methods.into_iter().filter(|method| !method.hidden).collect();
    let types = traced(&methods);
    let mut writer = DocumentWriter { definitions: SchemaDefinitions::at("#/$defs/"), open: Vec::new() };
    let mut schema = ServiceSchema::default();
    let functions = methods.iter().zip(&types).map(|(method, types)| writer.function(method, types));
    schema.functions = functions.collect();
    schema.definitions = writer.definitions.into_map();
    schema.open = writer.open;
    schema.note = (!cfg!(feature = "schema")).then(|| NO_SCHEMAS.to_owned());
    schema
}

/// The types of the functions. They are asked on a thread of its own, because their code is that of the user.
fn traced(methods: &[Arc<Method>]) -> Vec<Arc<FunctionTypes>> {
    let mut all = Vec::new();
    while all.len() < methods.len() {
        let rest = methods[all.len()..].to_vec();
        let (sender, found) = mpsc::channel();
        // Each function has its own time: one with slow types must not leave the others without schemas.
        let trace = move || rest.iter().all(|method| sender.send(method.types(&TimeBudget::default())).is_ok());
        let thread = thread::Builder::new().name("byname-schema".to_owned()).stack_size(STACK);
        thread.spawn(trace).expect("a thread can be started");
        while let Ok(types) = found.recv_timeout(GIVEN_UP) {
            all.push(types);
        }
        if let Some(endless) = methods.get(all.len()) {
            all.push(endless.give_up_types());
        }
    }
    all
}

/// When the types of a function are given up. The code of one may never end. The usual end is that of the [`TimeBudget`].
const GIVEN_UP: Duration = Duration::from_secs(5);

/// A document about the functions of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceDocument {
    Schema,
    #[cfg(feature = "schema")]
    OpenApi,
    #[cfg(feature = "schema")]
    OpenRpc,
}

impl ServiceDocument {
    /// The one that a call of this name asks for.
    pub(crate) fn called(name: &str) -> Option<Self> {
        match name {
            "!schema" => Some(Self::Schema),
            #[cfg(feature = "schema")]
            "!openapi.json" => Some(Self::OpenApi),
            // The name of JSON-RPC's service discovery.
            #[cfg(feature = "schema")]
            "!openrpc.json" | "rpc.discover" => Some(Self::OpenRpc),
            _ => None,
        }
    }

    /// The document about these functions. `endpoint` is the path of the service, if it is known.
    #[cfg_attr(not(feature = "schema"), allow(unused_variables, reason = "only other formats have it"))]
    pub(crate) fn of(self, methods: Vec<Arc<Method>>, endpoint: Option<&str>) -> Value {
        let schema = described(methods);
        match self {
            Self::Schema => schema.to_json(),
            #[cfg(feature = "schema")]
            Self::OpenApi => schema.to_openapi(endpoint),
            #[cfg(feature = "schema")]
            Self::OpenRpc => schema.to_openrpc(endpoint),
        }
    }
}

const NO_SCHEMAS: &str = "the server was built without the feature `schema` of byname, so every `schema` is `true`; add it: \
                          byname = { version = \"0.1\", features = [\"schema\"] }";

/// Types are nested 64 levels deep at most, with several calls for each.
pub(crate) const STACK: usize = 8 << 20;

struct DocumentWriter {
    definitions: SchemaDefinitions,
    open: Vec<String>,
}

impl DocumentWriter {
    fn function(&mut self, method: &Method, types: &FunctionTypes) -> FunctionSchema {
        let mut written = FunctionSchema::default();
        written.name = method.name.to_string();
        written.aliases = method.aliases.iter().map(ToString::to_string).collect();
        written.doc = method.doc.trim().to_owned();
        written.signature = method.signature();
        let params = method.params.iter().zip(&types.params);
        written.arguments = params.map(|(param, schema)| self.argument(method, param, schema)).collect();
        let takes = method.takes.as_ref().zip(types.takes.as_ref());
        written.takes = takes.map(|(stream, schema)| self.argument(method, stream, schema));
        written.returns = method.returns.to_string();
        written.returns_schema = self.schema(method, "returns", &types.returns);
        written.streams = method.streams;
        written.error = types.error.as_ref().map(|error| self.schema(method, "error", error));
        (written.idempotent, written.readonly, written.keyed) = (method.idempotent, method.readonly, method.keyed);
        written.deprecated = method.deprecated.as_ref().map(ToString::to_string);
        written.timeout_ms = method.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        written.priority = method.priority.to_string();
        written.fingerprint = Fingerprint::of(method, types).map(|fingerprint| fingerprint.to_string());
        (written.package, written.module) = (method.source.package.to_owned(), method.source.module.to_owned());
        written
    }

    fn argument(&mut self, method: &Method, param: &Param, schema: &TypeSchema) -> ArgumentSchema {
        let mut written = ArgumentSchema::default();
        (written.name, written.ty) = (param.name.to_string(), param.ty.to_string());
        written.schema = self.schema(method, &format!("arguments.{}", param.name), schema);
        written.required = !param.optional && param.default.is_none();
        // It was encoded by this library.
        written.default = param.default.as_ref().map(|default| serde_json::from_str(default).unwrap_or_default());
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

fn why(reason: OpenReason) -> &'static str {
    match reason {
        OpenReason::Refuses => "it refuses some values of its shape, as by `try_from`",
        OpenReason::Buffered => "it copies the value before it looks at it, as by `flatten`",
        OpenReason::Recursive => "it contains itself in a way that can't be tried",
        OpenReason::TooLarge => "it is too large, or took too long",
        OpenReason::Panicked => "its code has panicked",
        OpenReason::WritesOther => "it writes something else than it reads, as by `serialize_with`",
        _ => "what it takes is not known",
    }
}
