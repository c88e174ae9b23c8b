// jayson, a JSON-RPC 2.0 library for JavaScript, calls byname: `json_rpc_client.cjs HOST:PORT`.

const assert = require("node:assert/strict");
const http = require("node:http");
const jayson = require("jayson/promise");

const [host, port] = process.argv[2].split(":");
const agent = new http.Agent({ keepAlive: true });
const client = jayson.Client.http({ host, port, path: "/rpc", agent, timeout: 60_000 });

let status = 0;
client.on("http response", (response) => (status = response.statusCode));

const call = (method, params, id) => client.request(method, params, id);
const request = (method, params, id) => client.request(method, params, id, false);

async function returns(expected, method, params) {
  const reply = await call(method, params);
  assert.deepEqual([status, reply.error, reply.result], [200, undefined, expected]);
}

// Checks an error: its number, and ERROR whole in its data.
function fails({ error }, code, executed, mentions = "") {
  assert.equal(error.code, code);
  assert.equal(error.data.executed, executed);
  assert.equal(error.data.message, error.message);
  assert.ok(error.message.includes(mentions), `${mentions} is not in ${error.message}`);
  return error.data;
}

const tests = {
  async "by position and by name"() {
    await returns(3, "add", [1, 2]);
    await returns(3, "add", { b: 2, a: 1 });
    await returns("hi, Ann", "greet", { name: "Ann", greeting: "hi" });
    await returns(null, "nothing", []);
  },

  async "values"() {
    const values = [null, true, 0, -1, 0.1, 1e300, "", [], {}, [[], {}, null], 'ä日本語😀\0"\\', { ä: "😀" }];
    values.push(Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER);
    for (const value of [...values, values]) {
      await returns(value, "echo", [value]);
      await returns(value, "echo", { value });
    }
  },

  async "ids of every kind"() {
    for (const id of [0, 1, -1, 1.5, 1e21, "", "1", "ä😀"]) {
      const reply = await call("add", [1, 2], id);
      assert.deepEqual([reply.jsonrpc, reply.id, reply.result], ["2.0", id, 3]);
    }
  },

  async "notifications"() {
    const before = (await call("bump", [0])).result;
    assert.deepEqual([await call("bump", [5], null), status], [undefined, 204]);
    await returns(before + 5, "bump", [0]);
    for (const method of ["fail", "nowhere"]) {
      assert.deepEqual([await call(method, [], null), status], [undefined, 204]);
    }
  },

  async "errors"() {
    fails(await call("nowhere", []), -32601, "no", "nowhere");
    fails(await call("add", [1]), -32602, "no", "`b`");
    fails(await call("add", { a: 1, b: "two" }), -32602, "no", "`b`");
    fails(await call("not_a_number", []), -32603, "yes", "NaN");
    const own = fails(await call("fail", []), -32000, "yes");
    assert.deepEqual([own.kind, own.data], ["method", { asked: "it was asked to fail" }]);
    assert.equal(status, 200);
  },

  async "a batch"() {
    const replies = await client.request([
      request("slow", [30], "a"),
      request("nothing", [], null),
      request("nowhere", [], "b"),
      request("add", { a: 1, b: 2 }, 3),
    ]);
    assert.deepEqual(replies.map(({ id, result }) => [id, result]), [["a", 30], ["b", undefined], [3, 3]]);
    fails(replies[1], -32601, "no");
  },

  async "a batch of notifications"() {
    const before = (await call("bump", [0])).result;
    assert.equal(await client.request(Array.from({ length: 100 }, () => request("bump", [], null))), undefined);
    assert.equal(status, 204);
    await returns(before + 100, "bump", [0]);
  },

  async "a batch beyond the limit"() {
    const reply = await client.request(Array.from({ length: 101 }, (_, id) => request("bump", [], id)));
    assert.equal(reply.id, null);
    assert.equal(fails(reply, -32008, "no", "`Limits::batch`").limit, "batch");
  },

  async "what is no request"() {
    fails(await client.request({ jsonrpc: "1.0", method: "add", params: [1, 2], id: 1 }), -32600, "no", "2.0");
    fails(await client.request({ jsonrpc: "2.0", method: 1, id: 1 }), -32600, "no", "`method`");
    fails(await client.request([]), -32600, "no");
  },

  async "1000 calls at once"() {
    const replies = await Promise.all(Array.from({ length: 1000 }, (_, n) => call("add", [n, 1])));
    assert.deepEqual(replies.map(({ result }) => result), replies.map((_, n) => n + 1));
  },
};

async function main() {
  let passed = 0;
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
      passed += 1;
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}`);
      console.log(error);
    }
  }
  agent.destroy();
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}

main();
