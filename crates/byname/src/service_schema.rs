//! Describes the functions of a server: [`described`], [`ServiceDocument`].

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
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
    let types = traced(&methods, TimeBudget::default, |found| found.recv_timeout(GIVEN_UP));
    let mut writer = DocumentWriter { definitions: SchemaDefinitions::at("#/$defs/"), open: Vec::new() };
    let mut schema = ServiceSchema::default();
    let functions = methods.iter().zip(&types).map(|(method, types)| writer.function(method, types));
    schema.functions = functions.collect();
    schema.definitions = writer.definitions.into_map();
    schema.open = writer.open;
    schema.note = (!cfg!(feature = "schema")).then(|| NO_SCHEMAS.to_owned());
    schema
}

/// The types of the functions. They are asked on a thread of its own, because their code is that of the user. `budget` is the time of one
/// function: one with slow types must not leave the others without schemas. `next` waits for the types of the next function.
fn traced(
    methods: &[Arc<Method>],
    budget: fn() -> TimeBudget,
    next: impl Fn(&Receiver<Arc<FunctionTypes>>) -> Result<Arc<FunctionTypes>, RecvTimeoutError>,
) -> Vec<Arc<FunctionTypes>> {
    let mut all = Vec::new();
    while all.len() < methods.len() {
        let rest = methods[all.len()..].to_vec();
        let (sender, found) = mpsc::channel();
        let trace = move || rest.iter().all(|method| sender.send(method.types(&budget())).is_ok());
        let thread = thread::Builder::new().name("byname-schema".to_owned()).stack_size(STACK);
        let thread = thread.spawn(trace).expect("a thread can be started");
        let why = loop {
            match next(&found) {
                Ok(types) => all.push(types),
                Err(why) => break why,
            }
        };
        match (why, methods.get(all.len())) {
            (_, None) => {}
            // The thread is left alone.
            (RecvTimeoutError::Timeout, Some(endless)) => all.push(endless.give_up_types()),
            // Panics of types are caught, so this is one of the tracer.
            (RecvTimeoutError::Disconnected, Some(_)) => match thread.join() {
                Ok(_) => unreachable!("the thread has ended before it had all types"),
                Err(panic) => std::panic::resume_unwind(panic),
            },
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

#[cfg(all(test, feature = "schema"))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc::TryRecvError;

    use serde::{Deserialize, Deserializer, Serialize};

    use super::*;
    use crate::server::Server;

    fn methods(server: &Server) -> Vec<Arc<Method>> {
        server.methods().map(|method| Arc::new(method.clone())).collect()
    }

    #[test]
    fn each_function_has_its_own_time() {
        static BUDGETS: AtomicUsize = AtomicUsize::new(0);
        fn budget() -> TimeBudget {
            BUDGETS.fetch_add(1, Ordering::SeqCst);
            TimeBudget::default()
        }
        let server = Server::new().function("a", |_: u8| async {}).function("b", |_: u16| async {});
        let types = traced(&methods(&server), budget, |found| found.recv().map_err(|_| RecvTimeoutError::Disconnected));
        assert_eq!((types.len(), BUDGETS.load(Ordering::SeqCst)), (2, 2));
    }

    static IS_ASKED: AtomicBool = AtomicBool::new(false);

    #[derive(Serialize, Deserialize)]
    struct Endless(#[serde(deserialize_with = "never")] u8);

    fn never<'de, D: Deserializer<'de>>(_: D) -> Result<u8, D::Error> {
        IS_ASKED.store(true, Ordering::SeqCst);
        loop {
            thread::park();
        }
    }

    /// Types that were found are there, or the thread is in code that never ends.
    fn next(found: &Receiver<Arc<FunctionTypes>>) -> Result<Arc<FunctionTypes>, RecvTimeoutError> {
        loop {
            match found.try_recv() {
                Ok(types) => return Ok(types),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) if IS_ASKED.swap(false, Ordering::SeqCst) => {
                    return Err(RecvTimeoutError::Timeout);
                }
                Err(TryRecvError::Empty) => thread::yield_now(),
            }
        }
    }

    #[test]
    fn a_type_whose_code_never_ends_is_given_up_and_the_others_are_found() {
        let server = Server::new().function("endless", |_: Endless| async {}).function("quick", |_: u8| async {});
        let methods = methods(&server);
        let types = traced(&methods, TimeBudget::default, next);
        let open = |at: usize| types[at].params[0].open().len();
        assert_eq!((types.len(), open(0), open(1)), (2, 1, 0));
        let again =
            traced(&methods, TimeBudget::default, |found| found.recv().map_err(|_| RecvTimeoutError::Disconnected));
        assert!(Arc::ptr_eq(&types[0], &again[0]), "it is not asked again");
    }
}
