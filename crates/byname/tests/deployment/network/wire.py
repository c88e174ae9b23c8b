"""A wire that does what it is told, for `network.rs`, in a network namespace of its own.

Whoever is at 10.77.0.1 finds itself at 10.77.0.2, by way of a TUN device: each packet comes here, and goes back with
its two addresses exchanged, which leaves its checksums right. Each line of standard input says what becomes of packets
from then on, and is answered by itself. (`tc netem` could do most of it, but not every kernel has that.)
"""

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
TCP, FIN, RST = 6, 0x01, 0x04


def whole(_):
    return [0]


def none(_):
    return []


def endless(packet):
    """Neither side is told of the end of a connection."""
    header = (packet[0] & 0x0F) * 4
    ends = packet[9] == TCP and packet[header + 13] & (FIN | RST)
    return [] if ends else [0]


def rough(_):
    """200 ms ± 100, so in another order; one in twenty is lost, one in fifty comes twice."""
    times = 0 if random.random() < 0.05 else 2 if random.random() < 0.02 else 1
    return [random.uniform(0.1, 0.3) for _ in range(times)]


MODES = {mode.__name__: mode for mode in (whole, none, endless, rough)}


def main():
    wire = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(wire, TUNSETIFF, struct.pack("16sH", b"wire", IFF_TUN | IFF_NO_PI))
    for command in ["addr add 10.77.0.1/24 dev wire", "link set wire up", "link set lo up"]:
        subprocess.run(["ip", *command.split()], check=True)
    print("ready", flush=True)
    mode, order, on_the_way = whole, itertools.count(), []
    while True:
        patience = max(0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        readable, _, _ = select.select([wire, sys.stdin], [], [], patience)
        if sys.stdin in readable:
            line = sys.stdin.readline().strip()
            if not line:
                return
            mode = MODES[line]
            print(line, flush=True)
        now = time.monotonic()
        if wire in readable:
            packet = os.read(wire, 1 << 16)
            if packet[0] >> 4 == 4:
                packet = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
                for delay in mode(packet):
                    heapq.heappush(on_the_way, (now + delay, next(order), packet))
        while on_the_way and on_the_way[0][0] <= now:
            os.write(wire, heapq.heappop(on_the_way)[2])


if __name__ == "__main__":
    main()
