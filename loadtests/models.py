"""The benchmarks' own models, in Triton's layout."""

import itertools
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

ROW_MS = 0.5


def tiny(repository: Path, name: str = "tiny") -> Path:
    """64 → 64 → 10: what a gateway costs shows best on a model that costs nothing."""
    generator = np.random.default_rng(0)
    for version in ("1", "2"):
        first, second = (generator.standard_normal(shape).astype(np.float32) / 8 for shape in ((64, 64), (64, 10)))
        nodes = [
            helper.make_node("MatMul", ["x", "first"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("MatMul", ["active", "second"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["y"]),
        ]
        _save(repository / name / version, nodes, ["n", 64], ["n", 10], {"first": first, "second": second})
    return repository / name / "1" / "model.onnx"


def image(repository: Path, name: str = "image") -> Path:
    """[n, 3, 224, 224] → its mean by channel: what moving 600 kB costs."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    _save(repository / name / "1", nodes, ["n", 3, 224, 224], ["n", 3], {})
    return repository / name / "1" / "model.onnx"


def heavy(repository: Path, name: str = "heavy") -> Path:
    """About 0.5 ms a row on one core, at any batch size: a convolution repeated as often as that takes here."""
    repeats = 1
    while True:
        _heavy(repository / name / "1", repeats)
        file = repository / name / "1" / "model.onnx"
        row_ms = rows_per_s(session(file), 16, 1.0) ** -1 * 1e3
        if row_ms >= ROW_MS * 0.8:
            return file
        repeats = max(repeats + 1, round(repeats * ROW_MS / row_ms))


def session(file: Path) -> Any:
    """A session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def rows_per_s(loaded: Any, rows: int, seconds: float) -> float:
    """The rows a second of plain session.run at a batch of `rows`, by the median run."""
    item = loaded.get_inputs()[0]
    x = np.zeros([rows, *item.shape[1:]], np.float32)
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(durations) < 3:
        start = time.perf_counter()
        loaded.run(None, {item.name: x})
        durations.append(time.perf_counter() - start)
    return rows / median(durations)


def _heavy(folder: Path, repeats: int) -> None:
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal((8, 8, 3, 3)).astype(np.float32) / 20
    names = ["x", *(f"h{index}" for index in range(repeats))]
    nodes = [
        helper.make_node("Conv", [source, "kernel"], [target], pads=[1, 1, 1, 1])
        for source, target in itertools.pairwise(names)
    ]
    nodes += [
        helper.make_node("GlobalAveragePool", [names[-1]], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    _save(folder, nodes, ["n", 8, 16, 16], ["n", 8], {"kernel": kernel})


def _save(folder: Path, nodes: list[Any], x: list[Any], y: list[Any], constants: dict[str, Any]) -> None:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(folder / "model.onnx")
    )
