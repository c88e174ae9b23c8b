// Elements. Texts become text nodes, and no text becomes HTML.

type Child = Node | string | number | null | undefined | false | Child[];
type Attributes = Record<string, string | number | boolean | null | undefined | ((event: never) => void)>;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  set(element, attributes);
  add(element, children);
  return element;
}

export function svg(tag: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(element, attributes);
  add(element, children);
  return element;
}

function set(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value as EventListener);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

function add(element: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) add(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

export function fill(element: Element, ...children: Child[]): void {
  element.replaceChildren();
  add(element, children);
}

/** Makes one tree like another, and keeps what is the same: focus, selection, places of scrolling. Listeners stay those of the first. */
export function morph(old: Element, next: Element): void {
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of [...next.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const [before, after] = [[...old.childNodes], [...next.childNodes]];
  after.forEach((child, at) => {
    const same = before[at];
    if (same === undefined) old.append(child);
    else if (same instanceof Element && child instanceof Element && same.tagName === child.tagName) morph(same, child);
    else if (same instanceof Text && child instanceof Text) {
      if (same.data !== child.data) same.data = child.data;
    } else same.replaceWith(child);
  });
  for (const child of before.slice(after.length)) child.remove();
}

let ids = 0;
export function newId(): string {
  ids += 1;
  return `i${ids}`;
}

/** Text of the service, in which characters that act are seen. */
export function visible(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (letter) => `\\u{${letter.charCodeAt(0).toString(16)}}`);
}

/** A documentation text: paragraphs, lists, code. No other markup. */
export function documentation(text: string): HTMLElement {
  const out = h("div", { class: "doc" });
  const blocks = visible(text).split(/\n{2,}/);
  for (let at = 0; at < blocks.length; at++) {
    let block = blocks[at] ?? "";
    if (block.trim() === "") continue;
    if (block.startsWith("```")) {
      while (!block.slice(3).includes("```") && at + 1 < blocks.length) block += `\n\n${blocks[++at]}`;
      out.append(h("pre", {}, h("code", {}, block.replace(/^```[^\n]*\n?/, "").replace(/\n?```[\s\S]*$/, ""))));
      continue;
    }
    const heading = /^#{1,6} (.*)$/.exec(block);
    if (heading) {
      out.append(h("p", { class: "doc-heading" }, inline(heading[1] ?? "")));
    } else if (block.split("\n").every((line) => /^\s*([-*]|\d+\.) |^\s{2,}/.test(line))) {
      const items = block.split(/\n(?=\s*(?:[-*]|\d+\.) )/);
      out.append(h("ul", {}, items.map((item) => h("li", {}, inline(item.replace(/^\s*([-*]|\d+\.) /, ""))))));
    } else {
      out.append(h("p", {}, inline(block)));
    }
  }
  return out;
}

/** Code in backticks, and what is strong. */
export function inline(text: string): Child[] {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`") && part.endsWith("`") && part.length > 2) return h("code", {}, part.slice(1, -1));
    if (part.startsWith("**") && part.endsWith("**") && part.length > 4) return h("strong", {}, part.slice(2, -2));
    return part;
  });
}

export function button(label: string, onclick: (event: Event) => void, attributes: Attributes = {}): HTMLButtonElement {
  return h("button", { type: "button", class: "button", ...attributes, click: onclick }, label);
}

const announcer = (): HTMLElement | null => document.getElementById("announcer");

/** Tells a screen reader. */
export function announce(text: string): void {
  const place = announcer();
  if (place) place.textContent = text;
}

export async function copy(text: string, from: HTMLElement): Promise<void> {
  const label = from.textContent ?? "";
  let done = "copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "off-screen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    if (!document.execCommand("copy")) done = "select and copy it";
    area.remove();
    from.focus();
  }
  from.textContent = done;
  announce(done);
  setTimeout(() => {
    from.textContent = label;
  }, 1200);
}
