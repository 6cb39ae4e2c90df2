"""What many failed customers cost control's loop: a dump of the guards' state, its restoration, and the longest add."""

import gc
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson

from gateway.control.guards.failed_keys import MOST_KEYS, FailedKeys
from gateway.control.guards.failure_counts import FailureCounts
from gateway.routing.buckets import BUCKETS
from gateway.shm.failure_events import route_id
from loadtests.report import Line, report

WEIGHT_PPM: Final = 100_000
ROUTES: Final = 100  # of which all fail
FAILURES: Final = 200_000  # of customers at random: 18% of the million buckets
DUMPS: Final = 20
DUMP_MS: Final = 3.0
RESTORE_MS: Final = 5.0
ADD_MS: Final = 2.0


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """The reference is the limit itself."""
    gc.disable()  # as control does: see PacedCollector
    found = [_measured(seed) for seed in range(rounds)]
    names = {
        f"dump, {ROUTES} routes, {FAILURES:,} failures": DUMP_MS,
        "restoration of that, as by hosts that follow": RESTORE_MS,
        "longest of these failures": ADD_MS,
        f"longest of {MOST_KEYS:,} keys, once each": ADD_MS,
        "longest of as many further failures of these": ADD_MS,
    }
    columns = zip(*found, strict=True)
    lines = [
        Line(name, "ms", [limit] * rounds, values, 1.0, False)
        for (name, limit), values in zip(names.items(), columns, strict=True)
    ]
    return report("failed_keys", lines)


def _measured(seed: int) -> tuple[float, ...]:
    generator, names = random.Random(seed), [f"route {number}" for number in range(ROUTES)]
    ledger, ids = FailureCounts(routes=names), [route_id(name) for name in names]
    longest = max(_ms(lambda key=key: ledger.add(WEIGHT_PPM, key < WEIGHT_PPM, key, ids[key % ROUTES]))
                  for key in _keys(generator, FAILURES))  # fmt: skip
    kept = orjson.loads(orjson.dumps(ledger.to_json()))
    dump = max(_ms(ledger.to_json) for _ in range(DUMPS))
    restore = max(_ms(lambda: FailureCounts(routes=names).restore(kept)) for _ in range(DUMPS))
    return dump, restore, longest, *_of_keys(generator)


def _of_keys(generator: random.Random) -> tuple[float, float]:
    """The longest add while keys fail for the first time, and again."""
    keys, failed = generator.sample(range(BUCKETS), MOST_KEYS), FailedKeys()

    def longest(order: list[int]) -> float:
        return max(_ms(lambda key=key: failed.add(WEIGHT_PPM, key < WEIGHT_PPM, key)) for key in order)

    return longest(keys), longest(generator.choices(keys, k=MOST_KEYS))


def _keys(generator: random.Random, count: int) -> list[int]:
    return [generator.randrange(BUCKETS) for _ in range(count)]


def _ms(act: Callable[[], object]) -> float:
    began_ns = time.perf_counter_ns()
    act()
    return (time.perf_counter_ns() - began_ns) / 1e6
