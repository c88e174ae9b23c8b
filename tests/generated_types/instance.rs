//! Random values of types: [`Instance`].

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::num::{NonZeroI32, NonZeroU8};

use serde_json::{Value, json};

/// A type of which random values can be made.
pub(crate) trait Instance {
    fn instance(random: &mut Random) -> Self;
}

/// What decides between values.
pub(crate) struct Random {
    pub(crate) numbers: fastrand::Rng,
    depth: usize,
}

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { numbers: fastrand::Rng::with_seed(seed), depth: 0 }
    }

    /// A part of a value. Deep in a value, containers are empty and enums have their first variant, so that each value ends.
    pub(crate) fn make<T: Instance>(&mut self) -> T {
        self.depth += 1;
        let made = T::instance(self);
        self.depth -= 1;
        made
    }

    /// A value whose containers may be full, however deep it stands. Its type contains no other generated one.
    pub(crate) fn make_full<T: Instance>(&mut self) -> T {
        let depth = std::mem::take(&mut self.depth);
        let made = T::instance(self);
        self.depth = depth;
        made
    }

    pub(crate) fn variant(&mut self, of: usize) -> usize {
        if self.is_deep() { 0 } else { self.numbers.usize(..of) }
    }

    pub(crate) fn choose<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.numbers.usize(..from.len())].clone()
    }

    fn is_deep(&self) -> bool {
        self.depth > 6
    }

    fn length(&mut self) -> usize {
        if self.is_deep() { 0 } else { self.numbers.usize(..3) }
    }

    pub(crate) fn text(&mut self) -> String {
        self.choose(&["", "a", "abc", "12", "Grüße", "two words", "First", "\u{1}\"{}"]).to_owned()
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Instance for $type {
            fn instance(random: &mut Random) -> Self {
                let least = <$type>::MIN;
                let greatest = <$type>::MAX;
                random.choose(&[0, 1, 2, 7, 99, least, greatest, greatest - 1])
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 i8 i16 i32 i64 }

/// JSON values of serde_json have at most 64 bits.
impl Instance for u128 {
    fn instance(random: &mut Random) -> Self {
        u64::instance(random).into()
    }
}

impl Instance for i128 {
    fn instance(random: &mut Random) -> Self {
        i64::instance(random).into()
    }
}

/// A whole number with a point is an integer for JSON Schema and not for serde, so there is none.
impl Instance for f64 {
    fn instance(random: &mut Random) -> Self {
        random.choose(&[0.5, -1.5, 1e-3, 70_000.25])
    }
}

impl Instance for f32 {
    fn instance(random: &mut Random) -> Self {
        random.choose(&[0.5, -1.5, 70_000.25])
    }
}

macro_rules! chosen {
    ($($type:ty: $values:expr;)*) => {$(
        impl Instance for $type {
            fn instance(random: &mut Random) -> Self {
                random.choose(&$values)
            }
        }
    )*};
}

chosen! {
    (): [()];
    bool: [false, true];
    char: ['a', 'ß', '世', '"', '1'];
    NonZeroU8: [NonZeroU8::MIN, NonZeroU8::MAX];
    NonZeroI32: [NonZeroI32::MIN, NonZeroI32::MAX];
    Value: [json!(null), json!(1), json!("a"), json!([true, 0.5]), json!({ "a": {} })];
}

impl Instance for String {
    fn instance(random: &mut Random) -> Self {
        random.text()
    }
}

impl Instance for Box<str> {
    fn instance(random: &mut Random) -> Self {
        random.text().into()
    }
}

impl Instance for Cow<'static, str> {
    fn instance(random: &mut Random) -> Self {
        random.text().into()
    }
}

impl<T: Instance> Instance for Option<T> {
    fn instance(random: &mut Random) -> Self {
        (random.length() > 0).then(|| random.make())
    }
}

impl<T: Instance> Instance for Box<T> {
    fn instance(random: &mut Random) -> Self {
        Self::new(random.make())
    }
}

impl<T: Instance> Instance for Vec<T> {
    fn instance(random: &mut Random) -> Self {
        (0..random.length()).map(|_| random.make()).collect()
    }
}

impl<T: Instance + Ord> Instance for BTreeSet<T> {
    fn instance(random: &mut Random) -> Self {
        (0..random.length()).map(|_| random.make()).collect()
    }
}

impl<K: Instance + Ord, V: Instance> Instance for BTreeMap<K, V> {
    fn instance(random: &mut Random) -> Self {
        (0..random.length()).map(|_| (random.make(), random.make())).collect()
    }
}

impl<K: Instance + Eq + Hash, V: Instance> Instance for HashMap<K, V> {
    fn instance(random: &mut Random) -> Self {
        (0..random.length()).map(|_| (random.make(), random.make())).collect()
    }
}

impl<T: Instance, const N: usize> Instance for [T; N] {
    fn instance(random: &mut Random) -> Self {
        std::array::from_fn(|_| random.make())
    }
}

macro_rules! tuples {
    ($(($($type:ident)*))*) => {$(
        impl<$($type: Instance),*> Instance for ($($type,)*) {
            fn instance(random: &mut Random) -> Self {
                ($(random.make::<$type>(),)*)
            }
        }
    )*};
}

tuples! { (A) (A B) (A B C) (A B C D) }
