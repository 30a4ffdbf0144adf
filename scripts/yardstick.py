"""Measures bare libp2p streams and Larder's own exchange, without disks. Called by scripts/yardstick.

A long line is two network namespaces with a TUN device each, and `larder-harness delay` between them. The devices take
packets of up to 64 KiB that would be cut later, as real ones do, so that a line is not slower than what it is to measure.
"""

import argparse
import fcntl
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import machine, table
from origins import BUILT, HARNESS, end_on_signals
from warm import READY_SECONDS, Running

THROUGHPUT = BUILT / "examples" / "throughput"
PREFIX = "larder-line-"
# MiB that are taken, by round trip in ms: enough that the start counts for little, and no run lasts a minute.
MIB = {None: 2048, 0: 1024, 20: 1024, 50: 512, 100: 512}
# What a connection may have under way where the kernel's limit is lifted.
LIFTED_BYTES = 64 << 20
# After that, what is said at the start of connections is said.
SETTLE_SECONDS = 3
LISTEN = {"TCP": "/ip4/{}/tcp/0", "QUIC": "/ip4/{}/udp/0/quic-v1"}
LIMITS = ("tcp_wmem", "tcp_rmem")
# Source: linux/if_tun.h.
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TUN, WITHOUT_PROTOCOL, WITH_HEADER, OFFLOADS = 0x1, 0x1000, 0x4000, 0x1 | 0x2 | 0x4 | 0x20 | 0x40


class Loopback:
    """Both ends on this machine."""

    addresses = ("127.0.0.1", "127.0.0.1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def inside(self, _, command):
        return command


class Line:
    """Two hosts with a long line between them; `lifted` lifts the kernel's limits of their buffers."""

    addresses = ("198.18.0.1", "198.18.0.2")

    def __init__(self, round_trip_ms, lifted=False):
        self.round_trip_ms, self.lifted, self.relay = round_trip_ms, lifted, None

    def __enter__(self):
        self.remove()
        try:
            ends = [self.end(number) for number in (0, 1)]
            command = [HARNESS, "delay", "--ms", str(self.round_trip_ms / 2)]
            self.relay = subprocess.Popen(command, stdin=ends[0], stdout=ends[1])
            for end in ends:
                os.close(end)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.relay:
            self.relay.terminate()
            self.relay.wait()
        self.remove()

    def end(self, number):
        """A namespace, and the device that leads to it."""
        name = f"{PREFIX}{number}"
        call("ip", "netns", "add", name)
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), TUN | WITHOUT_PROTOCOL | WITH_HEADER))
        fcntl.ioctl(device, TUNSETOFFLOAD, OFFLOADS)
        call("ip", "link", "set", name, "netns", name)
        here, there = self.addresses[number], self.addresses[1 - number]
        for words in (["addr", "add", here, "peer", there, "dev", name], ["link", "set", name, "txqueuelen", "10000", "up"], ["link", "set", "lo", "up"]):
            call("ip", "-n", name, *words)
        if self.lifted:
            for limit in LIMITS:
                values = f"4096 131072 {LIFTED_BYTES}"
                call(*self.inside(number, ["sh", "-c", f"echo {values} >/proc/sys/net/ipv4/{limit}"]))
        return device

    def inside(self, number, command):
        return ["ip", "netns", "exec", f"{PREFIX}{number}", *command]

    def remove(self):
        for number in (0, 1):
            subprocess.run(["ip", "netns", "delete", f"{PREFIX}{number}"], stderr=subprocess.DEVNULL)


def call(*command):
    subprocess.run(command, check=True)


def take(place, kind, transport, connections, mib, scratch):
    """One measurement: MiB a second, and the round trip in ms where it was measured."""
    listen = [LISTEN[transport].format(place.addresses[0])] * connections
    with Running(place.inside(0, [THROUGHPUT, "give", kind, *listen]), None, scratch, "giver") as giver:
        addresses = giver.said(r"(/ip4.+)\n").split()
        command = place.inside(1, [THROUGHPUT, "take", kind, str(mib), *addresses])
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=READY_SECONDS)
        said = json.loads(done.stdout)
        return said["mib_per_second"], said["round_trip_ms"]


def row(place, title, transport, mib, rounds, scratch):
    """What both kinds do with one and with two connections, in turn."""
    columns = [(kind, connections) for connections in (1, 2) for kind in ("bare", "ours")]
    took = {column: [] for column in columns}
    round_trips = []
    for _ in range(rounds):
        for kind, connections in columns:
            rate, round_trip = take(place, kind, transport, connections, mib, scratch)
            took[kind, connections].append(rate)
            round_trips += [round_trip] if kind == "bare" else []
            print(f"  {title}, {transport}, {kind}, {connections}: {rate:.0f} MiB/s", file=sys.stderr, flush=True)
    middle = {column: statistics.median(rates) for column, rates in took.items()}
    cells = [f"{statistics.median(round_trips):.1f} ms"]
    for connections in (1, 2):
        bare, ours = middle["bare", connections], middle["ours", connections]
        cells += [f"{bare:.0f}", f"{ours:.0f}", f"{ours / bare:.2f}"]
    return [title, transport, *cells]


def resident(process):
    """Bytes of memory that a process has to itself."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024


def memory(scratch):
    """What connections cost the node that others connect to."""
    rows = []
    for kind in ("bare", "ours"):
        for transport in ("TCP", "QUIC"):
            cells, alone = [], None
            for count in (50, 200):
                with Running([THROUGHPUT, "give", kind, LISTEN[transport].format("127.0.0.1")], None, scratch, "giver") as giver:
                    address = giver.said(r"(/ip4\S+)")
                    before = resident(giver.process)
                    alone = alone or before
                    with Running([THROUGHPUT, "hold", kind, count, address], None, scratch, "holder") as holder:
                        holder.said(r"(connected)\n")
                        time.sleep(SETTLE_SECONDS)
                        cells.append(f"{(resident(giver.process) - before) / count / 1024:.0f} KiB")
                        if count == 50:
                            busy = f"{(most_while_taking(giver, holder) - before) / count / 1024:.0f} KiB"
            rows.append([kind.replace("ours", "larder"), transport, f"{alone / 1e6:.1f} MB", *cells, busy])
            print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    return rows


def most_while_taking(giver, holder):
    """The most memory of the giver while all connections take 32 MiB each."""
    holder.process.stdin.write(b"32\n")
    holder.process.stdin.flush()
    most = 0
    while "taken" not in holder.log.read_text():
        most = max(most, resident(giver.process))
        time.sleep(0.01)
    return most


def kernel():
    """The limits that long lines meet."""
    values = {limit: Path(f"/proc/sys/net/ipv4/{limit}").read_text().split() for limit in LIMITS}
    said = ", ".join(f"{limit} {' '.join(numbers)}" for limit, numbers in values.items())
    return f"{said}, {Path('/proc/sys/net/ipv4/tcp_congestion_control').read_text().strip()}"


def main():
    parts = ["loopback", "memory", *(str(ms) for ms in MIB if ms is not None)]
    parser = argparse.ArgumentParser(description="Measures streams of libp2p, and Larder's exchange.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of {', '.join(parts)}")
    parser.add_argument("--date", required=True, help="the day, for the report")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"there is no part {unknown.pop()!r}: there are {', '.join(parts)}")
    wanted = arguments.parts or parts
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="yardstick-", dir=BUILT.parent) as scratch:
        rows, remembered = [], []
        if "loopback" in wanted:
            rows += [row(Loopback(), "loopback", transport, MIB[None], arguments.rounds, scratch) for transport in LISTEN]
        for ms in (ms for ms in MIB if str(ms) in wanted):
            for transport, lifted in (("TCP", False), ("TCP", True), ("QUIC", False)):
                with Line(ms, lifted) as line:
                    title = f"line of {ms} ms{', limits lifted' if lifted else ''}"
                    rows.append(row(line, title, transport, MIB[ms], arguments.rounds, scratch))
        if "memory" in wanted:
            remembered = memory(scratch)
        print(machine(scratch, arguments.date))
        print(f"Two processes, nothing written to disk; medians of {arguments.rounds}. Kernel: {kernel()}; lifted: {LIFTED_BYTES >> 20} MiB both ways.\n")
        if rows:
            titles = ["", "", "round trip", *(f"{kind}, {count}" for count in ("1 connection", "2 connections") for kind in ("bare", "larder", "by it"))]
            print(table("MiB/s of a bare libp2p stream, and of Larder's exchange; the second connection is to a second node", titles, rows))
        if remembered:
            titles = ["", "", "without any", "idle, of 50", "idle, of 200", "busy, of 50"]
            print(table("Memory of the side that is connected to, by connection", titles, remembered))


if __name__ == "__main__":
    main()
