"""A service on the original framework: what `examples/interop_server` serves with byname, and connections counted."""

import argparse
import asyncio
import signal
import time

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from original import RpcHandler


@RpcHandler.rpc
def add(a, b):
    return a + b


@RpcHandler.rpc
def greet(name, greeting="hello"):
    return f"{greeting}, {name}"


@RpcHandler.rpc
def echo(value):
    return value


@RpcHandler.rpc
def signed(value):
    return value


@RpcHandler.rpc
def unsigned(value):
    return value


@RpcHandler.rpc
def power_of_two(exponent):
    return 2**exponent


@RpcHandler.rpc
def twice(größe):
    return 2 * größe


@RpcHandler.rpc
def nothing():
    pass


@RpcHandler.rpc
def not_a_number():
    return float("nan")


@RpcHandler.rpc
def fail():
    raise ValueError("it was asked to fail")


@RpcHandler.rpc
def slow(ms):
    # As everything did in the original, this holds up the whole service.
    time.sleep(ms / 1000)
    return ms


class Counter:
    def __init__(self):
        self.total = 0

    def bump(self, by=1):
        self.total += by
        return self.total


class CountingServer(HTTPServer):
    opened = 0

    def handle_stream(self, stream, address):
        self.opened += 1
        super().handle_stream(stream, address)

    def connections(self):
        """How many connections were opened to this server so far."""
        return self.opened


async def main(port_file):
    RpcHandler.inject_rpc(Counter().bump)
    server = CountingServer(Application([("/rpc", RpcHandler)]))
    RpcHandler.inject_rpc(server.connections)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    with open(port_file, "w") as file:
        print(sockets[0].getsockname()[1], file=file)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", required=True, help="where to write the port (a pipe will do)")
    asyncio.run(main(parser.parse_args().port_file))
