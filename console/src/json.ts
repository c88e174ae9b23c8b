// JSON that loses nothing: a number is kept as its text, and an object keeps the order of its members.

export class JsonNumber {
  constructor(readonly text: string) {}
}

export type JsonObject = Map<string, Json>;
export type Json = null | boolean | string | JsonNumber | Json[] | JsonObject;

/** Text that is not JSON. */
export class JsonError extends Error {
  constructor(
    message: string,
    readonly at: number,
  ) {
    super(message);
  }
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\r\n]*/y;
const DEEPEST = 500;

export function isNumber(text: string): boolean {
  NUMBER.lastIndex = 0;
  return NUMBER.exec(text)?.[0] === text;
}

export function parse(text: string): Json {
  const reader = new Reader(text);
  reader.space();
  const value = reader.value(0);
  reader.space();
  if (reader.at < text.length) throw reader.error("expected the end");
  return value;
}

/** As `parse`. Text that it can't read, such as an object with a name twice, is shown as a text. */
export function parseShown(text: string): Json {
  try {
    return parse(text);
  } catch (why) {
    if (why instanceof JsonError) return text;
    throw why;
  }
}

class Reader {
  at = 0;
  constructor(readonly text: string) {}

  error(expected: string): JsonError {
    const before = this.text.slice(0, this.at).split("\n");
    const found = this.at < this.text.length ? `found ${JSON.stringify(this.text.slice(this.at, this.at + 12))}` : "it ends";
    const column = (before[before.length - 1] ?? "").length + 1;
    return new JsonError(`line ${before.length}, column ${column}: ${expected}, ${found}`, this.at);
  }

  space(): void {
    SPACE.lastIndex = this.at;
    SPACE.exec(this.text);
    this.at = SPACE.lastIndex;
  }

  take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    if (found !== undefined) this.at += found.length;
    return found;
  }

  string(): string {
    if (this.text[this.at] !== '"') throw this.error("expected a text in double quotes");
    // A pattern would need as much of the stack as the text is long.
    let end = this.at + 1;
    for (;;) {
      end = this.text.indexOf('"', end);
      if (end < 0) throw this.error("expected a text with a double quote at its end");
      let slashes = 0;
      while (this.text[end - 1 - slashes] === "\\") slashes += 1;
      end += 1;
      if (slashes % 2 === 0) break;
    }
    try {
      const read = JSON.parse(this.text.slice(this.at, end)) as string;
      this.at = end;
      return read;
    } catch {
      throw this.error("expected a text without bare control characters and with escapes of JSON");
    }
  }

  value(depth: number): Json {
    if (depth > DEEPEST) throw this.error(`values are nested at most ${DEEPEST} deep`);
    const first = this.text[this.at];
    if (first === '"') return this.string();
    if (first === "{") return this.object(depth);
    if (first === "[") return this.array(depth);
    for (const [word, value] of [["null", null], ["true", true], ["false", false]] as const) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    const number = this.take(NUMBER);
    if (number === undefined) throw this.error("expected a value of JSON");
    return new JsonNumber(number);
  }

  object(depth: number): JsonObject {
    const members: JsonObject = new Map();
    this.at += 1;
    this.space();
    if (this.text[this.at] === "}") {
      this.at += 1;
      return members;
    }
    for (;;) {
      this.space();
      const place = this.at;
      const name = this.string();
      if (members.has(name)) {
        this.at = place;
        throw this.error(`the name ${JSON.stringify(name)} is there twice`);
      }
      this.space();
      if (this.text[this.at] !== ":") throw this.error("expected `:`");
      this.at += 1;
      this.space();
      members.set(name, this.value(depth + 1));
      this.space();
      const next = this.text[this.at];
      if (next !== "," && next !== "}") throw this.error("expected `,` or `}`");
      this.at += 1;
      if (next === "}") return members;
    }
  }

  array(depth: number): Json[] {
    const items: Json[] = [];
    this.at += 1;
    this.space();
    if (this.text[this.at] === "]") {
      this.at += 1;
      return items;
    }
    for (;;) {
      this.space();
      items.push(this.value(depth + 1));
      this.space();
      const next = this.text[this.at];
      if (next !== "," && next !== "]") throw this.error("expected `,` or `]`");
      this.at += 1;
      if (next === "]") return items;
    }
  }
}

/** Control characters that JSON allows, and characters that change the direction of text. */
const ACTING = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

export function quote(text: string): string {
  return JSON.stringify(text).replace(ACTING, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** In one line, or in lines that are indented by two spaces. */
export function write(value: Json, pretty = false, indent = ""): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return quote(value);
  if (value instanceof JsonNumber) return value.text;
  const inner = `${indent}  `;
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  const parts = Array.isArray(value)
    ? value.map((item) => write(item, pretty, inner))
    : [...value].map(([name, item]) => `${quote(name)}:${pretty ? " " : ""}${write(item, pretty, inner)}`);
  if (parts.length === 0) return open + close;
  if (!pretty) return `${open}${parts.join(",")}${close}`;
  return `${open}\n${parts.map((part) => inner + part).join(",\n")}\n${indent}${close}`;
}

export function isEqual(a: Json, b: Json): boolean {
  return write(a) === write(b);
}

export function isObject(value: Json | undefined): value is JsonObject {
  return value instanceof Map;
}

/** A member of what should be an object. */
export function member(value: Json | undefined, name: string): Json | undefined {
  return isObject(value) ? value.get(name) : undefined;
}

export function text(value: Json | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** For figures of the server, which are small. Values of users stay text. */
export function figure(value: Json | undefined): number {
  return value instanceof JsonNumber ? Number(value.text) : 0;
}

export function list(value: Json | undefined): Json[] {
  return Array.isArray(value) ? value : [];
}
