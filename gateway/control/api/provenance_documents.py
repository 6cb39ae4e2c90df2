"""The shapes of the JSON documents of where a version comes from."""

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12


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
