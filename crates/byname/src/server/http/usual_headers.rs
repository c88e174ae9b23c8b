//! The headers that nearly all replies of a server have: [`UsualHeaders`].

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::headers::{INSTANCE, JSON, LOAD, PROTOCOL, VERSION, WAYS};

/// The headers of a server's replies. A copy of a map that has them costs half as much as to insert them, because no name is
/// hashed.
#[derive(Debug)]
pub(super) struct UsualHeaders {
    ways: HeaderValue,
    instance: HeaderValue,
    json: HeaderMap,
    json_with_load: HeaderMap,
}

impl UsualHeaders {
    pub(super) fn new(ways: HeaderValue, instance: HeaderValue) -> Self {
        let mut json = HeaderMap::new();
        // Only these maps begin with it.
        json.insert(PROTOCOL, VERSION);
        json.insert(WAYS, ways.clone());
        json.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        let mut json_with_load = json.clone();
        json_with_load.insert(LOAD, HeaderValue::from_static(""));
        json_with_load.insert(INSTANCE, instance.clone());
        Self { ways, instance, json, json_with_load }
    }

    /// For a reply in JSON. They are to be [completed](Self::complete) when it is sent.
    pub(super) fn of_json(&self, tells_load: bool) -> HeaderMap {
        if tells_load { self.json_with_load.clone() } else { self.json.clone() }
    }

    /// Adds what a reply has yet to have. `load` is how busy the server is now, if the caller is to learn it.
    pub(super) fn complete(&self, headers: &mut HeaderMap, load: Option<HeaderValue>) {
        let is_usual = headers.keys().next().is_some_and(|first: &HeaderName| *first == PROTOCOL);
        if !is_usual {
            headers.insert(PROTOCOL, VERSION);
            headers.insert(WAYS, self.ways.clone());
        }
        let prepared = headers.iter_mut().find(|(name, _)| is_usual && **name == LOAD);
        match (load, prepared) {
            (Some(load), Some((_, value))) => *value = load,
            (Some(load), None) => {
                headers.insert(LOAD, load);
                headers.insert(INSTANCE, self.instance.clone());
            }
            (None, Some(_)) => {
                headers.remove(LOAD);
                headers.remove(INSTANCE);
            }
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(calls: &'static str) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(calls))
    }

    fn sorted(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let mut sorted: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        sorted.sort_unstable();
        sorted
    }

    #[test]
    fn a_prepared_reply_has_the_same_headers_as_another() {
        let usual = UsualHeaders::new(HeaderValue::from_static("path"), HeaderValue::from_static("07"));
        for (tells_load, load) in [(true, load("3, 0")), (true, None), (false, load("3, 0")), (false, None)] {
            let mut other = HeaderMap::new();
            other.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
            usual.complete(&mut other, load.clone());
            let mut prepared = usual.of_json(tells_load);
            usual.complete(&mut prepared, load.clone());
            assert_eq!(sorted(&prepared), sorted(&other), "{tells_load} {load:?}");
            assert_eq!(prepared.len(), if load.is_some() { 5 } else { 3 });
        }
    }
}
