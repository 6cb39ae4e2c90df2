"""A model version in service: loaded, warm, behind its own batcher and, unless it runs on the loop, its own threads."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from gateway.backends.batcher import Batcher
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.class_output import class_output
from gateway.backends.classes import Classes
from gateway.backends.digest import digest_of, missing_weights
from gateway.backends.graph_nodes import read_graph
from gateway.backends.input_bounds import stretched_by
from gateway.backends.loop_limits import Reach, measured
from gateway.backends.memory_trim import shrink
from gateway.backends.onnx import OnnxSession, Result
from gateway.backends.output_checks import Run, Stopped, check, checked, noted
from gateway.backends.recent_latency import Pace
from gateway.backends.run_threads import RunThreads
from gateway.backends.runner import Runner, runner_for, runs_at_once
from gateway.backends.shared_measurements import Measured
from gateway.backends.signature import Feeds, Signature
from gateway.backends.slow_runs import Doubt
from gateway.backends.warmup import WarmUp, warm_up
from gateway.errors import InvalidOutput, ModelUnavailable, SettingsError
from gateway.protocol.tensors import NO_PARAMETERS, Parameters
from gateway.settings.model import ModelSettings
from gateway.settings.providers import CPU
from gateway.shm.tally import Tally

DRAIN_POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A session that has been warmed up. `sha256` is that of every file that it reads; `reach`: what the event loop may
    run; `labels`: those of each output that has some.
    """

    session: OnnxSession
    settings: ModelSettings
    warm_up: WarmUp
    sha256: str
    rules: BatchingRules
    reach: Reach
    labels: Mapping[str, tuple[str, ...]]
    classes: Classes
    runner: Runner


def load_version(file: Path, settings: ModelSettings, sample: Path, known: Measured | None = None) -> LoadedVersion:
    """Load, warm up and measure one model file. Takes as long as that takes: call it in a thread.

    `known`: what another has measured of the same content, so that this one is only warmed up. Raises ModelUnavailable
    that names the file and says why.
    """
    try:
        session = _opened(file, settings)
        known = known if known is not None and known.providers == session.providers else None
        batching = settings.batching or None
        warm = warm_up(session, sample, batching.max_size if batching else 1, known.warm_up if known else None)
        labels = _labels(settings, session.signature)
        classes = Classes(class_output(settings, session.signature, session.shown, labels))
        sha256 = known.sha256 if known else digest_of(file)
    except (ModelUnavailable, SettingsError) as error:
        raise error if str(file.parent.parent) in str(error) else ModelUnavailable(f"{file}: {error}") from None
    except Exception as error:  # whatever a file makes ONNX Runtime do, it must not end the gateway
        raise ModelUnavailable(f"{file}: it cannot be loaded and warmed up: {type(error).__name__}: {error}") from error
    concurrency = settings.concurrency or runs_at_once(session)
    rules = BatchingRules(concurrency=concurrency)
    if batching and warm.rows > 1:
        rules = BatchingRules(warm.rows, batching.max_delay, concurrency)
    runner = runner_for(session, warm, rules)
    reach = known.reach if known else _reach(file, session, warm, sample)
    shrink(session, warm.row)
    return LoadedVersion(session, settings, warm, sha256, rules, reach, labels, classes, runner)


def _reach(file: Path, session: OnnxSession, warm: WarmUp, sample: Path) -> Reach:
    if session.providers != (CPU.name,):
        return Reach(f"it runs on {session.providers[0]}")
    try:
        stretched = stretched_by(read_graph(file), session.signature.inputs, session.overridable, shown=sample.exists())
    except ModelUnavailable as error:  # ONNX Runtime reads it: it is served, with care
        return Reach(str(error))
    if stretched:
        return Reach(stretched)
    if not warm.short:
        return Reach(f"a run takes {warm.full_us:,.0f} µs" if warm.row else warm.obstacle)
    return measured(session, warm.row, warm.rows)


def _opened(file: Path, settings: ModelSettings) -> OnnxSession:
    try:
        return OnnxSession(file, settings.threads, settings.providers)
    except ModelUnavailable as error:
        raise missing_weights(file) or error from None


class ModelVersion:
    """One version in service on this event loop, counting on `tally`.

    A stable one may run on the loop itself, where its runs are short, unless it is `latency_compared`: a candidate's
    threads wait for cores and for the interpreter when both are busy, so stable must run as it does where their
    latencies are evidence. `stopped` is None for stable; a candidate's is asked before each run. Raises
    ModelUnavailable where there are no threads for it.
    """

    def __init__(
        self,
        name: str,
        number: int,
        loaded: LoadedVersion,
        tally: Tally,
        stopped: Stopped | None = None,
        compared: bool = False,
    ) -> None:
        self.name = name
        self.number = number
        self.text = str(number)
        self.loaded = loaded
        self.signature = loaded.session.signature
        self.tally = tally
        self.stable = stopped is None
        self.latency_compared = compared
        self.on_loop = self.stable and not compared and not loaded.reach.obstacle
        self.pace = Pace(loaded.warm_up.single_us)
        self.took = self.pace.add
        self._row_for_row = not loaded.warm_up.obstacle
        self._one_output = len(self.signature.outputs) == 1
        self._passed_rows: int | None = None
        self._passed_shapes: object = None
        self.labels = loaded.labels
        self.classes = loaded.classes
        self.output_parameters: list[Parameters] = [
            {"labels": orjson.dumps(spec.labels).decode()}
            if spec.labels
            else NO_PARAMETERS  # no lists in the protocol's
            for spec in self.signature.outputs
        ]
        self.json_outputs = [
            (spec.name, spec.datatype, more)
            for spec, more in zip(self.signature.outputs, self.output_parameters, strict=True)
        ]
        self._closing = False
        threads = RunThreads(loaded.rules.concurrency, f"{name}-{number}")
        if not self.on_loop:
            threads.start()  # before anyone is promised an answer; else few are ever needed
        uniform = all(-1 not in spec.shape[1:] and spec.datatype != "BYTES" for spec in self.signature.inputs)
        run: Run = loaded.runner.run if stopped is None else noted(_checked(loaded, number, stopped), tally.underway())
        inputs = len(self.signature.inputs) if self.signature.initializers else None
        self._in_threads = Batcher(
            run, loaded.rules, tally, threads, uniform, trusted=self.stable, inputs=inputs, join=loaded.runner.join
        )
        self.batcher = self._in_threads
        if self.on_loop:
            doubt = Doubt(f"version {number} of '{name}'", run, loaded.settings.threads)
            self.batcher = Batcher(
                run, loaded.rules, tally, None, uniform,
                reach=loaded.reach, aside=self._in_threads, doubt=doubt, inputs=inputs,
            )  # fmt: skip
        self.infer = self.batcher.submit
        self.infer_now = self.batcher.run_now
        self.must_queue = self.batcher.must_queue
        self.batches = loaded.rules.max_rows > 1  # requests that come together

    @property
    def spare(self) -> bool:
        """A request would be run at once, and no other would wait for it."""
        return self.batcher.spare and self._in_threads.spare and not self._closing

    def abandon(self) -> None:
        """Give up on everything that waits or runs: its callers are gone."""
        for batcher in (self.batcher, self._in_threads):
            batcher.abandon()

    def passes(self, feeds: Feeds, answer: Sequence[Result], finite: bool) -> bool:
        """Whether an answer of this version is one that a candidate may give; `finite`: it holds numbers for sure."""
        rows = len(next(iter(feeds.values()))) if self._row_for_row else None
        if self._one_output and (only := answer[0]) is not None:
            shapes: object = only.shape
        else:
            shapes = [None if result is None else result.shape for result in answer]
        if finite and shapes == self._passed_shapes and rows == self._passed_rows:
            return True  # as the last one, which most are
        try:
            check(self.signature.outputs, answer, rows)
        except InvalidOutput:
            return False
        self._passed_rows, self._passed_shapes = rows, shapes
        return True

    def has_rows(self, results: Sequence[Result], classes: Sequence[int]) -> bool:
        """Whether this is an answer to several rows, as far as the model shows that rows are what its outputs hold."""
        if classes:
            return len(classes) > 1
        first = results[0] if self._row_for_row else None
        return first is not None and len(first) > 1

    async def close(self) -> None:
        """Wait until every request has been answered.

        Threads and session end with the last reference to the version: calls of a candidate under way hold their stable
        version, which answers for the candidate even where both have been replaced since.
        """
        self._closing = True
        while not (self.batcher.idle and self._in_threads.idle):
            await asyncio.sleep(DRAIN_POLL_S)


def _checked(loaded: LoadedVersion, number: int, stopped: Stopped) -> Run:
    outputs = loaded.session.signature.outputs
    return checked(loaded.runner.run, outputs, number, stopped, row_for_row=not loaded.warm_up.obstacle)


def _labels(settings: ModelSettings, signature: Signature) -> dict[str, tuple[str, ...]]:
    """The class labels of each output that has them: from model.yaml, or from the model itself."""
    labels = {spec.name: spec.labels for spec in signature.outputs if spec.labels}
    prediction = settings.prediction
    if prediction is not None and prediction.labels:
        labels[prediction.output] = tuple(prediction.labels)
    return labels
