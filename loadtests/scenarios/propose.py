"""Refused uploads: of 64 MiB, of very many files, of a model that never loads; what stable's customers notice."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from loadtests import models, servers
from loadtests.client import Client, Seen
from loadtests.report import Line, report
from loadtests.scenarios.hang import flawed_request
from loadtests.servers import Running

CONNECTIONS = 8
LOAD_TIMEOUT = "5s"
HUGE = 64 << 20
MANY = 100_000
RATIO = 1.5
ANSWERED_WITHIN_S = 60.0
GONE_WITHIN_S = 30.0
ROUTING = {"models": {"flawed": {"stable": 1}}}
UPLOAD = """\
import os, sys, urllib.error, urllib.request
url, path, last = sys.argv[1:]
while not os.path.exists(last):
    with open(path, "rb") as archive:
        request = urllib.request.Request(url, archive, {"content-type": "application/x-tar"})
        request.add_header("content-length", str(archive.seek(0, 2)))
        archive.seek(0)
        try:
            urllib.request.urlopen(request, timeout=60).read()
            sys.exit("it was accepted")
        except urllib.error.HTTPError as error:
            print(error.code, error.read(200), flush=True)
        except OSError as error:
            print("cut off", error, flush=True)
"""


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """One worker; stable's p99 in the quiet, then while an upload follows upload, up to three times each."""
    models.flawed(folder / "models", "hangs")
    place = folder / "models" / "flawed"
    hanging = (place / "2" / "model.onnx").read_bytes()
    shutil.rmtree(place / "2")
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [-1.0, 1.0, 2.0, 3.0]}
    (place / "warmup.json").write_text(json.dumps({"inputs": [tensor]}))
    archives = {
        "64 MiB that are no model": {"model.onnx": bytes(HUGE)},
        f"{MANY:,} files": {f"{number}.bin": b"x" for number in range(MANY)},
        "one that never loads": {"model.onnx": hanging},
    }
    console, lines, failed = Console(), [], 0
    with servers.fleet(folder / "gateway", folder / "models", ROUTING, workers=1, load_timeout=LOAD_TIMEOUT) as running:
        for name, files in archives.items():
            archive = folder / "archive.tar"
            archive.write_bytes(_archive(files))
            quiet, during = [], []
            for _ in range(min(rounds, 3)):
                seen = _measured(running, seconds)
                with _uploading(running, archive) as said:
                    busy = _measured(running, seconds, said)
                    refused = said().splitlines()
                assert refused, f"{name}: no upload was answered"
                quiet.append(_p99(seen))
                during.append(_p99(busy))
                failed += sum(seen.failures.values()) + sum(busy.failures.values())
            console.print(f"{name}: {refused[-1]}")
            lines.append(Line(f"stable's p99 during uploads of {name}", "ms", quiet, during, RATIO, False))
        left = _left(place)
    met = report("propose", lines)
    console.print(f"{failed} requests failed; left in the repository: {', '.join(left)}")
    return met and not failed and left == ["1"]


def _left(place: Path) -> list[str]:
    """The versions in the repository, hidden ones too, once what was refused last is gone."""
    end_s = time.monotonic() + GONE_WITHIN_S
    while len(found := sorted(entry.name for entry in place.iterdir() if entry.is_dir())) > 1:
        if time.monotonic() > end_s:
            break
        time.sleep(0.1)
    return found


def _archive(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()


@contextlib.contextmanager
def _uploading(running: Running, archive: Path) -> Iterator[Callable[[], str]]:
    """Upload the archive again and again while the context lasts, then wait for the last answer; what it yields returns
    the answers so far.
    """
    url = f"{running.control_url}/api/releases/flawed/propose"
    answers, last = archive.with_suffix(".answers"), archive.with_suffix(".last")
    last.unlink(missing_ok=True)
    with answers.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", UPLOAD, url, str(archive), str(last)], stdout=out)
    try:
        yield answers.read_text
        last.touch()
        process.wait(ANSWERED_WITHIN_S)
    finally:
        process.kill()
        process.wait()


def _measured(running: Running, seconds: int, said: Callable[[], str] = lambda: "at once") -> Seen:
    """At least so many seconds, and until an upload has been answered."""
    seen = Seen()
    end_s = time.monotonic() + ANSWERED_WITHIN_S
    with Client(running.address, CONNECTIONS, lambda: flawed_request(1.0, "joe")) as client:
        client.keep_busy(seconds, seen)
        while not said() and time.monotonic() < end_s:
            client.keep_busy(0.5, seen)
    return seen


def _p99(seen: Seen) -> float:
    return sorted(seen.ms)[int(len(seen.ms) * 0.99)]
