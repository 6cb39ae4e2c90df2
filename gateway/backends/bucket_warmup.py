"""Warms up every batch size of a runner, and checks that it answers as the plain session does.

The independence of rows was checked on the session. What is served uses reserved buffers, padding and several runs at
once, so batches of different rows, full and padded, are run that way before a version is ready.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gateway.backends.batch_variants import join_rows
from gateway.backends.bucketed import BucketedRunner
from gateway.backends.buckets import bucket_for
from gateway.backends.onnx import OnnxSession, Result
from gateway.backends.row_comparison import is_close
from gateway.backends.signature import Feeds
from gateway.protocol.tensors import Array

DIVISORS: Final = (2, 5)  # of the one row that is known to run: gives three different rows
DEVICE_TOLERANCE: Final = 1e-3  # kernels need not repeat to the bit; another row's answer differs by more


def mismatch_with_session(runner: BucketedRunner, session: OnnxSession, row: Feeds) -> str:
    """How the answers differ, else "". Runs each size at least twice. Raises RequestError if a run fails."""
    tolerance = 0.0 if session.on_cpu() else DEVICE_TOLERANCE
    rows = [row, *(_divided(row, divisor) for divisor in DIVISORS)]

    def differs(count: int, first: int = 0) -> str:
        parts = [rows[(first + index) % len(rows)] for index in range(count)]
        with runner.join(parts) as feeds:
            results = runner.run(feeds)
        size = bucket_for(count, runner.sizes)
        wanted = session.run(join_rows([*parts, *[parts[-1]] * (size - count)]))
        return "" if _alike(results, wanted, count, tolerance) else f"{count} rows are answered differently in {size}"

    for size in runner.sizes:
        for count in sorted({size // 2 + 1, size}):
            if found := differs(count):
                return found
    found = _at_once(runner.concurrency, lambda thread: differs(runner.sizes[-1], thread))
    for size in runner.sizes:  # last: the comparisons have run other sizes in the session
        runner.run(join_rows([row], size))
    return found


def _divided(row: Feeds, divisor: int) -> Feeds:
    """The row with smaller values. Integers, which may be indices, stay integers of at most a size known to run."""
    return {name: _quotient(array, divisor) for name, array in row.items()}


def _quotient(array: Array, divisor: int) -> Array:
    if array.dtype.kind == "b":
        return array
    return (array / divisor if array.dtype.kind == "f" else array // divisor).astype(array.dtype)


def _at_once(count: int, look: Callable[[int], str]) -> str:
    """`count` comparisons at once, as many as runs will be under way: a device prepares for each of them, too."""
    with ThreadPoolExecutor(count) as threads:
        return next(filter(None, threads.map(look, range(count))), "")


def _alike(results: Sequence[Result], wanted: Sequence[Result], rows: int, tolerance: float) -> bool:
    return all(
        one is not None and other is not None and len(one) == rows and is_close(one, other[:rows], tolerance)
        for one, other in zip(results, wanted, strict=True)
    )
