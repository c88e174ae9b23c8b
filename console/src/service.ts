// The service: its functions as `!schema` describes them, and how its endpoint is reached.

import { type Json, isObject, list, member, parse, text } from "./json.ts";
import { schemaOfType } from "./schema.ts";

export interface ArgumentInfo {
  name: string;
  type: string;
  schema: Json;
  required: boolean;
  default: Json | undefined;
}

export interface FunctionInfo {
  name: string;
  aliases: string[];
  doc: string;
  signature: string;
  arguments: ArgumentInfo[];
  takes: ArgumentInfo | undefined;
  returns: string;
  returnsSchema: Json;
  error: Json | undefined;
  streams: boolean;
  readonly: boolean;
  idempotent: boolean;
  keyed: boolean;
  deprecated: string | undefined;
  timeoutMs: string | undefined;
  priority: string;
  source: string;
}

export interface Service {
  functions: FunctionInfo[];
  definitions: Json;
  note: string | undefined;
}

/** What a built-in document was refused with. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

/** The path of the endpoint, as this page knows it. Proxies and outer servers may have removed a part of it on the way. */
const base = location.pathname.replace(/\/+$/, "");
export const endpoint = location.origin + (base === "" ? "/" : base);

export function urlOf(name: string): string {
  return `${base}/${name.split(".").map(encodeURIComponent).join(".").replace(/%21/g, "!")}`;
}

export function socketUrl(): string {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${location.pathname}`;
}

let token = document.querySelector('meta[name="byname-console"]')?.getAttribute("content") ?? "";

export function consoleToken(): string {
  return token;
}

/** The page may be of a server that was restarted, or of another replica. */
export async function refreshToken(): Promise<boolean> {
  const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" }, cache: "no-store" });
  const found = /name="byname-console" content="([0-9a-f]+)"/.exec(await answer.text());
  if (!answer.ok || !found?.[1] || found[1] === token) return false;
  token = found[1];
  return true;
}

export function isStaleToken(status: number, body: string): boolean {
  return status === 403 && body.includes("the token of the console");
}

/** A built-in document. */
export async function builtin(name: string): Promise<Json> {
  for (let attempt = 0; ; attempt++) {
    const answer = await fetch(urlOf(name), { headers: { accept: "application/json", "byname-console": token } });
    const body = await answer.text();
    if (answer.ok) return parse(body);
    if (attempt === 0 && isStaleToken(answer.status, body) && (await refreshToken())) continue;
    let why = `${answer.status} ${answer.statusText}`;
    try {
      why = text(member(parse(body), "message")) ?? why;
    } catch {
      // A proxy may answer in another format.
    }
    throw new Refused(why, answer.status);
  }
}

export function readService(document: Json): Service {
  const functions = list(member(document, "functions")).map((described): FunctionInfo => {
    const words = (name: string) => text(member(described, name));
    const takes = member(described, "takes");
    const returns = member(described, "returns");
    const error = member(described, "error");
    const timeout = member(described, "timeout_ms");
    const source = member(described, "source");
    return {
      name: words("name") ?? "",
      aliases: list(member(described, "aliases")).map((alias) => text(alias) ?? ""),
      doc: words("doc") ?? "",
      signature: words("signature") ?? "",
      arguments: list(member(described, "arguments")).map(argument),
      takes: isObject(takes) ? argument(takes) : undefined,
      returns: text(member(returns, "type")) ?? "",
      returnsSchema: member(returns, "schema") ?? true,
      error: isObject(error) ? (member(error, "schema") ?? true) : undefined,
      streams: member(described, "streams") === true || member(returns, "streams") === true,
      readonly: member(described, "readonly") === true,
      idempotent: member(described, "idempotent") === true,
      keyed: member(described, "keyed") === true,
      deprecated: words("deprecated") ?? (member(described, "deprecated") === true ? "" : undefined),
      timeoutMs: timeout === undefined ? undefined : String((timeout as { text?: string }).text ?? ""),
      priority: words("priority") ?? "default",
      source: origin(text(member(source, "package")), text(member(source, "module"))),
    };
  });
  return { functions, definitions: member(document, "$defs") ?? new Map(), note: text(member(document, "note")) };
}

/** Where the function is declared. */
function origin(crate: string | undefined, module: string | undefined): string {
  const isSaid = crate === undefined || module?.split("::")[0] === crate.replace(/-/g, "_");
  return [module === undefined ? "" : `in ${module}`, isSaid ? "" : `of the package ${crate}`].filter((part) => part !== "").join(", ");
}

function known(schema: Json | undefined, type: string): Json {
  return schema === undefined || schema === true ? schemaOfType(type) : schema;
}

function argument(described: Json): ArgumentInfo {
  return {
    name: text(member(described, "name")) ?? "",
    type: text(member(described, "type")) ?? "",
    schema: known(member(described, "schema"), text(member(described, "type")) ?? ""),
    required: member(described, "required") !== false,
    default: member(described, "default"),
  };
}
