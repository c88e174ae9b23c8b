//! A service as OpenRPC: [`ServiceSchema::to_openrpc`].

use serde_json::{Map, Value, json};

use crate::references::DocumentVersion;
use crate::service_schema::{ArgumentSchema, FunctionSchema, ServiceSchema};

impl ServiceSchema {
    /// The JSON-RPC way of the service as an [OpenRPC](https://spec.open-rpc.org) 1.3 document. Functions with streams are left
    /// out, because JSON-RPC can't call them. `endpoint` is the URL or the path of the service, such as `/rpc`, if it is known.
    pub fn to_openrpc(&self, endpoint: Option<&str>) -> Value {
        let callable = |function: &&FunctionSchema| !function.streams && function.takes.is_none();
        let Self { functions, definitions, .. } = self.with_components_at("#/components/schemas/");
        let methods: Vec<_> = functions.iter().filter(callable).map(method).collect();
        let schemas: Map<_, _> = definitions.into_iter().collect();
        let mut document = json!({
            "openrpc": "1.3.2",
            "info": { "title": self.title(), "version": DocumentVersion::of(self).to_string() },
            "methods": methods,
            "components": { "schemas": schemas },
        });
        if let Some(endpoint) = endpoint {
            document["servers"] = json!([{ "name": "this service", "url": endpoint }]);
        }
        document
    }
}

fn method(function: &FunctionSchema) -> Value {
    let params: Vec<_> = function.arguments.iter().map(param).collect();
    let mut method = json!({
        "name": function.name,
        "params": params,
        "paramStructure": "either",
        "result": { "name": "result", "schema": function.returns_schema },
    });
    let summary = function.doc.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    if !summary.trim().is_empty() {
        method["summary"] = json!(summary.trim());
        method["description"] = json!(function.doc);
    }
    if let Some((group, _)) = function.name.rsplit_once('.') {
        method["tags"] = json!([{ "name": group }]);
    }
    if function.deprecated.is_some() {
        method["deprecated"] = json!(true);
    }
    if function.error.is_some() {
        method["errors"] =
            json!([{ "code": -32000, "message": "The function's own error. It is `data` in the ERROR in `data`." }]);
    }
    method
}

fn param(argument: &ArgumentSchema) -> Value {
    json!({ "name": argument.name, "required": argument.required, "schema": argument.schema_with_default() })
}
