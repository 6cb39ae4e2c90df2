"""From record segments to a data set in a folder."""

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
from gateway.offline.reader import Advance, Query, Records, chunks, fill, joined
from gateway.records.prediction import Prediction, RawInput

UNFINISHED: Final = ".unfinished"


@dataclass(frozen=True, slots=True)
class ExportSource:
    """Where an export comes from. `raw_input`: the input that a raw body of a version is for."""

    records: Records
    raw_input: RawInput


@dataclass(frozen=True, slots=True)
class Meters:
    """Told the bytes that have been read: of feedback, of predictions for the survey, and of predictions again."""

    feedback: Advance
    survey: Advance
    rows: Advance


def export(source: ExportSource, query: Query, out: Path, kind: str, meters: Meters) -> Counts:
    """Write the data set of `query` to the folder `out`, instead of an earlier export of the model there.

    The earlier one stays until the new one is complete. Raises GatewayError where `out` holds anything else, and where
    no prediction is what the query asks for.
    """
    check_replaceable(out, query.model)
    counts = Counts()
    with _unfinished(out) as folder:
        with FeedbackStore(folder / "feedback.sqlite") as store:
            fill(store, source.records, query, meters.feedback)
            layout = _layout(source, query, store, meters.survey)
            with PartitionWriter(folder, query.model, kind, layout) as parts:
                for prediction, feedback in joined(source.records, query, store, meters.rows, counts.odd):
                    if not _can_be_written(prediction):
                        counts.odd()
                        continue
                    tensors = tensors_of(prediction, source.raw_input)
                    parts.add(prediction, tensors, feedback)
                    counts.add(prediction, feedback, tensors.unreadable)
            counts.odd_feedback = store.odd
        manifest = manifest_of(query, kind, layout, counts, parts.completed())
        _replace(out, folder, query.model, manifest)
    return counts


def _can_be_written(prediction: Prediction) -> bool:
    """Records of before there was a bound may hold parameters that are nested deeper than JSON is written."""
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
        raise GatewayError(f"{out} holds something else than an export; name a new or empty folder")
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


def _layout(source: ExportSource, query: Query, store: FeedbackStore, advance: Advance) -> Layout:
    survey = Survey(source.raw_input)
    if query.with_feedback:
        for prediction, _ in joined(source.records, query, store, advance):
            survey.add(prediction)
    else:  # without looking up the feedback, which takes a third of the time
        for chunk in chunks(source.records, query, advance):
            for prediction in chunk:
                survey.add(prediction)
    if not survey.rows:
        raise GatewayError(
            f"no recorded prediction of '{query.model}' is what was asked for; there is nothing to export"
        )
    return layout_of(survey.columns(), store.truth_kinds)


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
    """The manifest goes first and comes last: files without one are no export."""
    (out / MANIFEST).unlink(missing_ok=True)
    name = f"model={model}"
    shutil.rmtree(out / name, ignore_errors=True)
    if (folder / name).exists():
        (folder / name).rename(out / name)
    (out / MANIFEST).write_bytes(manifest)
