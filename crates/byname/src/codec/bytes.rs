//! [`Bytes`], and their base64 text in JSON.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use base64::display::Base64Display;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, alphabet};
use serde_core::de::{Error, Expected, SeqAccess, Visitor};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::{encoded_parts, type_detection};

/// Bytes as an argument, a result, an item of a stream, or a part of one.
///
/// They are `bin` in MessagePack, and text in JSON: base64 with the standard alphabet and with padding. A reader also
/// accepts text without padding, the alphabet for URLs, and an array of numbers from 0 to 255, in either codec. A
/// `Vec<u8>` is such an array. In JSON it takes three to four times as much room as its bytes, and more time.
///
/// A clone shares the memory, and so do conversions from and to [`bytes::Bytes`]. Other types that serialize as bytes
/// (`bytes::Bytes` itself, `serde_bytes`) arrive as arrays of numbers.
///
/// For large bytes this is the fastest type. By frames in MessagePack, `Bytes` of more than 64 KiB in an argument or a result
/// are sent from where they are. Those that arrive share the memory of their message if they are at least half of it. So they hold at
/// most four times their length, for as long as they or a clone or a part of them exist. All others are copied. To keep a small
/// part of large bytes, copy it: `Bytes::copy_from_slice(&picture[..100])`.
///
/// ```
/// use byname::{Bytes, rpc};
///
/// #[rpc(readonly)]
/// async fn thumbnail(picture: Bytes) -> Bytes {
///     let shorter = &picture[..picture.len() / 2];
///     shorter.to_vec().into()
/// }
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(bytes::Bytes);

impl Bytes {
    /// No bytes.
    pub const fn new() -> Self {
        Self(bytes::Bytes::new())
    }

    /// Static bytes, without a copy.
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Self(bytes::Bytes::from_static(bytes))
    }

    /// A copy of these bytes.
    pub fn copy_from_slice(bytes: &[u8]) -> Self {
        Self(bytes::Bytes::copy_from_slice(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

macro_rules! from {
    ($($type:ty),*) => {$(
        impl From<$type> for Bytes {
            fn from(bytes: $type) -> Self {
                Self(bytes.into())
            }
        }
    )*};
}
from!(bytes::Bytes, bytes::BytesMut, Vec<u8>, Box<[u8]>, String, &'static [u8], &'static str);

impl<const N: usize> From<&'static [u8; N]> for Bytes {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self::from_static(bytes)
    }
}

impl From<Bytes> for bytes::Bytes {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

/// Without a copy if the memory is not shared.
impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.0.into()
    }
}

impl FromIterator<u8> for Bytes {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        Self(bytes.into_iter().collect())
    }
}

macro_rules! equal {
    ($($type:ty),*) => {$(
        impl PartialEq<$type> for Bytes {
            fn eq(&self, other: &$type) -> bool {
                self[..] == other[..]
            }
        }

        impl PartialEq<Bytes> for $type {
            fn eq(&self, other: &Bytes) -> bool {
                self[..] == other[..]
            }
        }
    )*};
}
equal!([u8], &[u8], Vec<u8>, bytes::Bytes);

impl<const N: usize> PartialEq<[u8; N]> for Bytes {
    fn eq(&self, other: &[u8; N]) -> bool {
        self[..] == other[..]
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Bytes {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self[..] == other[..]
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("Bytes", &Content(&self.0))
    }
}

/// The content of [`Bytes`]. The writer of MessagePack recognizes it by its type, and requests bytes.
pub(super) struct Content<'b>(&'b bytes::Bytes);

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
        } else {
            encoded_parts::offering(self.0, || serializer.serialize_bytes(self.0))
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_newtype_struct("Bytes", Read)
        } else {
            deserializer.deserialize_byte_buf(Read)
        }
    }
}

/// Whether this is the visitor of [`Bytes`], which accepts raw bytes.
pub(super) fn is_visitor<V>() -> bool {
    type_detection::is::<V, Read>()
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes, as base64 text or as an array of numbers")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(encoded_parts::shared(bytes).map_or_else(|| Bytes::copy_from_slice(bytes), Bytes))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(bytes.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        // A text with characters of both alphabets is invalid in each of them.
        let engine = if text.contains(['-', '_']) { &FOR_URLS } else { &STANDARD };
        engine.decode(text).map(Bytes::from).map_err(|why| {
            let at = match why {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol { offset: at, .. } => at,
                _ => text.len(),
            };
            E::custom(format_args!(
                "invalid base64 at byte {at} of {}, expected {}",
                text.len(),
                &self as &dyn Expected
            ))
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
    }
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const FOR_URLS: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Their text in JSON.
pub(super) fn in_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
