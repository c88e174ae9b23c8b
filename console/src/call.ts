// A call over HTTP: its request, and its answer as it comes.

import { type Json, type JsonObject, JsonNumber, isObject, parse, parseShown, text, write } from "./json.ts";
import { type FunctionInfo, consoleToken, isStaleToken, refreshToken, urlOf } from "./service.ts";

export interface CallRequest {
  called: FunctionInfo;
  args: JsonObject;
  /** The items of the stream that it takes. */
  items: Json[] | undefined;
  /** The arguments that can only be texts. A query has them as they are. */
  textArguments: Set<string>;
  headers: [string, string][];
  key: string | undefined;
  timeoutMs: string | undefined;
  traceId: string;
  /** The page's own part of the trace. */
  spanId: string;
}

/** What came of a call. */
export interface Answer {
  status: string;
  isOk: boolean;
  ms: number;
  bytes: number;
  traceId: string;
  way: "HTTP" | "frames";
  headers: [string, string][];
  /** `undefined` if the body is not JSON. */
  value: Json | undefined;
  body: string;
}

export interface StreamEvents {
  item(value: Json, ms: number): void;
}

export function newTrace(): { traceId: string; spanId: string } {
  return { traceId: randomHex(16), spanId: randomHex(8) };
}

function randomHex(bytes: number): string {
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The headers of a call. Over frames they are its metadata. */
export function headersOf(request: CallRequest): Record<string, string> {
  const headers: Record<string, string> = { traceparent: `00-${request.traceId}-${request.spanId}-01` };
  if (request.key !== undefined) headers["idempotency-key"] = request.key;
  for (const [name, value] of request.headers) headers[name.toLowerCase()] = value;
  // Any page could make a call that only reads.
  if (!request.called.readonly) headers["byname-console"] = consoleToken();
  return headers;
}

export async function call(request: CallRequest, events: StreamEvents, signal: AbortSignal): Promise<Answer> {
  const began = performance.now();
  const ms = () => performance.now() - began;
  for (let attempt = 0; ; attempt++) {
    const headers = headersOf(request);
    headers["content-type"] = request.items ? "application/x-ndjson" : "application/json";
    if (request.timeoutMs !== undefined) headers["byname-timeout-ms"] = request.timeoutMs;
    const answer = await fetch(urlOf(request.called.name) + query(request), {
      method: "POST",
      headers,
      body: request.items ? request.items.map((item) => `${write(item)}\n`).join("") : write(request.args),
      signal,
      cache: "no-store",
      redirect: "error",
    });
    const known = { status: `${answer.status} ${answer.statusText}`.trim(), isOk: answer.ok, traceId: request.traceId, way: "HTTP" as const, headers: [...answer.headers] };
    if (answer.ok && request.called.streams) {
      const read = await readStream(answer, events, ms);
      return { ...known, ...read, ms: ms() };
    }
    const body = await answer.text();
    if (attempt === 0 && isStaleToken(answer.status, body) && (await refreshToken())) continue;
    let value: Json | undefined;
    try {
      value = body === "" ? undefined : parse(body);
    } catch {
      // It may come from a proxy.
    }
    return { ...known, value, body, bytes: new Blob([body]).size, ms: ms() };
  }
}

/** A function that takes a stream has its other arguments in the query. */
function query(request: CallRequest): string {
  if (!request.called.takes) return "";
  const pairs = queryPairs(request.args, request.textArguments).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`;
}

/** The arguments as a query has them. What is left out is `null`, which could be read as a text. */
export function queryPairs(args: JsonObject, textArguments: Set<string>): [string, string][] {
  return [...args].filter(([, value]) => value !== null).map(([name, value]) => [name, queryText(value, textArguments.has(name))]);
}

/** A value in a query is read as a text first, and then as JSON. Where both may be, a text that looks like JSON has its quotes. */
function queryText(value: Json, isText: boolean): string {
  if (typeof value !== "string") return write(value);
  if (isText && !/\p{Surrogate}/u.test(value)) return value;
  try {
    parse(value);
    return write(value);
  } catch {
    return value;
  }
}

async function readStream(answer: Response, events: StreamEvents, ms: () => number): Promise<Pick<Answer, "isOk" | "value" | "body" | "bytes">> {
  const reader = answer.body?.getReader();
  const decoder = new TextDecoder();
  let [rest, bytes] = ["", 0];
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.length;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") continue;
      const read = parseShown(line);
      if (typeof read === "string") events.item(read, ms());
      if (!isObject(read)) continue;
      if (read.has("item")) events.item(read.get("item") ?? null, ms());
      const failed = read.get("err");
      if (failed !== undefined) return { isOk: false, value: failed, body: write(failed), bytes };
      if (read.has("end")) return { isOk: true, value: undefined, body: "", bytes };
    }
  }
  const cut: JsonObject = new Map<string, Json>([["code", "unavailable"], ["message", "the stream was cut off, so it is not complete"], ["executed", "unknown"]]);
  return { isOk: false, value: cut, body: "", bytes };
}

/** What an error says, in the form of every way. */
export interface ErrorInfo {
  code: string;
  message: string;
  executed: string | undefined;
  limit: string | undefined;
  retryAfterMs: string | undefined;
  isOwn: boolean;
  data: Json | undefined;
}

export function errorInfo(value: Json | undefined): ErrorInfo | undefined {
  if (!isObject(value)) return undefined;
  const code = text(value.get("code"));
  if (code === undefined) return undefined;
  const after = value.get("retry_after_ms");
  return {
    code,
    message: text(value.get("message")) ?? text(value.get("detail")) ?? "",
    executed: text(value.get("executed")),
    limit: text(value.get("limit")),
    retryAfterMs: after instanceof JsonNumber ? after.text : undefined,
    isOwn: value.get("kind") === "method",
    data: value.get("data"),
  };
}
