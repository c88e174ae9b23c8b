//! Schemas of types, without any derive beside serde's: the type's own `Deserialize` is run with values that note what it asks
//! of them.
//!
//! ```
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     id: u32,
//!     note: Option<String>,
//! }
//!
//! let schema = byname_schema::describe::<Order>();
//! assert_eq!(
//!     schema.to_json_schema()["properties"]["id"],
//!     serde_json::json!({ "type": "integer", "minimum": 0, "maximum": 4_294_967_295u32 }),
//! );
//! ```
//!
//! What cannot be found out is open, and is never wrong: [`TypeSchema::open`] says where and why.

#[cfg(feature = "documents")]
mod accepted_breaks;
#[cfg(feature = "documents")]
mod compatibility;
mod declared;
mod fingerprint;
mod json_schema;
#[cfg(feature = "documents")]
mod lock_file;
mod misfits;
#[cfg(feature = "documents")]
mod openapi;
#[cfg(feature = "documents")]
mod openrpc;
mod probe;
mod probe_error;
#[cfg(feature = "documents")]
mod references;
mod service_schema;
mod string_formats;
#[cfg(feature = "documents")]
mod subschemas;
mod tracer;
mod type_schema;

use std::time::{Duration, Instant};

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

#[cfg(feature = "documents")]
pub use accepted_breaks::AcceptedBreaks;
#[cfg(feature = "documents")]
pub use compatibility::{Break, Difference, Verdict, differences};
pub use json_schema::SchemaDefinitions;
pub use service_schema::{ArgumentSchema, FunctionSchema, SchemaDocumentError, ServiceSchema};
pub use type_schema::{Alternative, Node, NodeId, OpenPlace, OpenReason, Property, Shape, TypeSchema};

/// The schema of a type, as it is read from JSON.
///
/// The type's code runs on invented values. A panic of it is caught and makes the type open, except under `panic = "abort"`.
/// It takes 10,000 runs and a second at most, and goes 64 levels deep. What lies beyond is open.
pub fn describe<T: DeserializeOwned>() -> TypeSchema {
    tracer::trace(probe::run::<T>, None, &TimeBudget::default())
}

/// As [`describe`]. A part that the type writes otherwise than it reads it is open, if a value that was tried shows it.
pub fn describe_both<T: Serialize + DeserializeOwned>() -> TypeSchema {
    describe_both_within::<T>(&TimeBudget::default())
}

/// As [`describe_both`], in the time that several types have together.
pub fn describe_both_within<T: Serialize + DeserializeOwned>(budget: &TimeBudget) -> TypeSchema {
    tracer::trace(probe::run::<T>, Some(probe::write::<T>), budget)
}

/// As [`describe_both_within`], with what the type declares by [schemars](https://docs.rs/schemars/1): texts for people, and formats and limits,
/// which stand in `x-declared`.
#[cfg(feature = "schemars")]
pub fn describe_declared_within<T: Serialize + DeserializeOwned + schemars::JsonSchema>(
    budget: &TimeBudget,
) -> TypeSchema {
    let mut schema = describe_both_within::<T>(budget);
    // It is code of the user.
    let declared = std::panic::catch_unwind(|| schemars::SchemaGenerator::default().into_root_schema_for::<T>());
    if let Ok(declared) = declared {
        schema.declare(declared.as_value());
    }
    schema
}

/// The identity of a type, also of one with references.
pub fn type_id<T: ?Sized>() -> std::any::TypeId {
    typeid::of::<T>()
}

/// The time that several types have together: a second from when this is made.
#[derive(Clone, Copy, Debug)]
pub struct TimeBudget {
    end: Instant,
}

impl TimeBudget {
    /// The time until this moment.
    pub fn until(end: Instant) -> Self {
        Self { end }
    }

    /// Whether no time is left.
    pub fn is_spent(&self) -> bool {
        Instant::now() >= self.end
    }
}

impl Default for TimeBudget {
    fn default() -> Self {
        Self { end: Instant::now() + Duration::from_secs(1) }
    }
}
