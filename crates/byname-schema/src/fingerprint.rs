//! A hash of the structure of a type: [`TypeSchema::fingerprint`].

use std::collections::HashMap;

use sha1_smol::Sha1;

use crate::type_schema::{Alternative, NodeId, Property, Shape, TypeSchema};

/// The most parts that are visited. A type that contains itself in many ways is visited again for each way.
const VISITS: usize = 100_000;

impl TypeSchema {
    /// A hash of what the type takes. It is equal for two types with the same shape, whatever their names and the order of
    /// their fields. `None` if the schema is open in a place: then two types with one schema may take different values.
    pub fn fingerprint(&self) -> Option<[u8; 16]> {
        if !self.open().is_empty() {
            return None;
        }
        let mut hasher = StructureHasher { schema: self, closed: HashMap::new(), path: Vec::new(), visits: 0 };
        let (hash, _) = hasher.visit(self.root)?;
        hash.first_chunk().copied()
    }
}

type Hash = [u8; 20];

struct StructureHasher<'s> {
    schema: &'s TypeSchema,
    /// Parts that refer to nothing around them have the same hash everywhere.
    closed: HashMap<NodeId, Hash>,
    /// The parts around the one that is visited. One of them is referred to by its distance.
    path: Vec<NodeId>,
    visits: usize,
}

impl StructureHasher<'_> {
    /// The hash of a part, and the outermost part around it that it refers to, as its place in the path.
    fn visit(&mut self, id: NodeId) -> Option<(Hash, usize)> {
        if let Some(hash) = self.closed.get(&id) {
            return Some((*hash, usize::MAX));
        }
        if let Some(at) = self.path.iter().position(|outer| *outer == id) {
            let distance = self.path.len() - at;
            return Some((digest(&["around", &distance.to_string()], &[]), at));
        }
        self.visits += 1;
        if self.visits > VISITS {
            return None;
        }
        let place = self.path.len();
        self.path.push(id);
        let visited = self.shape(id);
        self.path.pop();
        let (hash, outermost) = visited?;
        if outermost >= place {
            self.closed.insert(id, hash);
            return Some((hash, usize::MAX));
        }
        Some((hash, outermost))
    }

    fn shape(&mut self, id: NodeId) -> Option<(Hash, usize)> {
        let schema = self.schema;
        let mut outermost = usize::MAX;
        let mut child = |this: &mut Self, id: NodeId| {
            let (hash, out) = this.visit(id)?;
            outermost = outermost.min(out);
            Some(hash)
        };
        let hash = match &schema.node(id).shape {
            Shape::Any => digest(&["any"], &[]),
            Shape::Null => digest(&["null"], &[]),
            Shape::Bool => digest(&["bool"], &[]),
            Shape::Integer { least, greatest, without_zero } => {
                digest(&["integer", &least.to_string(), &greatest.to_string(), &without_zero.to_string()], &[])
            }
            Shape::Number => digest(&["number"], &[]),
            Shape::Char => digest(&["char"], &[]),
            Shape::String { format } => digest(&["string", format.unwrap_or_default()], &[]),
            Shape::Bytes { or_string } => digest(&["bytes", &or_string.to_string()], &[]),
            Shape::Optional(inner) => digest(&["optional"], &[child(self, *inner)?]),
            Shape::Sequence(item) => digest(&["sequence"], &[child(self, *item)?]),
            Shape::Tuple { items, least } => {
                let length = items.len();
                let items: Option<Vec<_>> = items.iter().map(|item| child(self, *item)).collect();
                match *least == length {
                    true => digest(&["tuple"], &items?),
                    false => digest(&["tuple", &least.to_string()], &items?),
                }
            }
            Shape::Map { key, value } => digest(&["map"], &[child(self, *key)?, child(self, *value)?]),
            Shape::Object { properties, is_closed } => {
                let properties: Option<Vec<_>> = properties
                    .iter()
                    .map(|property| Some(self::property(property, child(self, property.value)?)))
                    .collect();
                let mut properties = properties?;
                properties.sort_unstable();
                digest(&["object", &is_closed.to_string()], &properties)
            }
            Shape::OneOf(alternatives) => {
                let (mut named, mut untagged) = (Vec::new(), Vec::new());
                for alternative in alternatives {
                    match alternative {
                        Alternative::Unit(name) => named.push(digest(&["unit", name], &[])),
                        Alternative::OtherString => named.push(digest(&["other"], &[])),
                        Alternative::OtherTag { tag } => named.push(digest(&["other tag", tag], &[])),
                        Alternative::Keyed(name, content) => {
                            named.push(digest(&["keyed", name], &[child(self, *content)?]));
                        }
                        Alternative::Internal { tag, variant, object } => {
                            named.push(digest(&["internal", tag, variant], &[child(self, *object)?]));
                        }
                        Alternative::Adjacent { tag, variant, content, is_closed } => {
                            let content = match content {
                                Some(content) => vec![property(content, child(self, content.value)?)],
                                None => Vec::new(),
                            };
                            let kind = if *is_closed { "closed adjacent" } else { "adjacent" };
                            named.push(digest(&[kind, tag, variant], &content));
                        }
                        // The first one that takes a value is it, so their order counts.
                        Alternative::Untagged(content) => untagged.push(child(self, *content)?),
                    }
                }
                named.sort_unstable();
                digest(&["one of"], &[digest(&["named"], &named), digest(&["untagged"], &untagged)])
            }
        };
        Some((hash, outermost))
    }
}

fn property(property: &Property, value: Hash) -> Hash {
    let mut aliases: Vec<_> = property.aliases.iter().map(String::as_str).collect();
    aliases.sort_unstable();
    let names = [&[property.name.as_str()], aliases.as_slice()].concat();
    digest(&["property", &property.is_required.to_string()], &[digest(&names, &[]), value])
}

/// Each text behind its length, so that no two lists are the same bytes.
fn digest(texts: &[&str], parts: &[Hash]) -> Hash {
    let mut hash = Sha1::new();
    hash.update(&(texts.len() as u64).to_be_bytes());
    for text in texts {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(parts.as_flattened());
    hash.digest().bytes()
}
