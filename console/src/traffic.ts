// What the whole service does: figures, functions, calls, traces, clients, limits.

import { ChartCard, spark } from "./charts.ts";
import { documentation, fill, h, morph, visible } from "./dom.ts";
import type { History } from "./history.ts";
import { type CallEntry, type Live, type Sample, beganMs, count, duration, durations, limitText, rate, uptime } from "./live.ts";
import type { FunctionInfo, Service } from "./service.ts";

type Column = [label: string, isNumber: boolean];

function table(label: string, columns: Column[], rows: HTMLElement[], nothing: string): HTMLElement {
  if (rows.length === 0) return h("p", { class: "quiet" }, nothing);
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map(([name, isNumber]) => h("th", { scope: "col", class: isNumber ? "number" : "" }, name)))), h("tbody", {}, rows)));
}

function cell(...children: (Node | string)[]): HTMLElement {
  const isNothing = children.length === 1 && ["0", "–"].includes(String(children[0]));
  return h("td", { class: isNothing ? "number nothing" : "number" }, ...children);
}

/** A part of a page that changes with each sample. Rows that move stand still while the user points at them. */
class Section {
  readonly element: HTMLElement;
  private readonly place = h("div", {});
  private readonly paused = h("span", { class: "quiet small", hidden: true }, "stands still while you are in it");

  constructor(
    title: string,
    private readonly draw: () => HTMLElement | null,
    private readonly isMoving = false,
  ) {
    this.element = h("div", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, title), this.paused), this.place);
    this.show();
  }

  show(): void {
    const isInUse = this.isMoving && this.place.matches(":hover, :focus-within");
    this.paused.hidden = !isInUse;
    if (isInUse && this.place.childElementCount > 0) return;
    const drawn = this.draw();
    this.element.hidden = drawn === null;
    morph(this.place, h("div", {}, drawn));
  }
}

abstract class LiveView {
  readonly element = h("article", {});
  private readonly leave: () => void;
  constructor(protected readonly live: Live) {
    this.leave = live.listen(() => this.update());
  }
  abstract update(): void;
  close(): void {
    this.leave();
  }
}

/** The first page. */
export class OverviewView extends LiveView {
  private updates = 0;
  private readonly cards = { calls: new ChartCard("calls/s"), errors: new ChartCard("errors/s"), latency: new ChartCard("p50"), flight: new ChartCard("in flight") };
  private readonly strip = h("section", { class: "charts", "aria-label": "live figures of the service" }, Object.values(this.cards).map((card) => card.element));
  private readonly facts = h("p", { class: "quiet" });
  private readonly sections: Section[];

  constructor(live: Live, private readonly service: Service) {
    super(live);
    this.sections = [
      new Section("Functions", () => this.functions()),
      new Section("Recent calls", () => callTable(live, live.latest?.recent.slice(0, 12), "no call has ended yet"), true),
    ];
    fill(this.element, h("h1", { tabindex: -1 }, "Overview"), this.facts, this.strip, this.sections.map((section) => section.element));
    this.update();
  }

  update(): void {
    const { live } = this;
    const sample = live.latest;
    this.strip.hidden = sample === undefined;
    if (sample) {
      const [now, course] = [live.rates(undefined), live.course(undefined)];
      const all = [...sample.functions.values()];
      const sum = (of: "calls" | "errors" | "shed") => count(all.reduce((sum, one) => sum + one[of], 0));
      this.cards.calls.show(rate(now.callsPerSecond), `${sum("calls")} in all`, [{ values: course.map((one) => one.callsPerSecond), tone: "main" }]);
      this.cards.errors.show(rate(now.errorsPerSecond), `${sum("errors")} in all`, [{ values: course.map((one) => one.errorsPerSecond), tone: "error" }]);
      this.cards.latency.show(duration(now.p50), `p99 ${duration(now.p99)}`, [{ values: course.map((one) => one.p99), tone: "slow" }, { values: course.map((one) => one.p50), tone: "main" }]);
      this.cards.flight.show(String(sample.server["in_flight"] ?? now.inFlight), `at most ${sample.server["in_flight_limit"] ?? "?"}`, [{ values: course.map((one) => one.inFlight), tone: "main" }]);
      this.facts.textContent = facts(sample);
    } else {
      this.facts.textContent = live.unavailable ?? "";
    }
    // A table of a thousand functions takes a tenth of a second.
    this.updates += 1;
    if (this.service.functions.length > 300 && this.updates % 4 !== 1) return;
    for (const section of this.sections) section.show();
  }

  private functions(): HTMLElement {
    const { live } = this;
    const sample = live.latest;
    const named = this.service.functions.map((one): [string, FunctionInfo | undefined] => [one.name, one]);
    const others = [...(sample?.functions.keys() ?? [])].filter((name) => !named.some(([known]) => known === name)).map((name): [string, undefined] => [name, undefined]);
    const rows = [...named, ...others].map(([name, info]) => {
      const own = sample?.functions.get(name);
      const now = live.rates(name);
      const doc = (info?.doc ?? (name === "_OTHER" ? "Calls of names that no function has." : "")).split("\n\n")[0] ?? "";
      const figures = sample ? [
        h("td", { class: "spark" }, spark(live.course(name).map((one) => one.callsPerSecond), `calls per second of ${visible(name)}`)),
        cell(rate(now.callsPerSecond)), h("td", { class: `number ${now.errorsPerSecond > 0 ? "bad-text" : "nothing"}` }, rate(now.errorsPerSecond)),
        cell(duration(now.p50)), cell(duration(now.p99)), cell(String(own?.inFlight ?? 0)), cell(count(own?.calls ?? 0)),
      ] : [];
      return h("tr", {}, h("th", { scope: "row" }, h("div", {}, info ? h("a", { href: `#/f/${encodeURIComponent(name)}` }, visible(name)) : visible(name)), doc ? h("div", { class: "quiet small row-doc" }, documentation(doc).textContent) : null), figures);
    });
    const columns: Column[] = sample ? [["function", false], ["course", false], ["calls/s", true], ["errors/s", true], ["p50", true], ["p99", true], ["in flight", true], ["calls", true]] : [["function", false]];
    return table("functions", columns, rows, "the server shows you no function");
  }
}

function facts(sample: Sample): string {
  const { server } = sample;
  const parts = [`up ${uptime(sample.uptimeMs)}`, `${server["connections"] ?? 0} ${server["connections"] === 1 ? "connection" : "connections"}`];
  if (Number(server["queue_delay_us"] ?? 0) > 0) parts.push(`queue delay ${duration(Number(server["queue_delay_us"]))}`);
  if (server["draining"] === true) parts.push("draining");
  parts.push(`instance ${sample.instance.slice(0, 16)}`);
  return parts.join(" · ");
}

function callTable(live: Live, calls: CallEntry[] | undefined, nothing: string): HTMLElement | null {
  if (!live.latest || !calls) return null;
  const rows = calls.map((entry) => h("tr", {},
    h("th", { scope: "row" }, entry.kind === "client" ? h("span", { class: "badge" }, "client") : null, entry.kind === "client" ? " " : null, visible(entry.name)),
    h("td", {}, h("span", { class: `status ${entry.code === "ok" ? "good" : "bad"}` }, visible(entry.code))),
    cell(duration(entry.durationUs)), h("td", {}, visible(entry.way)),
    h("td", { class: "nowrap" }, new Date(entry.endedMs).toLocaleTimeString()),
    h("td", {}, entry.traceId ? h("a", { href: `#/trace/${entry.traceId}`, title: entry.traceId }, `${entry.traceId.slice(0, 8)}…`) : "–")));
  return table("calls", [["function", false], ["result", false], ["time", true], ["way", false], ["ended", false], ["trace", false]], rows, nothing);
}

export class CallsView extends LiveView {
  private readonly sections: Section[];

  private own(): HTMLElement | null {
    if (this.history.calls.length === 0) return null;
    const rows = this.history.calls.slice(0, 20).map((past) => h("tr", {},
      h("th", { scope: "row" }, h("div", {}, h("a", { href: `#/f/${encodeURIComponent(past.name)}?args=${encodeURIComponent(past.args)}` }, visible(past.name))), h("div", { class: "quiet small row-doc" }, visible(past.args))),
      h("td", {}, h("span", { class: `status ${past.isOk ? "good" : "bad"}` }, visible(past.status))),
      cell(duration(past.ms * 1000)),
      h("td", { class: "nowrap" }, new Date(past.at).toLocaleTimeString()),
      h("td", {}, h("a", { href: `#/trace/${past.traceId}`, title: past.traceId }, `${past.traceId.slice(0, 8)}…`))));
    return table("calls of this page", [["function", false], ["result", false], ["time", true], ["made", false], ["trace", false]], rows, "");
  }
  constructor(
    live: Live,
    private readonly history: History,
  ) {
    super(live);
    this.sections = [
      new Section("Calls of this page", () => this.own()),
      new Section("Failed calls", () => callTable(live, live.latest?.failed, "no call has failed yet"), true),
      new Section("Slowest calls", () => callTable(live, live.latest?.slowest, "no call has ended yet"), true),
      new Section("Recent calls", () => callTable(live, live.latest?.recent, "no call has ended yet"), true),
    ];
    fill(this.element, h("h1", { tabindex: -1 }, "Calls"), h("p", { class: "quiet" }, "Names, times, codes and traces. The server keeps no arguments and no results."), missing(live), this.sections.map((section) => section.element));
  }
  update(): void {
    for (const section of this.sections) section.show();
  }
}

/** All known calls of one trace, as bars on one axis of time. */
export class TraceView extends LiveView {
  private readonly place = h("div", {});
  private drawn = "";
  constructor(live: Live, private readonly id: string) {
    super(live);
    fill(this.element, h("h1", { tabindex: -1 }, "Trace"), h("p", { class: "quiet" }, h("code", {}, visible(id))), this.place);
    this.update();
  }

  update(): void {
    const all = this.live.trace(this.id);
    const gap = missingCalls(all, this.live.latest);
    const key = `${gap} ${all.map((entry) => `${entry.kind} ${entry.name} ${entry.durationUs}`).join(" ")}`;
    if (key === this.drawn && this.place.childElementCount > 0) return;
    this.drawn = key;
    if (all.length === 0) {
      fill(this.place, h("p", { class: "card quiet" }, "The server tells no call of this trace. It keeps the most recent and the slowest."));
      return;
    }
    const ordered = tree(all);
    const begins = beginnings(ordered);
    const begin = Math.min(...begins);
    const end = Math.max(...all.map((entry) => entry.endedMs), begin + 0.001);
    const span = end - begin;
    const offsets = durations(begins.map((at) => (at - begin) * 1000));
    const rows = ordered.map(({ entry, depth }, at) => {
      const bar = h("div", { class: `bar ${entry.kind} ${entry.code === "ok" ? "" : "bad"}` });
      // Not an attribute: the policy of the page allows no inline styles.
      bar.style.left = `${((((begins[at] ?? begin) - begin) / span) * 100).toFixed(3)}%`;
      bar.style.width = `${Math.max(0.4, (entry.durationUs / 1000 / span) * 100).toFixed(3)}%`;
      const label = h("div", { class: "bar-label" }, h("span", { class: `badge ${entry.kind === "server" ? "good" : entry.kind === "client" ? "stream" : ""}` }, entry.kind), " ", visible(entry.name));
      label.style.paddingInlineStart = `${Math.min(depth, 12) * 14}px`;
      return h("li", { class: "trace-row" }, label, h("div", { class: "bar-track" }, bar),
        h("div", { class: "bar-facts" }, h("span", { class: `status ${entry.code === "ok" ? "good" : "bad"}` }, visible(entry.code)), " ", duration(entry.durationUs),
          h("span", { class: "quiet" }, ` +${offsets[at]}`, entry.url !== undefined ? [" · to ", this.service(entry, all)] : entry.way === "" ? "" : ` · ${visible(entry.way)}`, entry.attempts > 1 ? ` · ${entry.attempts} attempts` : "")));
    });
    fill(this.place, h("section", { class: "card", "aria-label": "waterfall" },
      h("div", { class: "card-head" }, h("h2", {}, `${all.length} ${all.length === 1 ? "call" : "calls"} shown, ${duration(span * 1000)} from the first to the last`), h("span", { class: "quiet small" }, new Date(begin).toLocaleString())),
      gap === undefined ? null : h("p", { class: "notice warn" }, gap),
      h("ol", { class: "waterfall" }, rows),
      h("p", { class: "quiet small" }, "Shown are calls of this process that it has kept: the slowest, and of those that end within 10 ms one that succeeded and one that failed. A call to another service has a link to this trace there.")));
  }

  /** The service that a call went to, with a link to this trace there unless it is this process. */
  private service(entry: CallEntry, all: CallEntry[]): Node | string {
    const shown = visible((entry.url ?? "").replace(/^\w+:\/\//, "").replace(/\/.*$/, ""));
    const href = pageOf(entry.url ?? "", this.id);
    const isHere = all.some((other) => other.kind === "server" && entry.spanId !== undefined && other.parentId === entry.spanId);
    return href === undefined || isHere ? shown : h("a", { href, target: "_blank", rel: "noreferrer", title: "this trace there" }, shown);
  }
}

/** The page of a trace at another service, if a browser can open it. */
function pageOf(service: string, id: string): string | undefined {
  try {
    const url = new URL(service);
    if (!["http:", "https:"].includes(url.protocol) || url.host.includes(",")) return undefined;
    return `${url.origin}${url.pathname}#/trace/${encodeURIComponent(id)}`;
  } catch {
    return undefined;
  }
}

/** No call begins before its caller. What the server says of times is not exact. */
function beginnings(ordered: { entry: CallEntry; depth: number }[]): number[] {
  const around: number[] = [];
  return ordered.map(({ entry, depth }) => {
    const begin = Math.max(beganMs(entry), around[depth - 1] ?? -Infinity);
    around[depth] = begin;
    return begin;
  });
}

/** Why calls of this trace are missing, as far as the rest of it shows. */
function missingCalls(all: CallEntry[], sample: Sample | undefined): string | undefined {
  const known = new Set(all.map((entry) => entry.spanId));
  const orphan = all.find((entry) => entry.kind === "client" && entry.parentId !== undefined && !known.has(entry.parentId) && around(entry, all) === undefined);
  if (orphan) return `The caller of ${visible(orphan.name)} is missing here, and other calls may be missing too. The server keeps the slowest calls and a choice of the recent ones.`;
  const recent = sample?.recent ?? [];
  const oldest = Math.min(...recent.map((entry) => entry.endedMs));
  if (recent.length >= 100 && Math.min(...all.map((entry) => entry.endedMs)) < oldest) {
    return `This trace is older than the ${recent.length} recent calls that the server keeps. Of older calls it keeps only the slowest, so others may be missing here.`;
  }
  return undefined;
}

/** Callers before what they call. */
function tree(all: CallEntry[]): { entry: CallEntry; depth: number }[] {
  const bySpan = new Map(all.filter((entry) => entry.spanId !== undefined).map((entry) => [entry.spanId, entry]));
  const children = new Map<CallEntry | undefined, CallEntry[]>();
  for (const entry of all) {
    const parent = bySpan.get(entry.parentId) ?? around(entry, all);
    const under = parent === entry ? undefined : parent;
    children.set(under, [...(children.get(under) ?? []), entry]);
  }
  const out: { entry: CallEntry; depth: number }[] = [];
  const visit = (parent: CallEntry | undefined, depth: number): void => {
    for (const entry of children.get(parent) ?? []) {
      if (depth > 100 || out.some((one) => one.entry === entry)) continue;
      out.push({ entry, depth });
      visit(entry, depth + 1);
    }
  };
  visit(undefined, 0);
  // A circle of parents has no beginning.
  for (const entry of all) if (!out.some((one) => one.entry === entry)) out.push({ entry, depth: 0 });
  return out;
}

/** The shortest call that was running all the time, for a call whose caller is not known by its span. */
function around(entry: CallEntry, all: CallEntry[]): CallEntry | undefined {
  // The server tells when a call ended in whole milliseconds.
  const slack = 2;
  const isAround = (other: CallEntry) =>
    other.durationUs > entry.durationUs && beganMs(other) <= beganMs(entry) + slack && other.endedMs >= entry.endedMs - slack;
  return all.filter(isAround).sort((a, b) => a.durationUs - b.durationUs)[0];
}

export class ServerView extends LiveView {
  private readonly sections: Section[];
  constructor(live: Live) {
    super(live);
    this.sections = [new Section("Server", () => this.server()), new Section("Limits", () => this.limits()), new Section("Clients of this process", () => this.clients())];
    fill(this.element, h("h1", { tabindex: -1 }, "Server"), missing(live), this.sections.map((section) => section.element));
  }

  update(): void {
    for (const section of this.sections) section.show();
  }

  private server(): HTMLElement | null {
    const sample = this.live.latest;
    if (!sample) return null;
    const names: Record<string, string> = { in_flight: "calls in flight", in_flight_limit: "calls in flight, at most", queue_delay_us: "queue delay", connections: "connections", connections_accepted: "connections accepted since the start", draining: "draining" };
    const shown = Object.entries(sample.server).map(([name, value]) => [h("dt", {}, names[name] ?? visible(name)), h("dd", {}, name.endsWith("_us") ? duration(Number(value)) : typeof value === "boolean" ? (value ? "yes" : "no") : String(value))]);
    return h("dl", { class: "facts" }, h("dt", {}, "instance"), h("dd", {}, h("code", {}, visible(sample.instance))), h("dt", {}, "up"), h("dd", {}, uptime(sample.uptimeMs)), shown);
  }

  private limits(): HTMLElement | null {
    const sample = this.live.latest;
    if (!sample || sample.limits.length === 0) return null;
    return h("dl", { class: "facts" }, sample.limits.map(([name, value]) => [h("dt", {}, h("code", {}, visible(name))), h("dd", { title: visible(value) }, visible(limitText(name, value)))]));
  }

  private clients(): HTMLElement | null {
    const sample = this.live.latest;
    if (!sample) return null;
    if (sample.clients.length === 0) return h("p", { class: "quiet" }, "This process has no client of byname.");
    return h("div", {}, sample.clients.map((client) => {
      const rows = client.functions.map((one) => {
        const now = this.live.rates(undefined, undefined, (sample) => sample.clients.filter((other) => other.url === client.url).flatMap((other) => other.functions.filter((other) => other.name === one.name)));
        return h("tr", {}, h("th", { scope: "row" }, visible(one.name)), cell(rate(now.callsPerSecond)), cell(duration(now.p50)), cell(duration(now.p99)), cell(count(one.calls)), cell(count(one.errors)), cell(count(one.retries)));
      });
      const replicas = client.replicas.map((replica) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, visible(replica.address))), h("td", {}, h("span", { class: `status ${["in use", "gets calls"].includes(replica.state) ? "good" : "warn"}` }, visible(replica.state))), cell(String(replica.inFlight)), cell(duration(replica.latencyUs))));
      return h("div", { class: "client" }, h("h3", {}, h("code", {}, visible(client.url))), h("p", { class: "quiet" }, `${client.connections} ${client.connections === 1 ? "connection" : "connections"}, ${client.opened} opened since the start`),
        table(`functions of ${visible(client.url)}`, [["function", false], ["calls/s", true], ["p50", true], ["p99", true], ["calls", true], ["errors", true], ["retries", true]], rows, "It has made no call."),
        client.replicas.length > 0 ? table(`replicas of ${visible(client.url)}`, [["replica", false], ["state", false], ["in flight", true], ["latency", true]], replicas, "") : null);
    }));
  }
}

function missing(live: Live): HTMLElement | null {
  return live.latest === undefined && live.unavailable !== undefined ? h("p", { class: "notice warn" }, live.unavailable) : null;
}
