//! Shapes without parts.

use super::{Place, Tracer};
use crate::probe::Sample;
use crate::string_formats::{PLAIN, SAMPLES};
use crate::type_schema::{NodeId, OpenReason, Shape};

impl Tracer<'_> {
    fn leaf_with(
        &mut self,
        shape: Shape,
        sample: Option<Sample>,
        others: Vec<Sample>,
        open: Option<OpenReason>,
    ) -> NodeId {
        let node = self.leaf(shape, sample, open);
        self.part(node).others = others;
        node
    }

    /// A shape of which all values should be taken, if these are.
    pub(super) fn tried_leaf<const N: usize>(&mut self, place: &Place, shape: Shape, values: [Sample; N]) -> NodeId {
        let mut taken: Vec<_> = values.into_iter().filter(|value| self.takes(place, value)).collect();
        let open = (taken.len() < N).then_some(self.refuses());
        taken.reverse();
        self.leaf_with(shape, taken.pop(), taken, open)
    }

    pub(super) fn integer(&mut self, place: &Place, least: i128, greatest: i128, may_lack_zero: bool) -> NodeId {
        let some = [1, 0, 2, 3, 7, 10, 13, 59, 100, 1_000, 65_537, -1, -2, -100, least, greatest, greatest - 1];
        let values: Vec<_> = some.into_iter().filter(|value| (least..=greatest).contains(value)).collect();
        let taken: Vec<_> = values.iter().copied().filter(|value| self.takes(place, &Sample::Int(*value))).collect();
        let all_but_zero = may_lack_zero && values.iter().all(|value| taken.contains(value) != (*value == 0));
        let open = (!all_but_zero && taken.len() < values.len()).then_some(self.refuses());
        let shape = match all_but_zero {
            true if least == 0 => Shape::Integer { least: 1, greatest, without_zero: false },
            without_zero => Shape::Integer { least, greatest, without_zero },
        };
        let mut samples = taken.into_iter().map(Sample::Int);
        let sample = samples.next();
        // The least and the greatest are among the last.
        self.leaf_with(shape, sample, samples.rev().take(3).collect(), open)
    }

    pub(super) fn string(&mut self, place: &Place) -> NodeId {
        let plain = PLAIN.map(Sample::str);
        let taken: Vec<_> = plain.into_iter().filter(|text| self.takes(place, text)).collect();
        if !taken.is_empty() {
            let open = (taken.len() < PLAIN.len()).then_some(self.refuses());
            let mut taken = taken.into_iter();
            return self.leaf_with(Shape::String { format: None }, taken.next(), taken.collect(), open);
        }
        let taken: Vec<_> = SAMPLES.iter().filter(|sample| self.takes(place, &Sample::str(sample.text))).collect();
        let sample = taken.first().map(|found| Sample::str(found.text));
        // A type that takes strings of two formats has neither.
        let format = match taken.iter().filter_map(|found| found.format).collect::<Vec<_>>().as_slice() {
            [format] => Some(*format),
            _ => None,
        };
        self.leaf(Shape::String { format }, sample, Some(self.refuses()))
    }

    pub(super) fn bytes(&mut self, place: &Place) -> NodeId {
        let array = Sample::Seq(vec![Sample::Int(1), Sample::Int(255)]);
        let or_string = self.takes(place, &Sample::str("a"));
        if self.takes(place, &array) {
            return self.leaf(Shape::Bytes { or_string }, Some(array), None);
        }
        let sample = or_string.then(|| Sample::str("a"));
        self.leaf(Shape::Any, sample, Some(self.refuses()))
    }

    /// A type that decides by the value what it reads.
    pub(super) fn any(&mut self, place: &Place) -> NodeId {
        let values = [
            Sample::Null,
            Sample::Bool(true),
            Sample::Int(1),
            Sample::Int(-1),
            Sample::Float(0.5),
            Sample::str("a"),
            Sample::Seq(vec![Sample::Int(1)]),
            Sample::Map(vec![(Sample::str("a"), Sample::Int(1))]),
        ];
        let taken: Vec<_> = values.iter().filter(|value| self.takes(place, value)).cloned().collect();
        if taken.len() == values.len() {
            return self.leaf_with(Shape::Any, Some(Sample::Null), taken, None);
        }
        let text = || SAMPLES.iter().map(|sample| Sample::str(sample.text));
        let sample = taken.into_iter().next().or_else(|| text().find(|text| self.takes(place, text)));
        self.leaf(Shape::Any, sample, Some(OpenReason::Unknown))
    }
}
