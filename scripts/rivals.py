"""Measures larder beside others that put the same file on the same nodes, and prints tables. Called by scripts/rivals.

Two works: a crowd of nodes that all want a file that only the origin has, each behind a link of a limited rate; and one node
that takes a file from holders over loopback, without limits. All contestants do them in turn, each round another first, each
attempt on a network of its own. Every file is held against the origin's sha256.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import machine, table
from contestants import COLD, CONTESTANTS, FOUR, ONE
from origins import BUILT, HARNESS, Origin, end_on_signals, megabytes, run
from torrents import pieces

MIB, MB = 1 << 20, 1_000_000
SCRIPTS = Path(__file__).resolve().parent
REPOSITORY, PATH = "harness/generated", "model.bin"
HOLDERS = {ONE: 1, FOUR: 4}
# A network that is loopback and nothing else.
ALONE = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
# How much longer than its lines need an attempt may take, and some seconds.
PATIENCE, PATIENCE_SECONDS = 4, 120
END_SECONDS = 30


class Given:
    """The file as the origin has it, got before anything is measured, and the hashes of its pieces, which a torrent needs."""

    def __init__(self, folder, size, piece_bytes):
        self.folder, self.size = folder, size
        folder.mkdir()
        with Origin("hub", "--synthetic", f"models/{REPOSITORY}=1x{size}") as hub:
            path = folder / "files" / PATH
            path.parent.mkdir()
            got = run(["curl", "-sSfL", f"{hub.endpoint}/{REPOSITORY}/resolve/main/{PATH}", "-o", path])
        if got.code != 0:
            sys.exit(f"the file cannot be had: {got.complaints}")
        (folder / "pieces").write_bytes(pieces(path, piece_bytes))
        facts = {"repository": REPOSITORY, "path": PATH, "bytes": size, "piece_bytes": piece_bytes}
        facts["sha256"] = run(["sha256sum", path]).out.split()[0]
        (folder / "facts.json").write_text(json.dumps(facts))


class Work:
    """One work, and what each attempt at it took: a list for each contestant, and why attempts came to nothing."""

    def __init__(self, name, arguments, given):
        self.name, self.arguments, self.given = name, arguments, given
        self.there, self.missing, self.took, self.failed = [], [], {}, {}
        for key, contestant in CONTESTANTS.items():
            if name in contestant.works and (not arguments.only or key in arguments.only):
                (self.there if shutil.which(contestant.needs) else self.missing).append(key)

    def rounds(self, key):
        return min(self.arguments.rounds, self.arguments.slow_rounds) if self.name == COLD and CONTESTANTS[key].slow else self.arguments.rounds

    def play_round(self, number, scratch):
        names = [key for key in self.there if number < self.rounds(key)]
        for key in names[number % len(names):] + names[:number % len(names)]:
            took = self.attempt(key, Path(tempfile.mkdtemp(dir=scratch)))
            if isinstance(took, dict):
                self.took.setdefault(key, []).append(took)
                first, last, sent = took["seconds"][0], took["seconds"][-1], took["origin_bytes"] / self.given.size
                took = f"{first:.2f} to {last:.2f} s, origin {sent:.3f}, processor {took['processor_seconds']:.1f} s"
            else:
                self.failed.setdefault(key, []).append(took)
            print(f"  {self.name} {number + 1}, {key}: {took}", file=sys.stderr, flush=True)

    def attempt(self, key, scratch):
        """What it took, or why it came to nothing."""
        document, log = scratch / "took.json", scratch / "log"
        (scratch / "hosts").mkdir()
        play = [sys.executable, "-B", SCRIPTS / "contest.py", key, "--scratch", scratch / "hosts", "--given", self.given.folder,
                "--json", document, "--limit", self.limit()]
        try:
            code = run_to_the_end([*self.place(key), *play, "--holders", HOLDERS.get(self.name, 0)], log)
            return json.loads(document.read_text()) if code == 0 else (log.read_text().strip() or f"code {code}")
        finally:
            shutil.rmtree(scratch)

    def place(self, key):
        """The command that makes the network, and runs the attempt on it."""
        arguments = self.arguments
        if self.name != COLD:
            return ALONE
        bucket = ["--bucket", self.given.folder / "files"] if key == "s5cmd" else []
        rates = ["--origin-rate", arguments.rate, "--uplink", arguments.rate]
        return [HARNESS, "stage", "--nodes", arguments.nodes, "--bytes", self.given.size, *rates, *bucket, "--"]

    def limit(self):
        return PATIENCE_SECONDS + PATIENCE * self.arguments.nodes * self.given.size / self.arguments.rate


def run_to_the_end(command, log):
    """Runs a program, and has it end what it started if this one is told to end."""
    with open(log, "wb") as out:
        words = ["setpriv", "--pdeathsig", "TERM", *map(str, command)]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            return process.wait()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def spread(values, form="{:.2f}", unit=" s"):
    """The median, and the least and the most in brackets."""
    values = list(values)
    middle, least, most = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{middle}{unit} ({least} to {most})"


def cold_row(runs, size, bound):
    def at(place):
        return spread((one["seconds"][place(one["seconds"])] for one in runs), "{:.1f}")

    last = statistics.median(one["seconds"][-1] for one in runs)
    return [
        spread((one["origin_bytes"] / size for one in runs), "{:.3f}", ""),
        at(lambda times: 0), at(lambda times: len(times) // 2), at(lambda times: -1), f"{last / bound:.2f}",
        spread((one["processor_seconds"] for one in runs), "{:.1f}"),
        megabytes(max(one["memory_bytes"] for one in runs)),
    ]


def warm_row(runs, size):
    took = [one["seconds"][-1] for one in runs]
    processor = spread((one["processor_seconds"] for one in runs), "{:.1f}")
    memory = [megabytes(max(one[name] for one in runs)) for name in ("memory_bytes", "holder_memory_bytes")]
    return [spread(took), f"{size / MIB / statistics.median(took):.0f}", processor, *memory]


def report(work):
    """The table of one work."""
    cold, size, arguments = work.name == COLD, work.given.size, work.arguments
    bound = size / arguments.rate
    if cold:
        title = f"{arguments.nodes} cold nodes, a file of {size / MIB:.0f} MiB, origin and uplinks {arguments.rate / MB:.0f} MB/s; T* is {bound:.1f} s"
        titles = ["", "origin's bytes by the file's", "first node", "median node", "last node", "last by T*", "processor", "memory of a node"]
    else:
        many = {ONE: "one holder", FOUR: "four holders"}[work.name]
        title = f"Warm, {many} to one node over loopback, a file of {size / MIB:.0f} MiB"
        titles = ["", "time", "MiB/s", "processor of all", "memory of the taker", "memory of a holder"]
    rows = []
    for key in [*work.there, *work.missing]:
        runs, failed = work.took.get(key, []), len(work.failed.get(key, []))
        name = CONTESTANTS[key].title if cold else CONTESTANTS[key].title.split(",")[0]
        name += f" ({failed} of {failed + len(runs)} attempts failed)" if failed else ""
        name += f" ({len(runs)} rounds)" if runs and len(runs) + failed < arguments.rounds else ""
        cells = (cold_row(runs, size, bound) if cold else warm_row(runs, size)) if runs else []
        name += "" if runs or failed else ": not to be had here"
        rows.append([name, *cells, *[""] * (len(titles) - 1 - len(cells))])
    return table(title, titles, rows)


def parse():
    parser = argparse.ArgumentParser(description="Measures larder beside others that do the same work.")
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"only these of {COLD} {ONE} {FOUR}")
    parser.add_argument("--date", required=True, help="the day, for the report")
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", choices=CONTESTANTS, help=f"only these of {' '.join(CONTESTANTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured [5]")
    parser.add_argument("--slow-rounds", type=int, default=1, help="how often those whose time the links alone decide [1]")
    parser.add_argument("--nodes", type=int, default=8, help="the nodes of the crowd [8]")
    parser.add_argument("--bytes", type=int, default=64 * MIB, help="the file of the crowd [64 MiB]")
    parser.add_argument("--warm-bytes", type=int, default=1024 * MIB, help="the file of the warm pulls [1 GiB]")
    parser.add_argument("--rate", type=int, default=10 * MB, help="bytes a second of the crowd's origin and uplinks [10 MB]")
    parser.add_argument("--json", type=Path, help="writes what was measured to a file")
    arguments = parser.parse_args()
    if unknown := set(arguments.works) - {COLD, ONE, FOUR}:
        parser.error(f"there is no work {unknown.pop()!r}: there are {COLD} {ONE} {FOUR}")
    return arguments


def write(arguments, works):
    """Writes what was measured so far, attempt by attempt, if that is wanted."""
    if arguments.json:
        settings = {name: value for name, value in vars(arguments).items() if name not in ("json", "works", "only")}
        measured = {work.name: {"took": work.took, "failed": work.failed, "missing": work.missing} for work in works}
        arguments.json.write_text(json.dumps({"settings": settings, "works": measured}, indent=1) + "\n")


def main():
    arguments = parse()
    end_on_signals()
    # Another's rates and proxies are not meant for this network.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="rivals-", dir=BUILT.parent) as scratch:
        scratch = Path(scratch)
        works = arguments.works or [COLD, ONE, FOUR]
        crowd = Given(scratch / "crowd", arguments.bytes, MIB // 4) if COLD in works else None
        warm = Given(scratch / "warm", arguments.warm_bytes, MIB) if {ONE, FOUR} & set(works) else None
        works = [Work(name, arguments, crowd if name == COLD else warm) for name in works]
        for work in works:
            for number in range(arguments.rounds):
                work.play_round(number, scratch)
                write(arguments, works)
        print(machine(scratch, arguments.date))
        print("\n".join(map(report, works)))
    for work in works:
        for key, why in work.failed.items():
            print(f"{work.name}, {key} failed: {why[0][-1500:]}", file=sys.stderr)
    sys.exit(1 if any("larder" in work.failed for work in works) else 0)


if __name__ == "__main__":
    main()
