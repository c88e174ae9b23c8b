//! Whether two versions of a service understand each other: [`differences`].

mod alternatives;
mod inclusion;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde_json::{Map, Value, json};

use self::alternatives::Schemas;
use self::inclusion::mismatches;
use crate::references::referred_name;
use crate::service_schema::{FunctionSchema, ServiceSchema};

/// One difference between two versions of a service.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// The function.
    pub function: String,
    /// The place in it: `arguments.order.lines[].quantity`. Empty for the function itself.
    pub place: String,
    /// What it does to clients of the old version that call the new one.
    pub old_client: Verdict,
    /// What it does to clients of the new version that call the old one.
    pub new_client: Verdict,
}

/// What a [`Difference`] does in one direction.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Calls work as before.
    Compatible,
    /// Some calls fail, or do something else.
    Breaks(Break),
}

/// A break in one direction.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Break {
    /// The id of the rule, for the list of accepted breaks. `docs/compatibility.md` lists them.
    pub rule: &'static str,
    /// What is wrong, in one line.
    pub why: String,
    /// A value that one side sends and the other refuses. `None` where no value shows it, or only one with more than 1,000 parts.
    pub witness: Option<Value>,
}

/// The differences between two versions of a service, in the order of the functions' names. What only people read is not compared:
/// comments, names of types.
pub fn differences(old: &ServiceSchema, new: &ServiceSchema) -> Vec<Difference> {
    // Those of one place are told apart by their number in each direction.
    let mut found: BTreeMap<(Place, usize), [Verdict; 2]> = BTreeMap::new();
    for (at, (client, server)) in [(old, new), (new, old)].into_iter().enumerate() {
        let direction = Direction { client, server, is_old_client: at == 0 };
        let mut counts: HashMap<Place, usize> = HashMap::new();
        for (place, broken) in direction.breaks() {
            let count = counts.entry(place.clone()).or_default();
            let verdicts = found.entry((place, *count)).or_insert([Verdict::Compatible, Verdict::Compatible]);
            verdicts[at] = Verdict::Breaks(broken);
            *count += 1;
        }
    }
    let difference = |(((function, place), _), verdicts): ((Place, usize), [Verdict; 2])| {
        let [old_client, new_client] = verdicts;
        Difference { function, place, old_client, new_client }
    };
    found.into_iter().map(difference).collect()
}

impl Difference {
    /// The break of clients that are in use, when the service is deployed.
    pub fn breaks_old_clients(&self) -> Option<&Break> {
        self.old_client.broken()
    }

    /// The break of new clients that call a server of the old version. Deploy the servers first, and it is none.
    pub fn breaks_new_clients(&self) -> Option<&Break> {
        self.new_client.broken()
    }
}

impl Verdict {
    fn broken(&self) -> Option<&Break> {
        match self {
            Self::Compatible => None,
            Self::Breaks(broken) => Some(broken),
        }
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.why, self.rule)?;
        match &self.witness {
            Some(witness) => write!(f, ", for example {}", shortened(witness.to_string())),
            None => Ok(()),
        }
    }
}

/// The most characters of a witness in a text. [`Break::witness`] has all of it.
const SHOWN: usize = 160;

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Clients of one version that call servers of another one.
struct Direction<'s> {
    client: &'s ServiceSchema,
    server: &'s ServiceSchema,
    is_old_client: bool,
}

/// A function, and a place in it.
type Place = (String, String);

impl<'s> Direction<'s> {
    fn breaks(&self) -> Vec<(Place, Break)> {
        let mut found = Vec::new();
        for function in &self.client.functions {
            let names = std::iter::once(&function.name).chain(&function.aliases);
            for name in names {
                match self.server.function(name) {
                    None => {
                        let why = match self.is_old_client {
                            true => format!("the server has no function `{name}`"),
                            false => format!("an old server has no function `{name}`"),
                        };
                        found.push(((name.clone(), String::new()), broken("function-missing", why, None)));
                    }
                    Some(server) if name == &function.name => self.function(function, server, &mut found),
                    Some(_) => {}
                }
            }
        }
        found
    }

    fn function(&self, client: &'s FunctionSchema, server: &'s FunctionSchema, found: &mut Vec<(Place, Break)>) {
        let mut put = |place: &str, broken: Break| found.push(((client.name.clone(), place.to_owned()), broken));
        self.arguments(client, server, &mut put);
        match (&client.takes, &server.takes) {
            (Some(sent), Some(taken)) => {
                let place = format!("arguments.{}[]", sent.name);
                self.values(&place, (self.client, &sent.schema), (self.server, &taken.schema), None, &mut put);
            }
            (None, None) => {}
            (Some(stream), None) => {
                put(
                    "",
                    broken("stream-differs", format!("the stream `{}` is sent, and is not taken", stream.name), None),
                );
            }
            (None, Some(stream)) => {
                put(
                    "",
                    broken(
                        "stream-differs",
                        format!("the stream `{}` is expected, and is not sent", stream.name),
                        None,
                    ),
                );
            }
        }
        match (client.streams, server.streams) {
            (true, false) => {
                put("returns", broken("stream-differs", "one value comes in place of a stream".to_owned(), None))
            }
            (false, true) => {
                put("returns", broken("stream-differs", "a stream comes in place of one value".to_owned(), None))
            }
            _ => {
                let returned = (self.server, &server.returns_schema);
                self.values("returns", returned, (self.client, &client.returns_schema), None, &mut put);
            }
        }
        if let (Some(sent), Some(known)) = (&server.error, &client.error) {
            self.values("error", (self.server, sent), (self.client, known), None, &mut put);
        }
        if client.readonly && !server.readonly {
            let why = "it is not readonly: a GET is refused, and clients that repeat a call run it twice".to_owned();
            put("", broken("readonly-removed", why, None));
        } else if client.idempotent && !server.idempotent {
            let why = "it is not idempotent: clients that repeat a call run it twice".to_owned();
            put("", broken("idempotent-removed", why, None));
        }
        if server.keyed && !client.keyed {
            put("", broken("keyed-added", "calls without an `idempotency-key` are refused".to_owned(), None));
        }
    }

    fn arguments(&self, client: &'s FunctionSchema, server: &'s FunctionSchema, put: &mut impl FnMut(&str, Break)) {
        let schemas = self.of(self.client);
        // The arguments without which no call is made. `None` if one of them is too large.
        let needed = |except: &str| -> Option<Map<String, Value>> {
            let sent = client.arguments.iter().filter(|argument| argument.required && argument.name != except);
            sent.map(|argument| Some((argument.name.clone(), schemas.sample(&argument.schema)?))).collect()
        };
        let call_with = |name: &str, value: Option<Value>| {
            let mut call = needed(name)?;
            call.insert(name.to_owned(), value?);
            Some(Value::Object(call))
        };
        for argument in server.arguments.iter().filter(|argument| argument.required) {
            let sent = client.arguments.iter().find(|of| of.name == argument.name);
            if sent.is_some_and(|sent| sent.required) {
                continue;
            }
            let why = match sent {
                Some(_) => format!("the argument `{}` is required, and a caller may leave it out", argument.name),
                None => format!("the argument `{}` is required, and is not sent", argument.name),
            };
            let witness = needed(&argument.name).map(Value::Object);
            put(&format!("arguments.{}", argument.name), broken("argument-required", why, witness));
        }
        for (at, argument) in client.arguments.iter().enumerate() {
            let place = format!("arguments.{}", argument.name);
            let Some(index) = server.arguments.iter().position(|of| of.name == argument.name) else {
                let call = call_with(&argument.name, schemas.sample(&argument.schema));
                let why = format!("the argument `{}` is sent, and is not known", argument.name);
                put(&place, broken("argument-unknown", why, call));
                continue;
            };
            let taken = &server.arguments[index];
            if index != at {
                let why = format!(
                    "the argument `{}` is number {} of a call by position, and number {} is expected",
                    argument.name,
                    at + 1,
                    index + 1
                );
                put(&place, broken("argument-moved", why, None));
            }
            let around = |witness| call_with(&argument.name, witness);
            self.values(&place, (self.client, &argument.schema), (self.server, &taken.schema), Some(&around), put);
        }
    }

    /// Values that one side sends and the other reads.
    fn values(
        &self,
        place: &str,
        (writer, sent): (&'s ServiceSchema, &'s Value),
        (reader, read): (&'s ServiceSchema, &'s Value),
        around: Option<&dyn Fn(Option<Value>) -> Option<Value>>,
        put: &mut impl FnMut(&str, Break),
    ) {
        for found in mismatches((self.of(writer), sent), (self.of(reader), read)) {
            let dot = if found.path.is_empty() || found.path.starts_with('[') { "" } else { "." };
            let witness = match around {
                Some(around) => around(found.witness),
                None => found.witness,
            };
            put(&format!("{place}{dot}{}", found.path), broken(found.rule, found.why, witness));
        }
    }

    fn of(&self, schema: &'s ServiceSchema) -> Schemas<'s> {
        Schemas { definitions: &schema.definitions }
    }
}

fn broken(rule: &'static str, why: String, witness: Option<Value>) -> Break {
    Break { rule, why, witness }
}

impl Difference {
    /// The difference as JSON, as `byname check --format json` prints it.
    pub fn to_json(&self) -> Value {
        let verdict = |verdict: &Verdict| match verdict {
            Verdict::Compatible => json!({ "breaks": false }),
            Verdict::Breaks(Break { rule, why, witness }) => {
                json!({ "breaks": true, "rule": rule, "why": why, "witness": witness })
            }
        };
        json!({
            "function": self.function,
            "place": self.place,
            "old_client_new_server": verdict(&self.old_client),
            "new_client_old_server": verdict(&self.new_client),
        })
    }
}

/// Values of a schema of the service.
impl ServiceSchema {
    /// A small value that a schema of this service accepts, as an example. `None` if there is none.
    pub fn example(&self, schema: &Value) -> Option<Value> {
        Schemas { definitions: &self.definitions }.sample(schema)
    }

    /// Whether a schema of this service accepts the value. Of a string with a guessed format only one example is known.
    pub fn accepts(&self, schema: &Value, value: &Value) -> bool {
        Schemas { definitions: &self.definitions }.accept(schema, value)
    }

    /// The name of the definition that a schema refers to. `None` if it is not a reference.
    pub fn referred_name(schema: &Value) -> Option<String> {
        referred_name(schema)
    }

    /// The schema that a reference of this service stands for.
    pub fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        Schemas { definitions: &self.definitions }.resolved(schema)
    }
}
