//! A hash of the structure of a function: [`Fingerprint`].

use std::fmt;

use byname_schema::TypeSchema;
use serde_json::json;
use sha1_smol::Sha1;

use super::{FunctionTypes, Method};

/// A hash of what callers and the function have to agree on: the names of the arguments, their defaults, and the shapes of all
/// types, whatever the types are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) [u8; 16]);

impl Fingerprint {
    /// `None` if one of the types is open: then two sides with one schema may accept different values.
    pub(crate) fn of(method: &Method, types: &FunctionTypes) -> Option<Self> {
        let of = |schema: &TypeSchema| schema.fingerprint().map(|bytes| hex(&bytes));
        let params = method.params.iter().zip(&types.params);
        let arguments: Option<Vec<_>> = params
            .map(|(param, schema)| Some(json!([param.name, param.optional, param.default, of(schema)?])))
            .collect();
        let takes = match &types.takes {
            Some(schema) => Some(of(schema)?),
            None => None,
        };
        let error = match &types.error {
            Some(schema) => Some(of(schema)?),
            None => None,
        };
        let all = json!([arguments?, takes, of(&types.returns)?, method.streams, error]).to_string();
        let digest = Sha1::from(all).digest().bytes();
        digest.first_chunk().copied().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
