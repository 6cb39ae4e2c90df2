"""Exports recorded predictions as a data set in a folder."""

from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import InvalidRequest, NotFound
from gateway.offline.analysis.features import FeatureNames
from gateway.offline.dataset.columns import Layout, layout_of, parameters_of
from gateway.offline.dataset.flat import FlatLayout
from gateway.offline.dataset.flat_rows import flat_prediction
from gateway.offline.dataset.flat_survey import FlatSurvey
from gateway.offline.dataset.form import Form
from gateway.offline.dataset.manifest import Counts, manifest_of
from gateway.offline.dataset.partitions import PartitionWriter
from gateway.offline.dataset.placing import replace_export, unfinished
from gateway.offline.dataset.schema import Survey, tensors_of
from gateway.offline.examples import Predicting
from gateway.offline.feedback_store import FeedbackStore
from gateway.offline.reader import OnProgress, Query, Records, chunks, join_feedback, load_feedback
from gateway.records.prediction import Prediction, RawInput


@dataclass(frozen=True, slots=True)
class ExportSource:
    """The records to export. `raw_input`: from a version to the input that its raw bodies hold; `predicting`,
    `features`: what the model predicts, and the names of its inputs' columns, for a flat export.
    """

    records: Records
    raw_input: RawInput
    predicting: Predicting = field(default_factory=Predicting)
    features: FeatureNames = field(default_factory=FeatureNames)


@dataclass(frozen=True, slots=True)
class Meters:
    """Progress callbacks, called with bytes read: of feedback, of predictions in the survey, and when writing rows."""

    feedback: OnProgress
    survey: OnProgress
    rows: OnProgress


def export(source: ExportSource, query: Query, out: Path, form: Form, meters: Meters) -> Counts:
    """Write the data set of `query` to the folder `out`, replacing an earlier export of the model there.

    The earlier one stays until the new one is complete. Raises GatewayError if `out` contains anything else or another
    export is writing to it, OSError and sqlite3.OperationalError if it cannot be written, InvalidRequest if what is
    recorded has no such form, NotFound if no prediction matches the query, and RecordsDeleted.
    """
    if form.format == "csv" and not form.flat:
        raise InvalidRequest("csv holds no lists: export it flat, or as parquet or jsonl")
    counts = Counts()
    with unfinished(out, query.model) as folder:
        with FeedbackStore(folder / "feedback.sqlite") as store:
            load_feedback(store, source.records, query, meters.feedback)
            find = flat_layout if form.flat else nested_layout
            layout = find(source, query, store, meters.survey)
            with PartitionWriter(folder, query.model, form.format, layout) as parts:
                for prediction, feedback in join_feedback(source.records, query, store, meters.rows, counts.malformed):
                    if not _can_be_written(prediction):
                        counts.malformed()
                        continue
                    tensors = tensors_of(prediction, source.raw_input)
                    if parts.add(prediction, tensors, feedback):
                        counts.add(prediction, feedback, tensors.unreadable)
            counts.malformed_feedback = store.malformed
        counts.flat_rows = parts.rows if form.flat else None
        manifest = manifest_of(query, form.format, layout, counts, parts.completed(), parts.content.hexdigest())
        replace_export(out, folder, query.model, manifest)
    return counts


def _can_be_written(prediction: Prediction) -> bool:
    """Whether the parameters can be encoded: records from before the depth limit may be nested too deeply."""
    try:
        parameters_of(prediction)
    except TypeError:
        return False
    return True


def nested_layout(source: ExportSource, query: Query, store: FeedbackStore, on_progress: OnProgress) -> Layout:
    """The columns of an export with one row a prediction. Raises NotFound."""
    survey = Survey(source.raw_input)
    if query.with_feedback:
        for prediction, _ in join_feedback(source.records, query, store, on_progress):
            survey.add(prediction)
    else:  # looking up feedback would take a third of the time
        for chunk in chunks(source.records, query, on_progress):
            for prediction in chunk:
                survey.add(prediction)
    if not survey.rows:
        raise _nothing(query)
    return layout_of(survey.columns(), store, predictions=survey.has_predictions)


def flat_layout(source: ExportSource, query: Query, store: FeedbackStore, on_progress: OnProgress) -> FlatLayout:
    """The columns of a flat export. Raises NotFound, InvalidRequest."""
    survey, found = FlatSurvey(source.predicting, source.features), 0
    for prediction, feedback in join_feedback(source.records, query, store, on_progress):
        tensors = tensors_of(prediction, source.raw_input)
        found += 1
        if (flat := flat_prediction(prediction, tensors, feedback, source.predicting)) is not None:
            survey.add(flat, tensors)
    if not found:
        raise _nothing(query)
    return survey.layout()


def _nothing(query: Query) -> NotFound:
    return NotFound(f"no recorded prediction of '{query.model}' matches the options; there is nothing to export")
