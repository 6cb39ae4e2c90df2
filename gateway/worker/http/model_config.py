"""A version's configuration in Triton's form, for clients that read it before they send: perf_analyzer, tritonclient.

Settings that are left out have Triton's default. Several have no counterpart here.
"""

from collections.abc import Iterable
from typing import Any, Final

from gateway.backends.not_served import REMOTE_FILE
from gateway.backends.version import ModelVersion
from gateway.protocol.tensors import TensorSpec

PLATFORM: Final = "onnxruntime_onnx"
BACKEND: Final = "onnxruntime"
FILE: Final = "model.onnx"
REMOTE: Final = "remote"  # platform and backend of a version that another server runs
INSTANCE_KINDS: Final = {"CPU": "KIND_CPU", "CUDA": "KIND_GPU", "Tensorrt": "KIND_GPU"}


def config_of(version: ModelVersion, served: Iterable[int]) -> dict[str, Any]:
    """The configuration document of a version. `served`: the numbers of the model's versions in service.

    `max_batch_size` is how many rows run together at most, 0 if requests are not batched. If it is positive, `dims`
    leave out the rows' dimension, as Triton's do. A request may hold more rows: it runs alone.
    """
    rows = rows_of(version)
    signature = version.signature
    document: dict[str, Any] = {
        "name": version.name,
        "platform": REMOTE if version.remote else PLATFORM,
        "backend": REMOTE if version.remote else BACKEND,
        "default_model_filename": REMOTE_FILE if version.remote else FILE,
        "version_policy": {"specific": {"versions": sorted(served)}},
        "max_batch_size": rows,
        "input": [_tensor(spec, rows) | {"optional": spec.optional} for spec in signature.inputs],
        "output": [_tensor(spec, rows) for spec in signature.outputs],
        "instance_group": [_instances(version)],
    }
    if rows:
        delay_us = round(version.facts.rules.max_delay_s * 1_000_000)
        document["dynamic_batching"] = {"max_queue_delay_microseconds": delay_us}
    return document


def rows_of(version: ModelVersion) -> int:
    """The most rows of several requests that run together; 0 unless all tensors' first dimension is their rows."""
    signature = version.signature
    batched = all(spec.shape[:1] == (-1,) for spec in (*signature.inputs, *signature.outputs))
    return version.facts.rules.max_rows if version.batches and batched else 0


def _tensor(spec: TensorSpec, rows: int) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": spec.shape[1:] if rows else spec.shape}


def _instances(version: ModelVersion) -> dict[str, Any]:
    """The instances in each worker, with the kind of device that they really run on."""
    first = version.facts.providers[0].removesuffix("ExecutionProvider")
    return {
        "name": version.name,
        "kind": INSTANCE_KINDS.get(first, "KIND_AUTO"),
        "count": version.facts.rules.concurrency,
    }
