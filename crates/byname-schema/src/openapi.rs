//! A service as OpenAPI 3.1: [`ServiceSchema::to_openapi`].

use serde_json::{Map, Value, json};

use crate::references::DocumentVersion;
use crate::service_schema::{ArgumentSchema, FunctionSchema, ServiceSchema};

const SCHEMAS: &str = "#/components/schemas/";

/// The codes of errors, as `docs/protocol.md` lists them.
const CODES: [&str; 16] = [
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

impl ServiceSchema {
    /// The path way of the service as an OpenAPI 3.1 document: a POST for each function, and a GET for each one that is
    /// readonly. `endpoint` is the URL or the path of the service, such as `/rpc`, if it is known.
    pub fn to_openapi(&self, endpoint: Option<&str>) -> Value {
        let mut moved = self.with_components_at(SCHEMAS);
        moved.change_schemas(&mut put_number_format);
        let Self { functions, definitions, .. } = moved;
        let path =
            |function: &FunctionSchema| (format!("/{}", function.name), path_item(function, &self.id_of_get(function)));
        let paths: Map<_, _> = functions.iter().map(path).collect();
        let mut schemas: Map<_, _> = definitions.into_iter().collect();
        // A struct of the service may have the name.
        let problem = free_name("Problem".to_owned(), |name| schemas.contains_key(name));
        schemas.insert(problem.clone(), self::problem());
        let problem = json!({ "application/problem+json": { "schema": { "$ref": format!("{SCHEMAS}{problem}") } } });
        let mut document = json!({
            "openapi": "3.1.0",
            "info": { "title": self.title(), "version": DocumentVersion::of(self).to_string() },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": { "Problem": { "description": "The call failed.", "content": problem } },
            },
        });
        if let Some(endpoint) = endpoint {
            document["servers"] = json!([{ "url": endpoint }]);
        }
        document
    }

    /// The id of a GET. That of a POST is the name of its function, so beside `orders` there may be an `orders.get`.
    fn id_of_get(&self, function: &FunctionSchema) -> String {
        free_name(format!("{}.get", function.name), |id| self.functions.iter().any(|of| of.name == id))
    }
}

/// Says how wide a number is, in the words of OpenAPI. Generators of clients do not read the bounds, and take an integer for one of 32 bits.
fn put_number_format(schema: &mut Value) {
    let within = |least: i64, greatest: u64| {
        schema["minimum"].as_i64().is_some_and(|bound| bound >= least)
            && schema["maximum"].as_u64().is_some_and(|bound| bound <= greatest)
    };
    let format = match schema["type"].as_str() {
        Some("number") => "double",
        Some("integer") if within(i32::MIN.into(), i32::MAX.unsigned_abs().into()) => "int32",
        Some("integer") if within(i64::MIN, i64::MAX.unsigned_abs()) => "int64",
        Some("integer") if within(0, u64::MAX) => "uint64",
        _ => return,
    };
    schema["format"] = json!(format);
}

/// The name, or if it is taken a similar one.
fn free_name(mut name: String, is_taken: impl Fn(&str) -> bool) -> String {
    while is_taken(&name) {
        name.push('_');
    }
    name
}

fn path_item(function: &FunctionSchema, id_of_get: &str) -> Value {
    let mut post = operation(function, &function.name);
    match &function.takes {
        // The body is the stream, so the arguments are in the query.
        Some(stream) => {
            add_query(&mut post, function);
            let lines = json!({
                "type": "string",
                "description": format!("Items of `{}`, one on each line, as JSON.", stream.name),
                "x-items": stream.schema,
            });
            post["requestBody"] =
                json!({ "required": true, "content": { "application/x-ndjson": { "schema": lines } } });
        }
        None => post["requestBody"] = request_body(function),
    }
    let mut item = json!({ "post": post });
    if function.readonly && function.takes.is_none() {
        let mut get = operation(function, id_of_get);
        add_query(&mut get, function);
        item["get"] = get;
    }
    item
}

fn operation(function: &FunctionSchema, id: &str) -> Value {
    let content = match function.streams {
        true => json!({
            "application/x-ndjson": { "schema": {
                "type": "string",
                "description": "One object on each line: `{\"item\":…}` for each item, at the end `{\"end\":COUNT}` or `{\"err\":…}`.",
                "x-items": function.returns_schema,
            } },
        }),
        false => json!({ "application/json": { "schema": function.returns_schema } }),
    };
    let failed = match &function.error {
        None => json!({ "$ref": "#/components/responses/Problem" }),
        Some(error) => {
            let own = json!({
                "type": "object",
                "properties": { "kind": { "const": "method" }, "data": error },
                "required": ["kind"],
            });
            let other = json!({ "type": "object", "properties": { "kind": { "const": "rpc" } }, "required": ["kind"] });
            json!({
                "description": "The call failed. `data` is the function's own error, if `kind` is `method`.",
                "content": { "application/problem+json": { "schema": { "anyOf": [own, other] } } },
            })
        }
    };
    let described =
        if function.returns.is_empty() || function.returns == "()" { "The function has run." } else { "The result." };
    let mut operation = json!({
        "operationId": id,
        "responses": { "200": { "description": described, "content": content }, "default": failed },
    });
    put_doc(&mut operation, &function.doc);
    if let Some((group, _)) = function.name.rsplit_once('.') {
        operation["tags"] = json!([group]);
    }
    if let Some(reason) = &function.deprecated {
        operation["deprecated"] = json!(true);
        if !reason.is_empty() {
            operation["x-deprecation-reason"] = json!(reason);
        }
    }
    if function.keyed {
        operation["parameters"] = json!([key_header()]);
    }
    operation
}

/// The first paragraph is the summary.
fn put_doc(operation: &mut Value, doc: &str) {
    let summary = doc.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    if !summary.trim().is_empty() {
        operation["summary"] = json!(summary.trim());
        operation["description"] = json!(doc);
    }
}

/// An object with the arguments by their names.
fn request_body(function: &FunctionSchema) -> Value {
    let with_default = |argument: &ArgumentSchema| (argument.name.clone(), argument.schema_with_default());
    let properties: Map<_, _> = function.arguments.iter().map(with_default).collect();
    let required: Vec<_> =
        function.arguments.iter().filter(|argument| argument.required).map(|argument| &argument.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    // Then there may be no body, and `null` and `[]` are bodies without arguments.
    if required.is_empty() {
        schema["type"] = json!(["object", "null", "array"]);
        schema["maxItems"] = json!(0);
    }
    json!({ "required": !required.is_empty(), "content": { "application/json": { "schema": schema } } })
}

/// The key with which a call runs once.
fn key_header() -> Value {
    let schema = json!({ "type": "string", "pattern": "^[!-~]{1,255}$" });
    json!({ "name": "idempotency-key", "in": "header", "required": true, "schema": schema })
}

fn add_query(operation: &mut Value, function: &FunctionSchema) {
    let query = function.arguments.iter().map(query_parameter);
    let headers = operation["parameters"].as_array().cloned().unwrap_or_default();
    operation["parameters"] = headers.into_iter().chain(query).collect();
}

/// A string stands in the query as it is, any other value as JSON. That of a number or of a boolean is its text.
fn query_parameter(argument: &ArgumentSchema) -> Value {
    let mut parameter = json!({ "name": argument.name, "in": "query", "required": argument.required });
    let schema = argument.schema_with_default();
    match plain_parameter(&schema) {
        Some(plain) => parameter["schema"] = plain,
        None => parameter["content"] = json!({ "application/json": { "schema": schema } }),
    }
    parameter
}

/// The schema of a parameter that is written without quotes and brackets. In place of `null` such a parameter is left out.
fn plain_parameter(schema: &Value) -> Option<Value> {
    let is_null = |part: &Value| *part == json!({ "type": "null" });
    let mut plain = match schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
        None => schema.clone(),
        Some([part, null] | [null, part]) if is_null(null) => part.clone(),
        Some(_) => return None,
    };
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        plain["default"] = default.clone();
    }
    let is_plain =
        plain["type"].as_str().is_some_and(|name| ["boolean", "integer", "number", "string"].contains(&name));
    is_plain.then_some(plain)
}

/// RFC 9457 with the members of ERROR.
fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "code": { "enum": CODES },
            "message": { "type": "string" },
            "executed": { "enum": ["no", "yes", "unknown"] },
            "kind": { "enum": ["rpc", "method"] },
            "data": {},
            "retry_after_ms": { "type": "integer", "minimum": 0 },
            "limit": { "type": "string" },
            "retry": { "type": "boolean" },
        },
        "required": ["type", "title", "status", "code", "message", "executed", "kind"],
    })
}
