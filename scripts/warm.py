"""Measures a warm pull of one file, one node to one node over loopback, beside others. Called by scripts/warm.

All take the same file in turn, in one run, on the same machine and disk. Each has the time of the whole process that ends
with the file at its target, but the bare stream ends in memory. Every file is held against the sha256 of the first.
"""

import argparse
import hashlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import Bench, machine, seconds, spread, table
from origins import BUILT, LARDER, Finished, Origin, end_on_signals, environment, job, prepare, run, write_job

MIB = 1 << 20
BYTES = 2048 * MIB
MARKET = "GvfYkpn3xumBxxePtnwot1HsXEzByyujmmRNSpxkRFoN"
THROUGHPUT = BUILT / "examples" / "throughput"
OTHERS = BUILT.parent / "yardstick" / "bin"
# How long a program may take to say that it is ready.
READY_SECONDS = 120
# Memory that is not used before a run although it is free, and the most that is: more takes a minute.
RESERVE_BYTES, MOST_BYTES = 1 << 30, 13 << 30
TICKS = os.sysconf("SC_CLK_TCK")


class Running:
    """A program that runs until the `with` block ends."""

    def __init__(self, command, environment, folder, name):
        self.log = Path(folder) / f"{name}.log"
        with open(self.log, "w") as log:
            command = [str(part) for part in command]
            self.process = subprocess.Popen(command, env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def said(self, pattern):
        """Waits until it has written what matches, and gives the first group."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(pattern, self.log.read_text(errors="replace")):
                return found[1]
            time.sleep(0.02)
        sys.exit(f"{self.process.args[0]} did not say {pattern!r}:\n{self.log.read_text(errors='replace')[-3000:]}")

    def processor(self):
        """The seconds of processor time it has had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


class Node(Running):
    """A daemon of larder, in a folder of its own."""

    def __init__(self, folder, hub, bootstrap=()):
        self.folder, self.environment = folder, environment(folder / "home", hub)
        folder.mkdir(exist_ok=True)
        words = [LARDER, "init", "--market", MARKET, "--listen", f"/ip4/127.0.0.1/tcp/{free_port()}"]
        done = run([*words, *(word for address in bootstrap for word in ("--bootstrap", address))], self.environment)
        assert done.code == 0, done.complaints
        super().__init__([LARDER, "run", *([] if bootstrap else ["--bootstrap"])], self.environment, folder, "daemon")

    def __enter__(self):
        try:
            self.address = self.said(r"larder: ready, \w+, listening on (\S+)")
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for_peers(self):
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            status = run([LARDER, "status", "--json"], self.environment).document()
            if all(market["peers"] for market in status["markets"]):
                return
            time.sleep(0.1)
        sys.exit("the nodes did not find each other")

    def prepare(self):
        """Gets the file; the job's report, and the path of the file."""
        path = write_job(self.folder / "job.json", job({"type": "HF", "repo": "org/warm", "target": "/data-models/"}))
        finished = run(prepare(path, self.folder / "root"), self.environment)
        finished.document()
        return finished, self.folder / "root" / "data-models" / "model.bin"


class Warm:
    """What is measured: each attempt gets the file into a fresh folder, and gives what it took."""

    def __init__(self, scratch, hub, seed):
        self.hub, self.seed = hub, seed
        (taken, laid), self.origin = seed.prepare(), 0
        assert taken.document()["totals"]["bytes"] == BYTES
        self.right = sha256(laid)
        # The others get a file of their own to give, not one that the store holds.
        self.source = scratch / "given" / "model.bin"
        self.source.parent.mkdir()
        shutil.copyfile(laid, self.source)

    def larder(self, folder):
        with Node(folder / "node", self.hub, [self.seed.address]) as node:
            node.wait_for_peers()
            self.hub.reset()
            before = self.begin(self.seed, node)
            finished, path = node.prepare()
            finished.processor += self.seed.processor() + node.processor() - before
            self.origin = max(self.origin, self.hub.content())
            sources = finished.document()["totals"]["from"]
            assert sources == {"cache": 0, "peers": BYTES, "origin": 0}, sources
        return self.check(finished, path)

    def bare(self, folder):
        with Running([THROUGHPUT, "give", "bare", "/ip4/127.0.0.1/tcp/0"], None, folder, "giver") as giver:
            address = giver.said(r"(/ip4\S+)")
            before = self.begin(giver)
            finished = run([THROUGHPUT, "take", "bare", BYTES // MIB, address])
            finished.processor += giver.processor() - before
        finished.seconds = BYTES / MIB / finished.document()["mib_per_second"]
        return finished

    def sendme(self, folder):
        giving, taking = folder / "giving", folder / "taking"
        giving.mkdir(), taking.mkdir()
        sendme = lambda *words: [OTHERS / "sendme", *words, "--relay", "disabled", "--no-progress", "--magic-ipv4-addr", "127.0.0.1:0", "--magic-ipv6-addr", "[::1]:0"]
        own = environment(folder / "home")
        with Running(sendme("send", self.source, "--ticket-type", "addresses"), own, giving, "giver") as giver:
            ticket = giver.said(r"sendme receive (\S+)")
            before = self.begin(giver)
            finished = run(["env", "-C", taking, *sendme("receive", ticket)], own)
            finished.processor += giver.processor() - before
        return self.check(finished, taking / "model.bin")

    def rqbit(self, folder):
        port, taking, own = free_port(), folder / "taking", environment(folder / "home")
        alone = ["--disable-dht", "--disable-trackers", "--disable-lsd", "--disable-upnp-port-forward", "--listen-ip", "127.0.0.1"]
        giving = [OTHERS / "rqbit", *alone, "--listen-port", port, "--http-api-listen-addr", "127.0.0.1:0", "share", self.source]
        with Running(giving, own, folder, "giver") as giver:
            magnet = giver.said(r"share this magnet link: (\S+)")
            giver.said("(Initial check results)")
            before = self.begin(giver)
            peers = ["--initial-peers", f"127.0.0.1:{port}"]
            finished = run([OTHERS / "rqbit", *alone, "download", "--exit-on-finish", "--disable-http-api", *peers, "--output-folder", taking, magnet], own)
            finished.processor += giver.processor() - before
        return self.check(finished, next(iter(taking.rglob("model.bin")), taking))

    def begin(self, *running):
        """Leaves nothing of earlier runs to be written, and gives the processor time that those have had."""
        os.sync()
        have_memory_back()
        return sum(one.processor() for one in running)

    def check(self, finished, path):
        if finished.code != 0 or sha256(path) != self.right:
            sys.exit(f"{path} is not the file that was given:\n{finished.out[-3000:]}{finished.complaints[-3000:]}")
        return finished


def have_memory_back():
    """Uses most of the memory that is free once. Where the host of a virtual machine took free memory back, the first use of a page costs
    several times what writing it does: which page is given to whom is chance, and who uses more would pay more for it."""
    free = int(re.search(r"MemFree:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024
    block = bytes(MIB)
    with open(os.memfd_create("used"), "wb", buffering=0) as file:
        for _ in range(min(free - RESERVE_BYTES, MOST_BYTES) // MIB):
            file.write(block)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Each with what it holds the bytes against before it calls the file complete.
VERIFIES = {
    "a bare libp2p stream": "nothing; into memory",
    "larder": "BLAKE3 of each 256 KiB, then the origin's sha256",
    "sendme 0.37": "BLAKE3 of each 16 KiB",
    "rqbit 9.1": "SHA-1 of each piece",
}


def report(took):
    """The table, and the goals that were missed."""
    ours = seconds(took["larder"])
    rows, missed = [], []
    for name, verifies in VERIFIES.items():
        if name not in took:
            rows.append([name, "not to be had here", "", "", verifies, ""])
            continue
        runs = took[name]
        processor = statistics.median(one.processor for one in runs)
        faster = "" if name == "larder" else f"{seconds(runs) / ours:.2f}"
        rows.append([name, spread(runs), f"{BYTES / MIB / seconds(runs):.0f}", f"{processor:.1f} s", verifies, faster])
    for name, least in {"a bare libp2p stream": 0.7, "sendme 0.37": 2, "rqbit 9.1": 0.9}.items():
        if name in took and seconds(took[name]) / ours < least:
            missed.append(f"larder has {seconds(took[name]) / ours:.2f} of the speed of {name}, and should have {least}")
    titles = ["", "time", "MiB/s", "processor time of both sides", "holds the bytes against", "larder's speed by it"]
    goals = "goals: 0.7 of the bare stream, twice sendme, 0.9 of rqbit, nothing from the origin"
    return table(f"A warm pull of 2 GiB, one node to one node over loopback ({goals})", titles, rows), missed


def main():
    parser = argparse.ArgumentParser(description="Measures a warm pull beside others.")
    parser.add_argument("--date", required=True, help="the day, for the report")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    arguments = parser.parse_args()
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="warm-", dir=BUILT.parent) as scratch:
        scratch = Path(scratch)
        with Origin("hub", "--synthetic", "models/org/warm=1x2GiB") as hub, Node(scratch / "seed", hub) as seed:
            warm = Warm(scratch, hub, seed)
            others = {"sendme": warm.sendme, "rqbit": warm.rqbit}
            there = {name: attempt if (OTHERS / name).exists() else None for name, attempt in others.items()}
            tools = {"a bare libp2p stream": warm.bare, "larder": warm.larder, "sendme 0.37": there["sendme"], "rqbit 9.1": there["rqbit"]}
            took = Bench(scratch, arguments.rounds).contest(arguments.rounds, tools)
        printed, missed = report(took)
        if warm.origin:
            missed.append(f"the origin sent {warm.origin} bytes of content")
        print(machine(scratch, arguments.date))
        print("Both sides share the machine and its disk; the giver's file is in the page cache; medians of runs in turn, with the fastest and the slowest.")
        print("Before each run most of the free memory is used once: on virtual machines memory that the host took back would be counted otherwise.")
        print(f"TCP with TLS for the bare stream and larder, QUIC for sendme, TCP without encryption for rqbit. Content from larder's origin: {warm.origin} bytes.\n")
        print(printed)
    for one in missed:
        print(f"missed: {one}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
