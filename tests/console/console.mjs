// The console, as people use it: `console.mjs SERVER [--pictures]`, where SERVER is the program of `console_playground`.
//
// Each test has a page of its own. A test fails too if its page reports a violation of the policy, an error, or a dialog.

import { execFileSync, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import net from "node:net";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const require = createRequire(here("../../console/package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [server, ...options] = process.argv.slice(2);
const pictures = options.includes("--pictures");
const only = options.find((option) => !option.startsWith("--"));
const PATIENCE = 20_000;
const HUGE = "170141183460469231731687303715884105727";
const DIGITS = "0.123456789012345678901234567890";

const tests = {
  async "functions are listed in groups, and found by name, text and signature"(page) {
    await page.getByRole("link", { name: "countdown" }).first().waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("OrderError");
    await page.getByText(/\d+ of \d+/).waitFor();
    await hidden(page.locator("#sidebar").getByRole("link", { name: "countdown" }));
    await page.locator("#search").fill("every digit");
    await page.locator("#search").press("Enter");
    await page.getByRole("heading", { name: "numbers.echo" }).waitFor();
    await page.locator("#search").fill("xyzzy");
    await page.getByText("No function has all of these words").waitFor();
  },

  async "a nested form is filled in, sent, shown, remembered and restored"(page) {
    await open(page, "orders.place");
    await fillOrder(page);
    await callNow(page);
    await reply(page, "total_cents");
    equal(await page.locator(".reply .status").first().textContent(), "200 OK");
    const code = await page.locator(".program").textContent();
    includes(code, '"by":"pick_up"');
    includes(code, '"Card":{"number":"4111","expires":[12,29]}');
    includes(code, "idempotency-key: ");
    await page.getByRole("button", { name: "Reset" }).click();
    equal(await page.getByLabel("number", { exact: true }).count(), 0);
    await page.locator(".past").first().click();
    includes(await page.locator(".program").textContent(), '"by":"pick_up"');
    await page.getByRole("radio", { name: "JSON" }).check();
    includes(await page.getByLabel("the arguments as JSON").inputValue(), '"shop": 7');
    await page.getByRole("radio", { name: "Form" }).check();
    equal(await page.getByLabel("shop").inputValue(), "7");
  },

  async "each kind of type has a form"(page) {
    const sent = async (name, act, expected) => {
      await open(page, name);
      await act();
      includes(await page.locator(".program").textContent(), `-d '${expected}'`);
      await callNow(page);
      await page.locator(".reply .status.good").waitFor();
    };
    const setting = page.getByLabel("variant of setting");
    await sent("settings.set", async () => {
      await page.getByLabel("name", { exact: true }).fill("a");
      await setting.selectOption("Switch");
      await page.getByLabel("on", { exact: true }).selectOption("true");
    }, '{"name":"a","setting":{"type":"Switch","value":{"on":true}}}');
    await sent("settings.set", () => setting.selectOption("Unset"), '{"name":"a","setting":{"type":"Unset"}}');
    await sent("orders.find", async () => {
      await page.getByLabel("variant of key").selectOption("text");
      await page.locator(".variant textarea").fill("x");
    }, '{"key":"x"}').catch(() => page.locator(".error-box", { hasText: "no article 0" }).waitFor());
    await sent("files.inspect", async () => {
      await page.getByLabel("a file for content").setInputFiles({ name: "a", mimeType: "text/plain", buffer: Buffer.from([0, 255, 104]) });
      await page.locator(".program", { hasText: "AP9o" }).waitFor();
    }, '{"content":"AP9o"}');
    includes(await page.locator(".reply .json").textContent(), '"AP9o"');
    await sent("files.count", async () => {
      await page.getByRole("button", { name: "add an item to folders" }).click();
      await page.getByLabel("name", { exact: true }).first().fill("a");
      await page.getByLabel("name", { exact: true }).last().fill("b");
      await page.getByLabel("send parent_of").first().check();
      await page.getByLabel("name", { exact: true }).last().fill("c");
    }, '{"root":{"name":"a","folders":[{"name":"b","folders":[],"parent_of":{"name":"c","folders":[]}}]}}');
    includes(await page.locator(".reply .json").textContent(), "3");
  },

  async "items of an array change their places and go"(page) {
    await open(page, "orders.place");
    for (const article of ["1", "2", "3"]) {
      await page.getByRole("button", { name: "add an item to lines" }).click();
      await page.getByLabel("article").last().fill(article);
      await page.getByLabel("count", { exact: true }).last().fill("1");
    }
    const places = async () => page.getByLabel("article").evaluateAll((inputs) => inputs.map((input) => input.value).join());
    await page.getByRole("button", { name: "move this item up" }).last().click();
    equal(await places(), "1,3,2");
    await page.getByRole("button", { name: "move this item down" }).first().click();
    equal(await places(), "3,1,2");
    await page.getByRole("button", { name: "remove this item" }).nth(1).click();
    equal(await places(), "3,2");
  },

  async "without schemas arguments have fields by their types, and are JSON otherwise"(page, { address }) {
    await page.route("**/!schema", async (route) => {
      const document = await (await route.fetch()).json();
      for (const one of document.functions) {
        one.arguments.forEach((argument) => (argument.schema = true));
        one.returns.schema = true;
      }
      await route.fulfill({ json: { ...document, $defs: {}, note: "built without schemas" } });
    });
    await page.goto("about:blank");
    await page.goto(`http://${address}/rpc#/f/add`);
    await page.getByText("built without schemas").waitFor();
    // The type says what it is.
    await page.getByLabel("a", { exact: true }).fill("9007199254740993");
    await callNow(page);
    await reply(page, "9007199254740995");
    await open(page, "files.count");
    await page.getByLabel("root").fill('{"name": "a", "folders": [');
    await callNow(page);
    await page.locator("p.complaint[role=alert]", { hasText: "not JSON, line 1" }).waitFor();
    await page.getByLabel("root").fill('{"name": "a", "folders": []}');
    await callNow(page);
    await reply(page, "1");
  },

  async "what can't be sent is said at its field"(page) {
    await open(page, "orders.place");
    await page.getByRole("button", { name: "Call" }).click();
    await page.getByRole("button", { name: "add an item to lines" }).click();
    await page.getByLabel("name", { exact: true }).fill("Ada");
    await page.getByLabel("article").fill("1.5");
    await page.getByRole("button", { name: "Call" }).click();
    await page.locator("p.complaint[role=alert]", { hasText: "lines[0].article: expected an integer" }).waitFor();
    equal(await page.evaluate(() => document.activeElement.getAttribute("aria-invalid")), "true");
    await page.getByLabel("article").fill("18446744073709551616");
    await page.getByRole("button", { name: "Call" }).click();
    await page.locator("p.complaint[role=alert]", { hasText: "18446744073709551615" }).waitFor();
    await page.getByLabel("article").fill("");
    await page.getByRole("button", { name: "Call" }).click();
    equal(await page.locator("p.complaint[role=alert]").textContent(), "order.lines[0].article: is empty");
    await page.getByLabel("article").fill("1");
    await page.getByLabel("count", { exact: true }).fill("1");
    await page.getByRole("button", { name: "add an item to lines" }).click();
    await page.getByLabel("article").last().fill("1");
    await page.getByRole("button", { name: "Call" }).click();
    equal(await page.locator("p.complaint[role=alert]").textContent(), "order.lines[1].count: is empty");
  },

  async "an error of the function has its code, its data, and whether it ran"(page) {
    await open(page, "orders.find", { key: 5_000_000 });
    await callNow(page);
    await reply(page, "there is no article 5000000");
    const text = await page.locator(".error-box").textContent();
    for (const part of ["not_found", "executedyes", "an error of the function", "NoSuchArticle"]) includes(text, part);
    await page.getByRole("radio", { name: "JSON" }).check();
    await page.getByLabel("the arguments as JSON").fill('{"key": 1, "wrong": 2}');
    await callNow(page);
    await reply(page, "unknown argument");
    includes(await page.locator(".error-box").textContent(), "executedno");
  },

  async "a returned stream is shown item by item, and stopped"(page) {
    await open(page, "streams.countdown", { from: 100000, pause_ms: 20 });
    await callNow(page);
    await page.locator(".came li").nth(2).waitFor();
    includes(await page.locator(".came li").first().textContent(), "100000");
    await page.getByRole("button", { name: "Stop" }).click();
    await page.locator(".reply .notice", { hasText: "Stopped." }).waitFor();
    equal(await page.locator(".reply .status").first().textContent(), "stopped");
    includes(await page.locator(".reply-head").textContent(), " ms");
    await page.locator(".reply-head .trace-link").waitFor();
    equal(await page.locator(".past .status").first().textContent(), "stopped");
    await open(page, "streams.breaks", { after: 2 });
    await callNow(page);
    await reply(page, "an order needs at least one line");
    equal(await page.locator(".came li").count(), 2);
    equal(await page.locator(".reply .status").first().textContent(), "unknown");
    includes(await page.locator(".reply-head").textContent(), "HTTP 200");
  },

  async "a call that is refused leaves no reply that seems to be its own, and the complaint is at its field"(page) {
    await open(page, "add", { a: 1 });
    await callNow(page);
    await reply(page, "3");
    await page.getByText("Headers, time-out").click();
    await page.getByLabel("time-out").fill("abc");
    includes(await page.locator(".program").textContent(), "can't be sent: time-out: expected a whole number of milliseconds");
    equal(await page.locator(".call [aria-invalid]").count(), 0, "nothing is complained about while it is typed");
    await page.getByText("Headers, time-out").click();
    await callNow(page);
    await page.locator(".reply.earlier h2", { hasText: "Reply to an earlier call" }).waitFor();
    const focused = await page.evaluate(() => {
      const { activeElement } = document;
      return [activeElement.value, activeElement.getAttribute("aria-invalid"), document.getElementById(activeElement.getAttribute("aria-describedby"))?.textContent];
    });
    equal(focused, ["abc", "true", "expected a whole number of milliseconds"]);
    await page.getByLabel("time-out").fill("5000");
    equal(await page.locator(".call [aria-invalid]").count(), 0);
    await callNow(page);
    await page.locator(".reply:not(.earlier) h2", { hasText: "Reply" }).waitFor();
    includes(await page.locator(".program").textContent(), "byname-timeout-ms: 5000");
  },

  async "a stream is sent by hand, item by item, and ended by hand"(page) {
    await open(page, "streams.sum", { factor: 3 });
    await page.getByRole("button", { name: "Open stream" }).click();
    for (const item of ["9007199254740993", "1"]) {
      await page.locator(".sending input").fill(item);
      await page.getByRole("button", { name: "Send item" }).click();
    }
    equal(await page.locator(".sent li").count(), 2);
    await page.getByRole("button", { name: "End stream" }).click();
    await reply(page, "27021597764222982");
    await open(page, "streams.echo");
    await page.getByRole("button", { name: "Open stream" }).click();
    for (const item of [`{"a": ${DIGITS}}`, '"two"']) {
      await page.locator(".sending textarea").fill(item);
      await page.getByRole("button", { name: "Send item" }).click();
      await page.locator(".came li").last().getByText(item.includes("two") ? '"two"' : DIGITS).waitFor();
    }
    await page.getByRole("button", { name: "End stream" }).click();
    await reply(page, "The stream is complete.");
  },

  async "all items of a long stream are counted"(page) {
    await open(page, "streams.countdown", { from: 12000 });
    const lines = Array.from({ length: 12000 }, (_, at) => `{"item":${12000 - at}}\n`).join("");
    await page.route("**/rpc/streams.countdown", (route) => route.fulfill({ contentType: "application/x-ndjson", body: `${lines}{"end":{}}\n` }));
    await callNow(page);
    await reply(page, "12000 items, the last 1000 are shown");
    equal(await page.locator(".came li").last().getAttribute("value"), "11999");
    await page.getByRole("button", { name: "Copy the last 10000" }).waitFor();
  },

  async "sizes, times and counts have units and numbers that people read"(page) {
    await open(page, "counter.hits");
    await callNow(page);
    await page.locator(".reply-head", { hasText: / · 1 byte · / }).waitFor();
    includes(await page.locator(".function-head").textContent(), "in console_playground, of the package byname-examples");
    await page.getByRole("link", { name: "Server", exact: true }).click();
    const limit = async (name) => page.locator("dt", { hasText: name }).locator("+ dd").textContent();
    equal([await limit("Limits::message"), await limit("Limits::key_bytes"), await limit("Limits::drain_delay"), await limit("Limits::stream_idle"), await limit("Limits::call")], ["4 MiB", "64 MiB", "0 s", "5 min", "30 s"]);
    const text = "x".repeat(3_500_000);
    await open(page, "settings.set");
    await page.getByRole("radio", { name: "JSON" }).check();
    await page.getByLabel("the arguments as JSON").fill(JSON.stringify({ name: "a", setting: { type: "Text", value: text } }));
    await callNow(page);
    await page.locator(".reply-head", { hasText: "3.3 MiB" }).waitFor();
  },

  async "the members of a form come in the order in which they are declared"(page) {
    await open(page, "orders.place");
    const names = await page.locator(".call .fields > .field > .object > .field > .field-head .field-name").allTextContents();
    equal(names, ["customer", "lines", "delivery", "payment", "note", "labels", "place"]);
  },

  async "items are sent as one body where there are no frames"(page, { start }) {
    const address = await start(["--no-frames"]);
    await page.goto(`http://${address}/rpc#/f/streams.sum`);
    for (const item of ["40", "2"]) {
      await page.locator(".call .field.block input").fill(item);
      await page.getByRole("button", { name: "Add item" }).click();
    }
    await page.getByRole("button", { name: "Call" }).click();
    await reply(page, "42");
  },

  async "items are sent as one body where a proxy does not forward the upgrade"(page, { address }) {
    const port = await proxy(address, "/rpc", (text) => text.replace(/^(upgrade|connection): .*\r\n/gim, ""));
    await page.goto(`http://127.0.0.1:${port}/rpc#/f/streams.sum`);
    await page.getByRole("button", { name: "Open stream" }).click();
    await page.locator(".call .notice", { hasText: "nothing was sent" }).waitFor();
    // The field has the focus, and an item that was added is selected.
    for (const item of ["40", "2"]) {
      await page.keyboard.type(item);
      await page.keyboard.press("Enter");
    }
    equal(await page.locator(".sent li").count(), 2);
    await page.getByRole("button", { name: "Call" }).click();
    await reply(page, "42");
    await open(page, "streams.echo");
    await page.locator(".call .field.block textarea").fill('"one body"');
    await page.getByRole("button", { name: "Add item" }).click();
    await page.getByRole("button", { name: "Call" }).click();
    await page.locator(".came li", { hasText: "one body" }).waitFor();
  },

  async "a call that could not be sent did not run"(page, { start }) {
    const address = await start([]);
    await page.goto(`http://${address}/rpc#/f/streams.sum`);
    await page.getByRole("button", { name: "Open stream" }).waitFor();
    running.at(-1).kill();
    await new Promise((ended) => running.at(-1).once("exit", ended));
    await page.getByRole("button", { name: "Open stream" }).click();
    await page.locator(".error-box", { hasText: "nothing was sent" }).waitFor();
    includes(await page.locator(".error-box").textContent(), "executedno");
    await page.getByRole("button", { name: "Open stream" }).waitFor();
  },

  async "large numbers go through form, reply, history and copied commands unchanged"(page, { address }) {
    await open(page, "numbers.echo");
    await page.getByLabel("id", { exact: true }).fill("18446744073709551615");
    await page.getByLabel("whole").fill(`-${HUGE}`);
    await page.getByLabel("exact").fill(`{"amount": ${DIGITS}, "large": 1e400, "zero": -0.0}`);
    await callNow(page);
    const all = ["18446744073709551615", `-${HUGE}`, DIGITS, "1e400", "-0.0"];
    await reply(page, DIGITS);
    for (const part of all) includes(await page.locator(".reply .json").textContent(), part);
    const curl = await page.locator(".program").textContent();
    for (const part of all) includes(curl, part);
    const printed = execFileSync("sh", ["-c", curl], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    equal(printed.trim(), `[18446744073709551615,-${HUGE},{"amount": ${DIGITS}, "large": 1e400, "zero": -0.0}]`.replace(/": /g, '":').replace(/, "/g, ',"'));
    await page.reload();
    await page.locator(".past").first().click();
    equal(await page.getByLabel("whole").inputValue(), `-${HUGE}`);
    for (const part of all) includes(await page.locator(".program").textContent(), part);
    await page.getByText("reply", { exact: true }).first().click();
    for (const part of all) includes(await page.locator(".history .json").textContent(), part);
    for (const language of ["Rust", "Python", "TypeScript", "CLI"]) {
      await page.getByRole("radio", { name: language }).check();
      for (const part of all) includes(await page.locator(".program").textContent(), part);
    }
    includes(await page.locator(".program").textContent(), address);
  },

  async "a command of a shell can't be broken out of"(page) {
    const text = `it's "$(touch /tmp/no)" \`x\` \\ ! $HOME\n\u{1b}[31m`;
    await open(page, "hostile.texts", { text, given: { "<script>alert('member')</script>": text } });
    const curl = await page.locator(".program").textContent();
    const printed = execFileSync("sh", ["-c", curl], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    equal(JSON.parse(printed)["<script>alert('member')</script>"], text);
  },

  async "scripts and escapes in every text are shown as text"(page) {
    await open(page, "hostile.texts", { text: "fail", given: { "<script>alert('member')</script>": "<img src=x onerror=alert(1)>" } });
    includes(await page.locator(".doc").first().textContent(), "<script>document.title");
    await page.locator(".field-name", { hasText: "<script>alert('member')</script>" }).waitFor();
    await callNow(page);
    await reply(page, "<script>document.title='owned'</script>");
    const text = await page.locator("main").textContent();
    includes(text, "\\u{1b}]0;owned\\u{7}");
    assert(!/[\u0000-\u0008\u001b\u202e]/.test(text), "a control character is in the page");
    await page.getByRole("heading", { name: "Types" }).click();
    await open(page, "orders.create", { article: 1 });
    includes(await page.locator(".function .notice").textContent(), "<script>");
    equal(await page.locator("main script, main img, main b").count(), 0);
    assert(!(await page.title()).includes("owned"), await page.title());
  },

  async "a link has the arguments, and a wrong one does not break the page"(page, { address }) {
    await page.goto(`http://${address}/rpc#/f/add?args=${encodeURIComponent('{"a":9007199254740993,"b":1}')}`);
    equal(await page.getByLabel("a", { exact: true }).inputValue(), "9007199254740993");
    await callNow(page);
    await reply(page, "9007199254740994");
    await page.goto(`http://${address}/rpc#/f/add?args=%7B%22no`);
    await page.goto(`http://${address}/rpc#/f/nothing`);
    await page.getByText("No such function").waitFor();
  },

  async "a slow call is cancelled"(page) {
    await open(page, "slow.wait");
    await callNow(page);
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.locator(".reply .notice", { hasText: "Cancelled." }).waitFor();
    await page.getByRole("button", { name: "Call" }).waitFor();
  },

  async "a call that changes something has the token"(page, { address }) {
    const tokens = [];
    page.on("request", (request) => request.method() === "POST" && tokens.push(request.headers()["byname-console"]));
    await open(page, "counter.hits");
    await callNow(page);
    await page.locator(".reply .status.good").waitFor();
    await open(page, "counter.hit");
    await callNow(page);
    await page.locator(".reply .status.good").waitFor();
    equal([tokens[0], tokens[1]?.length], [undefined, 32]);
    const wrong = await page.request.post(`http://${address}/rpc/counter.hit`, { data: [], headers: { "byname-console": "0".repeat(32) } });
    equal(wrong.status(), 403);
    includes(await wrong.text(), "reload the page");
    includes(await wrong.text(), '"executed":"no"');
  },

  async "the page goes on when its server is restarted"(page, { start }) {
    const first = await start([]);
    await page.goto(`http://${first}/rpc#/f/counter.hit`);
    await page.getByRole("heading", { name: "counter.hit" }).waitFor();
    await page.locator("#state", { hasText: "calls/s" }).waitFor();
    running.at(-1).kill();
    await new Promise((ended) => running.at(-1).once("exit", ended));
    await callNow(page);
    await page.locator(".reply .notice", { hasText: "Is the server running?" }).waitFor();
    await start([first]);
    await callNow(page);
    await page.locator(".reply .status.good").waitFor();
    await page.locator("main .notice", { hasText: "Another server answers now" }).waitFor();
    await page.getByRole("button", { name: "Reload the page" }).click();
    await page.getByRole("heading", { name: "counter.hit" }).waitFor();
    equal(await page.locator("main .notice:visible").count(), 0);
  },

  async "large texts and many items are shown in parts"(page) {
    await open(page, "hostile.texts");
    await page.getByRole("radio", { name: "JSON" }).check();
    const text = `\\"${"x\n".repeat(500_000)}`;
    await page.getByLabel("the arguments as JSON").fill(JSON.stringify({ text, given: { "<script>alert('member')</script>": text } }));
    await callNow(page);
    await page.locator(".reply .status.good").waitFor();
    await page.getByRole("button", { name: /all \d+ characters/ }).click();
    includes(await page.locator(".reply .json").textContent(), JSON.stringify(text));
    await open(page, "orders.find", { key: 1, limit: 255 });
    await callNow(page);
    await page.getByRole("button", { name: "155 more" }).click();
    await page.getByRole("button", { name: "55 more" }).click();
    await page.locator(".reply .json", { hasText: '"order": 255' }).waitFor();
  },

  async "a server without paths is called by frames"(page, { start }) {
    const address = await start(["--no-paths"]);
    await page.goto(`http://${address}/rpc#/f/add?args={"a":40}`);
    await callNow(page);
    await reply(page, "42");
    includes(await page.locator(".reply-head").textContent(), "frames");
    await open(page, "orders.find", { key: 5_000_000 });
    await callNow(page);
    await reply(page, "NoSuchArticle");
    await open(page, "streams.countdown", { from: 3, pause_ms: 1 });
    await callNow(page);
    await reply(page, "The stream is complete.");
    equal(await page.locator(".came li").count(), 3);
  },

  async "the page works behind a proxy that removes a part of the path"(page, { address }) {
    for (const [path, end] of [["/shops/7", ""], ["/shops/7", "/"], ["/a/rpc", ""]]) {
      const port = await proxy(address, path);
      await page.goto("about:blank");
      await page.goto(`http://127.0.0.1:${port}${path}${end}#/f/add?args={"a":40}`);
      await callNow(page);
      await reply(page, "42");
      includes(await page.locator(".program").textContent(), `http://127.0.0.1:${port}${path}/add`);
      await open(page, "streams.sum");
      await page.getByRole("button", { name: "Open stream" }).click();
      await page.locator(".sending input").fill("7");
      await page.getByRole("button", { name: "Send item" }).click();
      await page.getByRole("button", { name: "End stream" }).click();
      await reply(page, "7");
    }
  },

  async "the page works under a name and a port, if the proxy forwards both"(page, { start }) {
    const address = await start(["--hosts", "shop.test"]);
    const port = await proxy(address, "/rpc");
    await page.goto(`http://shop.test:${port}/rpc#/f/add?args={"a":40}`);
    await callNow(page);
    await reply(page, "42");
    await open(page, "streams.sum");
    await page.getByRole("button", { name: "Open stream" }).click();
    await page.getByRole("button", { name: "End stream" }).click();
    await reply(page, "0");
  },

  async "where a proxy drops the port of the host, the page says so"(page, { start }) {
    const address = await start(["--hosts", "shop.test"]);
    const port = await proxy(address, "/rpc", (text) => text.replace(/^host: .*\r\n/gim, "host: shop.test\r\n"));
    await page.goto(`http://shop.test:${port}/rpc#/f/add?args={"a":40}`);
    await callNow(page);
    await page.locator(".error-box .notice", { hasText: "proxy_set_header Host $http_host;" }).waitFor();
  },

  async "a page whose script does not come says what to look at"(page, { address }) {
    await page.route("**/rpc?!console.js", (route) => route.fulfill({ status: 403, body: "" }));
    await page.goto("about:blank");
    await page.goto(`http://${address}/rpc`);
    await page.locator("main .starting", { hasText: "Host with its port" }).waitFor();
  },

  async "the token is checked by frames too"(page) {
    const answers = await page.evaluate(async () => {
      const right = document.querySelector('meta[name="byname-console"]').content;
      const utf8 = new TextEncoder();
      const frame = (kind, flags, id, payload) => {
        const bytes = new Uint8Array(16 + payload.length);
        const header = new DataView(bytes.buffer);
        header.setUint32(0, payload.length);
        header.setUint8(4, kind);
        header.setUint8(5, flags);
        header.setBigUint64(8, BigInt(id));
        bytes.set(payload, 16);
        return bytes;
      };
      const socket = new WebSocket(`ws://${location.host}/rpc`, "byname.v1");
      socket.binaryType = "arraybuffer";
      const answers = {};
      await new Promise((done) => {
        socket.onmessage = ({ data }) => {
          for (let at = 0; at < data.byteLength; ) {
            const header = new DataView(data, at);
            const [length, kind, id] = [header.getUint32(0), header.getUint8(4), Number(header.getBigUint64(8))];
            if (kind === 1) {
              socket.send(frame(1, 0, 0, utf8.encode('{"version":1,"codecs":["json"]}')));
              socket.send(frame(2, 0, 0, utf8.encode("add")));
              [right, "0".repeat(32)].forEach((token, at) => {
                const metadata = utf8.encode(JSON.stringify({ "byname-console": token }));
                const payload = new Uint8Array([0, 0, 0, 0, 0, 0, 0, metadata.length, ...metadata, ...utf8.encode("[1,2]")]);
                socket.send(frame(3, 2, at + 1, payload));
              });
            } else if (kind === 4 || kind === 5) {
              answers[id] = new TextDecoder().decode(new Uint8Array(data, at + 16, length));
            }
            at += 16 + length;
          }
          if (Object.keys(answers).length === 2) done();
        };
      });
      socket.close();
      return answers;
    });
    equal(answers[1], "3");
    includes(answers[2], "reload the page");
    includes(answers[2], '"executed":"no"');
  },

  async "headers are sent and not kept"(page) {
    let sent;
    page.on("request", (request) => {
      if (request.method() === "POST") sent = request.headers()["authorization"];
    });
    await open(page, "add", { a: 1 });
    await page.getByText("Headers, time-out").click();
    await page.getByRole("button", { name: "+ header" }).click();
    for (const [name, why] of [["cookie", "a browser lets no page set"], ["a b", "can't be one"]]) {
      await page.getByLabel("name of a header").fill(name);
      await callNow(page);
      await page.locator("p.complaint[role=alert]", { hasText: why }).waitFor();
    }
    await page.getByLabel("name of a header").fill("authorization");
    await page.getByLabel("value of a header").fill("Bearer s3cret");
    await callNow(page);
    await reply(page, "3");
    equal(sent, "Bearer s3cret");
    assert(!(await page.locator(".program").textContent()).includes("s3cret"), "the secret is in the command");
    includes(await page.locator(".program").textContent(), "$AUTHORIZATION");
    await open(page, "counter.hits");
    equal(await page.getByLabel("value of a header").inputValue(), "Bearer s3cret");
    const kept = await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }]));
    assert(!kept.includes("s3cret"), kept);
  },

  async "everything works by keyboard alone"(page) {
    await page.keyboard.press("Tab");
    equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
    await page.keyboard.press("/");
    await page.keyboard.type("add");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "add", exact: true }).waitFor();
    await page.keyboard.press("e");
    await page.keyboard.type("40");
    // Past the check box of what is optional.
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.type("3");
    await page.keyboard.press("Control+Enter");
    await reply(page, "43");
    for (let step = 0; step < 60; step++) {
      await page.keyboard.press("Tab");
      const seen = await page.evaluate(() => {
        const element = document.activeElement;
        if (element === document.body) return true;
        const shown = element.matches(".segment input") ? element.nextElementSibling : element;
        const style = getComputedStyle(shown);
        return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
      });
      assert(seen, `the focus is not seen at ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 200))}`);
    }
  },

  async "a field is left by Escape, and a function without arguments is called from anywhere on its page"(page) {
    await page.setViewportSize({ width: 640, height: 400 });
    await page.keyboard.press("/");
    await page.keyboard.type("numbers.echo");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "numbers.echo", level: 1 }).waitFor();
    await page.keyboard.press("e");
    await page.keyboard.type("7");
    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    equal(await page.evaluate(() => document.activeElement.id), "search");
    await page.keyboard.type("counter.hits");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "counter.hits", level: 1 }).waitFor();
    await page.keyboard.press("Control+Enter");
    await page.locator(".reply .status.good").waitFor();
    const seen = await page.locator(".reply-body .json").evaluate((reply) => reply.getBoundingClientRect().bottom <= innerHeight);
    assert(seen, "the reply is not on the screen");
    equal(await page.locator("#announcer").textContent(), "reply, 200 OK");
    await page.goBack();
    await page.getByRole("heading", { name: "numbers.echo", level: 1 }).waitFor();
    equal(await page.getByLabel("id", { exact: true }).inputValue(), "7");
    assert(!(await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }]))).includes("numbers.echo"), "what was entered is stored");
  },

  async "what was entered stays while another function is looked at"(page) {
    await open(page, "orders.place");
    await fillOrder(page);
    await page.getByRole("radio", { name: "JSON" }).check();
    await page.getByLabel("the arguments as JSON").fill('{"order": ');
    await open(page, "streams.sum");
    await page.locator(".call", { hasText: "Items are sent after Open stream" }).waitFor();
    await open(page, "streams.echo");
    await page.locator(".call", { hasText: "It takes no arguments besides its stream." }).waitFor();
    await open(page, "orders.place");
    equal(await page.getByLabel("the arguments as JSON").inputValue(), '{"order": ');
    await page.getByLabel("the arguments as JSON").fill("{}");
    await open(page, "add");
    await page.getByLabel("a", { exact: true }).fill("not a number");
    await open(page, "orders.find");
    await open(page, "add");
    equal(await page.getByLabel("a", { exact: true }).inputValue(), "not a number");
  },

  async "figures, calls and traces are shown"(page, { start }) {
    const address = await start(["--traffic"]);
    await page.goto(`http://${address}/rpc`);
    await page.locator(".chart-card .line.main").first().waitFor({ state: "attached" });
    await page.locator("tr", { hasText: "orders.checkout" }).first().waitFor();
    await page.getByRole("link", { name: "Calls", exact: true }).click();
    await page.locator("tr", { hasText: "orders.checkout" }).first().waitFor();
    await page.getByRole("link", { name: "Server", exact: true }).click();
    await page.getByText("Limits::call", { exact: true }).waitFor();
    await page.getByText(`http://${address}/rpc`).first().waitFor();
  },

  async "a call of the page has a trace"(page) {
    await traceOfCheckout(page);
    await page.locator(".bar.page").waitFor();
    await page.getByRole("link", { name: "Calls", exact: true }).click();
    await page.locator(".card", { hasText: "Calls of this page" }).getByRole("link", { name: "orders.checkout" }).click();
    equal(await page.getByLabel("article").inputValue(), "4711");
  },

  async "a trace has links to other services, and says what is missing"(page) {
    const id = "0af7651916cd43dd8448eb211c80319c";
    const call = (kind, name, span, parent, nanos, us, more) => ({ kind, name, code: "ok", ended_ms_ago: Math.floor(nanos / 1e6), ended_ago_ns: nanos, duration_us: us, trace_id: id, span_id: span, parent_id: parent, ...more });
    const recent = [
      call("server", "quote", "a000000000000001", "9999999999999999", 100_000_000, 1_540_000, { way: "path" }),
      // By its age it begins before its caller.
      call("client", "stock", "a000000000000002", "a000000000000001", 1_634_000_000, 7_000, { url: "http://stock.test:7001/team/rpc", attempts: 3 }),
      call("client", "price.one", "a000000000000003", "a000000000000001", 105_000_000, 4_500, { url: "http://10.0.0.1:1,10.0.0.2:1/rpc" }),
      call("client", "price.two", "a000000000000004", "a000000000000001", 104_500_000, 4_500, { url: "javascript:alert(1)//x" }),
      call("client", "price.three", "a000000000000005", "a000000000000001", 101_000_000, 1_500, { url: "unix:/run/price.sock" }),
    ];
    let given = recent;
    await page.route("**/!stats", async (route) => route.fulfill({ json: { ...(await (await route.fetch()).json()), recent: given, slowest: [], failed: [call("server", "broke", "a000000000000009", undefined, 1_000_000, 7, { code: "internal", way: "path" })] } }));
    await page.reload();
    await page.evaluate((id) => (location.hash = `#/trace/${id}`), id);
    await page.locator(".trace-row", { hasText: "price.three" }).waitFor();
    await page.getByRole("heading", { name: "6 calls shown" }).waitFor();
    equal(await page.locator("main .notice:visible").count(), 0, "nothing is missing");
    const links = await page.locator(".trace-row a").evaluateAll((links) => links.map((link) => [link.getAttribute("href"), link.rel]));
    equal(links, [[`http://stock.test:7001/team/rpc#/trace/${id}`, "noreferrer"]]);
    const rows = await page.locator(".trace-row").allTextContents();
    includes(rows.find((row) => row.includes("stock")), "3 attempts");
    const [quote, stock] = ["quote", "stock"].map((name) => page.locator(".trace-row", { hasText: name }).first().locator(".bar"));
    equal(await stock.evaluate((bar) => bar.style.left), await quote.evaluate((bar) => bar.style.left));
    const offsets = rows.filter((row) => row.includes("price")).map((row) => /\+([\d.]+ s)/.exec(row)[1]);
    equal(new Set(offsets).size, 3, offsets.join());
    await page.getByRole("link", { name: "Calls", exact: true }).click();
    await page.locator(".card", { hasText: "Failed calls" }).locator("tr", { hasText: "broke" }).waitFor();

    given = recent.slice(1, 3);
    await page.reload();
    await page.evaluate((id) => (location.hash = `#/trace/${id}`), id);
    await page.locator("main .notice", { hasText: "The caller of" }).waitFor();

    const later = Array.from({ length: 99 }, (_, at) => ({ ...call("server", "later", undefined, undefined, 1000 * at, 10, { way: "path" }), trace_id: undefined }));
    given = [...later, later[0]];
    await page.route("**/!stats", async (route) => route.fulfill({ json: { ...(await (await route.fetch()).json()), recent: given, slowest: recent.slice(0, 2), failed: [] } }));
    await page.reload();
    await page.evaluate((id) => (location.hash = `#/trace/${id}`), id);
    await page.locator("main .notice", { hasText: "older than the 100 recent calls" }).waitFor();
  },

  async "charts go on where several replicas answer in turn"(page) {
    let turn = 0;
    const instances = ["replica-one", "replica-two"];
    await page.route("**/!stats", async (route) => {
      const stats = await (await route.fetch()).json();
      const at = turn++ % 2;
      await route.fulfill({ json: { ...stats, instance: instances[at], uptime_ms: 1e9, server: { ...stats.server, in_flight: 100 + at } } });
    });
    await page.reload();
    const notice = page.locator("main .notice", { hasText: "Several replicas answer" });
    await notice.waitFor();
    // Each has a course of its own, which goes on.
    await page.waitForFunction(() => (document.querySelector(".chart-card .line.main")?.getAttribute("d")?.split("L").length ?? 0) >= 3);
    const flight = page.locator(".chart-card", { hasText: "in flight" }).locator(".figure");
    equal(await flight.textContent(), "100");
    await page.getByLabel("the replica whose figures are shown").selectOption("replica-two");
    equal(await flight.textContent(), "101");
    equal(await page.locator("main .notice:visible").count(), 1);
  },

  async "axe finds no violation, in light and in dark"(page, { address }) {
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      for (const [hash, act] of views(page)) {
        await page.goto("about:blank");
        await page.goto(`http://${address}/rpc${hash}`);
        await page.locator("main h1").waitFor();
        await act?.();
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
        equal(found, [], `${scheme} ${hash}`);
      }
    }
  },

  async "a phone shows every page without scrolling sideways"(page, { address }) {
    await page.setViewportSize({ width: 390, height: 844 });
    for (const [hash, act] of views(page)) {
      await page.goto("about:blank");
      await page.goto(`http://${address}/rpc${hash}`);
      await page.locator("main h1").waitFor();
      await act?.();
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert(width <= 390, `${hash} is ${width} wide`);
    }
    await page.getByRole("button", { name: "functions" }).click();
    await page.locator("#search").fill("countdown");
    await page.locator("#sidebar a").first().click();
    await page.getByRole("heading", { name: "streams.countdown" }).waitFor();
    await hidden(page.locator("#sidebar"));
  },

  async "the theme is kept"(page) {
    await page.getByRole("button", { name: "change to dark" }).click();
    await page.reload();
    await page.getByRole("button", { name: "change to light" }).waitFor();
    equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  },
};

function views(page) {
  return [
    ["#/"],
    ["#/calls"],
    ["#/server"],
    ["#/trace/0af7651916cd43dd8448eb211c80319c"],
    ["#/f/orders.place", () => fillOrder(page).then(() => callNow(page)).then(() => page.locator(".reply .status.good").waitFor())],
    ["#/f/hostile.texts?args=" + encodeURIComponent('{"text":"fail","given":{"<script>alert(\'member\')</script>":"x"}}'), () => callNow(page).then(() => page.locator(".error-box").waitFor())],
    ["#/f/streams.echo", () => page.getByRole("button", { name: "Open stream" }).click()],
    ["#/f/numbers.echo", () => page.getByRole("radio", { name: "JSON" }).check()],
    ["#/f/orders.create"],
  ];
}

async function open(page, name, args) {
  const query = args === undefined ? "" : `?args=${encodeURIComponent(JSON.stringify(args))}`;
  await page.evaluate((hash) => (location.hash = hash), `#/f/${name}${query}`);
  await page.getByRole("heading", { name, exact: true, level: 1 }).waitFor();
}

async function fillOrder(page) {
  await page.getByLabel("name", { exact: true }).fill("Ada Lovelace");
  await page.getByLabel("kind", { exact: true }).selectOption("company");
  await page.getByLabel("variant of delivery").selectOption("pick_up");
  await page.getByLabel("shop").fill("7");
  await page.getByRole("button", { name: "add an item to lines" }).click();
  await page.getByLabel("article").fill("4711");
  await page.getByLabel("count", { exact: true }).fill("3");
  await page.getByLabel("variant of payment").selectOption("Card");
  await page.getByLabel("number", { exact: true }).fill("4111");
  await page.getByLabel("expires 0").fill("12");
  await page.getByLabel("expires 1").fill("29");
  await page.getByRole("button", { name: "add an entry to labels" }).click();
  await page.getByLabel("a key of labels").fill("urgent");
  await page.getByLabel("a value of labels").fill("yes");
}

/** A call of the page, and the calls that it caused. */
async function traceOfCheckout(page) {
  await open(page, "orders.checkout", { article: 4711, count: 3 });
  await callNow(page);
  await page.locator(".reply .trace-link").click();
  for (const name of ["orders.checkout", "stock.reserve", "payments.charge"]) {
    await page.locator(".trace-row", { hasText: name }).first().waitFor();
  }
}

async function callNow(page) {
  await page.keyboard.press("Escape");
  await page.locator(".call button[type=submit]").click();
}

async function reply(page, text) {
  await page.locator(".reply-body", { hasText: text }).waitFor();
}

async function hidden(locator) {
  await locator.first().waitFor({ state: "hidden" });
}

function assert(holds, why) {
  if (!holds) throw new Error(why);
}

function equal(got, expected, what = "") {
  const [is, should] = [JSON.stringify(got), JSON.stringify(expected)];
  assert(is === should, `${what} ${is} instead of ${should}`);
}

function includes(text, part) {
  assert(text?.includes(part), `${JSON.stringify(part)} is not in ${JSON.stringify(text)}`);
}

/** A proxy in front of the server. What is below `path` here is below `/rpc` there. It may change requests. */
async function proxy(address, path, changed = (text) => text) {
  const server = net.createServer((near) => {
    const [host, port] = address.split(":");
    const far = net.connect(Number(port), host);
    near.on("error", () => far.destroy());
    far.on("error", () => near.destroy());
    // Each request of the browser begins a piece.
    near.on("data", (piece) => {
      const text = piece.toString("latin1");
      const moved = text.replace(new RegExp(`^(GET|POST) ${path}(?=[/? ])`), "$1 /rpc");
      far.write(Buffer.from(changed(moved), "latin1"));
    });
    near.on("end", () => far.end());
    far.pipe(near);
  });
  proxies.push(server);
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return server.address().port;
}

const [running, proxies] = [[], []];

/** Starts a server, and says where it serves. */
function start(args) {
  const child = spawn(server, args, { stdio: ["ignore", "pipe", "ignore"] });
  running.push(child);
  return new Promise((resolve, reject) => {
    child.stdout.once("data", (line) => resolve(line.toString().trim()));
    child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
}

async function main() {
  const address = await start([]);
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--no-proxy-server", "--host-resolver-rules=MAP shop.test 127.0.0.1"] });
  let failures = 0;
  for (const [name, test] of Object.entries(tests)) {
    if (only && !name.includes(only)) continue;
    // What the tests put into a page is not held to its policy, and what the page has is: its reports are collected.
    const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, permissions: ["clipboard-read", "clipboard-write"] });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const reports = [];
    await page.exposeFunction("reportOfTest", (report) => reports.push(report));
    await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => window.reportOfTest(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`)));
    page.on("pageerror", (error) => reports.push(error.stack));
    page.on("dialog", (dialog) => {
      reports.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    // Answers that are errors are shown by the page, and the browser logs them too. It ignores one header over plain HTTP.
    page.on("console", (message) => message.type() === "error" && !/^(Failed to load resource|WebSocket connection to|The Cross-Origin-Opener-Policy header has been ignored)/.test(message.text()) && reports.push(message.text()));
    try {
      await page.goto(`http://${address}/rpc`);
      await page.locator("main h1").waitFor();
      await test(page, { address, start });
      equal(reports, [], "the page reports");
      console.log(`ok ${name}`);
    } catch (why) {
      failures += 1;
      console.log(`FAILED ${name}: ${why.stack}${reports.length > 0 ? `\nreports: ${reports.join("\n")}` : ""}`);
      if (process.env.FAILED_PICTURE) await page.screenshot({ path: process.env.FAILED_PICTURE });
    }
    await context.close();
  }
  if (pictures) await draw(browser);
  await browser.close();
  console.log(failures === 0 ? "all passed" : `${failures} failed`);
  process.exitCode = failures === 0 ? 0 : 1;
}

/** The pictures of the guide. */
async function draw(browser) {
  const address = await start(["--traffic"]);
  const picture = async (name, { scheme = "light", width = 1280, height = 860, hash = "", at = address, act, wait = 0 }) => {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, deviceScaleFactor: width < 600 ? 2 : 1 });
    const page = await context.newPage();
    page.setDefaultTimeout(120_000);
    await page.goto(`http://${at}/rpc${hash}`);
    await page.locator("main h1").waitFor();
    await act?.(page);
    if (wait > 0) await page.waitForFunction((count) => (document.querySelector(".chart-card .line.main")?.getAttribute("d")?.split("L").length ?? 0) >= count, wait);
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: here(`../../docs/pictures/${name}.png`) });
    await context.close();
  };
  await picture("console-light", { wait: 40 });
  await picture("console-dark", { scheme: "dark", hash: '#/f/orders.find?args={"key":7,"limit":2}', height: 1220, wait: 40, act: (page) => callNow(page).then(() => page.locator(".reply .status.good").waitFor()) });
  await picture("console-phone", { width: 390, height: 844, hash: "#/f/add", act: async (page) => { await page.getByLabel("a", { exact: true }).fill("9007199254740993"); await callNow(page); await reply(page, "9007199254740995"); await page.evaluate(() => scrollTo(0, 0)); }, wait: 20 });
  await picture("console-form", { hash: "#/f/orders.place", height: 1180, act: fillOrder });
  await picture("console-stream", { scheme: "dark", hash: "#/f/streams.echo", height: 1240, act: async (page) => {
    await page.getByRole("button", { name: "Open stream" }).click();
    for (const item of ['{"sensor": 7, "value": 21.50}', '"a text"', "9007199254740993"]) {
      await page.locator(".sending textarea").fill(item);
      await page.getByRole("button", { name: "Send item" }).click();
    }
    await page.locator(".came li").nth(2).waitFor();
  } });
  await picture("console-charts", { hash: "#/f/orders.checkout", height: 560, wait: 60 });
  await picture("console-trace", { height: 580, at: await start([]), act: traceOfCheckout });
}

try {
  await main();
} finally {
  for (const child of running) child.kill();
  for (const server of proxies) server.close();
}
