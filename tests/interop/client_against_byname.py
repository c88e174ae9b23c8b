"""The original client calls a byname server: `client_against_byname.py HOST:PORT`.

The functions are imported from original_server, as the article's business side imports its data side: a
call uses nothing of them but the name. With `--original` the server at HOST:PORT is original_server itself,
and what holds for both is tested: that shows that the expectations here are the original's.
"""

import argparse
import asyncio
import contextlib
import io
import json
import socket
from functools import partial
from types import SimpleNamespace

import pycurl
from tornado.httpclient import AsyncHTTPClient

import original_server as service
from original import RpcClient
from tally import Tally

bump = service.Counter.bump
connections = service.CountingServer.connections
nowhere = SimpleNamespace(__name__="nowhere")

ABSENT = object()


class Target(RpcClient):
    """The original client, watched: the last response, what it printed, how many connections it opened."""

    def __init__(self, host, is_byname):
        super().__init__(host)
        self.http_client = partial(self.http_client, defaults={"prepare_curl_callback": self.watch})
        self.is_byname = is_byname
        self.response = None
        self.printed = ""
        self.opened = 0

    def watch(self, curl):
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self.open_socket)

    def open_socket(self, _purpose, address):
        self.opened += 1
        return socket.socket(address.family, address.socktype, address.protocol)

    def process_rpc_ret(self, cb, response):
        self.response = response
        with contextlib.redirect_stdout(io.StringIO()) as out:
            super().process_rpc_ret(cb, response)
        self.printed = out.getvalue()

    async def call(self, func, *args, **kwargs):
        ret = asyncio.get_running_loop().create_future()
        self.remote_call(func, ret.set_result, *args, **kwargs)
        return await asyncio.wait_for(ret, 60)

    async def returns(self, expected, func, *args, **kwargs):
        ret = await self.call(func, *args, **kwargs)
        # Without the status a lost result would pass for null. As JSON, 1, 1.0 and true differ, and -0.0 and 0.0.
        equal(self.response.code, 200)
        equal(json.dumps(ret, sort_keys=True), json.dumps(expected, sort_keys=True))

    async def refuses(self, func, *args, status, code, executed, mentions="", data=ABSENT, **kwargs):
        """The call fails. The original's server says no more than 500; byname's must say all of this."""
        ret = await self.call(func, *args, **kwargs)
        equal(ret, None)
        if not self.is_byname:
            equal(self.response.code, 500)
            return
        equal(self.response.code, status)
        answer = json.loads(self.response.body)
        equal(list(answer), ["err"])
        err = answer["err"]
        equal((err["code"], err["executed"]), (code, executed))
        assert mentions in err["message"], f"{mentions} is not in {err['message']!r}"
        if data is not ABSENT:
            equal((err["kind"], err["data"]), ("method", data))

    async def refuses_arguments(self, mentions, func, *args, **kwargs):
        await self.refuses(func, *args, status=400, code="invalid_argument", executed="no", mentions=mentions, **kwargs)


def equal(got, expected):
    assert got == expected, f"{got!r} instead of {expected!r}"


def byname_only(test):
    """For what the original accepts or doesn't promise."""
    test.byname_only = True
    return test


async def test_by_position(server):
    await server.returns(3, service.add, 1, 2)
    await server.returns("hi, Ann", service.greet, "Ann", "hi")


async def test_by_keyword(server):
    await server.returns(3, service.add, b=2, a=1)
    await server.returns("hi, Ann", service.greet, greeting="hi", name="Ann")


async def test_by_position_and_keyword(server):
    await server.returns(3, service.add, 1, b=2)
    await server.returns("hi, Ann", service.greet, "Ann", greeting="hi")


async def test_default_argument(server):
    await server.returns("hello, Ann", service.greet, "Ann")
    await server.returns("hello, Ann", service.greet, name="Ann")


async def test_no_result_is_null(server):
    await server.returns(None, service.nothing)
    equal(json.loads(server.response.body), {"ret": None})


async def test_bound_method(server):
    before = await server.call(bump)
    await server.returns(before + 5, bump, 5)
    await server.returns(before + 6, bump)


async def test_values(server):
    values = [None, True, False, 0, -1, 0.1, -0.0, 1e300, 5e-324, 1.0, "", [], {}, [[], {}, None]]
    for value in [*values, values, {"values": values}]:
        await server.returns(value, service.echo, value)


async def test_text(server):
    texts = [
        "ä",
        "a\u0308",
        "日本語",
        "😀",
        "👩‍👩‍👧",
        "\0",
        "a\0b",
        '"\\/\b\f\n\r\t',
        "\x7f",
        "\u2028\u2029",
        "\ufeff",
        "\uffff",
        "\U0010ffff",
        "😀" * 100_000,
    ]
    for text in texts:
        await server.returns(text, service.echo, text)
        await server.returns({text: [text]}, service.echo, value={text: [text]})
        await server.returns(f"{text}, {text}", service.greet, text, greeting=text)


async def test_names_beyond_ascii(server):
    await server.returns(4, service.twice, 2)
    await server.returns(4, service.twice, größe=2)
    for name in ["größe", "日本語", "😀", "\0", ""]:
        await unknown_function(server, SimpleNamespace(__name__=name))


async def test_big_integers(server):
    for number in [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]:
        await server.returns(number, service.signed, number)
        await server.returns(number, service.echo, number)
    for number in [2**53 + 1, 2**63, 2**64 - 1]:
        await server.returns(number, service.unsigned, number)
        await server.returns(number, service.echo, number)
    await server.returns(2**63, service.power_of_two, 63)


@byname_only
async def test_integers_out_of_range(server):
    await server.refuses_arguments("`value`", service.signed, 2**63)
    await server.refuses_arguments("`value`", service.signed, -(2**63) - 1)
    await server.refuses_arguments("`value`", service.unsigned, 2**64)
    await server.refuses_arguments("`value`", service.unsigned, -1)


@byname_only
async def test_integers_beyond_64_bits(server):
    for number in [2**64, 2**64 + 1, -(2**63) - 1, 10**20, 10**20 + 1]:
        ret = await server.call(service.echo, number)
        # A float will do where it is exactly this number: Python compares the two without rounding.
        assert ret == number or server.response.code == 400, f"{number} became {ret}"


@byname_only
async def test_what_is_no_json(server):
    """Python writes NaN and Infinity, which JSON doesn't have, and half a surrogate pair, which isn't text."""
    for value in [float("nan"), float("inf"), float("-inf"), "\ud800", {"\udc00": 1}]:
        equal(await server.call(service.echo, value), None)
        equal(server.response.code, 400)


async def test_result_that_is_no_number(server):
    """A Python server sends NaN, a byname server says that it can't."""
    ret = await server.call(service.not_a_number)
    if server.is_byname:
        equal((ret, server.response.code), (None, 500))
        err = json.loads(server.response.body)["err"]
        equal((err["code"], err["executed"]), ("internal", "yes"))
    else:
        equal(repr(ret), "nan")


async def test_unknown_function(server):
    await unknown_function(server, nowhere)
    await unknown_function(server, nowhere, 1, 2, name="Ann")


async def unknown_function(server, func, *args, **kwargs):
    equal(await server.call(func, *args, **kwargs), None)
    equal((server.response.code, server.response.reason), (502, "no func found err"))
    equal(server.printed, "502 no func found err\n")
    if server.is_byname:
        equal(server.response.headers.get("byname-protocol"), "1")
        err = json.loads(server.response.body)["err"]
        equal((err["code"], err["executed"]), ("unimplemented", "no"))
    else:
        equal(server.response.body, b"")


async def test_error_of_a_function(server):
    await server.refuses(
        service.fail, status=422, code="unknown", executed="yes", data={"asked": "it was asked to fail"}
    )
    printed = "422 Unprocessable Entity\n" if server.is_byname else "500 Internal Server Error\n"
    equal(server.printed, printed)
    if not server.is_byname:
        equal(server.response.headers["content-type"], "text/html; charset=UTF-8")


async def test_wrong_arguments(server):
    await server.refuses_arguments("`b`", service.add, 1)
    await server.refuses_arguments("`a`", service.add, b=1)
    await server.refuses_arguments("`c`", service.add, 1, 2, c=3)
    await server.refuses_arguments("2", service.add, 1, 2, 3)
    await server.refuses_arguments("`a`", service.add, 1, 2, a=1)
    await server.refuses_arguments("`b`", service.add, 1, "two")
    await server.refuses_arguments("`by`", bump, 1, by=2)
    await server.refuses_arguments("`größe`", service.twice)


async def test_slow_function(server):
    await server.returns(100, service.slow, 100)


async def test_large_message(server):
    text = "x" * 2**20
    await server.returns(text, service.echo, text)


@byname_only
async def test_message_above_the_limit(server):
    # Both limits are 4 MiB: the first message is too large for the server to read, the second to write.
    for text in ["x" * 2**23, "x" * (2**22 - 100)]:
        ret = await server.call(service.echo, text)
        assert ret is None or ret == text, "the result was cut"
        if ret is None:
            err = json.loads(server.response.body)["err"]
            equal(err["code"], "resource_exhausted")
            assert err.get("limit"), f"no limit is named in {err}"
    await server.returns(3, service.add, 1, 2)


async def many(server, calls):
    """Makes these calls of `add` at once."""
    rets = await asyncio.gather(*(server.call(service.add, n, 2**53) for n in range(calls)))
    equal(rets, [n + 2**53 for n in range(calls)])


async def test_10000_calls_at_once(server):
    before = server.opened
    await many(server, 10_000)
    opened = server.opened - before
    print(f"    10000 calls, {opened} connections opened")
    assert opened <= 128, f"{opened} connections"
    if not server.is_byname:
        # Tornado's server can count as well: nothing was missed here.
        equal(await server.call(connections), server.opened)


async def test_each_call_runs_once(server):
    before = await server.call(bump, 0)
    rets = await asyncio.gather(*(server.call(bump) for _ in range(1_000)))
    equal(sorted(rets), list(range(before + 1, before + 1_001)))


async def test_client_without_kept_connections(server):
    """Tornado's own client, with which the article began: a connection for every request."""
    simple = Target("http://" + server.host, server.is_byname)
    simple.http_client = AsyncHTTPClient
    await simple.returns("hi, Ann", service.greet, "Ann", greeting="hi")
    await simple.returns("😀\0", service.echo, "😀\0")
    await unknown_function(simple, nowhere)
    await simple.refuses_arguments("`b`", service.add, 1)
    if server.is_byname:
        await many(simple, 1_000)
    else:
        before = await simple.call(connections)
        await many(simple, 1_000)
        equal(await simple.call(connections) - before, 1_001)


async def main(server):
    tally = Tally()
    for name, test in list(globals().items()):
        if not name.startswith("test_") or getattr(test, "byname_only", False) and not server.is_byname:
            continue
        with tally.test(name):
            await test(server)
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--original", action="store_true")
    options = parser.parse_args()
    # No scheme, as in the article.
    server = Target(options.address + "/rpc", is_byname=not options.original)
    asyncio.run(main(server)).exit()
