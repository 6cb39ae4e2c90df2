"""Converts a version's feedback into JSON documents."""

from collections.abc import Callable, Mapping, Sequence

from gateway.control.api.feedback_documents import ClassDocument, MeasureDocument, RouteMeasuresDocument
from gateway.control.metrics.class_names import class_name
from gateway.control.record_writer.outcome_sums import FeedbackSums
from gateway.records.measures import Measure, OutcomeSum, measures

LabelsOf = Callable[[str, int], Sequence[str]]  # a version's class names by model and version; empty if not known


def no_labels(model: str, version: int) -> Sequence[str]:
    """Know no class names, so that classes are shown by their index."""
    return ()


def measure_documents(outcomes: Mapping[str, OutcomeSum]) -> list[MeasureDocument]:
    """The documents of what these sums measure."""
    return [_document(one) for one in measures(outcomes)]


def route_documents(feedback: FeedbackSums) -> list[RouteMeasuresDocument]:
    """The measures by route, in the order of the routes' names."""
    return [
        {"route": route, "measures": measure_documents(outcomes)} for route, outcomes in sorted(feedback.routes.items())
    ]


def class_documents(feedback: FeedbackSums, labels: Sequence[str]) -> list[ClassDocument]:
    """Recall by class, in the classes' order."""
    return [
        {"name": class_name(index, labels), "rows": one.correct + one.wrong, "recall": one.recall}
        for index, one in sorted(feedback.classes.items())
        if one.recall is not None
    ]


def _document(one: Measure) -> MeasureDocument:
    return {
        "metric": one.shown.name,
        "label": one.shown.label,
        "value": one.value,
        "count": one.count,
        "outcome": one.outcome,
        "sum": one.total,
        "form": one.shown.form,
        "higher_is_better": one.shown.higher_is_better,
    }
