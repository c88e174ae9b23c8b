//! Compares the schemas of several hundred generated types with what the types accept and write. `build.rs` makes the types.
//!
//! `GENERATED_TYPES_SEED` selects other types and other values: `GENERATED_TYPES_SEED=7 cargo test --features generated`.

mod changed;
mod conforming;
mod instance;
#[allow(clippy::all, dead_code, unused_variables, reason = "generated")]
mod types {
    include!(concat!(env!("OUT_DIR"), "/types.rs"));
}

use std::collections::{BTreeMap, BTreeSet};

use byname_schema::{OpenReason, TypeSchema, describe_both};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use instance::{Instance, Random};

/// Values of a type that are written.
const INSTANCES: usize = 8;
/// Changed values for each value that is written.
const CHANGES: usize = 24;
/// Values made from a schema.
const CONFORMING: usize = 40;

/// A generated type.
struct Subject {
    name: &'static str,
    /// Its definition, for messages.
    source: &'static str,
    /// An attribute makes it write something else than it reads.
    halves_differ: bool,
    describe: fn() -> TypeSchema,
    write: fn(&mut Random) -> serde_json::Result<Value>,
    is_taken: fn(&Value) -> bool,
}

impl Subject {
    const fn of<T: Instance + Serialize + DeserializeOwned>(
        name: &'static str,
        source: &'static str,
        halves_differ: bool,
    ) -> Self {
        Self {
            name,
            source,
            halves_differ,
            describe: describe_both::<T>,
            write: |random| serde_json::to_value(T::instance(random)),
            // From text, as a server reads it. `from_value` does not take the variant `A()` as `to_value` writes it.
            is_taken: |value| serde_json::from_str::<T>(&value.to_string()).is_ok(),
        }
    }
}

#[test]
fn a_generated_type_takes_what_its_schema_takes() {
    let mut report = Report::default();
    for (at, subject) in types::SUBJECTS.iter().enumerate() {
        report.compare(subject, &mut Random::seeded(types::SEED.wrapping_mul(1_000).wrapping_add(at as u64)));
    }
    print!("{report}");
    assert!(report.violations.is_empty(), "{}", report.violations());
}

#[derive(Default)]
struct Report {
    types: usize,
    open: usize,
    /// How many types are open for each reason.
    reasons: BTreeMap<String, usize>,
    written: usize,
    changed: usize,
    conforming: usize,
    taken_by_both: usize,
    refused_by_both: usize,
    /// Taken by the schemas alone, which are open.
    taken_by_open: usize,
    /// How many of the values that are written are refused by their schemas, which are open.
    refused_written: usize,
    violations: Vec<Violation>,
}

struct Violation {
    kind: &'static str,
    name: &'static str,
    message: String,
}

impl Report {
    fn compare(&mut self, subject: &Subject, random: &mut Random) {
        let described = (subject.describe)();
        let open = described.open();
        let schema = described.to_json_schema();
        let validator = jsonschema::validator_for(&schema).expect("a schema is valid");
        self.types += 1;
        self.open += usize::from(!open.is_empty());
        let reasons: BTreeSet<_> = open.iter().map(|place| format!("{:?}", place.reason)).collect();
        reasons.into_iter().for_each(|reason| *self.reasons.entry(reason).or_default() += 1);
        let mut wrong = Vec::new();
        if !subject.halves_differ && open.iter().any(|place| place.reason == OpenReason::WritesOther) {
            wrong.push(("open", "described", Value::Null));
        }
        let mut judge = |this: &mut Self, value: Value, from: &'static str| {
            let is_valid = validator.is_valid(&value);
            match ((subject.is_taken)(&value), is_valid) {
                (true, false) => wrong.push(("too strict", from, value)),
                (false, true) if open.is_empty() => wrong.push(("too loose", from, value)),
                (false, true) => this.taken_by_open += 1,
                (false, false) if from == "written" && open.is_empty() => {
                    wrong.push(("unlike what it writes", from, value))
                }
                (true, true) => this.taken_by_both += 1,
                (false, false) => this.refused_by_both += 1,
            }
            is_valid
        };
        for _ in 0..INSTANCES {
            // Some values can't be written, as a tag beside a map with numbers as keys.
            let Ok(value) = (subject.write)(random) else { continue };
            self.written += 1;
            self.refused_written += usize::from(!judge(self, value.clone(), "written"));
            for _ in 0..CHANGES {
                self.changed += 1;
                judge(self, changed::changed(&value, random), "changed");
            }
        }
        for _ in 0..CONFORMING {
            // A schema that contains itself may have values only deeper than those that are tried.
            let Some(value) = conforming::value(&schema, random) else { continue };
            self.conforming += 1;
            assert!(judge(self, value.clone(), "conforming"), "{}: {value} conforms to {schema}", subject.name);
        }
        for (kind, from, value) in wrong {
            let open: Vec<_> = open.iter().map(|place| format!("{}: {:?}", place.path, place.reason)).collect();
            let message = format!("{from}: {value}\n{schema}\nopen: {open:?}\n{}", subject.source);
            self.violations.push(Violation { kind, name: subject.name, message });
        }
    }

    /// The first of each type and kind.
    fn violations(&self) -> String {
        let mut first = BTreeMap::new();
        for violation in &self.violations {
            let (count, _) = first.entry((violation.name, violation.kind)).or_insert((0, &violation.message));
            *count += 1;
        }
        let all: Vec<_> = first
            .iter()
            .map(|((name, kind), (count, message))| format!("{name} is {kind} for {count} values, such as {message}"))
            .collect();
        format!("{} violations:\n{}", all.len(), all.join("\n\n"))
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}: {} types, of which {} are open: {:?}", types::SEED, self.types, self.open, self.reasons)?;
        writeln!(f, "{} values written, {} changed, {} from schemas", self.written, self.changed, self.conforming)?;
        writeln!(
            f,
            "{} taken by type and schema, {} refused by both, {} taken by open schemas alone",
            self.taken_by_both, self.refused_by_both, self.taken_by_open
        )?;
        writeln!(f, "{} values written that open schemas refuse", self.refused_written)
    }
}
