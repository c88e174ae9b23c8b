"""A client of frames calls byname: `frames_client.py HOST:PORT SERVER`, where SERVER is the program to start and stop.

It was written from docs/protocol.md alone, on a library of WebSocket.
"""

import collections
import json
import re
import signal
import struct
import subprocess
import sys
import uuid

import websocket

from tally import Tally

HELLO, NAME, CALL, REPLY, ERROR, CANCEL, GOAWAY, ITEM, END, CREDIT, LOAD = range(1, 12)
MORE, METADATA, MIXED, STREAM, ITEMS, BATCH = 1, 2, 4, 8, 16, 64
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
    def __init__(self, address, codec="json", batches=False):
        self.socket = websocket.create_connection(
            f"ws://{address}/rpc", timeout=30, subprotocols=["byname.v1"], suppress_origin=True
        )
        self.read = json.loads if codec == "json" else bytes
        self.names, self.pieces, self.answers = {}, {}, {}
        # What came for each stream: of ITEM and END the flags and the payload.
        self.streams = collections.defaultdict(collections.deque)
        # How many bytes more may be sent of each stream, and which streams the server wants no more of.
        self.credit, self.unwanted = collections.Counter(), set()
        self.last_id, self.goaway = 0, None
        self.order = []
        (kind, hello), *rest = [(kind, payload) for kind, _, _, payload in self.message()]
        equal((kind, rest), (HELLO, []))
        self.hello = json.loads(hello)
        equal(self.hello["version"], 1)
        assert codec in self.hello["codecs"], self.hello
        hello = {"version": 1, "message": 1 << 22, "window": 1 << 22, "codecs": [codec]}
        if batches:
            hello["batches"] = True
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

    def call_frames(
        self, name, args=b"", timeout=30_000, metadata=None, positional=None, credit=None, sends_items=False
    ):
        """A call, as one frame, or as the pieces of one; and before it the name, if it is new."""
        frames = []
        if name not in self.names:
            self.names[name] = len(self.names)
            frames.append(frame(NAME, name.encode(), number=self.names[name]))
        payload, flags = struct.pack(">I", timeout), 0
        if credit is not None:
            payload, flags = payload + struct.pack(">I", credit), flags | STREAM
        if sends_items:
            flags |= ITEMS
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
            elif kind == ITEM and flags & BATCH:
                self.take_items(id, flags, payload)
            elif kind in (REPLY, ERROR, ITEM):
                payload = self.pieces.pop((kind, id), b"") + payload
                if flags & MORE:
                    self.pieces[kind, id] = payload
                elif kind == ITEM:
                    self.streams[id].append((kind, flags, payload))
                else:
                    assert id not in self.answers, f"{id} is answered twice"
                    self.answers[id] = kind, flags, payload
                    self.order.append(id)
            elif kind == END:
                self.streams[id].append((kind, flags, payload))
            elif kind == CREDIT:
                self.credit[id] += struct.unpack(">I", payload)[0]
            elif kind == CANCEL:
                self.unwanted.add(id)

    def take_items(self, id, flags, payload):
        """Several items in one frame, as if each had come in its own."""
        assert not flags & MORE and (ITEM, id) not in self.pieces and len(payload) <= PIECE, (flags, len(payload))
        metadata = b""
        if flags & METADATA:
            metadata, payload = take_part(payload)
            metadata = part(metadata)
        while payload:
            value, payload = take_part(payload)
            self.streams[id].append((ITEM, METADATA if metadata else 0, metadata + value))
            metadata = b""

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

    def next(self, id):
        """The next item of a stream: its value, what it costs and its metadata. At the end there is no value."""
        while not self.streams[id]:
            if id in self.answers:
                return self.answer(id)
            self.take()
        kind, flags, payload = self.streams[id].popleft()
        cost, metadata = 16 + len(payload), {}
        if flags & METADATA:
            metadata, payload = take_part(payload)
            metadata = json.loads(metadata)
        if kind == END:
            equal((payload, len(self.streams[id])), (b"", 0))
            return None, 0, metadata
        return self.read(payload), cost, metadata

    def items(self, id):
        """All items of a stream, each of which gives back what it cost."""
        while True:
            value, cost, _ = self.next(id)
            if cost == 0:
                return
            self.give(id, cost)
            yield value

    def give(self, id, credit):
        self.send(frame(CREDIT, struct.pack(">I", credit), id=id))

    def put(self, id, value):
        """Sends an item as soon as there is credit."""
        while self.credit[id] <= 0:
            self.take()
        payload = encoded(value)
        self.credit[id] -= 16 + len(payload)
        for at in range(0, len(payload), PIECE):
            more = MORE if at + PIECE < len(payload) else 0
            self.send(frame(ITEM, payload[at : at + PIECE], more, id=id))


    def put_together(self, id, values):
        """Sends items in one frame each for as many as there is credit for."""
        while values:
            while self.credit[id] <= 0:
                self.take()
            payload = b""
            while values and self.credit[id] > 0 and len(payload) < PIECE // 2:
                value = encoded(values.pop(0))
                self.credit[id] -= 16 + len(value)
                payload += part(value)
            self.send(frame(ITEM, payload, BATCH, id=id))


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


def test_load_and_instance(address):
    with Connection(address) as connection, Connection(address) as other:
        assert re.fullmatch("[0-9a-f]{16}", connection.hello["instance"]), connection.hello
        equal(connection.hello["instance"], other.hello["instance"])
        connection.send(*connection.call_frames("add", b"[1,2]")[1])
        (kind, flags, id, payload), (answer, *_) = connection.message()
        equal((kind, flags, id, len(payload), answer), (LOAD, 0, 0, 8, REPLY))
        calls, _ = struct.unpack(">II", payload)
        slow = connection.begin("slow", 300)
        connection.send(*connection.call_frames("add", b"[1,2]")[1])
        (_, _, _, payload), _ = connection.message()
        assert struct.unpack(">II", payload)[0] > calls, payload
        equal(connection.answer(slow)[0], 300)


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
        frame(NAME, b"add") + frame(CALL, b"\0\0\0\0" + part(b"[1]"), METADATA, id=1),
    ]:
        with Connection(address) as connection:
            connection.send(wrong)
            code, why = closes(connection)
            equal(code, 1002)
            assert why, "no reason"


def test_stream_byte_by_byte(address):
    with Connection(address) as connection:
        connection.names["others"] = 0
        connection.names["more"] = 1
        connection.last_id = 2
        id, frames = connection.call_frames("countdown", b"[3]", credit=1 << 18)
        call = bytes.fromhex("0000000b030800020000000000000003 00007530 00040000") + b"[3]"
        equal(frames[1], call)
        connection.send(*frames)
        expected = [(ITEM, 0, 3, digit) for digit in [b"3", b"2", b"1"]] + [(END, 0, 3, b"")]
        came = []
        while len(came) < len(expected):
            came += connection.message()
        equal(came, expected)
        equal(connection.call("add", 1, 2), 3)


def test_several_items_in_one_frame_byte_by_byte(address):
    with Connection(address, batches=True) as connection:
        equal(connection.hello["batches"], True)
        connection.last_id = 2
        id = connection.begin("countdown", 3, credit=1 << 18)
        expected = [(ITEM, 0, 3, b"3"), (ITEM, BATCH, 3, part(b"2") + part(b"1")), (END, 0, 3, b"")]
        came = []
        while len(came) < len(expected):
            came += connection.message()
        equal(came, expected)


def test_several_items_in_one_frame(address):
    with Connection(address, batches=True) as connection:
        for count in [0, 1, 20_000]:
            id = connection.begin("countdown", count, credit=1000)
            equal(list(connection.items(id)), list(range(count, 0, -1)))
        id = connection.begin("sum", 2, sends_items=True)
        connection.put_together(id, list(range(20_000)))
        connection.send(frame(END, id=id))
        equal(connection.answer(id)[0], 2 * sum(range(20_000)))


def test_stream(address):
    with Connection(address) as connection:
        for count in [0, 1, 20_000]:
            id = connection.begin("countdown", count, credit=1000)
            equal(list(connection.items(id)), list(range(count, 0, -1)))
        assert not connection.answers, "a stream was answered as well"


def test_stream_in_message_pack(address):
    with Connection(address, "msgpack") as connection:
        id, frames = connection.call_frames("countdown", b"\x91\xcd\x01\x00", credit=1 << 18)
        connection.send(*frames)
        items = list(connection.items(id))
        equal((len(items), items[0], items[-1]), (256, b"\xcd\x01\x00", b"\x01"))
        id, frames = connection.call_frames("breaks_off", b"\x91\x01", credit=1 << 18)
        connection.send(*frames)
        equal(connection.next(id)[0], b"\x01")
        equal(fails(lambda: connection.next(id)).own, b"\x81\xa5asked\xb4it was asked to fail")


def test_error_in_the_middle_of_a_stream(address):
    with Connection(address) as connection:
        id = connection.begin("breaks_off", 2, credit=1 << 18)
        equal([connection.next(id)[0], connection.next(id)[0]], [1, 2])
        failed = fails(lambda: connection.next(id))
        equal((failed.error["code"], failed.error["executed"], failed.error["kind"]), ("unknown", "yes", "method"))
        equal(failed.own, {"asked": "it was asked to fail"})
        equal(connection.call("add", 1, 2), 3)


def test_error_before_any_item(address):
    with Connection(address) as connection:
        id = connection.begin("breaks_off", 0, credit=0)
        equal(fails(lambda: connection.next(id)).own, {"asked": "it was asked to fail"})
        id = connection.begin("countdown", "three", credit=1 << 18)
        error = fails(lambda: connection.next(id)).error
        equal((error["code"], error["executed"]), ("invalid_argument", "no"))


def test_a_slow_reader_stops_the_producer_at_its_credit(address):
    with Connection(address) as connection:
        # An item costs 1000 bytes, two quotes and 16. The fifth is begun with 928 left of 5000.
        of, cost = str(uuid.uuid4()), 1018
        id = connection.begin("endless", of, 1000, credit=5000)
        equal([connection.next(id)[1] for _ in range(5)], [cost] * 5)

        def made_no_more(count):
            # It runs on another thread, maybe; a hundred answers give it the time to go wrong.
            made = {connection.call("items", of) for _ in range(100)}
            equal(len(connection.streams[id]), 0)
            assert max(made) <= count + 1, f"{made} were made where {count} were wanted"

        made_no_more(5)
        connection.give(id, 5 * cost - 5000)
        made_no_more(5)
        connection.give(id, 1)
        equal(connection.next(id)[1], cost)
        made_no_more(6)
        equal(connection.call("streams", of), 1)
        connection.send(frame(CANCEL, id=id))
        while connection.call("streams", of) > 0:
            pass
        connection.give(id, 1 << 18)
        equal((connection.call("add", 1, 2), len(connection.streams[id])), (3, 0))


def test_no_item_without_credit(address):
    with Connection(address) as connection:
        id = connection.begin("countdown", 2, credit=0)
        for _ in range(100):
            connection.call("nothing")
        equal(len(connection.streams[id]), 0)
        connection.give(id, 1)
        equal(connection.next(id)[0], 2)
        connection.give(id, 17)
        equal(connection.next(id)[0], 1)
        # Whether there is another is found out once it may be sent.
        connection.give(id, 17)
        equal(connection.next(id)[1], 0)


def test_cancel_in_the_middle_of_a_stream(address):
    with Connection(address) as connection:
        of = str(uuid.uuid4())
        id = connection.begin("ticks", of, credit=1 << 18)
        connection.call("tick", of)
        equal(connection.next(id)[0], 1)
        equal(connection.call("streams", of), 1)
        connection.send(frame(CANCEL, id=id))
        while connection.call("streams", of) > 0:
            pass
        connection.call("tick", of)
        equal((len(connection.streams[id]), connection.answers), (0, {}))


def test_a_connection_that_ends_ends_its_streams(address):
    of = str(uuid.uuid4())
    with Connection(address) as connection:
        id = connection.begin("endless", of, 10, credit=100)
        connection.next(id)
    with Connection(address) as connection:
        while connection.call("streams", of) > 0:
            pass


def test_large_items_in_pieces(address):
    with Connection(address) as connection:
        of, length = str(uuid.uuid4()), 300_000
        id = connection.begin("endless", of, length, credit=1)
        value, cost, _ = connection.next(id)
        equal((value, cost), ("x" * length, length + 18))
        # All pieces together cost one header.
        connection.give(id, length + 17)
        equal(connection.call("add", 1, 2), 3)
        equal(len(connection.streams[id]), 0)
        connection.give(id, 1)
        equal(connection.next(id)[1], length + 18)
        id = connection.begin("echoes", credit=1 << 18, sends_items=True)
        connection.put(id, "ä" * length)
        equal(connection.next(id)[0], "ä" * length)


def test_small_calls_pass_between_the_pieces_of_items(address):
    with Connection(address) as connection:
        id = connection.begin("endless", str(uuid.uuid4()), 3_000_000, credit=1 << 30)
        for _ in range(5):
            equal(connection.next(id)[1], 3_000_018)
            equal(connection.call("add", 1, 2), 3)
        connection.send(frame(CANCEL, id=id))


def test_metadata_of_a_stream(address):
    with Connection(address) as connection:
        id = connection.begin("said_by_stream", 2, credit=1 << 18, metadata={"x-said": "hi"})
        payload = part(b'{"x-heard":"hi"}') + b"1"
        equal(connection.next(id), (1, 16 + len(payload), {"x-heard": "hi"}))
        equal(connection.next(id), (2, 17, {}))
        equal(connection.next(id), (None, 0, {}))
        id = connection.begin("said_by_stream", 0, credit=1 << 18, metadata={"x-said": "hi"})
        equal(connection.next(id), (None, 0, {"x-heard": "hi"}))


def test_items_are_sent(address):
    with Connection(address) as connection:
        id = connection.begin("sum", 2, sends_items=True)
        for number in range(20_000):
            connection.put(id, number)
        connection.send(frame(END, id=id))
        equal(connection.answer(id)[0], 2 * sum(range(20_000)))
        id = connection.begin("sum", sends_items=True)
        connection.send(frame(END, id=id))
        equal(connection.answer(id)[0], 0)


def test_an_item_that_can_not_be_read(address):
    with Connection(address) as connection:
        id = connection.begin("sum", sends_items=True)
        for value in [1, "two", 3]:
            connection.put(id, value)
        error = fails(lambda: connection.answer(id)).error
        equal((error["code"], error["executed"]), ("invalid_argument", "yes"))
        assert "item 2" in error["message"], error
        connection.send(frame(ITEM, b"4", id=id), frame(END, id=id))
        equal(connection.call("add", 1, 2), 3)


def test_items_both_ways(address):
    with Connection(address) as connection:
        id = connection.begin("echoes", credit=100, sends_items=True)
        for value in [1, "ä", None, {"a": [1.5]}, "x" * 1000, 2**63]:
            connection.put(id, value)
            echo, cost, _ = connection.next(id)
            equal(echo, value)
            connection.give(id, cost)
        connection.send(frame(END, id=id))
        equal(connection.next(id)[1], 0)


def test_a_slow_function_stops_its_caller_at_the_credit(address):
    with Connection(address) as connection:
        of, value = str(uuid.uuid4()), "x" * 10_000
        id = connection.begin("sips", of, sends_items=True)
        while connection.credit[id] == 0:
            connection.take()
        granted, sent = connection.credit[id], 0
        while connection.credit[id] > 0:
            connection.put(id, value)
            sent += 1
        for _ in range(100):
            connection.call("nothing")
        assert connection.credit[id] <= 0, "credit was given for what nobody has read"
        while connection.credit[id] <= 0:
            connection.call("tick", of)
        assert granted <= 1 << 18, granted
        connection.send(frame(END, id=id))
        while id not in connection.answers:
            connection.call("tick", of)
        equal(connection.answer(id)[0], sent)


def test_a_caller_without_credit_is_cut_off(address):
    with Connection(address) as connection:
        id = connection.begin("sips", str(uuid.uuid4()), sends_items=True)
        while connection.credit[id] == 0:
            connection.take()
        over = connection.credit[id] + 1
        connection.credit[id] = 1 << 30
        connection.put(id, "x" * over)
        connection.put(id, "one too many")
        code, why = closes(connection)
        equal(code, 1002)
        assert "credit" in why, why


def test_a_function_that_wants_no_more_says_so(address):
    with Connection(address) as connection:
        of = str(uuid.uuid4())
        id = connection.begin("first", of, sends_items=True)
        connection.put(id, "one")
        while id not in connection.unwanted:
            connection.take()
        # What was on its way is read over.
        connection.send(frame(ITEM, b'"two"', id=id))
        connection.call("tick", of)
        equal(connection.answer(id)[0], "one")
        connection.send(frame(ITEM, b'"three"', id=id), frame(END, id=id))
        equal(connection.call("add", 1, 2), 3)


def test_a_caller_that_breaks_its_stream_off(address):
    with Connection(address) as connection:
        of = str(uuid.uuid4())
        id = connection.begin("sips", of, sends_items=True)
        connection.put(id, 1)
        connection.call("tick", of)
        while connection.call("items", of) < 1:
            pass
        connection.send(frame(CANCEL, id=id))
        # It reads on at a tick, and finds that there is no more.
        connection.call("tick", of)
        while connection.call("streams", of) > 0:
            pass
        equal((connection.call("items", of), connection.answers), (1, {}))


def test_calls_that_are_not_ready_for_a_stream(address):
    with Connection(address) as connection:
        for name, args, options, code in [
            ("countdown", [3], {}, "failed_precondition"),
            ("sum", [], {}, "invalid_argument"),
            ("echoes", [], {"credit": 1000}, "invalid_argument"),
            ("add", [1, 2], {"sends_items": True}, "invalid_argument"),
        ]:
            id = connection.begin(name, *args, **options)
            error = fails(lambda: connection.answer(id)).error
            equal((error["code"], error["executed"]), (code, "no"))
        equal(connection.call("add", 1, 2, credit=1000), 3)


def test_time_out_of_a_stream(address):
    with Connection(address) as connection:
        of = str(uuid.uuid4())
        id = connection.begin("ticks", of, credit=1000, timeout=20)
        equal(fails(lambda: connection.next(id)).error["code"], "deadline_exceeded")
        while connection.call("streams", of) > 0:
            pass
        # It counts to the first item only: the other call has as much time, and more.
        connection.call("tick", of)
        id = connection.begin("ticks", of, credit=1000, timeout=1000)
        equal(connection.next(id)[0], 1)
        equal(fails(lambda: connection.call("wait", 60_000, timeout=1500)).error["code"], "deadline_exceeded")
        connection.call("tick", of)
        equal(connection.next(id)[0], 2)


def test_frames_of_streams_that_are_not_there(address):
    with Connection(address) as connection:
        id = connection.begin("countdown", 1, credit=1000)
        equal(list(connection.items(id)), [1])
        for unknown in [id, 1000]:
            connection.send(frame(CREDIT, struct.pack(">I", 7), id=unknown), frame(CANCEL, id=unknown))
            connection.send(frame(ITEM, b"1", id=unknown), frame(END, id=unknown))
        equal(connection.call("add", 1, 2), 3)


def test_many_streams_at_once(address):
    with Connection(address) as connection:
        ids = [connection.begin("countdown", n, credit=100) for n in range(200)]
        streams = [connection.items(id) for id in ids]
        sums = [0] * len(ids)
        running = set(range(len(ids)))
        while running:
            for n in list(running):
                value = next(streams[n], None)
                if value is None:
                    running.remove(n)
                else:
                    sums[n] += value
        equal(sums, [n * (n + 1) // 2 for n in range(200)])


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
                error = fails(lambda: connection.answer(late)).error
                equal((error["code"], error["executed"]), ("unavailable", "no"))
                equal(closes(connection)[0], 1001)
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
