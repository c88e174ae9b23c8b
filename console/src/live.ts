// The figures of the service: `!stats`, read each second while the page is seen.

import { type Json, JsonNumber, figure, isObject, list, member, text } from "./json.ts";
import { Refused, builtin } from "./service.ts";

/** How many samples a chart has. */
export const KEPT = 90;
/** Over how many seconds percentiles and rates are taken. */
const WINDOW = 10;
/** After how many answers of other replicas one of them is shown instead. */
const SILENT = 10;
const MOST_REPLICAS = 20;
const MOST_CALLS = 600;

export interface FunctionStats {
  name: string;
  calls: number;
  inFlight: number;
  errors: number;
  byCode: [string, number][];
  shed: number;
  retries: number;
  durationUs: number;
  /** Upper bounds in microseconds, and counts. */
  latency: [number, number][];
}

export interface CallEntry {
  kind: "server" | "client" | "page";
  name: string;
  code: string;
  endedMs: number;
  durationUs: number;
  way: string;
  /** The service that a client has called. */
  url: string | undefined;
  attempts: number;
  traceId: string | undefined;
  spanId: string | undefined;
  parentId: string | undefined;
}

export interface ReplicaStats {
  address: string;
  state: string;
  inFlight: number;
  latencyUs: number | undefined;
}

export interface ClientStats {
  url: string;
  functions: FunctionStats[];
  connections: number;
  opened: number;
  replicas: ReplicaStats[];
}

export interface Sample {
  at: number;
  instance: string;
  uptimeMs: number;
  functions: Map<string, FunctionStats>;
  server: Record<string, number | boolean>;
  limits: [string, string][];
  recent: CallEntry[];
  slowest: CallEntry[];
  failed: CallEntry[] | undefined;
  clients: ClientStats[];
  /** What was computed at this sample, by the names of functions. */
  rates: Map<string, Rates>;
}

export interface Rates {
  callsPerSecond: number;
  errorsPerSecond: number;
  /** Microseconds; `undefined` without calls in the window. */
  p50: number | undefined;
  p99: number | undefined;
  inFlight: number;
}

export class Live {
  /** The samples of each replica that has answered, by its instance. */
  private readonly series = new Map<string, Sample[]>();
  /** The replica whose figures are shown. */
  private shown: string | undefined;
  /** Calls that were seen, also those that the server no longer tells. */
  readonly calls = new Map<string, CallEntry>();
  /** Why there are no figures. */
  unavailable: string | undefined;
  private readonly listeners = new Set<() => void>();
  private timer: number | undefined;
  private isReading = false;
  /** Answers of other replicas since the last one of the replica that is shown. */
  private others = 0;

  start(): void {
    document.addEventListener("visibilitychange", () => this.schedule(0));
    this.schedule(0);
  }

  /** Until the returned function is called. */
  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Adds a call that this page has made. */
  keep(entry: CallEntry): void {
    this.calls.set(keyOf(entry), entry);
  }

  private get samples(): Sample[] {
    return this.series.get(this.shown ?? "") ?? [];
  }

  /** The replicas that answer at this address in turn. */
  get instances(): string[] {
    const now = performance.now();
    return [...this.series].filter(([, samples]) => now - (samples.at(-1)?.at ?? 0) < SILENT * 3000).map(([instance]) => instance);
  }

  /** Shows the figures of another replica. */
  showInstance(instance: string): void {
    this.shown = instance;
    for (const listener of [...this.listeners]) listener();
  }

  /** The replica that has answered last. It may be another one than that whose figures are shown. */
  answeredBy = "";

  get latest(): Sample | undefined {
    return this.samples[this.samples.length - 1];
  }

  private schedule(ms: number): void {
    clearTimeout(this.timer);
    if (document.visibilityState === "visible") this.timer = window.setTimeout(() => void this.read(), ms);
  }

  private async read(): Promise<void> {
    if (this.isReading) return;
    this.isReading = true;
    let again = 1000;
    try {
      this.add(readSample(await builtin("!stats")));
      this.unavailable = undefined;
    } catch (why) {
      again = why instanceof Refused && why.status === 404 ? 30_000 : 5000;
      this.unavailable = why instanceof Refused && why.status === 404 ? "This server tells no figures." : `The figures can't be read: ${why instanceof Error ? why.message : String(why)}`;
    }
    this.isReading = false;
    for (const listener of [...this.listeners]) listener();
    this.schedule(again);
  }

  private add(sample: Sample): void {
    const { instance } = sample;
    this.answeredBy = instance;
    // Each replica has figures of its own, which go with none of another.
    const own = this.series.get(instance) ?? [];
    if ((own.at(-1)?.uptimeMs ?? 0) > sample.uptimeMs) own.length = 0;
    own.push(sample);
    if (own.length > KEPT + WINDOW) own.shift();
    this.series.delete(instance);
    this.series.set(instance, own);
    for (const old of this.series.keys()) if (this.series.size > MOST_REPLICAS && old !== this.shown) this.series.delete(old);
    const before = this.latest;
    this.others = instance === this.shown ? 0 : this.others + 1;
    // A server that began after the other's last answer has replaced it.
    const isRestarted = before !== undefined && before.at < sample.at - sample.uptimeMs;
    if (before === undefined || isRestarted || this.others > SILENT) {
      if (isRestarted) this.series.delete(before.instance);
      this.shown = instance;
      this.others = 0;
    }
    this.keepAll([...sample.slowest, ...(sample.failed ?? []), ...sample.recent]);
    for (const key of this.calls.keys()) {
      if (this.calls.size <= MOST_CALLS) break;
      this.calls.delete(key);
    }
  }

  /** The times of calls are told by their ages, and replies take a while, so each moves all of its calls a little. Those that are known
   * say how much. */
  private keepAll(entries: CallEntry[]): void {
    const moved = entries.flatMap((entry) => {
      const known = this.calls.get(keyOf(entry));
      return known ? [known.endedMs - entry.endedMs] : [];
    });
    const by = moved.sort((a, b) => a - b)[moved.length >> 1] ?? 0;
    for (const entry of entries) {
      const key = keyOf(entry);
      if (!this.calls.has(key)) this.calls.set(key, { ...entry, endedMs: entry.endedMs + by });
    }
  }

  /** The rates at a sample, by default now. Without a name, those of the whole server. */
  rates(name: string | undefined, at = this.samples.length - 1, of?: (sample: Sample) => Iterable<FunctionStats>): Rates {
    const known = of ? undefined : this.samples[at]?.rates;
    const cached = known?.get(name ?? "");
    if (cached) return cached;
    const rates = this.compute(name, at, of);
    known?.set(name ?? "", rates);
    return rates;
  }

  private compute(name: string | undefined, at: number, of?: (sample: Sample) => Iterable<FunctionStats>): Rates {
    const now = this.samples[at];
    const before = this.samples[Math.max(0, at - WINDOW)];
    if (!now || !before) return { callsPerSecond: 0, errorsPerSecond: 0, p50: undefined, p99: undefined, inFlight: 0 };
    const pick = (sample: Sample): FunctionStats[] => {
      if (of) return [...of(sample)];
      if (name === undefined) return [...sample.functions.values()];
      const one = sample.functions.get(name);
      return one ? [one] : [];
    };
    const [last, first] = [pick(now), pick(before)];
    const seconds = Math.max(0.001, (now.at - before.at) / 1000);
    const sum = (all: FunctionStats[], of: (one: FunctionStats) => number) => all.reduce((sum, one) => sum + of(one), 0);
    const buckets = new Map<number, number>();
    for (const [all, sign] of [[last, 1], [first, -1]] as const) {
      for (const one of all) for (const [upper, count] of one.latency) buckets.set(upper, (buckets.get(upper) ?? 0) + sign * count);
    }
    const counted = now === before ? [] : [...buckets].filter(([, count]) => count > 0).sort(([a], [b]) => a - b);
    const rate = (of: (one: FunctionStats) => number) => (now === before ? 0 : Math.max(0, (sum(last, of) - sum(first, of)) / seconds));
    return {
      callsPerSecond: rate((one) => one.calls),
      errorsPerSecond: rate((one) => one.errors),
      p50: percentile(counted, 0.5),
      p99: percentile(counted, 0.99),
      inFlight: sum(last, (one) => one.inFlight),
    };
  }

  /** The rates of each of the last seconds, oldest first. */
  course(name: string | undefined): Rates[] {
    const first = Math.max(1, this.samples.length - KEPT);
    const out: Rates[] = [];
    for (let at = first; at < this.samples.length; at++) out.push(this.rates(name, at));
    return out;
  }

  /** All known calls of a trace, in the order of their beginnings. */
  trace(id: string): CallEntry[] {
    return [...this.calls.values()].filter((entry) => entry.traceId === id).sort((a, b) => beganMs(a) - beganMs(b));
  }
}

export function beganMs(entry: CallEntry): number {
  return entry.endedMs - entry.durationUs / 1000;
}

function keyOf(entry: CallEntry): string {
  return [entry.kind, entry.name, entry.traceId, entry.spanId, entry.parentId, entry.durationUs].join(" ");
}

/** The bucket with that part of the counts, and the place in it. There are eight buckets from a power of two to the next. */
export function percentile(buckets: [number, number][], part: number): number | undefined {
  const all = buckets.reduce((sum, [, count]) => sum + count, 0);
  if (all === 0) return undefined;
  let rest = all * part;
  let before = 0;
  for (const [upper, count] of buckets) {
    if (rest <= count) {
      if (!Number.isFinite(upper)) return before;
      const lower = Math.max(before, upper - Math.max(1, 2 ** Math.floor(Math.log2(Math.max(1, upper - 1))) / 8));
      return lower + (upper - lower) * (rest / count);
    }
    rest -= count;
    before = upper;
  }
  return before;
}

function readFunction(value: Json): FunctionStats {
  const errors = member(value, "errors");
  const byCode = isObject(errors) ? [...errors].map(([code, count]): [string, number] => [code, figure(count)]) : [];
  return {
    name: text(member(value, "name")) ?? "",
    calls: figure(member(value, "calls")),
    inFlight: figure(member(value, "in_flight")),
    errors: byCode.reduce((sum, [, count]) => sum + count, 0),
    byCode,
    shed: figure(member(value, "shed")),
    retries: figure(member(value, "retries")),
    durationUs: figure(member(value, "duration_us")),
    latency: list(member(value, "latency")).map((bucket): [number, number] => {
      const [upper, count] = list(bucket);
      return [upper === null ? Infinity : figure(upper), figure(count)];
    }),
  };
}

function readCall(value: Json, now: number): CallEntry {
  const word = (name: string) => text(member(value, name));
  const nanos = member(value, "ended_ago_ns");
  return {
    kind: word("kind") === "client" ? "client" : "server",
    name: word("name") ?? "",
    code: word("code") ?? "",
    endedMs: now - (nanos === undefined ? figure(member(value, "ended_ms_ago")) : figure(nanos) / 1e6),
    durationUs: figure(member(value, "duration_us")),
    way: word("way") ?? "",
    url: word("url"),
    attempts: figure(member(value, "attempts")),
    traceId: word("trace_id"),
    spanId: word("span_id"),
    parentId: word("parent_id"),
  };
}

export function readSample(value: Json): Sample {
  const server: Record<string, number | boolean> = {};
  const of = member(value, "server");
  if (isObject(of)) {
    for (const [name, given] of of) {
      if (given instanceof JsonNumber) server[name] = Number(given.text);
      if (typeof given === "boolean") server[name] = given;
    }
  }
  const functions = list(member(value, "functions")).map(readFunction);
  const now = performance.timeOrigin + performance.now();
  return {
    rates: new Map(),
    at: performance.now(),
    instance: text(member(value, "instance")) ?? "",
    uptimeMs: figure(member(value, "uptime_ms")),
    functions: new Map(functions.map((one) => [one.name, one])),
    server,
    limits: list(member(value, "limits")).map((limit): [string, string] => [text(member(limit, "name")) ?? "", text(member(limit, "value")) ?? ""]),
    recent: list(member(value, "recent")).map((call) => readCall(call, now)),
    slowest: list(member(value, "slowest")).map((call) => readCall(call, now)),
    failed: member(value, "failed") === undefined ? undefined : list(member(value, "failed")).map((call) => readCall(call, now)),
    clients: list(member(value, "clients")).map((client): ClientStats => ({
      url: text(member(client, "url")) ?? "",
      functions: list(member(client, "functions")).map(readFunction),
      connections: figure(member(client, "connections")),
      opened: figure(member(client, "connections_opened")),
      replicas: list(member(client, "replicas")).map((replica): ReplicaStats => ({
        address: text(member(replica, "address")) ?? "",
        state: text(member(replica, "state")) ?? "",
        inFlight: figure(member(replica, "in_flight")),
        latencyUs: member(replica, "latency_us") === undefined ? undefined : figure(member(replica, "latency_us")),
      })),
    })),
  };
}

export function duration(us: number | undefined, moreDigits = 0): string {
  if (us === undefined) return "–";
  const shown = (value: number, digits: number) => value.toFixed(digits + moreDigits);
  if (us < 1000) return `${shown(us, 0)} µs`;
  if (us < 10_000) return `${shown(us / 1000, 2)} ms`;
  if (us < 1_000_000) return `${shown(us / 1000, us < 100_000 ? 1 : 0)} ms`;
  return `${shown(us / 1_000_000, us < 10_000_000 ? 2 : 1)} s`;
}

/** Texts of times, of which two differ where the times do. */
export function durations(all: number[]): string[] {
  let texts = all.map((us) => duration(us));
  for (let more = 1; more <= 4; more++) {
    const isTaken = (at: number) => texts.some((text, other) => text === texts[at] && all[other] !== all[at]);
    texts = texts.map((text, at) => (isTaken(at) ? duration(all[at], more) : text));
  }
  return texts;
}

export function byteSize(bytes: number): string {
  if (bytes < 10_000 && bytes % 1024 !== 0) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  const units = ["KiB", "MiB", "GiB"];
  let [value, at] = [bytes / 1024, 0];
  for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
  return `${value.toFixed(1).replace(/\.0$/, "")} ${units[at]}`;
}

/** A limit of the server, as Rust writes it, for people. */
export function limitText(name: string, value: string): string {
  if (/::(message|header|key_bytes)$/.test(name) && /^\d+$/.test(value)) return byteSize(Number(value));
  if (/^0ns$/.test(value)) return "0 s";
  const seconds = /^(\d+)s$/.exec(value)?.[1];
  if (seconds !== undefined && Number(seconds) >= 120) return uptime(Number(seconds) * 1000).replace(/ 0 (s|min|h)$/, "");
  return value.replace(/^([\d.]+)(ns|µs|ms|s)$/, "$1 $2");
}

export function rate(perSecond: number): string {
  if (perSecond === 0) return "0";
  if (perSecond < 10) return perSecond.toFixed(1);
  return count(Math.round(perSecond));
}

export function count(number: number): string {
  if (number < 10_000) return String(number);
  if (number < 1_000_000) return `${(number / 1000).toFixed(number < 100_000 ? 1 : 0)}k`;
  return `${(number / 1_000_000).toFixed(1)}M`;
}

export function uptime(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}
