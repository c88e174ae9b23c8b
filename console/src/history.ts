// The calls that were made on this page. They are kept for the tab, without headers.

import { type Json, isObject, list, member, parse, text, write } from "./json.ts";

export interface PastCall {
  name: string;
  /** JSON. */
  args: string;
  items: string | undefined;
  at: number;
  status: string;
  isOk: boolean;
  ms: number;
  /** JSON, if it was short enough to be kept. */
  reply: string | undefined;
  traceId: string;
}

const PLACE = `byname-console ${location.pathname}`;
const MOST = 50;
const LONGEST = 20_000;

export class History {
  readonly calls: PastCall[] = [];
  private readonly listeners = new Set<() => void>();

  constructor() {
    try {
      const kept = sessionStorage.getItem(PLACE);
      if (kept) this.calls.push(...list(parse(kept)).map(read).filter((call): call is PastCall => call !== undefined));
    } catch {
      // What another version has kept is not worth an error.
    }
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  add(call: PastCall): void {
    const short = (json: string | undefined) => (json !== undefined && json.length > LONGEST ? undefined : json);
    if (call.args.length <= LONGEST) this.calls.unshift({ ...call, items: short(call.items), reply: short(call.reply) });
    this.calls.splice(MOST);
    this.changed();
  }

  clear(): void {
    this.calls.length = 0;
    this.changed();
  }

  private changed(): void {
    try {
      sessionStorage.setItem(PLACE, write(this.calls.map(written)));
    } catch {
      // Without storage the history ends with the page.
    }
    for (const listener of [...this.listeners]) listener();
  }
}

function written(call: PastCall): Json {
  const members: [string, Json][] = [["name", call.name], ["args", call.args], ["at", String(call.at)], ["status", call.status], ["ok", call.isOk], ["ms", String(call.ms)], ["trace", call.traceId]];
  if (call.items !== undefined) members.push(["items", call.items]);
  if (call.reply !== undefined) members.push(["reply", call.reply]);
  return new Map(members);
}

function read(value: Json): PastCall | undefined {
  if (!isObject(value)) return undefined;
  const word = (name: string) => text(member(value, name));
  return {
    name: word("name") ?? "",
    args: word("args") ?? "{}",
    items: word("items"),
    at: Number(word("at")),
    status: word("status") ?? "",
    isOk: value.get("ok") === true,
    ms: Number(word("ms")),
    reply: word("reply"),
    traceId: word("trace") ?? "",
  };
}
