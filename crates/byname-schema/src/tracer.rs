//! Finds the shape of a type by running its `Deserialize` with samples: [`trace`].
//!
//! A [`Place`] is a way into the type: what a value has to look like for the type to reach a part of it. The tracer asks for
//! a value in that place, and what the type asks of it says which shape it has. Then it goes into its parts. Each shape gets
//! a sample that the type has taken, because the parts behind it are reached only with one.

mod adjacent;
mod buffered;
mod internal;
mod leaf;
mod object;
mod unnamed_variants;
mod untagged;
mod written;

use std::any::TypeId;
use std::collections::{HashMap, HashSet};

use crate::TimeBudget;
use crate::declared::DeclaredWords;
use crate::probe::{Ask, AskKind, Run, Sample, Written};
use crate::probe_error::Said;
use crate::type_schema::{Alternative, Node, NodeId, OpenReason, Shape, TypeSchema};

/// The most runs for a type.
const RUNS: usize = 10_000;
/// How deep it goes.
const DEPTH: usize = 64;
/// The most elements of a tuple that are looked at one by one.
const TUPLE: usize = 64;
/// The most values that are kept of a type, beside its sample.
const OTHERS: usize = 8;
/// A name that no property and no variant has.
const UNKNOWN: &str = "\u{1}unknown";
/// What serde's code expects that copies a value to look at it later.
const ANY_VALUE: &str = "any value";

/// The shape of the type that `run` tries. With `write`, what the type writes is held against it.
pub(crate) fn trace(run: fn(&Sample) -> Run, write: Option<fn(&Sample) -> Written>, budget: &TimeBudget) -> TypeSchema {
    let mut tracer = Tracer {
        run,
        budget,
        parts: Vec::new(),
        known: HashMap::new(),
        unnamed: Vec::new(),
        postponed: Vec::new(),
        unnamed_variants: Vec::new(),
        runs: 0,
        depth: 0,
        stopped: None,
    };
    let root = match tracer.node(&Place::default()) {
        Ok(root) => root,
        Err(Blocked) => tracer.open(OpenReason::Recursive),
    };
    tracer.finish_postponed();
    tracer.name_variants(root, write);
    tracer.open_what_differs_when_copied();
    let nodes = tracer.parts.iter().map(|part| part.node.clone()).collect();
    let mut schema = TypeSchema { nodes, root, declared: DeclaredWords::default() };
    if let Some(write) = write {
        tracer.open_what_is_written_otherwise(write, &mut schema);
    }
    if let Some(reason) = tracer.stopped {
        // What was not tried may be refused.
        schema.nodes[root.0].open.get_or_insert(reason);
    }
    schema
}

struct Tracer<'b> {
    run: fn(&Sample) -> Run,
    budget: &'b TimeBudget,
    parts: Vec<Part>,
    /// The types that have names, so that the tracing of a type that contains itself ends.
    known: HashMap<Identity, NodeId>,
    /// The types without names that are traced now, inside the last one with a name.
    unnamed: Vec<(Identity, NodeId)>,
    /// Parts that contain what had no sample yet.
    postponed: Vec<Postponed>,
    /// Enums whose variants have no names yet.
    unnamed_variants: Vec<NodeId>,
    runs: usize,
    depth: usize,
    /// Why no more is run.
    stopped: Option<OpenReason>,
}

#[derive(Clone)]
struct Part {
    node: Node,
    /// A value that the type takes in this place.
    sample: Option<Sample>,
    /// Other values that it takes.
    others: Vec<Sample>,
    is_done: bool,
}

/// Two types may have one name, and the visitor of one type may be that of another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    of: TypeId,
    expects: String,
    names: &'static [&'static str],
}

impl Identity {
    fn of(ask: &Ask, names: &'static [&'static str]) -> Self {
        Self { of: ask.of, expects: ask.expects.clone(), names }
    }
}

struct Postponed {
    container: NodeId,
    part: ContainerPart,
    place: Place,
}

#[derive(Clone, Copy)]
enum ContainerPart {
    Inner,
    Item,
    Value(NodeId),
}

/// A sample is needed of a part that is not done, because it contains this one.
struct Blocked;

/// A way into a type.
#[derive(Clone, Default)]
struct Place {
    steps: Vec<Step>,
    /// The wrappers that the last step leads through.
    wrappers: usize,
    /// Behind this number of steps the type copies the value, and asks nothing of what lies behind them.
    copied: Option<usize>,
    /// The variant of an untagged enum that is looked at, and how many there are. Each refuses a value by one error.
    variant: Option<(usize, usize)>,
    /// The types that a copied value is inside, as they call themselves.
    inside: Vec<String>,
}

#[derive(Clone)]
enum Step {
    /// The value of a key of a map, after other entries.
    Entry { before: Vec<(Sample, Sample)>, key: Sample },
    /// The same key with the same value a second time, so that no variant of an untagged enum takes the map. The one that has
    /// this field and takes the value says that it is there twice.
    EntryTwice { before: Vec<(Sample, Sample)>, key: Sample },
    /// The first key of a map.
    Key,
    /// The element behind these.
    Element(Vec<Sample>),
}

impl Place {
    fn with(&self, step: Step) -> Self {
        let mut place = self.clone();
        place.steps.push(step);
        place.wrappers = 0;
        place
    }

    /// The same place, whose value the type copies.
    fn copied(&self, by: &str) -> Self {
        let mut place = self.clone();
        place.copied.get_or_insert(place.steps.len());
        place.inside.push(by.to_owned());
        place
    }

    fn entry(&self, key: &str) -> Self {
        self.with(Step::Entry { before: Vec::new(), key: Sample::str(key) })
    }

    /// The field of an object.
    fn field(&self, before: &[(Sample, Sample)], key: Sample) -> Self {
        let before = before.to_vec();
        self.with(match self.variant {
            None => Step::Entry { before, key },
            Some(_) => Step::EntryTwice { before, key },
        })
    }

    fn unwrapped(&self) -> Self {
        Self { wrappers: self.wrappers + 1, ..self.clone() }
    }

    /// The whole value, which asks in this place.
    fn asked(&self) -> Sample {
        wrap(&self.steps, Sample::Asked { wrappers: self.wrappers })
    }

    /// The whole value with this one in the place.
    fn tried(&self, sample: &Sample) -> Sample {
        let (outside, copied) = self.steps.split_at(self.copied.unwrap_or(self.steps.len()));
        wrap(outside, Sample::Tried(Box::new(wrap(copied, sample.clone()))))
    }
}

fn wrap(steps: &[Step], sample: Sample) -> Sample {
    steps.iter().rev().fold(sample, |inner, step| match step {
        Step::Entry { before, key } => {
            let mut entries = before.clone();
            entries.push((key.clone(), inner));
            Sample::Map(entries)
        }
        Step::EntryTwice { before, key } => {
            let mut entries = before.clone();
            entries.extend([(key.clone(), inner.clone()), (key.clone(), inner)]);
            Sample::Map(entries)
        }
        Step::Key => Sample::Map(vec![(inner, Sample::Null)]),
        Step::Element(before) => {
            let mut items = before.clone();
            items.push(inner);
            Sample::Seq(items)
        }
    })
}

/// The name at the end of what a type expects, as in `struct Order`.
fn name_in(expects: &str) -> Option<String> {
    expects.rsplit(' ').next().map(str::to_owned)
}

/// What a type says of a value in a place.
#[derive(Default, PartialEq)]
struct Verdict {
    is_taken: bool,
    /// The error, if the value was refused and it is known for which reason.
    said: Option<Said>,
}

impl Verdict {
    fn of(run: &Run, place: &Place) -> Self {
        let is_taken = run.is_taken == Some(true);
        let Some((variant, variants)) = place.variant else {
            return Self { is_taken, said: run.said.last().filter(|_| !is_taken).cloned() };
        };
        if is_taken {
            // A variant before it has taken the value, or it has, or one behind it, as a map takes a field that is there twice.
            let said = run.said.get(variant).filter(|said| matches!(said, Said::DuplicateField(_))).cloned();
            return Self { is_taken: run.said.len() == variant, said };
        }
        // One error for each variant, and one for all.
        let said = (run.said.len() == variants + 1).then(|| run.said[variant].clone());
        Self { is_taken: false, said }
    }
}

impl Tracer<'_> {
    /// The shape in a place.
    fn node(&mut self, place: &Place) -> Result<NodeId, Blocked> {
        if self.depth >= DEPTH {
            return Ok(self.open(OpenReason::TooLarge));
        }
        self.depth += 1;
        let node = self.shallow_node(place);
        self.depth -= 1;
        node
    }

    fn shallow_node(&mut self, place: &Place) -> Result<NodeId, Blocked> {
        if place.copied.is_some() {
            return self.buffered(place);
        }
        let Some(run) = self.run(place.asked()) else {
            return Ok(self.stopped());
        };
        let Some(ask) = run.ask else {
            return Ok(self.open(OpenReason::Buffered));
        };
        match ask.kind {
            AskKind::Ignored => Ok(self.leaf(Shape::Any, Some(Sample::Null), None)),
            AskKind::Any if ask.expects.starts_with("unit ") => Ok(self.tried_leaf(place, Shape::Null, [Sample::Null])),
            AskKind::Any if ask.expects.starts_with("struct variant ") => self.object_by_index(place, &[]),
            AskKind::Any if ask.expects.starts_with("internally tagged enum ") => {
                self.named(place, &ask, &[], |this, node| this.internally_tagged(place, node, &ask.expects))
            }
            AskKind::Any if ask.expects == ANY_VALUE => self.untagged(place),
            AskKind::Any | AskKind::Identifier => Ok(self.any(place)),
            AskKind::Bool => Ok(self.tried_leaf(place, Shape::Bool, [Sample::Bool(true), Sample::Bool(false)])),
            AskKind::Int(least, greatest) => Ok(self.integer(place, least, greatest, true)),
            AskKind::U128 => Ok(self.integer(place, 0, i128::MAX, true)),
            AskKind::Float => {
                let values = [Sample::Float(0.5), Sample::Int(3), Sample::Float(-1e300)];
                Ok(self.tried_leaf(place, Shape::Number, values))
            }
            AskKind::Char => Ok(self.tried_leaf(place, Shape::Char, ["a", "ß", "世"].map(Sample::str))),
            AskKind::Str => Ok(self.string(place)),
            AskKind::Bytes => Ok(self.bytes(place)),
            AskKind::Unit | AskKind::UnitVariant => Ok(self.tried_leaf(place, Shape::Null, [Sample::Null])),
            AskKind::Option => Ok(self.container(place, &ask, |this, node| {
                this.part(node).sample = Some(Sample::Null);
                this.contain(node, ContainerPart::Inner, place.unwrapped());
            })),
            AskKind::Newtype => self.newtype(place, ask),
            AskKind::NewtypeVariant => self.node(&place.unwrapped()),
            AskKind::Seq => Ok(self.container(place, &ask, |this, node| this.sequence(place, node))),
            AskKind::Tuple(length) if ask.expects.starts_with("tuple struct ") => {
                self.named(place, &ask, &[], |this, node| {
                    let tuple = this.tuple(place, length, &ask.expects)?;
                    this.copy(tuple, node);
                    Ok(())
                })
            }
            AskKind::Tuple(length) | AskKind::TupleVariant(length) => self.tuple(place, length, &ask.expects),
            AskKind::Map if ask.expects.starts_with("struct ") => self.named(place, &ask, &[], |this, node| {
                this.flattened(place, node)?;
                this.part(node).node.name = name_in(&ask.expects);
                Ok(())
            }),
            AskKind::Map => Ok(self.container(place, &ask, |this, node| this.map(place, node))),
            AskKind::StructVariant(fields) => self.object(place, &[], None, fields),
            AskKind::Struct(_, fields) if ask.expects.starts_with("adjacently tagged enum ") => {
                self.named(place, &ask, fields, |this, node| {
                    this.adjacent(place, node, fields)?;
                    this.part(node).node.name = name_in(&ask.expects);
                    Ok(())
                })
            }
            AskKind::Struct(name, fields) => self.named(place, &ask, fields, |this, node| {
                let object = this.object(place, &[], Some(name), fields)?;
                this.copy(object, node);
                Ok(())
            }),
            AskKind::Enum(name, variants) => {
                self.named(place, &ask, variants, |this, node| this.tagged(place, node, Some(name), variants))
            }
        }
    }

    /// Runs the type, if it has runs left and has not panicked.
    fn run(&mut self, sample: Sample) -> Option<Run> {
        self.runs += 1;
        if self.runs > RUNS || self.budget.is_spent() {
            self.stopped.get_or_insert(OpenReason::TooLarge);
        }
        if self.stopped.is_some() {
            return None;
        }
        let run = (self.run)(&sample);
        if run.has_panicked {
            self.stopped = Some(OpenReason::Panicked);
            return None;
        }
        Some(run)
    }

    /// Why a part takes fewer values than its shape: its code says so, or was not asked.
    fn refuses(&self) -> OpenReason {
        self.stopped.unwrap_or(OpenReason::Refuses)
    }

    fn stopped(&mut self) -> NodeId {
        let reason = self.stopped.unwrap_or(OpenReason::TooLarge);
        self.open(reason)
    }

    /// Whether the type takes a value in a place.
    fn takes(&mut self, place: &Place, sample: &Sample) -> bool {
        let verdict = self.try_with(place, sample);
        self.is_taken(place, &verdict)
    }

    fn is_taken(&self, place: &Place, verdict: &Verdict) -> bool {
        // If a copied value lacks something else, it was taken so far.
        let is_incomplete = || match verdict.said {
            Some(Said::MissingField(_) | Said::InvalidLength) => true,
            Some(Said::DuplicateField(_)) => place.variant.is_some(),
            _ => false,
        };
        verdict.is_taken || place.copied.is_some() && is_incomplete()
    }

    fn try_with(&mut self, place: &Place, sample: &Sample) -> Verdict {
        self.run(place.tried(sample)).map(|run| Verdict::of(&run, place)).unwrap_or_default()
    }

    fn reserve(&mut self, sample: Option<Sample>) -> NodeId {
        let node = Node { shape: Shape::Any, open: None, name: None };
        self.parts.push(Part { node, sample, others: Vec::new(), is_done: false });
        NodeId(self.parts.len() - 1)
    }

    fn leaf(&mut self, shape: Shape, sample: Option<Sample>, open: Option<OpenReason>) -> NodeId {
        let id = self.reserve(sample);
        self.done(id, shape, open);
        id
    }

    fn open(&mut self, reason: OpenReason) -> NodeId {
        self.leaf(Shape::Any, None, Some(reason))
    }

    fn done(&mut self, id: NodeId, shape: Shape, open: Option<OpenReason>) {
        let part = self.part(id);
        (part.node.shape, part.node.open, part.is_done) = (shape, open, true);
    }

    fn part(&mut self, id: NodeId) -> &mut Part {
        &mut self.parts[id.0]
    }

    fn copy(&mut self, from: NodeId, to: NodeId) {
        self.parts[to.0] = self.parts[from.0].clone();
    }

    /// A value that the type takes in the place of this part. There is none if all that were tried are refused.
    fn sample(&self, id: NodeId) -> Result<Option<Sample>, Blocked> {
        let part = &self.parts[id.0];
        match &part.sample {
            None if !part.is_done => Err(Blocked),
            sample => Ok(sample.clone()),
        }
    }

    /// A type with a name, which may contain itself. `trace` does the part that was reserved for it.
    fn named(
        &mut self,
        place: &Place,
        ask: &Ask,
        names: &'static [&'static str],
        trace: impl FnOnce(&mut Self, NodeId) -> Result<(), Blocked>,
    ) -> Result<NodeId, Blocked> {
        let identity = Identity::of(ask, names);
        if let Some(known) = self.known.get(&identity) {
            return Ok(self.again(place, *known));
        }
        let before = self.parts.len();
        let node = self.reserve(None);
        self.known.insert(identity, node);
        let around = std::mem::take(&mut self.unnamed);
        let traced = trace(self, node);
        self.unnamed = around;
        if let Err(Blocked) = traced {
            // It is tried again once what it needs is there.
            self.parts.truncate(before);
            self.known.retain(|_, known| known.0 < before);
            self.postponed.retain(|postponed| postponed.container.0 < before);
            return Err(Blocked);
        }
        Ok(node)
    }

    /// A type without a name, which may be inside itself if only others without names are between: `transparent` structs have none.
    fn container(&mut self, place: &Place, ask: &Ask, trace: impl FnOnce(&mut Self, NodeId)) -> NodeId {
        let identity = Identity::of(ask, &[]);
        if let Some((_, around)) = self.unnamed.iter().find(|(around, _)| *around == identity) {
            return self.again(place, *around);
        }
        let node = self.reserve(None);
        self.unnamed.push((identity, node));
        trace(self, node);
        self.unnamed.pop();
        node
    }

    /// A type that is known, in another place, where its values may be refused.
    fn again(&mut self, place: &Place, known: NodeId) -> NodeId {
        let part = &self.parts[known.0];
        let samples: Vec<_> = part.sample.iter().chain(&part.others).cloned().collect();
        let (taken, refused): (Vec<_>, Vec<_>) = samples.into_iter().partition(|sample| self.takes(place, sample));
        if refused.is_empty() {
            return known;
        }
        let node = self.reserve(None);
        self.copy(known, node);
        let refuses = self.refuses();
        let part = self.part(node);
        part.node.open = Some(refuses);
        let mut taken = taken.into_iter();
        (part.sample, part.others) = (taken.next(), taken.collect());
        node
    }

    /// Tries a type with other values of its parts, one at a time. It may compare them, and refuse some.
    fn vary(&mut self, place: &Place, node: NodeId, parts: &[NodeId], changed: impl Fn(usize, Sample) -> Sample) {
        for (at, part) in parts.iter().enumerate() {
            for other in self.others(*part) {
                let whole = changed(at, other);
                if !self.takes(place, &whole) {
                    self.part(node).node.open = Some(self.refuses());
                } else if self.parts[node.0].others.len() < OTHERS {
                    self.part(node).others.push(whole);
                }
            }
        }
    }

    /// Values that a part takes, beside its sample.
    fn others(&self, id: NodeId) -> Vec<Sample> {
        let part = &self.parts[id.0];
        let inside = |id: &NodeId| self.parts[id.0].sample.clone();
        match &part.node.shape {
            Shape::Optional(inner) => inside(inner).into_iter().chain(self.parts[inner.0].others.clone()).collect(),
            Shape::Sequence(item) => inside(item).map(|item| Sample::Seq(vec![item])).into_iter().collect(),
            _ => part.others.clone(),
        }
    }

    fn newtype(&mut self, place: &Place, ask: Ask) -> Result<NodeId, Blocked> {
        self.named(place, &ask, &[], |this, node| {
            let inner = this.node(&place.unwrapped())?;
            if this.parts[inner.0].is_done {
                this.copy(inner, node);
            } else {
                // It contains only itself.
                this.done(node, Shape::Any, Some(OpenReason::Recursive));
            }
            Ok(())
        })
    }

    /// Does the part of a container that may be empty, now or once there are samples for it.
    fn contain(&mut self, container: NodeId, part: ContainerPart, place: Place) {
        // Its own sample is the empty one, so it is done for all others.
        self.done(container, Shape::Any, None);
        match self.node(&place) {
            Ok(inner) => self.fill(container, part, inner),
            Err(Blocked) => self.postponed.push(Postponed { container, part, place }),
        }
    }

    fn fill(&mut self, container: NodeId, part: ContainerPart, inner: NodeId) {
        self.part(container).node.shape = match part {
            ContainerPart::Inner => Shape::Optional(inner),
            ContainerPart::Item => Shape::Sequence(inner),
            ContainerPart::Value(key) => Shape::Map { key, value: inner },
        };
    }

    fn finish_postponed(&mut self) {
        while !self.postponed.is_empty() {
            let waiting = std::mem::take(&mut self.postponed);
            let before = waiting.len();
            for Postponed { container, part, place } in waiting {
                match self.node(&place) {
                    Ok(inner) => self.fill(container, part, inner),
                    Err(Blocked) => self.postponed.push(Postponed { container, part, place }),
                }
            }
            if self.postponed.len() >= before {
                for Postponed { container, part, .. } in std::mem::take(&mut self.postponed) {
                    let inner = self.open(OpenReason::Recursive);
                    self.fill(container, part, inner);
                }
            }
        }
    }

    /// The content of an adjacently tagged enum is copied if it comes before the tag. Some types then take less.
    fn open_what_differs_when_copied(&mut self) {
        for at in 0..self.parts.len() {
            let Shape::OneOf(alternatives) = &self.parts[at].node.shape else { continue };
            let contents: Vec<_> = alternatives
                .iter()
                .filter_map(|alternative| match alternative {
                    Alternative::Adjacent { content, .. } => content.as_ref().map(|content| content.value),
                    _ => None,
                })
                .collect();
            let mut seen = HashSet::new();
            if contents.into_iter().any(|content| self.differs_when_copied(content, &mut seen)) {
                self.parts[at].node.open.get_or_insert(OpenReason::Buffered);
            }
        }
    }

    fn differs_when_copied(&self, id: NodeId, seen: &mut HashSet<NodeId>) -> bool {
        if !seen.insert(id) {
            return false;
        }
        let shape = &self.parts[id.0].node.shape;
        let differs = match shape {
            Shape::Integer { least, greatest, .. } => *least < i64::MIN.into() || *greatest > u64::MAX.into(),
            Shape::Map { key, .. } => matches!(self.parts[key.0].node.shape, Shape::Integer { .. } | Shape::Bool),
            _ => false,
        };
        differs || shape.children().into_iter().any(|(_, child)| self.differs_when_copied(child, seen))
    }

    fn sequence(&mut self, place: &Place, node: NodeId) {
        let empty = Sample::Seq(Vec::new());
        let takes_none = self.takes(place, &empty);
        self.part(node).sample = Some(empty);
        self.contain(node, ContainerPart::Item, place.with(Step::Element(Vec::new())));
        if !takes_none {
            let item = match self.parts[node.0].node.shape {
                Shape::Sequence(item) => self.parts[item.0].sample.clone(),
                _ => None,
            };
            let one = item.map(|item| Sample::Seq(vec![item])).filter(|one| self.takes(place, one));
            let refuses = self.refuses();
            let part = self.part(node);
            (part.sample, part.node.open) = (one, Some(refuses));
        }
    }

    fn map(&mut self, place: &Place, node: NodeId) {
        let empty = Sample::Map(Vec::new());
        let takes_none = self.takes(place, &empty);
        self.part(node).sample = takes_none.then_some(empty);
        let key = match self.node(&place.with(Step::Key)) {
            Ok(key) => key,
            Err(Blocked) => self.open(OpenReason::Recursive),
        };
        if place.copied.is_some() && self.parts[key.0].node.open.is_some() {
            // A key was tried with a value that may be refused.
            self.done(key, Shape::Any, Some(OpenReason::Buffered));
        }
        match self.parts[key.0].sample.clone() {
            Some(sample) => {
                let value = place.with(Step::Entry { before: Vec::new(), key: sample });
                self.contain(node, ContainerPart::Value(key), value);
            }
            None => {
                let value = self.open(OpenReason::Unknown);
                self.done(node, Shape::Map { key, value }, None);
            }
        }
        if !takes_none {
            self.part(node).node.open = Some(self.refuses());
        }
        if place.copied.is_some() && matches!(self.parts[key.0].node.shape, Shape::Integer { .. } | Shape::Bool) {
            // Keys are strings in JSON, and a copied string is no number.
            self.part(node).node.open = Some(OpenReason::Buffered);
        }
    }

    fn tuple(&mut self, place: &Place, length: usize, expects: &str) -> Result<NodeId, Blocked> {
        let is_array = expects.starts_with("an array of length ");
        let mut items = Vec::new();
        let mut samples = Vec::new();
        while items.len() < length {
            if items.len() >= TUPLE && !is_array {
                return Ok(self.open(OpenReason::TooLarge));
            }
            let item = match items.first() {
                Some(first) if is_array => *first,
                _ => self.node(&place.with(Step::Element(samples.clone())))?,
            };
            items.push(item);
            match self.sample(item)? {
                Some(sample) => samples.push(sample),
                // What comes behind it is not reached.
                None => {
                    while items.len() < length {
                        items.push(self.open(OpenReason::Unknown));
                    }
                }
            }
        }
        let mut least = samples.len();
        let sample = (least == length).then(|| Sample::Seq(samples.clone())).filter(|all| self.takes(place, all));
        // The last elements may have defaults.
        while least > 0 {
            let shorter = self.try_with(place, &Sample::Seq(samples[..least - 1].to_vec()));
            if shorter.said == Some(Said::InvalidLength) || !self.is_taken(place, &shorter) {
                break;
            }
            least -= 1;
        }
        let open = sample.is_none().then_some(self.refuses());
        let node = self.leaf(Shape::Tuple { items: items.clone(), least }, sample, open);
        let changed = |at: usize, other| {
            let mut samples = samples.clone();
            samples[at] = other;
            Sample::Seq(samples)
        };
        if open.is_none() {
            self.vary(place, node, &items, changed);
        }
        Ok(node)
    }

    /// An enum whose variants are strings, or objects with one property.
    fn tagged(
        &mut self,
        place: &Place,
        node: NodeId,
        name: Option<&'static str>,
        variants: &'static [&'static str],
    ) -> Result<(), Blocked> {
        let mut found: Vec<Option<Alternative>> = vec![None; variants.len()];
        let mut open = None;
        loop {
            let before = found.iter().flatten().count();
            for (at, variant) in variants.iter().enumerate() {
                if found[at].is_none()
                    && let Ok((alternative, sample)) = self.variant(place, variant)
                {
                    found[at] = Some(alternative);
                    match sample.filter(|sample| self.takes(place, sample)) {
                        Some(sample) if self.parts[node.0].sample.is_none() => self.part(node).sample = Some(sample),
                        Some(sample) if self.parts[node.0].others.len() < OTHERS => self.part(node).others.push(sample),
                        Some(_) => {}
                        None => open = Some(self.refuses()),
                    }
                }
            }
            let after = found.iter().flatten().count();
            if after == variants.len() {
                break;
            }
            if after == before {
                return Err(Blocked);
            }
        }
        let mut alternatives: Vec<_> = found.into_iter().flatten().collect();
        if self.takes(place, &Sample::str(UNKNOWN)) {
            alternatives.push(Alternative::OtherString);
        } else if !matches!(self.try_with(place, &Sample::str(UNKNOWN)).said, Some(Said::UnknownVariant(_))) {
            open = Some(self.refuses());
        }
        self.done(node, Shape::OneOf(alternatives), open);
        self.part(node).node.name = name.map(str::to_owned);
        Ok(())
    }

    fn variant(&mut self, of: &Place, name: &str) -> Result<(Alternative, Option<Sample>), Blocked> {
        let place = of.entry(name);
        let asked = self.run(place.asked()).and_then(|run| run.ask);
        let is_unit = match place.copied {
            None => asked.is_some_and(|ask| ask.kind == AskKind::UnitVariant),
            Some(_) => self.takes(of, &Sample::str(name)),
        };
        if is_unit {
            return Ok((Alternative::Unit(name.to_owned()), Some(Sample::str(name))));
        }
        let content = self.node(&place)?;
        let sample = self.sample(content)?;
        let sample = sample.map(|sample| Sample::Map(vec![(Sample::str(name), sample)]));
        Ok((Alternative::Keyed(name.to_owned(), content), sample))
    }
}
