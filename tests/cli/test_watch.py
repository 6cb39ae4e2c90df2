"""`gateway status --watch` fits the terminal: one line a model, cut to its width, and no more lines than it has."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.watch import HEADINGS, Overview, Rates

LONG_REASON = "errors [of acme] rose beyond what anyone expected of version 2 on this very day " * 3


def version(number: int, variant: str, requests: int = 1000) -> dict[str, Any]:
    return {
        "version": number,
        "variant": variant,
        "requests": requests,
        "error_rate": 0.0123 if variant == "candidate" else 0.0,
        "latency_p99_ms": 12.345,
    }


def release(model: str, stopped: bool = False, candidate: int | None = 2, **more: Any) -> dict[str, Any]:
    versions = [version(1, "stable")] + ([version(2, "candidate", 100)] if candidate else [])
    return {
        "model": model,
        "stable": 1,
        "candidate": candidate,
        "stopped": stopped,
        "stop": {"by": "anna (key 0a1b2c3d)", "reason": LONG_REASON} if stopped else None,
        "routes": [{"route": "pilot", "in_force_percent": 100.0}, {"route": "everyone", "in_force_percent": 5.0}],
        "versions": versions,
        **more,
    }


FIFTY = [release(f"model-{number:02}-with-quite-a-long-name-of-its-own") for number in range(48)] + [
    release("zebra", stopped=True),
    release("yak", candidate=None, routes=[]),
]
SHOWN = Overview(FIFTY, {}, ["The last edit is not in force: " + LONG_REASON])


def printed(columns: int, rows: int, overview: Overview) -> list[str]:
    """The lines on a console of this size."""
    console = Console(width=columns, height=rows, color_system=None)
    with console.capture() as capture:
        console.print(overview)
    return capture.get().splitlines()


def in_terminal(columns: int, rows: int) -> list[str]:
    """What a process that shows FIFTY prints to a terminal of this size, line by line."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    line = [sys.executable, "-c", "from tests.cli.test_watch import *; Console(color_system=None).print(SHOWN)"]
    subprocess.run(line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, check=True, timeout=60)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while more := os.read(ours, 1 << 16):
            shown += more
    os.close(ours)
    return shown.decode().splitlines()


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50), (40, 5)])
def test_fifty_models_fit_the_terminal(columns: int, rows: int) -> None:
    lines = in_terminal(columns, rows)
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("The last edit")
    assert lines[1].split()[0] == HEADINGS[0]
    assert lines[2].startswith("zebra")
    shown = sum(line.startswith(("zebra", "model-")) for line in lines)
    assert lines[-1].startswith(f"… and {50 - shown} more")


def test_line_of_a_model_shows_state_split_rates_errors_and_why() -> None:
    stopped = FIFTY[-2]
    rates = {("zebra", 1, "stable"): 1234.5, ("zebra", 2, "candidate"): 0.25}
    (_, line) = printed(200, 50, Overview([stopped], rates))
    cells = "zebra stopped 1 2 5-100% 1.23e+03/0.25 0%/1.2% 12.3/12.3 by anna (key 0a1b2c3d): errors [of acme] rose"
    assert " ".join(line.split()).startswith(cells)
    assert line.rstrip().endswith("…")


def test_models_that_need_someone_come_first() -> None:
    ramp = {"stage": "held", "blocked_on": "someone to continue it"}
    lines = printed(160, 10, Overview([FIFTY[-1], FIFTY[0], release("held", ramp=ramp), FIFTY[-2]], {}))
    assert [line.split()[1] for line in lines[1:]] == ["stopped", "held", "running", "alone"]
    assert "waiting for someone to continue it" in lines[2]


def test_rates_are_of_the_time_since_the_last_answer() -> None:
    rates = Rates()
    assert rates.of([release("m")], 10.0) == {}
    later = release("m", versions=[version(1, "stable", 1500), version(3, "candidate", 7)])
    assert rates.of([later], 12.0) == {("m", 1, "stable"): 250.0}
    assert rates.of([release("m")], 13.0)[("m", 1, "stable")] == 0, "the gateway has been started again"
