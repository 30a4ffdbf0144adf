"""Measures what liars cost honest nodes, and prints a table. Called by scripts/liars."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import table
from origins import HARNESS, end_on_signals

SCENARIOS = Path(__file__).resolve().parent.parent / "crates" / "harness" / "scenarios"
HONEST = "none"
KINDS = ["wrong-bytes", "swears-false", "swears-nearly", "stalls", "refuses", "dawdles", "sends-other", "signs-false", "signs-nearly"]
# Each with the most copies of the file that may leave the origin, and the longest time by that of the same run without liars.
MARKETS = {"liars-warm": (1.05, 1.2), "liars": (2.1, 2.5)}


class Played:
    """What came of one run."""

    def __init__(self, report):
        self.copies = report["origin"]["body_bytes"] / report["wanted_bytes"]
        waits = [job["waited_s"] for job in report["jobs"]]
        self.is_right = report["corrupt"] == 0 and None not in waits
        self.seconds = max(wait or 0 for wait in waits)


def play(market, kind, scratch):
    lies = ["--honest"] if kind == HONEST else ["--lies", kind]
    report, log = scratch / "report.json", scratch / "log"
    report.unlink(missing_ok=True)
    command = [HARNESS, "run", SCENARIOS / f"{market}.toml", "--way", "namespaces", *lies, "--json", report]
    with open(log, "wb") as out:
        # Its own limits are not those of this table.
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
    if not report.exists():
        sys.exit(f"{market}, {kind}: {log.read_text()[-2000:]}")
    played = Played(json.loads(report.read_text()))
    print(f"  {market}, {kind}: {played.seconds:.1f} s, {played.copies:.3f} copies", file=sys.stderr, flush=True)
    return played


def main():
    parser = argparse.ArgumentParser(prog="scripts/liars", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="how often each is played; the table has medians [1]")
    arguments = parser.parse_args()
    end_on_signals()
    took = {(market, kind): [] for market in MARKETS for kind in [HONEST, *KINDS]}
    with tempfile.TemporaryDirectory(prefix="liars-") as scratch:
        for _ in range(arguments.rounds):
            for (market, kind), runs in took.items():
                runs.append(play(market, kind, Path(scratch)))

    missed = []
    rows = []
    for kind in [HONEST, *KINDS]:
        row = [kind]
        for market, (most_copies, most_times) in MARKETS.items():
            runs = took[market, kind]
            seconds = statistics.median(run.seconds for run in runs)
            times = seconds / statistics.median(run.seconds for run in took[market, HONEST])
            copies = statistics.median(run.copies for run in runs)
            row += [f"{copies:.3f}", f"{seconds:.1f} s", f"{times:.2f}"]
            if copies > most_copies or times > most_times or not all(run.is_right for run in runs):
                missed.append(f"{market}, {kind}: {copies:.3f} copies of {most_copies}, {times:.2f} of {most_times} times as long")
        rows.append(row)
    print(table("Three liars among ten nodes, 128 MB, origin and uplinks 10 MB/s", ["the lie", "warm: copies from the origin", "last node", "by no liars", "cold: copies", "last node", "by no liars"], rows))
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
