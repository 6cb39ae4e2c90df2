"""Chooses the rows that are most worth a label: where versions disagree, where the model is unsure, and a sample."""

import hashlib
from functools import partial
from typing import Final

from gateway.offline.analysis.features import FeatureNames
from gateway.offline.analysis.hard_examples import Unlabelled
from gateway.offline.analysis.input_summary import key_of
from gateway.offline.labelling.row import MAX_BYTES, RowToLabel, Why, shown_of
from gateway.offline.top_k import TopK

DISAGREEING_SHARE: Final = 0.5  # of the hard rows at most, as long as there are unsure ones
SAMPLED_SHARE: Final = 0.1  # of all rows at least
MAX_SHOWN_BYTES: Final = 512 * 1024**2  # of all rows that are considered, which are kept in memory
_HASH_BYTES: Final = 8


class Selection:
    """Collects `limit` different inputs without a truth. `names`: of the features.

    `unseen`: rows that could not be chosen, because their inputs are not recorded; `row_bytes`: how large the image and
    the texts of a row may be, so that all fit in memory.
    """

    def __init__(self, limit: int, names: FeatureNames) -> None:
        self._limit = limit
        self._names = names
        self._of = {why: TopK[RowToLabel](limit) for why in Why}
        self.unseen = 0
        self.row_bytes = min(MAX_BYTES, MAX_SHOWN_BYTES // (limit * len(Why)))

    def offer(self, row: Unlabelled) -> None:
        """Consider a row without a truth."""
        if not row.prediction.ok:
            return
        if not row.inputs:
            self.unseen += 1
            return
        scores = {Why.SAMPLE: _drawn(row)}
        if row.other_version is not None:
            scores[Why.DISAGREEMENT] = row.distance or 0.0
        if row.margin is not None:
            scores[Why.LOW_CONFIDENCE] = -row.margin
        for why, score in scores.items():
            self._of[why].offer(score, partial(_key, row), partial(self._made, row, why))

    def rows(self) -> list[RowToLabel]:
        """The chosen rows: disagreements first, then the least confident ones, then the sample."""
        hard = self._limit - max(1, round(self._limit * SAMPLED_SHARE))
        chosen: dict[bytes, RowToLabel] = {}
        for why, most in (
            (Why.DISAGREEMENT, round(hard * DISAGREEING_SHARE)),
            (Why.LOW_CONFIDENCE, hard),
            (Why.DISAGREEMENT, hard),
            (Why.SAMPLE, self._limit),
        ):
            for key, row in self._of[why].items():
                if len(chosen) >= most:
                    break
                chosen.setdefault(key, row)
        order = list(Why)
        return sorted(chosen.values(), key=lambda row: order.index(row.why))

    def _made(self, row: Unlabelled, why: Why) -> RowToLabel:
        prediction, example = row.prediction, row.example
        return RowToLabel(
            prediction_id=prediction.prediction_id,
            row=example.row if row.rows > 1 else None,
            why=why,
            time_ns=prediction.time_ns,
            model=prediction.model,
            version=prediction.version,
            kind=example.kind,
            predicted=example.predicted,
            shown=shown_of(prediction.modality, row.inputs, self._names, self.row_bytes),
            score=row.score,
            margin=row.margin,
            other=row.other,
            other_version=row.other_version,
            classes=0 if example.scores is None else len(example.scores),
        )


def _key(row: Unlabelled) -> bytes:
    return key_of(row.prediction, row.inputs, row.example.row) or b""


def _drawn(row: Unlabelled) -> float:
    """A number that depends on the prediction and the row only, as if drawn at random: the same rows every time."""
    name = f"{row.prediction.prediction_id} {row.example.row}".encode()
    return float(int.from_bytes(hashlib.blake2b(name, digest_size=_HASH_BYTES).digest(), "big"))
