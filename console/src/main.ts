// The console of a server of byname: the frame of the page, and which view is in it.

import { FunctionView, type Parts } from "./function_view.ts";
import { announce, fill, h, visible } from "./dom.ts";
import { History } from "./history.ts";
import { isObject, parse } from "./json.ts";
import { Live, rate, uptime } from "./live.ts";
import { Schemas } from "./schema.ts";
import { type FunctionInfo, type Service, builtin, endpoint, readService, urlOf } from "./service.ts";
import { CallsView, OverviewView, ServerView, TraceView } from "./traffic.ts";

interface View {
  element: HTMLElement;
  close(): void;
}

const main = document.getElementById("main") as HTMLElement;
const sidebar = document.getElementById("sidebar") as HTMLElement;
const navigation = document.getElementById("navigation") as HTMLElement;
const state = document.getElementById("state") as HTMLElement;

const live = new Live();
const past = new History();

async function begin(): Promise<void> {
  theme();
  fill(main, h("p", { class: "quiet starting" }, "The page reads what functions there are."));
  let service: Service;
  let [offersFrames, offersPaths] = [false, true];
  try {
    const answer = await fetch(urlOf("!live"));
    const ways = (answer.headers.get("byname-ways") ?? "").split(/,\s*/);
    [offersFrames, offersPaths] = [ways.includes("frames"), ways.includes("path")];
    service = readService(await builtin("!schema"));
  } catch (why) {
    fill(main, h("div", { class: "card" }, h("h1", {}, "The functions can't be read"), h("p", {}, why instanceof Error ? visible(why.message) : String(why)), h("p", { class: "quiet" }, "The page reads ", h("code", {}, "!schema"), ". Rules and interceptors of the server decide whether you may.")));
    return;
  }
  document.title = `${location.host} · byname`;
  live.start();
  const list = new FunctionList(service);
  const parts: Parts = { service, schemas: new Schemas(service.definitions), live, history: past, offersFrames, offersPaths, headers: [], drafts: new Map() };
  let view: View | undefined;
  const chosen = h("select", { class: "small", "aria-label": "the replica whose figures are shown", change: () => live.showInstance(chosen.value) });
  const several = h("p", { class: "notice", hidden: true }, "Several replicas answer at this address in turn. The figures are those of ", chosen, ".");
  const another = h("p", { class: "notice warn", role: "status", hidden: true }, "Another server answers now: it was restarted, or it is another replica. ", h("button", { type: "button", class: "button small", click: () => location.reload() }, "Reload the page"), " to see its functions.");
  const first = { instance: "" };
  live.listen(() => {
    first.instance ||= live.answeredBy;
    const { instances } = live;
    several.hidden = instances.length < 2;
    another.hidden = live.answeredBy === first.instance || instances.length > 1;
    if (chosen.options.length !== instances.length || instances.some((one) => ![...chosen.options].some((option) => option.value === one))) {
      fill(chosen, [...instances].sort().map((one) => h("option", { value: one }, visible(one))));
    }
    chosen.value = live.latest?.instance ?? "";
  });
  const show = (isFirst: boolean): void => {
    const target = read(location.hash);
    view?.close();
    const called = target.page === "f" ? service.functions.find((one) => one.name === target.rest || one.aliases.includes(target.rest)) : undefined;
    if (called) {
      const made = new FunctionView(parts, called);
      view = made;
      if (target.args !== undefined) {
        try {
          const args = parse(target.args);
          if (isObject(args)) made.show(args);
        } catch {
          announce("the arguments of the link can't be read");
        }
      }
    } else if (target.page === "f") {
      view = message("No such function", `The server shows you no function \`${visible(target.rest)}\`.`);
    } else if (target.page === "calls") {
      view = new CallsView(live, past);
    } else if (target.page === "trace") {
      view = new TraceView(live, target.rest);
    } else if (target.page === "server") {
      view = new ServerView(live);
    } else {
      view = new OverviewView(live, service);
    }
    const notOffered = !offersPaths && !offersFrames && called ? h("p", { class: "notice warn" }, "This server takes no calls by path or by frames, so this page can't call it.") : null;
    fill(main, several, another, notOffered, service.note && target.page !== "server" ? h("p", { class: "notice" }, visible(service.note)) : null, view.element);
    list.select(called?.name);
    for (const link of navigation.querySelectorAll("a")) {
      const isHere = link.getAttribute("href") === `#/${target.page === "trace" ? "calls" : target.page}` || (called !== undefined && link.dataset["for"] === "f");
      if (isHere) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${called ? `${visible(called.name)} · ` : ""}${location.host} · byname`;
    window.scrollTo(0, 0);
    if (!isFirst) {
      document.body.classList.remove("menu-open");
      main.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
    }
  };
  window.addEventListener("hashchange", () => show(false));
  show(true);
  keys(list, () => view);
  live.listen(showState);
}

function message(title: string, said: string): View {
  return { element: h("div", { class: "card" }, h("h1", { tabindex: -1 }, title), h("p", {}, said)), close: () => {} };
}

function read(hash: string): { page: string; rest: string; args: string | undefined } {
  const whole = hash.replace(/^#\/?/, "");
  const end = whole.includes("?") ? whole.indexOf("?") : whole.length;
  const [path, query] = [whole.slice(0, end), whole.slice(end + 1)];
  const [page = "", rest = ""] = path.split("/", 2);
  const given = new URLSearchParams(query).get("args");
  try {
    return { page, rest: decodeURIComponent(rest), args: given ?? undefined };
  } catch {
    return { page, rest, args: undefined };
  }
}

function showState(): void {
  const sample = live.latest;
  state.hidden = sample === undefined && live.unavailable === undefined;
  const isWell = live.unavailable === undefined && sample?.server["draining"] !== true;
  state.className = `state ${isWell ? "good" : "bad"}`;
  const now = live.rates(undefined);
  fill(state, live.unavailable !== undefined ? (sample ? "no answer" : "no figures") : [`${rate(now.callsPerSecond)} calls/s`, h("span", { class: "wide" }, ` · up ${uptime(sample?.uptimeMs ?? 0)}`)]);
  state.title = live.unavailable ?? endpoint;
}

/** The functions in groups, and the search. */
class FunctionList {
  private readonly search = h("input", { type: "search", id: "search", placeholder: "Search functions", "aria-label": "search functions", autocomplete: "off", spellcheck: "false" });
  private readonly place = h("div", { class: "groups" });
  private readonly found = h("p", { class: "quiet small found", "aria-live": "polite" });
  private links: HTMLAnchorElement[] = [];
  private selected: string | undefined;

  constructor(private readonly service: Service) {
    fill(sidebar, h("div", { class: "search" }, this.search, h("kbd", { "aria-hidden": "true" }, "/")), this.found, this.place);
    this.search.addEventListener("input", () => this.show());
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") {
        event.preventDefault();
        this.links[0]?.focus();
      } else if (event.key === "Enter") {
        this.links[0]?.click();
      } else if (event.key === "Escape" && this.search.value !== "") {
        event.preventDefault();
        this.search.value = "";
        this.show();
      }
    });
    this.place.addEventListener("keydown", (event) => {
      const at = this.links.indexOf(document.activeElement as HTMLAnchorElement);
      if (at < 0 || (event.key !== "ArrowDown" && event.key !== "ArrowUp")) return;
      event.preventDefault();
      const next = event.key === "ArrowDown" ? this.links[at + 1] : this.links[at - 1];
      (next ?? (event.key === "ArrowUp" ? this.search : undefined))?.focus();
    });
    this.show();
  }

  focus(): void {
    document.body.classList.add("menu-open");
    this.search.focus();
    this.search.select();
  }

  select(name: string | undefined): void {
    this.selected = name;
    for (const link of this.links) {
      if (link.dataset["name"] === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  private show(): void {
    const words = this.search.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    const score = (one: FunctionInfo): number => {
      const name = [one.name, ...one.aliases].join(" ").toLowerCase();
      const all = `${name} ${one.signature} ${one.doc}`.toLowerCase();
      if (!words.every((word) => all.includes(word))) return 0;
      return words.every((word) => name.includes(word)) ? (words.some((word) => name.startsWith(word)) ? 3 : 2) : 1;
    };
    const hits = this.service.functions.map((one) => ({ one, score: words.length === 0 ? 1 : score(one) })).filter((hit) => hit.score > 0);
    const groups = new Map<string, FunctionInfo[]>();
    if (words.length > 0) {
      hits.sort((a, b) => b.score - a.score);
      groups.set("", hits.map((hit) => hit.one));
    } else {
      // Names without a prefix come first.
      if (hits.some(({ one }) => !one.name.includes("."))) groups.set("", []);
      for (const { one } of hits) {
        const prefix = one.name.includes(".") ? one.name.slice(0, one.name.lastIndexOf(".")) : "";
        groups.set(prefix, [...(groups.get(prefix) ?? []), one]);
      }
    }
    this.found.textContent = words.length === 0 ? "" : `${hits.length} of ${this.service.functions.length}`;
    this.links = [];
    fill(this.place, [...groups].map(([prefix, functions]) => {
      const items = functions.map((one) => {
        const short = prefix !== "" ? one.name.slice(prefix.length + 1) : one.name;
        const link = h("a", { href: `#/f/${encodeURIComponent(one.name)}`, class: one.deprecated !== undefined ? "deprecated" : "", "data-name": one.name, title: visible(one.name) },
          h("span", { class: "link-name" }, visible(short), one.deprecated !== undefined ? h("span", { class: "off-screen" }, ", deprecated") : null), one.streams || one.takes ? h("span", { class: "dot stream", title: "streams" }, h("span", { class: "off-screen" }, "streams")) : null);
        this.links.push(link);
        return h("li", {}, link);
      });
      return h("section", {}, prefix !== "" ? h("h2", {}, visible(prefix)) : null, h("ul", {}, items));
    }));
    if (hits.length === 0) fill(this.place, h("p", { class: "quiet" }, "No function has all of these words in its name, signature or documentation."));
    this.select(this.selected);
  }
}

function keys(list: FunctionList, view: () => View | undefined): void {
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    const shown = view();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      // Also where the function has no argument to be in.
      if (!(shown instanceof FunctionView) || event.defaultPrevented || sidebar.contains(target) || target.matches("a[href]")) return;
      event.preventDefault();
      shown.submit();
      return;
    }
    if (event.key === "Escape" && !event.defaultPrevented && target.matches("input, select, textarea")) target.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input:not([type=checkbox], [type=radio]), select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      list.focus();
    } else if (event.key === "e" && shown instanceof FunctionView) {
      event.preventDefault();
      shown.focusForm();
    }
  });
  document.getElementById("menu")?.addEventListener("click", (event) => {
    const isOpen = document.body.classList.toggle("menu-open");
    (event.currentTarget as HTMLElement).setAttribute("aria-expanded", String(isOpen));
    if (isOpen) document.getElementById("search")?.focus();
  });
}

/** Dark and light: as the system says, until the user says otherwise. */
function theme(): void {
  const place = "byname-console theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme") as HTMLButtonElement;
  const stored = (): string | null => {
    try {
      return localStorage.getItem(place);
    } catch {
      return null;
    }
  };
  const apply = (): void => {
    const now = stored() ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset["theme"] = now;
    toggle.setAttribute("aria-label", now === "dark" ? "change to light" : "change to dark");
    toggle.textContent = now === "dark" ? "☀" : "☾";
  };
  toggle.addEventListener("click", () => {
    const next = document.documentElement.dataset["theme"] === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(place, next);
    } catch {
      document.documentElement.dataset["theme"] = next;
    }
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

void begin();
