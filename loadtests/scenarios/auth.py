"""What it costs a prediction to know who asks, and whether they ask too often."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from gateway.auth.keyfile import add_key
from gateway.auth.keyring import Keyring
from gateway.auth.rate_limit import RateLimiter, attach_rate_limiter, create_rate_counters
from gateway.routing.attributes import Attributes
from gateway.settings.gateway import RateSettings
from gateway.settings.keys import Scope
from gateway.shm.scoreboard import HEAD
from gateway.worker.http.access import Access
from loadtests.report import Line, report

AUTH_LIMIT_US = 3.0
RATE_LIMIT_US = 2.0
CALLS = 5000
WORKERS = 2
RATE = RateSettings.model_validate({"default": "1000000/s", "customers": {"acme": "1000000/s"}})


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """Medians over rounds; the reference is the limit itself."""
    keys = [add_key(folder / "keys.yaml", f"c{n}", (Scope.PREDICT,), datetime.now(UTC), None)[0] for n in range(100)]
    keyring = Keyring(folder / "keys.yaml")
    rates = _rates(folder)
    cases: dict[str, tuple[float, Callable[[], object]]] = {
        "a key of 100": (AUTH_LIMIT_US, _prediction(Access(keyring), f"Bearer {keys[50]}")),
        "the rate of a named customer": (RATE_LIMIT_US, lambda: rates.admit("acme", time.monotonic_ns())),
        "the rate of any customer": (RATE_LIMIT_US, lambda: rates.admit("joe", time.monotonic_ns())),
    }
    lines = []
    for name, (limit_us, call) in cases.items():
        costs = [median(_cost_us(call) for _ in range(20)) for _ in range(rounds)]
        lines.append(Line(name, "µs", [limit_us] * rounds, costs, 1.0, False))
    return report("auth", lines)


def _prediction(access: Access, authorization: str) -> Callable[[], object]:
    """What the fast path does for each prediction."""
    headers = {
        b"host": b"127.0.0.1:8000",
        b"content-type": b"application/json",
        b"content-length": b"760",
        b"authorization": authorization.encode(),
    }
    scope = {"query_string": b""}
    attributes = Attributes(None, "image")
    return lambda: access.admit(access.predict(scope, headers), attributes)


def _rates(folder: Path) -> RateLimiter:
    board = folder / "board.scoreboard"
    create_rate_counters(RATE, board, WORKERS)
    rates = attach_rate_limiter(RATE, board, WORKERS, 0, memoryview(bytearray(8 * HEAD)).cast("q"))
    assert rates is not None
    return rates


def _cost_us(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6
