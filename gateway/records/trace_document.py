"""The JSON document of a trace: what `gateway trace --json` prints, and the control plane answers."""

from typing import Any

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from gateway.backends.provenance_documents import DatasetQueryDocument, ProvenanceDocument


class TracedRecord(TypedDict):
    """The record, without the request and the response, which may be large and confidential. `predicted_label`: the
    name of the class `predicted`, as the model's folder says now.
    """

    time: str
    model_sha256: str | None
    outcome: str
    route: str | None
    propensity: float | None
    bucket: int | None
    salt: str | None
    generation: int | None
    customer: str | None
    delegated_by: str | None
    modality: str | None
    rescued_from: int | None
    rescue_reason: str | None
    latency_us: int | None
    queue_us: int | None
    batch: int | None
    predicted: int | None
    predicted_label: str | None
    predictions: dict[str, Any] | None
    error: str | None
    trace_id: str | None
    request_id: str | None
    request_sha256: str | None


class TracedFeedback(TypedDict):
    """One feedback; null: not given."""

    time: str
    truth: Any
    truth_class: Any
    correct: Any
    row: Any
    reward: Any
    metrics: dict[str, Any] | None
    comment: str | None
    customer: str | None


class TracedMirror(TypedDict):
    """The candidate's answer to a copy of the request. `agreement`: with the answer that was sent."""

    time: str
    version: int
    model_sha256: str | None
    agreement: bool | None
    predicted: int | float | None


class ServedDocument(TypedDict):
    """How many rows of a data set a version had answered."""

    version: int
    sha256: str | None
    rows: int


class DatasetDocument(TypedDict):
    """What the manifest of the export says that a version was trained on. `sha256`: of the manifest; `first`, `last`:
    times of its rows.
    """

    sha256: str
    content_sha256: str | None
    model: str | None
    rows: int | None
    rows_with_truth: int | None
    query: DatasetQueryDocument | None
    first: str | None
    last: str | None
    served: list[ServedDocument]


class TracedVersionDocument(TypedDict):
    """A version that had to do with the prediction. `role`: answered, failed or mirrored; `state`: whether the model is
    still in `folder` (intact, moved, overwritten, removed, unreadable, remote, unproven), and `detail` what is there.
    `dataset_problem`: why the data set is not known.
    """

    role: str
    version: int
    model_sha256: str | None
    state: str
    folder: str | None
    detail: str | None
    provenance: ProvenanceDocument
    dataset: DatasetDocument | None
    dataset_problem: str | None


class TraceDocument(TypedDict):
    """A prediction. `signature`: "valid", or why what the id says cannot be relied upon: model, version, variant,
    route, weight and time. `missing`: why it has no record. `feedback`: the first of `feedback_count`;
    `label_conflict`: their truths contradict each other.
    """

    prediction_id: str
    signature: str
    model: str
    version: int
    variant: str
    route: str
    weight_percent: float
    time: str
    record: TracedRecord | None
    missing: str | None
    feedback: list[TracedFeedback]
    feedback_count: int
    label_conflict: bool
    mirror: TracedMirror | None
    versions: list[TracedVersionDocument]
