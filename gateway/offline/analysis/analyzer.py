"""The error analysis of `gateway analyze`: one pass over a model's recorded predictions."""

import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.errors import InvalidRequest, NotFound, RequestError
from gateway.evidence.thinning import draw_of
from gateway.offline.analysis.effect import Range
from gateway.offline.analysis.features import FeatureNames, features_of
from gateway.offline.analysis.hard_examples import Agreement, HardExample, HardExamples, OnUnlabelled
from gateway.offline.analysis.input_summary import InputSummary, key_of, row_of, summary_of
from gateway.offline.analysis.label_conflicts import LabelConflict, LabelStore
from gateway.offline.analysis.residuals import Residuals, residuals_of
from gateway.offline.analysis.slices import TRUE_CLASS, Part, RescueCounts, Slice, worse
from gateway.offline.analysis.table import ExampleTable, Row
from gateway.offline.analysis.tallies import Tallies
from gateway.offline.analysis.versions import Comparison, Pair, VersionMetric, by_version, compare
from gateway.offline.examples import Example, Predicting, examples_of
from gateway.offline.feedback_store import FeedbackStore
from gateway.offline.merged_feedback import StoredFeedback
from gateway.offline.reader import OnProgress, Query, Records, join_feedback, load_feedback, read_all
from gateway.offline.statistics import Rate
from gateway.protocol.tensors import Tensor
from gateway.records.prediction import Prediction, RawInput
from gateway.records.token import unverified
from gateway.settings.model import Kind

MAX_SUMMARIES: Final = 100_000  # summaries of labelled inputs, kept in case their labels turn out to conflict
_MEDIA: Final = frozenset({"image", "audio", "video", "text"})  # their inputs have no features to slice by


@dataclass(frozen=True, slots=True)
class Subject:
    """What to analyse. `features`: the names of the inputs' columns; `tolerance`: how far two numbers for equal inputs
    may differ before they contradict each other, None: a tenth of the truths' standard deviation. `ranges`: lowest and
    highest value of rewards and business metrics, by outcome, where they are known. `to_label`: called for
    each row without a truth.
    """

    records: Records
    query: Query
    predicting: Predicting
    raw_input: RawInput
    features: FeatureNames = field(default_factory=FeatureNames)
    tolerance: float | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    to_label: OnUnlabelled | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """The findings. `rows`: predictions; `wrong`: rows with a class or labels; `tested`: slices tested.

    `sampled`: one in so many judged predictions is in `versions`, `slices` and `comparison`. `contradicted`: inputs
    with conflicts.
    """

    model: str
    predicting: Predicting
    kind: Kind | None
    rows: int
    first_ns: int
    last_ns: int
    wrong: Rate
    rescued: Rate
    outcomes: Mapping[str, int]
    slices: Sequence[Slice]
    tested: int
    sampled: int
    versions: Sequence[VersionMetric]
    comparison: Comparison | None
    residuals: Sequence[Residuals]
    tallies: Tallies
    contradicted: int
    conflicts: Sequence[LabelConflict]
    least_confident: Sequence[HardExample]
    disagreements: Sequence[HardExample]
    worst: Sequence[HardExample]
    agreement: Agreement

    @property
    def labels(self) -> Sequence[str]:
        """The names of the classes."""
        return self.predicting.labels


def analyse(subject: Subject, feedback: OnProgress, rows: OnProgress) -> Analysis:
    """Read and analyse the query's records; `feedback` and `rows` are called with the bytes passed.

    Raises NotFound if no prediction matches, and RecordsDeleted.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        FeedbackStore(Path(folder) / "feedback.sqlite") as store,
        LabelStore(Path(folder) / "labels.sqlite") as labels,
    ):
        load_feedback(store, subject.records, subject.query, feedback)
        gathered = _Collector(subject, labels)
        for prediction, said in join_feedback(subject.records, subject.query, store, rows):
            gathered.add(prediction, said)
        return gathered.analysis()


class _Collector:
    """Accumulates the findings, prediction by prediction."""

    def __init__(self, subject: Subject, labels: LabelStore) -> None:
        self._subject = subject
        self._label_store = labels
        self._table = ExampleTable()
        self._rescues = RescueCounts()
        self._hard_examples = HardExamples(
            read_all(subject.records.mirrors, subject.query, subject.query.time_range),
            subject.predicting,
            subject.to_label,
        )
        self._tallies = Tallies()
        self._outcomes: Counter[str] = Counter()
        self._kinds: Counter[Kind] = Counter()
        self._summaries: dict[bytes, InputSummary] = {}
        self._times_ns: list[int] = []
        self._keys: dict[tuple[str | None, int | None], int] = {}
        self._new_keys = itertools.count()
        self._judged = 0
        self._stable: int | None = None
        self._pair: Pair | None = None

    def add(self, prediction: Prediction, feedback: StoredFeedback) -> None:
        """Add one prediction with its feedback."""
        inputs, outputs = _tensors(prediction, self._subject.raw_input)
        time_ns = prediction.time_ns
        self._times_ns = [min([time_ns, *self._times_ns[:1]]), max([time_ns, *self._times_ns[1:]])]
        self._outcomes[prediction.outcome] += 1
        self._note_release(prediction)
        examples = examples_of(prediction, feedback, outputs, self._subject.predicting)
        self._kinds.update(example.kind for example in examples if example.kind is not None)
        self._rescues.add(prediction, list(_parts(prediction)))
        for example in examples:
            mine = row_of(inputs, example.row, len(examples))
            confidence = self._hard_examples.add(prediction, example, mine, len(examples))
            self._tallies.add(prediction, example, confidence)
        if feedback.labels or feedback.row_labels:
            self._add_labels(prediction, feedback, examples, inputs)
        if any(example.outcomes for example in examples):
            self._add_rows(prediction, examples, inputs)

    def analysis(self) -> Analysis:
        """Return the findings; raises NotFound if there was no prediction."""
        subject, hard_examples = self._subject, self._hard_examples
        if not self._times_ns:
            raise NotFound(f"no recorded prediction of '{subject.query.model}' matches the options")
        columns = self._table.columns()
        slices, tested = worse(columns, self._rescues)
        comparison = compare(columns, self._pair, subject.ranges)
        return Analysis(
            model=subject.query.model,
            predicting=subject.predicting,
            kind=subject.predicting.kind or next((kind for kind, _ in self._kinds.most_common(1)), None),
            rows=self._outcomes.total(),
            first_ns=self._times_ns[0],
            last_ns=self._times_ns[1],
            wrong=self._tallies.wrong,
            rescued=self._rescues.total,
            outcomes=dict(self._outcomes.most_common()),
            slices=slices,
            tested=tested,
            sampled=self._table.every,
            versions=by_version(columns),
            comparison=comparison,
            residuals=residuals_of(columns, slices, comparison),
            tallies=self._tallies,
            contradicted=self._label_store.contradicted(subject.tolerance),
            conflicts=list(self._conflicts()),
            least_confident=hard_examples.least_confident,
            disagreements=hard_examples.disagreements,
            worst=hard_examples.worst,
            agreement=hard_examples.agreement,
        )

    def _note_release(self, prediction: Prediction) -> None:
        """The pair to compare: the latest candidate, and the stable version that answered last beside it."""
        if prediction.variant == "stable":
            self._stable = prediction.version
        elif prediction.variant == "candidate" and self._stable not in (None, prediction.version):
            self._pair = Pair(int(self._stable or 0), prediction.version)

    def _add_rows(self, prediction: Prediction, examples: Sequence[Example], inputs: Sequence[Tensor]) -> None:
        is_media = prediction.modality in _MEDIA
        features = [] if is_media else features_of(inputs, len(examples), self._subject.features)
        draw = _draw_of(prediction)
        key = next(self._new_keys) if math.isnan(draw) else self._key_of(prediction)
        drawn = prediction.variant in ("stable", "candidate") and prediction.rescued_from is None
        for example in examples:
            if example.outcomes:
                parts = dict(_parts(prediction))
                if example.kind is Kind.CLASSIFICATION:
                    parts["predicted class"] = self._subject.predicting.name_of(example.predicted)
                    if example.truth_class is not None:
                        parts[TRUE_CLASS] = self._subject.predicting.name_of(example.truth_class)
                row = Row(
                    unit=self._judged,
                    key=key,
                    version=prediction.version,
                    candidate=prediction.variant == "candidate",
                    chance=(prediction.propensity or 0.0) if drawn else 0.0,
                    parts=parts,
                    features=features[example.row] if example.row < len(features) else {},
                    outcomes=example.outcomes,
                    draw=draw,
                )
                self._table.add(row)
        self._judged += 1

    def _key_of(self, prediction: Prediction) -> int:
        drawn_by = prediction.salt, prediction.bucket
        if drawn_by not in self._keys:
            self._keys[drawn_by] = next(self._new_keys)
        return self._keys[drawn_by]

    def _add_labels(
        self, prediction: Prediction, feedback: StoredFeedback, examples: Sequence[Example], inputs: Sequence[Tensor]
    ) -> None:
        for example in examples:
            mine = row_of(inputs, example.row, len(examples))
            if (key := key_of(prediction, mine, example.row)) is not None:
                self._label_store.add(key, prediction, feedback, example, len(examples))
                if len(self._summaries) < MAX_SUMMARIES and key not in self._summaries:
                    self._summaries[key] = summary_of(prediction, mine)

    def _conflicts(self) -> Iterator[LabelConflict]:
        for key, labels in self._label_store.conflicts():
            yield LabelConflict(self._summaries.get(key, InputSummary("(one of many)")), labels)


def _draw_of(prediction: Prediction) -> float:
    """NaN unless the prediction's bucket is that of a key that recurs: many of other predictions are alike, too."""
    if prediction.bucket is None:
        return math.nan
    try:
        token = unverified(prediction.prediction_id)
    except InvalidRequest:  # a record of another's making
        return draw_of(prediction.bucket, prediction.time_ns)
    return draw_of(prediction.bucket, token.time_ns) if token.sticky else math.nan


def _parts(prediction: Prediction) -> Iterator[Part]:
    yield "customer", prediction.customer or "(none)"
    yield "modality", prediction.modality or "(none)"
    yield "route", prediction.route or "(none)"
    yield "variant", prediction.variant
    yield "version", str(prediction.version)


def _tensors(prediction: Prediction, raw_input: RawInput) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Decode inputs and outputs; both are empty if they are not recorded or cannot be decoded."""
    try:
        inputs = prediction.decoded(raw_input).inputs if prediction.has_request else ()
        return inputs, prediction.outputs()
    except (RequestError, ValueError):
        return (), ()
