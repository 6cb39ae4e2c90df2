"""Models that output labels: some with independent rows, some with dependent ones whose labels may still agree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("ours", 1)]
WEIGHTS = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
X: dict[str, Any] = {"x": (FLOAT, ["n", 8])}
LABEL: dict[str, Any] = {"label": (INT64, ["n"])}
Make = Callable[[Path], Path]


def node(operator: str, takes: str, gives: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, takes.split(), gives.split(), **attributes)


def argmax(scores: str) -> NodeProto:
    return node("ArgMax", scores, "label", axis=1, keepdims=0)


def model(
    nodes: list[NodeProto],
    constants: dict[str, Any] | None = None,
    *,
    inputs: dict[str, Any] = X,
    outputs: dict[str, Any] = LABEL,
    functions: list[onnx.FunctionProto] | None = None,
    external: bool = False,
) -> Make:
    """A function that writes a model of these nodes; `external`: with its weights in a separate file, weights.bin."""

    def make(path: Path) -> Path:
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
        )
        made = helper.make_model(graph, opset_imports=OPSETS, ir_version=8, functions=functions or [])
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(made, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
        return path

    return make


LINEAR = [node("MatMul", "x w", "scores")]
QUANTISED = [
    node("DynamicQuantizeLinear", "x", "q scale zero"),
    node("MatMulInteger", "q w zero", "products"),
    node("Cast", "products", "floats", to=FLOAT),
    node("Mul", "floats scale", "scores"),
]
INT8 = {"w": (WEIGHTS * 40).astype(np.int8)}
BY_HAND = [
    node("Abs", "x", "sizes"),
    node("ReduceMax", "sizes", "most", keepdims=0),
    node("Div", "x most", "shares"),
    node("Mul", "shares steps", "stretched"),
    node("Round", "stretched", "rounded"),
    node("MatMul", "rounded w", "scores"),
    argmax("scores"),
]
STEPS = {"w": WEIGHTS, "steps": np.float32(7)}
GATE = [
    node("ReduceMax", "x", "most", keepdims=0),
    node("Greater", "most limit", "beyond"),
    node("Where", "beyond minus plus", "sign"),
    node("Mul", "x sign", "scores"),
]
LIMIT = {"limit": np.float32(100), "minus": np.float32(-1), "plus": np.float32(1)}
CHOICE = [
    helper.make_graph(
        [node("MatMul", "x w", f"{name}_scores"), node("ArgMax", f"{name}_scores", name, axis=1, keepdims=0)],
        name,
        [],
        [helper.make_tensor_value_info(name, INT64, ["n"])],
    )
    for name in ("yes", "no")
]
POSITION = [
    node("Shape", "x", "counts", start=0, end=1),
    node("Squeeze", "counts", "count"),
    node("Range", "zero count one", "places"),
]
ZERO_ONE = {"zero": np.int64(0), "one": np.int64(1)}

MIXING: dict[str, Make] = {
    "quantised": model([*QUANTISED, argmax("scores")], INT8),
    "quantised, weights outside": model([*QUANTISED, argmax("scores")], INT8, external=True),
    "quantised, scores": model(QUANTISED, INT8, outputs={"scores": (FLOAT, ["n", 5])}),
    "quantised, label as a float": model(
        [*QUANTISED, argmax("scores"), node("Cast", "label", "y", to=FLOAT)], INT8, outputs={"y": (FLOAT, ["n"])}
    ),
    "quantised, x as well": model(
        [*QUANTISED, argmax("scores"), node("Identity", "x", "same")],
        INT8,
        outputs={"same": (FLOAT, ["n", 8]), **LABEL},
    ),
    "quantised by hand": model(BY_HAND, STEPS),
    "quantised in a function": model(
        [node("quantised", "x w steps", "label", domain="ours")],
        STEPS,
        functions=[helper.make_function("ours", "quantised", ["x", "w", "steps"], ["label"], BY_HAND, OPSETS[:1])],
    ),
    "normalised": model(
        [node("BatchNormalization", "x ones zeros zeros ones", "scores m v", training_mode=1), argmax("scores")],
        {"ones": np.ones(8, np.float32), "zeros": np.zeros(8, np.float32)},
    ),
    "softmax over rows": model([node("Softmax", "x", "scores", axis=0), argmax("scores")]),
    "summed": model([node("CumSum", "x zero", "scores"), argmax("scores")], {"zero": np.int64(0)}),
    "order of rows": model(
        [
            node("ReduceSum", "x axis", "sums", keepdims=0),
            node("Shape", "sums", "k"),
            node("TopK", "sums k", "best label", axis=0),
        ],
        {"axis": np.array([1])},
    ),
    "noise": model([node("RandomNormalLike", "x", "noise"), node("Add", "x noise", "scores"), argmax("scores")]),
    "dropout": model(
        [node("Dropout", "x ratio yes", "scores mask"), argmax("scores")],
        {"ratio": np.float32(0.01), "yes": np.array(True)},
    ),
    "beyond a limit": model(GATE, LIMIT, outputs={"scores": (FLOAT, ["n", 8])}),
    "beyond a limit, label": model([*GATE, argmax("scores")], LIMIT),
    "NaN": model(
        [node("ReduceMean", "x", "mean", keepdims=0), node("Mul", "mean zero", "nil"), node("Add", "x nil", "y")],
        {"zero": np.float32(0)},
        outputs={"y": (FLOAT, ["n", 8])},
    ),
    "a millionth of the mean": model(
        [node("ReduceMean", "x", "mean", axes=[0]), node("Mul", "mean tiny", "bit"), node("Add", "x bit", "y")],
        {"tiny": np.float32(1e-6)},
        outputs={"y": (FLOAT, ["n", 8])},
    ),
    "attention over rows": model(
        [
            node("Transpose", "x", "xt", perm=[1, 0]),
            node("MatMul", "x xt", "likeness"),
            node("Softmax", "likeness", "shares", axis=1),
            node("MatMul", "shares x", "scores"),
            argmax("scores"),
        ]
    ),
    "row before": model(
        [node("Slice", "x first last axis", "h"), node("Pad", "h pads", "p"), node("Add", "x p", "s"), argmax("s")],
        {"first": np.array([0]), "last": np.array([-1]), "axis": np.array([0]), "pads": np.array([1, 0, 0, 0])},
    ),
    "place in the batch": model(
        [
            *POSITION,
            node("Cast", "places", "floats", to=FLOAT),
            node("Unsqueeze", "floats axis", "column"),
            node("Add", "x column", "scores"),
            argmax("scores"),
        ],
        {**ZERO_ONE, "axis": np.array([1])},
    ),
    "large integers": model(
        [
            node("ReduceMax", "i", "most", keepdims=0),
            node("Greater", "most limit", "beyond"),
            node("Cast", "beyond", "more", to=INT64),
            node("Add", "i more", "y"),
        ],
        {"limit": np.int64(90)},
        inputs={"i": (INT64, ["n", 4])},
        outputs={"y": (INT64, ["n", 4])},
    ),
    "inside an If": model([node("If", "go", "label", then_branch=CHOICE[0], else_branch=CHOICE[1])], {
        "go": np.array(True), "w": WEIGHTS,
    }),
}  # fmt: skip

RECURRENT = {
    "w": np.random.default_rng(1).standard_normal((1, 16, 8)).astype(np.float32),
    "r": np.random.default_rng(2).standard_normal((1, 16, 4)).astype(np.float32),
    "axis": np.array([0]),
}
INDEPENDENT: dict[str, Make] = {
    "argmax": model([argmax("x")]),
    "linear": model([*LINEAR, argmax("scores")], {"w": WEIGHTS}),
    "linear, weights outside": model([*LINEAR, argmax("scores")], {"w": WEIGHTS}, external=True),
    "FP16": model(
        [node("Cast", "x", "h", to=TensorProto.FLOAT16), node("MatMul", "h w", "scores"), argmax("scores")],
        {"w": WEIGHTS.astype(np.float16)},
    ),
    "quantised once for all": model(
        [
            node("QuantizeLinear", "x scale zero", "q"),
            node("MatMulInteger", "q w zero", "products"),
            node("Cast", "products", "scores", to=FLOAT),
            argmax("scores"),
        ],
        {**INT8, "scale": np.float32(0.05), "zero": np.uint8(128)},
    ),
    "rows on another axis inside": model(
        [
            node("Transpose", "x", "xt", perm=[1, 0, 2]),
            node("LSTM", "xt w r", "all last cell", hidden_size=4),
            node("Squeeze", "last axis", "scores"),
            argmax("scores"),
        ],
        RECURRENT,
        inputs={"x": (FLOAT, ["n", "t", 8])},
    ),
    "looked up by place": model(
        [
            *POSITION,
            node("Unsqueeze", "places axis", "column"),
            node("GatherND", "x column", "scores"),  # each row by its own place
            argmax("scores"),
        ],
        {**ZERO_ONE, "axis": np.array([1])},
    ),
    "tokens": model(
        [
            node("Gather", "table ids", "e"),
            node("Cast", "mask", "m", to=FLOAT),
            node("Unsqueeze", "m last", "m3"),
            node("Mul", "e m3", "kept"),
            node("ReduceSum", "kept axis", "sums", keepdims=0),
            argmax("sums"),
        ],
        {"table": WEIGHTS, "axis": np.array([1]), "last": np.array([2])},
        inputs={"ids": (INT64, ["n", "t"]), "mask": (INT64, ["n", "t"])},
    ),
}


def forest(label: Any = ("n",), scores: Any = ("n", 3)) -> Make:
    """Two trees of three classes as LightGBM's converter writes them, with the shapes that it declares."""
    trees, classes = 2, 3
    nodes = {
        "nodes_treeids": [tree for tree in range(trees) for _ in range(3)],
        "nodes_nodeids": [0, 1, 2] * trees,
        "nodes_featureids": [0, 0, 0, 1, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0, -0.2, 0.0, 0.0],
        "nodes_hitrates": [1.0] * 3 * trees,
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * trees,
        "nodes_truenodeids": [1, 0, 0] * trees,
        "nodes_falsenodeids": [2, 0, 0] * trees,
        "nodes_missing_value_tracks_true": [0] * 3 * trees,
    }
    leaves = {
        "class_treeids": [tree for tree in range(trees) for _ in range(2 * classes)],
        "class_nodeids": ([1] * classes + [2] * classes) * trees,
        "class_ids": list(range(classes)) * 2 * trees,
        "class_weights": [0.3, 0.1, 0.2, -0.2, 0.4, 0.1, 0.25, -0.3, 0.05, 0.1, 0.2, -0.1],
    }
    tree = node(
        "TreeEnsembleClassifier", "x", "label probabilities", domain="ai.onnx.ml", post_transform="SOFTMAX",
        classlabels_int64s=list(range(classes)), **nodes, **leaves,
    )  # fmt: skip
    return model([tree], outputs={"label": (INT64, label), "probabilities": (FLOAT, scores)})
