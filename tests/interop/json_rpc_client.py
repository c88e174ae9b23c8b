"""pjrpc, a JSON-RPC 2.0 library for Python, calls byname: `json_rpc_client.py HOST:PORT`."""

import sys

import httpx
from pjrpc.client import exceptions
from pjrpc.client.backend.httpx import Client
from pjrpc.common import BatchRequest, Request

from tally import Tally


class Watched(Client):
    """The client, and what came back over HTTP."""

    def __init__(self, url):
        super().__init__(url, http_client=httpx.Client(timeout=60, event_hooks={"response": [self.watch]}))
        self.statuses = []

    def watch(self, response):
        self.statuses.append(response.status_code)


def equal(got, expected):
    assert got == expected, f"{got!r} instead of {expected!r}"


def fails(error, code, executed, mentions="", kind="rpc"):
    """Checks an error: its number, and ERROR whole in its data."""
    equal(error.code, code)
    equal((error.data["executed"], error.data["kind"]), (executed, kind))
    equal(error.message, error.data["message"])
    assert mentions in error.message, f"{mentions} is not in {error.message!r}"
    return error.data


def raises(error_class, call):
    try:
        call()
    except error_class as error:
        return error
    raise AssertionError(f"no {error_class.__name__}")


def test_by_position_and_by_name(client):
    equal(client("add", 1, 2), 3)
    equal(client.call("add", b=2, a=1), 3)
    equal(client.proxy.greet("Ann"), "hello, Ann")
    equal(client.proxy.greet(name="Ann", greeting="hi"), "hi, Ann")
    equal(client("nothing"), None)


def test_values(client):
    values = [None, True, False, 0, -1, 0.1, 1e300, "", [], {}, [[], {}, None], "ä日本語😀\0\"\\", {"ä": "😀"}]
    values += [2**53 + 1, 2**63, 2**64 - 1, -(2**63)]
    for value in [*values, values]:
        equal(client("echo", value), value)
        equal(client("echo", value=value), value)


def test_ids_of_every_kind(client):
    for id in [0, 1, -1, 2**64, "", "1", "a-b", "ä😀"]:
        response = client.send(Request("add", [1, 2], id=id))
        equal((response.id, type(response.id), response.result), (id, type(id), 3))


def test_notifications(client):
    before = client("bump", 0)
    client.notify("bump", 5)
    equal(client.statuses[-1], 204)
    equal(client("bump", 0), before + 5)
    client.notify("fail")
    client.notify("nowhere")
    equal(client.statuses[-2:], [204, 204])


def test_unknown_function(client):
    error = raises(exceptions.MethodNotFoundError, lambda: client("nowhere"))
    fails(error, -32601, "no", "nowhere")
    raises(exceptions.MethodNotFoundError, lambda: client("rpc.discover"))
    equal(client.statuses[-1], 200)


def test_wrong_arguments(client):
    for call, mentions in [
        (lambda: client("add", 1), "`b`"),
        (lambda: client("add", 1, "two"), "`b`"),
        (lambda: client("add", a=1, b=2, c=3), "`c`"),
        (lambda: client("signed", 2**63), "`value`"),
    ]:
        fails(raises(exceptions.InvalidParamsError, call), -32602, "no", mentions)


def test_error_of_a_function(client):
    error = raises(exceptions.ServerError, lambda: client("fail"))
    data = fails(error, -32000, "yes", kind="method")
    equal(data["data"], {"asked": "it was asked to fail"})


def test_result_that_is_no_number(client):
    fails(raises(exceptions.InternalError, lambda: client("not_a_number")), -32603, "yes", "NaN")


def test_batch(client):
    with client.batch() as batch:
        batch("add", 1, 2)
        batch.notify("nothing")
        batch("greet", name="Ann")
        batch("slow", 30)
        batch("echo", "last")
    equal(list(batch.get_results()), [3, "hello, Ann", 30, "last"])


def test_batch_in_part(client):
    response = client.send(
        BatchRequest(
            Request("add", [1, 2], id="a"),
            Request("nowhere", id="b"),
            Request("fail", id="c"),
            Request("bump", [0]),
            Request("add", [3, 4], id=5),
        )
    )
    equal([one.id for one in response], ["a", "b", "c", 5])
    equal([one.is_success for one in response], [True, False, False, True])
    fails(response[1].error, -32601, "no")
    fails(response[2].error, -32000, "yes", kind="method")


def test_batch_of_notifications(client):
    before = client("bump", 0)
    with client.batch() as batch:
        for _ in range(100):
            batch.notify("bump")
    equal((batch.get_response(), client.statuses[-1]), (None, 204))
    equal(client("bump", 0), before + 100)


def test_batch_beyond_the_limit(client):
    before = client("bump", 0)
    response = client.send(BatchRequest(*(Request("bump", id=id) for id in range(101))))
    assert response.is_error
    equal(fails(response.error, -32008, "no", "`Limits::batch`")["limit"], "batch")
    equal(client("bump", 0), before)


def main(address):
    tally = Tally()
    with Watched(f"http://{address}/rpc") as client:
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                with tally.test(name):
                    test(client)
    tally.exit()


if __name__ == "__main__":
    main(sys.argv[1])
