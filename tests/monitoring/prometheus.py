"""A real Prometheus in its own process, with the shipped configuration pointed at a test's gateway."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest
import yaml

from loadtests.free_port import free_port

CONFIG = Path(__file__).parents[2] / "config" / "prometheus"
READY_WITHIN_S = 60.0
SAMPLED_WITHIN_S = 120.0
METRIC = re.compile(r"\bgateway_[a-z0-9_]+")
SELECTOR = re.compile(r"\bgateway_[a-z0-9_]+(?:\{[^}]*\})?")


def tool(name: str) -> str:
    """The path of a program of the Debian package `prometheus`. Without it a test is skipped, which fails in CI."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install prometheus")
    return found


def promtool(*words: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    line = [tool("promtool"), *words]
    return subprocess.run(line, input=text, capture_output=True, text=True, timeout=60, check=False)


class PrometheusProcess:
    """Scrapes `target` every half second and evaluates the shipped alerts as often. As a context: ended on exit."""

    def __init__(self, folder: Path, target: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        self._log = folder / "prometheus.log"
        document = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
        document["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        document["rule_files"] = [str(CONFIG / name) for name in document["rule_files"]]
        (job,) = document["scrape_configs"]
        job["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(document))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "PrometheusProcess":
        command = [
            tool("prometheus"),
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'tsdb'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"GOMAXPROCS": "1"})
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._ready():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def value(self, expr: str) -> float | None:
        """The current value of the expression's only sample; None where there is none."""
        samples = self._get("query", query=expr)["result"]
        assert len(samples) <= 1, f"{expr}: {samples}"
        return float(samples[0]["value"][1]) if samples else None

    def values(self, expr: str, start_s: float) -> list[float]:
        """Every finite value since `start_s` (since 1970) of every series of the expression."""
        found = self._get("query_range", query=expr, start=start_s, end=time.time(), step=0.5)["result"]
        numbers = [float(value) for series in found for _, value in series["values"]]
        return [number for number in numbers if abs(number) != float("inf") and number == number]

    def alerts(self) -> dict[str, str]:
        """The alerts that are pending or firing now, each with its worst state."""
        states: dict[str, str] = {}
        for alert in self._get("alerts")["alerts"]:
            name = alert["labels"]["alertname"]
            states[name] = min(states.get(name, "z"), alert["state"])  # firing sorts before pending
        return states

    def _get(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]
