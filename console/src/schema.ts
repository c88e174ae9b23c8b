// What a JSON Schema of a service says about a value: the kinds that byname writes, and `open` for all others.

import { type Json, JsonNumber, isEqual, isObject, list, member, text, write } from "./json.ts";

export interface Property {
  name: string;
  schema: Json;
  required: boolean;
}

export interface Variant {
  label: string;
  schema: Json;
}

export type Shape =
  | { kind: "open" }
  | { kind: "const"; value: Json }
  | { kind: "enum"; values: Json[] }
  | { kind: "optional"; inner: Json }
  | { kind: "variants"; variants: Variant[] }
  | { kind: "boolean" }
  | { kind: "number"; integer: boolean; least: string | undefined; greatest: string | undefined }
  | { kind: "string"; format: string | undefined }
  | { kind: "bytes"; asText: boolean }
  | { kind: "array"; items: Json; least: number; greatest: number }
  | { kind: "tuple"; items: Json[] }
  | { kind: "map"; values: Json; keys: Json | undefined }
  | { kind: "object"; properties: Property[] };

export interface Resolved {
  shape: Shape;
  /** The name of the type, if it has one. */
  name: string | undefined;
  doc: string | undefined;
  default: Json | undefined;
}

export class Schemas {
  constructor(private readonly definitions: Json) {}

  /** The schema behind references, and the name of the last one. */
  resolve(schema: Json): { schema: Json; name: string | undefined } {
    let name: string | undefined;
    for (let step = 0; step < 32; step++) {
      const reference = text(member(schema, "$ref"));
      if (reference === undefined || !reference.startsWith("#/$defs/")) break;
      name = decodeURIComponent(reference.slice("#/$defs/".length)).replace(/~1/g, "/").replace(/~0/g, "~");
      schema = member(this.definitions, name) ?? true;
    }
    return { schema, name };
  }

  read(given: Json): Resolved {
    const { schema, name } = this.resolve(given);
    const doc = text(member(given, "description")) ?? text(member(schema, "description"));
    const titled = name ?? text(member(schema, "title"));
    return { shape: this.shape(schema), name: titled, doc, default: member(given, "default") ?? member(schema, "default") };
  }

  private shape(schema: Json): Shape {
    if (!isObject(schema)) return { kind: "open" };
    const constant = schema.get("const");
    if (constant !== undefined) return { kind: "const", value: constant };
    const values = list(schema.get("enum"));
    if (values.length > 0) return values.length === 1 ? { kind: "const", value: values[0] ?? null } : { kind: "enum", values };
    const alternatives = list(schema.get("anyOf") ?? schema.get("oneOf"));
    if (alternatives.length > 0) return this.alternatives(alternatives);
    const all = list(schema.get("allOf"));
    if (all.length === 1 && !schema.has("type") && !schema.has("properties")) return this.read(all[0] ?? true).shape;
    const types = Array.isArray(schema.get("type")) ? list(schema.get("type")) : [schema.get("type") ?? ""];
    const isByte = isBytes(schema.get("items"));
    if (isByte && types.includes("array")) return { kind: "bytes", asText: types.includes("string") };
    if (types.length === 2 && types.includes("null")) {
      const rest = new Map(schema);
      rest.set("type", types.find((type) => type !== "null") ?? "");
      return { kind: "optional", inner: rest };
    }
    if (types.length !== 1) return { kind: "open" };
    // What the type declares, and what it does not check.
    const hints = schema.get("x-declared");
    const declared = isObject(hints) ? hints : undefined;
    switch (types[0]) {
      case "null":
        return { kind: "const", value: null };
      case "boolean":
        return { kind: "boolean" };
      case "integer":
      case "number": {
        const [least, greatest] = [schema.get("minimum"), schema.get("maximum")];
        return {
          kind: "number",
          integer: types[0] === "integer",
          least: least instanceof JsonNumber ? least.text : undefined,
          greatest: greatest instanceof JsonNumber ? greatest.text : undefined,
        };
      }
      case "string": {
        const encoding = text(schema.get("contentEncoding")) ?? text(declared?.get("contentEncoding"));
        if (encoding === "base64") return { kind: "bytes", asText: true };
        return { kind: "string", format: text(schema.get("format")) ?? text(declared?.get("format")) };
      }
      case "array": {
        const tuple = list(schema.get("prefixItems"));
        if (tuple.length > 0) return { kind: "tuple", items: tuple };
        const count = (name: string, otherwise: number) => {
          const given = schema.get(name);
          return given instanceof JsonNumber ? Number(given.text) : otherwise;
        };
        return { kind: "array", items: schema.get("items") ?? true, least: count("minItems", 0), greatest: count("maxItems", Infinity) };
      }
      case "object":
        return this.object(schema);
      default:
        return { kind: "open" };
    }
  }

  private object(schema: Map<string, Json>): Shape {
    const properties = schema.get("properties");
    const rest = schema.get("additionalProperties");
    if (!isObject(properties) || properties.size === 0) {
      if (rest === false || isObject(properties)) return { kind: "object", properties: [] };
      return { kind: "map", values: rest ?? true, keys: schema.get("propertyNames") };
    }
    const required = new Set(list(schema.get("required")).map((name) => text(name)));
    // The members of an object come by the alphabet. These lists have them as they are declared.
    const declared = schema.has("x-order") ? list(schema.get("x-order")).map((name) => text(name)) : [...required];
    const aliases = new Set<string>();
    // A member with aliases: one of its names is required, of which the first is the one to write.
    for (const condition of list(schema.get("allOf"))) {
      const names: string[] = [];
      let isRequired = true;
      for (const choice of list(member(condition, "oneOf"))) {
        const name = text(list(member(choice, "required"))[0]);
        if (name === undefined) isRequired = false;
        else names.push(name);
      }
      names.slice(1).forEach((alias) => aliases.add(alias));
      if (isRequired && names[0] !== undefined) required.add(names[0]);
    }
    const all = [...properties].filter(([name]) => !aliases.has(name));
    const read = all.map(([name, schema]) => ({ name, schema, required: required.has(name) }));
    // What says which variant it is comes first, then what must be there, unless the order is known.
    const order = (property: Property) => (isConstant(property.schema) ? 0 : property.required || schema.has("x-order") ? 1 : 2);
    const place = (property: Property) => (declared.includes(property.name) ? declared.indexOf(property.name) : declared.length);
    return { kind: "object", properties: read.sort((a, b) => order(a) - order(b) || place(a) - place(b)) };
  }

  private alternatives(alternatives: Json[]): Shape {
    const isNull = (schema: Json) => text(member(this.resolve(schema).schema, "type")) === "null";
    const others = alternatives.filter((schema) => !isNull(schema));
    if (others.length < alternatives.length && others.length === 1) return { kind: "optional", inner: others[0] ?? true };
    if (others.length < alternatives.length && others.length > 1) {
      return { kind: "optional", inner: new Map([["anyOf", others]]) };
    }
    const variants: Variant[] = [];
    for (const schema of others) {
      const values = list(member(this.resolve(schema).schema, "enum"));
      if (values.length > 0) {
        for (const value of values) variants.push({ label: word(value), schema: new Map([["const", value]]) });
      } else {
        variants.push({ label: this.label(schema), schema });
      }
    }
    if (variants.every(({ schema }) => isObject(schema) && schema.has("const"))) {
      return { kind: "enum", values: variants.map(({ schema }) => member(schema, "const") ?? null) };
    }
    return { kind: "variants", variants };
  }

  /** The name of a variant, for people. */
  label(schema: Json): string {
    const { shape, name } = this.read(schema);
    switch (shape.kind) {
      case "const":
        return word(shape.value);
      case "object": {
        const tag = shape.properties.find((property) => isConstant(property.schema));
        if (tag) return word(constant(tag.schema));
        const only = shape.properties[0];
        if (shape.properties.length === 1 && only?.required) return only.name;
        if (name === undefined) return shape.properties.length === 0 ? "{}" : shape.properties.map((one) => one.name).join(", ");
        return name;
      }
      default:
        return name ?? this.notation(schema);
    }
  }

  /** A type in a few letters. */
  notation(schema: Json, depth = 0): string {
    const { shape, name } = this.read(schema);
    if (name !== undefined) return name;
    if (depth > 3) return "…";
    switch (shape.kind) {
      case "open":
        return "any JSON";
      case "const":
        return write(shape.value);
      case "enum":
        return shape.values.slice(0, 3).map(word).join(" | ") + (shape.values.length > 3 ? " | …" : "");
      case "optional":
        return `${this.notation(shape.inner, depth + 1)} or null`;
      case "variants":
        return shape.variants.slice(0, 3).map((variant) => variant.label).join(" | ") + (shape.variants.length > 3 ? " | …" : "");
      case "number":
        return integerName(shape.least, shape.greatest) ?? (shape.integer ? "integer" : "number");
      case "string":
        return shape.format ?? "text";
      case "bytes":
        return shape.asText ? "base64" : "bytes";
      case "array":
        return `[${this.notation(shape.items, depth + 1)}]`;
      case "tuple":
        return `(${shape.items.map((item) => this.notation(item, depth + 1)).join(", ")})`;
      case "map":
        return `{text: ${this.notation(shape.values, depth + 1)}}`;
      case "object":
        return `{${shape.properties.map((property) => property.name).join(", ")}}`;
      case "boolean":
        return "true or false";
    }
  }

  /** Whether a value can be of this type, so far as a form has to know. */
  accepts(given: Json, value: Json, depth = 0): boolean {
    if (depth > 40) return true;
    const { shape } = this.read(given);
    const inner = (schema: Json, value: Json) => this.accepts(schema, value, depth + 1);
    switch (shape.kind) {
      case "open":
        return true;
      case "const":
        return isEqual(shape.value, value);
      case "enum":
        return shape.values.some((known) => isEqual(known, value));
      case "optional":
        return value === null || inner(shape.inner, value);
      case "variants":
        return shape.variants.some((variant) => inner(variant.schema, value));
      case "boolean":
        return typeof value === "boolean";
      case "number":
        return value instanceof JsonNumber && (!shape.integer || /^-?\d+$/.test(value.text));
      case "string":
        return typeof value === "string";
      case "bytes":
        return (shape.asText && typeof value === "string") || (Array.isArray(value) && value.every((item) => item instanceof JsonNumber));
      case "array":
        return Array.isArray(value) && value.length >= shape.least && value.length <= shape.greatest && value.every((item) => inner(shape.items, item));
      case "tuple":
        return Array.isArray(value) && value.length <= shape.items.length && value.every((item, at) => inner(shape.items[at] ?? true, item));
      case "map":
        return isObject(value) && [...value.values()].every((item) => inner(shape.values, item));
      case "object":
        return (
          isObject(value) &&
          shape.properties.every((property) => {
            const given = value.get(property.name);
            return given === undefined ? !property.required : inner(property.schema, given);
          })
        );
    }
  }
}

export function word(value: Json): string {
  return typeof value === "string" ? value : write(value);
}

/** The schema of a type whose name says all: where the server knows no schema. */
export function schemaOfType(type: string): Json {
  const name = type.trim().replace(/^(?:\w+::)+/, "").replace(/^&(?:'\w+ )?/, "");
  const integer = Object.entries(INTEGERS).find(([, known]) => known === name);
  if (integer) {
    const [least = "", greatest = ""] = integer[0].split(" ");
    return new Map<string, Json>([["type", "integer"], ["minimum", new JsonNumber(least)], ["maximum", new JsonNumber(greatest)]]);
  }
  if (name === "usize" || name === "isize") return schemaOfType(name === "usize" ? "u64" : "i64");
  if (name === "f32" || name === "f64") return new Map([["type", "number"]]);
  if (name === "bool") return new Map([["type", "boolean"]]);
  if (name === "String" || name === "str" || name === "char") return new Map([["type", "string"]]);
  if (name === "Bytes") return new Map<string, Json>([["type", "string"], ["contentEncoding", "base64"]]);
  const [, outer, inner = ""] = /^(Option|Vec|Box)<(.*)>$/.exec(name) ?? [];
  const of = outer === undefined ? true : schemaOfType(inner);
  if (of === true) return true;
  if (outer === "Box") return of;
  return outer === "Option" ? new Map<string, Json>([["anyOf", [of, new Map([["type", "null"]])]]]) : new Map<string, Json>([["type", "array"], ["items", of]]);
}

function isConstant(schema: Json): boolean {
  return constant(schema) !== null;
}

function constant(schema: Json): Json {
  const values = list(member(schema, "enum"));
  return member(schema, "const") ?? (values.length === 1 ? (values[0] ?? null) : null);
}

function isBytes(items: Json | undefined): boolean {
  const [least, greatest] = [member(items, "minimum"), member(items, "maximum")];
  return least instanceof JsonNumber && least.text === "0" && greatest instanceof JsonNumber && greatest.text === "255";
}

const INTEGERS: Record<string, string> = {
  "0 255": "u8", "0 65535": "u16", "0 4294967295": "u32", "0 18446744073709551615": "u64",
  "0 340282366920938463463374607431768211455": "u128",
  "-128 127": "i8", "-32768 32767": "i16", "-2147483648 2147483647": "i32", "-9223372036854775808 9223372036854775807": "i64",
  "-170141183460469231731687303715884105728 170141183460469231731687303715884105727": "i128",
};

export function integerName(least: string | undefined, greatest: string | undefined): string | undefined {
  return INTEGERS[`${least} ${greatest}`];
}
