"""Finds the export that a traced version was trained on among those whose folders are given."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from gateway.backends.provenance import DatasetManifest, Training, read_dataset_manifest
from gateway.errors import GatewayError
from gateway.records.trace_document import DatasetDocument, TraceDocument


def manifests_at(paths: Iterable[Path], names: Sequence[str]) -> list[DatasetManifest]:
    """The manifests of exports: files, or folders that hold one by one of these names. Raises GatewayError."""
    found = []
    for path in paths:
        files = [path / name for name in names if (path / name).exists()] if path.is_dir() else [path]
        manifest = read_dataset_manifest(files[0]) if files else f"{path} holds no {names[0]}"
        if isinstance(manifest, str):
            raise GatewayError(f"--dataset {path}: {manifest}; give a folder that `gateway export` has written")
        found.append(manifest)
    return found


def with_datasets(trace: TraceDocument, manifests: Sequence[DatasetManifest]) -> TraceDocument:
    """The trace, where each version has the manifest of the export that it was trained on, if it is given."""
    versions = list(trace["versions"])
    for position, version in enumerate(versions):
        if (said := version["provenance"]["training"]) is None:
            continue
        training = Training(
            dataset_manifest_sha256=said["dataset_manifest_sha256"],
            dataset_content_sha256=said["dataset_content_sha256"],
        )
        found = next((one for one in manifests if one.is_of(training)), None)
        if found is not None:
            dataset = cast("DatasetDocument", asdict(found))
            versions[position] = {**version, "dataset": dataset, "dataset_problem": None}
    return {**trace, "versions": versions}
