"""From a prediction back to the data that its model was trained on: every link is looked up and compared."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from gateway.backends.digest import digest_of
from gateway.errors import ModelUnavailable
from gateway.offline.dataset.content_hash import parquet_content
from gateway.offline.dataset.manifest_file import MANIFEST
from gateway.offline.reader import records_in
from gateway.records.segments import read


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a prediction rests on. `rows`: those of the data set, each of which is a recorded prediction itself.

    `answered_by`: the versions that had answered those rows, with their files' hashes.
    """

    prediction_id: str
    version: int
    model_sha256: str
    dataset_content_sha256: str
    revision: str | None
    rows: int
    answered_by: dict[int, str]


def traced(prediction_id: str, model: Path, dataset: Path, records: Path) -> Provenance:
    """Follow the links: record → version → training manifest → data set → its files → the records of its rows.

    `model` is the model's folder, `dataset` an export of it. AssertionError names the link that does not hold.
    """
    recorded = {record["prediction_id"]: record for record in read(records_in(records).predictions, model.name)}
    assert prediction_id in recorded, f"{prediction_id} is not recorded"
    record = recorded[prediction_id]
    version = model / str(record["version"])
    assert _is(version, record["model_sha256"]), f"{version} is not what answered {prediction_id}"
    training = json.loads((version / "training.json").read_text())
    manifest = json.loads((dataset / MANIFEST).read_text())
    content_sha256 = manifest["content_sha256"]
    assert training["dataset_content_sha256"] == content_sha256, f"{version} was not trained on {dataset}"
    rows = 0
    for part in manifest["files"]:
        assert _sha256(dataset / part["path"]) == part["sha256"], f"{dataset / part['path']} is not as exported"
        rows += _compared(dataset / part["path"], recorded)
    assert rows == manifest["rows"] >= training["dataset_rows"], f"{dataset} does not hold the rows that it says"
    assert parquet_content(dataset, manifest) == content_sha256, f"{dataset} does not hold the content that it says"
    answered_by = {entry["version"]: entry["sha256"] for entry in manifest["versions"]}
    for number, sha256 in answered_by.items():
        assert _is(model / str(number), sha256), f"version {number} is not what answered then"
    return Provenance(
        prediction_id,
        record["version"],
        record["model_sha256"],
        content_sha256,
        training["revision"],
        rows,
        answered_by,
    )


def _compared(file: Path, recorded: dict[str, Any]) -> int:
    """The rows of a file, each of which must be as it was recorded."""
    table = parquet.read_table(file, columns=["prediction_id", "version", "input_image"], partitioning=None)
    for row in table.to_pylist():
        record = recorded.get(row["prediction_id"])
        assert record is not None, f"{file}: {row['prediction_id']} is not recorded"
        sent = np.asarray(record["request"]["inputs"][0]["data"], np.float32)
        same = np.array_equal(sent, np.asarray(row["input_image"], np.float32)) and record["version"] == row["version"]
        assert same, f"{file}: {row['prediction_id']} is not as it was recorded"
    return int(table.num_rows)


def _is(version: Path, sha256: str) -> bool:
    """Whether the version's files are those of the digest; what is no ONNX file any more is not."""
    try:
        return digest_of(version / "model.onnx") == sha256
    except ModelUnavailable:
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
