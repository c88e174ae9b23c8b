//! A wrapper around a serializer that rejects the numbers that JSON can't hold.

use std::cell::Cell;
use std::fmt::Display;

use serde_core::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::type_detection;

/// The kind of a function's result, as its serialization shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultShape {
    /// Not a `Result`.
    Value,
    /// The inside of an `Ok`.
    Ok,
    /// The inside of an `Err`.
    Err,
    /// The inside of an `Err` that held a [`crate::Error`].
    Ours,
}

/// Whether this is byname's own error type.
fn is_ours<E: ?Sized>() -> bool {
    type_detection::is::<E, crate::Error>() || type_detection::is::<E, crate::Internal>()
}

/// Wraps a serializer. With `top`, the value is a `Result`: its inside is written and its side is recorded.
pub(super) struct FiniteFloats<'s, S> {
    inner: S,
    top: Option<&'s Cell<ResultShape>>,
}

impl<'s, S> FiniteFloats<'s, S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, top: None }
    }

    /// For a function's result of type `T`.
    pub(super) fn returned<T>(inner: S, shape: &'s Cell<ResultShape>) -> Self {
        Self { inner, top: type_detection::is_result::<T>().then_some(shape) }
    }
}

/// A value that serializes itself through [`FiniteFloats`].
struct CheckedValue<'v, T: ?Sized>(&'v T);

impl<T: Serialize + ?Sized> Serialize for CheckedValue<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(FiniteFloats::new(serializer))
    }
}

/// Whether `T` is a `U` that is wrapped by [`FiniteFloats`].
pub(super) fn is_checked<T: ?Sized, U>() -> bool {
    type_detection::is::<T, CheckedValue<'_, U>>()
}

pub(super) fn not_finite<E: serde_core::ser::Error>(value: f64) -> E {
    E::custom(format_args!("{value} is not a JSON number: NaN and infinities can't be sent, use an Option or a string"))
}

macro_rules! forward {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> { self.inner.$method(value) })*
    };
}

impl<'s, S: Serializer> Serializer for FiniteFloats<'s, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = FiniteFloats<'s, S::SerializeSeq>;
    type SerializeTuple = FiniteFloats<'s, S::SerializeTuple>;
    type SerializeTupleStruct = FiniteFloats<'s, S::SerializeTupleStruct>;
    type SerializeTupleVariant = FiniteFloats<'s, S::SerializeTupleVariant>;
    type SerializeMap = FiniteFloats<'s, S::SerializeMap>;
    type SerializeStruct = FiniteFloats<'s, S::SerializeStruct>;
    type SerializeStructVariant = FiniteFloats<'s, S::SerializeStructVariant>;

    forward! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
        serialize_u128(u128), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str)
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f32(value) } else { Err(not_finite(value.into())) }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f64(value) } else { Err(not_finite(value)) }
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&CheckedValue(value))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(self, name: &'static str, at: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, at, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &CheckedValue(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        match self.top {
            Some(top) => {
                top.set(match variant {
                    "Ok" => ResultShape::Ok,
                    _ if is_ours::<T>() => ResultShape::Ours,
                    _ => ResultShape::Err,
                });
                value.serialize(FiniteFloats::new(self.inner))
            }
            None => self.inner.serialize_newtype_variant(name, at, variant, &CheckedValue(value)),
        }
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.inner.serialize_seq(len).map(FiniteFloats::new)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.inner.serialize_tuple(len).map(FiniteFloats::new)
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.inner.serialize_tuple_struct(name, len).map(FiniteFloats::new)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.inner.serialize_tuple_variant(name, at, variant, len).map(FiniteFloats::new)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.inner.serialize_map(len).map(FiniteFloats::new)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.inner.serialize_struct(name, len).map(FiniteFloats::new)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.inner.serialize_struct_variant(name, at, variant, len).map(FiniteFloats::new)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! compound {
    ($($trait:ident: $method:ident($($name:ident: $type:ty)?)),*) => {$(
        impl<S: $trait> $trait for FiniteFloats<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline(always)]
            fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Result<(), S::Error> {
                self.inner.$method($($name,)? &CheckedValue(value))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

compound! {
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(key: &'static str),
    SerializeStructVariant: serialize_field(key: &'static str)
}

impl<S: SerializeMap> SerializeMap for FiniteFloats<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.inner.serialize_key(&CheckedValue(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_value(&CheckedValue(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}
