"""A residual network for images, as ResNet-50 is one (He et al., 2015), with random weights: nothing to download."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper

MEAN: Final = (123.675, 116.28, 103.53)
DEVIATION: Final = (58.395, 57.12, 57.375)
EXPANSION: Final = 4
LAST_SCALE: Final = 0.3  # of a block's last convolution, so that sums over many blocks stay small


@dataclass(frozen=True, slots=True)
class Shape:
    """`side` of the square images in pixels; `widths` and `blocks` of each stage."""

    side: int
    widths: Sequence[int]
    blocks: Sequence[int]
    classes: int


RESNET_50: Final = Shape(224, (64, 128, 256, 512), (3, 4, 6, 3), 1000)
SMALL: Final = Shape(64, (8, 16), (1, 1), 16)


class _Graph:
    """Nodes and weights as they are added; each method takes and gives the name of a tensor."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self._generator = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, values: Any) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights[name] = np.asarray(values, np.float32)
        return name

    def random(self, shape: Sequence[int], inputs: int, scale: float = 1.0) -> str:
        """Scaled so that what goes through keeps its size (He initialisation)."""
        return self.weight(self._generator.standard_normal(shape, np.float32) * (scale * np.sqrt(2 / inputs)))

    def convolution(self, x: str, channels: tuple[int, int], kernel: int, stride: int, scale: float = 1.0) -> str:
        into, out = channels
        weight = self.random((out, into, kernel, kernel), into * kernel * kernel, scale)
        bias = self.random((out,), out)  # the batch normalisation that follows each, folded in
        pads = [kernel // 2] * 4
        shape: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}
        return self.add("Conv", x, weight, bias, **shape)

    def block(self, x: str, into: int, width: int, stride: int) -> str:
        out = width * EXPANSION
        h = self.add("Relu", self.convolution(x, (into, width), 1, 1))
        h = self.add("Relu", self.convolution(h, (width, width), 3, stride))
        h = self.convolution(h, (width, out), 1, 1, LAST_SCALE)
        short = x if into == out and stride == 1 else self.convolution(x, (into, out), 1, stride)
        return self.add("Relu", self.add("Add", h, short))


def residual(repository: Path, shape: Shape, name: str = "residual") -> Path:
    """x: UINT8 [n, 3, side, side], normalised inside; y: FP32 [n, classes]. RESNET_50 takes 102 MB."""
    graph = _Graph()
    x = graph.add("Cast", "x", to=TensorProto.FLOAT)
    x = graph.add("Sub", x, graph.weight(np.reshape(MEAN, (1, 3, 1, 1))))
    x = graph.add("Div", x, graph.weight(np.reshape(DEVIATION, (1, 3, 1, 1))))
    into = shape.widths[0]
    x = graph.add("Relu", graph.convolution(x, (3, into), 7, 2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, (width, blocks) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
        for block in range(blocks):
            x = graph.block(x, into, width, 2 if stage and not block else 1)
            into = width * EXPANSION
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    weight = graph.random((into, shape.classes), into)
    graph.nodes.append(helper.make_node("Gemm", [x, weight, graph.random((shape.classes,), into)], ["y"]))
    return _saved(graph, shape, repository / name / "1" / "model.onnx")


def _saved(graph: _Graph, shape: Shape, file: Path) -> Path:
    size: list[int | str | None] = ["n", 3, shape.side, shape.side]
    made = helper.make_graph(
        graph.nodes,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", shape.classes])],
        [onnx.numpy_helper.from_array(values, name) for name, values in graph.weights.items()],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file


def images(shape: Shape, count: int) -> Any:
    """UINT8 [count, 3, side, side]: noise of different brightness, contrast and colour, which a network tells apart."""
    generator = np.random.default_rng(1)
    noise = generator.standard_normal((count, 3, shape.side, shape.side), np.float32)
    colours = generator.uniform(20, 235, (count, 3, 1, 1))
    contrasts = generator.uniform(5, 60, (count, 1, 1, 1))
    return np.clip(colours + contrasts * noise, 0, 255).astype(np.uint8)
