//! Values that note what a type asks of them: [`Sample`], [`run`]. What it writes of them: [`write`].

use std::any::TypeId;
use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_core::Serialize;
use serde_core::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer as _,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde_json::Value;

use crate::probe_error::{ProbeError, Said, take_said};

/// A value that a type is tried with. One place in it may be marked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sample {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Seq(Vec<Sample>),
    Map(Vec<(Sample, Sample)>),
    /// What the type asks of the value in this place is noted, and the run ends. This number of wrappers is passed through
    /// first: options, newtypes and variants with one value.
    Asked {
        wrappers: usize,
    },
    /// Whether the type takes this value in this place is noted.
    Tried(Box<Sample>),
}

impl Sample {
    pub(crate) fn str(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

/// What a type has asked of the marked value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ask {
    pub(crate) kind: AskKind,
    /// What the type says that it expects.
    pub(crate) expects: String,
    /// The type that the visitor makes, which is usually the type that asks.
    pub(crate) of: TypeId,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AskKind {
    Any,
    Bool,
    /// From the least to the greatest value.
    Int(i128, i128),
    /// An `u128`, whose greatest value is greater.
    U128,
    Float,
    Char,
    Str,
    Bytes,
    Option,
    Unit,
    Newtype,
    Seq,
    Tuple(usize),
    Map,
    Struct(&'static str, &'static [&'static str]),
    Enum(&'static str, &'static [&'static str]),
    Identifier,
    Ignored,
    UnitVariant,
    NewtypeVariant,
    TupleVariant(usize),
    StructVariant(&'static [&'static str]),
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Run {
    /// `None` if the type has not reached the marked place, or has copied its value before.
    pub(crate) ask: Option<Ask>,
    /// Whether the marked value was taken, once the type has reached it.
    pub(crate) is_taken: Option<bool>,
    /// Until then, or until the end.
    pub(crate) said: Vec<Said>,
    /// The type's own code has panicked.
    pub(crate) has_panicked: bool,
}

/// Tries a type with a value.
pub(crate) fn run<T: DeserializeOwned>(sample: &Sample) -> Run {
    take_said();
    let notes = Notes::default();
    // What the code leaves behind by a panic is dropped with the value, and nothing of it is read.
    let done = catch_unwind(AssertUnwindSafe(|| slot(sample, &notes, |probe| T::deserialize(probe).map(drop))));
    let Noted { ask, tried } = notes.0.into_inner();
    let (is_taken, said) = tried.unzip();
    Run { ask, is_taken, said: said.unwrap_or_else(take_said), has_panicked: done.is_err() }
}

/// What came of a value that was to be written.
pub(crate) enum Written {
    Json(Value),
    /// The type does not take the sample, or can't write the value.
    Nothing,
    /// The type's own code has panicked.
    Panicked,
}

/// Writes the value that a type makes of a sample without marks.
pub(crate) fn write<T: Serialize + DeserializeOwned>(sample: &Sample) -> Written {
    let notes = Notes::default();
    let written = catch_unwind(AssertUnwindSafe(|| {
        let value = slot(sample, &notes, |probe| T::deserialize(probe)).ok()?;
        let mut text = BoundedText(Vec::new());
        serde_json::to_writer(&mut text, &value).ok()?;
        serde_json::from_slice(&text.0).ok()
    }));
    take_said();
    match written {
        Ok(Some(json)) => Written::Json(json),
        Ok(None) => Written::Nothing,
        Err(_) => Written::Panicked,
    }
}

/// The longest text that a type may write of a sample, in bytes.
const TEXT: usize = 64 << 10;

/// A type may write as many elements as a number in it says, and some samples are great numbers.
struct BoundedText(Vec<u8>);

impl io::Write for BoundedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > TEXT - self.0.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Notes(RefCell<Noted>);

#[derive(Default)]
struct Noted {
    ask: Option<Ask>,
    tried: Option<(bool, Vec<Said>)>,
}

impl Notes {
    /// The marked value was taken, or not. What is said later is about other values.
    fn tried(&self, is_taken: bool) {
        self.0.borrow_mut().tried = Some((is_taken, take_said()));
    }
}

/// Gives a value to the code of one place, and notes whether it was taken.
fn slot<'s, T>(
    sample: &'s Sample,
    notes: &'s Notes,
    take: impl FnOnce(Probe<'s>) -> Result<T, ProbeError>,
) -> Result<T, ProbeError> {
    match sample {
        Sample::Tried(sample) => {
            let taken = take(Probe { sample, notes, wrappers: 0 });
            notes.tried(taken.is_ok());
            taken
        }
        Sample::Asked { wrappers } => take(Probe { sample, notes, wrappers: *wrappers }),
        sample => take(Probe { sample, notes, wrappers: 0 }),
    }
}

/// The deserializer of a sample. It takes its value for JSON: structs are maps, and variants are strings, or maps with one key.
#[derive(Clone, Copy)]
struct Probe<'s> {
    sample: &'s Sample,
    notes: &'s Notes,
    wrappers: usize,
}

impl<'s> Probe<'s> {
    fn is_asked(&self) -> bool {
        matches!(self.sample, Sample::Asked { .. })
    }

    fn end<'de, V: Visitor<'de>>(&self, kind: AskKind, visitor: &V) -> ProbeError {
        self.note(Ask { kind, expects: expects(visitor), of: typeid::of::<V::Value>() })
    }

    fn note(&self, ask: Ask) -> ProbeError {
        self.notes.0.borrow_mut().ask.get_or_insert(ask);
        ProbeError
    }

    /// Passes one wrapper, or notes it.
    fn inside<'de, V: Visitor<'de>>(mut self, kind: AskKind, visitor: &V) -> Result<Self, ProbeError> {
        if self.is_asked() {
            self.wrappers = self.wrappers.checked_sub(1).ok_or_else(|| self.end(kind, visitor))?;
        }
        Ok(self)
    }

    fn give<'de, V: Visitor<'de>>(self, kind: AskKind, visitor: V) -> Result<V::Value, ProbeError> {
        match self.sample {
            Sample::Null => visitor.visit_unit(),
            Sample::Bool(value) => visitor.visit_bool(*value),
            Sample::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_i128(*value),
            },
            Sample::Float(value) => visitor.visit_f64(*value),
            Sample::Str(value) => visitor.visit_str(value),
            Sample::Seq(items) => visitor.visit_seq(Items { items, notes: self.notes }),
            Sample::Map(entries) => visitor.visit_map(Entries { entries, value: None, notes: self.notes }),
            Sample::Asked { .. } => Err(self.end(kind, &visitor)),
            Sample::Tried(_) => unreachable!("the place of a marked value has unwrapped it"),
        }
    }
}

fn expects<'de, V: Visitor<'de>>(visitor: &V) -> String {
    (visitor as &dyn Expected).to_string()
}

macro_rules! asks {
    ($($method:ident => $kind:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
            self.give($kind, visitor)
        }
    )*};
}

const fn int(least: i128, greatest: i128) -> AskKind {
    AskKind::Int(least, greatest)
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = ProbeError;

    asks! {
        deserialize_any => AskKind::Any;
        deserialize_bool => AskKind::Bool;
        deserialize_i8 => int(i8::MIN as i128, i8::MAX as i128);
        deserialize_i16 => int(i16::MIN as i128, i16::MAX as i128);
        deserialize_i32 => int(i32::MIN as i128, i32::MAX as i128);
        deserialize_i64 => int(i64::MIN as i128, i64::MAX as i128);
        deserialize_i128 => int(i128::MIN, i128::MAX);
        deserialize_u8 => int(0, u8::MAX as i128);
        deserialize_u16 => int(0, u16::MAX as i128);
        deserialize_u32 => int(0, u32::MAX as i128);
        deserialize_u64 => int(0, u64::MAX as i128);
        deserialize_u128 => AskKind::U128;
        deserialize_f32 => AskKind::Float;
        deserialize_f64 => AskKind::Float;
        deserialize_char => AskKind::Char;
        deserialize_str => AskKind::Str;
        deserialize_string => AskKind::Str;
        deserialize_bytes => AskKind::Bytes;
        deserialize_byte_buf => AskKind::Bytes;
        deserialize_unit => AskKind::Unit;
        deserialize_seq => AskKind::Seq;
        deserialize_map => AskKind::Map;
        deserialize_identifier => AskKind::Identifier;
        deserialize_ignored_any => AskKind::Ignored;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ProbeError> {
        match self.sample {
            Sample::Null => visitor.visit_none(),
            _ => {
                let inside = self.inside(AskKind::Option, &visitor)?;
                visitor.visit_some(inside)
            }
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ProbeError> {
        self.give(AskKind::Unit, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ProbeError> {
        let inside = self.inside(AskKind::Newtype, &visitor)?;
        visitor.visit_newtype_struct(inside)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, ProbeError> {
        self.give(AskKind::Tuple(length), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        self.give(AskKind::Tuple(length), visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        self.give(AskKind::Struct(name, fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        match self.sample {
            Sample::Str(variant) => visitor.visit_enum(variant.as_str().into_deserializer()),
            Sample::Map(entries) if entries.len() == 1 => {
                visitor.visit_enum(ChosenVariant { entry: &entries[0], notes: self.notes })
            }
            _ => self.give(AskKind::Enum(name, variants), visitor),
        }
    }
}

struct Items<'s> {
    items: &'s [Sample],
    notes: &'s Notes,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ProbeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ProbeError> {
        let Some((item, rest)) = self.items.split_first() else {
            return Ok(None);
        };
        self.items = rest;
        slot(item, self.notes, |probe| seed.deserialize(probe)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'s> {
    entries: &'s [(Sample, Sample)],
    value: Option<&'s Sample>,
    notes: &'s Notes,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ProbeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ProbeError> {
        let Some(((key, value), rest)) = self.entries.split_first() else {
            return Ok(None);
        };
        (self.entries, self.value) = (rest, Some(value));
        slot(key, self.notes, |probe| seed.deserialize(probe)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ProbeError> {
        let value = self.value.take().ok_or_else(|| ProbeError::custom("a value was read before its key"))?;
        slot(value, self.notes, |probe| seed.deserialize(probe))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// A variant that is a map with one key.
struct ChosenVariant<'s> {
    entry: &'s (Sample, Sample),
    notes: &'s Notes,
}

impl<'de, 's> EnumAccess<'de> for ChosenVariant<'s> {
    type Error = ProbeError;
    type Variant = VariantContent<'s>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, VariantContent<'s>), ProbeError> {
        let (name, sample) = self.entry;
        let name = slot(name, self.notes, |probe| seed.deserialize(probe))?;
        Ok((name, VariantContent { sample, notes: self.notes }))
    }
}

struct VariantContent<'s> {
    sample: &'s Sample,
    notes: &'s Notes,
}

impl<'s> VariantContent<'s> {
    /// The content as a value of its own, or a note of what was asked.
    fn probe(&self, kind: AskKind, of: TypeId) -> Result<Probe<'s>, ProbeError> {
        let probe = Probe { sample: self.sample, notes: self.notes, wrappers: 0 };
        match self.sample {
            Sample::Asked { wrappers } if *wrappers > 0 => Ok(Probe { wrappers: wrappers - 1, ..probe }),
            Sample::Asked { .. } => Err(probe.note(Ask { kind, expects: String::new(), of })),
            _ => Ok(probe),
        }
    }

    fn tried<T>(self, take: impl FnOnce(Self) -> Result<T, ProbeError>) -> Result<T, ProbeError> {
        let Sample::Tried(sample) = self.sample else {
            return take(self);
        };
        let notes = self.notes;
        let taken = take(Self { sample, notes });
        notes.tried(taken.is_ok());
        taken
    }
}

impl<'de> VariantAccess<'de> for VariantContent<'_> {
    type Error = ProbeError;

    fn unit_variant(self) -> Result<(), ProbeError> {
        self.tried(|this| match this.probe(AskKind::UnitVariant, TypeId::of::<()>())?.sample {
            Sample::Null => Ok(()),
            _ => Err(ProbeError::invalid_type(Unexpected::NewtypeVariant, &"unit variant")),
        })
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ProbeError> {
        self.tried(|this| seed.deserialize(this.probe(AskKind::NewtypeVariant, typeid::of::<T::Value>())?))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, ProbeError> {
        self.tried(|this| {
            let probe = this.probe(AskKind::TupleVariant(length), typeid::of::<V::Value>())?;
            probe.give(AskKind::TupleVariant(length), visitor)
        })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ProbeError> {
        self.tried(|this| {
            let probe = this.probe(AskKind::StructVariant(fields), typeid::of::<V::Value>())?;
            probe.give(AskKind::StructVariant(fields), visitor)
        })
    }
}
