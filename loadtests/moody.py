"""A model whose every way to fail an input chooses: what is bad for both versions, and what only one fails on.

x [n, 5]   value, index, broken, turns, luck
y [n, 1]   value · 2: not a number where the value is not
           an index other than 0 is refused; a `broken` other than 0 fails; it runs for as many more turns as asked
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper

from loadtests.models import save

NAME: Final = "moody"
COLUMNS: Final = 5
HUNG: Final = 10**12  # turns


@dataclass(frozen=True, slots=True)
class Moods:
    """Of one version. Where `luck`, from 0 to 1, is below `fails` it answers NaN; below `hangs` it does not answer.

    `turns`: what it always takes; `width`: each turn multiplies matrices of that size, in all threads that it has.
    """

    fails: float = 0.0
    hangs: float = 0.0
    turns: int = 1
    width: int = 0


def place(repository: Path, stable: Moods, candidate: Moods, settings: str = "") -> None:
    """Versions 1 and 2, and `settings` as their model.yaml."""
    for version, moods in ((1, stable), (2, candidate)):
        _save(repository / NAME / str(version), moods)
    (repository / NAME / "warmup.json").write_bytes(body(row(1.0), row(2.0)))
    (repository / NAME / "model.yaml").write_text(settings)


def row(
    value: float = 1.0, index: float = 0.0, broken: float = 0.0, turns: float = 0.0, luck: float = 1.0
) -> list[float]:
    return [value, index, broken, turns, luck]


def body(*rows: list[float], timeout_us: int | None = None) -> bytes:
    """A request, with NaN as the protocol has it in JSON."""
    data = ["NaN" if value != value else value for one in rows for value in one]
    document: dict[str, Any] = {
        "inputs": [{"name": "x", "shape": [len(rows), COLUMNS], "datatype": "FP32", "data": data}]
    }
    if timeout_us is not None:
        document["parameters"] = {"timeout": timeout_us}
    return json.dumps(document).encode()


def _save(folder: Path, moods: Moods) -> None:
    constants: dict[str, Any] = {
        key: np.array(value, np.int64)
        for key, value in {"one": 1, "rows": [0], "ends": [1, 2, 3, 4, 5], "axis": [1], "four": [4]}.items()
    }
    constants |= {f"at_{i}": np.array([i], np.int64) for i in range(COLUMNS + 1)}
    constants |= {
        "two": np.array(2, np.float32),
        "zero": np.array(0, np.float32),
        "for_ever": np.array(HUNG, np.float32),
        "fails": np.array(moods.fails, np.float32),
        "hangs": np.array(moods.hangs, np.float32),
        "base": np.array(moods.turns, np.float32),
        "table": np.zeros([1], np.float32),
        "fours": np.zeros([4], np.float32),
        "yes": np.array(True),
        "begin": np.zeros([max(1, moods.width)] * 2, np.float32),
    }
    names = ["value", "index", "broken", "turns", "luck"]
    nodes = [helper.make_node("Slice", ["x", f"at_{i}", f"at_{i + 1}", "axis"], [name]) for i, name in enumerate(names)]
    nodes += [
        helper.make_node("Mul", ["value", "two"], ["doubled"]),
        helper.make_node("Cast", ["index"], ["indices"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "indices"], ["found"]),  # its table has one entry
        helper.make_node("ReduceMax", ["broken"], ["most_broken"], keepdims=0),
        helper.make_node("Cast", ["most_broken"], ["more"], to=TensorProto.INT64),
        helper.make_node("Add", ["four", "more"], ["size"]),
        helper.make_node("Reshape", ["fours", "size"], ["reshaped"]),  # there are four
        helper.make_node("ReduceSum", ["reshaped"], ["nothing"], keepdims=0),
        helper.make_node("Less", ["luck", "fails"], ["unlucky"]),
        helper.make_node("Cast", ["unlucky"], ["unlucky_f"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["unlucky_f"], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["nan_or_zero"]),
        *_loop(moods.width),
    ]
    sums = ["doubled", "found", "nothing", "nan_or_zero", "worked"]
    nodes.append(helper.make_node("Sum", sums, ["y"]))
    save(folder, nodes, ["n", COLUMNS], ["n", 1], constants)


def _loop(width: int) -> list[Any]:
    """As many turns as the most patient row asks for."""
    square = [max(1, width)] * 2
    turn = helper.make_node("MatMul", ["kept", "kept"], ["still"])
    if not width:
        turn = helper.make_node("Identity", ["kept"], ["still"])
    values = {"turn": (TensorProto.INT64, []), "go": (TensorProto.BOOL, []), "kept": (TensorProto.FLOAT, square)}
    outputs = {"go_on": (TensorProto.BOOL, []), "still": (TensorProto.FLOAT, square)}
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), turn],
        "body",
        [helper.make_tensor_value_info(name, *kind) for name, kind in values.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
    )
    return [
        helper.make_node("Less", ["luck", "hangs"], ["hung"]),
        helper.make_node("Cast", ["hung"], ["hung_f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["hung_f", "for_ever"], ["hung_turns"]),
        helper.make_node("Sum", ["turns", "hung_turns", "base"], ["all_turns"]),
        helper.make_node("ReduceMax", ["all_turns"], ["most_turns"], keepdims=0),
        helper.make_node("Cast", ["most_turns"], ["limit"], to=TensorProto.INT64),
        helper.make_node("Loop", ["limit", "yes", "begin"], ["worked_much"], body=body),
        helper.make_node("ReduceMax", ["worked_much"], ["worked"], keepdims=0),
    ]
