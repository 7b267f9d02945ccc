"""Models and datasets from the hub: fetched by a process of its own, which alone knows the token and the network.

`python -m engine.models.hub ORGANISATION/NAME FOLDER [REVISION] [dataset]` writes lines of JSON; the last says how it
ended.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.files import folder_bytes
from engine.specs.limits import max_file_bytes
from engine.specs.problem import Problem, ProblemError, problem

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}")
REVISION = re.compile(r"[0-9a-f]{40}|[\w][\w./-]{0,60}")
PATTERNS = (
    "*.safetensors",
    "*.json",
    "tokenizer.model",
    "spiece.model",
    "merges.txt",
    "vocab.txt",
    "*.jinja",
    "README.md",
    "LICENSE*",
    "NOTICE",
)
MAX_BYTES = 500 * 2**30
POLL_S = 0.5
TIMEOUT_S = "20"


def download(
    name: str,
    folder: Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    kind: str = "model",
) -> str:
    """Fetch the safe files of a hub model, or of a `dataset`, into `folder`; return the commit.

    What is there already is not fetched again.

    Raises:
        ProblemError: `hub_bad_name`, `hub_unreachable`, `hub_not_found`, `hub_no_access`, `hub_no_safetensors`,
            `hub_no_data`.
        OSError: the disk is full.
    """
    check_name(name, revision)
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-m", "engine.models.hub", "--", name, str(folder), revision or "", kind]
    child = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(token), text=True
    )
    said: dict[str, Any] = {}
    try:
        for line in child.stdout or ():
            said = json.loads(line)
            if "done_bytes" in said:
                progress(said["done_bytes"], said["total_bytes"])
    finally:
        child.kill()
        child.wait()
    if "commit" in said:
        return str(said["commit"])
    if said.get("code") == "hub_disk_full":
        raise OSError(28, f"No space left on device: {name}")
    if "code" in said:
        raise ProblemError([Problem.from_dict(said)])
    raise ProblemError([problem("hub_unreachable", field="location", name=name, detail=f"exit {child.returncode}")])


def check_name(name: str, revision: str | None = None) -> None:
    """Refuse what is no hub id: a path, a URL, dots.

    Raises:
        ProblemError: `hub_bad_name`.
    """
    if not NAME.fullmatch(name) or ".." in name or "--" in name:
        raise ProblemError([problem("hub_bad_name", field="location", given=name[:80])])
    if revision and (not REVISION.fullmatch(revision) or ".." in revision):
        raise ProblemError([problem("hub_bad_name", field="revision", given=revision[:80])])


def _environment(token: str | None) -> dict[str, str]:
    passed = (
        "PATH",
        "HOME",
        "LANG",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "https_proxy",
        "http_proxy",
        "no_proxy",
        "HF_ENDPOINT",
        "PYTHONPATH",
    )
    kept = {key: os.environ[key] for key in passed if key in os.environ}
    kept |= {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": TIMEOUT_S,
        "HF_HUB_DOWNLOAD_TIMEOUT": TIMEOUT_S,
    }
    root = str(Path(__file__).resolve().parents[2])
    kept["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [kept.get("PYTHONPATH")])])
    return kept | ({"HF_TOKEN": token} if token else {})


def main(arguments: list[str] | None = None) -> int:
    """The downloading process."""
    parser = argparse.ArgumentParser(prog="python -m engine.models.hub", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("revision", nargs="?", default="")
    parser.add_argument("kind", nargs="?", default="model", choices=sorted(WANTED))
    given = parser.parse_args(arguments)
    _end_with_parent()
    try:
        commit = _fetch(given.name, given.folder, given.revision or None, given.kind)
    except ProblemError as error:
        _say(error.problems[0].as_dict())
        return 66
    _say({"commit": commit})
    return 0


def _fetch(name: str, folder: Path, revision: str | None, kind: str) -> str:
    from huggingface_hub import HfApi, snapshot_download

    check_name(name, revision)
    token: str | bool = os.environ.get("HF_TOKEN") or False
    try:
        hub = HfApi(token=token)
        told = hub.repo_info(name, repo_type=kind, revision=revision, files_metadata=True, timeout=float(TIMEOUT_S))
        sizes = {item.rfilename: item.size or 0 for item in getattr(told, "siblings", None) or []}
        wanted = WANTED[kind](name, sizes)
        total = sum(sizes[file] for file in wanted)
        with _Watch(folder, total):
            snapshot_download(
                name,
                repo_type=kind,
                revision=told.sha,
                local_dir=folder,
                allow_patterns=wanted,
                token=token,
                max_workers=4,
            )
    except ProblemError:
        raise
    except Exception as error:
        raise ProblemError([_problem_of(error, name)]) from error
    _say({"done_bytes": total, "total_bytes": total})
    return str(told.sha)


def _wanted(name: str, sizes: Mapping[str, int]) -> list[str]:
    """The files to fetch: of the allowed kinds, at the top, and no second copy of the weights in another layout."""
    from huggingface_hub.utils._paths import filter_repo_objects

    plain = [file for file in filter_repo_objects(sizes, allow_patterns=list(PATTERNS)) if "/" not in file]
    weights = [file for file in plain if file.endswith(".safetensors")]
    if not weights:
        raise ProblemError([problem("hub_no_safetensors", field="location", name=name)])
    usual = {file for file in weights if file.startswith("model")} or set(weights)
    wanted = [file for file in plain if file not in weights or file in usual]
    if sum(sizes[file] for file in wanted) > MAX_BYTES:
        raise ProblemError([problem("model_file_too_large", file=name, limit_mb=MAX_BYTES >> 20)])
    return wanted


def _wanted_data(name: str, sizes: Mapping[str, int]) -> list[str]:
    """The files of rows, or else the documents: never a script."""
    from engine.data.folders import data_names

    wanted = sorted(data_names(sizes))
    if not wanted:
        raise ProblemError([problem("hub_no_data", field="location", name=name)])
    total, limit = sum(sizes[file] for file in wanted), max_file_bytes()
    if total > limit:
        raise ProblemError([problem("file_too_large", field="location", bytes=total, limit=limit)])
    return wanted


WANTED: dict[str, Callable[[str, Mapping[str, int]], list[str]]] = {"model": _wanted, "dataset": _wanted_data}


def _problem_of(error: Exception, name: str) -> Problem:
    """Tell apart: not there, no access, not reachable. The error's own text may hold addresses and is not passed on."""
    from huggingface_hub import errors

    detail = type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return problem("hub_no_access", field="location", name=name)
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)) or status in (401, 404):
        return problem("hub_not_found", field="location", name=name)
    if isinstance(error, errors.HfHubHTTPError):
        detail = f"HTTP {status}"
    if isinstance(error, OSError) and error.errno == 28:
        return problem("hub_disk_full", field="location", name=name)
    return problem("hub_unreachable", field="location", name=name, detail=detail)


class _Watch:
    """Says how many bytes have arrived, by looking at the disk."""

    def __init__(self, folder: Path, total: int) -> None:
        self._folder, self._total, self._over = folder, total, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(POLL_S):
            _say({"done_bytes": min(folder_bytes(self._folder), self._total), "total_bytes": self._total})


def _say(data: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    """Leave when the parent is gone: nobody waits for these files any more."""
    import ctypes
    import signal

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
