"""The servers under test: each a process of its own on core 0, gone when its context ends."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

SERVER_CORE = 0
READY_WITHIN_S = 60.0


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def bare(model: Path, *mode: str) -> Iterator[str]:
    """The bare server; yields its URL."""
    port = free_port()
    with _running([sys.executable, "-m", "loadtests.bare", str(model), str(port), *mode], port):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def gateway(folder: Path, models: Path, routing: Any, model: str) -> Iterator[str]:
    """The gateway with this routing; yields the URL that `model` is inferred at."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "routing.yaml").write_text(yaml.safe_dump(routing))
    settings = {"server": {"port": port}, "models": {"path": str(models)}, "routing": str(folder / "routing.yaml")}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))
    with _running([sys.executable, "-m", "gateway", "serve", "--config", str(folder / "gateway.yaml")], port):
        yield f"http://127.0.0.1:{port}/v2/models/{model}/infer"


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        os.sched_setaffinity(process.pid, {SERVER_CORE})
        _wait_for(port, process)
        for thread in os.listdir(f"/proc/{process.pid}/task"):
            os.sched_setaffinity(int(thread), {SERVER_CORE})
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + READY_WITHIN_S
    while True:
        if process.poll() is not None:
            assert process.stdout is not None
            raise SystemExit(f"the server ended with {process.returncode}:\n{process.stdout.read().decode()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > end:
            raise SystemExit(f"no server on port {port} within {READY_WITHIN_S} s")
        time.sleep(0.05)
