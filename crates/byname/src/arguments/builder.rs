//! Arguments put together by hand, for calls by name.

use super::encoded::EncodedArguments;
use crate::codec::{self, Codec};
use crate::untrusted_text::quoted;
use bytes::Bytes;
use serde_core::Serialize;

/// Arguments for a call by name, some by position and some by name.
///
/// Only a mix needs it: a tuple is all by position, a struct or a map is all by name.
///
/// ```
/// # async fn example(data: byname::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use byname::Args;
///
/// let text: String = data.call("greet", Args::new().arg("Ada").kwarg("greeting", "good day")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Args {
    positional: Vec<u8>,
    /// How many are by position.
    count: usize,
    keyword: Vec<u8>,
    failed: Option<String>,
}

impl Args {
    /// No arguments yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one by position. A value that can't be encoded fails the call.
    #[must_use]
    pub fn arg(mut self, value: impl Serialize) -> Self {
        self.positional.push(if self.positional.is_empty() { b'[' } else { b',' });
        self.count += 1;
        let which = self.count.to_string();
        self.encode(&which, &value, |args| &mut args.positional);
        self
    }

    /// Adds one by name. A value that can't be encoded fails the call.
    #[must_use]
    pub fn kwarg(mut self, name: &str, value: impl Serialize) -> Self {
        self.keyword.push(if self.keyword.is_empty() { b'{' } else { b',' });
        self.encode(name, name, |args| &mut args.keyword);
        self.keyword.push(b':');
        self.encode(name, &value, |args| &mut args.keyword);
        self
    }

    fn encode<T: Serialize + ?Sized>(&mut self, which: &str, value: &T, part: fn(&mut Self) -> &mut Vec<u8>) {
        if let Err(why) = codec::encode(Codec::Json, value, part(self)) {
            self.failed.get_or_insert_with(|| format!("argument {}: {why}", quoted(which)));
        }
    }

    pub(super) fn encoded(&self) -> Result<EncodedArguments, String> {
        if let Some(why) = &self.failed {
            return Err(why.clone());
        }
        let close = |part: &[u8], end: u8| if part.is_empty() { Bytes::new() } else { [part, &[end]].concat().into() };
        Ok(EncodedArguments {
            codec: Codec::Json,
            positional: close(&self.positional, b']'),
            keyword: close(&self.keyword, b'}'),
        })
    }
}

impl Serialize for Args {
    /// `{"args": […], "kwargs": {…}}`, for whoever serializes it elsewhere than in a call.
    fn serialize<S: serde_core::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde_core::ser::{Error as _, SerializeStruct};
        let EncodedArguments { positional, keyword, .. } = self.encoded().map_err(S::Error::custom)?;
        let raw = |part: Bytes, empty: &str| {
            let text = if part.is_empty() {
                empty.into()
            } else {
                String::from_utf8(part.to_vec()).map_err(S::Error::custom)?
            };
            serde_json::value::RawValue::from_string(text).map_err(S::Error::custom)
        };
        let mut out = serializer.serialize_struct("Args", 2)?;
        out.serialize_field("args", &raw(positional, "[]")?)?;
        out.serialize_field("kwargs", &raw(keyword, "{}")?)?;
        out.end()
    }
}
