"""The error analysis of `gateway analyze`: one pass over a model's recorded predictions."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError, RequestError
from gateway.offline.analysis.hard_examples import Agreement, HardExample, HardExamples
from gateway.offline.analysis.input_summary import InputSummary, key_of, summary_of
from gateway.offline.analysis.label_conflicts import LabelConflict, LabelStore
from gateway.offline.analysis.slices import Measure, Slice, Slicer
from gateway.offline.feedback_store import FeedbackStore, StoredFeedback
from gateway.offline.reader import OnProgress, Query, Records, join_feedback, load_feedback
from gateway.offline.statistics import Rate
from gateway.protocol.tensors import Tensor
from gateway.records.prediction import Prediction, RawInput
from gateway.records.segments import read

HOUR_NS: Final = 3_600 * 1_000_000_000
CONFIDENCE_BINS: Final = 10
MAX_SUMMARIES: Final = 100_000  # summaries of labelled inputs, kept in case their labels turn out to conflict


@dataclass(frozen=True, slots=True)
class Subject:
    """What to analyse. `labels`: class names; `scores`: name of the output with the class scores, None if unknown."""

    records: Records
    query: Query
    labels: Sequence[str]
    scores: str | None
    raw_input: RawInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """The findings. `confusion` counts by (truth, predicted), `confidence` by (tenth of the score, correct); `hourly`
    is the accuracy by (hour since 1970, version). `tested`: slices tested; `contradicted`: inputs with conflicts.
    """

    model: str
    labels: Sequence[str]
    rows: int
    first_ns: int
    last_ns: int
    wrong: Rate
    rescued: Rate
    outcomes: Mapping[str, int]
    slices: Sequence[Slice]
    tested: int
    contradicted: int
    conflicts: Sequence[LabelConflict]
    least_confident: Sequence[HardExample]
    disagreements: Sequence[HardExample]
    agreement: Agreement
    confusion: Mapping[tuple[int, int], int]
    confidence: Mapping[tuple[int, bool], int]
    hourly: Mapping[tuple[int, int], Rate]

    def name_of(self, number: int | None) -> str:
        """The name of a class by its index; "-" for None."""
        if number is None:
            return "-"
        return self.labels[number] if 0 <= number < len(self.labels) else str(number)


def analyse(subject: Subject, feedback: OnProgress, rows: OnProgress) -> Analysis:
    """Read and analyse the query's records; `feedback` and `rows` are called with the bytes passed.

    Raises GatewayError if no prediction matches.
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
        self._slicer = Slicer(subject.labels)
        self._hard_examples = HardExamples(
            read(subject.records.mirrors, subject.query.model, subject.query.time_range), subject.scores
        )
        self._outcomes: Counter[str] = Counter()
        self._confusion: Counter[tuple[int, int]] = Counter()
        self._confidence: Counter[tuple[int, bool]] = Counter()
        self._hourly: dict[tuple[int, int], list[int]] = {}
        self._summaries: dict[bytes, InputSummary] = {}
        self._times_ns: list[int] = []

    def add(self, prediction: Prediction, feedback: StoredFeedback) -> None:
        """Add one prediction with its feedback."""
        inputs, outputs = _tensors(prediction, self._subject.raw_input)
        time_ns = prediction.time_ns
        self._times_ns = [min([time_ns, *self._times_ns[:1]]), max([time_ns, *self._times_ns[1:]])]
        self._outcomes[prediction.outcome] += 1
        self._slicer.add(prediction, feedback, inputs)
        confidence = self._hard_examples.add(prediction, feedback, inputs, outputs)
        if feedback.labels and (key := key_of(prediction, inputs)) is not None:
            self._label_store.add(key, prediction, feedback)
            if len(self._summaries) < MAX_SUMMARIES and key not in self._summaries:
                self._summaries[key] = summary_of(prediction, inputs)
        if feedback.truth_class is not None and prediction.predicted is not None:
            self._confusion[feedback.truth_class, prediction.predicted] += 1
        if feedback.correct is not None:
            self._judge(prediction, feedback.correct, confidence)

    def analysis(self) -> Analysis:
        """Return the findings; raises GatewayError if there was no prediction."""
        subject, slicer, hard_examples = self._subject, self._slicer, self._hard_examples
        if not self._times_ns:
            raise GatewayError(f"no recorded prediction of '{subject.query.model}' matches the options")
        slices, tested = slicer.worse()
        return Analysis(
            model=subject.query.model,
            labels=subject.labels,
            rows=self._outcomes.total(),
            first_ns=self._times_ns[0],
            last_ns=self._times_ns[1],
            wrong=slicer.total(Measure.WRONG),
            rescued=slicer.total(Measure.RESCUED),
            outcomes=dict(self._outcomes.most_common()),
            slices=slices,
            tested=tested,
            contradicted=self._label_store.contradicted(),
            conflicts=list(self._conflicts()),
            least_confident=hard_examples.least_confident,
            disagreements=hard_examples.disagreements,
            agreement=hard_examples.agreement,
            confusion=self._confusion,
            confidence=self._confidence,
            hourly={key: Rate(*counts) for key, counts in sorted(self._hourly.items())},
        )

    def _judge(self, prediction: Prediction, correct: bool, confidence: float | None) -> None:
        hour = self._hourly.setdefault((prediction.time_ns // HOUR_NS, prediction.version), [0, 0])
        hour[0] += correct
        hour[1] += 1
        if confidence is not None and 0 <= confidence <= 1 + 1e-6:
            self._confidence[min(int(confidence * CONFIDENCE_BINS), CONFIDENCE_BINS - 1), correct] += 1

    def _conflicts(self) -> Iterator[LabelConflict]:
        for key, labels in self._label_store.conflicts():
            yield LabelConflict(self._summaries.get(key, InputSummary("(one of many)")), labels)


def _tensors(prediction: Prediction, raw_input: RawInput) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Decode inputs and outputs; both are empty if they are not recorded or cannot be decoded."""
    try:
        inputs = prediction.decoded(raw_input).inputs if prediction.has_request else ()
        return inputs, prediction.outputs()
    except (RequestError, ValueError):
        return (), ()
