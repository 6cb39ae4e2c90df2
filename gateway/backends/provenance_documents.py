"""The JSON documents of where a version comes from."""

from dataclasses import asdict
from typing import Any, cast

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from gateway.backends.provenance import Provenance


class DatasetQueryDocument(TypedDict):
    """The query of an export; null: not asked for."""

    since: str | None
    until: str | None
    feedback_until: str | None
    variant: str | None
    with_feedback: bool | None


class TrainingDocument(TypedDict):
    """What training.json says; null: nothing. `data`: the data set's name. `dataset_*`: the export it was trained on.
    `held_out_accuracy`: from 0 to 1.
    """

    data: str | None
    data_sha256: str | None
    dataset_manifest_sha256: str | None
    dataset_content_sha256: str | None
    dataset_query: DatasetQueryDocument | None
    dataset_rows: int | None
    train_rows: int | None
    held_out_rows: int | None
    held_out_accuracy: float | None
    estimator: str | None
    revision: str | None


class OriginDocument(TypedDict):
    """The registry that the version was fetched from, as origin.json says. `link`: its page, http or https."""

    registry: str | None
    url: str | None
    model: str | None
    version: str | None
    run_id: str | None
    source: str | None
    fetched_at: str | None
    link: str | None


class ProvenanceDocument(TypedDict):
    """Where a version comes from, as files in its folder say. `problems`: what is wrong with those files."""

    training: TrainingDocument | None
    origin: OriginDocument | None
    problems: list[str]


def provenance_document(provenance: Provenance) -> ProvenanceDocument:
    """The document of a version's provenance."""
    origin, training = provenance.origin, provenance.training
    linked: dict[str, Any] | None = None if origin is None else {**asdict(origin), "link": origin.link}
    return {
        "training": None if training is None else cast("TrainingDocument", asdict(training)),
        "origin": cast("OriginDocument | None", linked),
        "problems": list(provenance.problems),
    }
