// The page of one function: what it is, a form to call it, and what came of its calls.

import { type Answer, type CallRequest, call, errorInfo, headersOf, newTrace } from "./call.ts";
import { LANGUAGES, type Language, program } from "./call_as_code.ts";
import { ChartCard } from "./charts.ts";
import { announce, button, copy, documentation, fill, h, newId, visible } from "./dom.ts";
import { ArgumentsForm, FieldError, complain, forgive, randomUuid, valueField } from "./form.ts";
import { FrameCall } from "./frames.ts";
import type { History, PastCall } from "./history.ts";
import { type Json, JsonError, JsonNumber, type JsonObject, isObject, list, parse, parseShown, write } from "./json.ts";
import { jsonView } from "./json_view.ts";
import { type Live, byteSize, count, duration, rate } from "./live.ts";
import type { Schemas } from "./schema.ts";
import { type FunctionInfo, type Service, endpoint, urlOf } from "./service.ts";

/** What all functions of the page have in common. */
export interface Parts {
  service: Service;
  schemas: Schemas;
  live: Live;
  history: History;
  /** Until a connection of frames could not be opened. */
  offersFrames: boolean;
  offersPaths: boolean;
  /** What the user has typed. It is in memory only. */
  headers: [string, string][];
  /** What was entered for functions that are not shown now, by their names. */
  drafts: Map<string, Draft>;
}

interface Draft {
  form: ArgumentsForm;
  json: string;
  isJson: boolean;
  items: Json[];
  timeout: string;
  /** The user's own key. */
  key: string | undefined;
}

/** Headers that `fetch` leaves out without a word. */
const FORBIDDEN = /^(cookie|host|origin|referer|connection|content-length|date|dnt|expect|keep-alive|te|trailer|transfer-encoding|upgrade|via|accept-charset|accept-encoding|access-control-request-.*|proxy-.*|sec-.*)$/i;

/** Items that are shown at once. Earlier ones of a long stream go. */
const MOST_ITEMS = 1000;
const MOST_KEPT = 10_000;

export class FunctionView {
  readonly element = h("article", { class: "function" });
  private form: ArgumentsForm;
  private readonly formPlace = h("div", {});
  private readonly json = h("textarea", { class: "code", rows: 8, spellcheck: "false", "aria-label": "the arguments as JSON" });
  private isJson = false;
  private readonly complaint = h("p", { class: "complaint", role: "alert", hidden: true });
  private readonly reply = h("section", { class: "card reply", "aria-label": "reply", hidden: true });
  private readonly callButton: HTMLButtonElement;
  private readonly headersPlace = h("div", { class: "items" });
  private readonly headerRows: { name: HTMLInputElement; value: HTMLInputElement }[] = [];
  private readonly timeout = h("input", { type: "text", inputmode: "numeric", placeholder: "30000", autocomplete: "off", class: "number" });
  private readonly key = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  private readonly codePlace = h("code", {});
  private language: Language = "curl";
  /** Whether the user has typed the key. A program has a new one for each run otherwise. */
  private hasOwnKey = false;
  private running: { cancel(): void } | undefined;
  private readonly leave: (() => void)[] = [];
  private items: Json[] = [];
  /** Items that are sent by hand go over frames. */
  private byFrames: boolean;
  private readonly textArguments: Set<string>;

  constructor(
    private readonly parts: Parts,
    private readonly called: FunctionInfo,
  ) {
    this.byFrames = parts.offersFrames && (called.takes !== undefined || !parts.offersPaths);
    const number = new JsonNumber("7");
    const isText = (schema: Json) => parts.schemas.accepts(schema, "text") && !parts.schemas.accepts(schema, number);
    this.textArguments = new Set(called.arguments.filter((argument) => isText(argument.schema)).map((argument) => argument.name));
    const draft = parts.drafts.get(called.name);
    this.form = draft?.form ?? new ArgumentsForm(parts.schemas, called.arguments);
    this.callButton = h("button", { type: "submit", class: "button primary" }, this.callLabel());
    fill(this.element, this.heading(), this.figures(), this.callCard(), this.reply, this.codeCard(), this.typesCard(), this.historyCard());
    if (called.keyed) this.newKey();
    this.timeout.addEventListener("input", () => forgive(this.timeout));
    this.key.addEventListener("input", () => {
      forgive(this.key);
      this.hasOwnKey = this.key.value.trim() !== "";
    });
    if (draft) this.restore(draft);
    this.changed();
  }

  private restore(draft: Draft): void {
    this.items = draft.items;
    this.showItems();
    this.timeout.value = draft.timeout;
    if (draft.key !== undefined) {
      this.key.value = draft.key;
      this.hasOwnKey = true;
    }
    this.json.value = draft.json;
    if (draft.isJson) this.setJson(true);
  }

  private newKey(): void {
    this.key.value = randomUuid();
    this.hasOwnKey = false;
  }

  private callLabel(): string {
    return this.byFrames && this.called.takes ? "Open stream" : "Call";
  }

  /** Ends what the view does in the background. */
  close(): void {
    this.running?.cancel();
    const { form, isJson, items } = this;
    this.parts.drafts.set(this.called.name, { form, json: this.json.value, isJson, items, timeout: this.timeout.value, key: this.hasOwnKey ? this.key.value : undefined });
    for (const leave of this.leave) leave();
  }

  /** Shows these arguments in the form, or as JSON where the form can't. */
  show(args: JsonObject, items?: Json[]): void {
    this.setJson(false);
    try {
      this.form.write(args);
    } catch (why) {
      this.json.value = write(args, true);
      this.setJson(true);
      this.complain(why instanceof Error ? `This is shown as JSON: ${why.message}.` : String(why));
    }
    if (items) this.items = [...items];
    this.showItems();
    this.changed();
  }

  focusForm(): void {
    (this.formPlace.querySelector<HTMLElement>("input, select, textarea") ?? this.callButton).focus();
  }

  submit(): void {
    if (!this.running) void this.start();
  }

  // What it is.

  private heading(): HTMLElement {
    const { called } = this;
    const flag = (label: string, title: string, tone = "") => h("span", { class: `badge ${tone}`, title }, label);
    return h("header", { class: "function-head" },
      h("div", { class: "row wrap" },
        h("h1", { tabindex: -1 }, visible(called.name)),
        called.deprecated !== undefined ? flag("deprecated", called.deprecated, "warn") : null,
        called.readonly ? flag("readonly", "It changes nothing.", "good") : called.idempotent ? flag("idempotent", "It may run twice.", "good") : null,
        called.keyed ? flag("keyed", "It needs an idempotency key.") : null,
        called.takes ? flag("takes a stream", "Its items are sent one by one.", "stream") : null,
        called.streams ? flag("returns a stream", "Its items come one by one.", "stream") : null,
        called.priority !== "default" ? flag(`priority ${called.priority}`, "") : null,
        called.timeoutMs ? flag(`${called.timeoutMs} ms`, "its longest time") : null),
      h("pre", { class: "signature", tabindex: 0, "aria-label": "signature" }, h("code", {}, signature(called.signature))),
      called.deprecated ? h("p", { class: "notice warn" }, `Deprecated: ${visible(called.deprecated)}`) : null,
      called.doc ? documentation(called.doc) : h("p", { class: "quiet" }, "It has no documentation."),
      h("p", { class: "quiet small" }, visible(called.source), called.aliases.length > 0 ? ` · also ${called.aliases.map(visible).join(", ")}` : ""));
  }

  private figures(): HTMLElement {
    const cards = { calls: new ChartCard("calls/s"), errors: new ChartCard("errors/s"), latency: new ChartCard("p50"), flight: new ChartCard("in flight") };
    const strip = h("section", { class: "charts", "aria-label": "live figures" }, Object.values(cards).map((card) => card.element));
    const totals = h("p", { class: "quiet small totals" });
    const show = (): void => {
      const { live } = this.parts;
      const { called } = this;
      const own = live.latest?.functions.get(called.name);
      strip.hidden = own === undefined;
      totals.hidden = own === undefined;
      if (!own) return;
      const [now, course] = [live.rates(called.name), live.course(called.name)];
      cards.calls.show(rate(now.callsPerSecond), `${count(own.calls)} in all`, [{ values: course.map((one) => one.callsPerSecond), tone: "main" }]);
      cards.errors.show(rate(now.errorsPerSecond), `${count(own.errors)} in all`, [{ values: course.map((one) => one.errorsPerSecond), tone: "error" }]);
      cards.latency.show(duration(now.p50), `p99 ${duration(now.p99)}`, [{ values: course.map((one) => one.p99), tone: "slow" }, { values: course.map((one) => one.p50), tone: "main" }]);
      cards.flight.show(String(own.inFlight), own.shed > 0 ? `${count(own.shed)} shed` : "", [{ values: course.map((one) => one.inFlight), tone: "main" }]);
      totals.textContent = own.byCode.length > 0 ? `Errors since the start: ${own.byCode.map(([code, many]) => `${code} ${many}`).join(", ")}` : "";
    };
    this.leave.push(this.parts.live.listen(show));
    show();
    return h("div", {}, strip, totals);
  }

  // The form.

  private callCard(): HTMLElement {
    const { called } = this;
    fill(this.formPlace, this.form.element, this.json);
    this.json.hidden = true;
    if (called.takes) fill(this.itemsHolder, this.byFrames ? h("p", { class: "quiet small" }, "Items are sent after ", h("strong", {}, this.callLabel()), ".") : this.itemsPart());
    const mode = (label: string, json: boolean) => {
      const radio = h("input", { type: "radio", name: "mode", value: label, checked: !json, change: () => this.switchTo(json) });
      return h("label", { class: "segment" }, radio, h("span", {}, label));
    };
    const form = h("form", { class: "card call", novalidate: true, "aria-label": `call ${visible(called.name)}`, submit: (event: Event) => {
      event.preventDefault();
      if (this.running) this.running.cancel();
      else this.submit();
    } },
      h("div", { class: "card-head" }, h("h2", {}, "Arguments"), h("div", { class: "segments", role: "radiogroup", "aria-label": "how the arguments are entered" }, mode("Form", false), mode("JSON", true))),
      this.formPlace, called.arguments.length === 0 ? h("p", { class: "quiet" }, called.takes ? "It takes no arguments besides its stream." : "It takes no arguments.") : null,
      this.itemsHolder,
      called.keyed ? this.keyPart() : null,
      this.optionsPart(), this.complaint,
      h("div", { class: "actions" }, this.callButton,
        button("Copy link", (event) => this.copyLink(event.currentTarget as HTMLElement), { title: "a link to this function with these arguments" }),
        button("Reset", () => this.reset()),
        h("span", { class: "quiet small hint" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter"), " calls, ", h("kbd", {}, "Esc"), " leaves a field")));
    for (const event of ["input", "change"]) form.addEventListener(event, () => this.changed());
    form.addEventListener("click", () => queueMicrotask(() => this.changed()));
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.submit();
      } else if (event.key === "Enter" && !event.shiftKey && event.target instanceof HTMLInputElement) {
        // As in forms of HTML.
        event.preventDefault();
        this.submit();
      }
    });
    this.json.addEventListener("input", () => {
      this.complaint.hidden = true;
    });
    return form;
  }

  private keyPart(): HTMLElement {
    const id = newId();
    this.key.id = id;
    return h("div", { class: "field line" }, h("div", { class: "field-head" }, h("label", { class: "field-name", for: id }, "idempotency key"), h("span", { class: "required" }, "*")),
      h("div", { class: "control" }, h("div", { class: "with-button" }, this.key, button("new", () => {
        this.newKey();
        forgive(this.key);
        this.changed();
      }, { class: "button small", "aria-label": "a new idempotency key" }))));
  }

  private optionsPart(): HTMLElement {
    const ids = [newId(), newId()];
    this.timeout.id = ids[0] ?? "";
    const keyed = this.called.keyed;
    if (!keyed) this.key.id = ids[1] ?? "";
    const insert = (name: string, value: string): HTMLInputElement => {
      const row = { name: h("input", { type: "text", placeholder: "authorization", autocomplete: "off", spellcheck: "false", "aria-label": "name of a header" }), value: h("input", { type: "text", placeholder: "Bearer …", autocomplete: "off", spellcheck: "false", "aria-label": "value of a header" }) };
      [row.name.value, row.value.value] = [name, value];
      for (const input of [row.name, row.value]) input.addEventListener("input", () => forgive(input));
      const element = h("div", { class: "item entry" }, h("div", { class: "control" }, row.name), h("div", { class: "control grow" }, row.value), button("✕", () => {
        this.headerRows.splice(this.headerRows.indexOf(row), 1);
        element.remove();
        this.changed();
        add.focus();
      }, { class: "button icon", "aria-label": "remove this header" }));
      this.headerRows.push(row);
      this.headersPlace.append(element);
      return row.name;
    };
    const add = button("+ header", () => insert("", "").focus(), { class: "button small" });
    for (const [name, value] of this.parts.headers) insert(name, value);
    return h("details", { class: "options", open: this.parts.headers.length > 0 }, h("summary", {}, "Headers, time-out", keyed ? "" : ", idempotency key"),
      h("div", { class: "fields" },
        h("div", { class: "field" }, h("div", { class: "field-head" }, h("span", { class: "field-name" }, "headers"), h("span", { class: "quiet" }, "sent with each call of this page, and not stored")), this.headersPlace, h("div", { class: "row" }, add)),
        h("div", { class: "field line" }, h("div", { class: "field-head" }, h("label", { class: "field-name", for: ids[0] }, "time-out"), h("span", { class: "field-type" }, "ms")), h("div", { class: "control" }, this.timeout)),
        keyed ? null : h("div", { class: "field line" }, h("div", { class: "field-head" }, h("label", { class: "field-name", for: ids[1] }, "idempotency key")), h("div", { class: "control" }, this.key))));
  }

  private readonly itemsHolder = h("div", { class: "items" });
  private readonly itemsPlace = h("ol", { class: "stream-items sent", "aria-label": "items to send" });

  /** The items of a stream that is sent as one body, where there are no frames. */
  private itemsPart(): HTMLElement {
    const takes = this.called.takes;
    const field = valueField(this.parts.schemas, takes?.schema ?? true, takes?.name ?? "item");
    const add = button("Add item", () => {
      const item = this.readField(() => field.read() ?? null);
      if (item === undefined) return;
      this.items.push(item);
      this.showItems();
      const input = field.element.querySelector<HTMLInputElement>("input, textarea");
      input?.focus();
      input?.select();
    });
    const addByEnter = (event: KeyboardEvent): void => {
      if (event.key !== "Enter" || event.ctrlKey || event.metaKey || !(event.target instanceof HTMLInputElement)) return;
      event.preventDefault();
      event.stopPropagation();
      add.click();
    };
    return h("div", { class: "field block items", keydown: addByEnter }, h("div", { class: "field-head" }, h("span", { class: "field-name" }, visible(takes?.name ?? "items")), h("span", { class: "field-type" }, "a stream, sent as one body")),
      this.itemsPlace, field.element, h("div", { class: "row" }, add));
  }

  private showItems(): void {
    fill(this.itemsPlace, this.items.map((item, at) => h("li", {}, jsonView(item, true), button("✕", () => {
      this.items.splice(at, 1);
      this.showItems();
    }, { class: "button icon", "aria-label": `remove item ${at}` }))));
  }

  private switchTo(json: boolean): void {
    this.complaint.hidden = true;
    if (json) {
      try {
        this.json.value = write(this.form.read(), true);
      } catch (why) {
        if (!(why instanceof FieldError)) throw why;
        // What can't be read yet starts empty.
        if (this.json.value === "") this.json.value = "{}";
      }
      this.setJson(true);
      this.json.focus();
      return;
    }
    const args = this.readField(() => this.readJson());
    if (args === undefined) return this.setJson(true);
    try {
      this.form.write(args);
      this.setJson(false);
    } catch (why) {
      this.setJson(true);
      this.complain(why instanceof Error ? `The form can't show this: ${why.message}.` : String(why));
    }
  }

  private setJson(on: boolean): void {
    this.isJson = on;
    this.json.hidden = !on;
    this.form.element.hidden = on;
    this.json.rows = Math.min(24, Math.max(6, this.json.value.split("\n").length));
    for (const radio of this.element.querySelectorAll<HTMLInputElement>('input[name="mode"]')) radio.checked = (radio.value === "JSON") === on;
    this.changed();
  }

  private reset(): void {
    this.form = new ArgumentsForm(this.parts.schemas, this.called.arguments);
    fill(this.formPlace, this.form.element, this.json);
    this.json.value = "";
    this.items = [];
    this.showItems();
    this.complaint.hidden = true;
    if (this.called.keyed) this.newKey();
    this.setJson(false);
    this.focusForm();
  }

  private readJson(): JsonObject {
    const given = this.json.value.trim() === "" ? new Map<string, Json>() : parse(this.json.value);
    // By position, as curl sends them.
    if (Array.isArray(given)) {
      if (given.length > this.called.arguments.length) throw new FieldError(`the function takes ${this.called.arguments.length} arguments`, this.json);
      return new Map(given.map((value, at) => [this.called.arguments[at]?.name ?? "", value]));
    }
    if (!isObject(given)) throw new FieldError("expected an object of arguments by name, or an array by position", this.json);
    return given;
  }

  private readArgs(): JsonObject {
    return this.isJson ? this.readJson() : this.form.read();
  }

  /** What `read` returns. If the user has to mend something, it is focused. */
  private readField<T>(read: () => T): T | undefined {
    try {
      const value = read();
      this.complaint.hidden = true;
      return value;
    } catch (why) {
      if (why instanceof JsonError) {
        this.complain(`Not JSON: ${why.message}.`);
        this.json.focus();
        this.json.setSelectionRange(why.at, Math.min(why.at + 1, this.json.value.length));
      } else if (why instanceof FieldError) {
        this.complain(`${why.path === "" ? nameOf(why.input) : `${visible(why.path)}: `}${why.message}`);
        // What is folded can't be focused.
        why.input?.closest("details")?.setAttribute("open", "");
        why.input?.focus();
      } else throw why;
      return undefined;
    }
  }

  private complain(message: string): void {
    this.complaint.textContent = message;
    this.complaint.hidden = false;
  }

  private headers(): [string, string][] {
    return this.headerRows.map(({ name, value }): [string, string] => [name.value.trim(), value.value]).filter(([name]) => name !== "");
  }

  /** Whether the headers, the time-out and the key can be sent. */
  private checkOptions(): void {
    for (const { name, value } of this.headerRows) {
      const given = name.value.trim();
      if (given === "") continue;
      if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(given)) complain(name, `\`${given}\` can't be one, expected letters, digits and \`-\``);
      if (FORBIDDEN.test(given)) complain(name, `a browser lets no page set \`${given}\`; copy the call as a program`);
      if (/[^\t\x20-\x7e\x80-\xff]/.test(value.value)) complain(value, "expected visible ASCII characters");
    }
    if (!/^\d{0,9}$/.test(this.timeout.value.trim())) complain(this.timeout, "expected a whole number of milliseconds");
    if (!/^[\x21-\x7e]{0,255}$/.test(this.key.value.trim())) complain(this.key, "expected at most 255 visible ASCII characters, without spaces");
  }

  private options(): { headers: [string, string][]; key: string | undefined; timeoutMs: string | undefined } {
    const timeout = this.timeout.value.trim();
    return { headers: this.headers(), key: this.key.value.trim() || undefined, timeoutMs: /^\d{1,9}$/.test(timeout) ? timeout : undefined };
  }

  // As code, and as a link.

  private codeCard(): HTMLElement {
    const tabs = LANGUAGES.map((language) => h("label", { class: "segment" },
      h("input", { type: "radio", name: "language", value: language, checked: language === this.language, change: () => {
        this.language = language;
        this.changed();
      } }), h("span", {}, language)));
    const code = h("pre", { class: "program", tabindex: 0, "aria-label": "this call as a program" }, this.codePlace);
    return h("section", { class: "card", "aria-label": "as code" }, h("div", { class: "card-head" }, h("h2", {}, "As code"),
      h("div", { class: "segments", role: "radiogroup", "aria-label": "language" }, tabs),
      button("Copy", (event) => void copy(this.codePlace.textContent ?? "", event.currentTarget as HTMLElement), { class: "button small", id: "copy-code" })), code);
  }

  private changed(): void {
    this.parts.headers.splice(0, Infinity, ...this.headers());
    let args: JsonObject;
    try {
      args = this.isJson ? this.readJson() : quietly(() => this.form.read(), this.element);
    } catch {
      this.codePlace.textContent = "# The arguments are not complete yet.\n";
      return;
    }
    try {
      quietly(() => this.checkOptions(), this.element);
    } catch (why) {
      this.codePlace.textContent = `# The call can't be sent: ${nameOf(why instanceof FieldError ? why.input : undefined)}${why instanceof Error ? why.message : why}.\n`;
      return;
    }
    const { headers, key, timeoutMs } = this.options();
    this.codePlace.textContent = program({ called: this.called, args, textArguments: this.textArguments, headers, key: this.called.keyed && !this.hasOwnKey ? undefined : key, timeoutMs }, this.language);
  }

  private copyLink(from: HTMLElement): void {
    const args = this.readField(() => this.readArgs());
    if (args === undefined) return;
    const query = args.size > 0 ? `?args=${encodeURIComponent(write(args))}` : "";
    const hash = `#/f/${encodeURIComponent(this.called.name)}${query}`;
    history.replaceState(null, "", hash);
    void copy(`${endpoint}${hash}`, from);
  }

  // The call.

  private async start(): Promise<void> {
    const args = this.readField(() => {
      const args = this.readArgs();
      this.checkOptions();
      return args;
    });
    if (args === undefined) return this.outdateReply();
    const request: CallRequest = { called: this.called, args, items: this.called.takes ? this.items : undefined, textArguments: this.textArguments, ...this.options(), ...newTrace() };
    if (this.byFrames) return this.startFrames(request);
    const abort = new AbortController();
    const view = new ReplyView(this.reply, this.called, request.traceId, request.timeoutMs);
    this.begin(() => abort.abort(), this.called.streams ? "Stop" : "Cancel");
    try {
      const answer = await call(request, { item: (value) => view.item(value) }, abort.signal);
      view.answer(answer);
      this.remember(request, answer, view);
    } catch (why) {
      const ended = !abort.signal.aborted ? "no answer" : this.called.streams ? "stopped" : "cancelled";
      view.failed(ended, { stopped: "Stopped.", cancelled: "Cancelled. The function may have run.", "no answer": `No answer: ${why instanceof Error ? why.message : String(why)}. Is the server running?` }[ended]);
      this.remember(request, undefined, view, ended);
    }
    this.end();
  }

  /** A stream that is sent by hand. */
  private startFrames(request: CallRequest): void {
    const view = new ReplyView(this.reply, this.called, request.traceId, request.timeoutMs);
    const began = performance.now();
    const sent: Json[] = [];
    const takes = this.called.takes;
    const field = valueField(this.parts.schemas, takes?.schema ?? true, takes?.name ?? "item");
    const sentPlace = h("ol", { class: "stream-items sent", "aria-label": "items sent", tabindex: 0 });
    const send = h("button", { type: "submit", class: "button primary" }, "Send item");
    const finish = button("End stream", () => {
      connection.end();
      sending.classList.add("over");
      send.disabled = true;
      finish.disabled = true;
      announce("the stream is ended, waiting for the reply");
    });
    const sending = h("form", { class: "sending", novalidate: true, "aria-label": "send an item", submit: (event: Event) => {
      event.preventDefault();
      const item = this.readField(() => field.read() ?? null);
      if (item === undefined) return;
      sent.push(item);
      connection.send(write(item));
      sentPlace.append(h("li", {}, jsonView(item, true)));
      sentPlace.scrollTop = sentPlace.scrollHeight;
      const input = field.element.querySelector<HTMLInputElement>("input, textarea");
      input?.focus();
      input?.select();
    }, keydown: (event: KeyboardEvent) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      send.click();
    } }, h("h3", {}, "Sent"), sentPlace, field.element, h("div", { class: "row" }, send, finish));
    const done = (answer: Answer): void => {
      sending.classList.add("over");
      send.disabled = true;
      finish.disabled = true;
      view.answer(answer);
      this.remember(takes ? { ...request, items: sent } : request, answer, view);
      this.end();
    };
    const of = (isOk: boolean, value: Json | undefined, body: string, status: string): Answer => ({ status, isOk, ms: performance.now() - began, bytes: view.bytes + new Blob([body]).size, traceId: request.traceId, way: "frames", headers: [], value, body });
    const connection = new FrameCall(
      { name: this.called.name, args: write(request.args), metadata: headersOf(request), timeoutMs: Number(request.timeoutMs ?? 0), takes: takes !== undefined, streams: this.called.streams },
      {
        opened: () => takes && field.element.querySelector<HTMLElement>("input, select, textarea")?.focus(),
        item: (text) => {
          view.bytes += new Blob([text]).size;
          view.item(parseShown(text));
        },
        value: (text) => done(of(true, parseShown(text), text, "ok")),
        ended: () => done(of(true, undefined, "", "ok")),
        failed: (error, own) => {
          const value = parse(error);
          if (own !== undefined && isObject(value)) value.set("data", parseShown(own));
          done(of(false, value, error, errorInfo(value)?.code ?? "error"));
        },
        broken: async (why, wasSent) => {
          const isSentElsewise = !wasSent && this.parts.offersPaths && (await isReached());
          if (isSentElsewise) return this.goOnWithoutFrames(sent);
          const failed: JsonObject = new Map<string, Json>([["code", "unavailable"], ["message", wasSent ? why : `${why}, and nothing was sent`], ["executed", wasSent ? "unknown" : "no"]]);
          done(of(false, failed, "", "unavailable"));
        },
        full: () => {
          send.disabled = true;
          sending.classList.add("over");
          announce("the function takes no more items");
        },
      },
    );
    if (takes) view.sending(sending);
    this.begin(() => {
      connection.cancel();
      const ended = connection.wasSent ? "stopped" : "cancelled";
      view.failed(ended, connection.wasSent ? "Stopped. The function may have run." : "Cancelled. Nothing was sent.");
      sending.classList.add("over");
      send.disabled = true;
      finish.disabled = true;
      this.remember({ ...request, items: sent }, undefined, view, ended);
      this.end();
    }, "Stop");
  }

  /** A proxy may pass on requests, and no upgrade to frames. What has been entered stays. */
  private goOnWithoutFrames(sent: Json[]): void {
    this.parts.offersFrames = false;
    this.byFrames = false;
    this.end();
    this.reply.hidden = true;
    this.items = sent;
    const why = "No connection of frames could be opened, and nothing was sent. A proxy may not forward `Upgrade`. The items are collected here, and sent as one body.";
    fill(this.itemsHolder, h("p", { class: "notice warn" }, why), this.itemsPart());
    this.showItems();
    this.itemsHolder.querySelector<HTMLElement>(".control input, .control select, .control textarea")?.focus();
    announce(why);
  }

  /** What is shown is not of the call that was refused. */
  private outdateReply(): void {
    this.reply.classList.add("earlier");
    const title = this.reply.querySelector("h2");
    if (title) title.textContent = "Reply to an earlier call";
  }

  private begin(cancel: () => void, label: string): void {
    this.running = { cancel };
    this.callButton.textContent = label;
    this.callButton.classList.add("running");
    announce("called");
  }

  private end(): void {
    this.running = undefined;
    this.callButton.textContent = this.callLabel();
    this.callButton.classList.remove("running");
  }

  /** Without an answer, `ended` says how the call ended. */
  private remember(request: CallRequest, answer: Answer | undefined, view: ReplyView, ended = ""): void {
    // The same key again would be answered with the same reply.
    if (this.called.keyed && answer?.isOk) {
      this.newKey();
      this.changed();
    }
    const reply = answer?.value ?? (view.items.length > 0 ? view.items : undefined);
    const code = answer ? (answer.isOk ? "ok" : (errorInfo(answer.value)?.code ?? answer.status)) : ended;
    this.parts.live.keep({ kind: "page", name: this.called.name, code, endedMs: Date.now(), durationUs: (answer?.ms ?? view.ms) * 1000, way: answer?.way ?? "", url: undefined, attempts: 1, traceId: request.traceId, spanId: request.spanId, parentId: undefined });
    this.parts.history.add({
      name: this.called.name,
      args: write(request.args),
      items: request.items && request.items.length > 0 ? write(request.items) : undefined,
      at: Date.now(),
      status: answer?.isOk ? answer.status : code,
      isOk: answer?.isOk ?? false,
      ms: answer?.ms ?? view.ms,
      reply: reply === undefined ? undefined : write(reply),
      traceId: request.traceId,
    });
  }

  // What is known of its types, and of its calls.

  private typesCard(): HTMLElement {
    const { called, parts } = this;
    const row = (name: string, type: string, schema: Json) => h("tr", {}, h("th", { scope: "row" }, visible(name)), h("td", {}, h("code", {}, visible(type))), h("td", {}, h("details", {}, h("summary", {}, visible(parts.schemas.notation(schema))), jsonView(withDefinitions(schema, parts)))));
    const rows = called.arguments.map((argument) => row(argument.name, argument.type, argument.schema));
    if (called.takes) rows.push(row(`${called.takes.name} (each item)`, called.takes.type, called.takes.schema));
    rows.push(row(called.streams ? "returns (each item)" : "returns", called.returns, called.returnsSchema));
    if (called.error !== undefined) rows.push(row("its own error", "", called.error));
    return h("details", { class: "card fold" }, h("summary", {}, h("h2", {}, "Types")), h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "types" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "name"), h("th", { scope: "col" }, "type"), h("th", { scope: "col" }, "schema"))), h("tbody", {}, rows))));
  }

  private historyCard(): HTMLElement {
    const place = h("ol", { class: "history" });
    const card = h("section", { class: "card", "aria-label": "history" }, h("div", { class: "card-head" }, h("h2", {}, "History"), h("span", { class: "quiet small" }, "of this tab"), button("Clear", () => this.parts.history.clear(), { class: "button small" })), place);
    const show = (): void => {
      const own = this.parts.history.calls.filter((past) => past.name === this.called.name).slice(0, 20);
      card.hidden = own.length === 0;
      fill(place, own.map((past) => this.pastCall(past)));
    };
    this.leave.push(this.parts.history.listen(show));
    show();
    return card;
  }

  private pastCall(past: PastCall): HTMLElement {
    const restore = h("button", { type: "button", class: "past", click: () => {
      const args = parse(past.args);
      if (isObject(args)) this.show(args, past.items === undefined ? undefined : list(parse(past.items)));
      this.element.querySelector(".call")?.scrollIntoView({ block: "start" });
      announce("restored");
    } },
      h("span", { class: `status ${past.isOk ? "good" : "bad"}` }, visible(past.status)), h("code", { class: "past-args" }, visible(past.args)),
      h("span", { class: "quiet" }, `${time(past.ms)} · ${new Date(past.at).toLocaleTimeString()}`));
    return h("li", {}, restore, past.reply === undefined ? null : h("details", {}, h("summary", {}, "reply"), jsonView(parseShown(past.reply))));
  }
}

/** Whether the server takes this page for one of another site. It does so if `Host` is not what the browser has sent. */
function isOwnOrigin(answer: Answer, message: string): boolean {
  return answer.status.startsWith("403") && message.includes("is another site") && message.includes(location.origin);
}

/** Whether the server answers to this page. */
async function isReached(): Promise<boolean> {
  try {
    return (await fetch(urlOf("!live"), { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/** Reads without showing what is wrong. */
function quietly<T>(read: () => T, within: HTMLElement): T {
  const before = new Set(within.querySelectorAll(".complaint"));
  try {
    return read();
  } finally {
    for (const complaint of within.querySelectorAll(".complaint")) {
      if (before.has(complaint)) continue;
      const input = within.querySelector(`[aria-describedby="${complaint.id}"]`);
      input?.removeAttribute("aria-invalid");
      input?.removeAttribute("aria-describedby");
      complaint.remove();
    }
  }
}

function nameOf(input: HTMLElement | undefined): string {
  const id = input?.getAttribute("aria-labelledby");
  const text = id ? document.getElementById(id)?.textContent : input instanceof HTMLInputElement ? input.labels?.[0]?.textContent : undefined;
  const label = input?.getAttribute("aria-label") ?? text;
  return label ? `${label}: ` : "";
}

function withDefinitions(schema: Json, parts: Parts): Json {
  const needed = new Map<string, Json>();
  const visit = (value: Json): void => {
    if (Array.isArray(value)) return value.forEach(visit);
    if (!isObject(value)) return;
    for (const [name, inner] of value) {
      if (name !== "$ref" || typeof inner !== "string") visit(inner);
      else {
        const resolved = parts.schemas.resolve(value);
        if (resolved.name !== undefined && !needed.has(resolved.name)) {
          needed.set(resolved.name, resolved.schema);
          visit(resolved.schema);
        }
      }
    }
  };
  visit(schema);
  if (needed.size === 0 || !isObject(schema)) return schema;
  return new Map([...schema, ["$defs", needed]]);
}

/** A signature in colours. */
export function signature(text: string): (Node | string)[] {
  return visible(text).split(/("(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z0-9_.]*|->|-?\b\d[\w.]*)/).map((part, at) => {
    if (at === 1) return h("span", { class: "sig-name" }, part);
    if (/^("|-?\d|(true|false|null)$)/.test(part)) return h("span", { class: "sig-default" }, part);
    if (part === "->") return h("span", { class: "sig-arrow" }, part);
    if (/^[A-Z]/.test(part) || /^(u|i)(8|16|32|64|128|size)$|^(f32|f64|bool|str|char)$/.test(part)) return h("span", { class: "sig-type" }, part);
    return part;
  });
}

function time(ms: number): string {
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

/** What came of a call, and what is still coming. */
class ReplyView {
  /** The last items that came, for the history and to copy. */
  readonly items: Json[] = [];
  private came = 0;
  private readonly arrived: { value: Json; number: number; ms: number }[] = [];
  private frame = 0;
  bytes = 0;
  private readonly head = h("div", { class: "reply-head" });
  private readonly list = h("ol", { class: "stream-items came", "aria-label": "items that came", tabindex: 0 });
  private readonly counter = h("span", { class: "quiet" });
  private readonly body = h("div", { class: "reply-body" });
  private readonly began = performance.now();

  constructor(
    private readonly place: HTMLElement,
    private readonly called: FunctionInfo,
    private readonly traceId: string,
    private readonly timeoutMs: string | undefined,
  ) {
    place.hidden = false;
    place.classList.remove("earlier");
    fill(this.head, h("h2", {}, "Reply"), h("span", { class: "status busy" }, called.streams || called.takes ? "open" : "waiting"));
    fill(place, this.head, this.body);
    if (called.streams) this.body.append(h("div", { class: "row" }, h("h3", {}, "Received"), this.counter), this.list);
    this.scroll();
  }

  private scroll(): void {
    this.place.scrollIntoView({ block: "nearest" });
  }

  /** How long ago the call began. */
  get ms(): number {
    return performance.now() - this.began;
  }

  sending(form: HTMLElement): void {
    this.body.prepend(form);
  }

  item(value: Json): void {
    this.items.push(value);
    if (this.items.length > MOST_KEPT) this.items.shift();
    this.arrived.push({ value, number: this.came, ms: this.ms });
    if (this.arrived.length > 2 * MOST_ITEMS) this.arrived.splice(0, MOST_ITEMS);
    this.came += 1;
    // A fast stream is drawn once for each picture of the screen.
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.draw());
  }

  /** Shows the items that have come since it was called last. */
  private draw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (this.arrived.length === 0) return;
    const atEnd = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40;
    this.list.append(...this.arrived.slice(-MOST_ITEMS).map(({ value, number, ms }) => h("li", { value: number }, jsonView(value, true), h("span", { class: "item-time quiet" }, `+${Math.round(ms)} ms`))));
    this.arrived.length = 0;
    while (this.list.childElementCount > MOST_ITEMS) this.list.firstElementChild?.remove();
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
    const shown = this.list.childElementCount;
    this.counter.textContent = `${this.came} ${this.came === 1 ? "item" : "items"}${shown < this.came ? `, the last ${shown} are shown` : ""}`;
  }

  /** The call ended without an answer, as `ended` says. */
  failed(ended: string, message: string): void {
    this.ended(h("span", { class: `status ${ended === "no answer" ? "bad" : "warn"}` }, ended), [time(this.ms)]);
    this.body.append(h("p", { class: "notice warn" }, message));
    this.scroll();
    announce(message);
  }

  private ended(status: HTMLElement, facts: string[], text = ""): void {
    this.draw();
    fill(this.head, h("h2", {}, "Reply"), status, h("span", { class: "quiet" }, facts.join(" · ")),
      h("a", { class: "quiet trace-link", href: `#/trace/${this.traceId}`, title: this.traceId }, `trace ${this.traceId.slice(0, 8)}…`),
      text === "" && this.items.length === 0 ? null : button(this.items.length < this.came ? `Copy the last ${this.items.length}` : "Copy", (event) => void copy(text === "" ? write(this.items, true) : text, event.currentTarget as HTMLElement), { class: "button small" }));
  }

  answer(answer: Answer): void {
    const text = answer.value === undefined ? answer.body : write(answer.value, true);
    const error = answer.isOk ? undefined : errorInfo(answer.value);
    // The status of a stream says how it began, and statuses are fewer than codes.
    const way = error && answer.way === "HTTP" ? `HTTP ${answer.status.split(" ")[0]}` : answer.way;
    this.ended(h("span", { class: `status ${answer.isOk ? "good" : "bad"}` }, visible(error?.code ?? answer.status)), [time(answer.ms), byteSize(answer.bytes), way], text);
    if (error) {
      const fact = (name: string, value: string | undefined, said: string) => (value === undefined ? null : [h("dt", {}, name), h("dd", {}, h("code", {}, visible(value)), " ", h("span", { class: "quiet" }, said))]);
      const ran = { yes: "the function ran", no: "the function did not run, so the call may be repeated", unknown: "it is not known whether the function ran" }[error.executed ?? ""] ?? "";
      this.body.append(h("div", { class: "error-box" }, h("p", { class: "error-message" }, visible(error.message)),
        h("dl", { class: "facts" }, fact("code", error.code, error.isOwn ? "an error of the function" : ""), fact("executed", error.executed, ran), fact("limit", error.limit, "the limit that was reached"), fact("retry after", error.retryAfterMs && `${error.retryAfterMs} ms`, "")),
        error.code === "deadline_exceeded" && this.timeoutMs !== undefined ? h("p", { class: "quiet" }, `The time-out that was entered here is ${this.timeoutMs} ms.`) : null,
        isOwnOrigin(answer, error.message) ? h("p", { class: "notice warn" }, "This page is of the same site. A proxy between has changed ", h("code", {}, "Host"), ". Let it forward the name with its port; in nginx: ", h("code", {}, "proxy_set_header Host $http_host;")) : null,
        error.data === undefined ? null : [h("h3", {}, "Data"), jsonView(error.data)]));
    } else if (answer.value !== undefined) {
      this.body.append(jsonView(answer.value));
    } else if (answer.body !== "") {
      this.body.append(h("pre", {}, visible(answer.body)));
    } else if (this.called.streams) {
      this.body.append(h("p", { class: "quiet" }, answer.isOk ? "The stream is complete." : ""));
    }
    if (answer.headers.length > 0) {
      this.body.append(h("details", { class: "options" }, h("summary", {}, "Headers of the answer"), h("dl", { class: "facts" }, answer.headers.map(([name, value]) => [h("dt", {}, visible(name)), h("dd", {}, h("code", {}, visible(value)))]))));
    }
    this.scroll();
    announce(answer.isOk ? `reply, ${answer.status}` : `error, ${error?.message ?? answer.status}`);
  }
}
