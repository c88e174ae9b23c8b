"""Validates an OpenRPC document with the meta-schema of OpenRPC: openrpc.py META-SCHEMA DOCUMENT"""

import json
import sys

from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

meta_schema, document = (json.load(open(path)) for path in sys.argv[1:])
# The meta-schema refers to one of JSON Schema itself by an address on the web. What is a schema is checked by OpenAPI's validator.
anything = Resource(contents={}, specification=DRAFT7)
elsewhere = Registry().with_resource("https://meta.json-schema.tools", anything)
meta_schema["$schema"] = "http://json-schema.org/draft-07/schema#"
validator = Draft7Validator(meta_schema, registry=elsewhere)
mistakes = [f"{mistake.json_path}: {mistake.message[:300]}" for mistake in validator.iter_errors(document)]
if mistakes or not document["methods"]:
    sys.exit("\n".join(mistakes) or "it has no methods")
# A check that can't fail is none.
document["methods"][0].pop("params")
if validator.is_valid(document):
    sys.exit("a method without `params` is valid")
print(f"ok openrpc: {len(document['methods'])} methods")
