//! Raw bytes: `application/octet-stream` for a function that takes or returns [`Bytes`](crate::Bytes).

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use super::HttpReply;
use crate::arguments::EncodedArguments;
use crate::codec::{self, Codec};

pub(crate) const OCTETS: &str = "application/octet-stream";

/// Whether a body is raw bytes.
pub(crate) fn is(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(names)
}

/// Whether the caller accepts raw bytes.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).into_iter().filter_map(|accept| accept.to_str().ok());
    accepts.flat_map(|accept| accept.split(',')).any(names)
}

fn names(media: &str) -> bool {
    media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(OCTETS)
}

/// Server: the body as the only argument.
pub(crate) fn read(body: Bytes) -> EncodedArguments {
    EncodedArguments::by_position(Codec::MessagePack, packed(&(codec::Bytes::from(body),)))
}

/// Server: a part of a body as an item of a stream.
pub(crate) fn item(part: Bytes) -> Bytes {
    packed(&codec::Bytes::from(part))
}

/// Server: a success.
pub(crate) fn success(codec: Codec, value: &[u8]) -> Result<HttpReply, String> {
    let bytes: codec::Bytes = codec::decode(codec, value)?;
    Ok(HttpReply { status: StatusCode::OK, content_type: OCTETS, retry_after: None, body: bytes.into() })
}

/// Server: appends an item of a stream of bytes.
pub(crate) fn put_item(codec: Codec, item: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let bytes: codec::Bytes = codec::decode(codec, item)?;
    out.extend_from_slice(&bytes);
    Ok(())
}

/// Encoded as MessagePack, which has bytes.
fn packed<T: serde_core::Serialize>(value: &T) -> Bytes {
    let mut out = Vec::new();
    codec::encode(Codec::MessagePack, value, &mut out).expect("bytes can be encoded");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_through_as_they_are() {
        for length in [0, 1, 255, 256, 65_535, 65_536] {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let item = item(bytes.clone().into());
            assert_eq!(success(Codec::MessagePack, &item).unwrap().body, bytes);
            let argument = read(bytes.clone().into()).positional;
            assert_eq!(argument[0], 0x91, "an array of one");
            assert_eq!(argument[1..], item);
            let mut json = Vec::new();
            codec::encode(Codec::Json, &codec::Bytes::from(bytes.clone()), &mut json).unwrap();
            assert_eq!(success(Codec::Json, &json).unwrap().body, bytes);
        }
        assert!(success(Codec::Json, b"{}").is_err());
    }
}
