"""Calls a shop, and asks Prometheus what it has learned of that. `run` begins both."""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

PATIENCE = 30

program, shop, stock, prometheus, dashboard, guide = sys.argv[1:]
# How many bytes each request of a function had.
bodies = {}
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(name, body, headers={}):
    """The status of a call, which has a connection of its own."""
    # Those of a stream are the bytes of its items, without the ends of their lines.
    bodies.setdefault(name, []).append(len(body.replace("\n", "").encode()))
    request = urllib.request.Request(f"http://{shop}/rpc/{name}", body.encode(), {"content-type": "application/x-ndjson" if "\n" in body else "application/json", **headers})
    try:
        with opener.open(request, timeout=PATIENCE) as reply:
            reply.read()
            return reply.status
    except urllib.error.HTTPError as refused:
        return refused.code


def query(text):
    url = f"http://{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": text})
    try:
        with opener.open(url, timeout=PATIENCE) as reply:
            return json.load(reply)["data"]["result"]
    except urllib.error.HTTPError as refused:
        raise AssertionError(f"Prometheus refuses {text}: {refused.read().decode()}") from None


def until(what, is_so):
    """Asks again until it is so. Prometheus scrapes on its own, and each question waits for its answer."""
    end = time.monotonic() + PATIENCE
    while True:
        seen = is_so()
        if seen:
            return seen
        # Prometheus scrapes once a second.
        threading.Event().wait(0.2)
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE} s: {what}")


def sample(text):
    result = query(text)
    return float(result[0]["value"][1]) if len(result) == 1 else None


def expect(text, value):
    """One sample with this value, which a scrape may have yet to bring."""
    last = []

    def is_so():
        last[:] = [sample(text)]
        return last[0] == value

    try:
        until(text, is_so)
    except AssertionError:
        raise AssertionError(f"{text} is {last[0]} in place of {value}") from None
    print(f"ok {text} == {value:g}")


def bench(*words):
    """The number of calls that a load made."""
    done = subprocess.run([program, "bench", shop, *words, "--yes", "--json", "-"], capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["calls"] >= 250, done
    return report["calls"]


def text_format(open_metrics):
    """The older format, which promtool checks: there the name of a counter has its `_total`, and nothing has a unit."""
    counters = re.findall(r"^# TYPE (\S+) counter$", open_metrics, re.M)
    for name in counters:
        open_metrics = re.sub(rf"^# (TYPE|HELP) {name} ", rf"# \1 {name}_total ", open_metrics, flags=re.M)
    return re.sub(r"^# (UNIT .*|EOF)\n", "", open_metrics, flags=re.M)


# Each scrape is of the newer format, which has an end.
with opener.open(f"http://{shop}/rpc/!metrics", timeout=PATIENCE) as reply:
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0"), reply.headers
    assert reply.read().endswith(b"\n# EOF\n")
try:
    until("Prometheus scrapes all three", lambda: sample("sum(up)") == 3)
finally:
    with opener.open(f"http://{prometheus}/api/v1/targets", timeout=PATIENCE) as reply:
        targets = json.load(reply)["data"]["activeTargets"]
    errors = [target["lastError"] for target in targets if target["lastError"]]
    assert not errors, errors

# With 250 calls of the stock it is known what is slow, and there is credit for a hedge.
calls = bench("orders.available", "5", "--calls", "250", "--concurrency", "4", "--warm-up", "0s")
assert call("orders.place", '[{"article": 6, "pieces": 1}]') == 200
assert [call("orders.place", '[{"article": 906, "pieces": 1}]') for _ in range(3)] == [404] * 3
assert call("orders.place", '[{"article": 6, "pieces": "many"}]') == 400
assert call("orders.export", "[7]") == 200
assert call("orders.import", '{"article": 1, "pieces": 1}\n{"article": 2, "pieces": 1}\n') == 200
assert call("orders.nothing", "[]") == 404
# The first attempt at article 1 fails.
assert call("orders.available", "[1]") == 200

method = 'job="shop",rpc_method="orders.place"'
for code, count in [("ok", 1), ("not_found", 3), ("invalid_argument", 1)]:
    expect(f'rpc_server_call_duration_seconds_count{{{method},rpc_response_status_code="{code}"}}', count)
expect(f'sum(rpc_server_call_duration_seconds_count{{{method},error_type!=""}})', 4)
expect(f'rpc_server_call_duration_seconds_bucket{{{method},rpc_response_status_code="not_found",le="+Inf"}}', 3)
expect(f'rpc_server_call_duration_seconds_bucket{{{method},rpc_response_status_code="not_found",le="10.0"}}', 3)
expect(f'rpc_server_call_duration_seconds_sum{{{method},rpc_response_status_code="ok"}} > bool 0', 1)
expect('rpc_server_call_duration_seconds_count{job="shop",rpc_method="_OTHER"}', 1)
served = 'rpc_server_call_duration_seconds_count{job="shop",rpc_method="orders.available",rpc_response_status_code="ok"}'
expect(served, calls + 1)
expect('byname_server_items_sent_total{job="shop",rpc_method="orders.export"}', 7)
expect('byname_server_items_received_total{job="shop",rpc_method="orders.import"}', 2)
for name in ["orders.place", "orders.import"]:
    expect(f'byname_server_request_bytes_total{{job="shop",rpc_method="{name}"}}', sum(bodies[name]))
expect('byname_server_response_bytes_total{job="shop",rpc_method="orders.export"} > bool 0', 1)
expect('byname_server_in_flight_limit{job="shop"}', 64)
expect('byname_server_connections{job="shop"} > bool 0', 1)
expect(f'byname_server_connections_accepted_total{{job="shop"}} > bool {sum(map(len, bodies.values()))}', 1)
expect('byname_client_retries_total{job="shop",rpc_method="stock.level"}', 1)
client = 'rpc_client_call_duration_seconds_count{job="shop",rpc_method="stock.level",rpc_response_status_code="ok"}'
expect(client, calls + 1)
# The first attempt at article 2 has no answer, so a second one is made beside it.
hedges = 'byname_client_hedges_total{job="shop",rpc_method="stock.level"}'
before = sample(hedges)
more = []


def is_hedged():
    status = call("orders.available", "[2]", {"byname-timeout-ms": "2000"})
    # Hedges of a busy machine have used the credit up. Other calls bring some.
    if status != 200:
        more.extend(call("orders.available", "[5]") for _ in range(20))
    return status == 200


until("a hedge answers", is_hedged)
expect(f"{hedges} > bool {before:g}", 1)
expect(client, calls + 2 + more.count(200))
for name in ["request_bytes", "response_bytes"]:
    expect(f'byname_client_{name}_total{{job="shop",rpc_method="stock.level"}} > bool 0', 1)
for name in ["items_received_total", "items_sent_total", "calls_in_flight"]:
    expect(f'byname_client_{name}{{job="shop",rpc_method="stock.level"}}', 0)
expect('byname_client_connections{job="shop"} > bool 0', 1)
expect('byname_client_connections_opened_total{job="shop"} > bool 1', 1)
# Both replicas together have had each attempt.
expect('sum(rpc_server_call_duration_seconds_count{job="stock"}) >= bool ' + str(calls + 4), 1)

# The shop is full: what comes now is refused.
load = subprocess.Popen(
    [program, "bench", shop, "orders.follow", "--yes", "--warm-up", "0s", "--duration", "10m", "--concurrency", "64", "--timeout", "10m"],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
try:
    expect('byname_server_calls_in_flight{job="shop",rpc_method="orders.follow"}', 64)
    expect('byname_server_in_flight{job="shop"}', 64)
    assert call("orders.place", '[{"article": 6, "pieces": 1}]') == 429
    expect('byname_server_shed_total{job="shop",rpc_method="orders.place"}', 1)
    check = subprocess.run([program, "top", shop, "--once", "--json"], capture_output=True, text=True, timeout=60)
    assert json.loads(check.stdout)["servers"][0]["in_flight"] == 64, check
finally:
    load.kill()
    load.wait()
expect('rpc_server_call_duration_seconds_count{job="shop",rpc_method="orders.follow",rpc_response_status_code="cancelled"}', 64)

for service in (shop, stock):
    with opener.open(f"http://{service}/rpc/!metrics", timeout=PATIENCE) as reply:
        written = text_format(reply.read().decode())
    checked = subprocess.run(["promtool", "check", "metrics"], input=written, capture_output=True, text=True, timeout=PATIENCE)
    assert checked.returncode == 0, checked.stdout + checked.stderr + written
print("ok promtool check metrics")

# Each query of the dashboard is accepted, and has data.
VALUES = {"$job": ".*", "$instance": ".*", "$method": ".*", "$__rate_interval": "1m", "$__range": "5m"}
with open(dashboard, encoding="utf-8") as file:
    document = json.load(file)
queries = [(panel["title"], target["expr"]) for panel in document["panels"] for target in panel.get("targets", [])]
assert len(queries) > 10, queries
for title, text in queries:
    for name, value in VALUES.items():
        text = text.replace(name, value)
    until(f"{title}: {text} has data", lambda: query(text))
    print(f"ok dashboard: {title}")
for variable in document["templating"]["list"]:
    if variable["type"] == "query":
        metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        metric = re.sub(r'="?\$\w+"?|=~"\$\w+"', '=~".*"', metric)
        assert any(label in sample["metric"] for sample in query(metric)), variable
# So is each query of the guide, without the bound that it compares with.
with open(guide, encoding="utf-8") as file:
    rows = re.findall(r"^\| [^|]*\? \| .*", file.read(), re.M)
asked = [re.match(r"\|[^|]*\| `([^`|]+)`", row) for row in rows]
assert len(asked) > 5 and all(asked), rows
for text in asked:
    text = re.sub(r" > [\d.]+$", "", text[1]).replace('"search"', '"orders.place"')
    until(f"{text} has data", lambda: query(text))
    print(f"ok guide: {text}")
print("ok: Prometheus has each metric, and data for each query of the dashboard")
