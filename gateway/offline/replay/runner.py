"""Runs recorded requests on a loaded version, offline and in their order; in batches if the warm-up proved that the
results of rows do not depend on each other.
"""

import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.backends.joining import concatenated, split_rows
from gateway.backends.loaded_version import LoadedVersion
from gateway.backends.onnx import Result
from gateway.backends.output_checks import check
from gateway.backends.signature import Feeds
from gateway.errors import InvalidOutput, RequestError
from gateway.offline.merged_feedback import StoredFeedback
from gateway.offline.reader import Joined
from gateway.protocol.classification import classify
from gateway.protocol.tensors import InferRequest, Tensor
from gateway.records.prediction import Prediction

CHUNK_ROWS: Final = 256  # batches are formed within so many consecutive predictions


@dataclass(frozen=True, slots=True)
class Rerun:
    """A prediction and the version's answer now; `error`: why it failed, else empty.

    `predicted`: the class, if the request has one row. `unfit`: why this answer would not be sent if it were a
    candidate's, else empty.
    """

    prediction: Prediction
    feedback: StoredFeedback
    outputs: Sequence[Tensor]
    predicted: int | None
    error: str = ""
    unfit: str = ""


class _Request(NamedTuple):
    """One of a batch: its place in the chunk, and what it asks."""

    place: int
    feeds: Feeds
    rows: int


class Runner:
    """Runs recorded requests on a loaded version. `batched` False: one request at a time."""

    def __init__(self, loaded: LoadedVersion, *, batched: bool) -> None:
        self._session = loaded.session
        self._signature = loaded.session.signature
        self._labels = loaded.labels
        self._classes = loaded.classes
        self._max_rows = loaded.rules.max_rows if batched else 1
        self._row_for_row = not loaded.warm_up.unbatchable_reason

    def run(self, pairs: Iterable[Joined]) -> Iterator[Rerun]:
        """Yield a Rerun for each prediction, in the given order."""
        rest = iter(pairs)
        while chunk := list(itertools.islice(rest, CHUNK_ROWS)):
            yield from self._chunk(chunk)

    def _chunk(self, pairs: Sequence[Joined]) -> list[Rerun]:
        asked = [self._replayable(prediction) for prediction, _ in pairs]
        answers: dict[int, Sequence[Result] | RequestError] = {}
        for batch in self._batches(asked):
            answers.update(self._answered(batch))
        return [
            self._rerun(prediction, feedback, request, answers.get(index))
            for index, ((prediction, feedback), request) in enumerate(zip(pairs, asked, strict=True))
        ]

    def _replayable(self, prediction: Prediction) -> "tuple[InferRequest, Feeds] | RequestError":
        try:
            request = prediction.decoded(lambda version: self._signature.inputs[0])
            self._signature.positions(request.outputs)
            return request, self._signature.bind(request)
        except RequestError as error:
            return error

    def _batches(self, asked: Sequence["tuple[InferRequest, Feeds] | RequestError"]) -> "Iterator[list[_Request]]":
        """Yield batches of requests that have the same shapes except for the number of rows, up to the most rows."""
        waiting: dict[Hashable, list[_Request]] = {}
        rows: dict[Hashable, int] = {}
        for index, entry in enumerate(asked):
            if isinstance(entry, RequestError):
                continue
            feeds = entry[1]
            count, group = self._placed(feeds)
            if group is None:
                yield [_Request(index, feeds, count)]
                continue
            if rows.get(group, 0) + count > self._max_rows:
                yield waiting.pop(group)
                rows[group] = 0
            waiting.setdefault(group, []).append(_Request(index, feeds, count))
            rows[group] = rows.get(group, 0) + count
        yield from waiting.values()

    def _placed(self, feeds: Feeds) -> tuple[int, Hashable]:
        """Return the number of rows, and a key of requests that can share a batch; None if it must run alone."""
        counts = {array.shape[0] if array.ndim else -1 for array in feeds.values()}
        if self._max_rows == 1 or len(counts) != 1 or not 0 < (count := counts.pop()) < self._max_rows:
            return 1, None
        if not self._signature.initializers.keys().isdisjoint(feeds):
            return 1, None
        return count, tuple((name, array.shape[1:], array.dtype.kind) for name, array in sorted(feeds.items()))

    def _answered(self, batch: "list[_Request]") -> Iterator[tuple[int, Sequence[Result] | RequestError]]:
        try:
            answers = self._together(batch)
        except RequestError as error:
            if len(batch) == 1:
                yield batch[0].place, error
                return
            for entry in batch:
                yield from self._answered([entry])
            return
        yield from zip((request.place for request in batch), answers, strict=True)

    def _together(self, batch: "list[_Request]") -> Sequence[Sequence[Result]]:
        if len(batch) == 1:
            return [self._session.run(batch[0].feeds)]
        with concatenated([request.feeds for request in batch]) as feeds:
            return split_rows(self._session.run(feeds), batch)

    def _rerun(
        self,
        prediction: Prediction,
        feedback: StoredFeedback,
        asked: "tuple[InferRequest, Feeds] | RequestError",
        answer: "Sequence[Result] | RequestError | None",
    ) -> Rerun:
        if isinstance(asked, RequestError) or isinstance(answer, RequestError) or answer is None:
            return Rerun(prediction, feedback, (), None, str(asked if isinstance(asked, RequestError) else answer))
        predicted = self._classes.predicted(answer)
        one = predicted[0] if len(predicted) == 1 and predicted[0] >= 0 else None
        return Rerun(prediction, feedback, list(self._sent(asked[0], answer)), one, unfit=self._unfit(asked[1], answer))

    def _unfit(self, feeds: Feeds, answer: Sequence[Result]) -> str:
        try:
            check(self._signature.outputs, answer, len(next(iter(feeds.values()))) if self._row_for_row else None)
        except InvalidOutput as error:
            return str(error)
        return ""

    def _sent(self, request: InferRequest, answer: Sequence[Result]) -> Iterator[Tensor]:
        """Yield the requested outputs, converted to classes if the request asks for that."""
        classes = {output.name: output.classification for output in request.outputs or ()}
        for position in self._signature.positions(request.outputs):
            result, spec = answer[position], self._signature.outputs[position]
            if result is not None:
                tensor = Tensor(spec.name, spec.datatype, result)
                wanted = classes.get(spec.name, 0)
                yield classify(tensor, wanted, self._labels.get(spec.name, ())) if wanted else tensor
