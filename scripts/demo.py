"""Runs larder on job definitions of the market's shape, and shows what came from where. Called by scripts/demo."""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from origins import BUILT, LARDER, MODEL, Origin, disk_bytes, end_on_signals, environment, job, megabytes, prepare, run, write_job

NAME = "sentence-transformers/all-MiniLM-L6-v2"
PREFIX = "models/all-MiniLM-L6-v2"
# The hub that is slow enough for a kill to come in the middle, in bytes a second.
SLOW = 40_000_000
TITLES = ["", "files", "bytes", "cache", "peers", "origin", "origin sent", "seconds", "proven by"]


class Terminal:
    """Paints where there is a terminal, and writes plain text elsewhere."""

    def __init__(self):
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.broken = 0

    def paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.colours else text

    def promise(self, kept, text):
        """Says whether a promise was kept, and remembers if not."""
        self.broken += not kept
        print(self.paint("32", "ok     ") if kept else self.paint("1;31", "BROKEN "), text, flush=True)

    def table(self, rows):
        widths = [max(len(row[column]) for row in [TITLES, *rows]) for column in range(len(TITLES))]
        last = len(TITLES) - 1
        for number, row in enumerate([TITLES, *rows]):
            cells = [cell.ljust(width) if column in (0, last) else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths))]
            line = "  ".join(cells).rstrip()
            print(self.paint("1", line) if number == 0 else line)
        print(flush=True)


class Demo:
    """Scenes with the same model, each a row of the table."""

    def __init__(self, scratch):
        self.scratch, self.terminal, self.rows, self.compared = scratch, Terminal(), [], 0
        self.model = {path.relative_to(MODEL).as_posix(): path for path in MODEL.rglob("*") if path.is_file()}
        self.digests = {name: digest(path) for name, path in self.model.items()}
        self.bytes = sum(path.stat().st_size for path in self.model.values())
        self.wrong = []

    def scene(self, title, path, root, home, hub, origins, targets):
        """Makes a job ready, compares what lies in its targets, and adds a row."""
        before = sum(origin.content() for origin in origins)
        finished = run(prepare(path, root), environment(home, hub))
        report = finished.document()
        sent = sum(origin.content() for origin in origins) - before
        totals, proofs = report["totals"], {}
        for resource in report["resources"]:
            for kind, count in resource["proof"].items():
                proofs[kind] = proofs.get(kind, 0) + count
        came = [megabytes(totals["from"][source]) for source in ("cache", "peers", "origin")]
        proven = ", ".join(f"{kind} {count}" for kind, count in sorted(proofs.items()))
        self.rows.append([title, str(totals["files"]), megabytes(totals["bytes"]), *came, megabytes(sent), f"{finished.seconds:.2f}", proven])
        self.terminal.promise(report["state"] == "ready" and totals["from"]["origin"] == sent, f"{title}: ready, and the origin counts as many bytes as larder")
        for target, wanted in targets.items():
            self.compare(title, root / target, wanted)
        return totals["from"] | {"sent": sent}

    def compare(self, title, folder, wanted):
        found = {path.relative_to(folder).as_posix(): digest(path) for path in folder.rglob("*") if path.is_file()}
        self.compared += len(wanted)
        self.wrong += [f"{title}: {name}" for name in sorted(found.keys() | set(wanted)) if found.get(name) != self.digests.get(name) or name not in wanted]

    def hub_and_bucket(self, hub, bucket):
        """Cold and warm, from each kind of origin and from both in one job."""
        of_hub = {"type": "HF", "repo": "%%global.variables.MODEL%%", "target": "/data-models/"}
        of_bucket = {"type": "S3", "url": f"{bucket.public}/{PREFIX}", "target": "/data-models/"}
        in_bucket = {"type": "S3", "url": f"{bucket.endpoint}/pub/{PREFIX}", "bucket": "pub", "target": "/scratch/", "allowWrite": True}
        some = sorted(name for name in self.model if name.endswith((".json", ".txt")))
        of_both = [of_hub | {"target": "/model/", "files": some}, in_bucket]
        origins, everything = [hub, bucket], {"data-models": self.model}
        jobs = {"HF": job(of_hub, MODEL=NAME), "S3": job(of_bucket)}
        for kind, definition in jobs.items():
            home, path = self.scratch / f"home-{kind}", write_job(self.scratch / f"{kind}.json", definition)
            roots = [self.scratch / f"{kind}-cold", self.scratch / f"{kind}-warm"]
            cold = self.scene(f"{kind}, cold", path, roots[0], home, hub, origins, everything)
            warm = self.scene(f"{kind}, warm, into another root", path, roots[1], home, hub, origins, everything)
            self.terminal.promise(cold["sent"] == self.bytes, f"{kind}, cold: each byte left the origin once")
            self.terminal.promise(warm["sent"] == 0, f"{kind}, warm: no byte of content left the origin")
            self.one_copy(kind, home, roots)
        home, path, root = self.scratch / "home-both", write_job(self.scratch / "both.json", job(*of_both, MODEL=NAME)), self.scratch / "both"
        self.scene("HF (some files) and S3 (writable)", path, root, home, hub, origins, {"model": some, "scratch": self.model})
        owned = all(path.stat().st_nlink == 1 for path in (root / "scratch").rglob("*") if path.is_file())
        (root / "scratch" / "config.json").write_text("a job wrote this")
        verified = run([LARDER, "verify", "--json"], environment(home)).document()
        self.terminal.promise(owned and not verified["damaged"], "allowWrite: the job writes to a copy of its own, and the store keeps its bytes")

    def one_copy(self, kind, home, roots):
        linked = any(path.stat().st_nlink > 1 for path in roots[0].rglob("*") if path.is_file())
        taken = disk_bytes(home, *roots)
        if linked:
            self.terminal.promise(taken < 1.05 * self.bytes, f"{kind}: store and both targets take {megabytes(taken)} on disk for {megabytes(self.bytes)} of content")

    def kill(self, slow):
        """A download that is killed in the middle, and the run after it."""
        definition = job({"type": "HF", "repo": NAME, "target": "/data-models/"})
        home, path, root = self.scratch / "home-kill", write_job(self.scratch / "kill.json", definition), self.scratch / "kill"
        process = subprocess.Popen(prepare(path, root), env=environment(home, slow), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        try:
            while slow.content() < 0.5 * self.bytes and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            process.kill()
        code, sent = process.wait(), slow.content()
        self.rows.append(["HF, cold, kill -9 in the middle", "", "", "", "", "", megabytes(sent), "", ""])
        self.terminal.promise(code == -signal.SIGKILL, f"kill -9: it hit after the hub had sent {megabytes(sent)}")
        verified = run([LARDER, "verify", "--json"], environment(home)).document()
        kept = verified["bytes"] + verified["partial_bytes"]
        self.terminal.promise(not verified["damaged"] and kept > 0, f"kill -9: larder verify finds nothing torn, and {megabytes(kept)} kept")
        after = self.scene("HF, after the kill", path, root, home, slow, [slow], {"data-models": self.model})
        self.terminal.promise(after["cache"] >= kept and after["sent"] == self.bytes - after["cache"], "kill -9: the next run fetches only what was not kept")

    def finish(self):
        self.terminal.promise(not self.wrong, f"{self.compared} files in targets have the sha256 of the real model's")
        for name in self.wrong:
            print("        another file:", name)
        print()
        self.terminal.table(self.rows)
        if self.terminal.broken:
            print(f"{self.terminal.broken} promises were broken.")
        return 1 if self.terminal.broken else 0


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main():
    end_on_signals()
    if MODEL is None:
        sys.exit("the model is missing: run scripts/servers")
    with tempfile.TemporaryDirectory(prefix="demo-", dir=BUILT.parent) as scratch:
        demo = Demo(Path(scratch))
        repo = ["--repo", f"models/{NAME}={MODEL}"]
        print(f"The model {NAME}: {len(demo.model)} files, {megabytes(demo.bytes)}, from a hub and an S3 server on this machine.\n", flush=True)
        with Origin("hub", *repo) as hub, Origin("bucket", "--dir", MODEL, "--prefix", PREFIX) as bucket:
            demo.hub_and_bucket(hub, bucket)
        with Origin("hub", *repo, "--rate", SLOW) as slow:
            demo.kill(slow)
        return demo.finish()


if __name__ == "__main__":
    sys.exit(main())
