"""Compares a version's answers in a replay with the recorded answers."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

from gateway.errors import RequestError
from gateway.offline.replay.judgement import Agreeing, Judgement
from gateway.offline.replay.runner import Rerun
from gateway.protocol.tensors import Array, Tensor

TOLERANCE: Final = 1e-5  # absolute, or relative to the recorded value
MAX_EXAMPLES: Final = 10


class Match(StrEnum):
    """Whether two answers are equal bit for bit, within `TOLERANCE`, or different."""

    EXACT = "exact"
    CLOSE = "close"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two answers. `distance`: the greatest absolute difference of two numbers; infinite if the
    answers differ in outputs, shapes or datatypes.
    """

    match: Match
    distance: float


@dataclass(slots=True, kw_only=True)
class ReplayComparison:
    """Predictions that one version had answered, compared with the answers of the replayed version.

    `judgement`: what both predict, row by row, and how far off it was. `failed`: the replayed version raised. `unfit`:
    new answers that would be rescued by stable if the version were the candidate. `other_file`: predictions of the same
    version number, answered by a different file than the one on disk now.
    """

    count: int = 0
    matches: dict[Match, int] = field(default_factory=lambda: dict.fromkeys(Match, 0))
    failed: int = 0
    unfit: int = 0
    other_file: int = 0
    judgement: Judgement = field(default_factory=Judgement)
    distances: "array[float]" = field(default_factory=lambda: array("d"))
    examples: list[str] = field(default_factory=list)
    first_error: str = ""

    def add(self, rerun: Rerun, sha256: str | None, agreeing: Agreeing) -> None:
        """Add one prediction. `sha256`: hash of the replayed file if the same version answered it then, else None."""
        self.count += 1
        prediction = rerun.prediction
        self.other_file += sha256 is not None and prediction.model_sha256 not in (None, sha256)
        if rerun.error:
            self.failed += 1
            self.first_error = self.first_error or f"{prediction.prediction_id}: {rerun.error}"
            return
        if rerun.unfit:
            self.unfit += 1
            self.first_error = self.first_error or f"{prediction.prediction_id}: {rerun.unfit}"
        difference = _difference(rerun)
        self.matches[difference.match] += 1
        self.distances.append(difference.distance)
        if difference.match is Match.DIFFERENT and len(self.examples) < MAX_EXAMPLES:
            self.examples.append(prediction.prediction_id)
        self.judgement.add(rerun, agreeing)

    def quantiles(self) -> Mapping[str, float]:
        """The distances' p50, p95 and max; empty if there are none."""
        if not self.distances:
            return {}
        values = np.quantile(np.frombuffer(self.distances), (0.5, 0.95, 1.0), method="higher")
        return dict(zip(("p50", "p95", "max"), values.tolist(), strict=True))


def _difference(rerun: Rerun) -> Difference:
    """Compare the recorded outputs with the replayed ones."""
    try:
        then = {tensor.name: tensor for tensor in rerun.prediction.outputs()}
    except (RequestError, ValueError):
        return Difference(Match.DIFFERENT, np.inf)
    now = {tensor.name: tensor for tensor in rerun.outputs}
    if then.keys() != now.keys():
        return Difference(Match.DIFFERENT, np.inf)
    differences = [difference(then[name], now[name]) for name in then]
    order = list(Match)
    worst = max((one.match for one in differences), key=order.index, default=Match.EXACT)
    return Difference(worst, max((one.distance for one in differences), default=0.0))


def difference(then: Tensor, now: Tensor) -> Difference:
    """Compare two tensors. For class strings ("value:index:label"), values may differ within the tolerance; the rest
    must be equal.
    """
    if then.datatype != now.datatype or then.shape != now.shape:
        return Difference(Match.DIFFERENT, np.inf)
    if then.datatype == "BYTES":
        return _difference_of_texts(_texts(then.data), _texts(now.data))
    if then.data.tobytes() == now.data.tobytes():
        return Difference(Match.EXACT, 0.0)
    numbers, others = then.data.astype(np.float64), now.data.astype(np.float64)
    return _difference_of_numbers(numbers, others, then.datatype.startswith("FP"))


def _difference_of_numbers(then: Array, now: Array, floats: bool) -> Difference:
    with np.errstate(invalid="ignore"):
        apart = np.where((then == now) | (np.isnan(then) & np.isnan(now)), 0.0, np.abs(then - now))
    apart = np.where(np.isnan(apart), np.inf, apart)
    close = floats and bool(np.isclose(then, now, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True).all())
    return Difference(Match.CLOSE if close else Match.DIFFERENT, float(apart.max(initial=0.0)) if floats else 0.0)


def _difference_of_texts(then: Sequence[str], now: Sequence[str]) -> Difference:
    if then == now:
        return Difference(Match.EXACT, 0.0)
    pairs = [(one.split(":", 1), other.split(":", 1)) for one, other in zip(then, now, strict=True)]
    if any(one[1:] != other[1:] for one, other in pairs):
        return Difference(Match.DIFFERENT, np.inf)
    try:
        values = [(float(one[0]), float(other[0])) for one, other in pairs]
    except ValueError:
        return Difference(Match.DIFFERENT, np.inf)
    return _difference_of_numbers(np.array([one for one, _ in values]), np.array([other for _, other in values]), True)


def _texts(elements: Array) -> list[str]:
    return [
        element.decode(errors="surrogateescape") if isinstance(element, bytes) else str(element)
        for element in elements.ravel()
    ]
