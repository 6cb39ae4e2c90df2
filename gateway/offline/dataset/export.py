"""Exports recorded predictions as a data set in a folder."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import GatewayError
from gateway.offline.dataset.columns import Layout, layout_of, parameters_of
from gateway.offline.dataset.manifest import MANIFEST, Counts, manifest_of, read_manifest
from gateway.offline.dataset.partitions import PartitionWriter
from gateway.offline.dataset.schema import Survey, tensors_of
from gateway.offline.feedback_store import FeedbackStore
from gateway.offline.reader import OnProgress, Query, Records, chunks, join_feedback, load_feedback
from gateway.records.prediction import Prediction, RawInput

UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True, slots=True)
class ExportSource:
    """The records to export. `raw_input`: from a version to the input that its raw bodies hold."""

    records: Records
    raw_input: RawInput


@dataclass(frozen=True, slots=True)
class Meters:
    """Progress callbacks, called with bytes read: of feedback, of predictions in the survey, and when writing rows."""

    feedback: OnProgress
    survey: OnProgress
    rows: OnProgress


def export(source: ExportSource, query: Query, out: Path, kind: str, meters: Meters) -> Counts:
    """Write the data set of `query` to the folder `out`, replacing an earlier export of the model there.

    The earlier one stays until the new one is complete. `kind`: parquet or jsonl. Raises GatewayError if `out` contains
    anything else, or if no prediction matches the query.
    """
    check_replaceable(out, query.model)
    counts = Counts()
    with _unfinished(out) as folder:
        with FeedbackStore(folder / "feedback.sqlite") as store:
            load_feedback(store, source.records, query, meters.feedback)
            layout = _layout(source, query, store, meters.survey)
            with PartitionWriter(folder, query.model, kind, layout) as parts:
                for prediction, feedback in join_feedback(source.records, query, store, meters.rows, counts.malformed):
                    if not _can_be_written(prediction):
                        counts.malformed()
                        continue
                    tensors = tensors_of(prediction, source.raw_input)
                    parts.add(prediction, tensors, feedback)
                    counts.add(prediction, feedback, tensors.unreadable)
            counts.malformed_feedback = store.malformed
        manifest = manifest_of(query, kind, layout, counts, parts.completed())
        _replace(out, folder, query.model, manifest)
    return counts


def _can_be_written(prediction: Prediction) -> bool:
    """Whether the parameters can be encoded: records from before the depth limit may be nested too deeply."""
    try:
        parameters_of(prediction)
    except TypeError:
        return False
    return True


def check_replaceable(out: Path, model: str) -> None:
    """Raise GatewayError unless `out` is missing, empty, or an export of `model` and nothing else."""
    if out.exists() and not out.is_dir():
        raise GatewayError(f"{out} is a file; name a folder for the data set")
    if not out.is_dir() or not any(entry.name != UNFINISHED for entry in out.iterdir()):
        return
    earlier = read_manifest(out)
    if earlier is None:
        raise GatewayError(f"{out} contains something other than an export; name a new or empty folder")
    if earlier["model"] != model:
        raise GatewayError(f"{out} holds an export of '{earlier['model']}'; name another folder for '{model}'")
    strangers = _files(out) - {MANIFEST, *(part["path"] for part in earlier["files"])}
    if strangers:
        raise GatewayError(
            f"{out} holds {min(strangers)}, which the export there does not list; move it away, or name another folder"
        )


def _files(out: Path) -> set[str]:
    paths = (path.relative_to(out) for path in out.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in paths if path.parts[0] != UNFINISHED}


def _layout(source: ExportSource, query: Query, store: FeedbackStore, on_progress: OnProgress) -> Layout:
    survey = Survey(source.raw_input)
    if query.with_feedback:
        for prediction, _ in join_feedback(source.records, query, store, on_progress):
            survey.add(prediction)
    else:  # looking up feedback would take a third of the time
        for chunk in chunks(source.records, query, on_progress):
            for prediction in chunk:
                survey.add(prediction)
    if not survey.rows:
        raise GatewayError(f"no recorded prediction of '{query.model}' matches the options; there is nothing to export")
    return layout_of(survey.columns(), store, predictions=survey.has_predictions)


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    folder = out / UNFINISHED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(out.iterdir()):
            out.rmdir()


def _replace(out: Path, folder: Path, model: str, manifest: bytes) -> None:
    """Move the finished files to `out`. The manifest is removed first and written last, because it marks a complete
    export.
    """
    (out / MANIFEST).unlink(missing_ok=True)
    name = f"model={model}"
    shutil.rmtree(out / name, ignore_errors=True)
    if (folder / name).exists():
        (folder / name).rename(out / name)
    (out / MANIFEST).write_bytes(manifest)
