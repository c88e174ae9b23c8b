//! The names of everything that is recorded of calls: those of OpenTelemetry's semantic conventions for RPC where there is one,
//! and our own where there is none.

/// Which protocol a call uses: [`SYSTEM`].
#[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "only OpenTelemetry needs it"))]
pub(crate) const RPC_SYSTEM_NAME: &str = "rpc.system.name";
/// The registered name of the function, or [`OTHER`].
pub(crate) const RPC_METHOD: &str = "rpc.method";
/// The name as the caller wrote it, if no function has it.
pub(crate) const RPC_METHOD_ORIGINAL: &str = "rpc.method_original";
/// [`OK`], or the code of the error.
pub(crate) const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
/// The code of the error. Absent if the call succeeded.
pub(crate) const ERROR_TYPE: &str = "error.type";
/// The host of the server that a client calls.
pub(crate) const SERVER_ADDRESS: &str = "server.address";
/// The port of the server that a client calls.
pub(crate) const SERVER_PORT: &str = "server.port";
/// Who calls: an IP address.
pub(crate) const CLIENT_ADDRESS: &str = "client.address";
/// The port of the caller.
pub(crate) const CLIENT_PORT: &str = "client.port";

/// How often a call was sent, on a span.
pub(crate) const ATTEMPTS: &str = "byname.attempts";
/// Which attempt of a call it is, on an event of its span.
#[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "only OpenTelemetry needs it"))]
pub(crate) const ATTEMPT: &str = "byname.attempt";
/// What the error of an attempt says, on an event of a span.
#[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "only OpenTelemetry needs it"))]
pub(crate) const ERROR_MESSAGE: &str = "error.message";
/// The event of a span whose call is sent again.
pub(crate) const RETRY: &str = "byname.retry";
/// The event of a span whose call is sent to a second server.
pub(crate) const HEDGE: &str = "byname.hedge";
/// The way that the call came by, in the access log, as the names after it.
pub(crate) const WAY: &str = "way";
/// Who the connection proves the caller to be.
pub(crate) const IDENTITY: &str = "identity";
/// Whether the function ran.
pub(crate) const EXECUTED: &str = "executed";
/// How long the call took, in milliseconds.
pub(crate) const DURATION_MS: &str = "duration_ms";
/// The bytes of the request.
pub(crate) const REQUEST_BYTES: &str = "request_bytes";
/// The bytes of the reply.
pub(crate) const RESPONSE_BYTES: &str = "response_bytes";
/// The items that came of the caller's stream.
pub(crate) const ITEMS_RECEIVED: &str = "items_received";
/// The items that the function's stream had.
pub(crate) const ITEMS_SENT: &str = "items_sent";

/// The trace of a call, in logs.
pub(crate) const TRACE_ID: &str = "trace_id";
/// The call's own span, in logs.
pub(crate) const SPAN_ID: &str = "span_id";
/// The span of the call that made it, in logs.
pub(crate) const PARENT_ID: &str = "parent_id";

/// The name of a span in OpenTelemetry, as `tracing-opentelemetry` reads it.
pub(crate) const OTEL_NAME: &str = "otel.name";
/// Whether a span is a client's or a server's, as `tracing-opentelemetry` reads it.
pub(crate) const OTEL_KIND: &str = "otel.kind";
/// The value of [`RPC_SYSTEM_NAME`].
#[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "only OpenTelemetry needs it"))]
pub(crate) const SYSTEM: &str = "byname";
/// The value of [`RPC_METHOD`] for names that no function has. So callers can't make names.
pub(crate) const OTHER: &str = "_OTHER";
/// The value of [`RPC_RESPONSE_STATUS_CODE`] for a success.
pub(crate) const OK: &str = "ok";
