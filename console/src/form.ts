// A form for a value, made from its schema. What it reads is JSON without loss.

import { button, documentation, fill, h, newId, visible } from "./dom.ts";
import { type Json, JsonError, JsonNumber, type JsonObject, isEqual, isNumber, isObject, parse, quote, write } from "./json.ts";
import { byteSize } from "./live.ts";
import { type Property, type Resolved, type Schemas, type Shape, integerName, word } from "./schema.ts";
import type { ArgumentInfo } from "./service.ts";

/** A part of a form. */
export interface Field {
  element: HTMLElement;
  /** The value. `undefined` is left out. */
  read(): Json | undefined;
  /** Shows a value. It fails if this part can't. */
  write(value: Json): void;
  /** Whether it is so small that it stands beside its name. */
  isLine: boolean;
}

/** What was entered can't be sent, or a value can't be shown. */
export class FieldError extends Error {
  /** Where it is in the arguments, such as `lines[0].article`. */
  path = "";

  constructor(
    message: string,
    readonly input: HTMLElement | undefined,
  ) {
    super(message);
  }
}

const DEEPEST = 24;

interface Place {
  schemas: Schemas;
  /** For screen readers. */
  label: string;
  depth: number;
  /** The names of the types around this place. A type that contains itself starts without a value. */
  within: string[];
}

/** The form for the arguments of a function. */
export class ArgumentsForm {
  readonly element = h("div", { class: "fields" });
  private readonly fields: { argument: ArgumentInfo; field: Field }[] = [];

  constructor(schemas: Schemas, given: ArgumentInfo[]) {
    for (const argument of given) {
      const property: Property = { name: argument.name, schema: argument.schema, required: argument.required };
      const place = { schemas, label: argument.name, depth: 0, within: [] };
      const field = member(place, property, argument.default, argument.type);
      this.fields.push({ argument, field });
      this.element.append(field.element);
    }
  }

  read(): JsonObject {
    const out: JsonObject = new Map();
    for (const { argument, field } of this.fields) {
      const value = within(argument.name, () => field.read());
      if (value !== undefined) out.set(argument.name, value);
    }
    return out;
  }

  write(values: JsonObject): void {
    const known = new Set(this.fields.map(({ argument }) => argument.name));
    for (const name of values.keys()) {
      if (!known.has(name)) throw new FieldError(`the function has no argument \`${name}\``, undefined);
    }
    for (const { argument, field } of this.fields) {
      const value = values.get(argument.name);
      if (value !== undefined) field.write(value);
      else (field as OptionalMember).clear?.();
    }
  }
}

/** A field for one value, such as an item of a stream. */
export function valueField(schemas: Schemas, schema: Json, label: string): Field {
  return fieldFor({ schemas, label, depth: 0, within: [] }, schema);
}

interface OptionalMember extends Field {
  clear?: () => void;
}

/** A member of an object, or an argument: its name, its type, and whether it is sent. */
function member(place: Place, property: Property, otherwise: Json | undefined, type?: string): OptionalMember {
  const resolved = place.schemas.read(property.schema);
  const id = newId();
  const shown = visible(property.name);
  const label = h("span", { class: "field-name", id }, shown);
  const told = resolved.shape.kind === "optional" && !property.required ? resolved.shape.inner : property.schema;
  const notation = h("span", { class: "field-type" }, visible(type ?? place.schemas.notation(told)));
  const docs = resolved.doc ? documentation(resolved.doc) : null;
  const inner = { ...place, label: property.name };
  if (property.required) {
    const field = fieldFor(inner, property.schema);
    name(field, id);
    const element = h("div", { class: `field ${field.isLine ? "line" : "block"}` },
      h("div", { class: "field-head" }, label, h("span", { class: "required", title: "required" }, "*"), notation), docs, field.element);
    return { ...field, element, isLine: false, read: () => field.read(), write: (value) => field.write(value) };
  }
  // `Option`: what is left out is `null` to the function.
  const optional = resolved.shape.kind === "optional" ? resolved.shape.inner : property.schema;
  const mayBeNull = resolved.shape.kind === "optional";
  const standard = otherwise ?? resolved.default;
  const checkbox = h("input", { type: "checkbox", class: "send", "aria-label": `send ${shown}`, change: () => show() });
  const holder = h("div", { class: "field-value" });
  let field: Field | undefined;
  let isNull = false;
  const make = (): Field => {
    if (field === undefined) {
      field = fieldFor(inner, optional);
      name(field, id);
      fill(holder, field.element);
      if (standard !== undefined && standard !== null) {
        try {
          field.write(standard);
        } catch {
          // The default is of a form that only the function knows.
        }
      }
      field.element.addEventListener("input", () => {
        checkbox.checked = true;
        isNull = false;
        element.classList.remove("unset");
      });
    }
    return field;
  };
  const note = h("span", { class: "quiet field-default" },
    standard !== undefined && standard !== null ? `default ${visible(cut(write(standard), 60))}` : mayBeNull ? "optional" : "optional, has a default");
  const show = (): void => {
    const on = checkbox.checked;
    if (on) make();
    if (!on) isNull = false;
    element.classList.toggle("unset", !on);
    if (field !== undefined && !field.isLine) holder.hidden = !on;
  };
  const element = h("div", { class: "field" },
    h("div", { class: "field-head" }, h("label", { class: "check" }, checkbox, label), notation, note), docs, holder);
  // A line is there at once: what is typed into it is sent.
  const kind = place.schemas.read(optional).shape.kind;
  if (["number", "string", "enum", "boolean"].includes(kind)) {
    element.classList.add(make().isLine ? "line" : "block");
    if (field?.isLine) show();
  }
  show();
  return {
    element,
    isLine: false,
    read: () => (checkbox.checked ? (isNull ? null : make().read()) : undefined),
    write(value) {
      checkbox.checked = true;
      isNull = value === null && mayBeNull;
      show();
      if (!isNull) make().write(value);
    },
    clear() {
      checkbox.checked = false;
      show();
    },
  };
}

function name(field: Field, id: string): void {
  const input = field.isLine ? field.element.querySelector("input, select, textarea") ?? field.element : field.element;
  input.setAttribute("aria-labelledby", id);
  input.removeAttribute("aria-label");
  if (!field.isLine && !input.hasAttribute("role") && input.tagName === "DIV") input.setAttribute("role", "group");
}

function fieldFor(place: Place, schema: Json): Field {
  const resolved = place.schemas.read(schema);
  if (place.depth > DEEPEST) return open(place);
  const within = resolved.name === undefined ? place.within : [...place.within, resolved.name];
  return fieldOf({ ...place, depth: place.depth + 1, within }, resolved);
}

function fieldOf(place: Place, resolved: Resolved): Field {
  const shape = resolved.shape;
  switch (shape.kind) {
    case "open":
      return open(place);
    case "const":
      return fixed(shape.value);
    case "enum":
      return choice(place, shape.values);
    case "boolean":
      return choice(place, [false, true]);
    case "optional":
      return nullable(place, shape.inner);
    case "variants":
      return variants(place, shape);
    case "number":
      return number(place, shape);
    case "string":
      return string(place, shape.format);
    case "bytes":
      return bytes(place, shape.asText);
    case "array":
      return array(place, shape);
    case "tuple":
      return tuple(place, shape.items);
    case "map":
      return map(place, shape.values);
    case "object":
      return object(place, shape.properties);
  }
}

/** Shows why an input is refused, and tells a screen reader. */
export function complain(input: HTMLElement, message: string): never {
  input.setAttribute("aria-invalid", "true");
  const holder = input.closest(".control") ?? input.parentElement;
  let place = holder?.querySelector(":scope > .complaint");
  if (!place) {
    place = h("p", { class: "complaint", id: newId() });
    holder?.append(place);
  }
  place.textContent = message;
  input.setAttribute("aria-describedby", place.id);
  throw new FieldError(message, input);
}

export function forgive(input: HTMLElement): void {
  if (!input.hasAttribute("aria-invalid")) return;
  input.removeAttribute("aria-invalid");
  input.removeAttribute("aria-describedby");
  (input.closest(".control") ?? input.parentElement)?.querySelector(":scope > .complaint")?.remove();
}

/** Reads a part, and says where it is if it can't be sent. */
function within<T>(part: string, read: () => T): T {
  try {
    return read();
  } catch (why) {
    if (why instanceof FieldError) why.path = part + (why.path === "" || why.path.startsWith("[") ? why.path : `.${why.path}`);
    throw why;
  }
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

function cannotShow(value: Json, expected: string): FieldError {
  return new FieldError(`the form has ${expected} where the value is ${cut(write(value), 80)}`, undefined);
}

function fixed(value: Json): Field {
  return {
    element: h("code", { class: "fixed" }, visible(word(value))),
    isLine: true,
    read: () => value,
    write(given) {
      if (!isEqual(given, value)) throw cannotShow(given, write(value));
    },
  };
}

function open(place: Place): Field {
  const area = h("textarea", { class: "code", rows: 3, spellcheck: "false", "aria-label": visible(place.label), placeholder: "any JSON, such as 1, \"text\" or {\"a\": [true]}" });
  area.addEventListener("input", () => forgive(area));
  return {
    element: h("div", { class: "control" }, area),
    isLine: true,
    read() {
      if (area.value.trim() === "") complain(area, "is empty; expected a value in JSON, where texts have double quotes");
      try {
        return parse(area.value);
      } catch (why) {
        if (why instanceof JsonError) complain(area, `not JSON, ${why.message}`);
        throw why;
      }
    },
    write(value) {
      area.value = write(value, true);
      area.rows = Math.min(14, Math.max(3, area.value.split("\n").length));
    },
  };
}

function choice(place: Place, values: Json[]): Field {
  const select = h("select", { "aria-label": visible(place.label) }, values.map((value, at) => h("option", { value: at }, visible(word(value)))));
  return {
    element: h("div", { class: "control" }, select),
    isLine: true,
    read: () => values[Number(select.value)] ?? null,
    write(value) {
      const at = values.findIndex((known) => isEqual(known, value));
      if (at < 0) throw cannotShow(value, `one of ${values.length} values`);
      select.value = String(at);
    },
  };
}

function number(place: Place, shape: Shape & { kind: "number" }): Field {
  const named = integerName(shape.least, shape.greatest);
  const range = shape.least !== undefined && shape.greatest !== undefined && shape.least.length < 12 && shape.greatest.length < 12
    ? `${shape.least} to ${shape.greatest}` : (named ?? (shape.integer ? "an integer" : "a number"));
  // Not an input of numbers, which rounds.
  const input = h("input", { type: "text", inputmode: shape.integer && shape.least?.startsWith("-") !== false ? "text" : "decimal", autocomplete: "off", spellcheck: "false", class: "number", placeholder: range, "aria-label": visible(place.label) });
  input.addEventListener("input", () => forgive(input));
  return {
    element: h("div", { class: "control" }, input),
    isLine: true,
    read() {
      const given = input.value.trim();
      if (!isNumber(given)) complain(input, given === "" ? "is empty" : "not a number as JSON writes it, such as -12 or 3.5e8");
      if (shape.integer && /^-?\d+$/.test(given)) {
        const value = BigInt(given);
        if (shape.least !== undefined && isInteger(shape.least) && value < BigInt(shape.least)) complain(input, `the least value is ${shape.least}`);
        if (shape.greatest !== undefined && isInteger(shape.greatest) && value > BigInt(shape.greatest)) complain(input, `the greatest value is ${shape.greatest}`);
      } else if (shape.integer) {
        complain(input, "expected an integer, in digits alone");
      }
      return new JsonNumber(given);
    },
    write(value) {
      if (!(value instanceof JsonNumber)) throw cannotShow(value, "a number");
      input.value = value.text;
      forgive(input);
    },
  };
}

function isInteger(text: string): boolean {
  return /^-?\d+$/.test(text);
}

const EXAMPLES = new Map(Object.entries({
  "date-time": "2026-11-28T09:30:00Z", date: "2026-11-28", time: "09:30:00Z", uuid: "67e55044-10b1-426f-9247-bb680e5fe0c8",
  ipv4: "192.0.2.1", ipv6: "2001:db8::1", uri: "https://example.com/", duration: "PT1H", email: "ada@example.com",
}));

function string(place: Place, format: string | undefined): Field {
  const input = h("textarea", { rows: 1, autocomplete: "off", spellcheck: "false", class: "text", placeholder: format ? (EXAMPLES.get(format) ?? format) : "text", "aria-label": visible(place.label) });
  const grow = (): void => {
    input.rows = Math.min(12, Math.max(1, input.value.split("\n").length));
  };
  input.addEventListener("input", grow);
  const fillIn = new Map<string, [string, () => string]>(Object.entries({
    "date-time": ["now", () => new Date().toISOString().replace(/\.\d+Z$/, "Z")],
    date: ["today", () => new Date().toISOString().slice(0, 10)],
    uuid: ["random", () => randomUuid()],
  }));
  const offered = format ? fillIn.get(format) : undefined;
  const extra = offered && button(offered[0], () => {
    input.value = offered[1]();
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }, { class: "button small", "aria-label": `${offered[0]}, for ${visible(place.label)}` });
  return {
    element: h("div", { class: "control" }, h("div", { class: "with-button" }, input, extra)),
    isLine: true,
    read: () => input.value,
    write(value) {
      if (typeof value !== "string") throw cannotShow(value, "a text");
      // An input of HTML changes the ends of lines.
      if (/\r/.test(value)) throw cannotShow(value, "a text without carriage returns");
      input.value = value;
      grow();
    },
  };
}

/** Also where the page has no secure context, as over HTTP from another machine. */
export function randomUuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function bytes(place: Place, asText: boolean): Field {
  const area = h("textarea", { class: "code", rows: 2, spellcheck: "false", placeholder: asText ? "base64, or choose a file" : "[104, 105], or choose a file", "aria-label": visible(place.label) });
  const size = h("span", { class: "quiet" });
  const file = h("input", { type: "file", "aria-label": `a file for ${visible(place.label)}` });
  file.addEventListener("change", async () => {
    const chosen = file.files?.[0];
    if (!chosen) return;
    const data = new Uint8Array(await chosen.arrayBuffer());
    area.value = asText ? base64(data) : `[${data.join(",")}]`;
    size.textContent = byteSize(data.length);
    area.dispatchEvent(new Event("input", { bubbles: true }));
  });
  area.addEventListener("input", () => forgive(area));
  return {
    element: h("div", { class: "control" }, area, h("div", { class: "row" }, file, size)),
    isLine: true,
    read() {
      const given = area.value.trim();
      if (asText && !given.startsWith("[")) {
        if (!/^[A-Za-z0-9+/\s]*={0,2}$/.test(given)) complain(area, "not base64: letters, digits, + and /, with = at the end");
        return given.replace(/\s+/g, "");
      }
      try {
        return parse(given);
      } catch (why) {
        return complain(area, `expected an array of numbers from 0 to 255, ${why instanceof Error ? why.message : ""}`);
      }
    },
    write(value) {
      area.value = typeof value === "string" ? value : write(value);
    },
  };
}

function base64(data: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < data.length; at += 0x8000) binary += String.fromCharCode(...data.subarray(at, at + 0x8000));
  return btoa(binary);
}

function nullable(place: Place, inner: Json): Field {
  const select = h("select", { class: "small", "aria-label": `whether ${visible(place.label)} has a value` }, h("option", { value: "null" }, "null"), h("option", { value: "value" }, "a value"));
  const holder = h("div", { class: "grow" });
  let field: Field | undefined;
  const show = (): void => {
    const isSet = select.value === "value";
    if (isSet && field === undefined) {
      field = fieldFor(place, inner);
      fill(holder, field.element);
    }
    holder.hidden = !isSet;
  };
  select.addEventListener("change", show);
  show();
  return {
    element: h("div", { class: "nullable" }, select, holder),
    isLine: false,
    read: () => (select.value === "null" ? null : field?.read()),
    write(value) {
      select.value = value === null ? "null" : "value";
      show();
      if (value !== null) field?.write(value);
    },
  };
}

function variants(place: Place, shape: Shape & { kind: "variants" }): Field {
  const labels = shape.variants.map((variant) => visible(variant.label));
  const isDouble = (label: string) => labels.filter((other) => other === label).length > 1;
  const select = h("select", { "aria-label": `variant of ${visible(place.label)}` },
    labels.map((label, at) => h("option", { value: at }, isDouble(label) ? `${label} (${at + 1})` : label)));
  const holder = h("div", { class: "variant" });
  let made: { at: number; field: Field } | undefined;
  const show = (at: number): Field => {
    select.value = String(at);
    if (made?.at === at) return made.field;
    const variant = shape.variants[at] ?? { label: "", schema: true };
    const field = fieldFor(place, variant.schema);
    made = { at, field };
    fill(holder, field.element);
    holder.hidden = place.schemas.read(variant.schema).shape.kind === "const";
    return field;
  };
  select.addEventListener("change", () => show(Number(select.value)));
  // A variant that contains the type itself would never end.
  const isRecursive = (schema: Json): boolean => {
    const name = place.schemas.resolve(schema).name;
    return name !== undefined && place.within.includes(name);
  };
  show(Math.max(0, shape.variants.findIndex((variant) => !isRecursive(variant.schema))));
  return {
    element: h("div", { class: "variants" }, select, holder),
    isLine: false,
    read: () => made?.field.read(),
    write(value) {
      const fits = shape.variants.findIndex((variant) => place.schemas.accepts(variant.schema, value));
      if (fits < 0) throw cannotShow(value, `one of ${shape.variants.length} variants`);
      show(fits).write(value);
    },
  };
}

function array(place: Place, shape: Shape & { kind: "array" }): Field {
  const rows: { element: HTMLElement; field: Field }[] = [];
  const holder = h("div", { class: "items" });
  const count = h("span", { class: "quiet" });
  const changed = (): void => {
    holder.replaceChildren(...rows.map((row) => row.element));
    rows.forEach((row, at) => {
      const number = row.element.querySelector(".item-number");
      if (number) number.textContent = String(at);
    });
    count.textContent = rows.length === 1 ? "1 item" : `${rows.length} items`;
    add.disabled = rows.length >= shape.greatest;
    holder.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const move = (row: { element: HTMLElement }, by: number, from: Event): void => {
    const at = rows.findIndex((other) => other === row);
    const other = rows[at + by];
    const own = rows[at];
    if (!other || !own) return;
    rows[at] = other;
    rows[at + by] = own;
    changed();
    (from.currentTarget as HTMLElement | null)?.focus();
  };
  const insert = (): Field => {
    const field = fieldFor({ ...place, label: `${place.label} ${rows.length}` }, shape.items);
    const row: { element: HTMLElement; field: Field } = { element: h("div", { class: "item" }), field };
    const small = (label: string, said: string, act: (event: Event) => void) => button(label, act, { class: "button icon", "aria-label": `${said} of ${visible(place.label)}`, title: said });
    fill(row.element, h("span", { class: "item-number", "aria-hidden": "true" }), h("div", { class: "grow" }, field.element),
      h("div", { class: "item-tools" },
        small("↑", "move this item up", (event) => move(row, -1, event)),
        small("↓", "move this item down", (event) => move(row, 1, event)),
        small("✕", "remove this item", () => {
          rows.splice(rows.indexOf(row), 1);
          changed();
          add.focus();
        })));
    rows.push(row);
    changed();
    return field;
  };
  const add = button("+ item", () => {
    insert().element.querySelector<HTMLElement>("input, select, textarea, button")?.focus();
  }, { class: "button small", "aria-label": `add an item to ${visible(place.label)}` });
  for (let at = 0; at < Math.min(shape.least, 8); at++) insert();
  changed();
  return {
    element: h("div", { class: "array" }, holder, h("div", { class: "row" }, add, count)),
    isLine: false,
    read: () => rows.map((row, at) => within(`[${at}]`, () => row.field.read() ?? null)),
    write(value) {
      if (!Array.isArray(value)) throw cannotShow(value, "an array");
      if (value.length > 200) throw new FieldError(`an array of ${value.length} items is too long for the form`, undefined);
      rows.length = 0;
      for (const item of value) insert().write(item);
      changed();
    },
  };
}

function tuple(place: Place, items: Json[]): Field {
  const fields = items.map((schema, at) => fieldFor({ ...place, label: `${place.label} ${at}` }, schema));
  return {
    element: h("div", { class: "tuple" }, fields.map((field, at) => h("div", { class: "item" }, h("span", { class: "item-number", "aria-hidden": "true" }, String(at)), h("div", { class: "grow" }, field.element)))),
    isLine: false,
    read: () => fields.map((field, at) => within(`[${at}]`, () => field.read() ?? null)),
    write(value) {
      if (!Array.isArray(value) || value.length !== fields.length) throw cannotShow(value, `an array of ${fields.length} items`);
      fields.forEach((field, at) => field.write(value[at] ?? null));
    },
  };
}

function map(place: Place, values: Json): Field {
  const rows: { element: HTMLElement; key: HTMLInputElement; field: Field }[] = [];
  const holder = h("div", { class: "items" });
  const changed = (): void => {
    holder.replaceChildren(...rows.map((row) => row.element));
    holder.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const insert = (): { key: HTMLInputElement; field: Field } => {
    const key = h("input", { type: "text", placeholder: "key", spellcheck: "false", autocomplete: "off", "aria-label": `a key of ${visible(place.label)}` });
    key.addEventListener("input", () => forgive(key));
    const field = fieldFor({ ...place, label: `a value of ${place.label}` }, values);
    const row = { element: h("div", { class: "item entry" }), key, field };
    fill(row.element, h("div", { class: "control" }, key), h("div", { class: "grow" }, field.element), h("div", { class: "item-tools" },
      button("✕", () => {
        rows.splice(rows.indexOf(row), 1);
        changed();
        add.focus();
      }, { class: "button icon", "aria-label": `remove this entry of ${visible(place.label)}`, title: "remove this entry" })));
    rows.push(row);
    changed();
    return row;
  };
  const add = button("+ entry", () => insert().key.focus(), { class: "button small", "aria-label": `add an entry to ${visible(place.label)}` });
  return {
    element: h("div", { class: "array" }, holder, h("div", { class: "row" }, add)),
    isLine: false,
    read() {
      const out: JsonObject = new Map();
      for (const { key, field } of rows) {
        if (out.has(key.value)) complain(key, "this key is there twice");
        out.set(key.value, within(`[${quote(key.value)}]`, () => field.read() ?? null));
      }
      return out;
    },
    write(value) {
      if (!isObject(value)) throw cannotShow(value, "a map");
      rows.length = 0;
      for (const [name, item] of value) {
        const row = insert();
        row.key.value = name;
        row.field.write(item);
      }
      changed();
    },
  };
}

function object(place: Place, properties: Property[]): Field {
  const isRecursive = (property: Property): boolean => {
    const name = place.schemas.resolve(property.schema).name;
    return name !== undefined && place.within.filter((other) => other === name).length > 3;
  };
  const members = properties.map((property) => ({
    property,
    field: isRecursive(property)
      ? member({ ...place, label: property.name }, { ...property, schema: true }, undefined)
      : member(place, property, undefined),
  }));
  return {
    // A constant says which variant it is, which is chosen elsewhere.
    element: h("div", { class: "object" }, members.map(({ field, property }) => (place.schemas.read(property.schema).shape.kind === "const" && property.required ? null : field.element)), members.every(({ property }) => place.schemas.read(property.schema).shape.kind === "const") ? h("span", { class: "quiet" }, "nothing to fill in") : null),
    isLine: false,
    read() {
      const out: JsonObject = new Map();
      for (const { property, field } of members) {
        const value = within(property.name, () => field.read());
        if (value !== undefined) out.set(property.name, value);
      }
      return out;
    },
    write(value) {
      if (!isObject(value)) throw cannotShow(value, "an object");
      const known = new Set(properties.map((property) => property.name));
      const unknown = [...value.keys()].find((name) => !known.has(name));
      if (unknown !== undefined) throw new FieldError(`the form has no place for the member \`${unknown}\``, undefined);
      for (const { property, field } of members) {
        const given = value.get(property.name);
        if (given !== undefined) field.write(given);
        else field.clear?.();
      }
    },
  };
}
