"""Selects the batch sizes of a version on a GPU, and opens a session for each size if switching sizes costs too much.

ONNX Runtime prepares a convolution for the last shape, and again for each run of another size. Measured on an H200 with
ResNet-50: 66 ms and more per run while two sizes alternated in one session, 3 and 4 ms with a session for each. Each
session holds the weights once more.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gateway.backends.batch_variants import join_rows
from gateway.backends.onnx import OnnxSession
from gateway.backends.signature import Feeds
from gateway.errors import ModelUnavailable, RequestError

RUNS: Final = 3
KEEP_RATIO: Final = 0.85  # of the time of the next larger size: one that takes longer is padded to that
CHANGE_COST_RATIO: Final = 1.5  # of a run's time, if the run before it was of another size
log: Final = logging.getLogger("gateway.backends")


def sessions_by_size(session: OnnxSession, sizes: Sequence[int], row: Feeds) -> dict[int, OnnxSession]:
    """The batch sizes worth having, with the warmed-up session that runs each; at least the largest size.

    `row`: a row that runs. Raises RequestError if a batch does not run.
    """
    batches = {size: join_rows([row], size) for size in sizes}
    run_s = {size: _fastest_s(session, batches[size]) for size in sizes}
    kept = worthwhile_sizes(run_s)
    if len(kept) == 1 or not _changing_costs(session, batches, run_s, kept):
        return dict.fromkeys(kept, session)
    sessions = {kept[0]: session}
    try:
        for size in kept[1:]:
            sessions[size] = session.reopen()
            _fastest_s(sessions[size], batches[size])
    except (ModelUnavailable, RequestError) as error:
        log.warning("%s: all batches are padded to %d rows: %s", session.file, kept[-1], error)
        sessions = {kept[-1]: session}
    with contextlib.suppress(RequestError):
        _fastest_s(session, batches[next(size for size, one in sessions.items() if one is session)])
    return sessions


def worthwhile_sizes(run_s: Mapping[int, float]) -> list[int]:
    """The sizes whose run takes clearly less time than that of the next larger size kept; ascending."""
    kept: list[int] = []
    for size in sorted(run_s, reverse=True):
        if not kept or run_s[size] <= KEEP_RATIO * run_s[kept[-1]]:
            kept.append(size)
    return kept[::-1]


def _changing_costs(
    session: OnnxSession, batches: Mapping[int, Feeds], run_s: Mapping[int, float], kept: Sequence[int]
) -> bool:
    small, large = kept[0], kept[-1]
    changed_s = []
    for _ in range(RUNS):
        session.run(batches[small])
        changed_s.append(_timed_s(lambda: session.run(batches[large])))
    return min(changed_s) > CHANGE_COST_RATIO * run_s[large]


def _fastest_s(session: OnnxSession, feeds: Feeds) -> float:
    """The time (s) of the fastest of some runs of one size; the first, which prepares for the size, is not counted."""
    session.run(feeds)
    return min(_timed_s(lambda: session.run(feeds)) for _ in range(RUNS))


def _timed_s(run: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    run()
    return time.perf_counter() - began_s
