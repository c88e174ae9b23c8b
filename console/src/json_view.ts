// A value as text that can be folded.

import { button, h, visible } from "./dom.ts";
import { type Json, JsonNumber, quote, write } from "./json.ts";

/** How many members are shown at once. */
const PAGE = 100;
const LONGEST_TEXT = 4000;

/** A compact one has what is short in one line. */
export function jsonView(value: Json, isCompact = false): HTMLElement {
  return h("div", { class: "json" }, node(value, undefined, true, isCompact ? 1 : 0));
}

function node(value: Json, name: string | undefined, isLast: boolean, depth: number): HTMLElement {
  const key = name === undefined ? null : [h("span", { class: "json-key" }, quote(name)), ": "];
  const comma = isLast ? "" : ",";
  const isArray = Array.isArray(value);
  if (!isArray && !(value instanceof Map)) return h("div", { class: "json-line" }, key, leaf(value), comma);
  const entries: [string | undefined, Json][] = isArray ? value.map((item) => [undefined, item]) : [...value];
  const [open, close] = isArray ? ["[", "]"] : ["{", "}"];
  if (entries.length === 0) return h("div", { class: "json-line" }, key, open + close + comma);
  const short = write(value);
  // What is short stands in one line.
  if (depth > 0 && short.length < 60 && entries.every(([, item]) => item === null || typeof item !== "object" || item instanceof JsonNumber)) {
    const parts = entries.flatMap(([inner, item], at) => [inner === undefined ? null : [h("span", { class: "json-key" }, quote(inner)), ": "], leaf(item as Json), at < entries.length - 1 ? ", " : null]);
    return h("div", { class: "json-line" }, key, open, isArray ? null : " ", parts, isArray ? null : " ", close + comma);
  }
  const body = h("div", { class: "json-body" });
  const showFrom = (first: number): void => {
    const until = Math.min(entries.length, first + PAGE);
    for (let at = first; at < until; at++) {
      const [inner, item] = entries[at] ?? [undefined, null];
      body.append(node(item, inner, at === entries.length - 1, depth + 1));
    }
    if (until < entries.length) {
      const more = button(`${entries.length - until} more`, () => {
        more.remove();
        showFrom(until);
      }, { class: "button small" });
      body.append(more);
    }
  };
  const count = `${entries.length} ${isArray ? (entries.length === 1 ? "item" : "items") : entries.length === 1 ? "member" : "members"}`;
  const details = h("details", {}, h("summary", {}, key, open, h("span", { class: "json-count" }, ` ${count} `), h("span", { class: "json-closed" }, close + comma)), body, h("div", { class: "json-line" }, close + comma));
  let isMade = false;
  const make = (): void => {
    if (!isMade) showFrom(0);
    isMade = true;
  };
  if (depth < 3 || short.length < 400) {
    details.open = true;
    make();
  }
  details.addEventListener("toggle", () => details.open && make());
  return details;
}

function leaf(value: Json): HTMLElement {
  if (value === null) return h("span", { class: "json-null" }, "null");
  if (typeof value === "boolean") return h("span", { class: "json-bool" }, String(value));
  if (value instanceof JsonNumber) return h("span", { class: "json-number" }, value.text);
  if (typeof value !== "string") return h("span", {}, visible(write(value)));
  if (value.length <= LONGEST_TEXT) return h("span", { class: "json-text" }, quote(value));
  const out = h("span", { class: "json-text" }, quote(value.slice(0, LONGEST_TEXT)).slice(0, -1), "… ");
  out.append(button(`all ${value.length} characters`, () => out.replaceChildren(quote(value)), { class: "button small" }));
  return out;
}
