"""How each contestant does the work, with what serves it best: lines up until its first `yield`, then begins.

Each is a generator that is resumed again and again, so that it can wait for something while the others are looked at.
"""

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Callable

from origins import BUILT, LARDER, SERVERS, environment, job, run, write_job
from torrents import write_torrent

SCRIPTS = Path(__file__).resolve().parent
MARKET = "GvfYkpn3xumBxxePtnwot1HsXEzByyujmmRNSpxkRFoN"
PORT = 6881
# As long as crates/harness lets nodes rest between the moment when all are connected and the start.
SETTLE_SECONDS = 3
LIBTORRENT = BUILT.parent / "rivals" / "venv" / "bin" / "python"
TOOLS = BUILT.parent / "yardstick" / "bin"
# As the bench has it, but that Python is started before.
HUB_DOWNLOAD = """
import sys
from huggingface_hub import hf_hub_download
print("ready", flush=True)
sys.stdin.readline()
hf_hub_download(sys.argv[1], sys.argv[2], local_dir=sys.argv[3])
"""
HUB_OPTIONS = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
# What rqbit says of a file that it has.
CHECKED = "Initial check results: have .*, needed 0"
# What sendme says, and whoever wants the file needs.
TICKET = r"sendme receive (\S+)"
# What aria2 runs when a torrent is complete.
HOOK = '#!/bin/sh\n: >"$LARDER_DONE"\n'
ARIA2 = ["aria2c", "--no-conf", "--disable-ipv6", "--file-allocation=none", "--console-log-level=warn", "--summary-interval=0"]
ARIA2_TORRENT = ["--enable-dht=false", "--bt-enable-lpd=false", "--bt-max-peers=0", "--seed-ratio=0", "--bt-seed-unverified=true",
                 "--bt-request-peer-speed-limit=1000M", "--bt-tracker-interval=1", f"--listen-port={PORT}"]


@dataclass
class Contestant:
    """What it is called, how it plays, in which works, and the program that must be there for it."""

    title: str
    play: Callable
    works: tuple
    needs: Path | str
    # Where the lines alone decide how long it takes, and every round takes as long as the first.
    slow: bool = False


def holding(host, scene):
    """Lays the file into a folder of a host's own, as it is before the start."""
    folder = host.folder / "files"
    folder.mkdir()
    # Not a copy: the giver's file is in the page cache, whoever gives it.
    os.link(scene.given / "files" / scene.file["path"], folder / scene.file["path"])
    return folder


def taking(host, scene):
    """The folder that a host takes the file into."""
    folder = host.folder / "files"
    folder.mkdir()
    host.laid = folder / scene.file["path"]
    return folder


def torrent(scene, name, tracker="", web_seeds=()):
    facts, hashes = scene.file, (scene.given / "pieces").read_bytes()
    return write_torrent(scene.scratch / f"{name}.torrent", facts["path"], facts["bytes"], facts["piece_bytes"], hashes, tracker, web_seeds)


def waiting(program):
    """Resumes until a program has ended."""
    while not program.ended():
        yield


def getting_first(scene, node):
    """One node gets the file from the origin, by curl."""
    folder = taking(node, scene)
    first = node.start(["curl", "-sSf", scene.url, "-o", node.laid], "curl", gated=True)
    node.is_done = first.ended
    return first, folder


def larder(scene):
    cold = not scene.holders
    words = []
    for host in [scene.bootstrap, *scene.holders, *scene.nodes]:
        host.environment = environment(host.folder / "home", SimpleNamespace(endpoint=scene.endpoint))
        listen = [f"/ip4/{host.address}/tcp/4001", f"/ip4/{host.address}/udp/4001/quic-v1"]
        options = [word for address in listen for word in ("--listen", address)] + words
        host.start([LARDER, "init", "--market", MARKET, *options], "init", host.environment).wait()
        daemon = host.start([LARDER, "run", *([] if words else ["--bootstrap"])], "daemon", host.environment)
        address = daemon.said(r"larder: ready, \w+, listening on ([^\s,]+)")
        words = words or ["--bootstrap", address]
    for host in [*scene.holders, *scene.nodes]:
        scene.wait("nodes to be connected", lambda host=host: is_connected(host))
    for holder in scene.holders:
        prepare(scene, holder).wait()
        # A job has it before it is held against the digest that others ask for it by.
        scene.wait("a holder to hold it", lambda holder=holder: status(holder)["fetching"] == 0)
    runs = [prepare(scene, node, patience="none" if cold else None, gated=True) for node in scene.nodes]
    time.sleep(SETTLE_SECONDS)
    yield
    for one in runs:
        one.go()


def is_connected(host):
    return all(market["peers"] for market in status(host)["markets"])


def status(host):
    return run([LARDER, "status", "--json"], host.environment).document()


def prepare(scene, host, patience=None, gated=False):
    path = write_job(host.folder / "job.json", job({"type": "HF", "repo": scene.file["repository"], "target": "/data-models/"}))
    words = [LARDER, "prepare", path, "--root", host.folder / "root", "--json", *(["--patience", patience] if patience else [])]
    host.laid = host.folder / "root" / "data-models" / scene.file["path"]
    program = host.start(words, "prepare", host.environment, gated)
    host.is_done = program.ended
    return program


def libtorrent(scene, seeded, apart=False):
    """`seeded` says how many nodes have the origin as web seed, if not all; `apart`, that the first has it all before others begin."""
    path = torrent(scene, "libtorrent")
    hosts = [*scene.holders, *scene.nodes]
    nodes = []
    for number, host in enumerate(hosts):
        place = (holding if host in scene.holders else taking)(host, scene)
        options = ["--holds"] if host in scene.holders else ["--web-seed", scene.url] if not scene.holders and host in scene.nodes[:seeded] else []
        options += ["--super"] if apart and number == 0 else []
        # One of each pair calls the other, once both know the torrent: it is turned away otherwise, and tries again in a second.
        options += [] if scene.holders else ["--crowd", "--call-after", 0.05]
        for other in hosts[:number]:
            options += ["--peer", f"{other.address}:{PORT}"]
        command = [LIBTORRENT, "-B", SCRIPTS / "libtorrent_node.py", path, place, f"{host.address}:{PORT}", *options]
        node = host.start(command, "libtorrent", gated=False)
        node.said("ready")
        host.is_done = lambda node=node: node.says(r"(?m)^done$")
        nodes.append((host, node))
    takers = [node for host, node in nodes if host in scene.nodes]
    yield
    if apart:
        first, *takers = takers
        first.go()
        while not first.says(r"(?m)^done$"):
            yield
    for node in takers:
        node.go()


def aria2(scene, seeded, order="default"):
    """`seeded` says how many nodes have the origin as web seed, if not all; `order`, in which pieces are taken from there."""
    hook = scene.scratch / "hook"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    plain = torrent(scene, "plain", scene.announce)
    with_seed = plain if scene.holders else torrent(scene, "seeded", scene.announce, [scene.url])
    for holder in scene.holders:
        holder.start([*ARIA2, *ARIA2_TORRENT, f"--interface={holder.address}", "-d", holding(holder, scene), plain], "aria2")
    scene.wait("holders to be ready", lambda: all(scene.tracker.lacks(holder.address) == 0 for holder in scene.holders))
    nodes = []
    for node in scene.nodes:
        done = node.folder / "done"
        own = os.environ | {"LARDER_DONE": str(done)}
        seeds = [f"--stream-piece-selector={order}", "-k1M", "-s16", "-x1"]
        hooked = ["--on-bt-download-complete", hook, f"--interface={node.address}", "-d", taking(node, scene)]
        command = [*ARIA2, *ARIA2_TORRENT, *seeds, *hooked, with_seed if node in scene.nodes[:seeded] else plain]
        nodes.append(node.start(command, "aria2", own, gated=True))
        node.is_done = done.exists
    yield
    for node in nodes:
        node.go()


def rqbit(scene):
    path, hosts = torrent(scene, "rqbit"), [*scene.holders, *scene.nodes]

    def start(host, folder):
        own = environment(host.folder / "home") | {"HOME": str(host.folder)}
        alone = ["--disable-dht", "--disable-lsd", "--disable-trackers", "--disable-upnp-port-forward"]
        listen = ["--listen-ip", host.address, "--listen-port", PORT]
        peers = ["--initial-peers", ",".join(f"{other.address}:{PORT}" for other in hosts if other is not host)]
        words = ["download", "--disable-http-api", "--overwrite", *peers, "--output-folder", folder, path]
        return host.start([TOOLS / "rqbit", *alone, *listen, *words], "rqbit", own)

    takers = scene.nodes
    for holder in scene.holders:
        start(holder, holding(holder, scene)).said(CHECKED)
    if not scene.holders:
        first, *takers = scene.nodes
        getting, folder = getting_first(scene, first)
    folders = [taking(node, scene) for node in takers]
    yield
    if not scene.holders:
        getting.go()
        yield from waiting(getting)
        seeder = start(first, folder)
        while not seeder.says(CHECKED):
            yield
    for node, folder in zip(takers, folders):
        program = start(node, folder)
        node.is_done = lambda program=program: program.says("torrent finished downloading")


def sendme(scene):
    def command(host, *words):
        return [TOOLS / "sendme", *words, "--relay", "disabled", "--no-progress", "--magic-ipv4-addr", f"{host.address}:0"]

    def give(host, path):
        words = command(host, "send", path, "--ticket-type", "addresses")
        return host.start(words, "sendme", environment(host.folder / "home"))

    takers = scene.nodes
    if scene.holders:
        giver = give(scene.holders[0], holding(scene.holders[0], scene) / scene.file["path"])
        giver.said(r"sendme receive (\S+)")
    else:
        first, *takers = scene.nodes
        getting, _ = getting_first(scene, first)
    for node in takers:
        taking(node, scene)
    yield
    if not scene.holders:
        getting.go()
        yield from waiting(getting)
        giver = give(first, first.laid)
        while not giver.says(r"sendme receive (\S+)"):
            yield
    ticket = giver.said(r"sendme receive (\S+)")
    for node in takers:
        receiving = ["env", "-C", node.laid.parent, *command(node, "receive", ticket)]
        node.is_done = node.start(receiving, "sendme", environment(node.folder / "home")).ended


def direct(scene, command, ready=None):
    """Every node runs a command that gets the file from the origin; one that says when it is `ready` waits by itself."""
    programs = []
    for node in scene.nodes:
        own = environment(node.folder / "home", SimpleNamespace(endpoint=scene.endpoint)) | HUB_OPTIONS
        program = node.start(command(scene, taking(node, scene)), "direct", own, gated=not ready)
        node.is_done = program.ended
        programs.append(program)
    for program in programs if ready else []:
        program.said(ready)
    yield
    for program in programs:
        program.go()


def hub_command(scene, folder):
    return [SERVERS / "python", "-c", HUB_DOWNLOAD, scene.file["repository"], scene.file["path"], folder]


def aria2_command(scene, folder):
    return [*ARIA2, "-x16", "-s16", "-k1M", "-d", folder, "-o", scene.file["path"], scene.url]


def s5cmd_command(scene, folder):
    bucket = ["--endpoint-url", scene.bucket["endpoint"], "--no-sign-request"]
    return [SERVERS / "s5cmd", "--log", "error", *bucket, "cp", f"s3://{scene.bucket['bucket']}/{scene.file['path']}", f"{folder}/"]


COLD, ONE, FOUR = "cold", "one", "four"
EVERYWHERE = (COLD, ONE, FOUR)
CONTESTANTS = {
    "larder": Contestant("larder", larder, EVERYWHERE, LARDER),
    "libtorrent": Contestant("libtorrent, web seed at all", partial(libtorrent, seeded=None), EVERYWHERE, LIBTORRENT),
    "libtorrent-one": Contestant("libtorrent, web seed at one", partial(libtorrent, seeded=1), (COLD,), LIBTORRENT),
    "libtorrent-super": Contestant("libtorrent, super-seed", partial(libtorrent, seeded=1, apart=True), (COLD,), LIBTORRENT),
    "aria2": Contestant("aria2, web seed at all", partial(aria2, seeded=None, order="random"), EVERYWHERE, "aria2c"),
    "aria2-one": Contestant("aria2, web seed at one", partial(aria2, seeded=1), (COLD,), "aria2c"),
    "rqbit": Contestant("rqbit, one seeder", rqbit, EVERYWHERE, TOOLS / "rqbit", slow=True),
    "sendme": Contestant("sendme, one provider", sendme, (COLD, ONE), TOOLS / "sendme", slow=True),
    "huggingface_hub": Contestant(
        "direct, huggingface_hub", partial(direct, command=hub_command, ready="ready"), (COLD,), SERVERS / "python", slow=True
    ),
    "aria2c-x16": Contestant("direct, `aria2c -x16`", partial(direct, command=aria2_command), (COLD,), "aria2c", slow=True),
    "s5cmd": Contestant("direct, s5cmd from an S3 server", partial(direct, command=s5cmd_command), (COLD,), SERVERS / "s5cmd", slow=True),
}
