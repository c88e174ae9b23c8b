//! The messages of etcd's JSON gateway: requests, and what their answers say. Pure.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::json_over_http::JsonRequest;
use crate::untrusted_text::excerpt;

/// The most bytes of an answer in a message.
const LONGEST_EXCERPT: usize = 200;

/// The gateway passes it on. A member then ends its watches when the cluster has no leader.
const HAS_LEADER: HeaderName = HeaderName::from_static("grpc-metadata-hasleader");

/// The keys below a prefix, and the revision of the store at which they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) entries: Vec<(String, String)>,
    pub(crate) revision: i64,
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WatchNews {
    /// In this order. There may be none: the watch is alive.
    Changed { changes: Vec<KeyChange>, revision: i64 },
    /// The store has forgotten the revision that the watch begins with.
    Compacted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyChange {
    Put { key: String, value: String },
    Deleted { key: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseId(pub(crate) i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

pub(super) fn range(prefix: &str) -> JsonRequest {
    let (key, range_end) = below(prefix);
    JsonRequest::post("/v3/kv/range", json!({ "key": key, "range_end": range_end }))
}

pub(super) fn watch(prefix: &str, revision: i64) -> JsonRequest {
    let (key, range_end) = below(prefix);
    let create = json!({ "key": key, "range_end": range_end, "start_revision": revision.to_string() });
    JsonRequest::post("/v3/watch", json!({ "create_request": create }))
        .header(HAS_LEADER, HeaderValue::from_static("true"))
}

pub(super) fn grant(seconds: u64) -> JsonRequest {
    JsonRequest::post("/v3/lease/grant", json!({ "TTL": seconds.to_string() }))
}

pub(super) fn keep_alive(lease: LeaseId) -> JsonRequest {
    JsonRequest::post("/v3/lease/keepalive", json!({ "ID": lease.0.to_string() }))
}

pub(super) fn revoke(lease: LeaseId) -> JsonRequest {
    JsonRequest::post("/v3/lease/revoke", json!({ "ID": lease.0.to_string() }))
}

pub(super) fn put(key: &str, value: &str, lease: LeaseId) -> JsonRequest {
    let body = json!({ "key": encoded(key), "value": encoded(value), "lease": lease.0.to_string() });
    JsonRequest::post("/v3/kv/put", body)
}

pub(super) fn delete(key: &str) -> JsonRequest {
    JsonRequest::post("/v3/kv/deleterange", json!({ "key": encoded(key) }))
}

/// Asks for one key, without its value.
pub(super) fn one_key(key: &str) -> JsonRequest {
    JsonRequest::post("/v3/kv/range", json!({ "key": encoded(key), "keys_only": true }))
}

/// What is wrong, if the answer says so.
pub(super) fn error(answer: &Value) -> Option<String> {
    let error = answer.get("error")?;
    let text = error.as_str().or_else(|| error.get("message")?.as_str());
    Some(text.map_or_else(|| excerpt(error, LONGEST_EXCERPT), |text| excerpt(text, LONGEST_EXCERPT)))
}

/// Whether the answer says that what was named, such as a lease, is not there.
pub(super) fn is_not_found(answer: &Value) -> bool {
    const NOT_FOUND: u64 = 5;
    answer.get("error").is_some() && answer.get("code").and_then(Value::as_u64) == Some(NOT_FOUND)
}

/// The message about an answer that has not what is needed.
pub(super) fn not_of_etcd(answer: &Value) -> String {
    format!("the answer is not one of etcd's JSON gateway: {}", excerpt(answer, LONGEST_EXCERPT))
}

pub(super) fn keys(answer: &Value) -> Option<Keys> {
    let entries = match answer.get("kvs") {
        Some(entries) => entries.as_array()?.iter().map(key_and_value).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    Some(Keys { entries, revision: revision(answer)? })
}

pub(super) fn news(value: &Value) -> Option<WatchNews> {
    let result = value.get("result")?;
    // A field is left out if it is 0.
    if result.get("compact_revision").and_then(number).is_some_and(|compacted| compacted > 0) {
        return Some(WatchNews::Compacted);
    }
    if result.get("canceled").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let changes = match result.get("events") {
        Some(events) => events.as_array()?.iter().map(change).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    Some(WatchNews::Changed { changes, revision: revision(result)? })
}

/// Whether the key that was asked for is there, and ends with this lease.
pub(super) fn ends_with(answer: &Value, lease: LeaseId) -> Option<bool> {
    let has_lease = |entry: &Value| entry.get("lease").and_then(number) == Some(lease.0);
    let is_there = match answer.get("kvs") {
        Some(entries) => entries.as_array()?.iter().any(has_lease),
        None => false,
    };
    // Every answer has a revision.
    revision(answer).map(|_| is_there)
}

pub(super) fn granted(answer: &Value) -> Option<LeaseId> {
    answer.get("ID").and_then(number).map(LeaseId)
}

pub(super) fn is_alive(answer: &Value) -> Option<bool> {
    // A field is left out if it is 0.
    let seconds = answer.get("result")?.get("TTL");
    Some(seconds.and_then(number).is_some_and(|seconds| seconds > 0))
}

/// All keys that begin with the prefix and a slash.
fn below(prefix: &str) -> (String, String) {
    // The character after a slash is `0`.
    (encoded(&format!("{prefix}/")), encoded(&format!("{prefix}0")))
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// Keys and values of byname are text. Others are shown in messages.
fn decoded(value: &Value) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(value.as_str()?).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn key_and_value(entry: &Value) -> Option<(String, String)> {
    let value = match entry.get("value") {
        Some(value) => decoded(value)?,
        None => String::new(),
    };
    Some((decoded(entry.get("key")?)?, value))
}

fn change(event: &Value) -> Option<KeyChange> {
    let (key, value) = key_and_value(event.get("kv")?)?;
    match event.get("type").and_then(Value::as_str) {
        // The first kind is left out.
        None | Some("PUT") => Some(KeyChange::Put { key, value }),
        Some("DELETE") => Some(KeyChange::Deleted { key }),
        Some(_) => None,
    }
}

fn revision(message: &Value) -> Option<i64> {
    number(message.get("header")?.get("revision")?)
}

/// 64 bits are text in the JSON of protobuf.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(request: &JsonRequest) -> String {
        request.body.as_ref().expect("it has one").to_string()
    }

    #[test]
    fn a_range_is_everything_below_the_prefix_and_its_slash() {
        assert_eq!(below("orders"), (BASE64_STANDARD.encode("orders/"), BASE64_STANDARD.encode("orders0")));
        assert_eq!(body(&range("a")), r#"{"key":"YS8=","range_end":"YTA="}"#);
        let watching = watch("a", 6);
        let expected = r#"{"create_request":{"key":"YS8=","range_end":"YTA=","start_revision":"6"}}"#;
        assert_eq!((watching.path.as_str(), body(&watching).as_str()), ("/v3/watch", expected));
        assert!(watching.headers.contains_key(HAS_LEADER));
    }

    /// Recorded from etcd 3.4.
    #[test]
    fn the_answers_of_etcd_are_read() {
        let header = json!({ "cluster_id": "1", "member_id": "2", "revision": "5", "raft_term": "2" });
        let kv = json!({ "key": "YS8x", "create_revision": "5", "mod_revision": "5", "version": "1", "value": "djE=" });
        let entry = || ("a/1".to_owned(), "v1".to_owned());
        let found = keys(&json!({ "header": header, "kvs": [kv], "count": "1" }));
        assert_eq!(found, Some(Keys { entries: vec![entry()], revision: 5 }));
        assert_eq!(keys(&json!({ "header": header })), Some(Keys { entries: Vec::new(), revision: 5 }));
        let created = news(&json!({ "result": { "header": header, "created": true } }));
        assert_eq!(created, Some(WatchNews::Changed { changes: Vec::new(), revision: 5 }));
        let events = json!([{ "kv": kv }, { "type": "DELETE", "kv": { "key": "YS8x", "mod_revision": "5" } }]);
        let (key, value) = entry();
        let changes = vec![KeyChange::Put { key: key.clone(), value }, KeyChange::Deleted { key }];
        let changed = news(&json!({ "result": { "header": header, "events": events } }));
        assert_eq!(changed, Some(WatchNews::Changed { changes, revision: 5 }));
        let compacted = json!({ "result": { "header": header, "canceled": true, "compact_revision": "9" } });
        assert_eq!(news(&compacted), Some(WatchNews::Compacted));
        assert_eq!(news(&json!({ "result": { "header": header, "canceled": true } })), None);
        assert_eq!(granted(&json!({ "header": header, "ID": "77", "TTL": "10" })), Some(LeaseId(77)));
        assert_eq!(is_alive(&json!({ "result": { "header": header, "ID": "77", "TTL": "10" } })), Some(true));
        assert_eq!(is_alive(&json!({ "result": { "header": header, "ID": "77" } })), Some(false));
        let entry =
            json!({ "key": "YS8x", "create_revision": "5", "mod_revision": "5", "version": "1", "lease": "77" });
        let one = json!({ "header": header, "kvs": [entry], "count": "1" });
        assert_eq!([77, 78].map(|lease| ends_with(&one, LeaseId(lease))), [Some(true), Some(false)]);
        assert_eq!(ends_with(&json!({ "header": header }), LeaseId(77)), Some(false), "it is not there");
        let failed = json!({ "error": "etcdserver: requested lease not found", "code": 5, "message": "…" });
        assert_eq!(error(&failed).as_deref(), Some("etcdserver: requested lease not found"));
        assert!(is_not_found(&failed) && !is_not_found(&json!({ "error": "no leader", "code": 14 })));
        let failed = json!({ "error": { "grpc_code": 14, "http_code": 503, "message": "etcdserver: no leader" } });
        assert_eq!(error(&failed).as_deref(), Some("etcdserver: no leader"));
    }

    #[test]
    fn what_is_not_of_etcd_is_nothing() {
        for other in [
            json!({}),
            json!({ "header": {} }),
            json!({ "header": { "revision": "x" } }),
            json!({ "header": { "revision": "1" }, "kvs": [{ "key": "?" }] }),
            json!({ "result": { "header": { "revision": "1" }, "events": [{ "type": "MOVE", "kv": { "key": "YQ==" } }] } }),
        ] {
            assert_eq!((keys(&other), news(&other), granted(&other)), (None, None, None), "{other}");
            assert_ne!(ends_with(&other, LeaseId(1)), Some(true), "{other}");
        }
    }
}
