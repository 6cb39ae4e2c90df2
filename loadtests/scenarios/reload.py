"""300 edits of the routing file under load, every third one broken: nothing fails, the last good one stays in force."""

import random
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import yaml
from rich.console import Console
from rich.progress import track

from loadtests import models, servers
from loadtests.client import Client, Seen, request
from loadtests.report import write

EDITS = 300
CONNECTIONS = 16
WITHIN_S = 30.0


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """`rounds` below 5 makes fewer edits."""
    models.tiny(folder / "models")
    (folder / "models" / "tiny" / "3").mkdir()
    (folder / "models" / "tiny" / "3" / "model.onnx").write_bytes(b"corrupt")
    edits = EDITS if rounds >= 5 else 12 * rounds
    document = {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}]}
    post = request("/v2/models/tiny/infer", orjson.dumps(document))
    seen, stop = Seen(), threading.Event()
    with servers.fleet(folder, folder / "models", yaml.safe_load(_routing(50)), workers=2) as running:

        def load() -> None:
            with Client(running.address, CONNECTIONS, lambda: post) as client:
                while not stop.is_set():
                    client.keep_busy(0.2, seen)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            took_s, wrong = _edit(running, edits)
        finally:
            stop.set()
            thread.join()
    ms = sorted(seen.ms)
    met = not seen.failures and not wrong
    Console().print(
        f"{edits} edits, {len(ms):,} requests, {sum(seen.failures.values())} failed; {len(wrong)} edits not as they"
        f" should be {wrong[:3]}; in force or refused after {statistics.median(took_s):.2f} s;"
        f" p50 {ms[len(ms) // 2]:.2f} ms, p99 {ms[int(len(ms) * 0.99)]:.2f} ms"
    )
    write("reload", {"edits": edits, "requests": len(ms), "failures": dict(seen.failures), "wrong": wrong, "met": met})
    return met


def _edit(running: servers.Running, edits: int) -> tuple[list[float], list[str]]:
    generator = random.Random(0)
    took_s: list[float] = []
    wrong: list[str] = []
    for number in track(range(edits), "editing", transient=True):
        before = _config(running)
        good = _routing(1 + number % 90 + number / 1000)
        is_broken = number % 3 == 2
        running.routing_file.write_text(generator.choice(_broken(good, generator)) if is_broken else good)
        start = time.monotonic()
        while not _settled(before, now := _config(running), is_broken):
            if time.monotonic() > start + WITHIN_S:
                wrong.append(f"edit {number}: {now['last_error']}")
                break
            time.sleep(0.02)
        took_s.append(time.monotonic() - start)
        if is_broken and (now["generation"] != before["generation"] or "routing.yaml: " not in str(now["last_error"])):
            wrong.append(f"edit {number}: {now}")
    return took_s, wrong


def _settled(before: Any, now: Any, is_broken: bool) -> bool:
    if is_broken:
        return now["last_error"] is not None
    return bool(now["revision"] != before["revision"] and now["acknowledged"] == 2)


def _config(running: servers.Running) -> Any:
    return httpx.get(f"{running.control_url}/api/config").json()


def _routing(weight: float) -> str:
    split = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": round(weight, 3)}]}
    return yaml.safe_dump({"models": {"tiny": {"stable": 1, "candidate": 2, "split": split}}})


def _broken(good: str, generator: random.Random) -> list[str]:
    """Cut short, misspelt, of a version that is not there, of a corrupt one."""
    cut = good[: generator.randrange(20, len(good) - 20)] + "["
    versions = (good.replace("candidate: 2", f"candidate: {version}") for version in (3, 9))
    return [cut, good.replace("weight", "wieght"), *versions]
