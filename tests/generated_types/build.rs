//! Writes Rust types with attributes of serde, from a seed: `types.rs` in the directory of the build. Each has a random value
//! (`Instance`), and says whether it writes something else than it reads, by an attribute.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use fastrand::Rng;

const TYPES: usize = 300;
/// The most leaves of a type. `describe` takes 10,000 runs for a type.
const LEAVES: usize = 40;
const BOUNDED: [&str; 2] = ["A: Instance", "B: Instance"];
const TAGS: [&str; 4] = ["kind", "op", "t", "type"];
const RULES: [&str; 8] = [
    "lowercase",
    "UPPERCASE",
    "PascalCase",
    "camelCase",
    "snake_case",
    "SCREAMING_SNAKE_CASE",
    "kebab-case",
    "SCREAMING-KEBAB-CASE",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=GENERATED_TYPES_SEED");
    if std::env::var_os("CARGO_FEATURE_GENERATED").is_none() {
        return;
    }
    let seed = std::env::var("GENERATED_TYPES_SEED").map_or(1, |seed| seed.parse().expect("a seed is a number"));
    let directory = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(format!("{directory}/types.rs"), written(seed))
        .expect("the directory of the build can be written to");
}

fn written(seed: u64) -> String {
    let mut generator = Generator { random: Rng::with_seed(seed), known: Vec::new(), number: 0, next_is_named: false };
    let mut text = FIXED.to_owned();
    let _ = writeln!(text, "pub(crate) const SEED: u64 = {seed};");
    let mut definitions = fixed_types();
    for _ in 0..TYPES {
        definitions.push(generator.definition());
    }
    let differing = differing(&definitions);
    let mut subjects = String::new();
    for definition in &definitions {
        text.push_str(&definition.source);
        text.push_str(&definition.instance);
        for (subject, inside) in &definition.subjects {
            let differs = differing.contains(&definition.name) || inside.iter().any(|name| differing.contains(name));
            let _ =
                writeln!(subjects, "    Subject::of::<{subject}>({subject:?}, {:?}, {differs}),", definition.source);
        }
    }
    let _ = write!(text, "pub(crate) const SUBJECTS: &[Subject] = &[\n{subjects}];\n");
    text
}

/// The types that write something else than they read, by an attribute of their own or of a type inside them.
fn differing(definitions: &[Definition]) -> BTreeSet<String> {
    let mut differing: BTreeSet<_> = definitions
        .iter()
        .filter(|definition| definition.halves_differ)
        .map(|definition| definition.name.clone())
        .collect();
    let inside: BTreeMap<_, _> = definitions.iter().map(|definition| (&definition.name, &definition.inside)).collect();
    loop {
        let more: Vec<_> = inside
            .iter()
            .filter(|(name, inside)| !differing.contains(**name) && !inside.is_disjoint(&differing))
            .map(|(name, _)| (*name).clone())
            .collect();
        if more.is_empty() {
            return differing;
        }
        differing.extend(more);
    }
}

struct Definition {
    name: String,
    source: String,
    /// The code of its random values.
    instance: String,
    /// It writes something else than it reads.
    halves_differ: bool,
    /// The types inside it.
    inside: BTreeSet<String>,
    /// The types to test, with the types in their parameters.
    subjects: Vec<(String, BTreeSet<String>)>,
}

/// A type that others may contain.
#[derive(Clone)]
struct Known {
    name: String,
    parameters: usize,
    /// It is a JSON object.
    is_object: bool,
    is_key: bool,
    leaves: usize,
}

/// A type at the place where it is used.
#[derive(Clone)]
struct Used {
    text: String,
    inside: BTreeSet<String>,
    leaves: usize,
    is_object: bool,
}

impl Used {
    fn leaf(text: &str) -> Self {
        Self { text: text.to_owned(), inside: BTreeSet::new(), leaves: 1, is_object: false }
    }

    fn wrapped(self, before: &str, after: &str) -> Self {
        Self { text: format!("{before}{}{after}", self.text), is_object: false, ..self }
    }
}

/// A field, or a variant with its fields.
struct Written {
    text: String,
    /// The expression of a random value.
    instance: String,
    halves_differ: bool,
}

struct Generator {
    random: Rng,
    known: Vec<Known>,
    number: usize,
    /// The type before this one contains it.
    next_is_named: bool,
}

/// The type that is written.
struct Current {
    name: String,
    /// How it refers to itself.
    itself: String,
    /// The same, with the bounds of its parameters.
    declared: String,
    parameters: usize,
    inside: BTreeSet<String>,
    leaves: usize,
    halves_differ: bool,
    /// It may stand for one of its parts without anything around it. As `Option<Box<Self>>` it would be read without end.
    is_bare: bool,
    /// Its names are unlike those of other types, so that it can be flattened beside them.
    prefix: String,
    names: usize,
}

impl Generator {
    fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }

    fn choose<'c>(&mut self, from: &[&'c str]) -> &'c str {
        from[self.random.usize(..from.len())]
    }

    fn definition(&mut self) -> Definition {
        let name = format!("T{}", self.number);
        let is_named_before = std::mem::take(&mut self.next_is_named);
        self.number += 1;
        let parameters = match self.random.u32(..10) {
            0 if !is_named_before => 1,
            1 if !is_named_before => 2,
            _ => 0,
        };
        let mut current = Current {
            itself: format!("{name}{}", arguments(&["A", "B"][..parameters])),
            declared: format!("{name}{}", arguments(&BOUNDED[..parameters])),
            parameters,
            inside: BTreeSet::new(),
            leaves: 0,
            halves_differ: false,
            is_bare: false,
            prefix: if self.one_in(3) { String::new() } else { format!("_{}", self.number) },
            names: 0,
            name,
        };
        let kind = if is_named_before || parameters > 0 { self.random.u32(..14) } else { self.random.u32(..20) };
        let (source, body, is_object, is_key) = match kind {
            0..=5 => self.named_struct(&mut current),
            6 => self.tuple_struct(&mut current),
            7..=13 => self.enumeration(&mut current),
            14 => self.transparent(&mut current),
            15 => self.key(&mut current),
            16 => self.unit(&mut current),
            _ => self.converted(&mut current),
        };
        self.finish(current, source, &body, is_object, is_key)
    }

    fn finish(&mut self, current: Current, source: String, body: &str, is_object: bool, is_key: bool) -> Definition {
        let Current { name, itself, parameters, inside, leaves, halves_differ, .. } = current;
        let instance = format!(
            "impl{} Instance for {itself} {{\n    fn instance(random: &mut Random) -> Self {{\n        {body}\n    }}\n}}\n\n",
            arguments(&BOUNDED[..parameters]),
        );
        self.known.push(Known { name: name.clone(), parameters, is_object, is_key, leaves: leaves.max(1) });
        let subjects = match parameters {
            0 => vec![(name.clone(), BTreeSet::new())],
            _ => (0..2)
                .map(|_| {
                    let arguments: Vec<_> = (0..parameters).map(|_| self.used(None, 2)).collect();
                    let texts: Vec<_> = arguments.iter().map(|used| used.text.as_str()).collect();
                    let inside = arguments.iter().flat_map(|used| used.inside.iter().cloned()).collect();
                    (format!("{name}<{}>", texts.join(", ")), inside)
                })
                .collect(),
        };
        Definition { name, source, instance, halves_differ, inside, subjects }
    }

    fn container(&mut self, current: &mut Current, derives: &str) -> String {
        let mut attributes = String::new();
        if self.one_in(4) {
            let rule = self.choose(&RULES);
            if self.one_in(6) {
                let other = self.choose(&RULES);
                let _ = writeln!(attributes, "#[serde(rename_all(serialize = \"{other}\", deserialize = \"{rule}\"))]");
                current.halves_differ |= other != rule;
            } else {
                let _ = writeln!(attributes, "#[serde(rename_all = \"{rule}\")]");
            }
        }
        if self.one_in(12) {
            let _ = writeln!(attributes, "#[serde(rename = \"Other {}\")]", current.name);
        }
        format!("#[derive(Clone, Serialize, Deserialize{derives})]\n{attributes}")
    }

    fn named_struct(&mut self, current: &mut Current) -> (String, String, bool, bool) {
        let mut attributes = self.container(current, "");
        let has_default = current.parameters == 0 && self.one_in(8);
        if has_default {
            attributes.push_str("#[serde(default)]\n");
        }
        if self.one_in(5) {
            attributes.push_str("#[serde(deny_unknown_fields)]\n");
        }
        let (fields, instance) = self.fields(current, true, true);
        let mut source = format!("{attributes}struct {} {{\n{fields}}}\n", current.declared);
        if has_default {
            let name = &current.name;
            let _ = writeln!(source, "impl Default for {name} {{ fn default() -> Self {{ made() }} }}");
        }
        (source, format!("Self {{ {instance} }}"), true, false)
    }

    /// The named fields of a struct or of a variant.
    fn fields(&mut self, current: &mut Current, may_flatten: bool, may_recurse: bool) -> (String, String) {
        let count = self.random.usize(..6).max(current.parameters);
        let mut flattens = may_flatten && self.one_in(6);
        let (mut text, mut instance) = (String::new(), String::new());
        for at in 0..count {
            let word = self.choose(&["a", "item", "first_name", "some_long_name", "x2"]);
            let name = format!("{word}{}_{}", current.prefix, current.names);
            current.names += 1;
            let written = if at < current.parameters {
                self.field_of(current, &name, Used::leaf(["A", "B"][at]))
            } else if flattens && at + 1 == count {
                flattens = self.one_in(2);
                self.flattened(current, &name)
            } else {
                self.field(current, &name, may_recurse)
            };
            current.halves_differ |= written.halves_differ;
            let _ = writeln!(text, "    {}", written.text);
            let _ = write!(instance, "{}, ", written.instance);
        }
        (text, instance)
    }

    fn field(&mut self, current: &mut Current, name: &str, may_recurse: bool) -> Written {
        let used = if may_recurse { self.used(Some(current), 3) } else { self.used(None, 2) };
        self.field_of(current, name, used)
    }

    fn field_of(&mut self, current: &mut Current, name: &str, used: Used) -> Written {
        current.inside.extend(used.inside.iter().cloned());
        current.leaves += used.leaves;
        let mut halves_differ = false;
        let mut attributes = Vec::new();
        let (mut ty, mut instance) = (used.text, "random.make()");
        // A plain `default` makes serde ask for `Default` of the parameters.
        let default = if current.itself.contains('<') { "default = \"Default::default\"" } else { "default" };
        let is_parameter = ["A", "B"].contains(&ty.as_str());
        match self.random.u32(..if is_parameter { 3 } else { 24 }) {
            0 => attributes.push("default = \"made\"".to_owned()),
            3 => {
                ty = format!("Option<{ty}>");
                attributes.push(default.to_owned());
            }
            4 => {
                ty = format!("Vec<{ty}>");
                attributes.push(format!("{default}, skip_serializing_if = \"Vec::is_empty\""));
            }
            5 => {
                ty = format!("Option<{ty}>");
                attributes.push("skip_serializing_if = \"Option::is_none\"".to_owned());
            }
            6 => {
                (ty, instance) = ("u8".to_owned(), "0");
                attributes.push("skip".to_owned());
            }
            7 if self.random.bool() => {
                ty = self.choose(&["u32", "i16", "f64"]).to_owned();
                attributes.push("with = \"as_text\"".to_owned());
            }
            8 if self.random.bool() => {
                (ty, instance) = ("u32".to_owned(), "random.numbers.u32(..=10)");
                attributes.push("deserialize_with = \"at_most_ten\"".to_owned());
            }
            9 if self.random.bool() => {
                ty = "u16".to_owned();
                attributes.push("serialize_with = \"as_text::serialize\"".to_owned());
                halves_differ = true;
            }
            10 if self.random.bool() => {
                ty = format!("Vec<{ty}>");
                attributes.push("skip_serializing_if = \"Vec::is_empty\"".to_owned());
                halves_differ = true;
            }
            11 if self.random.bool() => {
                ty = "String".to_owned();
                attributes.push(self.choose(&["skip_serializing", "skip_deserializing"]).to_owned());
                halves_differ = true;
            }
            _ => {}
        }
        let is_skipped = attributes.iter().any(|attribute| attribute.starts_with("skip") && !attribute.contains('='));
        match self.random.u32(..12) {
            0 if !is_skipped => {
                let start = self.choose(&["x/", "ä~", "$", "two words ", "%\\\"", "_"]);
                attributes.push(format!("rename = \"{start}{name}\""));
            }
            1 if !is_skipped && self.one_in(4) => {
                attributes.push(format!("rename(serialize = \"{name}s\", deserialize = \"{name}d\")"));
                halves_differ = true;
            }
            2 | 3 if !is_skipped => {
                attributes.push(format!("alias = \"{name}alias\""));
                if self.random.bool() {
                    attributes.push(format!("alias = \"{name} other\""));
                }
            }
            _ => {}
        }
        let attributes = match attributes.is_empty() {
            true => String::new(),
            false => format!("#[serde({})] ", attributes.join(", ")),
        };
        Written { text: format!("{attributes}{name}: {ty},"), instance: format!("{name}: {instance}"), halves_differ }
    }

    fn flattened(&mut self, current: &mut Current, name: &str) -> Written {
        let object = |this: &mut Self| this.known_where(|known| known.is_object).unwrap_or(Used::leaf("Plain"));
        let used = match self.random.u32(..6) {
            0 | 1 => object(self),
            2 => object(self).wrapped("Option<", ">"),
            3 => Used::leaf("BTreeMap<String, u8>"),
            4 => Used::leaf("HashMap<String, Value>"),
            _ => self.leaf().wrapped("BTreeMap<String, ", ">"),
        };
        current.inside.extend(used.inside.iter().cloned());
        current.leaves += used.leaves;
        Written {
            text: format!("#[serde(flatten)] {name}: {},", used.text),
            instance: format!("{name}: random.make()"),
            halves_differ: false,
        }
    }

    fn tuple_struct(&mut self, current: &mut Current) -> (String, String, bool, bool) {
        let mut attributes = self.container(current, "");
        if current.parameters == 0 && self.one_in(8) {
            attributes.push_str("#[serde(default)]\n");
        }
        let has_default = attributes.contains("(default)");
        current.is_bare = true;
        let (fields, instance, is_object) = self.elements(current, 1, true);
        let mut source = format!("{attributes}struct {}({fields});\n", current.declared);
        if has_default {
            let name = &current.name;
            let _ = writeln!(source, "impl Default for {name} {{ fn default() -> Self {{ made() }} }}");
        }
        (source, format!("Self({instance})"), is_object, false)
    }

    /// The fields without names of a struct or of a variant.
    fn elements(&mut self, current: &mut Current, least: usize, may_recurse: bool) -> (String, String, bool) {
        let count = self.random.usize(least..4).max(current.parameters);
        let (mut texts, mut instances, mut is_object) = (Vec::new(), Vec::new(), false);
        for at in 0..count {
            let used = match at < current.parameters {
                true => Used::leaf(["A", "B"][at]),
                false if may_recurse => self.used(Some(current), 3),
                false => self.used(None, 2),
            };
            current.inside.extend(used.inside.iter().cloned());
            current.leaves += used.leaves;
            is_object = used.is_object && count == 1;
            match self.random.u32(..12) {
                0 if count > 1 => {
                    texts.push("#[serde(skip)] u8".to_owned());
                    instances.push("0");
                    // A parameter has to be used.
                    if at < current.parameters {
                        texts.push(used.text);
                        instances.push("random.make()");
                    }
                }
                1 if count > 1 && at + 1 == count => {
                    texts.push(format!("#[serde(default = \"made\")] {}", used.text));
                    instances.push("random.make()");
                }
                2 if at >= current.parameters && self.one_in(4) => {
                    texts.push("#[serde(with = \"as_text\")] u32".to_owned());
                    instances.push("random.make()");
                    is_object = false;
                }
                _ => {
                    texts.push(used.text);
                    instances.push("random.make()");
                }
            }
        }
        (texts.join(", "), instances.join(", "), is_object)
    }

    fn enumeration(&mut self, current: &mut Current) -> (String, String, bool, bool) {
        let mut attributes = self.container(current, "");
        let representation = self.random.u32(..5);
        let tag = self.choose(&TAGS);
        let is_untagged = representation == 2;
        match representation {
            0 => drop(writeln!(attributes, "#[serde(tag = \"{tag}\")]")),
            1 => drop(writeln!(attributes, "#[serde(tag = \"{tag}\", content = \"c\")]")),
            2 => attributes.push_str("#[serde(untagged)]\n"),
            _ => {}
        }
        if self.one_in(6) {
            attributes.push_str("#[serde(deny_unknown_fields)]\n");
        }
        if self.one_in(6) {
            let _ = writeln!(attributes, "#[serde(rename_all_fields = \"{}\")]", self.choose(&RULES));
        }
        if is_untagged && self.random.bool() {
            // Variants without a prefix have fields of the same names.
            current.prefix.clear();
        }
        let count = self.random.usize(1..6);
        let (mut text, mut instance) = (String::new(), String::new());
        let mut active = 0;
        let mut is_object = representation <= 2;
        let parameters = current.parameters;
        for at in 0..count {
            let name = ["First", "Second", "ThirdOne", "Fourth2", "Fifth"][at];
            if is_untagged {
                current.names = self.random.usize(..2);
            }
            // The parameters are in the first variant, which ends values.
            current.parameters = if at == 0 { parameters } else { 0 };
            let mut variant_attributes = Vec::new();
            if !is_untagged {
                match self.random.u32(..14) {
                    0 => variant_attributes.push(format!("rename = \"the {name}\"")),
                    1 | 2 => variant_attributes.push(format!("alias = \"{name}Alias\"")),
                    3 if at > 0 => variant_attributes.push("skip".to_owned()),
                    4 => variant_attributes.push(format!("rename_all = \"{}\"", self.choose(&RULES))),
                    5 if self.one_in(3) => {
                        variant_attributes.push(format!("rename(serialize = \"{name}S\", deserialize = \"{name}D\")"));
                        current.halves_differ = true;
                    }
                    6 if at > 0 && at + 1 == count => variant_attributes.push("other".to_owned()),
                    7 if at > 0 && at + 1 == count => variant_attributes.push("untagged".to_owned()),
                    _ => {}
                }
            }
            let has = |attribute: &str| variant_attributes.iter().any(|written| written == attribute);
            let (is_other, is_skipped, without_tag) = (has("other"), has("skip"), has("untagged") || is_untagged);
            current.is_bare = without_tag;
            // Also if it has no tag: serde takes an array in place of a tagged object, so no other variant is an array.
            let is_inside = representation == 0;
            let shape = match self.random.u32(..4) {
                _ if is_other => 0,
                _ if current.parameters > 0 && is_inside => 3,
                0 if current.parameters > 0 => 3,
                2 if representation == 0 => 3,
                shape => shape,
            };
            if shape != 3 {
                variant_attributes.retain(|attribute| !attribute.starts_with("rename_all"));
            }
            let (written, made) = match shape {
                0 => {
                    is_object &= !without_tag;
                    (name.to_owned(), name.to_owned())
                }
                1 if is_inside => {
                    let used = self.known_where(|known| known.is_object).unwrap_or(Used::leaf("Plain"));
                    let used = if self.one_in(4) { self.map(1) } else { used };
                    current.inside.extend(used.inside.iter().cloned());
                    current.leaves += used.leaves;
                    (format!("{name}({})", used.text), format!("{name}(random.make())"))
                }
                1 if current.parameters < 2 => {
                    let used = match current.parameters {
                        1 => Used::leaf("A"),
                        _ if at > 0 && self.one_in(4) => self.recursive(current, true),
                        _ => self.used(if at > 0 { Some(current) } else { None }, 3),
                    };
                    current.inside.extend(used.inside.iter().cloned());
                    current.leaves += used.leaves;
                    is_object &= !without_tag || used.is_object;
                    (format!("{name}({})", used.text), format!("{name}(random.make())"))
                }
                1 | 2 => {
                    is_object &= !without_tag;
                    let least = if self.one_in(6) { 0 } else { 2 };
                    let (fields, made, _) = self.elements(current, least, at > 0);
                    (format!("{name}({fields})"), format!("{name}({made})"))
                }
                _ => {
                    let (fields, made) = self.fields(current, true, at > 0);
                    (format!("{name} {{\n{fields}}}"), format!("{name} {{ {made} }}"))
                }
            };
            if !variant_attributes.is_empty() {
                let _ = writeln!(text, "    #[serde({})]", variant_attributes.join(", "));
            }
            let _ = writeln!(text, "    {written},");
            if !is_skipped {
                let _ = write!(instance, "{active} => Self::{made}, ");
                active += 1;
            }
        }
        current.parameters = parameters;
        let source = format!("{attributes}enum {} {{\n{text}}}\n", current.declared);
        let body = format!("match random.variant({active}) {{ {instance}_ => unreachable!() }}");
        (source, body, is_object, false)
    }

    fn transparent(&mut self, current: &mut Current) -> (String, String, bool, bool) {
        current.is_bare = true;
        let used = self.used(Some(current), 3);
        current.inside.extend(used.inside.iter().cloned());
        current.leaves += used.leaves;
        let attributes = "#[derive(Clone, Serialize, Deserialize)]\n#[serde(transparent)]\n";
        let source = format!("{attributes}struct {} {{ inner: {} }}\n", current.name, used.text);
        (source, "Self { inner: random.make() }".to_owned(), used.is_object, false)
    }

    fn key(&mut self, current: &mut Current) -> (String, String, bool, bool) {
        let attributes = self.container(current, ", PartialEq, Eq, PartialOrd, Ord, Hash");
        current.leaves += 1;
        if self.random.bool() {
            let inner = self.choose(&["String", "u16", "i8", "bool", "char"]);
            let source = format!("{attributes}struct {}({inner});\n", current.name);
            return (source, "Self(random.make())".to_owned(), false, true);
        }
        let source =
            format!("{attributes}enum {} {{ First, SecondOne, #[serde(alias = \"3\")] Third }}\n", current.name);
        let body = "match random.variant(3) { 0 => Self::First, 1 => Self::SecondOne, _ => Self::Third }";
        (source, body.to_owned(), false, true)
    }

    fn unit(&mut self, current: &mut Current) -> (String, String, bool, bool) {
        let attributes = self.container(current, "");
        current.leaves += 1;
        let end = self.choose(&[";", " {}", "();"]);
        (
            format!("{attributes}struct {}{end}\n", current.name),
            format!("Self{}", end.trim_end_matches(';')),
            end == " {}",
            false,
        )
    }

    /// Read as another type, which is converted and may be refused.
    fn converted(&mut self, current: &mut Current) -> (String, String, bool, bool) {
        let name = current.name.clone();
        let kind = self.random.u32(..8);
        let (from, condition) = match kind {
            0 => ("u8", "*from <= 100"),
            1 => ("u16", "from % 2 == 0"),
            2 => ("String", "from.len() <= 3"),
            3 => ("Vec<u8>", "!from.is_empty()"),
            4 => ("(u8, u8)", "from.0 <= from.1"),
            5 => ("Limits", "from.low <= from.high"),
            _ => ("", ""),
        };
        let derive = "#[derive(Clone, Serialize, Deserialize)]\n";
        if kind <= 5 {
            current.leaves += 2;
            let source = format!(
                "{derive}#[serde(try_from = \"{from}\", into = \"{from}\")]\nstruct {name}({from});\n\
                 impl TryFrom<{from}> for {name} {{\n    type Error = &'static str;\n    fn try_from(from: {from}) -> Result<Self, \
                 &'static str> {{\n        let is_right = |from: &{from}| {condition};\n        if is_right(&from) {{ Ok(Self(from)) }} \
                 else {{ Err(\"refused\") }}\n    }}\n}}\n\
                 impl From<{name}> for {from} {{ fn from(from: {name}) -> Self {{ from.0 }} }}\n"
            );
            let body =
                format!("loop {{ if let Ok(made) = Self::try_from(random.make_full::<{from}>()) {{ return made; }} }}");
            return (source, body, from == "Limits", false);
        }
        let used = self.known_where(|known| known.parameters == 0).unwrap_or(Used::leaf("u8"));
        current.inside.extend(used.inside.iter().cloned());
        current.leaves += used.leaves;
        let from = &used.text;
        let conversions = format!(
            "impl From<{from}> for {name} {{ fn from(from: {from}) -> Self {{ Self(from) }} }}\n\
             impl From<{name}> for {from} {{ fn from(from: {name}) -> Self {{ from.0 }} }}\n"
        );
        let source =
            format!("{derive}#[serde(from = \"{from}\", into = \"{from}\")]\nstruct {name}({from});\n{conversions}");
        (source, "Self(random.make())".to_owned(), used.is_object, false)
    }

    /// A type for a field. `depth` is how deep it may be.
    fn used(&mut self, mut current: Option<&mut Current>, depth: u32) -> Used {
        let leaves = current.as_ref().map_or(0, |current| current.leaves);
        if depth == 0 || leaves > LEAVES / 2 {
            return self.leaf();
        }
        match self.random.u32(..24) {
            0..=6 => self.leaf(),
            7..=9 => self.used(current, depth - 1).wrapped("Option<", ">"),
            10 | 11 => self.used(current, depth - 1).wrapped("Vec<", ">"),
            12 => {
                let length = self.choose(&["0", "1", "2", "3", "5"]);
                self.used(None, depth - 1).wrapped("[", &format!("; {length}]"))
            }
            13 => {
                let items: Vec<_> = (0..self.random.usize(1..4)).map(|_| self.used(None, depth - 1)).collect();
                let texts: Vec<_> = items.iter().map(|used| used.text.as_str()).collect();
                Used {
                    text: format!("({},)", texts.join(", ")),
                    inside: items.iter().flat_map(|used| used.inside.iter().cloned()).collect(),
                    leaves: items.iter().map(|used| used.leaves).sum(),
                    is_object: false,
                }
            }
            14 | 15 => self.map(depth - 1),
            16 => {
                let used = self.used(None, depth - 1);
                Used { is_object: used.is_object, ..used.wrapped("Box<", ">") }
            }
            17 | 18 if current.is_some() => self.recursive(current.as_mut().expect("it is there"), false),
            _ => self.known_where(|_| true).unwrap_or(Used::leaf("i32")),
        }
    }

    fn leaf(&mut self) -> Used {
        let leaves = [
            "u8",
            "u16",
            "u32",
            "u64",
            "i8",
            "i16",
            "i32",
            "i64",
            "u128",
            "i128",
            "f32",
            "f64",
            "bool",
            "bool",
            "char",
            "String",
            "String",
            "String",
            "Box<str>",
            "Cow<'static, str>",
            "()",
            "NonZeroU8",
            "NonZeroI32",
            "BTreeSet<u16>",
            "Value",
        ];
        Used::leaf(self.choose(&leaves))
    }

    fn map(&mut self, depth: u32) -> Used {
        let keys = ["u8", "i8", "u64", "i32", "char", "bool", "u128"];
        let (key, inside) = match self.random.u32(..6) {
            0 | 1 => (self.choose(&keys).to_owned(), BTreeSet::new()),
            2 => match self.known_where(|known| known.is_key) {
                Some(used) => (used.text, used.inside),
                None => ("u32".to_owned(), BTreeSet::new()),
            },
            _ => ("String".to_owned(), BTreeSet::new()),
        };
        let mut value = self.used(None, depth);
        value.inside.extend(inside);
        let map = self.choose(&["BTreeMap", "BTreeMap", "HashMap"]);
        Used { is_object: true, ..value.wrapped(&format!("{map}<{key}, "), ">") }
    }

    /// The type itself, or the next one, within what may be empty.
    fn recursive(&mut self, current: &mut Current, may_be_direct: bool) -> Used {
        let is_next = self.one_in(3) && self.number < TYPES;
        self.next_is_named |= is_next;
        let name = if is_next { format!("T{}", self.number) } else { current.itself.clone() };
        let inside = BTreeSet::from([if is_next { name.clone() } else { current.name.clone() }]);
        let used = Used { text: name, inside, leaves: 1, is_object: false };
        match self.random.u32(if current.is_bare { 3 } else { 0 }..6) {
            0 | 1 if may_be_direct && !is_next => used.wrapped("Box<", ">"),
            0..=2 => used.wrapped("Option<Box<", ">>"),
            3 => used.wrapped("BTreeMap<String, ", ">"),
            _ => used.wrapped("Vec<", ">"),
        }
    }

    fn known_where(&mut self, is_right: impl Fn(&Known) -> bool) -> Option<Used> {
        let some: Vec<_> =
            self.known.iter().filter(|known| known.leaves < LEAVES / 4 && is_right(known)).cloned().collect();
        let known = some.get(self.random.usize(..some.len().max(1)))?;
        let mut inside = BTreeSet::from([known.name.clone()]);
        let mut leaves = known.leaves;
        let mut texts = Vec::new();
        for _ in 0..known.parameters {
            let used = self.used(None, 1);
            inside.extend(used.inside);
            leaves += used.leaves;
            texts.push(used.text);
        }
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        Some(Used { text: format!("{}{}", known.name, arguments(&texts)), inside, leaves, is_object: known.is_object })
    }
}

fn arguments(all: &[&str]) -> String {
    if all.is_empty() { String::new() } else { format!("<{}>", all.join(", ")) }
}

/// Types that the generated ones contain.
fn fixed_types() -> Vec<Definition> {
    let fixed = |name: &str, source: &str, instance: &str| Definition {
        name: name.to_owned(),
        source: source.to_owned(),
        instance: instance.to_owned(),
        halves_differ: false,
        inside: BTreeSet::new(),
        subjects: vec![(name.to_owned(), BTreeSet::new())],
    };
    vec![
        fixed(
            "Plain",
            "#[derive(Clone, Serialize, Deserialize)]\nstruct Plain { id: u32, note: Option<String> }\n",
            "impl Instance for Plain { fn instance(random: &mut Random) -> Self { Self { id: random.make(), note: random.make() } } }\n",
        ),
        fixed(
            "Limits",
            "#[derive(Clone, Serialize, Deserialize)]\nstruct Limits { low: u8, high: u8 }\n",
            "impl Instance for Limits { fn instance(random: &mut Random) -> Self { Self { low: random.make(), high: random.make() } } }\n",
        ),
    ]
}

const FIXED: &str = r#"// Written by build.rs.
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::{NonZeroI32, NonZeroU8};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Subject;
use crate::instance::{Instance, Random};

/// The default of a field or of a type.
fn made<T: Instance>() -> T {
    T::instance(&mut Random::seeded(7))
}

fn at_most_ten<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = u32::deserialize(deserializer)?;
    if value <= 10 { Ok(value) } else { Err(serde::de::Error::custom("more than ten")) }
}

/// A number as a string.
mod as_text {
    use serde::Deserialize as _;

    pub(super) fn serialize<T: ToString, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string())
    }

    pub(super) fn deserialize<'de, T: std::str::FromStr, D: serde::Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom("no number"))
    }
}

"#;
