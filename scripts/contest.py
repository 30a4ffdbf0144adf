"""One attempt of one contestant: puts a file on every node of a stage, and writes what that took. Called by rivals.py.

The stage is the file that LARDER_STAGE names, as `larder-harness stage` writes it. Each contestant of contestants.py lines its
programs up, and from a common start on every node is looked at until it has the file. All programs end with this one.
"""

import argparse
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from origins import Origin, end_on_signals, run
from torrents import Tracker
from warm import have_memory_back

LOOK_SECONDS = 0.01
# How often memory is looked at, in looks.
MEMORY_EVERY = 5
READY_SECONDS = 60
# What the origin may still send when the last node is done: reads that end when they are cancelled.
AFTERWARDS_SECONDS = 0.5
TICKS = os.sysconf("SC_CLK_TCK")
# Waits for a line on standard input, then becomes the program that its arguments name.
GATE = ["sh", "-c", 'read -r line; exec "$@"', "sh"]


class Host:
    """A place of its own for programs: a network namespace, or an address of loopback."""

    def __init__(self, described, folder):
        self.name, self.address, self.namespace = described["name"], described["address"], described.get("namespace")
        self.folder = folder / self.name
        self.folder.mkdir()
        # What runs here, whether it has the file, where that lies, and when it came.
        self.programs, self.is_done, self.laid, self.seconds = [], lambda: False, None, None
        self.peak = 0

    def start(self, command, name, environment=None, gated=False):
        """Starts a program; a gated one waits for `go`."""
        enter = ["nsenter", f"--net={self.namespace}"] if self.namespace else []
        words = [*enter, "setpriv", "--pdeathsig", "KILL", *(GATE if gated else []), *map(str, command)]
        program = Program(words, self.folder, name, environment)
        self.programs.append(program)
        return program

    def listen(self):
        """A socket that listens here, whoever uses it."""
        made = []

        def bind():
            if self.namespace:
                with open(self.namespace, "rb") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
                        raise OSError(ctypes.get_errno(), f"{self.namespace} cannot be entered")
            made.append(socket.create_server((self.address, 0), backlog=256))

        # A thread of its own, so that no other is moved.
        thread = threading.Thread(target=bind)
        thread.start()
        thread.join()
        if not made:
            sys.exit(f"nothing can listen at {self.address}")
        return made[0]

    def look(self, seconds, memory):
        """Sees whether the file is here, and how much memory its programs have."""
        if self.seconds is None and self.is_done():
            self.seconds = seconds
        if memory:
            self.peak = max(self.peak, sum(program.memory() for program in self.programs))


class Program:
    """A process, with what it has used. What it says goes to a file."""

    def __init__(self, words, folder, name, environment):
        self.name, self.log = f"{folder.name}/{name}", folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(words, env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log)
        self.usage, self.before = None, 0.0

    def go(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def ended(self):
        """Whether it has ended well; the whole attempt ends if it ended otherwise."""
        if self.usage is None:
            process, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if process:
                self.process.returncode, self.usage = os.waitstatus_to_exitcode(status), usage
        if self.process.returncode not in (None, 0):
            sys.exit(f"{self.name} ended with code {self.process.returncode}: {self.told()}")
        return self.usage is not None

    def processor(self):
        """The seconds of processor time that it and what it waited for have had."""
        if not self.ended():
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
            return sum(map(int, fields[11:15])) / TICKS
        return self.usage.ru_utime + self.usage.ru_stime

    def memory(self):
        """Its own memory in bytes: not that of files it maps, which the page cache has anyway."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        return sum(int(found) * 1024 for found in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.M))

    def says(self, pattern):
        return re.search(pattern, self.log.read_text(errors="replace"))

    def said(self, pattern):
        """Waits until it has written what matches, and gives the first group."""
        wait_for(f"{self.name} to say {pattern!r}", lambda: self.says(pattern) or self.ended())
        found = self.says(pattern)
        if not found:
            sys.exit(f"{self.name} ended before it said {pattern!r}: {self.told()}")
        return found[found.re.groups and 1]

    def wait(self):
        """Waits until it has ended well."""
        wait_for(self.name, self.ended)

    def told(self):
        return self.log.read_text(errors="replace")[-1500:].strip()

    def signal(self, number):
        if self.process.returncode is None:
            os.kill(self.process.pid, number)

    def end(self):
        """Kills it if it still runs."""
        self.signal(signal.SIGKILL)
        if self.process.returncode is None:
            self.process.wait()
        self.process.stdin.close()


def wait_for(what, condition):
    until = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > until:
            sys.exit(f"waited {READY_SECONDS} s for {what}")
        time.sleep(LOOK_SECONDS)


def busy():
    """Ticks of all cores since the machine was started: in which they did something, and all. Source: proc(5).

    What runs at a lower priority is as good as idle."""
    ticks = list(map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]))
    return sum(ticks) - ticks[1] - ticks[3] - ticks[4], sum(ticks)


class Scene:
    """What a contestant is given: nodes that want the file, holders that have it before, and the origin."""

    def __init__(self, stage, scratch, given, holders):
        self.scratch, self.given, self.file = scratch, given, json.loads((given / "facts.json").read_text())
        self.nodes = [Host(described, scratch) for described in stage["nodes"]]
        self.holders = [Host({"name": f"holder{number}", "address": f"127.0.1.{number + 1}"}, scratch) for number in range(holders)]
        self.bootstrap, self.origin = Host(stage["bootstrap"], scratch), Host(stage["origin"], scratch)
        self.endpoint, self.tracker = stage["origin"]["endpoint"], Tracker(self.bootstrap.listen())
        self.bucket = stage.get("bucket")
        self.counting = [origin["endpoint"] for origin in (stage["origin"], self.bucket) if origin]
        self.announce = "http://{}:{}/announce".format(*self.tracker.server_address)
        # Where the origin's redirect leads, so that nobody has to follow it for each request.
        self.url = self.ask(stage["origin"]["url"], "-o", "/dev/null", "-w", "%{redirect_url}")

    def hosts(self):
        return [*self.nodes, *self.holders, self.bootstrap]

    def programs(self):
        return [program for host in self.hosts() for program in host.programs]

    def wait(self, what, condition):
        """Waits for something while all programs are well."""
        def look():
            for program in self.programs():
                program.ended()
            return condition()

        wait_for(what, look)

    def ask(self, url, *options):
        enter = ["nsenter", f"--net={self.origin.namespace}"] if self.origin.namespace else []
        answer = run([*enter, "curl", "-sS", *options, url])
        if answer.code != 0:
            sys.exit(f"the origin does not answer: {answer.complaints}")
        return answer.out

    def have_memory(self):
        """Has what the holders hold in memory, for they may each have a file of their own, and the memory for the taker's there."""
        for path in (path for host in self.holders for path in host.folder.rglob("*") if path.is_file() and not path.is_symlink()):
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass
        have_memory_back()

    def play(self, contestant, limit):
        """Lets a contestant do the work; what it took."""
        steps = contestant(self)
        next(steps)
        os.sync()
        if self.holders:
            self.have_memory()
        for endpoint in self.counting:
            self.ask(f"{endpoint}/_harness/reset", "-d", "")
        for program in self.programs():
            program.before = program.processor()
        started, looks, ticks = time.monotonic(), 0, busy()
        while any(node.seconds is None for node in self.nodes):
            next(steps, None)
            seconds = time.monotonic() - started
            for host in self.hosts():
                host.look(seconds, looks % MEMORY_EVERY == 0)
            for program in self.programs():
                program.ended()
            if seconds > limit:
                late = [f"{program.name}: {program.told()}" for node in self.nodes if node.seconds is None for program in node.programs]
                sys.exit(f"not done after {limit} s: {late[:2]}")
            looks += 1
            time.sleep(LOOK_SECONDS)
        worked, passed = (now - then for now, then in zip(busy(), ticks))
        processor = sum(program.processor() - program.before for program in self.programs())
        time.sleep(AFTERWARDS_SECONDS)
        logs = [json.loads(self.ask(f"{endpoint}/_harness/log?requests=false")) for endpoint in self.counting]
        return {
            "seconds": sorted(node.seconds for node in self.nodes),
            "origin_bytes": sum(log["content"]["body_bytes"] for log in logs),
            "processor_seconds": processor,
            # Of all that this machine did meanwhile, 1 is all cores always.
            "machine_busy": worked / max(passed, 1),
            "memory_bytes": max(host.peak for host in self.nodes),
            "holder_memory_bytes": max((host.peak for host in self.holders), default=0),
        }

    def check(self):
        """Ends the attempt if a node's file is not the one that the origin has."""
        for node in self.nodes:
            if (found := run(["sha256sum", node.laid]).out.split(" ")[0]) != self.file["sha256"]:
                sys.exit(f"{node.laid} has sha256 {found or 'of nothing'}, and should have {self.file['sha256']}")

    def end(self):
        for program in self.programs():
            program.signal(signal.SIGTERM)
        for program in self.programs():
            program.end()
        self.tracker.close()


@contextmanager
def stage_on_loopback(given):
    """A stage of one node on loopback, which has no limits."""
    facts = json.loads((given / "facts.json").read_text())
    repository, path, count = facts["repository"], facts["path"], facts["bytes"]
    with Origin("hub", "--synthetic", f"models/{repository}=1x{count}") as hub:
        url = f"{hub.endpoint}/{repository}/resolve/main/{path}"
        named = {name: {"name": name, "address": f"127.0.0.{number}"} for number, name in enumerate(["origin", "bootstrap", "node0"], 10)}
        origin = named["origin"] | {"endpoint": hub.endpoint, "url": url}
        yield {"origin": origin, "bootstrap": named["bootstrap"], "nodes": [named["node0"]]}


@contextmanager
def stage_of_the_harness(_):
    yield json.loads(Path(os.environ["LARDER_STAGE"]).read_text())


def main():
    from contestants import CONTESTANTS

    parser = argparse.ArgumentParser(description="Plays one attempt on the stage that LARDER_STAGE describes.")
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder that is empty")
    parser.add_argument("--given", type=Path, required=True, help="a folder with the file, its facts, and the hashes of its pieces")
    parser.add_argument("--holders", type=int, default=0, help="how many have the file before; then all are on loopback")
    parser.add_argument("--limit", type=float, default=600, help="seconds it may take")
    parser.add_argument("--json", type=Path, required=True, help="where to write what it took")
    arguments = parser.parse_args()
    end_on_signals()
    with (stage_on_loopback if arguments.holders else stage_of_the_harness)(arguments.given) as stage:
        scene = Scene(stage, arguments.scratch, arguments.given, arguments.holders)
        try:
            took = scene.play(CONTESTANTS[arguments.name].play, arguments.limit)
            scene.check()
        finally:
            scene.end()
    arguments.json.write_text(json.dumps(took))


if __name__ == "__main__":
    main()
