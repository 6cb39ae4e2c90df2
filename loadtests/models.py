"""The benchmarks' own models, in Triton's layout."""

import itertools
import time
from collections.abc import Callable
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
        save(repository / name / version, nodes, ["n", 64], ["n", 10], {"first": first, "second": second})
    return repository / name / "1" / "model.onnx"


def doubling(repository: Path, name: str = "double") -> None:
    """Versions 1 and 2, y = x + x on [n, 2]: an answer shows what was asked."""
    for version in ("1", "2"):
        save(repository / name / version, [helper.make_node("Add", ["x", "x"], ["y"])], ["n", 2], ["n", 2], {})


def image(repository: Path, name: str = "image") -> Path:
    """[n, 3, 224, 224] → its mean by channel: what moving 600 kB costs."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    save(repository / name / "1", nodes, ["n", 3, 224, 224], ["n", 3], {})
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


FLAWS = ("raises", "hangs", "nan", "shape")


def flawed(repository: Path, flaw: str, name: str = "flawed") -> None:
    """Version 1 answers x · 2 as [n, 4]; version 2 too, unless a row's first value is below 0: then it has the flaw,
    one of FLAWS or `allocates`.
    """
    two = {"two": np.array(2, np.float32)}
    save(repository / name / "1", [helper.make_node("Mul", ["x", "two"], ["y"])], ["n", 4], ["n", 4], two)
    int64 = {"axis": [1], "first": [0], "one": [1], "all": [-1], "cut": [0], "origin": [0, 0]}
    constants: dict[str, Any] = {key: np.array(value, np.int64) for key, value in int64.items()}
    constants |= two | {"zero": np.array(0, np.float32), "end": np.array([1], np.int64)}
    bad = [
        helper.make_node("Slice", ["x", "cut", "end", "axis"], ["selector"]),
        helper.make_node("Less", ["selector", "zero"], ["below"]),
        helper.make_node("Cast", ["below"], ["below_f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["below_f"], ["worst"], keepdims=0),
        helper.make_node("Mul", ["x", "two"], ["good"]),
    ]
    nodes = bad + _FLAWED[flaw](constants)
    save(repository / name / "2", nodes, ["n", 4], ["n", 4], constants)


def _raises(constants: dict[str, Any]) -> list[Any]:
    constants["table"] = np.zeros([1], np.float32)
    return [  # an index of 0 where all is well, beyond the table where it is not
        helper.make_node("Cast", ["worst"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["nothing"]),
        helper.make_node("Add", ["good", "nothing"], ["y"]),
    ]


def _nan(constants: dict[str, Any]) -> list[Any]:
    return [  # the square root of 0, or of -1
        helper.make_node("Neg", ["below_f"], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["nan_or_zero"]),
        helper.make_node("Add", ["good", "nan_or_zero"], ["y"]),
    ]


def _shape(constants: dict[str, Any]) -> list[Any]:
    constants["repeats"] = np.array([1, 1], np.int64)
    return [  # the rows twice
        helper.make_node("Cast", ["worst"], ["more"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["more", "first"], ["more_rows"]),
        helper.make_node("Concat", ["more_rows", "first"], ["addend"], axis=0),
        helper.make_node("Add", ["repeats", "addend"], ["tiles"]),
        helper.make_node("Tile", ["good", "tiles"], ["y"]),
    ]


def _hangs(constants: dict[str, Any]) -> list[Any]:
    constants |= {"for_ever": np.array(10**12, np.float32), "yes": np.array(True), "start": np.array(0, np.float32)}
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["kept"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("still", TensorProto.FLOAT, []),
        ],
    )
    return [
        helper.make_node("Mul", ["worst", "for_ever"], ["turns_f"]),
        helper.make_node("Cast", ["turns_f"], ["turns"], to=TensorProto.INT64),
        helper.make_node("Loop", ["turns", "yes", "start"], ["zero_after_all"], body=body),
        helper.make_node("Add", ["good", "zero_after_all"], ["y"]),
    ]


def _allocates(constants: dict[str, Any]) -> list[Any]:
    constants |= {"many": np.array(2**29, np.float32), "once": np.array(1, np.float32)}
    return [  # the rows 2^29 times, 8 GiB, of which the first one is kept
        helper.make_node("Mul", ["worst", "many"], ["more_f"]),
        helper.make_node("Add", ["more_f", "once"], ["times_f"]),
        helper.make_node("Cast", ["times_f"], ["times"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["times", "first"], ["rows"]),
        helper.make_node("Concat", ["rows", "one"], ["tiles"], axis=0),
        helper.make_node("Tile", ["good", "tiles"], ["tiled"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["tiled", "origin", "shape"], ["y"]),
    ]


_FLAWED: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "raises": _raises,
    "hangs": _hangs,
    "nan": _nan,
    "shape": _shape,
    "allocates": _allocates,
}


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
    save(folder, nodes, ["n", 8, 16, 16], ["n", 8], {"kernel": kernel})


def save(folder: Path, nodes: list[Any], x: list[Any], y: list[Any], constants: dict[str, Any]) -> None:
    """One input x and one output y, both of floats."""
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
