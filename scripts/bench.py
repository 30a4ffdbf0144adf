"""Measures larder beside the tools that people use, and prints tables for the README. Called by scripts/bench.

All that is compared runs in turn, in one run, on the same machine, disk and servers. Each tool has the time of its whole
process, but huggingface_hub only that of its call: a program would start Python once.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from origins import BUILT, HARNESS, SERVERS, Origin, disk_bytes, end_on_signals, environment, job, prepare, run, write_job

GIB, KB = 1 << 30, 1000
B3SUM = BUILT.parent / "b3sum" / "bin" / "b3sum"
# Prints the seconds that the call took.
SNAPSHOT = """
import sys, time
from huggingface_hub import snapshot_download
started = time.monotonic()
snapshot_download(sys.argv[1], local_dir=sys.argv[2], max_workers=int(sys.argv[3]))
print(time.monotonic() - started)
"""


class Bench:
    def __init__(self, scratch, rounds):
        self.scratch, self.rounds = scratch, rounds

    def contest(self, rounds, tools, keep=False):
        """Lets tools run in turn, each round another first, and gives what each took. A tool that cannot be had is left out.

        `keep` leaves what they wrote until the end: ext4 is slow to make files where many were just removed.
        """
        there = {name: attempt for name, attempt in tools.items() if attempt}
        took = {name: [] for name in there}
        for number in range(rounds):
            names = list(there)
            for name in names[number % len(names):] + names[:number % len(names)]:
                folder = Path(tempfile.mkdtemp(dir=self.scratch))
                finished = there[name](folder)
                if finished.code != 0:
                    sys.exit(f"{name} failed:\n{finished.out}{finished.complaints}")
                took[name].append(finished)
                if not keep:
                    shutil.rmtree(folder)
                print(f"  {name}: {finished.seconds:.2f} s, {finished.processor:.2f} s of processor time", file=sys.stderr, flush=True)
        return took

    def larder(self, definition, hub=None, expect=0):
        """An attempt of larder from nothing; `expect` is the bytes that must be in the target."""
        path = write_job(self.scratch / "job.json", definition)
        path = path.rename(self.scratch / f"job-{len(list(self.scratch.glob('job-*')))}.json")

        def attempt(folder):
            finished = run(prepare(path, folder / "root"), environment(folder / "home", hub))
            report = finished.document()
            assert report["totals"]["from"]["origin"] == report["totals"]["bytes"] == expect, report["totals"]
            return check(finished, folder / "root" / "data-models", expect)

        return attempt

    def snapshot(self, hub, repo, workers, expect):
        def attempt(folder):
            own = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
            command = [SERVERS / "python", "-c", SNAPSHOT, repo, folder / "root", workers]
            finished = run(command, environment(folder / "home", hub) | own)
            finished.seconds = float(finished.out or 0)
            return check(finished, folder / "root", expect)

        return attempt

    def large(self):
        """One large file: speed, and the memory it takes."""
        resource = {"type": "HF", "repo": "org/big", "target": "/data-models/"}
        say("1 GiB from the hub")
        with Origin("hub", "--synthetic", "models/org/big=1x1GiB") as hub:
            url = f"{hub.endpoint}/org/big/resolve/main/model.bin"
            # More rounds than elsewhere: memory that the host of a virtual machine took back makes single runs slow.
            took = self.contest(self.rounds + 4, {
                "larder": self.larder(job(resource), hub, GIB),
                "curl": fetches(["curl", "-sfL", url, "-o"], GIB),
                "huggingface_hub": self.snapshot(hub, "org/big", 8, GIB),
            })
        larder, curl, python = seconds(took["larder"]), seconds(took["curl"]), seconds(took["huggingface_hub"])
        rows = [["1 GiB", spread(took["larder"]), spread(took["curl"]), spread(took["huggingface_hub"]),
                 f"{curl / larder:.2f}", f"{python / larder:.2f}", mebibytes(max(one.memory for one in took["larder"]))]]
        say("8 GiB from the hub, once")
        with Origin("hub", "--synthetic", "models/org/big=1x8GiB") as hub:
            url = f"{hub.endpoint}/org/big/resolve/main/model.bin"
            took = self.contest(1, {"larder": self.larder(job(resource), hub, 8 * GIB), "curl": fetches(["curl", "-sfL", url, "-o"], 8 * GIB)})
        (whole,), (curl,) = took["larder"], took["curl"]
        rows.append(["8 GiB", f"{whole.seconds:.2f} s", f"{curl.seconds:.2f} s", "", f"{curl.seconds / whole.seconds:.2f}", "", mebibytes(whole.memory)])
        titles = ["cold, proven by sha256", "larder", "`curl -o`", "huggingface_hub", "speed by curl's", "by huggingface_hub's", "peak memory"]
        return table("A large file from the hub (goals: 0.7 of curl's speed, ahead of huggingface_hub, 200 MB)", titles, rows)

    def small(self):
        """Many small files, from the hub and from an S3 server."""
        count, size = 2000, 20 * KB
        expect, rows = count * size, []
        say("2,000 small files from the hub")
        with Origin("hub", "--synthetic", f"models/org/many={count}x{size}") as hub:
            took = self.contest(3, {
                "larder": self.larder(job({"type": "HF", "repo": "org/many", "target": "/data-models/"}), hub, expect),
                "huggingface_hub": self.snapshot(hub, "org/many", 8, expect),
                "huggingface_hub, 16 workers": self.snapshot(hub, "org/many", 16, expect),
            }, keep=True)
        rows += compared("hub", took)
        folder = self.scratch / "many"
        folder.mkdir()
        for number in range(count):
            (folder / f"f{number:06}.txt").write_bytes(os.urandom(size))
        say("2,000 small files from SeaweedFS")
        with Origin("bucket", "--dir", folder, "--prefix", "many") as bucket:
            # Straight from the server: the proxy that counts would slow all down.
            server = bucket.said["server"]
            urls = self.scratch / "urls"
            urls.write_text("".join(f"{server}/pub/many/{path.name}\n" for path in sorted(folder.iterdir())))
            took = self.contest(self.rounds, {
                "larder": self.larder(job({"type": "S3", "url": f"{server}/pub/many", "bucket": "pub", "target": "/data-models/"}), expect=expect),
                "s5cmd": fetches([SERVERS / "s5cmd", "--log", "error", "--endpoint-url", server, "--no-sign-request", "cp", "s3://pub/many/*"], expect, "/"),
                "aria2c -j16": fetches(["aria2c", "-q", "-j16", "-i", urls, "-d"], expect) if shutil.which("aria2c") else None,
            }, keep=True)
        rows += compared("SeaweedFS", took)
        if not shutil.which("aria2c"):
            rows.append(["SeaweedFS", "aria2c -j16", "not to be had here", "", ""])
        return table("2,000 files of 20 kB (goal: ahead of each)", ["from", "tool", "time", "processor time", "larder is faster by"], rows)

    def cached(self):
        """All in the store: laid into a new root."""
        expect = 1000 << 20
        path = write_job(self.scratch / "cached.json", job({"type": "HF", "repo": "org/many", "target": "/data-models/"}))
        home, roots = self.scratch / "cached-home", [self.scratch / f"cached-{number}" for number in range(self.rounds + 1)]
        say("1,000 files of 1 MiB that are in the store")
        took = []
        with Origin("hub", "--synthetic", "models/org/many=1000x1MiB") as hub:
            for root in roots:
                hub.reset()
                finished = run(prepare(path, root), environment(home, hub))
                finished.document()
                took.append(check(finished, root / "data-models", expect))
                print(f"  {finished.seconds:.2f} s", file=sys.stderr, flush=True)
            sent = hub.content()
        taken = disk_bytes(home, *roots) / expect - 1
        shutil.rmtree(home)
        rows = [[spread(took[1:]), f"{sent} bytes", f"{taken * 100:.2f} % over the content"]]
        return table("Everything cached: 1,000 files of 1 MiB into a new root (goals: 0.5 s, 0 bytes, 1 %)", ["larder", "content from the origin", f"`du` of store and {len(roots)} targets"], rows)

    def hash(self):
        """The content id of a file."""
        path = self.scratch / "hashed"
        with open(path, "wb") as file:
            for _ in range(GIB >> 20):
                file.write(os.urandom(1 << 20))
        rows = []
        for threads in sorted({1, os.cpu_count()}):
            say(f"the content id of 1 GiB, {threads} threads")
            took = self.contest(self.rounds + 2, {
                "larder": lambda _: run([HARNESS, "hash", path, "--threads", threads]),
                "b3sum": (lambda _: run([B3SUM, "--num-threads", threads, path])) if B3SUM.exists() else None,
            })
            if "b3sum" not in took:
                rows.append([str(threads), spread(took["larder"]), "not to be had here", ""])
                continue
            assert took["larder"][0].out.split()[0] == took["b3sum"][0].out.split()[0], "the hashes differ"
            rows.append([str(threads), spread(took["larder"]), spread(took["b3sum"]), f"{seconds(took['b3sum']) / seconds(took['larder']):.2f}"])
        path.unlink()
        return table("BLAKE3 content id of 1 GiB (goal: 0.9 of b3sum's speed)", ["threads", "larder", "b3sum", "speed by b3sum's"], rows)

    def proofs(self):
        """What each way to prove a file takes."""
        path = self.scratch / "proven"
        with open(path, "wb") as file:
            for _ in range(GIB >> 20):
                file.write(os.urandom(1 << 20))
        say("each way to prove 1 GiB")
        took = [run([HARNESS, "proofs", path]).document() for _ in range(self.rounds)]
        path.unlink()
        kinds = {"chunks": "each chunk by BLAKE3", "pieces": "by a list of pieces", "xet": "by the Xet hash", "sha256": "by sha256", "md5": "by MD5"}
        rows = [[name, between(one[key] for one in took)] for key, name in kinds.items()]
        return table("Proofs of 1 GiB in memory, on one core", ["", "time"], rows)


def fetches(command, expect, end=""):
    """An attempt of a program that writes to the place that is its last argument: a file for curl, else a folder."""

    def attempt(folder):
        root = folder / "root"
        root.mkdir()
        place = root / "model.bin" if command[0] == "curl" else root
        return check(run([*command, f"{place}{end}"], environment(folder / "home")), root, expect)

    return attempt


def check(finished, folder, expect):
    """Sees to it that nothing is missing: a tool that fails is fast."""
    found = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    if found != expect:
        sys.exit(f"{found} bytes in the target and not {expect}:\n{finished.out}{finished.complaints}")
    return finished


def seconds(took):
    return statistics.median(one.seconds for one in took)


def spread(took):
    return between(one.seconds for one in took)


def between(times):
    times = list(times)
    return f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"


def mebibytes(count):
    return f"{count / 1e6:.0f} MB"


def compared(place, took):
    processor = {name: statistics.median(one.processor for one in runs) for name, runs in took.items()}
    faster = {name: "" if name == "larder" else f"{seconds(runs) / seconds(took['larder']):.2f}" for name, runs in took.items()}
    return [[place, name, spread(runs), f"{processor[name]:.2f} s", faster[name]] for name, runs in took.items()]


def table(title, titles, rows):
    lines = [f"**{title}**", "", "| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def machine(folder, date):
    """What it was measured on."""
    cpu = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags"))]
    extensions = [flag for flag in ("sha_ni", "avx2", "avx512f") if flag in " ".join(cpu).split()]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    system = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", folder], capture_output=True, text=True).stdout.strip()
    cores = f"{os.cpu_count()} cores of {cpu[0] if cpu else platform.machine()} ({', '.join(extensions)})"
    return f"Measured {date} on {cores}, {memory / GIB:.0f} GiB of memory, {system}, Linux {platform.release()}."


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main():
    parts = ["large", "small", "cached", "hash", "proofs"]
    parser = argparse.ArgumentParser(description="Measures larder beside other tools.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of {', '.join(parts)}")
    parser.add_argument("--date", required=True, help="the day, for the report")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"there is no part {unknown.pop()!r}: there are {', '.join(parts)}")
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILT.parent) as scratch:
        bench = Bench(Path(scratch), arguments.rounds)
        tables = [getattr(bench, part)() for part in arguments.parts or parts]
        print(machine(scratch, arguments.date))
        print("Server and client share the machine and its disk; the page cache is left as it is; medians of runs in turn, with the fastest and the slowest;")
        print("the time of a whole process, but for huggingface_hub (2.4.0, without Xet) only its call. None of them syncs before it ends.\n")
        print("\n".join(tables))


if __name__ == "__main__":
    main()
