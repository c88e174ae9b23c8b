//! The schemas inside a schema: [`for_each_schema`].

use serde_json::Value;

use crate::service_schema::ServiceSchema;

/// Changes a schema, and then those in it.
pub(crate) fn for_each_schema(schema: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    change(schema);
    for (word, value) in schema.as_object_mut().into_iter().flatten() {
        match (word.as_str(), value) {
            // Properties can have any name.
            ("properties" | "patternProperties" | "$defs", Value::Object(schemas)) => {
                schemas.values_mut().for_each(|schema| for_each_schema(schema, change));
            }
            ("prefixItems" | "anyOf" | "oneOf" | "allOf", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(|schema| for_each_schema(schema, change));
            }
            // It says whether there may be other properties.
            ("additionalProperties", Value::Bool(_)) => {}
            ("items" | "additionalProperties" | "propertyNames" | "not", schema) => for_each_schema(schema, change),
            // These are values, and no schemas.
            _ => {}
        }
    }
}

impl ServiceSchema {
    /// Changes all schemas in it.
    pub(crate) fn change_schemas(&mut self, change: &mut dyn FnMut(&mut Value)) {
        for function in &mut self.functions {
            let arguments =
                function.arguments.iter_mut().chain(&mut function.takes).map(|argument| &mut argument.schema);
            for schema in arguments.chain([&mut function.returns_schema]).chain(&mut function.error) {
                for_each_schema(schema, change);
            }
        }
        self.definitions.values_mut().for_each(|schema| for_each_schema(schema, change));
    }
}
