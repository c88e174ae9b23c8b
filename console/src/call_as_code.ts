// A call as a program, in the forms of `byname call --as`.

import { queryPairs } from "./call.ts";
import { type Json, JsonNumber, type JsonObject, isObject, quote, write } from "./json.ts";
import { type FunctionInfo, endpoint } from "./service.ts";

export interface WrittenCall {
  called: FunctionInfo;
  args: JsonObject;
  textArguments: Set<string>;
  headers: [string, string][];
  /** Secrets are left to the environment, so a key that the user chose is written, and no token is. */
  key: string | undefined;
  timeoutMs: string | undefined;
}

export const LANGUAGES = ["curl", "Rust", "Python", "TypeScript", "CLI"] as const;
export type Language = (typeof LANGUAGES)[number];

const ITEMS_NOTE = "The items come from standard input, one JSON value on each line.";
const KEY_NOTE = "Each run has a new key. A repetition of a call needs the key of the first one.";

type HeaderText = { text: string } | { variable: string } | { newKey: true };

export function program(call: WrittenCall, language: Language): string {
  switch (language) {
    case "curl":
      return curl(call);
    case "Rust":
      return rust(call);
    case "Python":
      return python(call);
    case "TypeScript":
      return typescript(call);
    case "CLI":
      return commandLine(call);
  }
}

function variableOf(name: string): string {
  return name.toUpperCase().replace(/[^A-Z0-9]/g, "_");
}

function isSecret(name: string): boolean {
  return /authorization|cookie|token|secret|key|password/i.test(name);
}

function headersOf(call: WrittenCall): [string, HeaderText][] {
  const headers: [string, HeaderText][] = [["content-type", { text: call.called.takes ? "application/x-ndjson" : "application/json" }]];
  if (call.key !== undefined) headers.push(["idempotency-key", { text: call.key }]);
  else if (call.called.keyed) headers.push(["idempotency-key", { newKey: true }]);
  if (call.timeoutMs !== undefined) headers.push(["byname-timeout-ms", { text: call.timeoutMs }]);
  for (const [name, value] of call.headers) headers.push([name, isSecret(name) ? { variable: variableOf(name) } : { text: value }]);
  return headers;
}

function hasNewKey(call: WrittenCall): boolean {
  return call.called.keyed && call.key === undefined;
}

function urlOf(call: WrittenCall): string {
  return `${endpoint.replace(/\/$/, "")}/${call.called.name}`;
}

function pairsOf(call: WrittenCall): [string, string][] {
  return call.called.takes ? queryPairs(call.args, call.textArguments) : [];
}

function percent(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`);
}

function fullUrl(call: WrittenCall): string {
  const pairs = pairsOf(call).map(([name, value]) => `${percent(name)}=${percent(value)}`);
  return pairs.length === 0 ? urlOf(call) : `${urlOf(call)}?${pairs.join("&")}`;
}

export function shellWord(word: string): string {
  return /^[A-Za-z0-9_\-./:=@,+]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`;
}

function curl(call: WrittenCall): string {
  const lines = [`curl${call.called.streams ? " -N" : ""} ${shellWord(fullUrl(call))}`];
  if (call.timeoutMs !== undefined && !call.called.streams) lines.push(`--max-time ${seconds(call.timeoutMs)}`);
  for (const [name, value] of headersOf(call)) {
    // curl leaves out a header without a value, unless a semicolon stands for the value.
    if ("text" in value) lines.push(`-H ${shellWord(value.text === "" ? `${name};` : `${name}: ${value.text}`)}`);
    else if ("variable" in value) lines.push(`-H "${name}: $${value.variable}"`);
    else lines.push(`-H "${name}: $(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')"`);
  }
  lines.push(call.called.takes ? "-X POST -T -" : `-d ${shellWord(write(call.args))}`);
  const notes = [call.called.takes && `# ${ITEMS_NOTE}\n`, hasNewKey(call) && `# ${KEY_NOTE}\n`].filter(Boolean).join("");
  return `${notes}${lines.join(" \\\n  ")}\n`;
}

function seconds(ms: string): string {
  const padded = ms.padStart(4, "0");
  return `${padded.slice(0, -3)}.${padded.slice(-3)}`;
}

function commandLine(call: WrittenCall): string {
  const words = ["byname", "call", endpoint, call.called.name].map(shellWord);
  if (call.args.size > 0) words.push(`--json ${shellWord(write(call.args))}`);
  if (call.key !== undefined) words.push(`--idempotency-key ${shellWord(call.key)}`);
  if (call.timeoutMs !== undefined) words.push(`--timeout ${shellWord(`${call.timeoutMs}ms`)}`);
  for (const [name, value] of call.headers) {
    words.push(isSecret(name) ? `-H "${name}: $${variableOf(name)}"` : `-H ${shellWord(`${name}: ${value}`)}`);
  }
  const notes = call.called.takes ? `# ${ITEMS_NOTE}\n` : "";
  return `${notes}${words.join(" ")}\n`;
}

function rust(call: WrittenCall): string {
  let needsDigits = call.called.takes !== undefined;
  const value = (of: Json): string => {
    if (of === null) return "None::<()>";
    if (of instanceof JsonNumber) {
      const wide = wideInteger(of.text);
      if (wide !== undefined) return wide;
    }
    const literal = rustLiteral(of);
    if (literal !== undefined && (!(Array.isArray(of) || isObject(of)) || parts(of) <= 32)) {
      return Array.isArray(of) || isObject(of) ? `serde_json::json!(${literal})` : literal;
    }
    needsDigits ||= literal === undefined;
    return `serde_json::from_str::<serde_json::Value>(${rustText(write(of))})?`;
  };
  const args = [...call.args].map(([name, given]) => `\n        .kwarg(${rustText(name)}, ${value(given)})`).join("");
  const lines = [`let client = byname::Client::new(${rustText(endpoint)})?;`, `let arguments = byname::Args::new()${args};`];
  let options = call.called.takes ? ".streaming(items)" : "";
  if (call.key !== undefined) options += `.idempotency_key(${rustText(call.key)})`;
  else if (call.called.keyed) {
    lines.push(`// ${KEY_NOTE}`, "let part = |of: u8| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), of);",
      'let key = format!("{:016x}{:016x}", part(0), part(1));');
    options += ".idempotency_key(&key)";
  }
  if (call.timeoutMs !== undefined) options += `.timeout(std::time::Duration::from_millis(${call.timeoutMs}))`;
  for (const [name, given] of call.headers) {
    options += `.header(${rustText(name)}, ${isSecret(name) ? `&std::env::var(${rustText(variableOf(name))})?` : rustText(given)})`;
  }
  if (call.called.takes) {
    lines.push("// All are read before the call is made.",
      "let items = serde_json::Deserializer::from_reader(std::io::stdin()).into_iter::<serde_json::Value>();",
      "let items = byname::Streaming::from(items.collect::<Result<Vec<_>, _>>()?);");
  }
  const name = rustText(call.called.name);
  if (call.called.streams) {
    lines.push(`let mut results = client.stream::<serde_json::Value>(${name}, arguments)${options};`,
      "while let Some(result) = results.next().await {", '    println!("{}", result?);', "}");
  } else {
    const type = ["u128", "i128"].includes(call.called.returns) ? call.called.returns : "serde_json::Value";
    lines.push(`let result: ${type} = client.call(${name}, arguments)${options}.await?;`, 'println!("{result}");');
  }
  const byname = endpoint.startsWith("https:") ? 'byname with the features "tls"' : "byname";
  const digits = needsDigits ? ' with the feature "arbitrary_precision", which keeps the digits of numbers' : "";
  const notes = [`It needs ${byname}; tokio with the features "macros" and "rt-multi-thread"; and serde_json${digits}.`];
  if (call.called.takes) notes.push(ITEMS_NOTE);
  return `${notes.map((note) => `// ${note}\n`).join("")}#[tokio::main]\nasync fn main() -> Result<(), Box<dyn std::error::Error>> {\n${lines.map((line) => `    ${line}\n`).join("")}    Ok(())\n}\n`;
}

function rustText(text: string): string {
  const escaped = text.replace(/[\\"\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/g, (letter) => {
    const short: Record<string, string> = { "\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t" };
    return short[letter] ?? `\\u{${letter.charCodeAt(0).toString(16)}}`;
  });
  return `"${escaped}"`;
}

function rustLiteral(value: Json): string | undefined {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return rustText(value);
  if (value instanceof JsonNumber) return rustNumber(value.text);
  const all = Array.isArray(value) ? value.map(rustLiteral) : [...value].map(([name, item]) => {
    const literal = rustLiteral(item);
    return literal === undefined ? undefined : `${rustText(name)}: ${literal}`;
  });
  if (all.some((part) => part === undefined)) return undefined;
  if (Array.isArray(value)) return `[${all.join(", ")}]`;
  return all.length === 0 ? "{}" : `{ ${all.join(", ")} }`;
}

function rustNumber(text: string): string | undefined {
  if (/^-?\d+$/.test(text)) {
    if (text === "-0") return undefined;
    const whole = BigInt(text);
    if (whole >= -(2n ** 31n) && whole < 2n ** 31n) return text;
    if (whole >= -(2n ** 63n) && whole < 2n ** 63n) return `${text}_i64`;
    return whole > 0n && whole < 2n ** 64n ? `${text}_u64` : undefined;
  }
  // A float that has these digits exactly, in a form that Rust takes too.
  return String(Number(text)) === text ? text : undefined;
}

function wideInteger(text: string): string | undefined {
  if (!/^-?\d+$/.test(text)) return undefined;
  const whole = BigInt(text);
  if (whole >= -(2n ** 63n) && whole < 2n ** 64n) return undefined;
  if (whole > 0n) return whole < 2n ** 128n ? `${text}_u128` : undefined;
  return whole >= -(2n ** 127n) ? `${text}_i128` : undefined;
}

function parts(value: Json): number {
  if (Array.isArray(value)) return 1 + value.reduce((sum: number, item) => sum + parts(item), 0);
  return isObject(value) ? 1 + [...value.values()].reduce((sum: number, item) => sum + parts(item), 0) : 1;
}

function python(call: WrittenCall): string {
  const headers = headersOf(call);
  const takes = call.called.takes !== undefined;
  const imports = [["json", call.called.streams], ["os", headers.some(([, value]) => "variable" in value)], ["sys", takes], ["uuid", hasNewKey(call)]] as const;
  const args = [quote(urlOf(call))];
  const pairs = pairsOf(call);
  if (pairs.length > 0) args.push(`params={${pairs.map(([name, value]) => `${quote(name)}:${quote(value)}`).join(",")}}`);
  args.push(takes ? "data=iter(sys.stdin.buffer)" : `data=${quote(write(call.args))}.encode()`);
  const header = (value: HeaderText) => ("text" in value ? quote(value.text) : "variable" in value ? `os.environ[${quote(value.variable)}]` : "str(uuid.uuid4())");
  args.push(`headers={${headers.map(([name, value]) => `${quote(name)}: ${header(value)}`).join(", ")}}`);
  if (call.timeoutMs !== undefined && !call.called.streams) args.push(`timeout=${seconds(call.timeoutMs)}`);
  if (call.called.streams) args.push("stream=True");
  const result = call.called.streams
    ? `for line in answer.iter_lines():
    read = json.loads(line) if line else {}
    if "item" in read:
        # The text has all digits of a number.
        print(line.decode().removeprefix('{"item":').removesuffix("}"), flush=True)
    elif "err" in read:
        raise SystemExit(json.dumps(read["err"]))
    elif "end" in read:
        break
else:
    raise SystemExit("the stream was cut off")
`
    : "# The text has all digits of a number.\nprint(answer.content.decode())\n";
  const notes = [takes && `# ${ITEMS_NOTE}\n`, hasNewKey(call) && `# ${KEY_NOTE}\n`].filter(Boolean).join("");
  const written = imports.filter(([, counts]) => counts).map(([name]) => `import ${name}\n`).join("");
  return `${notes}${written === "" ? "" : `${written}\n`}import requests\n\nanswer = requests.post(\n${args.map((arg) => `    ${arg},\n`).join("")})\nif not answer.ok:\n    raise SystemExit(answer.text)\n${result}`;
}

function typescript(call: WrittenCall): string {
  const takes = call.called.takes !== undefined;
  const notes = [takes && ITEMS_NOTE, hasNewKey(call) && KEY_NOTE,
    takes && "The answer is read when all items are sent: fetch does not read before that."];
  const header = (value: HeaderText) => ("text" in value ? quote(value.text) : "variable" in value ? `process.env.${value.variable} ?? ""` : "crypto.randomUUID()");
  const body = takes ? '  body: Readable.toWeb(process.stdin),\n  duplex: "half",\n'
    : `  body: ${isLiteral(call.args) ? `JSON.stringify(${write(call.args)})` : quote(write(call.args))},\n`;
  const signal = call.timeoutMs !== undefined && !call.called.streams ? `  signal: AbortSignal.timeout(${call.timeoutMs}),\n` : "";
  const items = `const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
let rest = "";
let isComplete = false;
while (reader && !isComplete) {
  const { done, value } = await reader.read();
  if (done) throw new Error("the stream was cut off");
  const lines = (rest + value).split("\\n");
  rest = lines.pop() ?? "";
  for (const line of lines.filter((line) => line !== "")) {
    const { end, err } = JSON.parse(line);
    if (err !== undefined) throw new Error(JSON.stringify(err));
    if (end !== undefined) isComplete = true;
    // The text has all digits of a number.
    else console.log(line.slice('{"item":'.length, -1));
  }
}
`;
  const comments = notes.filter(Boolean).map((note) => `// ${note}\n`).join("");
  const imports = takes ? 'import { Readable } from "node:stream";\n\n' : "";
  return `${comments}${imports}const answer = await fetch(${quote(fullUrl(call))}, {\n  method: "POST",\n  headers: { ${headersOf(call).map(([name, value]) => `${quote(name)}: ${header(value)}`).join(", ")} },\n${body}${signal}});\nif (!answer.ok) throw new Error(await answer.text());\n${call.called.streams ? items : "console.log(await answer.text());\n"}`;
}

/** Whether JavaScript keeps every digit of a value. */
function isLiteral(value: Json): boolean {
  if (value instanceof JsonNumber) {
    return /^-?\d+$/.test(value.text) ? value.text !== "-0" && Number.isSafeInteger(Number(value.text)) : String(Number(value.text)) === value.text;
  }
  if (Array.isArray(value)) return value.every(isLiteral);
  return isObject(value) ? [...value].every(([name, item]) => name !== "__proto__" && isLiteral(item)) : true;
}
