"""Selects what runs a version's batches: the session itself or, if it uses a device, padded batches in fixed sizes."""

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.backends.batch import Run
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.bucket_sessions import sessions_by_size
from gateway.backends.bucket_warmup import mismatch_with_session
from gateway.backends.bucketed import BucketedRunner, row_kinds
from gateway.backends.buckets import bucket_sizes
from gateway.backends.joining import Join, concatenated
from gateway.backends.onnx import OnnxSession
from gateway.backends.page_locked import PageLocked, cuda_runtime
from gateway.backends.warmup import WarmUp

DEVICE_CONCURRENCY: Final = 2  # one batch fills while the other runs
log: Final = logging.getLogger("gateway.backends")


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs batches: `run` runs one, in any thread; `join` makes its inputs from requests. `buckets`: batch sizes; ():
    any.
    """

    run: Run
    join: Join = concatenated
    buckets: tuple[int, ...] = ()


def runner_for(session: OnnxSession, warm: WarmUp, rules: BatchingRules, *, bucketed: bool | None = None) -> Runner:
    """The runner of one session, ready for every batch that `rules` allow. `bucketed`: whether to use fixed batch
    sizes; None: if the session does not run on the CPU alone.

    Takes as long as a few runs of each size. If the fixed sizes fail, or their answers differ from the session's, the
    session runs without them.
    """
    kinds = row_kinds(session) if (not session.on_cpu() if bucketed is None else bucketed) else None
    if kinds is None or warm.unbatchable_reason or rules.max_rows < 2 or not session.all_required:
        return Runner(session.run)
    device = session.cuda_device()
    allocate = np.empty if device is None else PageLocked(device, cuda_runtime())
    try:
        sessions = sessions_by_size(session, bucket_sizes(rules.max_rows), warm.row)
        runner = BucketedRunner(sessions, kinds, rules.concurrency, allocate)
        wrong = mismatch_with_session(runner, session, warm.row)
    except Exception as error:  # the session runs without buckets
        wrong = f"{type(error).__name__}: {error}"
    if wrong:
        log.warning("%s: batches are not padded to prepared sizes: %s", session.file, wrong)
        return Runner(session.run)
    return Runner(runner.run, runner.join, runner.sizes)


def default_concurrency(session: OnnxSession) -> int:
    """How many runs of a version may be under way at once if model.yaml does not say."""
    return 1 if session.on_cpu() else DEVICE_CONCURRENCY
