//! The description of a function: [`Method`].

mod fingerprint;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use byname_schema::{TimeBudget, TypeSchema};

pub(crate) use self::fingerprint::Fingerprint;
use crate::codec::Codec;
use crate::error::Error;
use crate::priority::Priority;
use crate::untrusted_text::quoted;

/// The description of a function that can be called, for programs and for people.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Method {
    /// The name on the wire.
    pub name: Cow<'static, str>,
    /// Other names of the function.
    pub aliases: Vec<Cow<'static, str>>,
    /// The doc comment.
    pub doc: Cow<'static, str>,
    /// The arguments, in order.
    pub params: Vec<Param>,
    /// The stream that it takes as its last argument, if it takes one.
    pub takes: Option<Param>,
    /// The type of the result, as written.
    pub returns: Cow<'static, str>,
    /// Whether it returns a stream.
    pub streams: bool,
    /// Whether it returns a `Result`.
    pub fallible: bool,
    /// Whether running it twice has the effect of running it once. Then a call may be sent again when its outcome is
    /// unknown.
    pub idempotent: bool,
    /// Whether it changes nothing. Then a GET may call it, and it is dropped when its caller is gone.
    pub readonly: bool,
    /// Whether its calls have a key with which they run once: [`Call::idempotency_key`](crate::Call::idempotency_key). A client
    /// makes one for each call that has none, and a server refuses a call without one.
    pub keyed: bool,
    /// Whether its clients send a slow call to a second replica, unless their policy says otherwise. Only if it is readonly.
    pub hedge: bool,
    /// Whether it blocks its thread. Then it runs on a thread that may be blocked.
    pub blocking: bool,
    /// Its own time-out instead of [`Limits::call`](crate::Limits::call).
    pub timeout: Option<Duration>,
    /// How important its calls are, where their callers don't say so.
    pub priority: Priority,
    /// How many calls of it may run at once, besides [`Limits::in_flight`](crate::Limits::in_flight).
    pub in_flight: Option<usize>,
    /// How long a browser or a proxy may keep its answer to a GET.
    pub max_age: Option<Duration>,
    /// Whether a shared cache may keep it as well.
    pub public: bool,
    /// Whether it is left out of what the server says of itself: [`Server::schema`](crate::Server::schema), and suggestions in errors.
    pub hidden: bool,
    /// The reason of `#[deprecated]`. Empty if that gives none.
    pub deprecated: Option<Cow<'static, str>>,
    /// The schema of its result or of its items. `None` for a function whose result is only written.
    pub(crate) returns_schema: Option<SchemaFn>,
    /// The schema of its error, if that is a type of its own.
    pub(crate) error_schema: Option<ErrorSchemaFn>,
    pub(crate) traced: Arc<TracedFunction>,
    /// Its place in the source.
    pub source: Source,
}

impl Method {
    /// A number of the function in this process. Numbers are small, so that something can be found by them.
    #[inline]
    pub(crate) fn number(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        *self.traced.number.get_or_init(|| NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The functions of a stub.
pub type StubMethods = fn() -> Vec<&'static Method>;

/// Makes the schema of a type, in that time.
pub type SchemaFn = fn(&TimeBudget) -> TypeSchema;
pub(crate) type ErrorSchemaFn = fn(&TimeBudget) -> Option<TypeSchema>;

/// How often the types of a function are asked, if the time is too short.
const ATTEMPTS: u8 = 3;

/// What was found out of a function by running the code of its types.
#[derive(Debug, Default)]
pub(crate) struct TracedFunction {
    types: OnceLock<Arc<FunctionTypes>>,
    /// Its number in this process, once it was asked for.
    number: OnceLock<usize>,
    /// How often the time was too short for them.
    times_too_short: AtomicU8,
    /// `None` in it if its structure is not known completely.
    pub(crate) fingerprint: OnceLock<Option<Fingerprint>>,
    /// Whether its fingerprint was asked for.
    pub(crate) is_asked_for: AtomicBool,
}

/// The types of a function.
#[derive(Debug)]
pub(crate) struct FunctionTypes {
    pub(crate) params: Vec<TypeSchema>,
    pub(crate) takes: Option<TypeSchema>,
    pub(crate) returns: TypeSchema,
    pub(crate) error: Option<TypeSchema>,
}

/// One argument of a [`Method`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Param {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its type, as written.
    pub ty: Cow<'static, str>,
    /// Whether it is an `Option`, which may be left out.
    pub optional: bool,
    /// The value of an argument that is left out, as JSON. A stub sends the argument anyway.
    pub default: Option<String>,
    /// The same value as MessagePack.
    pub(crate) default_packed: Option<Vec<u8>>,
    pub(crate) schema: SchemaFn,
}

impl Param {
    /// Its default in that codec.
    pub(crate) fn encoded_default(&self, codec: Codec) -> Option<&[u8]> {
        match codec {
            Codec::MessagePack => self.default_packed.as_deref(),
            Codec::Json => self.default.as_deref().map(str::as_bytes),
        }
    }
}

/// The place of a [`Method`] in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// The package, as Cargo names it.
    pub package: &'static str,
    /// The module.
    pub module: &'static str,
    /// The file, as it was given to the compiler.
    pub file: &'static str,
    /// The line.
    pub line: u32,
}

impl Method {
    /// The schemas of its types. They are made once, by running the types' own code.
    pub(crate) fn types(&self, budget: &TimeBudget) -> Arc<FunctionTypes> {
        if let Some(types) = self.traced.types.get() {
            return Arc::clone(types);
        }
        let types = Arc::new(FunctionTypes {
            params: self.params.iter().map(|param| (param.schema)(budget)).collect(),
            takes: self.takes.as_ref().map(|stream| (stream.schema)(budget)),
            returns: self.returns_schema.map_or_else(TypeSchema::unknown, |schema| schema(budget)),
            error: self.error_schema.and_then(|schema| schema(budget)),
        });
        // What the time was too short for is made again, because the machine may have been busy. Then the types are slow.
        if budget.is_spent() && self.traced.times_too_short.fetch_add(1, Ordering::Relaxed) + 1 < ATTEMPTS {
            return types;
        }
        Arc::clone(self.traced.types.get_or_init(|| types))
    }

    /// Nothing is known of its types from now on, because their code does not end.
    pub(crate) fn give_up_types(&self) -> Arc<FunctionTypes> {
        let unknown = || FunctionTypes {
            params: self.params.iter().map(|_| TypeSchema::unknown()).collect(),
            takes: self.takes.as_ref().map(|_| TypeSchema::unknown()),
            returns: TypeSchema::unknown(),
            error: self.error_schema.map(|_| TypeSchema::unknown()),
        };
        Arc::clone(self.traced.types.get_or_init(|| Arc::new(unknown())))
    }

    /// The signature in Rust's notation: `add(a: i64, b: i64) -> i64`.
    pub fn signature(&self) -> String {
        let mut out = format!("{}(", self.name);
        for (at, param) in self.params.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let _ = write!(out, "{comma}{}: {}", param.name, param.ty);
            if let Some(default) = &param.default {
                let _ = write!(out, " = {default}");
            }
        }
        if let Some(stream) = &self.takes {
            let comma = if self.params.is_empty() { "" } else { ", " };
            let _ = write!(out, "{comma}{}: {}", stream.name, stream.ty);
        }
        out.push(')');
        if self.returns != "()" {
            let _ = write!(out, " -> {}", self.returns);
        }
        out
    }

    /// The index of an argument, or a message that lists the arguments.
    pub(crate) fn param(&self, name: &str) -> Result<usize, String> {
        let unknown = || match name {
            // The body of the plain way was sent to the path of a function, so its name is there twice.
            "fun" => "unknown argument `fun` (a client's address ends before the function's name)".to_owned(),
            _ if self.takes.as_ref().is_some_and(|stream| stream.name == name) => {
                format!("argument `{name}` is a stream: its items are sent with the call, it is not a value in it")
            }
            _ => format!("unknown argument {}", quoted(name)),
        };
        self.params.iter().position(|param| param.name == name).ok_or_else(unknown)
    }

    /// The message for an unknown argument.
    #[cold]
    pub(crate) fn unknown(&self, name: &str) -> Option<Box<str>> {
        let mut params = self.params.iter().chain(&self.takes);
        params.all(|param| param.name != name).then(|| name.into())
    }

    /// The same method under a prefix.
    pub(crate) fn prefixed(mut self, prefix: &str) -> Self {
        self.name = format!("{prefix}.{}", self.name).into();
        self.aliases = self.aliases.iter().map(|alias| format!("{prefix}.{alias}").into()).collect();
        self
    }
}

/// The properties of a function that `#[rpc]` knows at compile time. A [`Method`] is made from it once.
#[derive(Debug)]
#[allow(missing_docs, reason = "written by the attribute only; `Method` documents each")]
pub struct MethodSpec {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub doc: &'static str,
    pub params: &'static [ParamSpec],
    pub takes: Option<(&'static str, &'static str, SchemaFn)>,
    pub returns: &'static str,
    pub returns_schema: Option<SchemaFn>,
    pub error_schema: Option<ErrorSchemaFn>,
    pub streams: bool,
    pub fallible: bool,
    pub idempotent: bool,
    pub readonly: bool,
    pub keyed: bool,
    pub hedge: bool,
    pub blocking: bool,
    pub timeout_ms: Option<u64>,
    pub priority: Priority,
    pub in_flight: Option<usize>,
    pub max_age_s: Option<u32>,
    pub public: bool,
    pub hidden: bool,
    pub deprecated: Option<&'static str>,
    pub package: &'static str,
    pub module: &'static str,
    pub file: &'static str,
    pub line: u32,
}

/// One argument of a [`MethodSpec`].
#[derive(Debug)]
#[allow(missing_docs, reason = "written by the attribute only; `Param` documents each")]
pub struct ParamSpec {
    pub name: &'static str,
    pub ty: &'static str,
    pub schema: SchemaFn,
    pub optional: fn() -> bool,
    pub default: Option<fn() -> Result<EncodedDefault, Error>>,
}

/// The default of an argument in each codec.
#[derive(Debug)]
pub struct EncodedDefault {
    pub(crate) json: String,
    pub(crate) message_pack: Vec<u8>,
}

impl Method {
    /// The expansion of the attribute makes it.
    ///
    /// # Panics
    ///
    /// If a `#[rpc(default = …)]` can't be encoded. This is a defect of the program and is found at its first use.
    #[doc(hidden)]
    pub fn new(spec: &'static MethodSpec) -> Self {
        let param = |param: &'static ParamSpec| {
            let default = param.default.map(|default| {
                default().unwrap_or_else(|error| panic!("the default of `{}` of `{}`: {error}", param.name, spec.name))
            });
            let (json, message_pack) =
                default.map(|EncodedDefault { json, message_pack }| (json, message_pack)).unzip();
            Param {
                name: param.name.into(),
                ty: param.ty.into(),
                optional: (param.optional)(),
                default: json,
                default_packed: message_pack,
                schema: param.schema,
            }
        };
        Self {
            name: spec.name.into(),
            aliases: spec.aliases.iter().map(|&alias| alias.into()).collect(),
            doc: spec.doc.into(),
            params: spec.params.iter().map(param).collect(),
            takes: spec.takes.map(|(name, ty, schema)| Param {
                name: name.into(),
                ty: ty.into(),
                optional: false,
                default: None,
                default_packed: None,
                schema,
            }),
            returns: spec.returns.into(),
            streams: spec.streams,
            fallible: spec.fallible,
            idempotent: spec.idempotent || spec.readonly,
            readonly: spec.readonly,
            keyed: spec.keyed,
            hedge: spec.hedge,
            blocking: spec.blocking,
            timeout: spec.timeout_ms.map(Duration::from_millis),
            priority: spec.priority,
            in_flight: spec.in_flight,
            max_age: spec.max_age_s.map(|seconds| Duration::from_secs(seconds.into())),
            public: spec.public,
            hidden: spec.hidden,
            deprecated: spec.deprecated.map(Into::into),
            returns_schema: spec.returns_schema,
            error_schema: spec.error_schema,
            traced: Arc::default(),
            source: Source { package: spec.package, module: spec.module, file: spec.file, line: spec.line },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::server::Server;

    #[test]
    fn types_for_which_the_time_is_too_short_are_asked_three_times() {
        let server = Server::new().function("f", |a: u8| async move { a });
        let method = server.methods().next().expect("it has one");
        let types = || method.types(&TimeBudget::until(Instant::now()));
        let all = [types(), types(), types(), types()];
        let is_made_again: Vec<_> = all.windows(2).map(|two| !Arc::ptr_eq(&two[0], &two[1])).collect();
        assert_eq!(is_made_again, [true, true, false]);
    }
}
