"""A client of frames calls byname: `frames_client.py HOST:PORT SERVER`, where SERVER is the program to start and stop.

It was written from docs/protocol.md alone, on a library of WebSocket.
"""

import json
import signal
import struct
import subprocess
import sys

import websocket

from tally import Tally

HELLO, NAME, CALL, REPLY, ERROR, CANCEL, GOAWAY, ITEM = range(1, 9)
MORE, METADATA, MIXED = 1, 2, 4
PIECE = 64 * 1024


def frame(kind, payload=b"", flags=0, number=0, id=0):
    return struct.pack(">IBBHQ", len(payload), kind, flags, number, id) + payload


def part(content):
    return struct.pack(">I", len(content)) + content


def take_part(payload):
    length = struct.unpack_from(">I", payload)[0]
    return payload[4 : 4 + length], payload[4 + length :]


def encoded(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Failed(Exception):
    def __init__(self, error, own, metadata):
        super().__init__(error)
        self.error, self.own, self.metadata = error, own, metadata


class Connection:
    def __init__(self, address, codec="json"):
        self.socket = websocket.create_connection(
            f"ws://{address}/rpc", timeout=30, subprotocols=["byname.v1"], suppress_origin=True
        )
        self.read = json.loads if codec == "json" else bytes
        self.frames, self.names, self.pieces, self.answers = [], {}, {}, {}
        self.last_id, self.goaway = 0, None
        self.order = []
        (kind, hello), *rest = [(kind, payload) for kind, _, _, payload in self.message()]
        equal((kind, rest), (HELLO, []))
        self.hello = json.loads(hello)
        equal(self.hello["version"], 1)
        assert codec in self.hello["codecs"], self.hello
        hello = {"version": 1, "message": 1 << 22, "window": 1 << 22, "codecs": [codec]}
        self.send(frame(HELLO, encoded(hello)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *frames):
        self.socket.send_binary(b"".join(frames))

    def message(self):
        """The frames of one message."""
        message = self.socket.recv()
        assert isinstance(message, bytes) and message, f"no binary message: {message!r}"
        frames = []
        while message:
            length, kind, flags, _, id = struct.unpack_from(">IBBHQ", message)
            payload, message = message[16 : 16 + length], message[16 + length :]
            equal(len(payload), length)
            frames.append((kind, flags, id, payload))
        return frames

    def call_frames(self, name, args=b"", timeout=30_000, metadata=None, positional=None):
        """A call, as one frame, or as the pieces of one; and before it the name, if it is new."""
        frames = []
        if name not in self.names:
            self.names[name] = len(self.names)
            frames.append(frame(NAME, name.encode(), number=self.names[name]))
        payload, flags = struct.pack(">I", timeout), 0
        if metadata is not None:
            payload, flags = payload + part(encoded(metadata)), flags | METADATA
        if positional is not None:
            payload, flags = payload + part(positional), flags | MIXED
        payload += args
        self.last_id += 1
        pieces = [payload[at : at + PIECE] for at in range(0, len(payload), PIECE)]
        for at, piece in enumerate(pieces, 1):
            more = MORE if at < len(pieces) else 0
            frames.append(frame(CALL, piece, flags | more, self.names[name], self.last_id))
        return self.last_id, frames

    def begin(self, name, *args, **options):
        id, frames = self.call_frames(name, encoded(list(args)), **options)
        for one in frames:
            self.send(one)
        return id

    def take(self):
        """Takes what one message brings."""
        for kind, flags, id, payload in self.message():
            if kind == GOAWAY:
                self.goaway = id
            elif kind in (REPLY, ERROR):
                payload = self.pieces.pop((kind, id), b"") + payload
                if flags & MORE:
                    self.pieces[kind, id] = payload
                    continue
                assert id not in self.answers, f"{id} is answered twice"
                self.answers[id] = kind, flags, payload
                self.order.append(id)

    def answer(self, id):
        """The value and the metadata that answer a call."""
        while id not in self.answers:
            self.take()
        kind, flags, payload = self.answers.pop(id)
        metadata = {}
        if flags & METADATA:
            metadata, payload = take_part(payload)
            metadata = json.loads(metadata)
        if kind == REPLY:
            return self.read(payload), metadata
        error, own = take_part(payload)
        error = json.loads(error)
        raise Failed(error, self.read(own) if error["kind"] == "method" else None, metadata)

    def call(self, name, *args, **options):
        return self.answer(self.begin(name, *args, **options))[0]


def equal(got, expected):
    assert got == expected, f"{got!r} instead of {expected!r}"


def fails(call):
    try:
        value = call()
    except Failed as failed:
        return failed
    raise AssertionError(f"no error but {value!r}")


def test_add(address):
    with Connection(address) as connection:
        equal(connection.call("add", 1, 2), 3)
        equal(connection.call("add", 2**53, 1), 2**53 + 1)
        equal(connection.call("nothing"), None)


def test_arguments_by_name_and_by_both(address):
    with Connection(address) as connection:
        for args, options, expected in [
            ({"a": 1, "b": 2}, {}, 3),
            ({"b": 2}, {"positional": b"[1]"}, 3),
        ]:
            id, frames = connection.call_frames("add", encoded(args), **options)
            connection.send(*frames)
            equal(connection.answer(id)[0], expected)
        for nothing in [b"", b"null"]:
            id, frames = connection.call_frames("nothing", nothing)
            connection.send(*frames)
            equal(connection.answer(id)[0], None)


def test_message_pack(address):
    with Connection(address, "msgpack") as connection:
        id, frames = connection.call_frames("add", bytes.fromhex("920102"))
        connection.send(*frames)
        equal(connection.answer(id)[0], b"\x03")
        id, frames = connection.call_frames("fail")
        connection.send(*frames)
        own = b"\x81\xa5asked\xb4it was asked to fail"
        equal(fails(lambda: connection.answer(id)).own, own)


def test_error_of_a_function(address):
    with Connection(address) as connection:
        failed = fails(lambda: connection.call("fail"))
        equal((failed.error["code"], failed.error["executed"], failed.error["kind"]), ("unknown", "yes", "method"))
        equal(failed.own, {"asked": "it was asked to fail"})
        assert "data" not in failed.error, failed.error


def test_unknown_function(address):
    with Connection(address) as connection:
        for name in ["nowhere", "no name", "", "x" * 1000]:
            error = fails(lambda: connection.call(name)).error
            equal((error["code"], error["executed"], error["kind"]), ("unimplemented", "no", "rpc"))
        equal(connection.call("add", 1, 2), 3)


def test_wrong_arguments(address):
    with Connection(address) as connection:
        error = fails(lambda: connection.call("add", 1, "two")).error
        equal((error["code"], error["executed"]), ("invalid_argument", "no"))
        assert "`b`" in error["message"], error


def test_metadata_there_and_back(address):
    with Connection(address) as connection:
        id = connection.begin("said", metadata={"x-said": "hi", "x-other": ["a", "b"]})
        equal(connection.answer(id), ("hi", {"x-heard": "hi"}))
        id = connection.begin("said", metadata={}, timeout=0)
        equal(connection.answer(id), (None, {}))


def test_time_out(address):
    with Connection(address) as connection:
        error = fails(lambda: connection.call("wait", 60_000, timeout=20)).error
        equal(error["code"], "deadline_exceeded")
        equal(connection.call("add", 1, 2), 3)


def test_cancel(address):
    with Connection(address) as connection:
        id = connection.begin("wait", 60_000)
        while connection.call("waiting") == 0:
            pass
        connection.send(frame(CANCEL, id=id))
        while connection.call("waiting") > 0:
            pass
        equal(connection.call("add", 1, 2), 3)
        assert id not in connection.answers, "a cancelled call was answered"
        connection.send(frame(CANCEL, id=id), frame(CANCEL, id=1000))
        equal(connection.call("add", 1, 2), 3)


def test_pieces(address):
    with Connection(address) as connection:
        text = "ä" * 300_000
        equal(connection.call("echo", text), text)
        id = connection.begin("said", "x" * 300_000, metadata={"x-said": "hi"})
        equal(connection.answer(id), ("hi", {"x-heard": "hi"}))
        value, metadata = connection.answer(connection.begin("echo", [text, text]))
        equal((value, metadata), ([text, text], {}))


def test_pieces_of_a_cancelled_call_are_let_go(address):
    with Connection(address) as connection:
        text = "x" * (2 * connection.hello["message"] // 3)
        for _ in range(8):
            id, frames = connection.call_frames("echo", encoded([text]))
            for one in frames[:-1]:
                connection.send(one)
            connection.send(frame(CANCEL, id=id))
        equal(connection.call("add", 1, 2), 3)


def test_message_that_is_too_large(address):
    with Connection(address) as connection:
        error = fails(lambda: connection.call("echo", "x" * connection.hello["message"])).error
        equal((error["code"], error["executed"], error["limit"]), ("resource_exhausted", "no", "message"))
        equal(connection.call("add", 1, 2), 3)


def test_many_in_flight(address):
    with Connection(address) as connection:
        slow = connection.begin("slow", 300)
        ids, frames = zip(*(connection.call_frames("add", encoded([n, 1])) for n in range(1000)))
        connection.send(*(one for several in frames for one in several))
        for n, id in reversed(list(enumerate(ids))):
            equal(connection.answer(id)[0], n + 1)
        equal(connection.answer(slow)[0], 300)
        equal(connection.order[-1], slow)


def test_ping(address):
    with Connection(address) as connection:
        connection.socket.ping("there?")
        opcode, payload = connection.socket.recv_data(control_frame=True)
        equal((opcode, payload), (websocket.ABNF.OPCODE_PONG, b"there?"))
        equal(connection.call("add", 1, 2), 3)


def test_unknown_kinds_and_flags_are_read_over(address):
    with Connection(address) as connection:
        connection.send(frame(ITEM, b"anything", id=1), frame(200, b"x", flags=255), frame(ERROR, b"x", id=9))
        id, frames = connection.call_frames("add", b"[1,2]")
        name, call = frames
        call = call[:5] + bytes([0x80]) + call[6:]
        connection.send(name, call)
        equal(connection.answer(id)[0], 3)


def closes(connection):
    opcode, payload = connection.socket.recv_data()
    equal(opcode, websocket.ABNF.OPCODE_CLOSE)
    return struct.unpack_from(">H", payload)[0], payload[2:].decode()


def test_broken_protocol_is_told(address):
    for wrong in [
        frame(CALL, struct.pack(">I", 0), number=7, id=1),
        frame(NAME, b"add", number=4096),
        frame(NAME, b"add")[:-1],
        struct.pack(">IBBHQ", (1 << 20) + 1, NAME, 0, 0, 0),
        frame(NAME, b"add") + frame(CALL, b"\0\0\0\0[1,2]", id=0),
        frame(NAME, b"add") + frame(CALL, b"\0\0\0\0" + part(b"[1]"), METADATA, id=1),
    ]:
        with Connection(address) as connection:
            connection.send(wrong)
            code, why = closes(connection)
            equal(code, 1002)
            assert why, "no reason"


def test_refused_handshakes(address):
    def asks(**options):
        try:
            websocket.create_connection(f"ws://{address}/rpc", timeout=30, **options)
        except websocket.WebSocketBadStatusException as refused:
            return refused.status_code, json.loads(refused.resp_body)["err"]["executed"]
        raise AssertionError("it was granted")

    equal(asks(suppress_origin=True), (400, "no"))
    equal(asks(suppress_origin=True, subprotocols=["chat"]), (400, "no"))
    equal(asks(origin="http://evil.test", subprotocols=["byname.v1"]), (403, "no"))


def test_close_is_answered(address):
    with Connection(address) as connection:
        equal(connection.call("add", 1, 2), 3)
        connection.socket.send_close(1000)
        equal(closes(connection)[0], 1000)


def test_goaway(_, server):
    with subprocess.Popen([server], stdout=subprocess.PIPE, text=True) as running:
        try:
            with Connection(running.stdout.readline().strip()) as connection:
                slow = connection.begin("slow", 500)
                equal(connection.call("add", 1, 2), 3)
                running.send_signal(signal.SIGTERM)
                while connection.goaway is None:
                    connection.take()
                equal(connection.goaway, connection.last_id)
                late = connection.begin("bump")
                equal(connection.answer(slow)[0], 500)
                equal(closes(connection)[0], 1001)
                assert late not in connection.answers
            equal(running.wait(30), 0)
        finally:
            running.kill()


def main(address, server):
    tally = Tally()
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            with tally.test(name):
                test(*((address, server) if name == "test_goaway" else (address,)))
    tally.exit()


if __name__ == "__main__":
    main(*sys.argv[1:])
