"""What is read of training.json, origin.json and dataset.json, whatever they hold."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.provenance import (
    MAX_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_SERVED,
    MAX_TEXT,
    DatasetQuery,
    Origin,
    Provenance,
    Training,
    read_dataset_manifest,
    read_provenance,
)

TRAINING = {
    "data": "digits",
    "data_sha256": "ab" * 32,
    "train_rows": 1257,
    "held_out_rows": 540,
    "held_out_accuracy": 0.9741,
    "estimator": "neural network",
    "seed": 7,
    "revision": "v1-3-gabc",
}
ORIGIN = {
    "registry": "mlflow",
    "url": "http://mlflow:5000/",
    "model": "a b/ü",
    "version": "7",
    "run_id": "",
    "source": "models:/m-1",
    "fetched_at": "2026-11-27T10:00:00Z",
}
MANIFEST = {
    "kind": "canary-gateway export",
    "model": "digits",
    "rows": 10,
    "rows_with_truth": 4,
    "query": {"since": "2026-11-01", "until": None},
    "first": "2026-11-02",
    "last": "2026-11-03",
    "versions": [{"version": 1, "sha256": "cd" * 32, "rows": 10}, {"version": "2"}, 3],
}


def written(folder: Path, **files: Any) -> Provenance:
    for name, content in files.items():
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / f"{name}.json").write_bytes(text)
    return read_provenance(folder, with_dataset=True)


def test_a_folder_without_files_says_nothing(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) == read_provenance(tmp_path / "none") == Provenance()
    assert not Provenance().known


def test_training_and_origin_are_read(tmp_path: Path) -> None:
    found = written(tmp_path, training=TRAINING, origin=ORIGIN)
    assert found.problems == ()
    assert found.training == Training(
        data="digits",
        data_sha256="ab" * 32,
        train_rows=1257,
        held_out_rows=540,
        held_out_accuracy=0.9741,
        estimator="neural network",
        revision="v1-3-gabc",
    )
    assert found.origin is not None and found.origin.run_id is None
    assert found.origin.link == "http://mlflow:5000/#/models/a%20b%2F%C3%BC/versions/7"


def test_a_revision_may_have_its_former_name(tmp_path: Path) -> None:
    found = written(tmp_path, training={"code_revision": "v0-dirty"})
    assert found.training == Training(revision="v0-dirty")


def test_a_manifest_belongs_to_the_export_that_training_names(tmp_path: Path) -> None:
    text = json.dumps(MANIFEST).encode()
    sha256 = hashlib.sha256(text).hexdigest()
    found = written(tmp_path, training={"dataset_manifest_sha256": sha256}, dataset=text).dataset
    assert found is not None
    assert (found.sha256, found.rows, found.query, found.last) == (
        sha256,
        10,
        DatasetQuery(since="2026-11-01"),
        "2026-11-03",
    )
    assert [(one.version, one.rows) for one in found.served] == [(1, 10)]
    assert found.is_of(Training(dataset_manifest_sha256=sha256))
    assert not found.is_of(Training(dataset_manifest_sha256="0" * 64))
    assert not found.is_of(Training())  # both name no content
    assert read_dataset_manifest(tmp_path / "dataset.json") == found
    assert read_provenance(tmp_path).dataset is None
    assert read_dataset_manifest(tmp_path / "none.json") == f"{tmp_path / 'none.json'} does not exist"


def test_a_manifest_may_be_named_by_its_content(tmp_path: Path) -> None:
    found = written(tmp_path, dataset={**MANIFEST, "content_sha256": "ef" * 32}).dataset
    assert found is not None and found.is_of(Training(dataset_content_sha256="ef" * 32))


def test_a_large_manifest_is_read_if_its_user_names_it(tmp_path: Path) -> None:
    text = json.dumps(MANIFEST | {"columns": "x" * MAX_MANIFEST_BYTES})
    found = written(tmp_path, dataset=text.encode())
    assert (found.dataset, found.problems) == (None, ("dataset.json is larger than 1,024 KiB",))
    named = read_dataset_manifest(tmp_path / "dataset.json")
    assert not isinstance(named, str) and named.rows == 10


def test_only_the_first_versions_of_a_manifest_are_kept(tmp_path: Path) -> None:
    versions = [{"version": number, "rows": 1} for number in range(1000)]
    found = written(tmp_path, dataset={**MANIFEST, "versions": versions}).dataset
    assert found is not None and len(found.served) == MAX_SERVED


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "training.json is not valid JSON"),
        (b"\xff\xfe{}", "training.json is not valid JSON"),
        (b"[" * 60_000, "training.json is not valid JSON"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "training.json is not valid JSON"),
        (b'{"train_rows": NaN}', "training.json is not valid JSON"),
        (b"[]", "training.json must be a JSON object"),
        (b'"<script>"', "training.json must be a JSON object"),
        (b"{" + b" " * MAX_BYTES + b"}", "training.json is larger than 64 KiB"),
        (b'{"train_rows": -1}', "training.json: train_rows must be a whole number from 0, and is left out"),
        (b'{"train_rows": 1.5}', "training.json: train_rows must be a whole number from 0, and is left out"),
        (b'{"train_rows": true}', "training.json: train_rows must be a whole number from 0, and is left out"),
        (b'{"train_rows": 1' + b"0" * 5000 + b"}", "training.json is not valid JSON"),
        (b'{"data": ["x"]}', "training.json: data must be a text, and is left out"),
        (b'{"held_out_accuracy": "0.9"}', "held_out_accuracy must be a number, and is left out"),
        (b'{"held_out_accuracy": 97.4}', "held_out_accuracy must be from 0 to 1"),
        (b'{"held_out_accuracy": 1e999}', "training.json"),
    ],
)
def test_a_bad_file_is_said_and_not_used(tmp_path: Path, content: bytes, problem: str) -> None:
    found = written(tmp_path, training=content)
    assert len(found.problems) == 1 and problem in found.problems[0]
    assert found.training in (None, Training())
    assert found.known


def test_texts_are_short_and_can_be_printed(tmp_path: Path) -> None:
    found = written(tmp_path, training={"estimator": "\x1b[2J\u202e<b>", "data": "x" * 50_000})
    assert found.training is not None
    assert found.training.estimator == "\\x1b[2J\\u202e<b>"
    assert found.training.data == "x" * (MAX_TEXT - 1) + "…"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,<script>",
        "http://user:secret@mlflow:5000",
        "http://secret@mlflow:5000",
        "http://",
        "http://[",
        "HTTP ://x",
        "http://x\n.y",
        "//x",
        "/models",
    ],
)
def test_only_plain_addresses_become_links(tmp_path: Path, url: str) -> None:
    found = written(tmp_path, origin={**ORIGIN, "url": url})
    assert found.origin is not None
    assert (found.origin.url, found.origin.link) == (None, None)
    assert found.problems == ("origin.json: url must be http or https, without user and password",)
    assert "secret" not in str(found)


def test_the_link_of_another_registry_is_its_address() -> None:
    assert Origin(registry="other", url="https://registry/x").link == "https://registry/x"


def test_what_is_no_file_is_not_opened_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "training.json")
    (tmp_path / "origin.json").mkdir()
    (tmp_path / "dataset.json").symlink_to("dataset.json")
    found = read_provenance(tmp_path, with_dataset=True)
    assert (found.training, found.origin, found.dataset) == (None, None, None)
    assert [problem.split(" ")[0] for problem in found.problems] == ["training.json", "origin.json", "dataset.json"]
