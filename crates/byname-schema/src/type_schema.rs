//! The shape of a type: [`TypeSchema`].

use std::collections::BTreeSet;

use crate::declared::DeclaredWords;

/// The schema of a type: a graph, because a type can contain itself.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeSchema {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
    /// What the type declares of itself beside its shape.
    pub(crate) declared: DeclaredWords,
}

/// A place in [`TypeSchema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

/// A type, as it is read from JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is read.
    pub shape: Shape,
    /// Why the type refuses some values of this shape, or may refuse them.
    pub open: Option<OpenReason>,
    /// The name of a struct or of an enum, as serde knows it.
    pub name: Option<String>,
}

/// What a value looks like in JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Any value.
    Any,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number from the least to the greatest, in an order that may leave out 0.
    Integer {
        /// The least.
        least: i128,
        /// The greatest.
        greatest: i128,
        /// Whether 0 is left out.
        without_zero: bool,
    },
    /// A number.
    Number,
    /// A string of one character.
    Char,
    /// A string.
    String {
        /// What such strings look like, as the formats of JSON Schema name it. A guess.
        format: Option<&'static str>,
    },
    /// Bytes: an array of numbers, or a string.
    Bytes {
        /// Whether a string is taken too.
        or_string: bool,
    },
    /// `null`, or another value.
    Optional(NodeId),
    /// An array of any length.
    Sequence(NodeId),
    /// An array of these.
    Tuple {
        /// In their order.
        items: Vec<NodeId>,
        /// How many of them have to be there.
        least: usize,
    },
    /// An object with any keys.
    Map {
        /// Its keys. Those that are not strings are written as strings. JSON Schema can't say how great a number in a string is.
        key: NodeId,
        /// Its values.
        value: NodeId,
    },
    /// An object with these properties.
    Object {
        /// In the order of the type.
        properties: Vec<Property>,
        /// Whether other properties are refused.
        is_closed: bool,
    },
    /// One of these.
    OneOf(Vec<Alternative>),
}

/// A property of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Other names of it, of which one may be used in place of the name.
    pub aliases: Vec<String>,
    /// Its value.
    pub value: NodeId,
    /// Whether it has to be there.
    pub is_required: bool,
}

/// One of the shapes of an enum.
#[derive(Clone, Debug, PartialEq)]
pub enum Alternative {
    /// This string.
    Unit(String),
    /// An object with this one property.
    Keyed(String, NodeId),
    /// An object with this tag, and with the content, if there is any.
    Adjacent {
        /// The name of the property that has the name of the variant.
        tag: String,
        /// The name of the variant.
        variant: String,
        /// The property that has the content. `None` if there is none.
        content: Option<Property>,
        /// Whether other properties are refused.
        is_closed: bool,
    },
    /// An object with this tag beside its other properties.
    Internal {
        /// The name of the property that has the name of the variant.
        tag: String,
        /// The name of the variant.
        variant: String,
        /// The other properties.
        object: NodeId,
    },
    /// Any other string: the variant for unknown ones.
    OtherString,
    /// An object with this tag, which has the name of no other variant: the variant for unknown ones.
    OtherTag {
        /// The name of the property that has the name of the variant.
        tag: String,
    },
    /// A value without a name around it.
    Untagged(NodeId),
}

/// Why a schema says less than the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OpenReason {
    /// The type refuses some values of its shape, as by `try_from`.
    Refuses,
    /// The type copies the value before it looks at it: `flatten`, tagged and untagged enums.
    Buffered,
    /// The type asks for any value, and none that was tried was taken.
    Unknown,
    /// It is a part of itself in a way that can't be tried.
    Recursive,
    /// It is nested too deeply, or has too many parts.
    TooLarge,
    /// Its code has panicked.
    Panicked,
    /// The type writes something else than it reads, as by `serialize_with`. The shape is that of what it reads.
    WritesOther,
}

/// A place of a type that is open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenPlace {
    /// The path: `lines[].price`.
    pub path: String,
    /// Why.
    pub reason: OpenReason,
}

impl TypeSchema {
    /// A type of which nothing is known.
    pub fn unknown() -> Self {
        let node = Node { shape: Shape::Any, open: Some(OpenReason::Unknown), name: None };
        Self { nodes: vec![node], root: NodeId(0), declared: DeclaredWords::default() }
    }

    /// The type itself.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// The node of this place.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The places in which the schema says less than the type, each once.
    pub fn open(&self) -> Vec<OpenPlace> {
        let mut found = Vec::new();
        self.find_open(self.root, "", &mut BTreeSet::new(), &mut found);
        found
    }

    fn find_open(&self, id: NodeId, path: &str, seen: &mut BTreeSet<NodeId>, found: &mut Vec<OpenPlace>) {
        if !seen.insert(id) {
            return;
        }
        let node = self.node(id);
        found.extend(node.open.map(|reason| OpenPlace { path: path.to_owned(), reason }));
        for (step, child) in node.shape.children() {
            self.find_open(child, &join(path, &step), seen, found);
        }
    }
}

fn join(path: &str, step: &str) -> String {
    match path.is_empty() || step.is_empty() || step.starts_with('[') {
        true => format!("{path}{step}"),
        false => format!("{path}.{step}"),
    }
}

impl Shape {
    /// The places in it, with the step of a path to each.
    pub(crate) fn children(&self) -> Vec<(String, NodeId)> {
        match self {
            Self::Any
            | Self::Null
            | Self::Bool
            | Self::Integer { .. }
            | Self::Number
            | Self::Char
            | Self::String { .. }
            | Self::Bytes { .. } => Vec::new(),
            Self::Optional(inner) => vec![(String::new(), *inner)],
            Self::Sequence(item) => vec![("[]".to_owned(), *item)],
            Self::Tuple { items, .. } => {
                items.iter().enumerate().map(|(at, item)| (format!("[{at}]"), *item)).collect()
            }
            Self::Map { key, value } => vec![("{key}".to_owned(), *key), ("{}".to_owned(), *value)],
            Self::Object { properties, .. } => {
                properties.iter().map(|property| (property.name.clone(), property.value)).collect()
            }
            Self::OneOf(alternatives) => alternatives.iter().filter_map(Alternative::child).collect(),
        }
    }
}

impl Alternative {
    /// The name of a variant whose tag is among its properties.
    pub(crate) fn tagged(&self) -> Option<&str> {
        match self {
            Self::Internal { variant, .. } => Some(variant),
            _ => None,
        }
    }

    /// The part in it, with the step of a path.
    pub(crate) fn child(&self) -> Option<(String, NodeId)> {
        match self {
            Self::Unit(_) | Self::OtherString | Self::OtherTag { .. } | Self::Adjacent { content: None, .. } => None,
            Self::Keyed(variant, content) | Self::Internal { variant, object: content, .. } => {
                Some((variant.clone(), *content))
            }
            Self::Adjacent { variant, content: Some(content), .. } => Some((variant.clone(), content.value)),
            Self::Untagged(content) => Some((String::new(), *content)),
        }
    }
}
