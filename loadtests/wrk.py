"""Closed-loop load by wrk (a Debian package), on core 1."""

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CLIENT_CORE: Final = "1"
SCRIPT: Final = """
wrk.method = "POST"
local file = io.open("BODY", "rb")
wrk.body = file:read("*a")
file:close()
HEADERS
CUSTOMERS
done = function(summary, latency, requests)
  io.write(string.format('RESULT {"requests": %d, "us": %d, "p50": %d, "p99": %d, "failed": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout))
end
"""
SPREAD: Final = """
local requests, sent = {}, 0
init = function()
  for number = 1, COUNT do
    wrk.headers["x-customer-id"] = "customer-" .. number
    requests[number] = wrk.format()
  end
end
request = function()
  sent = sent % COUNT + 1
  return requests[sent]
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: always the same request, by each of `customers` in turn if there are any."""

    body: bytes
    headers: Mapping[str, str]
    customers: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of wrk saw."""

    per_s: float
    p50_us: float
    p99_us: float


@contextmanager
def background(url: str, load: Load, connections: int, threads: int = 1) -> Iterator[Callable[[], int]]:
    """Load while the context lasts, an hour at most; what it yields ends the load and says how many requests failed."""
    with tempfile.TemporaryDirectory() as name:
        command = ["wrk", f"-t{threads}", f"-c{connections}", "-d3600s", "--timeout", "10s"]
        process = subprocess.Popen(
            [*command, "-s", str(_script(Path(name), load)), url], stdout=subprocess.PIPE, text=True
        )

        def end() -> int:
            process.send_signal(signal.SIGINT)  # wrk then prints what it has seen
            out, _ = process.communicate(timeout=30)
            found = json.loads(out.split("RESULT ")[1])
            assert found["requests"], f"no load was there:\n{out}"
            return int(found["failed"])

        try:
            yield end
        finally:
            process.kill()
            process.wait()


def measure(url: str, load: Load, connections: int, seconds: int, *, pinned: bool = True, threads: int = 1) -> Measured:
    """Requests a second and latency at `connections` connections; `pinned`: on core 1. A failure ends the benchmark."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        script = _script(Path(name), load)
        core = ["taskset", "-c", CLIENT_CORE] if pinned else []
        command = [*core, "wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
        run = subprocess.run([*command, "-s", str(script), url], check=True, capture_output=True, text=True)
    found = json.loads(run.stdout.split("RESULT ")[1])
    if found["failed"] or not found["requests"]:
        raise SystemExit(f"{found['failed']} requests failed at {url}:\n{run.stdout}")
    return Measured(found["requests"] / found["us"] * 1e6, found["p50"], found["p99"])


def _script(folder: Path, load: Load) -> Path:
    (folder / "body").write_bytes(load.body)
    headers = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in load.headers.items())
    script = folder / "post.lua"
    spread = SPREAD.replace("COUNT", str(load.customers)) if load.customers else ""
    filled = SCRIPT.replace("BODY", str(folder / "body")).replace("HEADERS", headers).replace("CUSTOMERS", spread)
    script.write_text(filled)
    return script
