"""What many failed customers cost control's loop: a dump of the guards' state, its restoration, and the longest add."""

import gc
import random
import time
from collections.abc import Callable, Iterable
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

    def fail(key: int) -> None:
        ledger.add(WEIGHT_PPM, key < WEIGHT_PPM, key, ids[key % ROUTES])

    longest = _longest_ms(fail, _keys(generator, FAILURES))
    kept = orjson.loads(orjson.dumps(ledger.to_json()))
    dump = _longest_ms(lambda _: ledger.to_json(), range(DUMPS))
    restore = _longest_ms(lambda _: FailureCounts(routes=names).restore(kept), range(DUMPS))
    return dump, restore, longest, *_of_keys(generator)


def _of_keys(generator: random.Random) -> tuple[float, float]:
    """The longest add while keys fail for the first time, and again."""
    keys, failed = generator.sample(range(BUCKETS), MOST_KEYS), FailedKeys()

    def fail(key: int) -> None:
        failed.add(WEIGHT_PPM, key < WEIGHT_PPM, key)

    return _longest_ms(fail, keys), _longest_ms(fail, generator.choices(keys, k=MOST_KEYS))


def _keys(generator: random.Random, count: int) -> list[int]:
    return [generator.randrange(BUCKETS) for _ in range(count)]


def _longest_ms(act: Callable[[int], object], arguments: Iterable[int]) -> float:
    """Of the thread's own time: in what others take of a processor a longest one says nothing."""
    longest_ns = 0
    for argument in arguments:
        began_ns = time.thread_time_ns()
        act(argument)
        longest_ns = max(longest_ns, time.thread_time_ns() - began_ns)
    return longest_ns / 1e6
