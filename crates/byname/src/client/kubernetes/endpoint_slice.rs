//! An EndpointSlice, and the lists and events that bring them: [`EndpointSlice`], [`SlicePage`], [`SliceEvent`].

use std::net::IpAddr;

use serde_json::Value;

/// A part of the endpoints of a service. All of them have the same ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointSlice {
    pub(super) name: String,
    /// Of TCP.
    pub(super) ports: Vec<SlicePort>,
    /// The addresses that take new calls.
    pub(super) ready: Vec<IpAddr>,
    /// How many others there are.
    pub(super) unready: usize,
}

/// A port of the pods. It has a name if there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlicePort {
    pub(super) name: String,
    pub(super) number: u16,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlicePage {
    pub(super) slices: Vec<EndpointSlice>,
    /// Where the next part begins.
    pub(super) next: Option<String>,
    pub(super) resource_version: String,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SliceEvent {
    /// A slice is new or has changed.
    Is(EndpointSlice, String),
    /// The slice of this name is gone.
    Gone(String, String),
    /// Nothing has changed up to this version.
    Bookmark(String),
    /// The watch can't go on. `expired` says that the version is too old.
    Failed { expired: bool, why: String },
}

impl SlicePage {
    /// Or what is wrong with the answer.
    pub(super) fn of(list: &Value) -> Result<Self, String> {
        let items = list.get("items").filter(|items| !items.is_null());
        let items = match items {
            Some(items) => items.as_array().ok_or("`items` of the list is not an array")?.as_slice(),
            None => &[],
        };
        let slices = items.iter().map(EndpointSlice::of).collect::<Result<_, _>>()?;
        let next = list.pointer("/metadata/continue").and_then(Value::as_str).filter(|next| !next.is_empty());
        Ok(Self { slices, next: next.map(str::to_owned), resource_version: resource_version(list)? })
    }
}

impl SliceEvent {
    /// Or what is wrong with the event.
    pub(super) fn of(event: &Value) -> Result<Self, String> {
        let kind = text(event, "/type")?;
        let object = event.get("object").ok_or("an event has no `object`")?;
        match kind {
            "ADDED" | "MODIFIED" => Ok(Self::Is(EndpointSlice::of(object)?, resource_version(object)?)),
            "DELETED" => Ok(Self::Gone(text(object, "/metadata/name")?.to_owned(), resource_version(object)?)),
            "BOOKMARK" => Ok(Self::Bookmark(resource_version(object)?)),
            "ERROR" => {
                let code = object.get("code").and_then(Value::as_u64);
                let reason = object.get("reason").and_then(Value::as_str).unwrap_or_default();
                let expired = code == Some(410) || ["Expired", "Gone"].contains(&reason);
                let why = object.get("message").and_then(Value::as_str).unwrap_or("the API server gave no reason");
                Ok(Self::Failed { expired, why: why.to_owned() })
            }
            _ => Err("an event has a `type` that byname doesn't know".to_owned()),
        }
    }
}

impl EndpointSlice {
    fn of(object: &Value) -> Result<Self, String> {
        let name = text(object, "/metadata/name")?.to_owned();
        // Addresses that are names (`FQDN`) have no defined meaning.
        let is_ip = matches!(object.get("addressType").and_then(Value::as_str), Some("IPv4" | "IPv6"));
        let endpoints = array(object, "endpoints").iter().filter(|_| is_ip);
        let (mut ready, mut unready) = (Vec::new(), 0);
        for endpoint in endpoints {
            // Further addresses of an endpoint have no defined meaning.
            let address = endpoint.pointer("/addresses/0").and_then(Value::as_str).and_then(|ip| ip.parse().ok());
            match address {
                Some(address) if is_ready(endpoint) => ready.push(address),
                _ => unready += 1,
            }
        }
        let ports = array(object, "ports").iter().filter_map(SlicePort::of).collect();
        Ok(Self { name, ports, ready, unready })
    }
}

impl SlicePort {
    fn of(port: &Value) -> Option<Self> {
        let is_tcp = port.get("protocol").and_then(Value::as_str).is_none_or(|protocol| protocol == "TCP");
        let name = port.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = port.get("port").and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
        Some(Self { name, number: number.filter(|number| is_tcp && *number > 0)? })
    }
}

/// Without a word about it an endpoint is ready.
fn is_ready(endpoint: &Value) -> bool {
    let condition = |name: &str| endpoint.get("conditions").and_then(|all| all.get(name)).and_then(Value::as_bool);
    condition("ready") != Some(false) && condition("terminating") != Some(true)
}

fn resource_version(object: &Value) -> Result<String, String> {
    text(object, "/metadata/resourceVersion").map(str::to_owned)
}

fn text<'v>(object: &'v Value, pointer: &str) -> Result<&'v str, String> {
    let found = object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    found.ok_or_else(|| format!("an object of the API server has no `{}`", pointer.replace('/', ".")))
}

fn array<'v>(object: &'v Value, name: &str) -> &'v [Value] {
    object.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_takes_no_calls_is_left_out() {
        let object = json!({
            "metadata": { "name": "orders-abc", "resourceVersion": "7" }, "addressType": "IPv4",
            "endpoints": [
                { "addresses": ["10.0.0.1", "10.0.9.9"], "conditions": { "ready": true, "serving": true, "terminating": false } },
                { "addresses": ["10.0.0.2"], "conditions": { "ready": false } },
                { "addresses": ["10.0.0.3"], "conditions": { "ready": true, "terminating": true } },
                { "addresses": ["10.0.0.4"], "conditions": {} },
                { "addresses": ["10.0.0.5"] },
                { "addresses": ["10.0.0.6"], "conditions": { "ready": null, "terminating": null } },
                { "addresses": ["orders.internal"] },
                { "addresses": [] },
            ],
            "ports": [
                { "name": "http", "port": 8080, "protocol": "TCP" }, { "port": 81 }, { "name": "", "port": 82 },
                { "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "all", "port": null },
            ],
        });
        let slice = EndpointSlice::of(&object).unwrap();
        let ready: Vec<_> = slice.ready.iter().map(ToString::to_string).collect();
        assert_eq!(
            (ready, slice.unready),
            (["10.0.0.1", "10.0.0.4", "10.0.0.5", "10.0.0.6"].map(Into::into).into(), 4)
        );
        let ports: Vec<_> = slice.ports.iter().map(|port| (port.name.as_str(), port.number)).collect();
        assert_eq!(ports, [("http", 8080), ("", 81), ("", 82)]);

        let names =
            json!({ "metadata": { "name": "a" }, "addressType": "FQDN", "endpoints": [{ "addresses": ["10.0.0.1"] }] });
        assert_eq!(EndpointSlice::of(&names).unwrap().ready.len(), 0);
        let empty = json!({ "metadata": { "name": "a" }, "addressType": "IPv6", "endpoints": null, "ports": null });
        let nothing = EndpointSlice { name: "a".into(), ports: Vec::new(), ready: Vec::new(), unready: 0 };
        assert_eq!(EndpointSlice::of(&empty).unwrap(), nothing);
    }

    #[test]
    fn lists_and_events_are_read() {
        let list = json!({ "kind": "EndpointSliceList", "metadata": { "resourceVersion": "9", "continue": "x" }, "items": null });
        let page = SlicePage { slices: Vec::new(), next: Some("x".into()), resource_version: "9".into() };
        assert_eq!(SlicePage::of(&list).unwrap(), page);
        let event = |kind: &str, object: Value| SliceEvent::of(&json!({ "type": kind, "object": object })).unwrap();
        let object = json!({ "metadata": { "name": "a", "resourceVersion": "9" } });
        assert!(matches!(event("ADDED", object.clone()), SliceEvent::Is(slice, at) if slice.name == "a" && at == "9"));
        assert_eq!(event("DELETED", object), SliceEvent::Gone("a".into(), "9".into()));
        let bookmark = json!({ "metadata": { "resourceVersion": "12" } });
        assert_eq!(event("BOOKMARK", bookmark), SliceEvent::Bookmark("12".into()));
        for (status, is_expired) in [
            (json!({ "code": 410, "reason": "Expired", "message": "too old resource version: 1 (9)" }), true),
            (json!({ "reason": "Gone" }), true),
            (json!({ "code": 500, "reason": "InternalError" }), false),
        ] {
            assert!(matches!(event("ERROR", status), SliceEvent::Failed { expired, .. } if expired == is_expired));
        }
        for bad in [
            json!({}),
            json!({ "type": "ADDED" }),
            json!({ "type": "ADDED", "object": {} }),
            json!({ "type": "X", "object": {} }),
        ] {
            SliceEvent::of(&bad).expect_err(&bad.to_string());
        }
        SlicePage::of(&json!({ "items": [] })).expect_err("it has no version");
        SlicePage::of(&json!({ "items": {}, "metadata": { "resourceVersion": "1" } })).expect_err("it is no list");
    }
}
