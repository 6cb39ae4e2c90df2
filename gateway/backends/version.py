"""A model version in service: its facts, and the backend that runs it."""

import asyncio
from collections.abc import Sequence
from typing import Final

import orjson

from gateway.backends.base import Backend
from gateway.backends.onnx import Result
from gateway.backends.output_checks import check
from gateway.backends.recent_latency import RecentLatency
from gateway.backends.signature import Feeds
from gateway.backends.version_facts import VersionFacts
from gateway.errors import InvalidOutput
from gateway.protocol.tensors import NO_PARAMETERS, Parameters
from gateway.shm.tally import Tally

DRAIN_POLL_S: Final = 0.01


class ModelVersion:
    """One version in service on this event loop: passes requests to `backend`, and checks and reads its answers.

    `stable`: False for a candidate. `latency_compared`: its latencies are evidence, so it runs as the other version
    does. `baseline`: the same version in a process, which runs as many requests as the candidate gets, if latencies are
    compared.
    """

    def __init__(
        self, name: str, number: int, facts: VersionFacts, backend: Backend, tally: Tally, *, stable: bool,
        latency_compared: bool = False,
        baseline: "ModelVersion | None" = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.number = number
        self.text = str(number)
        self.facts = facts
        self.backend = backend
        self.signature = facts.signature
        self.tally = tally
        self.stable = stable
        self.latency_compared = latency_compared
        self.baseline = baseline
        self.recent_latency = RecentLatency(facts.warm_up.single_us)
        self.record_latency = self.recent_latency.add
        self._row_for_row = not facts.warm_up.unbatchable_reason
        self._one_output = len(self.signature.outputs) == 1
        self._passed_rows: int | None = None
        self._passed_shapes: object = None
        self.labels = facts.labels
        self.predictions = facts.predictions
        self.classes = facts.predictions.classes
        self.only_classes = facts.predictions.only_classes
        self.output_parameters: list[Parameters] = [
            {"labels": orjson.dumps(spec.labels).decode()}
            if spec.labels
            else NO_PARAMETERS  # the protocol's parameters hold no lists
            for spec in self.signature.outputs
        ]
        self.json_outputs = [
            (spec.name, spec.datatype, more)
            for spec, more in zip(self.signature.outputs, self.output_parameters, strict=True)
        ]
        self._closing = False
        self.remote = not facts.sha256  # another server runs it: no file of it is here
        self.infer = backend.submit
        self.infer_now = backend.run_now
        self.must_queue = backend.must_queue
        self.batches = facts.rules.max_rows > 1  # concurrent requests

    @property
    def spare(self) -> bool:
        """Whether a request would be run at once, without making another wait."""
        return self.backend.spare and not self._closing

    def abandon(self) -> None:
        """Cancel every request that is queued or runs: its callers are gone."""
        self.backend.abandon()
        if self.baseline is not None:
            self.baseline.abandon()

    def is_valid_answer(self, feeds: Feeds, answer: Sequence[Result], finite: bool) -> bool:
        """Whether this answer passes the checks of a candidate's. `finite`: it surely holds no NaN or infinity."""
        rows = len(next(iter(feeds.values()))) if self._row_for_row else None
        try:  # an answer of another server is decoded now
            if self._one_output and (only := answer[0]) is not None:
                shapes: object = only.shape
            else:
                shapes = [None if result is None else result.shape for result in answer]
            if finite and shapes == self._passed_shapes and rows == self._passed_rows:
                return True  # same shapes as the last answer, the common case
            check(self.signature.outputs, answer, rows)
        except InvalidOutput:
            return False
        self._passed_rows, self._passed_shapes = rows, shapes
        return True

    def rows(self, results: Sequence[Result]) -> int:
        """The number of rows in this answer, if the model shows that its outputs hold rows; else 1."""
        first = results[0] if self._row_for_row else None
        return 1 if first is None else len(first)

    async def close(self) -> None:
        """Wait until every request is answered, then close the backend.

        The threads and the session of a version in this process end with the last reference to it: a candidate's calls
        under way keep their stable version, which answers for the candidate even if both have been replaced.
        """
        self._closing = True
        while not self.backend.idle:
            await asyncio.sleep(DRAIN_POLL_S)
        self.backend.close()
        if self.baseline is not None:
            await self.baseline.close()
