"""Finds the floats inside a model from which its labels are computed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from onnxruntime import RunOptions

from gateway.backends.onnx import OnnxSession, Result
from gateway.backends.onnx_graph import Cone, Node, cone, read_producers
from gateway.backends.row_comparison import RowComparison, find_row_axis, is_coarse
from gateway.backends.signature import Feeds
from gateway.errors import InvalidOutput, ModelFailed, ModelUnavailable, RequestError

HIDDEN: Final = "its outputs are labels, and what decides them is hidden in a {}: give it an output of scores"
UNREADABLE: Final = "its outputs are labels, and what decides them cannot be looked at: give it an output of scores"
MAX_TENSORS: Final = 64  # tensors behind a label that are requested
MAX_COMPARED: Final = 24  # of them
MAX_BYTES: Final = 4_000_000  # per row, in all tensors that are compared
FLOATS: Final = ("tensor(float)", "tensor(double)", "tensor(float16)")


class InnerFloats:
    """The inner floats from which the outputs at the positions `coarse` are computed.

    `batches`: two that run, of different sizes. `comparison`: None if there is nothing to compare. `hidden_reason`: why
    the deciding values cannot be seen; empty if all can.
    """

    def __init__(self, session: OnnxSession, coarse: Sequence[int], batches: tuple[Feeds, Feeds]) -> None:
        self._producers: Mapping[str, Node] = read_producers(session.file)
        outputs = [spec.name for spec in session.signature.outputs]
        self._labels = [outputs[index] for index in coarse]
        self._shown = {name for index, name in enumerate(outputs) if index not in coarse}
        self.comparison: RowComparison | None = None
        found = [name for label in self._labels for name in self._cone_of(label).tensors]
        names = [name for name in dict.fromkeys(found) if name not in outputs]
        try:
            if names:
                self._select(session.with_inner_outputs(names), names, batches)
            self.hidden_reason = self._first_hidden()
        except (ModelUnavailable, RequestError):
            self.hidden_reason = UNREADABLE

    def _cone_of(self, label: str) -> Cone:
        return cone(self._producers, label, self._shown, MAX_TENSORS)

    def _select(self, opened: Any, names: Sequence[str], batches: tuple[Feeds, Feeds]) -> None:
        types = {output.name: output.type for output in opened.get_outputs()}
        floats = [name for name in names if types[name] in FLOATS][:MAX_COMPARED]
        few, more = (len(next(iter(batch.values()))) for batch in batches)
        seen = dict(zip(floats, _run(opened, floats, batches[0], None), strict=True))
        small = _small_enough(seen, MAX_BYTES * few)
        if not small:
            return
        later = _run(opened, small, batches[1], None)
        axes = [find_row_axis(seen[name], few, result, more) for name, result in zip(small, later, strict=True)]
        self.comparison = RowComparison(lambda feeds, options: self._beside_labels(opened, small, feeds, options), axes)
        self._shown |= {
            name
            for name, axis in zip(small, axes, strict=True)
            if axis is not None and axis >= 0 and not is_coarse(seen[name])
        }

    def _beside_labels(
        self, opened: Any, names: Sequence[str], feeds: Feeds, options: RunOptions | None
    ) -> Sequence[Result]:
        """The inner tensors of a run. Raises InvalidOutput if the labels do not have the inputs' rows."""
        results = _run(opened, [*self._labels, *names], feeds, options)
        if any(
            len(label) != len(next(iter(feeds.values()))) for label in results[: len(self._labels)] if label is not None
        ):
            raise InvalidOutput("a label does not have the rows of the inputs")
        return results[len(self._labels) :]

    def _first_hidden(self) -> str:
        nodes = [node for label in self._labels for node in self._cone_of(label).nodes]
        return next((HIDDEN.format(node.operator) for node in nodes if node.opaque), "")


def _run(opened: Any, names: Sequence[str], feeds: Feeds, options: RunOptions | None) -> Sequence[Result]:
    if not names:
        return []
    try:
        results: Sequence[Result] = opened.run(list(names), feeds, options)
    except Exception as error:  # whatever ONNX Runtime raises
        raise ModelFailed(str(error)) from None
    return results


def _small_enough(seen: Mapping[str, Result], most_bytes: int) -> list[str]:
    chosen = []
    for name, result in seen.items():
        if result is not None and result.nbytes <= most_bytes:
            most_bytes -= result.nbytes
            chosen.append(name)
    return chosen
